"""Snapshots of targets, which are compared: outcomes and behaviour, of this run or of an earlier one's file.

They depend on neither machine nor time: no port, serial number, date, path or order. A JSON report has them
among much else. A *baseline file* has nothing else, with each check and each behaviour in a line of its own:
it is committed, and the diff of two shows what differs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Final, Literal, TypeVar

from msgspec import Meta, Struct

from pytest_etcdtls.checks.results import CheckResult, Outcome
from pytest_etcdtls.errors import UnreadableFileError, UnreadableJSONError, UsageError
from pytest_etcdtls.facts.behaviour import Behaviour
from pytest_etcdtls.profiles.toml_files import typed
from pytest_etcdtls.report.document import (
    MAXIMUM_SIZE,
    CheckId,
    Name,
    ResultEntry,
    TargetEntry,
    as_document,
)
from pytest_etcdtls.role import CLUSTER
from pytest_etcdtls.untrusted.json_text import read_json
from pytest_etcdtls.untrusted.regular_files import read_regular

T = TypeVar("T")


class CheckOutcome(Struct, frozen=True):
    """The outcome of a check on a listener.

    Attributes:
        follows: whether the violation follows from another one.
        message: what is wrong; empty if nothing is, or it is not known.
        remedies: what to do, one text for each finding; empty if nothing is wrong, or it is not known.
    """

    outcome: Outcome
    follows: bool = False
    message: str = ""
    remedies: tuple[str, ...] = ()


class Snapshot(Struct, frozen=True, kw_only=True):
    """The comparable state of one target.

    Attributes:
        label: the label of the target.
        etcd_version: the version of etcd, if it is known.
        listeners: the label and the role of each listener.
        live: whether it is a cluster that was not started for the run. It is compared with a baseline only.
        outcomes: the outcomes by label of the listener and check.
        behaviour: the behaviour in any order; empty for a report of a version that did not record it.
    """

    label: str
    etcd_version: str | None = None
    listeners: tuple[tuple[str, str], ...] = ()
    live: bool = False
    outcomes: Mapping[tuple[str, str], CheckOutcome]
    behaviour: tuple[Behaviour, ...] = ()


class Baseline(Struct, frozen=True):
    """An earlier run.

    Attributes:
        source: the file.
        snapshots: its targets.
        partial: whether it ended before every check was judged.
    """

    source: str
    snapshots: tuple[Snapshot, ...]
    partial: bool = False


def read_baseline(path: Path) -> Baseline:
    """Return the snapshots of a baseline file or a JSON report.

    Raises:
        UsageError: if the file cannot be read or is neither, as this version understands them.
    """
    where = f"--etcd-baseline {path}"
    advice = "Pass a report that --etcd-report=NAME.baseline or NAME.json wrote."
    try:
        value = read_json(read_regular(path, MAXIMUM_SIZE), size=MAXIMUM_SIZE)
    except UnreadableFileError as error:
        raise UsageError(f"{where} {error}") from error
    except UnreadableJSONError as error:
        raise UsageError(f"{where}: {error}. {advice}") from error
    if isinstance(value, dict) and _KIND in value:
        file = typed(value, _File, where, advice)
        compared, partial = tuple(map(_snapshot, file.targets)), file.partial
    else:
        document = as_document(value, where, advice)
        compared, partial = snapshots(document.targets, document.results), document.partial
    labels = [snapshot.label for snapshot in compared]
    if not labels:
        raise UsageError(f"{where}: it has no target. {advice}")
    if len(set(labels)) < len(labels):
        raise UsageError(f"{where}: two of its targets have one label. {advice}")
    return Baseline(str(path), compared, partial)


def snapshots(
    targets: Iterable[TargetEntry], results: Iterable[CheckResult | ResultEntry]
) -> tuple[Snapshot, ...]:
    """Return what is compared of the targets of a document, with the results of the run or of the document.

    Only the results of the run say what is wrong and what to do.
    """
    outcomes: dict[str, dict[tuple[str, str], CheckOutcome]] = {}
    for result in results:
        words = (
            (result.message, result.remedies) if isinstance(result, CheckResult) and result.findings else ()
        )
        judged = CheckOutcome(result.outcome, result.cause is not None, *words)
        outcomes.setdefault(result.target, {})[result.listener, result.check] = judged
    return tuple(
        Snapshot(
            label=target.label,
            etcd_version=target.etcd_version,
            listeners=tuple((listener.label, listener.role) for listener in target.listeners),
            live=target.origin == "live",
            outcomes=outcomes.get(target.label, {}),
            behaviour=target.behaviour,
        )
        for target in targets
    )


_KIND: Final = "baseline"
"""The JSON member by which a baseline file differs from a report. Its value is the version of the format."""

_Listeners = tuple[Name, ...]


class _Observed(Struct, frozen=True, kw_only=True):
    """An observed behaviour: its values, each with the listeners that have it."""

    topic: Name
    subject: Name
    detail: Name
    values: dict[Annotated[str, Meta(max_length=4096)], _Listeners]


class _Target(Struct, frozen=True, kw_only=True):
    """A target: the role of each listener; of each check the outcomes, each with its listeners."""

    label: Name
    etcd_version: Name | None
    listeners: dict[Name, Name]
    checks: dict[CheckId, dict[Outcome, _Listeners]]
    follows: dict[CheckId, _Listeners]
    behaviour: tuple[_Observed, ...]


class _File(Struct, frozen=True, kw_only=True):
    baseline: Literal[1]
    partial: bool
    targets: tuple[_Target, ...]


def _snapshot(target: _Target) -> Snapshot:
    return Snapshot(
        label=target.label,
        etcd_version=target.etcd_version,
        listeners=tuple(target.listeners.items()),
        outcomes={
            (label, check): CheckOutcome(outcome, label in target.follows.get(check, ()))
            for check, outcomes in target.checks.items()
            for outcome, labels in outcomes.items()
            for label in labels
        },
        behaviour=tuple(
            Behaviour(label, observed.topic, observed.subject, observed.detail, value)
            for observed in target.behaviour
            for value, labels in observed.values.items()
            for label in labels
        ),
    )


def written(compared: Iterable[Snapshot], *, partial: bool) -> str:
    """Return the text of a baseline file. Equal snapshots have equal texts."""
    targets = ",\n".join("".join(_lines(snapshot)) for snapshot in compared)
    return f'{{"{_KIND}": 1, "partial": {json.dumps(partial)}, "targets": [\n{targets}\n]}}\n'


def _lines(snapshot: Snapshot) -> Iterator[str]:
    checks: dict[str, dict[str, list[str]]] = {}
    follows: dict[str, list[str]] = {}
    for (label, check), outcome in sorted(snapshot.outcomes.items(), key=lambda item: item[0][::-1]):
        checks.setdefault(check, {}).setdefault(outcome.outcome, []).append(label)
        if outcome.follows:
            follows.setdefault(check, []).append(label)
    seen: dict[tuple[str, str, str], dict[str, list[str]]] = {}
    for observed in sorted(snapshot.behaviour):
        values = seen.setdefault((observed.topic, observed.subject, observed.detail), {})
        values.setdefault(observed.value, []).append(observed.listener)
    behaviour = [
        {"topic": topic, "subject": subject, "detail": detail, "values": values}
        for (topic, subject, detail), values in sorted(seen.items())
    ]
    yield f'{{"label": {json.dumps(snapshot.label)}, "etcd_version": {json.dumps(snapshot.etcd_version)},\n'
    for name, members in (("listeners", dict(snapshot.listeners)), ("checks", checks), ("follows", follows)):
        rows = ",\n".join(f"  {json.dumps(key)}: {json.dumps(item)}" for key, item in members.items())
        yield f' "{name}": {{\n{rows}\n }},\n'
    rows = ",\n".join(f"  {json.dumps(entry)}" for entry in behaviour)
    yield f' "behaviour": [\n{rows}\n ]}}'


def pairs(before: Sequence[T], after: Sequence[T], label: Callable[[T], str]) -> list[tuple[T, T]]:
    """Return the pairs of two runs: the only ones, else those of equal label, else of equal position."""
    if len(before) == len(after) == 1:
        return [(before[0], after[0])]
    by_label = {label(item): item for item in before}
    together = [(by_label[label(item)], item) for item in after if label(item) in by_label]
    return together or list(zip(before, after, strict=False))


def paired_labels(before: Snapshot, after: Snapshot) -> dict[str, str]:
    """Return the label in ``after`` for each listener in ``before`` that has a counterpart of its role."""
    paired = {CLUSTER: CLUSTER}
    for role in dict.fromkeys(role for _, role in after.listeners):
        old, new = ([name for name, of in snapshot.listeners if of == role] for snapshot in (before, after))
        paired |= dict(pairs(old, new, str))
    return paired
