"""The catalogue of checks, and the selection of checks.

Checks come from the modules of :mod:`pytest_etcdtls.checks` and the entry-point group
``pytest_etcdtls.checks``.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
import re
import sys
import traceback
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest_etcdtls.checks
from pytest_etcdtls.errors import RegistrationError, UnreadableFileError, UsageError
from pytest_etcdtls.facts.probe import probe_for, sample_for
from pytest_etcdtls.local_file import read_regular
from pytest_etcdtls.registry import Check, CheckFunction, place_of, registered
from pytest_etcdtls.results import CannotJudge, CheckResult, Finding
from pytest_etcdtls.role import Role

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


def catalogue() -> Mapping[str, Check]:
    """Return all checks by id, those that a user registers later too.

    Raises:
        RegistrationError: if a check, also a third party's, does not follow the contract.
    """
    import_checks()
    return registered()


@functools.cache
def import_checks() -> None:
    """Import every check module, and those of other distributions.

    Raises:
        RegistrationError: if a check does not follow the contract.
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


def load_checks(path: Path) -> None:
    """Register the checks of a Python file of the user's.

    Raises:
        UsageError: if it cannot be read or run, or has no check.
        RegistrationError: if a check does not follow the contract.
    """
    before = set(registered())
    try:
        source = read_regular(path, _FILE_SIZE)
    except UnreadableFileError as error:
        raise UsageError(f"{path} {error}") from error
    module = ModuleType(f"etcd_checks_of_{path.stem}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # where typing looks for what the annotations of a check name
    try:
        exec(compile(source, str(path), "exec"), vars(module))  # noqa: S102 - the user names it, as a conftest.py
    except RegistrationError as error:
        raise RegistrationError(f"{path}: {error}") from error
    except Exception as error:
        frames = [one for one in traceback.extract_tb(error.__traceback__) if one.filename == str(path)]
        line = frames[-1].lineno if frames else getattr(error, "lineno", None)
        raise UsageError(
            f"{path}, line {line or '?'}: it cannot be imported: {type(error).__name__}: {error}"
        ) from error
    new = [check for id_, check in registered().items() if id_ not in before]
    if not new:
        raise UsageError(
            f"{path} has no check: decorate a generator function with @pytest_etcdtls.check(...)"
        )
    _import_probes()
    for check in new:
        for name, need in check.needs.items():
            try:
                probe_for(need.type).refuse(need.key)
            except RegistrationError as error:
                raise RegistrationError(f"{path}: check {check.id!r}, parameter {name!r}: {error}") from error


_FILE_SIZE = 1024 * 1024


def _import_probes() -> None:
    """Import every module with probes and samples."""
    for name in ("observer", "lifecycle.experiment_table"):
        importlib.import_module(f"pytest_etcdtls.{name}")


def prove_check(check: Check | CheckFunction | str, role: Role | None = None) -> None:
    """Try a check on conforming observations and on its own counterexample, without a network.

    It must be silent on the samples of its facts, or what its ``conforming=`` makes of them, and find
    something in the observations that its counterexample returns.

    Args:
        check: the check, its function, or its id.
        role: role of the listener of the samples (default: a client's if it judges that).

    Raises:
        AssertionError: if it does not. The message names the file and what to change.
    """
    one = _check(check)
    observations = conforming(one, role)
    samples = sorted({probe_for(need.type).module.replace(".", "/") for need in one.needs.values()})
    where = _where(one)
    said = [it for it in one.function(**observations) if isinstance(it, Finding | CannotJudge)]
    if said:
        raise AssertionError(
            f"{where} is not silent about the conforming samples ({', '.join(samples)}): {said}. Correct "
            "the check, or return with @check(..., conforming=...) what a good etcd answers instead"
        )
    changed = dict(one.counterexample(**observations))
    if not changed or not changed.keys() <= observations.keys():
        raise AssertionError(
            f"{where}: the counterexample returns {sorted(changed)}; it must return some of the parameters "
            f"of the check, which are {sorted(observations)}"
        )
    found = [it for it in one.function(**(observations | changed)) if isinstance(it, Finding)]
    if not found:
        raise AssertionError(f"{where} finds nothing in its own counterexample, which returned {changed}")
    if not all(it.message and it.expected and it.observed for it in found):
        raise AssertionError(f"{where}: a finding lacks message, expected or observed: {found}")


def conforming(check: Check, role: Role | None = None) -> dict[str, Any]:
    """Return observations of a conforming subject by the parameters of a check, about which it is silent.

    Args:
        check: the check.
        role: role of the listener of the samples (default: a client's if it judges that).

    Raises:
        AssertionError: if a parameter cannot be observed, or has no sample.
    """
    _import_probes()
    role = role or (Role.CLIENT if Role.CLIENT in check.roles or not check.roles else sorted(check.roles)[-1])
    observations: dict[str, Any] = {}
    for name, need in check.needs.items():
        try:
            probe_for(need.type).refuse(need.key)
            observations[name] = sample_for(need.type, need.key, role)
        except RegistrationError as error:
            raise AssertionError(f"{_where(check)}, parameter {name!r}: {error}") from error
    return observations | dict(check.conforming(**observations) if check.conforming else {})


def _where(check: Check) -> str:
    return f"{check.id} ({':'.join(map(str, place_of(check.function)))})"


def _check(check: Check | CheckFunction | str) -> Check:
    if isinstance(check, Check):
        return check
    for one in catalogue().values():
        if check == one.id or (callable(check) and place_of(check) == place_of(one.function)):
            return one
    raise AssertionError(f"{check} is no check: give the function that @check decorates, or an id")


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


def requirement(result: CheckResult) -> str:
    """Return the requirement of the result's check; empty for a check that is not in the catalogue."""
    check = catalogue().get(result.check)
    return check.requirement if check else ""


def why(result: CheckResult) -> str:
    """Return why the requirement matters; empty for a check that is not in the catalogue."""
    check = catalogue().get(result.check)
    return " ".join(check.explanation.split()) if check else ""
