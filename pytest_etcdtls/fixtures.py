"""Fixtures for the user's tests.

The module imports nothing heavy: each fixture imports what it needs. ``etcd_cluster``, ``etcd_pki`` and
``etcd_cluster_factory`` always use owned clusters. The other fixtures use the live cluster if one is given,
else the owned one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import httpx

    from pytest_etcdtls.cluster.cluster import Cluster
    from pytest_etcdtls.observer import Observer
    from pytest_etcdtls.pki.bundle import ClusterPKI
    from pytest_etcdtls.runner import TargetRun
    from pytest_etcdtls.suite.embedding import BoundCheck, CheckSubject, ClusterFactory
    from pytest_etcdtls.target import Listener, Target


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrize tests that use ``etcd_endpoint`` or ``etcd_check``."""
    if {"etcd_endpoint", "etcd_check"} & set(metafunc.fixturenames):
        from pytest_etcdtls.suite.embedding import parametrize

        parametrize(metafunc)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:  # noqa: ANN401 - pytest-xdist need not be installed
    """Send the listeners that ``--etcd-discover`` found to a pytest-xdist worker."""
    from pytest_etcdtls.options import Values

    if Values(node.config).flag("etcd_discover"):
        from pytest_etcdtls.suite.state import tell_worker

        tell_worker(node.config, node.workerinput)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Show the clusters that ``--etcd-keep`` leaves running."""
    if not config.getoption("etcd_keep"):
        return
    from pytest_etcdtls.suite.state import known_run

    run = known_run(config)
    for text in run.keep_messages() if run is not None else ():
        terminalreporter.section("etcd that is left standing")
        terminalreporter.write_line(text)


@pytest.fixture(scope="session")
def etcd_cluster(pytestconfig: pytest.Config) -> Cluster:
    """An owned etcd cluster with mutual TLS on both ports, with session scope.

    It is started at first use according to ``--etcd-image``, ``--etcd-binary``, ``--etcd-backend``,
    ``--etcd-size`` and ``--etcd-key-type``. If the suite judges an owned cluster in the same process, it
    judges this one. Under pytest-xdist every worker that uses the fixture has its own cluster.

    Raises:
        ClusterStartError: if it does not start. The message ends with the last lines of etcd's log.
    """
    return _owned(pytestconfig).cluster


@pytest.fixture(scope="session")
def etcd_pki(etcd_cluster: Cluster) -> ClusterPKI:
    """The CAs, certificates and keys of ``etcd_cluster``.

    For certificates without an etcd, use :class:`pytest_etcdtls.CertificateAuthority`.
    """
    return etcd_cluster.pki


@pytest.fixture(scope="session")
def etcd_cluster_factory(pytestconfig: pytest.Config) -> Iterator[ClusterFactory]:
    """A function that starts further owned clusters: ``factory(client_cert_auth=False)``.

    Its arguments are a :class:`pytest_etcdtls.ClusterConfig` (default: that of ``etcd_cluster``) and
    changes to its fields. Each cluster is a context manager that stops the cluster. Other clusters are
    stopped at the end of the session.
    """
    from pytest_etcdtls.suite.embedding import ClusterFactory
    from pytest_etcdtls.suite.state import run_of

    owned = _owned(pytestconfig)
    with ClusterFactory(run_of(pytestconfig), owned) as factory:
        yield factory


@pytest.fixture(scope="session")
def etcd_target(pytestconfig: pytest.Config) -> Target:
    """The target: the live cluster if one is given, else ``etcd_cluster``."""
    return _first(pytestconfig).observer.target


@pytest.fixture(scope="session")
def etcd_observer(pytestconfig: pytest.Config) -> Observer:
    """The observer of ``etcd_target``. The suite uses the same observer if it runs in the same process.

    Each observation is made once, and ``--etcd-max-connections`` applies to both together.
    """
    return _first(pytestconfig).observer


@pytest.fixture
def etcd_endpoint(request: pytest.FixtureRequest, pytestconfig: pytest.Config) -> Listener | None:
    """One listener of the target. A test that uses it runs once for each listener.

    With ``etcd_check``, it is ``None`` for a check about the whole target.
    """
    from pytest_etcdtls.runner import find_listener

    return find_listener(_at(pytestconfig, request.param).observer.target, request.param.listener)


@pytest.fixture
def etcd_check(request: pytest.FixtureRequest, pytestconfig: pytest.Config) -> BoundCheck:
    """One selected check on one listener. A test that uses it runs once for each pair.

    ``etcd_check.run()`` returns the :class:`~pytest_etcdtls.CheckResult`. ``etcd_check.require()`` fails the
    test on a violation or without a verdict, and skips it if the check does not apply.
    """
    from pytest_etcdtls.suite.embedding import BoundCheck
    from pytest_etcdtls.suite.state import run_of

    place = request.param
    return BoundCheck(run_of(pytestconfig), _at(pytestconfig, place), place.check, place.listener)


@pytest.fixture
def etcd_client(pytestconfig: pytest.Config) -> Iterator[httpx.Client]:
    """An :class:`httpx.Client` that authenticates with the valid client certificate.

    Its base URL is the first client listener of ``etcd_target``. On a live cluster it refuses all requests
    but reads with :class:`pytest_etcdtls.WriteRefusedError`, unless ``--etcd-allow-writes`` is given. Keys
    are read from the files that the user named or from those of the owned cluster; none is written.
    """
    from pytest_etcdtls.suite.embedding import connect

    with connect(_first(pytestconfig)) as client:
        yield client


def _first(config: pytest.Config) -> TargetRun:
    from pytest_etcdtls.suite.embedding import targets

    return targets(config)[0]


def _owned(config: pytest.Config) -> TargetRun:
    from pytest_etcdtls.suite.embedding import owned

    return owned(config)[0]


def _at(config: pytest.Config, place: CheckSubject) -> TargetRun:
    from pytest_etcdtls.suite.embedding import targets

    return next(target for target in targets(config) if target.outline.label == place.target)
