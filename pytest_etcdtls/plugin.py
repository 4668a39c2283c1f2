"""The pytest plugin: options, fixtures and, if requested, the suite.

pytest imports this module at every start, so it imports nothing heavy. Hook bodies import what they need.
"""

from __future__ import annotations

import atexit
import gc
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder

import pytest

from pytest_etcdtls import fixtures
from pytest_etcdtls.options import Values, add_options

MARKERS = (
    "etcdtls: a check of the etcd TLS conformance suite",
    "etcd_checks(*patterns): the checks that the fixture etcd_check is run for, as for --etcd-check",
    "etcd_cluster_scope(scope): the scope of the fixture etcd_cluster, as for --etcd-cluster-scope",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the command-line options and the ini options."""
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
    values = Values(config)
    if not (files := values.texts("etcd_checks_file")):
        return
    from pytest_etcdtls.errors import EtcdTLSError
    from pytest_etcdtls.registry import load_checks

    for file in files:
        try:
            load_checks(values.resolve("etcd_checks_file", file))
        except EtcdTLSError as error:
            raise pytest.UsageError(f"--etcd-checks-file: {error}") from error


class PlainImports:
    """Imports the modules of this package without pytest's rewriting of assert statements.

    pytest imports every module of a plugin's distribution through that (``_mark_plugins_for_rewrite`` of its
    ``Config``), which reads compiled modules slowly: a tenth of a run. Our modules do not need it.
    """

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: object = None) -> ModuleSpec | None:
        """Return where a module of the package is, ``None`` for any other."""
        return PathFinder.find_spec(name, path) if name.startswith("pytest_etcdtls.") else None


def _import_plainly(config: pytest.Config) -> None:
    finder = PlainImports()
    sys.meta_path.insert(0, finder)

    def end() -> None:
        if finder in sys.meta_path:
            sys.meta_path.remove(finder)

    config.add_cleanup(end)


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers and the fixtures, and the suite if the command line requests it."""
    _import_plainly(config)
    for marker in MARKERS:
        config.addinivalue_line("markers", marker)
    config.pluginmanager.register(fixtures, "etcdtls-fixtures")
    from pytest_etcdtls.options import cluster_scope, invocation_of

    cluster_scope(config)
    _load_checks(config)
    invocation = invocation_of(config)
    shared = fixtures.shared_target(live=invocation.live is not None or invocation.replays)
    config.pluginmanager.register(shared, "etcdtls-shared")
    if not invocation.suite:
        return
    # Imported modules are never garbage. The collector would search them in each full collection, and once
    # more when the interpreter ends. See gc.freeze in Python's documentation.
    collects, freezes = gc.isenabled(), not gc.get_freeze_count()
    gc.disable()
    try:
        if invocation.fleet is not None or not hasattr(config, "workerinput"):
            from pytest_etcdtls.suite.state import add_metadata

            add_metadata(config)
        from pytest_etcdtls.suite.session import activate

        activate(config, invocation)
        if freezes:
            gc.freeze()
            config.add_cleanup(gc.unfreeze)
            atexit.register(gc.freeze)
    finally:
        if collects:
            gc.enable()
