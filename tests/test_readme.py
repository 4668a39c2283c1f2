"""What the README says of links and options is so; its examples are run by ``test_commands.py``."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
LINKS = re.findall(r"\]\(((?!http)[^)#]+)\)", README)
OPTIONS = sorted(set(re.findall(r"--etcd-[a-z-]+", README)))


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


def test_its_first_command_is_whole() -> None:
    """Every option has a value, and the line continues where it should."""
    first, *_ = re.findall(r"^```sh\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    program, url, *options = shlex.split(first.replace("\\\n", " "))
    assert (program, url) == ("pytest-etcdtls", "https://10.0.0.11:2379")
    assert all(re.fullmatch(r"--[a-z-]+=\S+", word) for word in options)
