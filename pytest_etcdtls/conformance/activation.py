"""Switches the suite on: reads the settings, checks what was named, registers the session's plugins.

Everything that can be wrong with the command line ends here, before any connection.
"""

from __future__ import annotations

import pytest

from pytest_etcdtls.conformance.distribution import Distribution, is_distributed, keep_in_one_process
from pytest_etcdtls.conformance.ledger import Ledger
from pytest_etcdtls.conformance.naming import refuse_unknown_ids
from pytest_etcdtls.conformance.session import SuiteSession
from pytest_etcdtls.options.invocation import Invocation
from pytest_etcdtls.options.sharing import is_worker
from pytest_etcdtls.options.state import run_of


def activate(config: pytest.Config, invocation: Invocation) -> None:
    """Register the suite; an xdist worker runs none of it.

    Raises:
        pytest.UsageError: if a setting, a pattern or a node id cannot be used.
    """
    if is_worker(config):
        return
    run = run_of(config)
    refuse_unknown_ids(run, invocation.ids)
    ledger = Ledger(run)
    suite = SuiteSession(config, invocation, run, ledger)
    config.pluginmanager.register(suite, "etcdtls-session")
    if invocation.alone:
        keep_in_one_process(config)
    if is_distributed(config):
        config.pluginmanager.register(Distribution(config, suite), "etcdtls-distribution")
