"""A test has the programs on PATH that it declares, and no others."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from programs import ALWAYS, Programs


def _on_path() -> set[str]:
    return {name for directory in os.environ["PATH"].split(os.pathsep) for name in os.listdir(directory)}


def test_without_a_marker_only_python_and_standard_programs_are_on_path() -> None:
    assert _on_path() <= {*ALWAYS, "python", "python3"}
    assert {"sh", "cat", "python3"} <= _on_path()


@pytest.mark.program("bash")
def test_a_declared_program_is_there_and_no_other() -> None:
    assert _on_path() - {*ALWAYS} == {"bash", "python", "python3"}


@pytest.fixture(scope="module")
def seen_by_a_fixture() -> set[str]:
    return _on_path()


@pytest.mark.program("bash")
def test_a_fixture_of_the_module_has_what_the_module_declares(seen_by_a_fixture: set[str]) -> None:
    assert "bash" not in seen_by_a_fixture


@pytest.fixture(scope="module")
def seen_after_asking(program: Callable[[str], str]) -> set[str]:
    program("bash")
    return _on_path()


def test_a_fixture_asks_for_a_program_for_itself_alone(seen_after_asking: set[str]) -> None:
    assert "bash" in seen_after_asking
    assert shutil.which("bash") is None


def test_python_is_the_interpreter_that_runs_the_tests() -> None:
    told = subprocess.run(
        ["python3", "-c", "import sys; print(sys.version)"], capture_output=True, encoding="utf-8", check=True
    )
    assert told.stdout == f"{sys.version}\n"


def test_a_missing_program_is_named_with_its_package(tmp_path: Path) -> None:
    (tmp_path / "curl").write_text("#!/bin/sh\n", encoding="utf-8")
    (tmp_path / "curl").chmod(0o755)
    before = os.environ["PATH"]
    machine = Programs(str(tmp_path))
    try:
        assert machine.lacking(["curl"]) is None
        assert machine.lacking(["etcdctl", "curl", "ip"]) == (
            "etcdctl and ip on PATH: apt-get install etcd-client iproute2"
        )
        assert machine.lacking(["grpcurl"]) == (
            "grpcurl on PATH: go install github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.4"
        )
    finally:
        machine.close()
        os.environ["PATH"] = before
