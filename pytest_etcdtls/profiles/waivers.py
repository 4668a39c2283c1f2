"""Waivers: accepted findings, each with a reason and an expiry date, in a TOML file.

A waiver accepts a fault, and with it what follows from that fault alone. It must not outlive its reason. So
one that has expired, or whose check conforms by now, fails the run. One whose check was not judged is only
listed: nothing shows that it is no longer needed.
"""

from __future__ import annotations

import datetime as dt
import os
import re
from collections.abc import Collection, Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from msgspec import Struct
from msgspec.structs import asdict, replace

from pytest_etcdtls.checks.registry import FOUND, catalogue, no_check
from pytest_etcdtls.checks.results import CheckResult, Outcome
from pytest_etcdtls.errors import Reason, UsageError
from pytest_etcdtls.profiles.toml_files import Text, read_toml, typed

_FOUND = frozenset({*FOUND, Outcome.WAIVED})


class _WaiverTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    check: Text
    listener: Text = "*"
    reason: Text
    expires: dt.date


class _WaiverFile(Struct, frozen=True, forbid_unknown_fields=True):
    waiver: tuple[_WaiverTable, ...] = ()


class Waiver(_WaiverTable, frozen=True, kw_only=True):
    """One accepted finding.

    Attributes:
        check: id of the check.
        listener: glob of listener labels or URLs.
        reason: why it is accepted, for the report.
        expires: the last day on which it is valid.
        source: the file, and the number of the waiver in it.
    """

    source: str

    def names(self, result: CheckResult) -> bool:
        """Return whether the waiver is about that check on that listener."""
        labels = (result.listener, result.url)
        return result.check == self.check and any(fnmatchcase(label, self.listener) for label in labels)


class Review(Struct, frozen=True):
    """Whether each waiver is used in a run.

    Attributes:
        used: waivers that waived a finding.
        stale: waivers that are expired or no longer needed, each with the reason; they fail the run.
        unused: waivers whose check was not judged on a matching listener, each with the reason.
    """

    used: tuple[Waiver, ...] = ()
    stale: tuple[tuple[Waiver, str], ...] = ()
    unused: tuple[tuple[Waiver, str], ...] = ()

    @property
    def problems(self) -> dict[str, str]:
        """A sentence about each stale waiver, by its source."""
        return {
            waiver.source: f"Stale waiver: {waiver.check} on {waiver.listener}: {why} ({waiver.source}): "
            "remove or renew it."
            for waiver, why in self.stale
        }


def read_waivers(path: Path) -> tuple[Waiver, ...]:
    """Return the waivers of a TOML file: an array of tables ``waiver``.

    Raises:
        UsageError: if the file cannot be read, is not TOML, or a waiver lacks a field or has an unknown one,
            or names no check.
    """
    where = f"--etcd-waivers {path}"
    tables = typed(read_toml(path, where), _WaiverFile, where).waiver
    for number, table in enumerate(tables):
        if table.check not in catalogue():
            raise UsageError(f"{where}: waiver[{number}].check: {no_check(table.check)}")
    return tuple(
        Waiver(**asdict(table), source=f"{path}, waiver {number}") for number, table in enumerate(tables, 1)
    )


PROPOSED_DAYS: Final = 90
"""For how many days a proposed waiver is valid."""


def proposal(violations: Iterable[CheckResult], today: dt.date) -> str:
    """Return a file of waivers for the violations that fail a run, without reasons."""
    expires = today + dt.timedelta(days=PROPOSED_DAYS)
    lines = [
        "# Proposed from the faults of a run. Give each waiver that you accept a reason, and delete",
        "# the others: --etcd-waivers refuses the file while a reason is empty. What follows from a",
        "# fault is accepted with it.",
    ]
    known: set[tuple[str, str]] = set()
    for result in violations:
        if (place := (result.check, result.listener)) in known:
            continue  # the same on another target, which a waiver does not name
        known.add(place)
        lines += [
            "",
            f"# {result.severity}: {result.message}",
            "[[waiver]]",
            f"check = {_quoted(result.check)}",
            f"listener = {_quoted(_literally(result.listener))}",
            'reason = ""',
            f"expires = {expires}",
        ]
    return "\n".join([*lines, ""])


def _quoted(text: str) -> str:
    """Return a TOML basic string."""
    escaped = re.sub(r'(["\\])', r"\\\1", text)
    return '"' + "".join(one if one.isprintable() else f"\\U{ord(one):08x}" for one in escaped) + '"'


def _literally(label: str) -> str:
    """Return a glob that matches this text alone."""
    return re.sub(r"([*?\[])", r"[\1]", label)


def write_proposal(path: Path, violations: Iterable[CheckResult], today: dt.date) -> None:
    """Write a file of proposed waivers.

    Raises:
        OSError: if the file exists or cannot be written.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(proposal(violations, today))


def waive(result: CheckResult, waivers: Sequence[Waiver], today: dt.date) -> CheckResult:
    """Return the result as waived if it has findings and an unexpired waiver names it."""
    if result.outcome not in FOUND:
        return result
    for waiver in waivers:
        if today <= waiver.expires and waiver.names(result):
            reason = f"{waiver.reason} (waived until {waiver.expires}, found {result.outcome})"
            return replace(result, outcome=Outcome.WAIVED, why=Reason(reason))
    return result


def review(waivers: Sequence[Waiver], results: Iterable[CheckResult], today: dt.date) -> Review:
    """Return which waivers are used, stale and unused."""
    judged = list(results)
    used: list[Waiver] = []
    stale: list[tuple[Waiver, str]] = []
    unused: list[tuple[Waiver, str]] = []
    for waiver in waivers:
        outcomes = {result.outcome for result in judged if waiver.names(result)}
        if today > waiver.expires:
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
