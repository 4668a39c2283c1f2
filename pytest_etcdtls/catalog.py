"""The catalogue of checks, and the selection of checks and of the listeners that they judge.

Checks come from the modules of :mod:`pytest_etcdtls.checks` and the entry-point group
``pytest_etcdtls.checks``.
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
"""Values of ``--etcd-check`` that select by source, and how the ``Spec:`` line of that source begins."""


@functools.cache
def catalogue() -> Mapping[str, Check]:
    """Import every check module and return the checks by id.

    Raises:
        RegistrationError: if a check, also a third party's, does not follow the contract.
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
    """Return the checks that the patterns select, in order of id; all checks if there is no pattern.

    Opt-in checks are included only if a pattern selects nothing else: their id, or a glob that matches only
    opt-in checks.

    Args:
        patterns: ids, globs, families or sources (``cis``, ``rfc5280``, ``advisory`` ...);
            ``!pattern`` excludes. If all patterns exclude, they exclude from all checks.
        opt_in: include opt-in checks if every pattern excludes, or there is none.

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
    """Return the matched checks, without opt-in checks unless all of them are opt-in."""
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
