"""Every check is violated by a cluster of the zoo or a fake server."""

from __future__ import annotations

from zoo.fake_server import FakeEtcd
from zoo.matrix import killed_elsewhere
from zoo.members import FAKES, ZOO
from zoo.model import Misconfigured

from pytest_etcdtls.registry import catalogue

_ALL: list[Misconfigured | FakeEtcd] = [*ZOO, *FAKES]
_HOW = "add a member to a module of tests/zoo: a Misconfigured to its ZOO, or a FakeEtcd to its FAKES"


def _killed_in_the_zoo() -> set[str]:
    return {check for member in _ALL for check in member.proves()}


def test_every_check_is_killed() -> None:
    unproved = sorted(set(catalogue()) - _killed_in_the_zoo() - set(killed_elsewhere()))
    assert not unproved, f"nothing proves that {', '.join(unproved)} can fail: {_HOW}"


def test_every_killed_check_is_in_the_catalogue() -> None:
    unknown = sorted((_killed_in_the_zoo() | set(killed_elsewhere())) - set(catalogue()))
    assert not unknown, (
        f"there is no check {', '.join(unknown)}: correct the member of tests/zoo that names it"
    )


def test_something_is_found_on_every_member() -> None:
    assert [member.name for member in _ALL if not member.proves()] == []


def test_names_are_unique() -> None:
    names = [member.name for member in _ALL]
    assert sorted(set(names)) == sorted(names)
