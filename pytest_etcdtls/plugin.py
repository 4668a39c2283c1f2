"""The pytest plugin: options, fixtures and, if requested, the suite.

pytest imports this module at every start, so it imports nothing heavy. Hook bodies import what they need.

Two things are done to the process. The times are of the processor, for a run on one live etcd of 1.4 s:

- pytest imports every module of a plugin's distribution through its rewriting of assert statements, which our
  modules do not need. Where Python may not write compiled modules (a container, the site-packages of root),
  each is compiled at every start: 1.1 s. Else they are read more slowly: 0.1 s. pytest has no public way to
  leave out the package of a plugin, so it is removed from the set of names that pytest made.
- A run of the suite imports 600 modules, which never become garbage. Each full collection searches all of
  them, at the end of the session and twice when the interpreter ends: 0.4 s. So nothing is collected while
  they are imported, they are frozen until the session ends, and once more at the end of the process, as the
  documentation of ``gc.freeze`` describes.
"""

from __future__ import annotations

import atexit
import gc
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_etcdtls.options import Invocation

MARKERS = (
    "etcdtls: a check of the etcd TLS conformance suite",
    "etcd_checks(*patterns): the checks that the fixture etcd_check is run for, as for --etcd-check",
    "etcd_cluster_scope(scope): the scope of the fixture etcd_cluster, as for --etcd-cluster-scope",
)


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """Add the command-line options and the ini options."""
    # See the head of this module. With --assert=plain there is no such set.
    getattr(pluginmanager.rewrite_hook, "_must_rewrite", set()).discard(__package__)
    from pytest_etcdtls.options import add_options

    add_options(parser)


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> int | None:
    """Handle the options that need no session: list checks, explain a check, plan."""
    if not any(config.getoption(name) for name in ("etcd_list_checks", "etcd_explain", "etcd_plan")):
        return None
    from pytest_etcdtls.suite.answers import answer

    _load_checks(config)
    return answer(config)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Add the hooks of this plugin."""
    from pytest_etcdtls import hooks

    pluginmanager.add_hookspecs(hooks)


def _load_checks(config: pytest.Config) -> None:
    """Load the user's files of checks.

    Raises:
        pytest.UsageError: if one cannot be loaded.
    """
    from pytest_etcdtls.options import Values

    values = Values(config)
    if not (files := values.texts("etcd_checks_file")):
        return
    from pytest_etcdtls.checks.registry import load_checks
    from pytest_etcdtls.errors import EtcdTLSError

    for file in files:
        try:
            load_checks(values.resolve("etcd_checks_file", file))
        except EtcdTLSError as error:
            raise pytest.UsageError(f"--etcd-checks-file: {error}") from error


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers and the fixtures, and the suite if the command line requests it."""
    from pytest_etcdtls import fixtures
    from pytest_etcdtls.options import cluster_scope, invocation_of

    for marker in MARKERS:
        config.addinivalue_line("markers", marker)
    config.pluginmanager.register(fixtures, "etcdtls-fixtures")

    cluster_scope(config)
    _load_checks(config)
    invocation = invocation_of(config)
    shared = fixtures.shared_target(live=invocation.live is not None or invocation.replays)
    config.pluginmanager.register(shared, "etcdtls-shared")
    if not invocation.suite:
        return
    collects = gc.isenabled()
    gc.disable()
    try:
        _activate(config, invocation)
    finally:
        if collects:
            gc.enable()
    if not gc.get_freeze_count():
        gc.freeze()
        config.add_cleanup(gc.unfreeze)
        atexit.register(gc.freeze)


def _activate(config: pytest.Config, invocation: Invocation) -> None:
    """Register the suite. An xdist worker judges only clusters of a list."""
    if invocation.fleet is not None:
        from pytest_etcdtls.suite.listed import activate_list as activate
    elif hasattr(config, "workerinput"):
        return
    else:
        from pytest_etcdtls.suite.session import activate
    from pytest_etcdtls.suite.junit import JUnitFile
    from pytest_etcdtls.suite.state import add_metadata

    JUnitFile.register(config)
    add_metadata(config)
    activate(config, invocation)
