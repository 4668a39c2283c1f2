"""A run: its targets, and one result for each check and listener."""

from __future__ import annotations

import threading
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Final

from pytest_etcdtls.declared.files import DeclaredFiles, DeclaredLeaf
from pytest_etcdtls.errors import (
    ClusterStartError,
    EtcdTLSError,
    InconclusiveError,
    NoEtcdError,
    NotApplicableError,
    NotVerifiedError,
    RegistrationError,
    UnobservedError,
    UsageError,
    blocked_sockets,
)
from pytest_etcdtls.facts.access import AcceptedClient
from pytest_etcdtls.facts.certificates import ServedByMembers, ServerProof
from pytest_etcdtls.facts.configuration import (
    Declarations,
    DeclaredStart,
    ListenerDeclaration,
    ListenersSeen,
)
from pytest_etcdtls.facts.discovery import Discovery
from pytest_etcdtls.facts.etcd_log import EtcdLogs, LogComparison
from pytest_etcdtls.facts.experiments import is_of_experiment
from pytest_etcdtls.facts.listener import FirstContact, Policy, UnnamedPorts
from pytest_etcdtls.facts.members import SideBySide
from pytest_etcdtls.judgement import GOOD_CLIENT, GOOD_PEER, with_files
from pytest_etcdtls.observer import ListenerObservation, Observer
from pytest_etcdtls.profiles import FAILED, NO_PROFILES, Profiles, Strength
from pytest_etcdtls.registry import FOUND, Check, catalogue, cause_of, select, with_causes
from pytest_etcdtls.report.text import full_result
from pytest_etcdtls.results import (
    Ancestor,
    CannotJudge,
    CheckResult,
    Finding,
    Level,
    Note,
    Outcome,
    Statement,
)
from pytest_etcdtls.role import CLUSTER, Role
from pytest_etcdtls.settings.read import Settings, owned_outline, owned_sources
from pytest_etcdtls.target import Bounds, Listener, Target, safe, unique
from pytest_etcdtls.tls.attempt import Ending
from pytest_etcdtls.tls.hello import Connection
from pytest_etcdtls.waivers import waive

if TYPE_CHECKING:
    # A run on a live cluster starts none.
    from pytest_etcdtls.cluster.cluster import Cluster
    from pytest_etcdtls.cluster.config import ClusterConfig
    from pytest_etcdtls.cluster.replay import ReplayedEtcd, ReplayPlan
    from pytest_etcdtls.cluster.reuse import KeptClusters
    from pytest_etcdtls.cluster.sources import Announce, EtcdSource
    from pytest_etcdtls.observer import Experiments, Prefetch

    Start = Callable[[ClusterConfig, EtcdSource], Cluster]
    StartReplay = Callable[[ReplayPlan, EtcdSource], ReplayedEtcd]

GATES = ("listener.answers", "listener.is-etcd")
"""Checks that run before all others of a listener, in this order."""

_WORST_FIRST = (Outcome.INCONCLUSIVE, Outcome.NOT_VERIFIED, Outcome.NOT_APPLICABLE)
_UNOBSERVED: dict[type[UnobservedError], Outcome] = {
    InconclusiveError: Outcome.INCONCLUSIVE,
    NotVerifiedError: Outcome.NOT_VERIFIED,
    NotApplicableError: Outcome.NOT_APPLICABLE,
}


KeptResults = dict[tuple[str, str], CheckResult]


class Judge:
    """Judges one target; results are kept, so a repeated request opens no connection.

    Args:
        observer: makes the observations.
        strict: a SHOULD check with findings violates instead of warning (``--etcd-strict``).
        profiles: move levels of checks (``--etcd-profile``); their thresholds are the target's.
        results: where the results are kept, by check id and label of the listener (default: in a new one).
    """

    def __init__(
        self,
        observer: Observer,
        *,
        strict: bool = False,
        profiles: Profiles = NO_PROFILES,
        results: KeptResults | None = None,
    ) -> None:
        self.observer = observer
        self.strict = strict
        self.profiles = profiles
        self._results: KeptResults = {} if results is None else results
        self._outcome_at_end: dict[tuple[str, str], Outcome] = {}
        """The outcome of the check during which the observer gave up a listener."""
        self._reported = observer.given_up
        self._gates: defaultdict[str, threading.RLock] = defaultdict(threading.RLock)
        self.prefetch: Prefetch | None = None
        """Makes observations in threads before checks need them, on a slow network."""

    def result(self, check: Check, listener: Listener | None) -> CheckResult:
        """Return the result of the check on the listener (``None``: on the whole target)."""
        key = (check.id, listener.label if listener else CLUSTER)
        # Threads that make observations ahead judge gates too.
        with self._gates[key[1]] if check.id in GATES else nullcontext():
            if key not in self._results:
                self._results[key] = self._judge(check, listener)
            return self._results[key]

    def passes(self, listener: Listener) -> bool:
        """Return whether the listener passes the gates of the other checks."""
        return self._gated_by(GATES, listener) is None

    def look_ahead(self, wanted: Sequence[tuple[Listener, Sequence[Check]]]) -> None:
        """Make the observations of these checks in threads, from now on."""
        # Imported here: most networks are not slow.
        from pytest_etcdtls.observer import Prefetch

        self.prefetch = Prefetch(self.observer, self.passes, wanted)

    def _judge(self, check: Check, listener: Listener | None) -> CheckResult:
        started = time.monotonic()
        outcome, reason, findings = self._gated(check, listener) or self._run(check, listener)
        findings = tuple(
            replace(finding, reproduce=tuple(map(self._with_client_files, finding.reproduce)))
            for finding in findings
        )
        role = listener.role if listener else None
        return CheckResult(
            check=check.id,
            level=self._level(check, role, findings),
            severity=check.severity,
            target=self.observer.target.label,
            listener=listener.label if listener else CLUSTER,
            role=role or CLUSTER,
            url=listener.url if listener else _first_url(self.observer),
            outcome=outcome,
            reason=reason,
            findings=findings,
            remediation="; ".join(dict.fromkeys(check.remedy(role, one.remediation) for one in findings)),
            references=(*check.sources(role), *self._sections(check, role)),
            seconds=round(time.monotonic() - started, 6),
        )

    def _with_client_files(self, line: str) -> str:
        """Insert the files of the client that the listener in a command accepts."""
        target = self.observer.target
        listener = next((found for found in target.listeners if f"{found.url}" in line), None)
        role = listener.role if listener else Role.PEER if GOOD_PEER[0] in line else Role.CLIENT
        found = [
            (identity.certificate_file, identity.key_file)
            for identity in target.credentials(role).identities
            if identity.certificate_file and identity.key_file
        ]
        fact = self.observer.known(AcceptedClient, listener=listener) if listener else None
        if fact and fact.accepted and fact.accepted.files:
            found = [fact.accepted.files, *found]
        for placeholder in (GOOD_CLIENT, GOOD_PEER):
            line = with_files(line, placeholder, found[0] if found else placeholder)
        return line

    def _gated(
        self, check: Check, listener: Listener | None
    ) -> tuple[Outcome, str, tuple[Finding, ...]] | None:
        """Return not-verified if a gate before this check did not pass, else ``None``."""
        target = self.observer.target
        if not target.runs and not {need.type for need in check.needs.values()} <= _WITHOUT_ETCD:
            why = f"etcd {target.etcd_version} does not start with the declaration: see config.starts"
            return Outcome.NOT_VERIFIED, why, ()
        if listener is None:
            return None
        return self._gated_by(GATES[: GATES.index(check.id)] if check.id in GATES else GATES, listener)

    def _gated_by(
        self, gates: Iterable[str], listener: Listener
    ) -> tuple[Outcome, str, tuple[Finding, ...]] | None:
        for gate in gates:
            if listener.role not in catalogue()[gate].roles:
                continue
            result = self.result(catalogue()[gate], listener)
            # What was observed before the observer gave up the listener is judged. What needs another
            # connection is not verified.
            outcome = self._outcome_at_end.get((gate, listener.label), result.outcome)
            if outcome in FAILED:
                reason = result.findings[0].message if result.findings else result.reason
                return Outcome.NOT_VERIFIED, f"{gate} {result.outcome}: {reason}", ()
        return None

    def _run(self, check: Check, listener: Listener | None) -> tuple[Outcome, str, tuple[Finding, ...]]:
        outcome, reason, findings = self._concluded(check, listener)
        stopped = self.observer.given_up - self._reported
        if self.prefetch is not None:
            # Threads may be at another listener.
            stopped &= {listener.label} if listener and not findings else frozenset()
        self._reported |= stopped
        if not findings and stopped:
            # This check fails the run: those after it are only not verified.
            self._outcome_at_end[check.id, listener.label if listener else CLUSTER] = outcome
            why = "; ".join(self.observer.why_given_up(label) for label in sorted(stopped))
            return Outcome.INCONCLUSIVE, f"{reason}; {why}" if reason else why, ()
        return outcome, reason, findings

    def _concluded(self, check: Check, listener: Listener | None) -> tuple[Outcome, str, tuple[Finding, ...]]:
        try:
            observations = self.observations(check, listener)
            conclusion = self._fold(check, listener, list(check.function(**observations)))
            if conclusion[0] is Outcome.CONFORMS and listener and (why := self._no_evidence(listener)):
                return Outcome.NOT_VERIFIED, why, ()
            return conclusion
        except UnobservedError as unobserved:
            return _UNOBSERVED[type(unobserved)], unobserved.reason, ()
        except Exception as error:
            if blocked := blocked_sockets(error):
                return Outcome.INCONCLUSIVE, blocked, ()
            where = traceback.extract_tb(error.__traceback__)[-1]
            text = f"{type(error).__name__}: {error} ({where.name}, line {where.lineno} of {where.filename})"
            reason = f"the check {check.id} itself failed, a fault of its code and not of the cluster: {text}"
            return Outcome.BROKEN, reason, ()

    def _no_evidence(self, listener: Listener) -> str:
        """Return why nothing can conform on a listener, empty if there is evidence of its server.

        Evidence is a handshake in which the server proved that it holds the key of its certificate, even if
        it then refused the client; on an ``http`` URL, an answer to plain HTTP. At a discovered address the
        server must also have a certificate that is trusted.
        """
        if listener.discovered:
            try:
                self.observer.get(ServerProof, None, listener)
            except UnobservedError as unverified:
                return unverified.reason
        contact = self.observer.get(FirstContact, None, listener)
        if listener.scheme == "http":
            plaintext = contact.plaintext
            answered = plaintext is not None and plaintext.answers_plaintext
            return "" if answered else f"{listener.url} did not answer plain HTTP: there is no evidence"
        if any(attempt.key_proved for attempt in contact.tls):
            return ""
        with suppress(UnobservedError):
            accepted = self.observer.get(AcceptedClient, None, listener)
            if any(attempt.key_proved for found in accepted.candidates for attempt in found.attempts):
                return ""
        attempts = "; ".join(dict.fromkeys(attempt.describe() for attempt in contact.tls))
        return f"no TLS handshake with {listener.url} succeeded, so there is no evidence: {attempts}"

    def observations(self, check: Check, listener: Listener | None) -> dict[str, Any]:
        """Return the observations that the check needs, by parameter name.

        Raises:
            UnobservedError: if one of them cannot be made.
        """
        return {name: self.observer.get(need.type, need.key, listener) for name, need in check.needs.items()}

    def _fold(
        self, check: Check, listener: Listener | None, statements: Iterable[Statement]
    ) -> tuple[Outcome, str, tuple[Finding, ...]]:
        findings: list[Finding] = []
        undecided: list[CannotJudge] = []
        notes: list[str] = []
        for statement in statements:
            match statement:
                case Finding():
                    findings.append(statement)
                case CannotJudge():
                    undecided.append(statement)
                case Note():
                    notes.append(statement.text)
        role = listener.role if listener else None
        if findings and self.profiles.level(check, role) is Strength.NOTE:
            messages = "; ".join(finding.message for finding in findings)
            notes.insert(0, f"{messages}: a note by {', '.join(self._sections(check, role))}")
            findings = []
        if findings:
            level = self._level(check, role, findings)
            failed = level is Level.MUST or self.strict
            return Outcome.VIOLATES if failed else Outcome.WARNS, "; ".join(notes), tuple(findings)
        for outcome in _WORST_FIRST:
            if reasons := dict.fromkeys(one.reason for one in undecided if one.outcome is outcome):
                return outcome, "; ".join(reasons), ()
        return Outcome.CONFORMS, "; ".join(dict.fromkeys(notes)), ()

    def _level(self, check: Check, role: Role | None, findings: Sequence[Finding]) -> Level:
        """Return the level that a profile gives the check, else the strictest level of the findings."""
        level = check.level_on(role)
        lowered = [finding for finding in findings if finding.level is Level.SHOULD]
        if lowered and level is Level.MUST and not check.lowers:
            text = f"a finding is SHOULD, and the docstring does not announce it: {lowered[0]}"
            raise RegistrationError(text)
        own = Level.SHOULD if lowered and len(lowered) == len(findings) else level
        moved = self.profiles.level(check, role)
        return own if moved in (None, Strength.NOTE) else Level(moved)

    def _sections(self, check: Check, role: Role | None) -> tuple[str, ...]:
        return self.profiles.references(check.id, role or CLUSTER)


def run_checks(
    observer: Observer,
    checks: Sequence[Check | str] | None = None,
    *,
    strict: bool = False,
    profiles: Profiles = NO_PROFILES,
) -> list[CheckResult]:
    """Judge a target with the given checks (default: the whole catalogue) and return every result.

    Args:
        observer: made for the target, which has the thresholds of the profiles.
        checks: checks, or patterns as for ``--etcd-check``: ids, globs, families, sources, ``!pattern``.
        strict: as ``--etcd-strict``.
        profiles: from :func:`pytest_etcdtls.profiles.read_profiles`.

    Raises:
        UsageError: if a pattern matches nothing.
    """
    judge = Judge(observer, strict=strict, profiles=profiles)
    patterns = [check for check in checks or () if isinstance(check, str)]
    chosen = [check for check in checks or () if isinstance(check, Check)]
    if patterns or checks is None:
        chosen += [check for check in select(patterns) if check not in chosen]
    observer.expect(
        lambda: [
            (listener, need.type, need.key)
            for check in chosen
            for listener in subjects(check, observer.target)
            for need in check.needs.values()
        ]
    )
    results = [
        judge.result(check, listener) for check in chosen for listener in subjects(check, observer.target)
    ]
    return with_causes(results, {check.id: check for check in chosen}, observer.target.listeners)


_SLOW_MILLISECONDS: Final = 25.0
"""A network is slow if its shortest answered attempt takes this long. On loopback one takes 2 to 5 ms."""


def is_slow(observer: Observer, listener: Listener) -> bool:
    """Return whether the network to a listener is slow, by the attempts of its first contact.

    The answer is no if the user allows one connection at a time.
    """
    bounds = observer.bounds
    contact = observer.known(FirstContact, listener=listener)
    if contact is None or bounds.pause or bounds.concurrency == 1:
        return False
    answered = [one.milliseconds for one in contact.tls if one.ending is not Ending.UNCLEAR]
    return bool(answered) and min(answered) >= _SLOW_MILLISECONDS


_LAST: Final = frozenset({EtcdLogs, LogComparison})
"""Observations of the connections that were made before."""


def comes_last(check: Check) -> bool:
    """Return whether a check needs an observation of the connections that were made before."""
    return any(need.type in _LAST for need in check.needs.values())


def assert_conforms(
    subject: Target | Observer, *patterns: str, strict: bool = False, bounds: Bounds | None = None
) -> list[CheckResult]:
    """Judge a target, and raise an error with every finding unless it conforms. Return the results.

    Warnings are allowed without ``strict``, and what does not apply or cannot be verified, as long as one of
    the checks comes to a verdict.

    Args:
        subject: the target, or its observer, which makes no observation twice.
        patterns: as for ``--etcd-check``: ids, globs, families, sources, ``!pattern`` (default: all checks).
        strict: as ``--etcd-strict``.
        bounds: limits for the observer that is made for a target.

    Raises:
        AssertionError: on a violation, on a check without evidence, and if no check comes to a verdict.
        UsageError: if a pattern matches nothing.
    """
    observer = subject if isinstance(subject, Observer) else Observer(subject, bounds)
    results = run_checks(observer, list(patterns) or None, strict=strict)
    failed = [result for result in results if result.outcome in FAILED]
    if failed:
        texts = ["\n".join(line.text for line in full_result(result)) for result in failed]
        raise AssertionError("\n\n".join([f"{len(failed)} of {len(results)} results fail", *texts]))
    if not any(result.outcome in (Outcome.CONFORMS, Outcome.WARNS) for result in results):
        reasons = "; ".join(dict.fromkeys(result.reason for result in results))
        raise AssertionError(f"no check came to a verdict: {reasons or 'none judges this target'}")
    return results


def _first_url(observer: Observer) -> str:
    listeners = observer.target.listeners
    chosen = next((listener for listener in listeners if listener.role is Role.CLIENT), None)
    return (chosen or listeners[0]).url


_WITHOUT_ETCD = frozenset({Declarations, DeclaredFiles, DeclaredStart, Policy})
"""Observations of a declaration with which etcd does not start."""

_DECLARED = frozenset({Declarations, DeclaredFiles, DeclaredLeaf, ListenerDeclaration, ListenersSeen})
_SEARCHED = frozenset({Discovery, UnnamedPorts})
_COMPARED = frozenset({ServedByMembers, SideBySide})


def subjects(check: Check, target: Target) -> list[Listener | None]:
    """Return the listeners of the target that the check judges; ``[None]`` if it judges the whole target.

    The list is empty for a check that the options leave out, see :func:`left_out`.
    """
    return [] if left_out(check, target) else _of_its_roles(check, target)


def left_out(check: Check, target: Target) -> str:
    """Return why the options leave the check out on the target, empty if they do not.

    A check of a declaration needs one, an experiment a cluster of our own, a comparison two members, and a
    search for members or ports the option for it. What is known only from a connection leaves no check out.
    """
    needs = {need.type for need in check.needs.values()}
    if target.live and not target.declared and needs & _DECLARED:
        return "there is no declaration: pass --etcd-config"
    if target.live and check.family == "lifecycle":
        return "experiments are made on owned clusters only"
    if target.live and not target.discover and needs & _SEARCHED:
        return "no search was asked for: pass --etcd-discover"
    if target.replay is None and DeclaredStart in needs:
        return "no declaration is replayed: pass --etcd-binary or --etcd-image with --etcd-config"
    if not target.discover and needs & _COMPARED and len({one.member for one in target.listeners}) < 2:
        return "there is one member to judge"
    return ""


def left_out_of(checks: Iterable[Check], target: Target) -> Counter[str]:
    """Return for each reason how many results the options leave out."""
    return Counter(
        reason
        for check in checks
        if (reason := left_out(check, target))
        for _ in _of_its_roles(check, target)
    )


def _of_its_roles(check: Check, target: Target) -> list[Listener | None]:
    return [one for one in (*target.listeners, None) if _is_of_its_roles(check, one)]


def _is_of_its_roles(check: Check, listener: Listener | None) -> bool:
    """Return whether the check judges the listener, or the whole target if it is ``None``."""
    return listener.role in check.roles if listener else not check.roles


Wanted = Sequence[tuple[str, Sequence[Check]]]
"""Labels of listeners, each with checks."""


class TargetRun:
    """One target of a run: a live cluster, or an owned cluster that is started when it is first needed.

    Args:
        outline: the target as known before it is observed: labels and roles of its listeners.
        settings: of the run.
        start: starts a cluster.
        source: the etcd to start; ``None`` for a live target, and for the cluster of a user's fixture.
        discovers: the members of a live cluster may be requested, if discovery is.
        checks: returns the selected checks, which judge the listeners known before discovery.
        replay: starts an etcd with the user's declaration; ``None`` for every other target.
        cluster: the owned cluster, if a user's fixture starts and stops it.

    Attributes:
        handed_out: a user's test has used the owned cluster since it was last compared.
        outline: for a live target after discovery, with the listeners that were named and discovered.
        wanted: returns the label of each listener with the checks that will judge it; ``None`` if that is
            not known.
    """

    def __init__(
        self,
        outline: Target,
        settings: Settings,
        start: Start,
        source: EtcdSource | None = None,
        *,
        discovers: bool = True,
        checks: Callable[[], Sequence[Check]] = tuple,
        replay: StartReplay | None = None,
        cluster: Cluster | None = None,
    ) -> None:
        self.outline = outline
        self.source = source
        self.discovers = discovers and outline.discover
        self.settings = settings
        self._start = start
        self._replay = replay
        self._checks = checks
        self._failure: EtcdTLSError | None = None
        self._results: KeptResults = {}
        self._measured: set[str] = set()
        self._experiments: Experiments | None = None
        self._experimenting = False
        self.wanted: Callable[[], Wanted] | None = None
        self._cluster = cluster
        self._connections: list[Connection] = []
        self._observers: list[Observer] = []
        self.handed_out = False

    @property
    def live(self) -> bool:
        """Whether it is a live cluster."""
        return self.outline.live

    @property
    def cluster(self) -> Cluster:
        """The owned cluster; started if it is not running yet.

        Raises:
            ClusterStartError: if it does not start; the start is not repeated.
            UsageError: if this etcd does not support the requested configuration.
            TypeError: for a live target.
        """
        if self._cluster is not None:
            return self._cluster
        if self.source is None:
            raise TypeError(f"target {self.outline.label} is not ours")
        with self._start_once():
            self._cluster = self._start(self.settings.owned.config, self.source)
        return self._cluster

    @contextmanager
    def _start_once(self) -> Iterator[None]:
        """Keep the error of a start, and raise it instead of starting again."""
        if self._failure is not None:
            raise self._failure.with_traceback(None)  # else its traceback grows with each item
        try:
            yield
        except (ClusterStartError, UsageError) as error:
            self._failure = error
            raise

    @property
    def is_ours(self) -> bool:
        """Whether there is an owned cluster, running or to be started."""
        return self.source is not None or self._cluster is not None

    def has(self, cluster: Cluster) -> bool:
        """Return whether this is the target's cluster."""
        return cluster is self._cluster

    def replace_damaged(self) -> str:
        """Stop the owned cluster if it differs from what was started; the next request starts another.

        Its results are dropped, since it may have been damaged before they were made. Its connections stay.

        Returns:
            How it differed, empty if it did not.
        """
        self.handed_out = False
        if self._cluster is None or self.source is None or not (why := self._cluster.difference()):
            return ""
        self.end_experiments()
        self._cluster.stop()
        self._cluster = None
        self._results.clear()
        for name in ("observer", "judge"):
            self.__dict__.pop(name, None)
        return why

    def end_experiments(self) -> None:
        """Stop experimenting, and wait until every cluster for it is removed."""
        if self._experiments is not None:
            self._experiments.end()
            self._experiments, self._experimenting = None, False

    @cached_property
    def observer(self) -> Observer:
        """The observer of this target; an owned cluster is started, the members of a live one are discovered.

        Raises:
            ClusterStartError, UsageError: if the owned cluster does not start.
        """
        target = self.outline
        if self.source is not None:
            target = replace(
                self._replayed() or self.cluster.target(target.label),
                expiry_days=self.settings.expiry_days,
                thresholds=self.settings.profiles.thresholds,
            )
        observer = Observer(target, self.settings.bounds)
        observer.connections = self._connections
        observer.expect(lambda: self._foreseen(observer.target))
        self._observers.append(observer)
        if self.discovers:
            with suppress(Exception):  # the check about the members discovers again and reports the error
                observer.discover()
            self.outline = observer.target
        return observer

    def _foreseen(self, target: Target) -> Iterator[ListenerObservation]:
        wanted = self.wanted or (lambda: list(self.subjects(self._checks() if self.discovers else ())))
        for label, checks in wanted():
            listener = find_listener(target, label)
            if listener is not None or label == CLUSTER:
                yield from ((listener, need.type, need.key) for one in checks for need in one.needs.values())

    def _replayed(self) -> Target | None:
        """Start an etcd with the user's declaration and return its target; ``None`` if none is replayed."""
        plan = self.settings.replay
        if self._replay is None or plan is None or self.source is None:
            return None
        with self._start_once():
            return self._replay(plan, self.source).target(self.outline)

    def discover(self) -> None:
        """Discover the members of a live cluster once, if that is requested."""
        if self.discovers:
            _ = self.observer

    @property
    def discovery(self) -> Discovery | None:
        """The result of discovery; ``None`` if it was not requested, or failed."""
        return self.seen.known(Discovery) if self.seen else None

    @cached_property
    def judge(self) -> Judge:
        """The judge of this target."""
        settings = self.settings
        return Judge(self.observer, strict=settings.strict, profiles=settings.profiles, results=self._results)

    @property
    def seen(self) -> Observer | None:
        """The observer if it was used, else ``None``, so that a report does not start a cluster."""
        return self.__dict__.get("observer")

    @property
    def reported(self) -> Observer | None:
        """The observer that a report shows: after a replacement, the one with most observations."""
        return max(self._observers, key=lambda one: len(one.facts), default=None)

    def subjects(self, checks: Sequence[Check]) -> Iterator[tuple[str, list[Check]]]:
        """Yield the label of each listener, last that of the whole target, with the checks that judge it."""
        judging = [check for check in checks if not left_out(check, self.outline)]
        for listener in (*self.outline.listeners, None):
            label = listener.label if listener else CLUSTER
            yield label, [check for check in judging if _is_of_its_roles(check, listener)]

    def result(self, check: Check, label: str) -> CheckResult:
        """Return the result of the check on the listener of that label, or on the whole target.

        It is made once and kept. If the cluster does not start, the first gate is inconclusive and all other
        checks are not verified.
        """
        if kept := self._results.get((check.id, label)):
            return kept
        try:
            judge = self.judge
        except (ClusterStartError, UsageError) as error:
            if check.id == GATES[0]:
                return self.unjudged(check, label, Outcome.INCONCLUSIVE, str(error))
            return self.unjudged(check, label, Outcome.NOT_VERIFIED, "the owned cluster did not start")
        listener = find_listener(judge.observer.target, label)
        self._look_ahead(judge, check, listener)
        self._experiment(judge)
        # A check that waits for an experiment makes no connection meanwhile.
        waits = any(is_of_experiment(need.type) for need in check.needs.values())
        with nullcontext() if self._experiments is None or waits else judge.observer.work_lock.shared():
            return judge.result(check, listener)

    def _experiment(self, judge: Judge) -> None:
        """Start the threads of the selected experiments with the first check."""
        if self._experimenting or self.live or not self.wanted or self.settings.bounds.concurrency == 1:
            return
        self._experimenting = True
        needs = [
            (need.type, need.key)
            for _, checks in self.wanted()
            for check in checks
            for need in check.needs.values()
            if is_of_experiment(need.type)
        ]
        if needs and judge.observer.target.runs:
            # Imported here: most runs make no experiments.
            from pytest_etcdtls.lifecycle.experiment_table import settings_for
            from pytest_etcdtls.observer import Experiments

            self._experiments = Experiments(judge.observer, settings_for(needs))

    def _look_ahead(self, judge: Judge, check: Check, listener: Listener | None) -> None:
        """Make observations in threads, from the first listener on that is behind a slow network."""
        if judge.prefetch is not None:
            if listener is None or comes_last(check):
                judge.prefetch.wait()
        elif listener and self.wanted and check.id not in GATES and listener.label not in self._measured:
            self._measured.add(listener.label)
            if judge.passes(listener) and is_slow(judge.observer, listener):
                judge.look_ahead(
                    [
                        (place, [one for one in checks if one.id not in GATES and not comes_last(one)])
                        for label, checks in self.wanted()
                        if (place := find_listener(judge.observer.target, label)) is not None
                    ]
                )

    def abandon(self) -> None:
        """Make no further connection ahead of a check."""
        if self._experiments is not None:
            self._experiments.abandon()
        if self.seen is not None and self.judge.prefetch is not None:
            self.judge.prefetch.abandon()

    def keep(self, result: CheckResult) -> None:
        """Keep a result that was made without running its check, unless there is one already."""
        self._results.setdefault((result.check, result.listener), result)

    def unjudged(self, check: Check, label: str, outcome: Outcome, reason: str) -> CheckResult:
        """Return a result without running the check."""
        observer = self.seen
        target = observer.target if observer else self.outline
        listener = find_listener(target, label)
        return CheckResult(
            check=check.id,
            level=check.level_on(listener.role if listener else None),
            severity=check.severity,
            target=target.label,
            listener=label,
            role=listener.role if listener else CLUSTER,
            url=(listener or target.listeners[0]).url,
            outcome=outcome,
            reason=reason,
            references=check.references,
        )


class Run:
    """All targets of a run, and the checks that are selected.

    Args:
        settings: the user's options.
        announce: called with a message before a download that takes long.
        discovers: the members of a live cluster may be requested.
        pulls: a missing image may be pulled.
        prepare: returns the configuration that a cluster is started with.

    Attributes:
        selected: target, listener and check of the items that are run; ``None`` for all. A violation follows
            only from one of these.
    """

    def __init__(
        self,
        settings: Settings,
        announce: Announce | None = None,
        *,
        discovers: bool = True,
        pulls: bool = True,
        prepare: Callable[[ClusterConfig, EtcdSource], ClusterConfig] = lambda config, _: config,
    ) -> None:
        self.settings = settings
        self._pulls = pulls
        self._prepare = prepare
        self._no_etcd: NoEtcdError | None = None
        self._discovers = discovers
        self._announce = announce
        self._clusters: list[Cluster | ReplayedEtcd] = []
        self.started_at = datetime.now(UTC)
        self.selected: frozenset[tuple[str, str, str]] | None = None

    @cached_property
    def targets(self) -> tuple[TargetRun, ...]:
        """The live target if there is one, else the replayed or owned targets, not started.

        Raises:
            UsageError: if there is no etcd to start an owned cluster from.
        """
        if self.settings.live is not None:
            live, settings = self.settings.live, self.settings
            return (
                TargetRun(live, settings, self.start, discovers=self._discovers, checks=lambda: self.checks),
            )
        if self.settings.replay is None:
            return self.owned
        return tuple(
            TargetRun(
                self.settings.replay.outline(one.outline.label, one.source),
                self.settings,
                self.start,
                one.source,
                replay=self.start_replay,
            )
            for one in self.owned
            if one.source is not None
        )

    @cached_property
    def owned(self) -> tuple[TargetRun, ...]:
        """The owned targets, not started, also if a live target is judged.

        Raises:
            UsageError: if there is no etcd to start a cluster from.
        """
        if self._no_etcd is not None:
            raise self._no_etcd
        try:
            sources = owned_sources(self.settings.owned, self._announce, pulls=self._pulls)
        except NoEtcdError as error:
            self._no_etcd = error  # searched for once
            raise
        runs: list[TargetRun] = []
        for source in sources:
            label = unique(f"etcd-{safe(source.version)}", [run.outline.label for run in runs])
            outline = owned_outline(label, source, self.settings)
            runs.append(TargetRun(outline, self.settings, self.start_shared, source))
        return tuple(runs)

    @property
    def known_targets(self) -> tuple[TargetRun, ...]:
        """The live and the owned targets that were used. It does not search for an etcd."""
        known = (*self.__dict__.get("targets", ()), *self.__dict__.get("owned", ()))
        return tuple(dict.fromkeys(known))

    @cached_property
    def checks(self) -> list[Check]:
        """The selected checks, in order of id.

        Raises:
            UsageError: if a pattern matches nothing.
        """
        return select(self.settings.patterns)

    def discover(self) -> None:
        """Discover the members of a live cluster once, if that is requested."""
        for target in self.targets:
            target.discover()

    def result(self, target: TargetRun, check: Check, label: str) -> CheckResult:
        """Return the result of the check on that subject, with waivers applied, and its cause.

        A cause is looked for among the selected checks, which are judged for it if they were not yet.
        """
        result = self._waived(target, check, label)
        if result.outcome not in FOUND or not check.follows or check.id not in self._by_id:
            return result
        observer = target.seen
        known = observer.target if observer else target.outline

        def lookup(id_: str, label: str) -> CheckResult | None:
            ancestor = self._by_id[id_]
            is_judged = _is_of_its_roles(ancestor, find_listener(known, label))
            if not is_judged or left_out(ancestor, known):
                return None
            if self.selected is not None and (target.outline.label, label, id_) not in self.selected:
                return None
            return self._waived(target, ancestor, label)

        return replace(result, cause=cause_of(result, self._by_id, known.listeners, lookup))

    def fault_of(self, target: TargetRun, result: CheckResult) -> Ancestor:
        """Return the fault from which a violation follows in the end; itself if it is a fault."""
        above = [Ancestor(result.check, result.listener)]
        while (cause := result.cause) is not None and cause not in above:
            above.append(cause)
            result = self.result(target, self._by_id[cause.check], cause.listener)
        return above[-1]

    @cached_property
    def _by_id(self) -> dict[str, Check]:
        return {check.id: check for check in self.checks}

    def _waived(self, target: TargetRun, check: Check, label: str) -> CheckResult:
        return waive(target.result(check, label), self.settings.waivers, self.started_at.date())

    def start(self, config: ClusterConfig, source: EtcdSource) -> Cluster:
        """Start a cluster that is stopped at the end of the run at the latest.

        Raises:
            UsageError: if that etcd does not support the configuration.
            ClusterStartError: if it does not start.
        """
        from pytest_etcdtls.cluster.cluster import start_cluster

        cluster = start_cluster(self._prepare(config, source), source, keep=self.settings.owned.keep)
        self._clusters.append(cluster)
        return cluster

    @cached_property
    def kept(self) -> KeptClusters:
        """The clusters of earlier runs, and what is left to the next one, with ``--etcd-reuse``.

        Raises:
            UsageError: if there is no safe place for them.
        """
        from pytest_etcdtls.cluster.reuse import KeptClusters

        return KeptClusters(self.settings.owned.reuse or 0)

    def start_shared(self, config: ClusterConfig, source: EtcdSource) -> Cluster:
        """Do as :meth:`start`, or take over the cluster of an earlier run with ``--etcd-reuse``."""
        if not self.settings.owned.reuse:
            return self.start(config, source)
        cluster = self.kept.start(self._prepare(config, source), source)
        self._clusters.append(cluster)
        return cluster

    def leave(self) -> list[str]:
        """Leave the shared clusters to the next run with ``--etcd-reuse``; return what became of them."""
        if "kept" not in self.__dict__:
            return []
        for target in self.known_targets:
            target.end_experiments()
        self.kept.leave()
        return self.kept.notes

    def start_replay(self, plan: ReplayPlan, source: EtcdSource) -> ReplayedEtcd:
        """Start an etcd with the user's declaration. It is stopped at the end of the run at the latest.

        Raises:
            ClusterStartError: if it cannot be tried.
        """
        from pytest_etcdtls.cluster.replay import ReplayedEtcd

        etcd = ReplayedEtcd(plan, source, keep=self.settings.owned.keep)
        self._clusters.append(etcd)
        return etcd

    def keep_messages(self) -> list[str]:
        """Return for each cluster that is kept the message how to connect to it."""
        return [cluster.keep_message() for cluster in self._clusters if self.settings.owned.keep]

    def select(self, selected: frozenset[tuple[str, str, str]]) -> None:
        """Set the target, listener and check of the items that are run."""
        self.selected = selected
        for target in self.targets if selected else ():
            target.wanted = partial(self._selected_of, target, selected)

    def _selected_of(self, target: TargetRun, selected: frozenset[tuple[str, str, str]]) -> Wanted:
        return [
            (label, [one for one in checks if (target.outline.label, label, one.id) in selected])
            for label, checks in target.subjects(self.checks)
        ]

    def abandon(self) -> None:
        """Make no further connection ahead of a check."""
        for target in self.known_targets:
            target.abandon()

    def stop(self) -> None:
        """Stop every owned cluster, the last one first."""
        for target in self.known_targets:
            target.end_experiments()
        for cluster in reversed(self._clusters):
            cluster.stop()


def find_listener(target: Target, label: str) -> Listener | None:
    """Return the listener of that label, ``None`` for the whole target."""
    return next((listener for listener in target.listeners if listener.label == label), None)
