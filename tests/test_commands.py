"""Every command on a page does what the page says, on etcds that the tests start."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from made import made_secret
from programs import run_program
from shown_commands import ELSEWHERE, ROOT, Command, commands, commands_of, fenced, unfenced
from starting import start_process, write_manifest, write_unit

from pytest_etcdtls import PRESETS, Cluster, ClusterConfig
from pytest_etcdtls.pki.bundle import encode_key

COMMANDS = [*{command.code: command for command in reversed([*commands()])}.values()][::-1]
"""Each once, though several pages show it."""

FILES = (
    *("server-ca.crt", "client.crt", "client.key", "server.crt"),
    *("peer-ca.crt", "peer.crt", "peer.key", "peer-client.crt", "peer-client.key"),
)
"""Of a cluster, which pages call the same; and ``server-ca.crt`` also ``ca.crt``."""


@dataclass(frozen=True)
class Scene:
    """Where the commands are run.

    Attributes:
        directory: with the files that pages name.
        places: what stands for the addresses and paths of pages.
    """

    directory: Path
    places: Mapping[str, str]

    def run(self, command: Command, directory: Path) -> subprocess.CompletedProcess[str]:
        """Run it in a copy of the directory, so that no command sees what another one wrote."""
        shutil.copytree(self.directory, directory, symlinks=True)
        code = command.code
        for shown, real in self.places.items():
            code = code.replace(shown, real)
        shell = ["sh", *(["-e"] if command.exit_code == 0 else [])]
        environment = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "COLUMNS": "80"}
        return run_program(shell, directory, environment, merged=True, text=code)


@pytest.fixture(scope="module")
def scene(etcd_binaries: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A cluster of one member, one as kubeadm sets it up, and three nodes of kubeadm's."""
    oldest, *_, newest = [*etcd_binaries.values()] * 2
    directory = tmp_path_factory.mktemp("commands")
    with ExitStack() as stack:
        one, kubeadm, nodes = (
            stack.enter_context(start_process(config, newest))
            for config in (
                ClusterConfig(),
                PRESETS["kubeadm"].config,
                PRESETS["kubeadm-three-nodes"].config,
            )
        )
        _write_files(one, directory)
        write_manifest(one.members[0], directory / "etcd.yaml")
        [node] = kubeadm.members
        (directory / "kubeadm").mkdir()
        write_manifest(node, directory / "kubeadm" / "etcd.yaml")
        write_unit(node, directory / "etcd.service")
        for number, member in enumerate(nodes.members, 1):
            pki = member.file("server.crt").parent
            shutil.copytree(pki, directory / "pki" / member.name)
            (directory / f"cp{number}").mkdir()
            write_manifest(member, directory / f"cp{number}" / "etcd.yaml")
        client, peer = (
            url.removeprefix("https://") for url in (one.members[0].client_url, one.members[0].peer_url)
        )
        [clusters] = fenced("docs/clusters.md", "toml")
        for shown, real in (("10.0.0.11:2379", client), ("10.0.0.11:2380", peer), ("10.0.1.11:2379", client)):
            clusters = clusters.replace(shown, real)
        (directory / "clusters.toml").write_text(clusters, encoding="utf-8")
        log = str(one.directory / "m0" / "etcd.log")
        (directory / "etcd.log").symlink_to(log)
        yield Scene(
            directory,
            {
                "10.0.0.11:2379": client,
                "10.0.0.11:2380": peer,
                "/etc/kubernetes/manifests/etcd.yaml": "kubeadm/etcd.yaml",
                "/etc/systemd/system/etcd.service": "etcd.service",
                "/etc/kubernetes/pki/etcd": str(node.file("server.crt").parent),
                "/usr/bin/etcd": str(oldest),
                "/usr/local/bin/etcd": str(newest),
                "/var/log/etcd.log": log,
            },
        )


def _write_files(cluster: Cluster, directory: Path) -> None:
    member = cluster.members[0]
    for name in FILES:
        shutil.copy(member.file(name), directory / name)
    shutil.copy(member.file("server-ca.crt"), directory / "ca.crt")
    for name, authority in (("ca.key", cluster.pki.client_ca), ("peer-ca.key", cluster.pki.peer_ca)):
        (directory / name).write_bytes(encode_key(authority.key))
    (directory / "passphrases").write_text("of no key\n", encoding="utf-8")
    values = {"ca.crt": "server-ca.crt", "tls.crt": "client.crt", "tls.key": "client.key"}
    contents = {key: member.file(name).read_bytes() for key, name in values.items()}
    secret = made_secret("etcd-client", "kubernetes.io/tls", contents)
    (directory / "secret.yaml").write_text(json.dumps(secret), encoding="utf-8")
    [waivers] = fenced("docs/fix.md", "toml")
    (directory / "waivers.toml").write_text(waivers, encoding="utf-8")


def _marks(command: Command) -> list[pytest.MarkDecorator]:
    two = all(path in command.code for path in ("=/usr/bin/etcd", "=/usr/local/bin/etcd"))
    marks = [pytest.mark.program(*command.needs)]
    return [*marks, *([pytest.mark.whole] if command.slow else []), *([pytest.mark.two_etcds] if two else [])]


@pytest.mark.parametrize(
    "command",
    [pytest.param(one, id=one.place, marks=_marks(one)) for one in COMMANDS if one.reason is None],
)
def test_command_ends_as_its_page_says(command: Command, scene: Scene, tmp_path: Path) -> None:
    ended = scene.run(command, tmp_path / "there")
    assert ended.returncode == command.exit_code, f"{command.code}\n{ended.stdout}"


def test_the_ini_file_of_the_options_page(scene: Scene, tmp_path: Path) -> None:
    [ini] = fenced("docs/options.md", "ini")
    code = f"cat >pytest.ini <<'END'\n{ini}END\npytest --etcd-conformance\n"
    ended = scene.run(Command("docs/options.md", code), tmp_path / "there")
    assert ended.returncode == 0, ended.stdout
    assert "etcd TLS: CLEAN" in ended.stdout


def test_every_page_has_its_commands_in_fences() -> None:
    assert list(unfenced()) == [], "put them into a fence, so that they are run"


def test_pages_without_tests_here_have_them_elsewhere() -> None:
    assert all((ROOT / page).exists() for page in ELSEWHERE)


@pytest.mark.parametrize("page", ["README.md", "docs/first-test.md", "docs/fixtures.md"])
def test_examples_in_python_pass(page: str, pytester: pytest.Pytester, newest_etcd: Path) -> None:
    with start_process(ClusterConfig(), newest_etcd) as live:
        _write_files(live, pytester.path)
        for number, code in enumerate(fenced(page, "python")):
            for address in ("10.0.0.11:2379", "10.0.0.12:2379"):
                code = code.replace(f"https://{address}", live.endpoints[0])
            pytester.makepyfile(**{f"test_{number}": code})
        result = pytester.runpytest_subprocess(f"--etcd-binary={newest_etcd}", "-p", "no:randomly")
    assert not {"failed", "errors"} & set(result.parseoutcomes())
    assert result.ret == 0


def test_the_examples_of_own_checks(tmp_path: Path) -> None:
    """In a copy of the project, because checks are found by their modules."""
    for name in ("pytest_etcdtls", "tests", "docs"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path in (*ROOT.glob("*.md"), ROOT / "pyproject.toml", ROOT / "conftest.py"):
        shutil.copy(path, tmp_path)
    checked, *_, misconfigured, fakes, fact = fenced("docs/own-checks.md", "python")
    (tmp_path / "pytest_etcdtls/checks/api_proxies.py").write_text(
        checked.replace("company.", "api."), encoding="utf-8"
    )
    (tmp_path / "pytest_etcdtls/facts/no_alpn.py").write_text(fact, encoding="utf-8")
    (tmp_path / "tests/zoo/proxies.py").write_text(fakes, encoding="utf-8")
    # The zoo has this one, and names are unique.
    misconfigured = misconfigured.replace("client-wrong-san", "client-another-san")
    (tmp_path / "tests/zoo/another_san.py").write_text(misconfigured, encoding="utf-8")
    [commands] = [one.code for one in commands_of("docs/own-checks.md") if "-k no-proxy" in one.code]
    for command in [*commands.splitlines(), ".venv/bin/python -c 'import pytest_etcdtls.facts.no_alpn'"]:
        shell = ["sh", "-c", command.replace(".venv/bin/python", sys.executable)]
        environment = {"PYTHONPATH": f"{tmp_path}:{tmp_path / 'tests'}"}
        ended = run_program(shell, tmp_path, environment, merged=True)
        assert ended.returncode == 0, ended.stdout
