"""Every check is violated by a cluster of the zoo, a fake server or a test that is marked so."""

from __future__ import annotations

import re
from pathlib import Path

from zoo.members import FAKES, ZOO

from pytest_etcdtls.checks.registry import catalogue

_HOW = "add a member to a module of tests/zoo: a Misconfigured to its ZOO, or answers to its FAKES"
_KILLS = re.compile(r'pytest\.mark\.kills\(\s*((?:"[^"]+",?\s*)+)\)')


def _killed_by_marked_tests() -> set[str]:
    """Return the checks that the marker ``kills`` names, on a test outside the zoo."""
    tests = Path(__file__).parents[1].rglob("test_*.py")
    marks = (match[1] for path in tests for match in _KILLS.finditer(path.read_text(encoding="utf-8")))
    return {check for mark in marks for check in re.findall(r'"([^"]+)"', mark)}


def _killed_in_the_zoo() -> set[str]:
    return {check for member in ZOO for check in member.proves()} | {*FAKES}


def test_every_check_is_killed() -> None:
    unproved = sorted(set(catalogue()) - _killed_in_the_zoo() - _killed_by_marked_tests())
    assert not unproved, f"nothing proves that {', '.join(unproved)} can fail: {_HOW}"


def test_every_killed_check_is_in_the_catalogue() -> None:
    unknown = sorted((_killed_in_the_zoo() | _killed_by_marked_tests()) - set(catalogue()))
    assert not unknown, (
        f"there is no check {', '.join(unknown)}: correct the member of tests/zoo that names it"
    )


def test_something_is_found_on_every_member() -> None:
    assert [member.name for member in ZOO if not member.proves()] == []


def test_names_are_unique() -> None:
    names = [member.name for member in ZOO]
    assert sorted(set(names)) == sorted(names)
