"""The Makefile's targets that take no time; .ci/run runs the others."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from programs import run_program

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.program("awk", "bash", "make")


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    return run_program(["make", "--no-print-directory", *arguments], ROOT)


def targets() -> set[str]:
    found = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert found is not None
    return set(found[1].split())


def test_help_is_the_default_and_names_every_target() -> None:
    result = make()
    assert result.returncode == 0, result.stderr
    named = {line.split()[0] for line in result.stdout.splitlines() if line.startswith("  ")}
    assert named == targets()
    assert len(named) == 10


@pytest.mark.parametrize("versions", ["oldest", "lowest", "neighbours", "next", "kubernetes"])
def test_the_tests_with_something_else(versions: str) -> None:
    assert "pytest" in make("--dry-run", "test", f"WITH={versions}").stdout


def test_the_programs_of_contributing_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    _, _, table = text.partition("## Programs")
    rows = re.findall(r"^\| `([a-z_.]+)[ `]", table.partition("| program |")[0], re.MULTILINE)
    assert len(rows) > 5
    assert [row for row in rows if not (ROOT / "tests" / f"{row.replace('.', '/')}.py").is_file()] == []


@pytest.mark.parametrize("name", ["missing", "old"])
def test_a_python_that_cannot_be_used(name: str, tmp_path: Path) -> None:
    (tmp_path / "old").write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
    (tmp_path / "old").chmod(0o755)
    result = make("conformance", f"PYTHON={tmp_path / name}", f"VENV={tmp_path / 'venv'}")
    assert result.returncode != 0
    assert f"{tmp_path / name} is missing or older than 3.11" in result.stdout
    assert not (tmp_path / "venv").exists()


def test_conformance_and_test_need_neither_docker_nor_go_nor_root() -> None:
    for target in ("conformance", "test", "wheel-test"):
        commands = make("--dry-run", "--always-make", target).stdout
        assert "pytest" in commands or "wheel-test" in commands
        assert not re.search(r"\b(docker|go|sudo|apt-get)\b", commands), commands
