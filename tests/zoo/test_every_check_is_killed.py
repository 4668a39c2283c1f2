"""No check is without a cluster, or a server of ours, that violates it."""

from __future__ import annotations

from zoo.matrix import killed_elsewhere
from zoo.members import ZOO

from pytest_etcdtls.catalog import catalogue


def _killed_in_the_zoo() -> set[str]:
    return {check for member in ZOO for check in member.proves()}


def test_every_check_is_killed() -> None:
    assert set(catalogue()) - _killed_in_the_zoo() - set(killed_elsewhere()) == set()


def test_nothing_is_said_to_be_killed_that_is_not_in_the_catalogue() -> None:
    assert (_killed_in_the_zoo() | set(killed_elsewhere())) - set(catalogue()) == set()


def test_something_is_found_on_every_member() -> None:
    assert [member.name for member in ZOO if not member.proves()] == []


def test_names_are_unique() -> None:
    names = [member.name for member in ZOO]
    assert sorted(set(names)) == sorted(names)
