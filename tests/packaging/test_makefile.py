"""The Makefile's targets that take no time; .ci/run runs the others."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = [
    *(ROOT / ".ci" / name for name in ("run", "machine", "wheel-test")),
    ROOT / "tests" / "report" / "install_browser.sh",
    *sorted((ROOT / "docker").glob("*.sh")),
]

pytestmark = pytest.mark.program("awk", "bash", "make")


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["make", "--no-print-directory", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", check=False)


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


def test_a_python_that_is_missing(tmp_path: Path) -> None:
    result = make("conformance", "PYTHON=/nonexistent/python3", f"VENV={tmp_path / 'venv'}")
    assert result.returncode != 0
    assert "/nonexistent/python3 is missing or older than 3.11" in result.stdout


def test_a_python_that_is_too_old(tmp_path: Path) -> None:
    old = tmp_path / "python3"
    old.write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
    old.chmod(0o755)
    result = make("test", f"PYTHON={old}", f"VENV={tmp_path / 'venv'}")
    assert result.returncode != 0
    assert f"{old} is missing or older than 3.11" in result.stdout
    assert not (tmp_path / "venv").exists()


def test_conformance_and_test_need_neither_docker_nor_go_nor_root() -> None:
    for target in ("conformance", "test", "wheel-test"):
        commands = make("--dry-run", "--always-make", target).stdout
        assert "pytest" in commands or "wheel-test" in commands
        assert not re.search(r"\b(docker|go|sudo|apt-get)\b", commands), commands


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_parse_and_stop_at_the_first_error(script: Path) -> None:
    assert "\nset -euo pipefail\n" in script.read_text(encoding="utf-8")
    assert subprocess.run(["bash", "-n", str(script)], check=False).returncode == 0
