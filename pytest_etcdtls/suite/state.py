"""The run of a pytest session, what workers of pytest-xdist receive of it, and the clusters that tests share.

A test may name a cluster as a parameter of ``etcd_cluster``, and a user may override ``etcd_cluster`` or
``etcd_target`` in a conftest.py, a module or a class, in any scope. The targets are kept here, so fixtures of
several scopes give the same ones.
"""

from __future__ import annotations

import dataclasses
import getpass
import os
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeGuard
from weakref import WeakSet

import pytest
from msgspec import Struct, convert, field, to_builtins
from msgspec.structs import replace

from pytest_etcdtls.errors import NoEtcdError, UsageError, message_line
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.options import (
    STDIN_IS_TERMINAL,
    Invocation,
    Values,
    has_summary,
    invocation_of,
    is_dry,
)
from pytest_etcdtls.run.etcds import Etcds
from pytest_etcdtls.run.runner import Run, TargetRun
from pytest_etcdtls.settings import MAXIMUM_SIZE, STDIN, option
from pytest_etcdtls.settings.port_credentials import SECRET
from pytest_etcdtls.settings.read import owned_sources, read_settings
from pytest_etcdtls.suite.following import CLUSTER, Definition, definitions
from pytest_etcdtls.target import Listener, Target, safe
from pytest_etcdtls.untrusted.printable import error_text, some

if TYPE_CHECKING:
    # A run that hands out no cluster imports none.
    from pytest_etcdtls.etcd.cluster import Cluster
    from pytest_etcdtls.etcd.request import ClusterRequest
    from pytest_etcdtls.etcd.sources import EtcdSource
    from pytest_etcdtls.settings.cluster_list import ClusterList

_NAMED = 3
"""Maximum number of listeners that a line about the fixtures names."""
_LISTENERS = "etcdtls_listeners"
_SHARE = "etcdtls_share"


def is_worker(config: pytest.Config) -> bool:
    """Return whether this process is an xdist worker."""
    return hasattr(config, "workerinput")


_RUN = pytest.StashKey[Run]()


def run_of(config: pytest.Config) -> Run:
    """Return the run of this process. The clusters that it starts are stopped at ``pytest_unconfigure``.

    Raises:
        pytest.UsageError: if a setting cannot be used.
    """
    if _RUN not in config.stash:
        invocation = invocation_of(config)
        try:
            settings = read_settings(
                SessionValues(config),
                live=invocation.live is not None,
                replays=invocation.replays,
                fleet=invocation.fleet is not None,
                waive=not config.getoption("runxfail", False),
            )
        except UsageError as error:
            raise pytest.UsageError(str(error)) from error
        received: Mapping[str, Any] = getattr(config, "workerinput", {})
        if settings.live and _LISTENERS in received:
            listeners = convert(received[_LISTENERS], tuple[Listener, ...])
            settings = replace(settings, live=(dataclasses.replace(settings.live[0], listeners=listeners),))
        if (share := received.get(_SHARE)) is not None:
            settings = replace(settings, bounds=dataclasses.replace(settings.bounds, **share))
        dry = is_dry(config)
        run = Run(
            settings,
            Etcds(
                settings.owned,
                _announce,
                pulls=not (dry or config.getoption("etcd_plan")),
                prepare=partial(_changed_by_hook, config),
            ),
            discovers=not (dry or is_worker(config)),
        )
        config.stash[_RUN] = run
        config.add_cleanup(run.stop)
    return config.stash[_RUN]


def clusters_of(config: pytest.Config, invocation: Invocation, text: str | None = None) -> ClusterList:
    """Return the clusters of ``--etcd-clusters``.

    Args:
        config: pytest's configuration.
        invocation: the parsed command line.
        text: the list, if the controller sent it to this worker.

    Raises:
        pytest.UsageError: if it cannot be used.
    """
    # Imported here, with YAML: a run on one target reads no list.
    from pytest_etcdtls.settings.cluster_list import ClusterList, read_list, read_shard

    name, values = invocation.fleet or STDIN, SessionValues(config)
    try:
        if not is_worker(config):
            send_standard_input(config, {})  # it is read before anything is judged
        if text is None:
            text = read_list(values, name)
        shard = read_shard(config.getoption("etcd_shard"), os.environ)
        waive = not config.getoption("runxfail", False)
        return ClusterList(name, text, values, shard, waive=waive)
    except UsageError as error:
        raise pytest.UsageError(str(error)) from error


_INPUT = pytest.StashKey[tuple[str, bytes]]()
_SENT_INPUT = "etcdtls_input"


class SessionValues(Values):
    """The settings of a run, with the environment, standard input and the person at the terminal."""

    environment = os.environ

    def standard_input(self, name: str) -> bytes:
        """Return the content of standard input, which pytest's capture has replaced. It is read once.

        Raises:
            UsageError: if there is nothing to read, or another option has read it.
        """
        named_by, config = option(name), self._config
        sent: Mapping[str, bytes] = getattr(config, "workerinput", {}).get(_SENT_INPUT, {})
        if named_by in sent:
            return sent[named_by]
        if _INPUT not in config.stash:
            config.stash[_INPUT] = named_by, _read_standard_input(config, named_by)
        first, data = config.stash[_INPUT]
        if first != named_by:
            raise UsageError(
                f"{first} - and {named_by} - both read standard input: write one of them to a file"
            )
        return data

    def ask(self, question: str) -> str | None:
        """Ask for a secret; return ``None`` if there is no terminal, or it cannot hide the input."""
        if not STDIN_IS_TERMINAL:
            return None
        try:
            with warnings.catch_warnings(action="error", category=getpass.GetPassWarning):
                return getpass.getpass(message_line(question))
        except (EOFError, OSError, getpass.GetPassWarning):
            return None


def _read_standard_input(config: pytest.Config, named_by: str) -> bytes:
    capture = config.pluginmanager.get_plugin("capturemanager")
    # Outside of tests only input is captured, and what is resumed would swallow the header of the run.
    captures = capture is not None and getattr(capture._global_capturing, "is_started", bool)()
    if capture is not None:
        capture.suspend(in_=True)
    try:
        if sys.stdin is None or sys.stdin.isatty():
            raise UsageError(
                f"{named_by} -: standard input is a terminal or closed: pipe its content into it"
            )
        return sys.stdin.buffer.read(MAXIMUM_SIZE + 1)
    except (OSError, ValueError, AttributeError) as error:
        raise UsageError(f"{named_by} -: standard input cannot be read ({error})") from error
    finally:
        if capture is not None and captures:
            capture.resume()


def send_standard_input(config: pytest.Config, workerinput: dict[str, Any]) -> None:
    """Send an xdist worker the Secret on standard input, which this process alone can read.

    Raises:
        UsageError: if it cannot be read.
    """
    values = SessionValues(config)
    if values.text(SECRET) == STDIN:
        workerinput[_SENT_INPUT] = {option(SECRET): values.standard_input(SECRET)}


def _changed_by_hook(config: pytest.Config, wanted: ClusterConfig, source: EtcdSource) -> ClusterConfig:
    """Return the configuration of a cluster as the user's hook changes it.

    Raises:
        UsageError: if it returns another type, or other listeners than the run was planned for.
    """
    from pytest_etcdtls.etcd.member import outline_listeners

    hook = config.hook.pytest_etcdtls_cluster_config
    changed = hook(config=config, cluster_config=wanted, source=source)
    if changed is None:
        return wanted
    if not isinstance(changed, ClusterConfig):
        raise UsageError(
            f"a hook pytest_etcdtls_cluster_config returned {type(changed).__name__}: return a ClusterConfig "
            "as dataclasses.replace(cluster_config, ...) makes it, or None"
        )
    if outline_listeners(changed) != outline_listeners(wanted):
        raise UsageError(
            "a hook pytest_etcdtls_cluster_config changes the listeners of a cluster, for which tests are "
            "collected already: use --etcd-size, or a parameter of etcd_cluster"
        )
    return changed


def send_to_worker(config: pytest.Config, workerinput: dict[str, Any]) -> None:
    """Send an xdist worker its share of the limits on a live cluster, and the members that were discovered.

    The suite, which runs in the controller, needs a part of the limits; the workers share the rest.
    """
    try:
        run = run_of(config)
    except pytest.UsageError:
        return  # the suite reports it, or the tests that need the cluster do
    send_standard_input(config, workerinput)
    run.discover()
    if len(run.targets) == 1 and run.targets[0].outline.discover:
        workerinput[_LISTENERS] = to_builtins(run.targets[0].outline.listeners)
    from pytest_etcdtls.run.plan import planned  # only here, since it imports much

    bounds, workers = run.settings.bounds, max(1, int(workerinput.get("workercount", 1)))
    planned_for = [most for target in run.targets for most in planned(target.outline, run.checks).values()]
    suite = max(planned_for) if invocation_of(config).suite else 0
    workerinput[_SHARE] = {
        "max_connections": max(1, (bounds.max_connections - suite) // workers),
        "concurrency": max(1, bounds.concurrency // workers),
        "processes": workers,
    }


def known_run(config: pytest.Config) -> Run | None:
    """Return the run if it was created."""
    return config.stash.get(_RUN, None)


def add_metadata(config: pytest.Config) -> None:
    """Add the values that the users' hooks return to ``--etcd-metadata``.

    Raises:
        pytest.UsageError: if a hook fails, or returns no mapping of texts.
    """
    try:
        returned = config.hook.pytest_etcdtls_report_metadata(config=config)
    except Exception as error:
        raise pytest.UsageError(
            f"a hook pytest_etcdtls_report_metadata failed: {error_text(error)}"
        ) from error
    metadata: dict[str, str] = {}
    for values in returned:
        if not isinstance(values, Mapping):
            raise pytest.UsageError(
                f"a hook pytest_etcdtls_report_metadata returned {type(values).__name__}: return a dict of "
                "texts"
            )
        for key, value in values.items():
            if not isinstance(key, str) or not isinstance(value, str) or "=" in key:
                raise pytest.UsageError(
                    f"a hook pytest_etcdtls_report_metadata returned {key!r} with a value of "
                    f"type {type(value).__name__}: keys and values are texts, and no key has an ="
                )
            metadata.setdefault(key, value)
    given = Values(config).texts("etcd_metadata")
    config.option.etcd_metadata = [*(f"{key}={value}" for key, value in metadata.items()), *given]


def _announce(text: str) -> None:
    sys.stderr.write(f"etcd TLS: {text}\n")


def is_distributed(config: pytest.Config) -> bool:
    """Return whether this process is an xdist controller."""
    return bool(
        config.getoption("dist", "no") != "no"
        and config.getoption("tx", None)
        and not config.option.collectonly
    )


class Sharing(Struct):
    """What the fixtures of a session share besides the targets of the run.

    Attributes:
        named: the clusters that tests name as a parameter, by source and configuration.
        set_up: the definitions of ``etcd_cluster`` whose value pytest holds, with that value and its request.
        failed: the definitions of ``etcd_cluster`` whose set-up failed while a test had moved the clock, with
            the request: pytest keeps the failure.
        adopted: the targets of the clusters that the user's fixtures started and still hold.
        live: the live targets that the user's fixtures have given. They start nothing, and pytest may tear
            down such a fixture and set it up again for the same target.
        replaced: for each replaced cluster, the test before which it was replaced, and how it differed.
        etcd: which etcd the fixtures of pytest-xdist's workers use.
        missing: why there is no etcd to start, empty if there is one.
    """

    named: dict[str, TargetRun] = {}
    set_up: dict[Definition, tuple[object, pytest.FixtureRequest]] = {}
    failed: list[tuple[Definition, pytest.FixtureRequest]] = []
    adopted: WeakSet[TargetRun] = field(default_factory=WeakSet)
    live: list[TargetRun] = []
    replaced: list[str] = []
    etcd: list[str] = []
    missing: str = ""


_SHARING = pytest.StashKey[Sharing]()


def sharing_of(config: pytest.Config) -> Sharing:
    """Return what the fixtures of the session share."""
    return config.stash.setdefault(_SHARING, Sharing())


_MISSING = "etcdtls_missing"
_ETCD = "etcdtls_etcd"


def etcd_of_fixtures(config: pytest.Config, *, starts: bool, judges: bool) -> Iterator[str]:
    """Yield which etcd the fixtures use and why, unless the header of the suite has it.

    Nothing is yielded where there is none: the tests that need it say why.

    Args:
        config: pytest's configuration.
        starts: a selected test uses a cluster that the run starts.
        judges: one uses ``etcd_target``.
    """
    invocation = invocation_of(config)
    with suppress(UsageError, pytest.UsageError):
        run = run_of(config)
        if (live := run.settings.live) and judges and not invocation.suite:
            urls = some([listener.url for listener in live[0].listeners], _NAMED)
            yield f"etcd TLS: fixtures use the live cluster {urls}, which the {invocation.live} names"
        if starts and not (invocation.suite and not live):
            for etcd in owned_sources(run.settings.owned, None, pulls=False):
                where = f"{etcd.kind} of {etcd.location}, {etcd.why}"
                yield f"etcd TLS: fixtures start etcd {etcd.version}: {where}"


def send_etcd(config: pytest.Config, lines: Sequence[str]) -> None:
    """Send the lines about the etcd of this worker's fixtures to the controller of pytest-xdist."""
    getattr(config, "workeroutput", {})[_ETCD] = [*lines]


def missing_etcd(config: pytest.Config, error: NoEtcdError) -> str:
    """Return what a test says that has no etcd: one line, and the end of the run says once what was tried.

    If no terminal reporter writes the end of the run, the first test says it.
    """
    sharing, short = sharing_of(config), str(error).splitlines()[0]
    is_first, sharing.missing = not sharing.missing, str(error)
    getattr(config, "workeroutput", {})[_MISSING] = sharing.missing
    if has_summary(config):
        return f"{short}; the end of the run says what was tried and how to get one"
    if is_first:
        return str(error)
    return f"{short}; the first test that needed one says what was tried and how to get one"


def receive_from_worker(config: pytest.Config, output: Mapping[str, Any]) -> None:
    """Record which etcd a pytest-xdist worker had, and that it had none."""
    sharing_of(config).etcd = output.get(_ETCD, [])
    if missing := output.get(_MISSING):
        sharing_of(config).missing = missing


def replace_damaged(item: pytest.Item) -> None:
    """Tear down every ``etcd_cluster`` that a test sees and that differs from what was started.

    pytest tears down the fixtures that depend on it before it, and sets all of them up again for the test.
    """
    sharing = sharing_of(item.config)
    while sharing.failed:
        definition, request = sharing.failed.pop()
        definition.finish(request)  # type: ignore[arg-type]
    seen = [sharing.set_up[name][0] for name in definitions(item, CLUSTER) if name in sharing.set_up]
    for cluster in filter(_is_cluster, dict.fromkeys(seen)):
        target = _target_of(item.config, cluster)
        if target is not None:
            target.handed_out = True
        if not (why := cluster.difference()):
            continue
        sharing.replaced.append(f"before {item.nodeid}: {why}")
        for definition, (value, request) in [*sharing.set_up.items()]:
            if value is cluster:
                definition.finish(request)  # type: ignore[arg-type]
        if target is not None:
            target.replace_damaged()
        cluster.stop()


def _is_cluster(value: object) -> TypeGuard[Cluster]:
    if value is None:
        return False
    from pytest_etcdtls.etcd.cluster import Cluster

    return isinstance(value, Cluster)


def _known(config: pytest.Config) -> list[TargetRun]:
    """Return the targets that fixtures may have given to tests."""
    run, sharing = known_run(config), sharing_of(config)
    return [
        *(run.known_targets if run is not None else ()),
        *sharing.named.values(),
        *sharing.adopted,
        *sharing.live,
    ]


def _target_of(config: pytest.Config, cluster: Cluster) -> TargetRun | None:
    return next((target for target in _known(config) if target.has(cluster)), None)


def of_label(targets: Sequence[TargetRun], label: str | None) -> TargetRun:
    """Return the target of that label; the first one if there is none."""
    return next((target for target in targets if target.outline.label == label), targets[0])


def owned(config: pytest.Config, label: str | None, parameter: object = None) -> Cluster:
    """Return the owned cluster of a test.

    Args:
        config: pytest's configuration.
        label: label of the target that all fixtures of the test refer to.
        parameter: the cluster that the test names; ``None`` for that of the options.

    Raises:
        EtcdTLSError: if there is none.
    """
    from pytest_etcdtls.etcd.request import ClusterRequest

    run = run_of(config)
    if parameter is None:
        target = of_label(run.owned, label)
    else:
        target = _named(config, run, label, ClusterRequest.of(parameter))
    if why := target.replace_damaged():
        sharing_of(config).replaced.append(f"{target.outline.label}: {why}")
    target.handed_out = True
    return target.cluster


def private(config: pytest.Config, label: str | None, parameter: object = None) -> Cluster:
    """Start a cluster, which the caller stops. The arguments are those of :func:`owned`."""
    from pytest_etcdtls.etcd.request import ClusterRequest

    run = run_of(config)
    request = ClusterRequest() if parameter is None else ClusterRequest.of(parameter)
    return run.etcds.start(*run.etcds.requested(request, label))


def _named(config: pytest.Config, run: Run, label: str | None, request: ClusterRequest) -> TargetRun:
    wanted, source = run.etcds.requested(request, label)
    named = sharing_of(config).named
    key = f"{source.location} {wanted!r} {sorted(wanted.extra_files.items())!r}"
    if key not in named:
        settings = replace(run.settings, owned=replace(run.settings.owned, config=wanted))
        named[key] = run.owned_target(f"etcd-{safe(source.version)}", source, settings)
    return named[key]


def shared(config: pytest.Config, cluster: object) -> TargetRun:
    """Return the target of the cluster that ``etcd_cluster`` gives to a test.

    Args:
        config: pytest's configuration.
        cluster: the value of ``etcd_cluster``.
    """
    if not _is_cluster(cluster):
        pytest.fail(
            f"etcd_cluster is overridden by a fixture whose value is {type(cluster).__name__}, and no "
            "pytest_etcdtls.Cluster: start it with etcd_session_cluster_factory, or override etcd_target too",
            pytrace=False,
        )
    if (known := _target_of(config, cluster)) is not None:
        if invocation_of(config).fleet is not None and known in run_of(config).owned:
            pytest.fail(
                "--etcd-clusters names a list, and this test has one target, which would be an etcd of its "
                "own and none of the list: run these tests apart, or name their cluster as a parameter or "
                "an override of etcd_cluster",
                pytrace=False,
            )
        return known
    settings = run_of(config).settings
    adopted = TargetRun(settings.on(cluster.target()), settings, cluster=cluster)
    sharing_of(config).adopted.add(adopted)
    return adopted


def judged(config: pytest.Config, target: object) -> TargetRun:
    """Return the target that ``etcd_target`` gives to a test."""
    if not isinstance(target, Target):
        pytest.fail(
            f"etcd_target is overridden by a fixture whose value is {type(target).__name__}, and no "
            "pytest_etcdtls.Target: etcd_observer, etcd_client and etcd_check need one",
            pytrace=False,
        )
    if (run := next((run for run in _known(config) if run.judges(target)), None)) is not None:
        return run
    adopted = TargetRun(target, run_of(config).settings, discovers=False)
    sharing_of(config).adopted.add(adopted)
    if adopted.outline.live:
        sharing_of(config).live.append(adopted)
    return adopted
