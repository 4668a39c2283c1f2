"""Waivers: accepted findings, each with a reason and an expiry date.

Waivers are read from a TOML file; a review says of each whether it is used, stale or unused.
"""

from __future__ import annotations

import datetime as dt
import re
import tomllib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

from pytest_etcdtls.errors import UnreadableFileError, UsageError
from pytest_etcdtls.local_file import read_regular
from pytest_etcdtls.results import CheckResult, Outcome

MAXIMUM_SIZE: Final = 1024 * 1024
"""The largest accepted size of a file of waivers, in octets."""

_DEEP_KEY = re.compile(r"^[ \t]*\[{0,2}(?:[^\n\"'#=.]{0,80}\.){16}", re.MULTILINE)
"""tomllib takes time that grows with the cube of the number of parts of a dotted key."""

_FIELDS = ("check", "listener", "reason", "expires")
_FOUND = frozenset({Outcome.VIOLATES, Outcome.WARNS, Outcome.WAIVED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiver:
    """One accepted finding.

    Attributes:
        check: id of the check.
        listener: glob of listener labels or URLs.
        reason: why it is accepted, for the report.
        expires: the last day on which it is valid.
        source: the file, and the number of the waiver in it.
    """

    check: str
    reason: str
    expires: dt.date
    source: str
    listener: str = "*"

    def names(self, result: CheckResult) -> bool:
        """Return whether the waiver is about that check on that listener."""
        labels = (result.listener, result.url)
        return result.check == self.check and any(fnmatchcase(label, self.listener) for label in labels)


@dataclass(frozen=True, slots=True)
class Review:
    """Use of the waivers in a run.

    Attributes:
        used: waivers that waived a finding.
        stale: waivers that are expired or no longer needed, each with the reason; they fail the run.
        unused: waivers about which this run says nothing, each with the reason.
    """

    used: tuple[Waiver, ...]
    stale: tuple[tuple[Waiver, str], ...]
    unused: tuple[tuple[Waiver, str], ...]


def read_waivers(path: Path) -> tuple[Waiver, ...]:
    """Return the waivers of a TOML file: an array of tables ``waiver``.

    Raises:
        UsageError: if the file cannot be read, is not TOML, or a waiver lacks a field or has an unknown one.
    """
    where = f"--etcd-waivers {path}"
    try:
        text = read_regular(path, MAXIMUM_SIZE).decode("utf-8")
    except UnreadableFileError as error:
        raise UsageError(f"{where} {error}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{where} is not TOML: {error}") from error
    if _DEEP_KEY.search(text):
        raise UsageError(f"{where} has a key of more than 16 parts, and a waiver has none with a dot in it")
    try:
        content = tomllib.loads(text)
    except ValueError as error:  # also for a number of more digits than Python converts
        raise UsageError(f"{where} is not TOML: {error}") from error
    except RecursionError as error:
        raise UsageError(f"{where}: values are nested too deeply to be waivers") from error
    tables = content.pop("waiver", [])
    if content or not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise UsageError(f"{where}: it may have [[waiver]] tables only")
    return tuple(_waiver(f"{where}, waiver {number}", table) for number, table in enumerate(tables, 1))


def _waiver(where: str, table: Mapping[str, Any]) -> Waiver:
    unknown = sorted(set(table) - set(_FIELDS))
    if unknown:
        raise UsageError(f"{where}: unknown field {unknown[0]!r}; there are {', '.join(_FIELDS)}")
    for name in ("check", "reason", "listener"):
        value = table.get(name, "*" if name == "listener" else None)
        if not isinstance(value, str) or not value.strip():
            raise UsageError(f"{where}: {name} must be a string that is not empty")
    expires = table.get("expires")
    if isinstance(expires, dt.datetime):
        expires = expires.date()
    if not isinstance(expires, dt.date):
        raise UsageError(f"{where}: expires must be a date such as 2030-01-31, without quotes")
    return Waiver(
        check=table["check"],
        reason=table["reason"],
        listener=table.get("listener", "*"),
        expires=expires,
        source=where.removeprefix("--etcd-waivers "),
    )


def waive(result: CheckResult, waivers: Sequence[Waiver], today: dt.date) -> CheckResult:
    """Return the result as waived if it has findings and an unexpired waiver names it."""
    if result.outcome not in (Outcome.VIOLATES, Outcome.WARNS):
        return result
    for waiver in waivers:
        if today <= waiver.expires and waiver.names(result):
            reason = f"{waiver.reason} (waived until {waiver.expires}, found {result.outcome})"
            return replace(result, outcome=Outcome.WAIVED, reason=reason)
    return result


def review(
    waivers: Sequence[Waiver], results: Iterable[CheckResult], known: Collection[str], today: dt.date
) -> Review:
    """Return which waivers are used, stale and unused.

    Args:
        waivers: all of them.
        results: of the run, after :func:`waive`.
        known: ids of all checks.
        today: the date in UTC.
    """
    judged = list(results)
    used: list[Waiver] = []
    stale: list[tuple[Waiver, str]] = []
    unused: list[tuple[Waiver, str]] = []
    for waiver in waivers:
        outcomes = {result.outcome for result in judged if waiver.names(result)}
        if waiver.check not in known:
            stale.append((waiver, "there is no check of that id"))
        elif today > waiver.expires:
            stale.append((waiver, f"it expired on {waiver.expires}"))
        elif outcomes & _FOUND:
            used.append(waiver)
        elif Outcome.CONFORMS in outcomes:
            stale.append((waiver, "the check conforms now"))
        else:
            unused.append((waiver, _why_unused(outcomes)))
    return Review(tuple(used), tuple(stale), tuple(unused))


def _why_unused(outcomes: Collection[Outcome]) -> str:
    if not outcomes or outcomes == {Outcome.NOT_RUN}:
        return "its check was not run on a listener that it matches"
    return f"its check has the outcome {', '.join(sorted(outcomes))}"
