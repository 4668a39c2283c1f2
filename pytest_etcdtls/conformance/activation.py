"""Switches the suite on: reads the settings, checks what was named, registers the session's plugins.

Everything that can be wrong with the command line ends here, before any connection.
"""

from __future__ import annotations

import pytest

from pytest_etcdtls.conformance.distribution import (
    Distribution,
    is_distributed,
    is_worker,
    keep_in_one_process,
)
from pytest_etcdtls.conformance.ledger import Ledger
from pytest_etcdtls.conformance.session import SuiteSession
from pytest_etcdtls.errors import EtcdTLSError
from pytest_etcdtls.options.invocation import ROOT, Invocation
from pytest_etcdtls.options.state import run_of
from pytest_etcdtls.run import Run


def activate(config: pytest.Config, invocation: Invocation) -> None:
    """Register the suite; an xdist worker runs none of it.

    Raises:
        pytest.UsageError: if a setting, a pattern or a node id cannot be used.
    """
    if is_worker(config):
        return
    run = run_of(config)
    try:
        known = node_ids(run)
    except EtcdTLSError as error:
        raise pytest.UsageError(str(error)) from error
    for name in invocation.ids:
        if name != ROOT and not any(
            known_id == name or known_id.startswith(f"{name}::") for known_id in known
        ):
            raise pytest.UsageError(
                f"not found: {name}: there is no such check in this run; --collect-only shows which there are"
            )
    ledger = Ledger(run)
    suite = SuiteSession(config, invocation, run, ledger)
    config.pluginmanager.register(suite, "etcdtls-session")
    if invocation.alone:
        keep_in_one_process(config)
    if is_distributed(config):
        config.pluginmanager.register(Distribution(config, suite), "etcdtls-distribution")


def node_ids(run: Run) -> list[str]:
    """Return the node id of every item there can be."""
    return [
        f"{ROOT}::{target.outline.label}::{label}::{check.id}"
        for target in run.targets
        for label, checks in target.subjects(run.checks)
        for check in checks
    ]
