"""No check is without a cluster, or a server of ours, that violates it."""

from __future__ import annotations

from collections.abc import Iterable

from zoo.matrix import killed_elsewhere
from zoo.members import ZOO

from pytest_etcdtls.catalog import catalogue


def _killed_in_the_zoo() -> set[str]:
    expectations: list[Iterable[str]] = []
    for member in ZOO:
        tables = [member.violated, member.warned]
        for changes in member.by_version.values():
            tables += [changes[outcome] for outcome in ("violates", "warns") if outcome in changes]
        expectations += [ids for table in tables for ids in table.values()]
    return {check for ids in expectations for check in ids}


def test_every_check_is_killed() -> None:
    assert set(catalogue()) - _killed_in_the_zoo() - set(killed_elsewhere()) == set()


def test_nothing_is_said_to_be_killed_that_is_not_in_the_catalogue() -> None:
    assert (_killed_in_the_zoo() | set(killed_elsewhere())) - set(catalogue()) == set()


def test_names_are_unique() -> None:
    names = [member.name for member in ZOO]
    assert sorted(set(names)) == sorted(names)
