"""What the user's tests get from fixtures, and what they call."""

from __future__ import annotations

import secrets
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from typing import Self, Unpack

import httpx
import pytest
from msgspec import Struct

from pytest_etcdtls.checks.registry import GATES, Check, catalogue, select
from pytest_etcdtls.checks.results import CheckResult, Outcome
from pytest_etcdtls.errors import ClusterStartError, EtcdTLSError, UsageError
from pytest_etcdtls.etcd.admin import call
from pytest_etcdtls.etcd.cluster import Cluster
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.etcd.member import outline_listeners
from pytest_etcdtls.etcd.request import ClusterChoices, ClusterRequest
from pytest_etcdtls.etcd.sources import named_binary
from pytest_etcdtls.pki.profile import NO_CERTIFICATE
from pytest_etcdtls.profiles.profiles import FAILED
from pytest_etcdtls.report.model import faults
from pytest_etcdtls.report.text import full_result
from pytest_etcdtls.role import CLUSTER as WHOLE_TARGET
from pytest_etcdtls.role import Role
from pytest_etcdtls.run.credentials import Credentials
from pytest_etcdtls.run.judge import checks_of, run_checks
from pytest_etcdtls.run.observer import Observer
from pytest_etcdtls.run.runner import Run, TargetRun
from pytest_etcdtls.suite.following import CLUSTER, TARGET, definitions, overridden, parameters
from pytest_etcdtls.suite.state import of_label, run_of
from pytest_etcdtls.target import Bounds, Listener, Target
from pytest_etcdtls.untrusted.printable import plural


def connect(target: TargetRun) -> httpx.Client:
    """Return a client of the target's first client listener. The caller closes it.

    Raises:
        pytest.fail.Exception: if there is no such listener, or no client certificate.
    """
    actual = target.observer.target
    listener = _listener(actual)
    held = actual.credentials(listener.role).identities
    identity = NO_CERTIFICATE if listener.scheme == "http" else next((one for one in held if one.chain), None)
    if identity is None:
        pytest.fail("etcd_client needs a client certificate: pass --etcd-cert and --etcd-key", pytrace=False)
    credentials = Credentials(target.observer, listener=listener, allow_writes=target.settings.allow_writes)
    try:
        return credentials.of(identity).client()
    except httpx.InvalidURL as error:
        raise pytest.fail.Exception(
            f"etcd_client cannot be made for {listener.url}: httpx does not take that host ({error}); name "
            "the member by its address, with --etcd-connect-to if the certificate needs the name",
            pytrace=False,
        ) from None


@contextmanager
def key_prefix(target: TargetRun) -> Iterator[str]:
    """Yield a new prefix for keys; delete all keys with it at the end, if the run may write.

    Raises:
        pytest.fail.Exception: if they cannot be deleted.
    """
    prefix = f"/pytest-etcdtls/{secrets.token_hex(8)}/"
    yield prefix
    # A prefix is the range up to its successor (etcd, clientv3.GetPrefixRangeEnd).
    start, end = prefix.encode(), prefix[:-1].encode() + b"0"
    keys = {"key": b64encode(start).decode(), "range_end": b64encode(end).decode()}
    if target.is_owned:
        try:
            cluster = target.cluster
            call(cluster.gateway(cluster.members[0]), "kv/deleterange", keys)
        except ClusterStartError as error:
            pytest.fail(f"the keys below {prefix} are left: {error}", pytrace=False)
        return
    if target.outline.live and not target.settings.allow_writes:
        return
    with connect(target) as client:
        try:
            client.post("/v3/kv/deleterange", json=keys).raise_for_status()
        except httpx.HTTPError as error:
            pytest.fail(f"the keys below {prefix} are left: {error}", pytrace=False)


def _listener(target: Target) -> Listener:
    for role in (Role.CLIENT_HTTP, Role.CLIENT):  # with the former, the latter serves gRPC only
        for listener in target.listeners:
            # A member list may name any server, and without a CA file every public CA is trusted.
            is_known = not listener.discovered or target.credentials(role).server_ca is not None
            if listener.role is role and is_known:
                return listener
    pytest.fail("etcd_client needs a client listener: pass --etcd-endpoint", pytrace=False)


class ClusterFactory:
    """Starts owned clusters, and stops at the end those that are still running.

    Args:
        config: pytest's configuration.
        label: label of the target whose etcd is the default.
    """

    def __init__(self, config: pytest.Config, label: str | None) -> None:
        self._config = config
        self._label = label
        self._started = ExitStack()

    def __call__(self, config: ClusterConfig | None = None, **changes: Unpack[ClusterChoices]) -> Cluster:
        """Start a cluster and return it.

        Args:
            config: the configuration (default: that of ``--etcd-size`` and ``--etcd-key-type``).
            changes: changes to fields of the configuration; ``version`` (``3.6`` or ``3.6.16``), ``binary``
                or ``image`` for another etcd than that of the options, ``preset``, ``key_type``.

        Raises:
            UsageError: for an unknown argument, a field that this version of etcd does not support, or an
                etcd that is not available.
            ClusterStartError: if the cluster does not start.
        """
        etcds = run_of(self._config).etcds
        cluster = etcds.start(*etcds.requested(ClusterRequest.read(config, changes), self._label))
        self._started.callback(cluster.stop)
        return cluster

    def __enter__(self) -> Self:
        """Return the factory."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop every cluster that is still running, the last one first."""
        self._started.close()


class BoundCheck:
    """One check on one listener of a target, or on the whole target.

    Args:
        target: the target of the listener.
        check: the check.
        listener: label of the listener; ``cluster`` for the whole target.
    """

    def __init__(self, target: TargetRun, check: Check, listener: str) -> None:
        self._target = target
        self.check = check
        self.listener = listener

    @property
    def id(self) -> str:
        """The check's permanent id."""
        return self.check.id

    def run(self) -> CheckResult:
        """Return the result of the check, with waivers applied. The check runs once per session."""
        return self._target.result(self.check, self.listener)

    def require(self, *, allow_unverified: bool = False) -> CheckResult:
        """Run the check and apply its outcome to the test. Return the result if there is no violation.

        The test fails with the finding's text on a violation, if there is no verdict, and if the listener
        does not answer. It is skipped if the check does not apply, and marked as an expected failure if it
        is waived.

        Args:
            allow_unverified: skip a test whose check could not be verified, instead of failing it.
        """
        result = self.run()
        if self.listener != WHOLE_TARGET:
            answers = self._target.result(catalogue()[GATES[0]], self.listener)
            if answers.outcome in FAILED:
                result = answers
        unverified = result.outcome is Outcome.NOT_VERIFIED
        if result.outcome in FAILED or (unverified and not allow_unverified):
            text = "\n".join(line.text for line in full_result(result))
            pytest.fail(f"{result.check} on {result.url} {result.outcome}\n{text}", pytrace=False)
        if unverified or result.outcome is Outcome.NOT_APPLICABLE:
            pytest.skip(f"{result.outcome}: {result.reason}")
        if result.outcome is Outcome.WAIVED:
            pytest.xfail(result.reason)
        return result

    def __repr__(self) -> str:
        return f"<{self.check.id} on {self.listener} of {self._target.outline.label}>"


def assert_conforms(
    subject: Target | Observer,
    *patterns: str,
    strict: bool = False,
    allow_unverified: bool = False,
    bounds: Bounds | None = None,
) -> list[CheckResult]:
    """Judge a target, and raise an error with every fault unless it conforms. Return the results.

    What follows from a fault is one line below it. ``listener.answers`` is always judged too, so a listener
    on which nothing answers is an error. Warnings are allowed without ``strict``.

    Args:
        subject: the target, or its observer, which makes no observation twice.
        patterns: as for ``--etcd-check``: ids, globs, families, sources, ``!pattern`` (default: all checks).
        strict: as ``--etcd-strict``.
        allow_unverified: accept checks that could not be verified.
        bounds: limits for the observer that is made for a target.

    Raises:
        AssertionError: on a violation, on a check without evidence or that could not be verified, and if no
            check has a verdict.
        UsageError: if a pattern matches nothing.
    """
    __tracebackhide__ = True  # pytest shows the line of the test
    observer = subject if isinstance(subject, Observer) else Observer(subject, bounds)
    chosen = select(patterns, named_by="assert_conforms")
    gate = catalogue()[GATES[0]]
    refused = FAILED if allow_unverified else FAILED | {Outcome.NOT_VERIFIED}
    judged = run_checks(observer, chosen if gate in chosen else [gate, *chosen], strict=strict)
    results = [one for one in judged if one.check != gate.id or gate in chosen or one.outcome in refused]
    failed = [result for result in results if result.outcome in refused]
    if failed:
        raise AssertionError("\n\n".join([f"{len(failed)} of {len(results)} results fail", *_texts(failed)]))
    if not any(result.outcome in (Outcome.CONFORMS, Outcome.WARNS) for result in results):
        reasons = "; ".join(dict.fromkeys(result.reason for result in results))
        raise AssertionError(f"no check has a verdict: {reasons or 'none judges this target'}")
    return results


def _texts(failed: Sequence[CheckResult]) -> Iterator[str]:
    """Yield the faults in full, each with its consequences in a line, then what has no evidence."""
    for fault in faults(failed):
        for result in fault.results:
            where = f"{result.check} on {result.listener} of {result.target} {result.outcome}"
            yield "\n".join([where, *(line.text for line in full_result(result))])
        if fault.consequences:
            names = ", ".join(dict.fromkeys(result.check for result in fault.consequences))
            verb = "follows" if len(fault.consequences) == 1 else "follow"
            results = plural(len(fault.consequences), "more result")
            yield f"{results} {verb} from {fault.first.check}: {names}"
    for result in failed:
        if result.outcome is not Outcome.VIOLATES:
            yield "\n".join(
                [f"{result.check} on {result.listener}", *(line.text for line in full_result(result))]
            )


_ENDPOINT, _CHECK = "etcd_endpoint", "etcd_check"
_LABEL = "_etcd_label"
"""The fixture with the label of the target that all fixtures of a test refer to."""


class CheckSubject(Struct, frozen=True):
    """A test parameter: a listener of a target by label, and optionally a check.

    Attributes:
        target: label of the target; empty if only a fixture or a parameter decides which it is.
        listener: label of the listener, or that of the whole target.
        check: the check.
        foreseen: labels of the listeners that tests were collected for, if a user's fixture may have others;
            else empty.
        missing: why there is no target; empty if there may be one.
    """

    target: str
    listener: str
    check: Check | None = None
    foreseen: frozenset[str] = frozenset()
    missing: str = ""

    @property
    def id(self) -> str:
        """The parameter's id for pytest."""
        return "-".join(filter(None, [self.target, self.listener, self.check.id if self.check else ""]))


def at_listener(target: TargetRun, place: CheckSubject) -> Listener | None:
    """Return the listener of a test; ``None`` for a check about the whole target.

    The test is skipped if its cluster has no such listener. It fails if the cluster has a listener for which
    no test was collected: nothing else would report that.
    """
    if place.missing:
        pytest.fail(place.missing, pytrace=False)
    actual = target.observer.target
    labels = {listener.label for listener in actual.listeners}
    if place.foreseen and (unforeseen := sorted(labels - place.foreseen)):
        pytest.fail(
            f"no test was collected for {', '.join(unforeseen)}: your fixture gives its cluster after the "
            f"collection\n{_how_to_foresee(target)}",
            pytrace=False,
        )
    if place.listener not in labels | {WHOLE_TARGET}:
        pytest.skip(f"this cluster has no listener {place.listener}")
    return actual.labelled(place.listener)


_LISTENING = ("size", "metrics", "client_http", "plain_client_listener")
"""The fields of a configuration on which it depends which listeners there are."""


def _how_to_foresee(target: TargetRun) -> str:
    """Return what a user writes, so that the listeners of the fixture are known at collection."""
    if not target.is_owned:
        return (
            "write its targets as @pytest.fixture(params=[...]) on etcd_target, which returns request.param"
        )
    config, default = target.cluster.config, target.settings.owned.config
    changes = {
        name: getattr(config, name) for name in _LISTENING if getattr(config, name) != getattr(default, name)
    }
    if not changes:
        return "judge all of it in one test: run_checks(etcd_observer)"
    fixture, start = f"@pytest.fixture(params=[{changes}])", "etcd_session_cluster_factory(**request.param)"
    return f"write {fixture} on etcd_cluster, and start {start}"


def bound_check(target: TargetRun, place: CheckSubject) -> BoundCheck:
    """Return the check of a test on its listener."""
    at_listener(target, place)
    if place.check is None:
        raise TypeError("a parameter of etcd_endpoint was given to etcd_check")
    return BoundCheck(target, place.check, place.listener)


def parametrize(metafunc: pytest.Metafunc) -> None:
    """Parametrize a test that uses our fixtures, unless the test or its conftest overrides them.

    ``etcd_endpoint`` and ``etcd_check`` are one parameter. With several owned targets a test that uses any of
    the fixtures runs once for each target, and all its fixtures refer to that one.

    Raises:
        pytest.fail.Exception: if a test has the marker without effect.
    """
    names = [name for name in (_ENDPOINT, _CHECK) if _is_ours(metafunc, name)]
    if _CHECK not in names and any(mark.name == MARKER for mark in metafunc.definition.own_markers):
        pytest.fail(
            f"{metafunc.definition.nodeid}: @pytest.mark.{MARKER} selects the checks of the plugin's fixture "
            f"{_CHECK}, which this test does not use: add {_CHECK} to its arguments, or remove the mark",
            pytrace=False,
        )
    try:
        run = run_of(metafunc.config)
        checks = _checks(metafunc.definition, run) if _CHECK in names else None
        if names and (given := _given_targets(metafunc)):
            _parametrize_given(metafunc, given, names, checks)
            return
        run.discover()
        subjects = _Subjects.of(metafunc, run)
    except (EtcdTLSError, pytest.UsageError) as error:
        if names:
            nowhere = CheckSubject("", "", missing=str(error))
            metafunc.parametrize(names, [(nowhere,) * len(names)], indirect=True, ids=["no-etcd"])
        return
    labels = list(subjects.targets)
    separate = _LABEL in metafunc.fixturenames and len(labels) > 1
    if separate:
        metafunc.parametrize(_LABEL, labels, indirect=True, ids=labels, scope="session")
    if names:
        places = list(subjects.places(checks, labelled=not separate))
        values = [(place,) * len(names) for place in places]
        metafunc.parametrize(names, values, indirect=True, ids=[place.id for place in places])


MARKER = "etcd_checks"
"""The marker whose arguments are the patterns of the checks that ``etcd_check`` is run for."""


def _checks(item: pytest.Item, run: Run) -> list[Check]:
    """Return the checks of a test: those of its marker, else those of ``--etcd-check``."""
    marker = item.get_closest_marker(MARKER)
    if marker is None:
        return run.checks
    if not marker.args or not all(isinstance(pattern, str) for pattern in marker.args):
        raise UsageError(f"@pytest.mark.{MARKER} takes patterns of checks, as in {MARKER}('mtls.*')")
    return select(marker.args, named_by=f"@pytest.mark.{MARKER}")


class _Subjects(Struct, frozen=True):
    """The targets of a test as far as they are known when it is collected.

    Attributes:
        targets: by label; the label is empty if only a fixture or a parameter decides.
        guessed: a user's fixture may give the test other listeners.
    """

    targets: Mapping[str, Target]
    guessed: bool

    @classmethod
    def of(cls, metafunc: pytest.Metafunc, run: Run) -> Self:
        """Return the targets of a test.

        No etcd is looked for: a fixture does that when it is set up. Only where options name several are
        their versions read, since they are in the ids of the tests.

        Raises:
            UsageError: if a parameter names no cluster, or one of several etcds is not available.
        """
        live = bool(run.settings.live) or run.settings.replay is not None
        overrides = {name for name in (CLUSTER, TARGET) if overridden(metafunc.definition, name)}
        guessed = TARGET in overrides or (CLUSTER in overrides and not live)
        default = run.settings.owned.config
        requests: list[ClusterRequest] = []
        configs: list[ClusterConfig] = []
        with suppress(UsageError) if CLUSTER in overrides else nullcontext():  # they may mean anything there
            requests = list(_requests(metafunc))
            configs = [request.config(default) for request in requests]
        if live:
            return cls({target.outline.label: target.outline for target in run.targets}, guessed)
        listeners = {
            listener.label: listener
            for config in configs or [default]
            for listener in outline_listeners(config)
        }
        outline = Target(label="", origin="process", listeners=tuple(listeners.values()))
        for binary in () if guessed else run.settings.owned.binaries:
            named_binary(binary)  # that it is not there is one message, not one for each listener and check
        labels = [""]
        if run.settings.owned.names_several and not (requests and all(one.names_etcd for one in requests)):
            with suppress(UsageError) if guessed else nullcontext():  # the override may start another etcd
                labels = [target.outline.label for target in run.owned]
        return cls(dict.fromkeys(labels if len(labels) > 1 else [""], outline), guessed)

    def places(self, checks: Sequence[Check] | None, *, labelled: bool) -> Iterator[CheckSubject]:
        """Yield a parameter for each listener, or for each check on each.

        Args:
            checks: the checks; ``None`` for listeners alone.
            labelled: the parameter has the label of the target; else another parameter has it.
        """
        for label, target in self.targets.items() if labelled else [("", next(iter(self.targets.values())))]:
            names = frozenset(listener.label for listener in target.listeners)
            foreseen = names if self.guessed else frozenset()
            if checks is None:
                for listener in target.listeners:
                    yield CheckSubject(label, listener.label, foreseen=foreseen)
                continue
            for place, judging in checks_of(target, checks):
                yield from (CheckSubject(label, place, check, foreseen) for check in judging)


def _given_targets(metafunc: pytest.Metafunc) -> list[Target]:
    """Return the targets that are the parameters of an override of ``etcd_target``."""
    if TARGET not in metafunc.fixturenames or not overridden(metafunc.definition, TARGET):
        return []
    values = _parameters_of(metafunc, TARGET)
    targets = [value for value in values if isinstance(value, Target)]
    return targets if len(targets) == len(values) else []


def _parameters_of(metafunc: pytest.Metafunc, fixture: str) -> list[object]:
    """Return the parameters of the fixture of that name that a test uses."""
    given = definitions(metafunc.definition, fixture)[-1].params or ()
    return [each[0] if (each := _set_of(value)) else value for value in given]


def _set_of(value: object) -> Sequence[object]:
    """Return what ``pytest.param()`` was given, whose class is not public; empty for any other value."""
    return getattr(value, "values", ()) if type(value).__name__ == "ParameterSet" else ()


def _parametrize_given(
    metafunc: pytest.Metafunc,
    given: Sequence[Target],
    names: Sequence[str],
    checks: Sequence[Check] | None,
) -> None:
    """Parametrize a test by the listeners of each target that its override of ``etcd_target`` gives.

    A marker has precedence over the parameters of a fixture, so each listener is combined with its target.
    """
    values, ids = [], []
    for target in given:
        for place in _Subjects({target.label: target}, guessed=False).places(checks, labelled=True):
            values.append((target, *(place for _ in names)))
            ids.append(place.id)
    marker = pytest.mark.parametrize((TARGET, *names), values, indirect=True, ids=ids, scope="session")
    metafunc.definition.add_marker(marker)


def _requests(metafunc: pytest.Metafunc) -> Iterator[ClusterRequest]:
    """Yield the clusters that are the parameters of ``etcd_cluster``, of the test or of an override.

    Raises:
        UsageError: if one names no cluster.
    """
    named = False
    for marker in metafunc.definition.iter_markers("parametrize"):
        names = parameters(marker)
        if CLUSTER not in names:
            continue
        named = True
        if CLUSTER not in metafunc.fixturenames:
            metafunc.fixturenames.append(CLUSTER)  # on a live cluster no other fixture requests it
        for value in marker.args[1] if len(marker.args) > 1 else marker.kwargs.get("argvalues", ()):
            several = _set_of(value) or ((value,) if len(names) == 1 else value)
            yield ClusterRequest.of(several[names.index(CLUSTER)])
    if not named:  # else pytest does not use those of the fixture
        yield from map(ClusterRequest.of, _parameters_of(metafunc, CLUSTER))


def live(config: pytest.Config, label: str | None) -> TargetRun:
    """Return the live or the replayed target.

    Args:
        config: pytest's configuration.
        label: label of the target that all fixtures of the test refer to, if there are several.

    Raises:
        EtcdTLSError: if there is none.
    """
    run = run_of(config)
    run.discover()
    return of_label(run.targets, label)


def _is_ours(metafunc: pytest.Metafunc, name: str) -> bool:
    """Return whether the test uses the plugin's fixture, not its own fixture or parameter of that name."""
    if name not in metafunc.fixturenames or overridden(metafunc.definition, name):
        return False
    return not any(name in parameters(marker) for marker in metafunc.definition.iter_markers("parametrize"))
