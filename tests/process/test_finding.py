"""Which processes are members of etcd, and what they were started with."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from kubeadm.judging import Given, judged
from plugin.runs import Runner, run

from process.containers import Container, as_root, container, target, targets
from pytest_etcdtls.checks.results import Outcome
from pytest_etcdtls.declared.declaration import Change
from pytest_etcdtls.declared.running import find_process, find_processes, read_running
from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.run.remedies import changed, lines
from pytest_etcdtls.settings.etcd_pid import read_processes

__all__ = ["run"]

pytestmark = as_root

CHECK = "config.process-as-declared"


@pytest.fixture(scope="module")
def two(newest_etcd: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Container, Container]]:
    """Two nodes of one name; the second is started with variables, as by a unit with an EnvironmentFile."""
    directory = tmp_path_factory.mktemp("two")
    with (
        container(directory / "a", newest_etcd, "127.0.0.43") as first,
        container(directory / "b", newest_etcd, "127.0.0.44") as second,
    ):
        first.start()
        second.start(by_variables=True)
        yield first, second


@contextmanager
def sleeping(*argv: str, code: str = "") -> Iterator[int]:
    """Run Python under another name until the end of the context."""
    code = f"{code}\nprint(flush=True)\ninput()"
    with subprocess.Popen(
        [argv[0], "-c", code, *argv[1:]],
        executable=sys.executable,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            yield process.pid
        finally:
            process.kill()


def test_every_member_is_found_and_no_proxy(two: tuple[Container, Container], newest_etcd: Path) -> None:
    pids = [one.process().pid for one in two]
    with subprocess.Popen([newest_etcd, "gateway", "start", "--listen-addr=127.0.0.45:0"]) as gateway:
        try:
            found = [process.pid for process in find_processes()]
            with pytest.raises(UsageError, match=f"process {gateway.pid} .* is not a member of etcd"):
                find_process(gateway.pid)
        finally:
            gateway.kill()
    assert [pid for pid in found if pid in pids] == pids
    assert gateway.pid not in found


def test_each_is_a_target_with_a_label_of_its_own(two: tuple[Container, Container], run: Runner) -> None:
    pids = ",".join(str(one.process().pid) for one in two)
    for live, node in zip(targets(etcd_pid=pids), two, strict=True):
        assert [log.name for log in live.logs.values()] == [f"/proc/{node.process().pid}/fd/2"]
    ran = run("--pyargs", "pytest_etcdtls", f"--etcd-pid={pids}", "--etcd-check=mtls.no-certificate,listener")
    assert ran.exit_code == 0, ran.out
    assert [one["label"] for one in ran.report["targets"]] == ["cp1-127.0.0.43", "cp1-127.0.0.44"]


def test_an_option_about_one_etcd(two: tuple[Container, Container]) -> None:
    pids = ",".join(str(one.process().pid) for one in two)
    for name in ("etcd_endpoint", "etcd_label", "etcd_connect_to"):
        with pytest.raises(UsageError, match="is about one cluster, and --etcd-pid names 2"):
            read_processes(Given(etcd_pid=pids, **{name: "https://127.0.0.43:2379"}))
    with pytest.raises(UsageError, match="--etcd-pki-dir is for an etcd elsewhere"):
        read_processes(Given(etcd_pid=pids, etcd_pki_dir="/etc/kubernetes/pki"))
    read = read_processes(Given(etcd_pid=pids, etcd_config=two[1].node.manifest))
    members = [member.running for cluster in read if isinstance(cluster, tuple) for member in cluster]
    assert [one and one.written is not None for one in members] == [False, True], "its member's"


def test_an_environment_file_is_compared(two: tuple[Container, Container], tmp_path: Path) -> None:
    node = two[1]
    file = tmp_path / "etcd.env"
    lines = [f"{name}={value}" for name, value in node.variables.items()]
    file.write_text("\n".join(lines))
    [result] = judged(target(node.process(), etcd_config=file), CHECK)
    assert result.outcome is Outcome.CONFORMS, result
    number = next(n for n, line in enumerate(lines, 1) if line.startswith("ETCD_CLIENT_CERT_AUTH="))
    file.write_text("\n".join(lines).replace("ETCD_CLIENT_CERT_AUTH=true", "ETCD_CLIENT_CERT_AUTH=false"))
    [result] = judged(target(node.process(), etcd_config=file), CHECK)
    [finding] = result.findings
    assert finding.message.startswith(
        f"ETCD_CLIENT_CERT_AUTH=false ({file}:{number}) is declared, and process "
    )
    assert finding.commands == (f"tr '\\0' '\\n' < /proc/{node.process().pid}/environ",)


def test_another_user_is_told_which_user_to_be(two: tuple[Container, Container]) -> None:
    process = two[0].process()
    os.seteuid(65534)
    try:
        with pytest.raises(UsageError, match="by this user: run as its user, or as root with CAP_SYS_PTRACE"):
            read_running(process)
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("text", ["4194305", "x", "", "-1"])
def test_no_process(text: str) -> None:
    with pytest.raises(UsageError, match="--etcd-pid"):
        read_processes(Given(etcd_pid=text))


def test_k3s_runs_etcd_within_its_own_process(tmp_path: Path) -> None:
    """Its command line is overwritten; the file that it writes lies beside the database that it has open."""
    directory = tmp_path / "server/db/etcd"
    (directory / "member/snap").mkdir(parents=True)
    (directory / "member/snap/db").touch()
    (directory / "config").write_text(
        "name: cp1\nlisten-client-urls: https://127.0.0.1:2379\nadvertise-client-urls: https://127.0.0.1:2379\n"
        "client-transport-security:\n  client-cert-auth: true\n  cert-file: /server.crt\n"
    )
    with sleeping("/usr/local/bin/k3s", code=f"db = open({str(directory / 'member/snap/db')!r})") as pid:
        process = find_process(pid)
        declaration = read_running(process).declared.declaration
    assert process.embedded
    assert declaration.text("name") == "cp1"
    assert declaration.on("client-cert-auth")
    setting = declaration.settings["cert-file"]
    assert setting.place.file == f"/proc/{pid}/root{directory}/config"
    assert str(setting) == f"client-transport-security.cert-file: /server.crt ({directory}/config:6)"
    assert [*lines(declaration, changed(declaration, [Change("cert-file", "/new.crt")]))] == [
        f"- cert-file: /server.crt  # client-transport-security, {directory}/config:6",
        f"+ cert-file: /new.crt  # client-transport-security, {directory}/config:6",
    ]
    with sleeping("/usr/local/bin/k3s") as pid, pytest.raises(UsageError, match="is not a member of etcd"):
        find_process(pid)


def test_relative_paths_are_those_of_the_process(tmp_path: Path) -> None:
    (tmp_path / "server.crt").write_text("")
    code = f"import os; os.chdir({str(tmp_path)!r})"
    with sleeping("etcd", "--cert-file=server.crt", code=code) as pid:
        process = find_process(pid)
        # Python's own words are no flags of etcd's; what counts here is where a path leads.
        declared = read_running(process).declared
        assert declared.paths.find("server.crt") == Path(f"/proc/{pid}/root{tmp_path}/server.crt")
        assert declared.paths.find("../server.crt") is None


def test_a_configuration_file_that_was_changed_after_the_start(newest_etcd: Path, tmp_path: Path) -> None:
    """What etcd has read in it is not known any more."""
    with container(tmp_path / "node", newest_etcd, "127.0.0.46") as node:
        process, config = node.start(by_file=True), node.node.root / "etcd.yml"
        [result] = judged(target(process, etcd_config=config), CHECK)
        assert result.outcome is Outcome.CONFORMS, result
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            config.touch()
            [result] = judged(target(process, etcd_config=config), CHECK)
            if result.outcome is not Outcome.CONFORMS:
                break
    assert result.outcome is Outcome.NOT_VERIFIED
    assert f"what process {process.pid} read in its configuration file is not known" in result.reason
