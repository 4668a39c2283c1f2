"""Fixtures for the user's tests.

pytest imports this module at every start, so each fixture imports what it needs. ``etcd_cluster``
and the factories always use owned clusters. The other fixtures use the live cluster if one is given, else
the etcd that replays the user's declaration, else ``etcd_cluster`` or its override.
With several owned targets (``--etcd-binary`` given twice) a test that uses any of them runs once for each
target, and all its fixtures refer to that one.
"""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterator, Sequence
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any

import pytest

from pytest_etcdtls import GONE
from pytest_etcdtls.errors import EtcdTLSError, NoEtcdError
from pytest_etcdtls.etcd.clocks import moved_clock
from pytest_etcdtls.options import is_dry
from pytest_etcdtls.suite.following import CLUSTER, MARKER, TARGET, definitions, follow

if TYPE_CHECKING:
    import httpx

    from pytest_etcdtls.etcd.cluster import Cluster
    from pytest_etcdtls.run.credentials import Credentials
    from pytest_etcdtls.run.observer import Observer
    from pytest_etcdtls.run.runner import TargetRun
    from pytest_etcdtls.suite.embedding import BoundCheck, ClusterFactory
    from pytest_etcdtls.target import Listener, Target


_OURS = frozenset({"_etcd_label", "etcd_cluster", "etcd_target"})
"""Each test that uses one of the fixtures uses one of these, also if one is overridden."""
_STARTING = frozenset({"etcd_cluster", "etcd_cluster_factory", "etcd_session_cluster_factory"})


@pytest.hookimpl(tryfirst=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrize tests that use a listener or a check, and with several targets all that use a fixture."""
    own = {mark.name for mark in metafunc.definition.own_markers}
    if "etcd_checks" in own or not _OURS.isdisjoint(metafunc.fixturenames):
        from pytest_etcdtls.suite.embedding import parametrize

        parametrize(metafunc)


def pytest_make_parametrize_id(val: object) -> str | None:
    """Return the label of a target as its id in the tests."""
    module = sys.modules.get("pytest_etcdtls.target")
    return val.label if module is not None and isinstance(val, module.Target) else None


def pytest_report_collectionfinish(config: pytest.Config, items: Sequence[pytest.Item]) -> list[str]:
    """Say which etcd the fixtures of the selected tests use, and why."""
    return [] if config.get_verbosity() < 0 else _etcd_of(config, items)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Send that to the controller of pytest-xdist, which knows no items."""
    if hasattr(session.config, "workeroutput"):
        from pytest_etcdtls.suite.state import send_etcd

        send_etcd(session.config, _etcd_of(session.config, session.items))


def _etcd_of(config: pytest.Config, items: Sequence[pytest.Item]) -> list[str]:
    names = {name for item in items for name in getattr(item, "fixturenames", ())}
    if is_dry(config) or _OURS.isdisjoint(names):
        return []
    from pytest_etcdtls.suite.state import etcd_of_fixtures

    return [*etcd_of_fixtures(config, starts=not _STARTING.isdisjoint(names), judges=TARGET in names)]


_IS_FOLLOWED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_pycollect_makeitem(
    collector: pytest.Module | pytest.Class, name: str, obj: object
) -> Generator[None, object, object]:
    """Make our fixtures follow what the tests of a module or class see, or what a function is marked with."""
    if not collector.funcnamefilter(name):
        return (yield)
    marks = getattr(obj, "pytestmark", ())
    own = [mark for mark in marks if mark.name in (MARKER, "parametrize")] if isinstance(marks, list) else []
    marked = collector.nodeid
    try:
        if not collector.stash.get(_IS_FOLLOWED, False):
            follow(collector, (), scoped_cluster)
            collector.stash[_IS_FOLLOWED] = True
        if not own:
            return (yield)
        marked += f"::{name}"
        follow(collector, own, scoped_cluster)
        made = yield
        follow(collector, (), scoped_cluster)
    except pytest.UsageError as error:
        raise collector.CollectError(f"{marked}: {error}") from None
    return made


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
) -> Generator[None, object, object]:
    """Record what ``etcd_cluster`` gives to tests, and what failed with a moved clock, to set it up again."""
    if fixturedef.argname != CLUSTER:
        return (yield)
    from pytest_etcdtls.suite.state import sharing_of

    sharing = sharing_of(request.config)
    try:
        value = yield
    except BaseException:
        if moved_clock():
            sharing.failed.append((fixturedef, request))
        raise
    sharing.set_up[fixturedef] = value, request
    return value


def pytest_fixture_post_finalizer(fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest) -> None:
    """Forget what pytest has torn down."""
    if fixturedef.argname == CLUSTER:
        from pytest_etcdtls.suite.state import sharing_of

        sharing_of(request.config).set_up.pop(fixturedef, None)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Replace a shared cluster that an earlier test has damaged, and refuse fixtures that were removed."""
    for name in GONE.keys() & set(getattr(item, "fixturenames", ())):
        if not definitions(item, name):
            pytest.fail(f"the fixture {name} was removed: use {GONE[name]}", pytrace=False)
    if not _OURS.isdisjoint(getattr(item, "fixturenames", ())):
        from pytest_etcdtls.suite.state import replace_damaged

        replace_damaged(item)


_PACKAGE = "pytest_etcdtls"
_NOT_THEIRS = frozenset({_PACKAGE, "httpx", "contextlib", "_pytest", "pluggy"})
"""The packages whose frames say nothing about an error of ours."""


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show an error of ours at the line of the test, without such a line its message alone."""
    error = call.excinfo.value if call.excinfo is not None else None
    if isinstance(error, EtcdTLSError | pytest.UsageError) and not item.config.getoption("fulltrace", False):
        entries = [*_entries(error.__traceback__)]
        if _PACKAGE in map(_package_of, entries):
            call.excinfo = pytest.ExceptionInfo.from_exception(_shown(item.config, error, entries))
    report = yield
    if (complete := getattr(item, "complete_report", None)) is not None:  # an item of the suite
        complete(report, call)
    return report


def _shown(
    config: pytest.Config, error: EtcdTLSError | pytest.UsageError, entries: Sequence[TracebackType]
) -> BaseException:
    traceback: TracebackType | None = None
    for entry in reversed([one for one in entries if _package_of(one) not in _NOT_THEIRS]):
        traceback = TracebackType(traceback, entry.tb_frame, entry.tb_lasti, entry.tb_lineno)
    shown: BaseException = error
    if isinstance(error, NoEtcdError):
        from pytest_etcdtls.suite.state import missing_etcd

        shown = pytest.fail.Exception(missing_etcd(config, error), pytrace=False)
    elif traceback is None:
        shown = pytest.fail.Exception(str(error), pytrace=False)
    error.__cause__, error.__suppress_context__ = None, True
    return shown.with_traceback(traceback or error.__traceback__)


def _entries(traceback: TracebackType | None) -> Iterator[TracebackType]:
    while traceback is not None:
        yield traceback
        traceback = traceback.tb_next


def _package_of(entry: TracebackType) -> str:
    """Return the package of the function of a traceback's entry."""
    return str(entry.tb_frame.f_globals.get("__name__", "")).partition(".")[0]


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:  # noqa: ANN401 - pytest-xdist need not be installed
    """Send a pytest-xdist worker its limits on a live cluster, and the listeners of ``--etcd-discover``."""
    from pytest_etcdtls.options import invocation_of, pass_summary_on

    pass_summary_on(node.config, node.workerinput)
    if invocation_of(node.config).live is not None:
        from pytest_etcdtls.suite.state import send_to_worker

        send_to_worker(node.config, node.workerinput)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:  # noqa: ANN401 - pytest-xdist need not be installed
    """Record which etcd a pytest-xdist worker had, and that it had none."""
    if output := getattr(node, "workeroutput", None):
        from pytest_etcdtls.suite.state import receive_from_worker

        receive_from_worker(node.config, output)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Show which etcd workers used or why there was none, and the clusters that were replaced or are left."""
    if "pytest_etcdtls.suite.state" not in sys.modules:
        return
    from pytest_etcdtls.suite.state import known_run, sharing_of

    sharing, run = sharing_of(config), known_run(config)
    advice = "Tests that damage a cluster start one with etcd_cluster_factory."
    sections = [
        ("etcd of the fixtures", sharing.etcd),
        ("no etcd", [sharing.missing] if sharing.missing else []),
        ("etcd that was replaced", [*sharing.replaced, advice] if sharing.replaced else []),
    ]
    if config.getoption("etcd_keep") and run is not None:
        sections += [("etcd that keeps running", [text]) for text in run.etcds.keep_messages()]
    for title, lines in sections:
        if lines:
            terminalreporter.section(title)
        for line in lines:
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def _etcd_label(request: pytest.FixtureRequest) -> str | None:
    """Label of the target that all fixtures of the test refer to; ``None`` for the only one."""
    label: str | None = getattr(request, "param", None)
    return label


@pytest.fixture(scope="session")
def etcd_cluster(
    request: pytest.FixtureRequest, pytestconfig: pytest.Config, _etcd_label: str | None
) -> Cluster:
    """An owned etcd cluster with mutual TLS on both ports, in the scope of ``--etcd-cluster-scope``.

    It is started at first use according to ``--etcd-image``, ``--etcd-binary``, ``--etcd-backend``,
    ``--etcd-size`` and ``--etcd-key-type``. If the suite judges an owned cluster in the same process, it
    judges this one. Under pytest-xdist every worker that uses the fixture has its own cluster.

    A test may name another cluster as an indirect parameter: a version of etcd, a preset, or a dict of the
    arguments of ``etcd_cluster_factory``. Clusters that are named alike are one. Before each test the cluster
    is compared with what was started, and replaced if a process, a file or the member list differs.

    A test fails if it does not start, with the last lines of etcd's log.
    """
    from pytest_etcdtls.suite.state import owned

    return owned(pytestconfig, _etcd_label, getattr(request, "param", None))


def scoped_cluster(
    request: pytest.FixtureRequest, pytestconfig: pytest.Config, _etcd_label: str | None
) -> Iterator[Cluster]:
    """The value of ``etcd_cluster`` in a narrower scope: started for it, and stopped at its end."""
    from pytest_etcdtls.suite.state import private

    with private(pytestconfig, _etcd_label, getattr(request, "param", None)) as cluster:
        yield cluster


@pytest.fixture
def etcd_cluster_factory(pytestconfig: pytest.Config, _etcd_label: str | None) -> Iterator[ClusterFactory]:
    """A function that starts further owned clusters: ``factory(client_cert_auth=False)``.

    Its arguments are a :class:`pytest_etcdtls.ClusterConfig` (default: that of the options), changes to its
    fields, and ``version``, ``binary``, ``image``, ``preset`` and ``key_type``. The clusters are stopped at
    the end of the test. Each is also a context manager, which stops it earlier. No other test gets them: they
    are for tests that damage a cluster.
    """
    from pytest_etcdtls.suite.embedding import ClusterFactory

    with ClusterFactory(pytestconfig, _etcd_label) as factory:
        yield factory


@pytest.fixture(scope="session")
def etcd_session_cluster_factory(
    pytestconfig: pytest.Config, _etcd_label: str | None
) -> Iterator[ClusterFactory]:
    """As ``etcd_cluster_factory``, for fixtures of a wider scope: a cluster runs to the end of the session.

    Use its clusters as context managers, ``with factory() as cluster: yield cluster``, to stop them earlier.
    """
    from pytest_etcdtls.suite.embedding import ClusterFactory

    with ClusterFactory(pytestconfig, _etcd_label) as factory:
        yield factory


def _shared_if_live(pytestconfig: pytest.Config, _etcd_label: str | None) -> TargetRun:
    """The live cluster, or the etcd that replays the user's declaration. No cluster is started."""
    from pytest_etcdtls.suite.embedding import live

    return live(pytestconfig, _etcd_label)


def _shared_if_owned(
    pytestconfig: pytest.Config, etcd_cluster: Cluster, _etcd_label: str | None
) -> TargetRun:
    """The target of ``etcd_cluster``.

    It requests ``etcd_cluster``, so that pytest tears it down together with it, and sets it up again for
    another parameter.
    """
    from pytest_etcdtls.suite.state import shared

    return shared(pytestconfig, etcd_cluster)


def shared_target(*, live: bool) -> ModuleType:
    """Return a plugin with the fixture ``_etcd_shared``, the target that the fixtures of a test share."""
    function = _shared_if_live if live else _shared_if_owned
    plugin = ModuleType("pytest_etcdtls.shared")
    plugin._etcd_shared = pytest.fixture(scope="session", name="_etcd_shared")(function)  # type: ignore[attr-defined]
    return plugin


@pytest.fixture(scope="session")
def etcd_target(_etcd_shared: TargetRun) -> Target:
    """The target: the live cluster if one is given, else ``etcd_cluster``."""
    return _etcd_shared.observer.target


@pytest.fixture(scope="session")
def _etcd_judged(pytestconfig: pytest.Config, etcd_target: Target, _etcd_label: str | None) -> TargetRun:
    """The target of ``etcd_target`` or its override."""
    from pytest_etcdtls.suite.state import judged

    return judged(pytestconfig, etcd_target)


@pytest.fixture(scope="session")
def etcd_observer(_etcd_judged: TargetRun) -> Observer:
    """The observer of ``etcd_target``. The suite uses the same observer if it runs in the same process.

    Each observation is made once, and ``--etcd-max-connections`` applies to both together.
    """
    return _etcd_judged.observer


@pytest.fixture
def etcd_endpoint(
    request: pytest.FixtureRequest, etcd_target: Target, _etcd_judged: TargetRun
) -> Listener | None:
    """One listener of the target. A test that uses it runs once for each listener.

    With ``etcd_check``, it is ``None`` for a check about the whole target.
    """
    from pytest_etcdtls.suite.embedding import at_listener

    listener = at_listener(_etcd_judged, request.param)
    # The run names the members by what it finds; a test compares with its target.
    return next((one for one in etcd_target.listeners if listener and one.label == listener.label), listener)


@pytest.fixture
def etcd_check(request: pytest.FixtureRequest, _etcd_judged: TargetRun) -> BoundCheck:
    """One selected check on one listener. A test that uses it runs once for each pair.

    ``etcd_check.run()`` returns the :class:`~pytest_etcdtls.CheckResult`. ``etcd_check.require()`` fails the
    test on a violation or without a verdict, and skips it if the check does not apply.
    """
    from pytest_etcdtls.suite.embedding import bound_check

    return bound_check(_etcd_judged, request.param)


@pytest.fixture
def etcd_prefix(_etcd_judged: TargetRun) -> Iterator[str]:
    """A prefix for the keys of one test: ``/pytest-etcdtls/5f0c.../``. They are deleted after the test.

    On a live cluster nothing is written or deleted without ``--etcd-allow-writes``.
    """
    from pytest_etcdtls.suite.embedding import key_prefix

    with key_prefix(_etcd_judged) as prefix:
        yield prefix


@pytest.fixture(scope="session")
def etcd_client(_etcd_judged: TargetRun) -> Iterator[httpx.Client]:
    """An :class:`httpx.Client` that authenticates with the valid client certificate.

    All tests in the scope of ``etcd_cluster`` share it, and fixtures of that scope may use it. Its base URL
    is the first client listener of ``etcd_target``. On a live cluster it refuses all requests but reads with
    :class:`pytest_etcdtls.WriteRefusedError`, unless ``--etcd-allow-writes`` is given. Keys are read from the
    files that the user named or from those of the owned cluster; none is written.
    """
    from pytest_etcdtls.suite.embedding import connect

    with connect(_etcd_judged) as client:
        yield client


@pytest.fixture(scope="session")
def etcd_credentials(_etcd_judged: TargetRun) -> Credentials:
    """Credentials for ``etcd_target`` by name, good and bad: ``etcd_credentials["expired"].ssl_context()``.

    Each is made at its first use. On a live cluster, those that a CA must sign need
    ``--etcd-ca-key``, and no key is written to disk.
    """
    from pytest_etcdtls.run.credentials import Credentials

    allow_writes = _etcd_judged.settings.allow_writes
    return Credentials(_etcd_judged.observer, allow_writes=allow_writes)
