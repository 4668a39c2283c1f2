"""The catalogue: which checks there are, which of them are selected, and on what.

Discovers the modules of :mod:`pytest_etcdtls.checks` and the entry-point group
``pytest_etcdtls.checks``. Runs nothing.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
import re
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from importlib.metadata import entry_points

import pytest_etcdtls.checks
from pytest_etcdtls.errors import RegistrationError, UsageError
from pytest_etcdtls.registry import Check, registered
from pytest_etcdtls.target import Listener, Target

ENTRY_POINT_GROUP = "pytest_etcdtls.checks"

SOURCES: Mapping[str, str] = {
    "cis": "CIS Kubernetes",
    "threat-model": "etcd THREAT_MODEL.md",
    "rfc": "RFC ",
    "etcd": "etcd ",
    "advisory": "GHSA-",
    "cve": "CVE-",
}
"""Words of ``--etcd-check`` that select by source, and how such a ``Spec:`` line begins."""


@functools.cache
def catalogue() -> Mapping[str, Check]:
    """Import every check module and return the checks by id.

    Raises:
        RegistrationError: if a check, also a third party's, does not keep the contract.
    """
    for module in sorted(pkgutil.iter_modules(pytest_etcdtls.checks.__path__), key=lambda found: found.name):
        importlib.import_module(f"{pytest_etcdtls.checks.__name__}.{module.name}")
    for entry in sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda found: found.name):
        try:
            entry.load()
        except RegistrationError:
            raise
        except Exception as error:
            raise RegistrationError(f"the checks of {entry.value!r} cannot be imported: {error!r}") from error
    return registered()


def select(patterns: Sequence[str] = (), *, opt_in: bool = False) -> list[Check]:
    """Return the checks that the patterns name, in order of id; all of them for no pattern.

    Checks that must be asked for are among them only if a pattern names nothing else: their id, or a glob
    that matches them alone.

    Args:
        patterns: ids, globs, families or sources (``cis``, ``rfc5280``, ``advisory`` ...);
            ``!pattern`` leaves out. Only-negative patterns leave out of all.
        opt_in: where no pattern names any, have those that must be asked for as well.

    Raises:
        UsageError: if a pattern matches nothing.
    """
    checks = catalogue().values()
    wanted = {
        found.id
        for pattern in patterns
        if not pattern.startswith("!")
        for found in _asked_for(_match(pattern, checks))
    }
    unwanted = {
        found.id for pattern in patterns if pattern.startswith("!") for found in _match(pattern[1:], checks)
    }
    if not any(not pattern.startswith("!") for pattern in patterns):
        wanted = {found.id for found in checks if opt_in or not found.opt_in}
    return [found for found in checks if found.id in wanted - unwanted]


def _asked_for(matched: list[Check]) -> list[Check]:
    """Return what was matched, without the checks that must be asked for unless there is nothing else."""
    return [check for check in matched if not check.opt_in] or matched


def _match(pattern: str, checks: Iterable[Check]) -> list[Check]:
    found = [check for check in checks if check.family == pattern or fnmatchcase(check.id, pattern)]
    if not found:
        found = [check for check in checks if any(_from(pattern.lower(), line) for line in check.references)]
    if not found:
        raise UsageError(
            f"--etcd-check {pattern!r} matches no check: use an id, a glob, a family or a source "
            f"({', '.join(SOURCES)}, rfc5280 ...); --etcd-list-checks shows them all"
        )
    return found


def _from(source: str, reference: str) -> bool:
    if numbered := re.fullmatch(r"rfc-?(\d+)", source):
        return reference.startswith(f"RFC {numbered[1]} ")
    return source in SOURCES and reference.startswith(SOURCES[source])


def subjects(check: Check, target: Target) -> list[Listener | None]:
    """Return the listeners of the target that the check judges; ``[None]`` if it judges the whole target."""
    if not check.roles:
        return [None]
    return [listener for listener in target.listeners if listener.role in check.roles]
