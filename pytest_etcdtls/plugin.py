"""The pytest plugin: options, fixtures and, if requested, the suite.

pytest imports this module at every start, so it imports nothing heavy. Hook bodies import what they need.
"""

from __future__ import annotations

import pytest

from pytest_etcdtls import fixtures
from pytest_etcdtls.options import add_options

MARKER = "etcdtls: a check of the etcd TLS conformance suite"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the command-line options and the ini options."""
    add_options(parser)


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> int | None:
    """Handle the options that need no session: list checks, explain a check, plan."""
    if not any(config.getoption(name) for name in ("etcd_list_checks", "etcd_explain", "etcd_plan")):
        return None
    from pytest_etcdtls.suite.plan import answer

    return answer(config)


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker and the fixtures, and the suite if the command line requests it."""
    config.addinivalue_line("markers", MARKER)
    config.pluginmanager.register(fixtures, "etcdtls-fixtures")
    from pytest_etcdtls.options import invocation_of

    invocation = invocation_of(config)
    if not invocation.suite:
        return
    from pytest_etcdtls.suite.session import activate

    activate(config, invocation)
