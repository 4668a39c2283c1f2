"""Snapshots of targets, which are compared between runs: outcomes and behaviour, also from a JSON report.

They depend on neither machine nor time: no port, serial number, date, path or order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from msgspec import Struct

from pytest_etcdtls.errors import UnreadableFileError, UnreadableJSONError, UsageError
from pytest_etcdtls.results import Outcome
from pytest_etcdtls.role import CLUSTER
from pytest_etcdtls.untrusted import printable, read_json, read_regular

MAXIMUM_SIZE: Final = 32 * 1024 * 1024
"""The largest accepted size of a report, in octets. One of four targets has 5 MiB."""

SCHEMA_VERSION: Final = 1
"""Version of the JSON report that is written and read."""
_TOOL = "pytest-etcdtls"
_MOST = 50_000
"""Entries of one list. Ten clusters of five members have fewer."""
_TEXT = 512
"""Characters of one text."""

T = TypeVar("T")


class Behaviour(Struct, frozen=True, order=True):
    """One thing that a client can observe.

    Attributes:
        listener: the label of the listener, the role of one that was started for an experiment, or
            ``cluster``.
        topic: the kind of behaviour: ``access``, ``alert``, ``suites`` ...
        subject: an identity, an experiment or a path; may be empty.
        detail: a TLS version or a step of an experiment; may be empty.
        value: a word or a sentence; several are sorted and joined by :data:`SEPARATOR`.
    """

    listener: str
    topic: str
    subject: str
    detail: str
    value: str


SEPARATOR: Final = "; "
"""Separates the values of a :class:`Behaviour` that has several."""

BUILD: Final = "build"
"""The topic of etcd's build, which explains differences and does not count as one."""


class CheckOutcome(Struct, frozen=True):
    """The outcome of a check on a listener.

    Attributes:
        follows: whether the violation follows from another one.
        message: what is wrong; empty if nothing is, or it is not known.
    """

    outcome: Outcome
    follows: bool = False
    message: str = ""


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
    """Return the snapshots of a JSON report.

    Raises:
        UsageError: if the file cannot be read or is not a report that this version understands.
    """
    where = f"--etcd-baseline {path}"
    try:
        document = our_document(read_json(read_regular(path, MAXIMUM_SIZE), size=MAXIMUM_SIZE))
        return Baseline(str(path), _snapshots(document), document.get("partial") is True)
    except UnreadableFileError as error:
        raise UsageError(f"{where} {error}") from error
    except (UnreadableJSONError, WrongReportError) as error:
        raise UsageError(f"{where}: {error}. Pass a report that --etcd-report=NAME.json wrote.") from error


class WrongReportError(Exception):
    """The document is not a report; the message says why."""


def our_document(document: object) -> dict[str, Any]:
    """Return a JSON value that is a report of this tool and of the version that is read.

    Raises:
        WrongReportError: if it is not.
    """
    tool = document.get("tool") if isinstance(document, dict) else None
    if not isinstance(document, dict) or not isinstance(tool, dict) or tool.get("name") != _TOOL:
        raise WrongReportError(f"it is JSON, and no report of {_TOOL}")
    version = document.get("schema_version")
    if isinstance(version, bool) or version != SCHEMA_VERSION:
        made = f"{_TOOL} {printable(str(tool.get('version')), 32)}"
        raise WrongReportError(
            f"it has schema version {printable(str(version), 32)} and was written by {made}; this one reads "
            f"version {SCHEMA_VERSION}"
        )
    return document


def _snapshots(document: Mapping[str, Any]) -> tuple[Snapshot, ...]:
    outcomes: dict[str, dict[tuple[str, str], CheckOutcome]] = {}
    for at, result in tables_of(document, "results", "results"):
        place = (text_of(result, "listener", at), text_of(result, "check", at))
        outcomes.setdefault(text_of(result, "target", at), {})[place] = _judged(result, at)
    snapshots = [_snapshot(target, at, outcomes) for at, target in tables_of(document, "targets", "targets")]
    labels = [one.label for one in snapshots]
    if not snapshots:
        raise WrongReportError("it has no target")
    if len(set(labels)) < len(labels):
        raise WrongReportError("two of its targets have one label")
    return tuple(snapshots)


def _judged(result: Mapping[str, Any], at: str) -> CheckOutcome:
    outcome = text_of(result, "outcome", at)
    if outcome not in set(Outcome):
        raise WrongReportError(f"{at}.outcome is {outcome!r}, which is none")
    return CheckOutcome(Outcome(outcome), follows=result.get("cause") is not None)


def _snapshot(
    target: Mapping[str, Any], at: str, outcomes: Mapping[str, Mapping[tuple[str, str], CheckOutcome]]
) -> Snapshot:
    label = text_of(target, "label", at)
    return Snapshot(
        label=label,
        etcd_version=None if target.get("etcd_version") is None else text_of(target, "etcd_version", at),
        listeners=tuple(
            (text_of(one, "label", place), text_of(one, "role", place))
            for place, one in tables_of(target, "listeners", f"{at}.listeners")
        ),
        outcomes=outcomes.get(label, {}),
        behaviour=tuple(
            Behaviour(
                listener=text_of(one, "listener", place),
                topic=text_of(one, "topic", place),
                subject=text_of(one, "subject", place),
                detail=text_of(one, "detail", place),
                value=text_of(one, "value", place, limit=8 * _TEXT),
            )
            for place, one in tables_of(target, "behaviour", f"{at}.behaviour", required=False)
        ),
    )


def tables_of(
    table: Mapping[str, Any], name: str, at: str, *, required: bool = True
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the objects of a list, each with its position, such as ``targets[0].listeners[1]``.

    Raises:
        WrongReportError: if it is not a list of objects, or is too long.
    """
    value = table.get(name, None if required else [])
    if not isinstance(value, list):
        raise WrongReportError(f"{at} is no list")
    if len(value) > _MOST:
        raise WrongReportError(f"{at} has more than {_MOST} entries")
    for number, item in enumerate(value):
        if not isinstance(item, dict):
            raise WrongReportError(f"{at}[{number}] is no object")
        yield f"{at}[{number}]", item


def text_of(table: Mapping[str, Any], name: str, at: str, limit: int = _TEXT) -> str:
    """Return a text of an object.

    Raises:
        WrongReportError: if it is not a text, or is longer than the limit.
    """
    value = table.get(name)
    if not isinstance(value, str):
        raise WrongReportError(f"{at}.{name} is no text")
    if len(value) > limit:
        raise WrongReportError(f"{at}.{name} has more than {limit} characters")
    return value


def pairs(before: Sequence[T], after: Sequence[T], label: Callable[[T], str]) -> list[tuple[T, T]]:
    """Return the pairs of two runs: the only ones, else those of equal label, else of equal position."""
    if len(before) == len(after) == 1:
        return [(before[0], after[0])]
    by_label = {label(one): one for one in before}
    together = [(by_label[label(one)], one) for one in after if label(one) in by_label]
    return together or list(zip(before, after, strict=False))


def paired_labels(before: Snapshot, after: Snapshot) -> dict[str, str]:
    """Return the label in ``after`` for each listener in ``before`` that has a counterpart of its role."""
    paired = {CLUSTER: CLUSTER}
    for role in dict.fromkeys(role for _, role in after.listeners):
        old, new = ([name for name, of in one.listeners if of == role] for one in (before, after))
        paired |= dict(pairs(old, new, str))
    return paired
