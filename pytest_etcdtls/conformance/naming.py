"""Node ids of the suite: which there are, and whether those that were named are among them."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from pytest_etcdtls.errors import EtcdTLSError
from pytest_etcdtls.options.invocation import ROOT
from pytest_etcdtls.run import Run


def refuse_unknown_ids(run: Run, names: Iterable[str]) -> None:
    """Refuse ids, and prefixes of ids, that no item has; none as long as listeners may still be found.

    Raises:
        pytest.UsageError: for the first one; also if there are no items, since there is no etcd.
    """
    try:
        known = node_ids(run)
    except EtcdTLSError as error:
        raise pytest.UsageError(str(error)) from error
    if may_grow(run):
        return
    for name in names:
        if name != ROOT and not any(
            known_id == name or known_id.startswith(f"{name}::") for known_id in known
        ):
            raise pytest.UsageError(
                f"not found: {name}: there is no such check in this run; --collect-only shows which there are"
                f"{_but_for_those_found(run)}"
            )


def node_ids(run: Run) -> list[str]:
    """Return the node id of every item there can be, as far as its listener is known by now."""
    return [
        f"{ROOT}::{target.outline.label}::{label}::{check.id}"
        for target in run.targets
        for label, checks in target.subjects(run.checks)
        for check in checks
    ]


def may_grow(run: Run) -> bool:
    """Whether listeners may be found that are not known yet."""
    return any(target.asks and target.seen is None for target in run.targets)


def _but_for_those_found(run: Run) -> str:
    if not any(target.outline.discover for target in run.targets):
        return ""
    return " of what is named, and a run lists what --etcd-discover adds"
