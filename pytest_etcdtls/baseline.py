"""Snapshots of targets, which are compared between runs: outcomes and behaviour, also from a JSON report.

They depend on neither machine nor time: no port, serial number, date, path or order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeVar

from msgspec import Struct

from pytest_etcdtls.document import MAXIMUM_SIZE, Behaviour, as_document
from pytest_etcdtls.errors import UnreadableFileError, UnreadableJSONError, UsageError
from pytest_etcdtls.results import Outcome
from pytest_etcdtls.role import CLUSTER
from pytest_etcdtls.untrusted import read_json, read_regular

T = TypeVar("T")


BUILD: Final = "build"
"""The topic of etcd's build, which explains differences and does not count as one."""


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
    """Return the snapshots of a JSON report.

    Raises:
        UsageError: if the file cannot be read or is not a report that this version understands.
    """
    where = f"--etcd-baseline {path}"
    advice = "Pass a report that --etcd-report=NAME.json wrote."
    try:
        value = read_json(read_regular(path, MAXIMUM_SIZE), size=MAXIMUM_SIZE)
    except UnreadableFileError as error:
        raise UsageError(f"{where} {error}") from error
    except UnreadableJSONError as error:
        raise UsageError(f"{where}: {error}. {advice}") from error
    document = as_document(value, where, advice)
    labels = [target.label for target in document.targets]
    if not labels:
        raise UsageError(f"{where}: it has no target. {advice}")
    if len(set(labels)) < len(labels):
        raise UsageError(f"{where}: two of its targets have one label. {advice}")
    outcomes: dict[str, dict[tuple[str, str], CheckOutcome]] = {}
    for result in document.results:
        judged = CheckOutcome(result.outcome, follows=result.cause is not None)
        outcomes.setdefault(result.target, {})[result.listener, result.check] = judged
    snapshots = tuple(
        Snapshot(
            label=target.label,
            etcd_version=target.etcd_version,
            listeners=tuple((one.label, one.role) for one in target.listeners),
            outcomes=outcomes.get(target.label, {}),
            behaviour=target.behaviour,
        )
        for target in document.targets
    )
    return Baseline(str(path), snapshots, document.partial)


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
