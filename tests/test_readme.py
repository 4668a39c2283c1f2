"""The examples of the README run."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
PYTHON = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
LINKS = re.findall(r"\]\(((?!http)[^)#]+)\)", README)
OPTIONS = sorted(set(re.findall(r"--etcd-[a-z-]+", README)))


def test_its_example(pytester: pytest.Pytester, newest_etcd: Path) -> None:
    [example] = PYTHON
    pytester.makepyfile(example)
    result = pytester.runpytest_subprocess(f"--etcd-binary={newest_etcd}", "-p", "no:randomly")
    outcomes = result.parseoutcomes()
    assert outcomes == {"passed": 2}


@pytest.mark.parametrize("link", LINKS)
def test_its_links(link: str) -> None:
    assert (Path(__file__).parents[1] / link).is_file()


@pytest.fixture(scope="module")
def help_text() -> str:
    return subprocess.run(
        [sys.executable, "-m", "pytest", "--help"], capture_output=True, encoding="utf-8", check=True
    ).stdout


@pytest.mark.parametrize("option", OPTIONS)
def test_its_options(option: str, help_text: str) -> None:
    assert re.search(rf"^  {option}\b(?!-)", help_text, re.MULTILINE)


def test_its_commands_for_a_live_cluster_are_whole() -> None:
    """Every option with a file in the long example has a value, and the line continues where it should."""
    commands = re.findall(
        r"^(pytest(?: --pyargs pytest_|-)etcdtls .*\\\n(?:.*\\\n)*.*)$", README, re.MULTILINE
    )
    by_endpoints, by_declaration = (shlex.split(command.replace("\\\n", " ")) for command in commands)
    assert by_endpoints[:2] == ["pytest-etcdtls", "https://10.0.0.11:2379"]
    assert by_declaration[:3] == ["pytest", "--pyargs", "pytest_etcdtls"]
    assert by_declaration[3].startswith("--etcd-config=")
    assert all("=" in word for word in (*by_endpoints[2:], *by_declaration[3:]))
