"""The result of a check on a listener: :class:`Judge`, and which checks judge which listeners.

A check is judged once on a listener. Its result is the first of these that holds: a gate did not pass
(:data:`GATES`, or etcd does not start), a fact could not be obtained, the check has findings, it cannot
judge, nothing proves that the server answered, it conforms. Of several reasons why a check cannot judge,
those with the worst outcome count.
"""

from __future__ import annotations

import datetime as dt
import os
import threading
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from types import MappingProxyType
from typing import Final, Self

from msgspec import Struct
from msgspec.structs import replace as with_values

from pytest_etcdtls.checks.registry import FOUND, GATES, Check, catalogue, causes_of, select
from pytest_etcdtls.checks.results import (
    Ancestor,
    CannotJudge,
    CheckResult,
    Finding,
    Level,
    Note,
    Outcome,
    Statement,
)
from pytest_etcdtls.errors import (
    InconclusiveError,
    NotApplicableError,
    NotVerifiedError,
    Reason,
    RegistrationError,
    RunEndedError,
    UnobservedError,
    blocked_sockets,
    see,
)
from pytest_etcdtls.facts.access import AcceptedClient, ServedClient
from pytest_etcdtls.facts.api import OtherPort
from pytest_etcdtls.facts.bad_identities import ClientIdentity
from pytest_etcdtls.facts.certificates import DeclaredLeaf, ServedByMembers, ServerProof
from pytest_etcdtls.facts.configuration import Declarations, ListenerDeclaration
from pytest_etcdtls.facts.declared_files import DeclaredFiles, TrustedFiles
from pytest_etcdtls.facts.discovery import Discovery, has_unclear_members
from pytest_etcdtls.facts.etcd_log import EtcdLogs
from pytest_etcdtls.facts.experiments import is_of_experiment
from pytest_etcdtls.facts.fact import Reading
from pytest_etcdtls.facts.good_identities import GoodIdentities
from pytest_etcdtls.facts.listener import BrokenConnections, FirstContact, Policy, UnnamedPorts
from pytest_etcdtls.facts.members import SideBySide
from pytest_etcdtls.facts.process_comparison import ProcessComparisons
from pytest_etcdtls.facts.rehearsal import Rehearsals
from pytest_etcdtls.pki.profile import NO_CERTIFICATE, Identity
from pytest_etcdtls.profiles.profiles import FAILED, NO_PROFILES, Profiles, Strength
from pytest_etcdtls.profiles.waivers import Waiver, waive
from pytest_etcdtls.role import CLUSTER, Role
from pytest_etcdtls.run.collector import collect
from pytest_etcdtls.run.observer import Observer
from pytest_etcdtls.run.remedies import Remedy, remedied
from pytest_etcdtls.run.workers import Pool, is_abandoned
from pytest_etcdtls.target import Listener, Target
from pytest_etcdtls.tls.command import GOOD_CLIENT, Shell
from pytest_etcdtls.untrusted.printable import error_text

STARTS = "config.starts"
"""The check that an etcd which the run starts serves its clients. It counts whatever is selected."""

_WORST_FIRST = (Outcome.INCONCLUSIVE, Outcome.NOT_VERIFIED, Outcome.NOT_APPLICABLE)
_UNOBSERVED: dict[type[UnobservedError], Outcome] = {
    InconclusiveError: Outcome.INCONCLUSIVE,
    NotVerifiedError: Outcome.NOT_VERIFIED,
    NotApplicableError: Outcome.NOT_APPLICABLE,
}


Place = tuple[str, str]
"""Id of a check, and label of a listener."""

Conclusion = tuple[Outcome, Reason | str, tuple[Finding, ...]]
"""The outcome of a check, its reason, and the findings."""

_FLAGS_OF_PROXY = (
    "with etcd grpc-proxy start, --trusted-ca-file alone requires client certificates: it has no "
    "--client-cert-auth; its --listen-cipher-suites is etcd's --cipher-suites"
)


def place_of(check: Check, listener: Listener | None) -> Place:
    """Return where the result of a check on a listener is kept."""
    return check.id, listener.label if listener else CLUSTER


class Subject(Struct, frozen=True):
    """A check on one listener (``None``: on the whole target). Every result is made here.

    Attributes:
        level: of the check there, without its findings.
        moved: the level that the profiles give it; ``None`` if they leave it as it is.
        sections: the sections of the profiles that name it.
    """

    check: Check
    target: Target
    label: str
    listener: Listener | None
    role: Role | None
    level: Level
    moved: Strength | None
    sections: tuple[str, ...]

    @classmethod
    def of(
        cls, check: Check, target: Target, label: str, listener: Listener | None, profiles: Profiles
    ) -> Self:
        """Return the check with what the profiles make of it there."""
        role = listener.role if listener else None
        return cls(
            *(check, target, label, listener, role, check.level_on(role), profiles.level(check, role)),
            profiles.references(check.id, role or CLUSTER),
        )

    def level_of(self, findings: Sequence[Finding]) -> Level:
        """Return the level that a profile gives the check, else the strictest level of the findings."""
        lowered = [finding for finding in findings if finding.level is Level.SHOULD]
        if lowered and self.level is Level.MUST and not self.check.lowers:
            text = f"a finding is of level SHOULD, which the docstring does not announce: {lowered[0]}"
            raise RegistrationError(text)
        own = Level.SHOULD if lowered and len(lowered) == len(findings) else self.level
        return own if self.moved in (None, Strength.NOTE) else Level(self.moved)

    def with_outcome(
        self,
        outcome: Outcome,
        reason: Reason | str = "",
        findings: tuple[Finding, ...] = (),
        cured: Remedy = Remedy(),  # noqa: B008 - frozen
        seconds: float = 0.0,
    ) -> CheckResult:
        """Return the result of the check there."""
        # Who is locked out comes before what does it.
        own = (self.check.remedy(self.role, finding.remediation) for finding in findings)
        remedies = dict.fromkeys([*cured.warnings, *own, *cured.remarks])
        return CheckResult(
            check=self.check.id,
            level=self.level_of(findings),
            severity=self.check.severity,
            target=self.target.label,
            listener=self.label,
            role=self.role or CLUSTER,
            url=self.listener.url if self.listener else self.target.url,
            outcome=outcome,
            why=Reason.of(reason),
            findings=findings,
            remedies=tuple(remedies),
            settings=cured.settings,
            references=(*self.check.sources(self.role), *self.sections),
            seconds=seconds,
        )


class Judge:
    """Judges one target; results are kept, so a repeated request opens no connection.

    Args:
        observer: makes the observations.
        strict: a SHOULD check with findings violates instead of warning (``--etcd-strict``).
        profiles: move levels of checks (``--etcd-profile``); their thresholds are the target's.
        waivers: the accepted findings (``--etcd-waivers``).
        today: the day on which they must be valid.
        selected: the checks that judge the target: a violation follows only from one of these.
        results: where the results are kept (default: in a new one).
    """

    def __init__(
        self,
        observer: Observer,
        *,
        strict: bool = False,
        profiles: Profiles = NO_PROFILES,
        waivers: Sequence[Waiver] = (),
        today: dt.date = dt.date.max,
        selected: Mapping[Place, Check] = MappingProxyType({}),
        results: dict[Place, CheckResult] | None = None,
    ) -> None:
        self.observer = observer
        self.strict = strict
        self.profiles = profiles
        self._waivers = waivers
        self._today = today
        self._selected = selected
        self._results: dict[Place, CheckResult] = {} if results is None else results
        """The results by themselves, without waiver and cause."""
        self._outcome_at_end: dict[Place, Outcome] = {}
        """The outcome of the check during which the observer gave up a listener."""
        self._reported = frozenset(observer.given_up)
        self._gates: defaultdict[str, threading.RLock] = defaultdict(threading.RLock)
        self.collector: Pool | None = None
        """Makes the observations of the wanted checks in threads."""

    def result(self, check: Check, listener: Listener | None) -> CheckResult:
        """Return the result of the check on the listener (``None``: on the whole target).

        A cause is looked for among the selected checks, which are judged for it if they were not yet.

        Raises:
            RunEndedError: after the end of the observer, if a fact is not recorded.
        """
        return self._accepted(self._judged(check, listener))

    def _accepted(self, judged: CheckResult, above: tuple[Ancestor, ...] = ()) -> CheckResult:
        """Return a result with its waiver and its cause.

        A waiver accepts a fault, and with it what follows from that fault alone.

        Args:
            judged: the result by itself.
            above: the results for which it is looked at: checks may name each other as causes.
        """
        result, place = waive(judged, self._waivers, self._today), Ancestor(judged.check, judged.listener)
        if result.outcome not in FOUND or place in above:
            return result
        waived: CheckResult | None = None
        for cause in causes_of(result, self.observer.target.listeners, self._judged_at):
            fault = self._accepted(cause, (*above, place)) if self._waivers else cause
            if fault.outcome in FOUND:
                return with_values(result, cause=Ancestor(fault.check, fault.listener))
            waived = waived or fault
        if waived is None:
            return result
        why = waived.why
        if waived.cause is None:
            why = why.after(f"follows from {waived.check} on {waived.listener}: ")
        follows = waived.cause or Ancestor(waived.check, waived.listener)
        return with_values(result, outcome=Outcome.WAIVED, why=why, cause=follows)

    def _judged_at(self, id_: str, label: str) -> CheckResult | None:
        """Return the result of a selected check by itself; ``None`` if it is not selected, or not run."""
        # What a grpc-proxy accepts is its own fault: a waiver for the gate is for that it is one.
        listener = self.observer.target.labelled(label)
        if id_ == GATES[1] and listener is not None and self._is_proxy(listener):
            return None
        if (check := self._selected.get((id_, label))) is not None:
            with suppress(RunEndedError):
                return self._judged(check, listener)
        return None

    def _judged(self, check: Check, listener: Listener | None) -> CheckResult:
        """Return the result by itself; what concerns all connections is judged after them."""
        if kept := self._results.get(place_of(check, listener)):
            return kept
        if self.observer.ended and comes_last(check):
            raise RunEndedError("not all connections were made")
        of_all = listener is None and not {need.type for need in check.needs.values()} <= _WITHOUT_ETCD
        if self.collector is not None and (of_all or comes_last(check)):
            self.collector.wait()
        if any(need.type is Rehearsals for need in check.needs.values()):
            self._rehearse()
        # A check that waits for an experiment makes no connection meanwhile.
        waits = self.observer.ended or any(is_of_experiment(need.type) for need in check.needs.values())
        with nullcontext() if waits else self.observer.work_lock.shared():
            return self._kept(check, listener)

    def _rehearse(self) -> None:
        """Record what a rehearsal of the next restart finds, after all that it is compared with."""
        place, recording = (None, Rehearsals, None), self.observer.recording
        if not self.observer.target.rehearses or place in recording or self.observer.ended:
            return
        if self.collector is not None:
            self.collector.wait()
        from pytest_etcdtls.run.rehearsal import rehearse  # most runs rehearse nothing

        try:
            recording.add(place, rehearse(self.observer), reported=True)
        except NotVerifiedError as unverified:
            recording.add(place, unverified, reported=True)

    def _kept(self, check: Check, listener: Listener | None) -> CheckResult:
        """Return the result by itself, made once."""
        key = place_of(check, listener)
        if key in self._results:
            return self._results[key]
        # Threads that make observations ahead judge gates too.
        with self._alone(key[1]) if check.id in GATES else nullcontext():
            if key not in self._results:
                subject = Subject.of(check, self.observer.target, key[1], listener, self.profiles)
                result = self._judge(subject)
                if is_abandoned():  # it lacks connections
                    return result
                self._results[key] = result
            return self._results[key]

    @contextmanager
    def _alone(self, label: str) -> Iterator[None]:
        """Judge a gate of the listener in no other thread meanwhile."""
        gate = self._gates[label]
        if not gate.acquire(blocking=not self.observer.ended):
            raise RunEndedError("the run was interrupted")
        try:
            yield
        finally:
            gate.release()

    def abandon(self) -> None:
        """Make no further connection ahead of a check."""
        if self.collector is not None:
            self.collector.abandon()

    def passes(self, check: Check, listener: Listener) -> bool:
        """Return whether the listener passes the gates of a check that is none."""
        return self._gated_by(GATES, check, listener) is None

    def _is_proxy(self, listener: Listener) -> bool:
        """Return whether the gate has found etcd's grpc-proxy, which serves clients and metrics."""
        if listener.role is Role.PEER:
            return False
        other = self.observer.recording.known(OtherPort, label=listener.label)
        return other is not None and other.is_proxy

    def needs_etcd(self, check: Check) -> bool:
        """Return whether the check cannot be judged because etcd does not start."""
        target = self.observer.target
        known = _WITHOUT_ETCD if target.declared else frozenset()
        return not target.runs and not {need.type for need in check.needs.values()} <= known

    def collect(self) -> None:
        """Make the observations of the selected checks in threads, from now on.

        Left to their checks are the observations of gates, of connections that were made before, and of
        experiments. Nothing is collected of an etcd that does not start.
        """
        ahead: defaultdict[str, list[Check]] = defaultdict(list)
        for (_, label), check in self._selected.items():
            if check.id not in GATES and not comes_last(check) and not self.needs_etcd(check):
                ahead[label].append(check)
        listeners = self.observer.target.listeners
        wanted = [(listener, ahead[listener.label]) for listener in listeners if listener.label in ahead]
        self.collector = collect(self.observer, self.passes, wanted)

    def _judge(self, subject: Subject) -> CheckResult:
        started = time.monotonic()
        outcome, reason, findings = self._gated(subject.check, subject.listener) or self._run(subject)
        if findings:
            shell = Shell(self.observer.target, self._identity, tuple(os.environ), os.path.exists)
            findings = tuple(replace(one, reproduce=shell.texts(one.reproduce)) for one in findings)
        if subject.check.judges_proxies and subject.listener and self._is_proxy(subject.listener):
            # Warnings of several listeners are one line.
            if outcome is Outcome.VIOLATES:
                findings = tuple(
                    replace(one, message=f"etcd's grpc-proxy: {one.message}") for one in findings
                )
            elif outcome is Outcome.CONFORMS:
                reason = reason or "judged on etcd's grpc-proxy"
        if outcome is Outcome.INCONCLUSIVE and subject.listener:
            lacks = not Reason.of(reason).every_option  # a connection, for which nothing can be passed
            reason = self.observer.why_closed.get(subject.label, reason) if lacks else reason
        cured, findings = self._remedied(subject, findings)
        return subject.with_outcome(outcome, reason, findings, cured, round(time.monotonic() - started, 6))

    def _remedied(
        self, subject: Subject, findings: tuple[Finding, ...]
    ) -> tuple[Remedy, tuple[Finding, ...]]:
        """Return what to change in the declarations, and the findings with their remediations and places."""
        target, listener = self.observer.target, subject.listener
        if findings and listener and self._is_proxy(listener):
            return Remedy(remarks=(_FLAGS_OF_PROXY,) if subject.check.judges_proxies else ()), findings
        if not findings or not target.declared or not target.configured_by_user:
            return Remedy(), findings
        try:
            return remedied(subject.check.cure, findings, self.observer.recording, listener)
        except Exception as error:  # a file of the user's, which costs no result
            return Remedy(remarks=(f"no setting could be proposed: {error_text(error)}",)), findings

    def _identity(self, listener: Listener, name: str) -> Identity | None:
        """Return the identity of that name that was presented to the listener."""
        recording, label = self.observer.recording, listener.label
        good = recording.known(GoodIdentities, label=label)
        if name == GOOD_CLIENT:
            served = recording.known(ServedClient, label=label)
            accepted = recording.known(AcceptedClient, label=label)
            client = (accepted.accepted if accepted else None) or (served.client if served else None)
            name = client.identity if client else name
        for identity in (NO_CERTIFICATE, *(good.identities if good else ())):
            if identity.name == name:
                return identity
        bad = (client.identity for client in recording.known_of(ClientIdentity, label))
        return next((identity for identity in bad if identity.name == name), None)

    def _gated(self, check: Check, listener: Listener | None) -> Conclusion | None:
        """Return not-verified if a gate before this check did not pass, else ``None``."""
        target = self.observer.target
        if self.needs_etcd(check):
            return Outcome.NOT_VERIFIED, see_start(target), ()
        is_ours = listener is None or (
            listener.scheme == "https" and target.credentials(listener.role).served
        )
        if target.generated and check.family == "cert" and is_ours:
            return Outcome.NOT_VERIFIED, target.generated, ()
        if listener is None:
            return None
        gates = GATES[: GATES.index(check.id)] if check.id in GATES else GATES
        return self._gated_by(gates, check, listener)

    def _gated_by(self, gates: Iterable[str], check: Check, listener: Listener) -> Conclusion | None:
        for gate in gates:
            if listener.role not in catalogue()[gate].roles:
                continue
            result = self._kept(catalogue()[gate], listener)
            # What was observed before the observer gave up the listener is judged. What needs another
            # connection is not verified.
            outcome = self._outcome_at_end.get((gate, listener.label), result.outcome)
            if gate == GATES[1] and check.judges_proxies and self._is_proxy(listener):
                continue
            if outcome in FAILED:
                own = Reason.of(result.findings[0].message) if result.findings else result.why
                return Outcome.NOT_VERIFIED, Reason.gated(gate, result.outcome, own), ()
        return None

    def _run(self, subject: Subject) -> Conclusion:
        outcome, reason, findings = self._concluded(subject)
        stopped = frozenset(self.observer.given_up) - self._reported
        if self.collector is not None:
            # Threads may be at another listener.
            stopped &= {subject.label} if subject.listener and not findings else frozenset()
        self._reported |= stopped
        if subject.check.id not in GATES:
            stopped = frozenset(filter(self._answered_first, stopped))
        if not findings and stopped:
            # This check fails the run: those after it are only not verified.
            self._outcome_at_end[subject.check.id, subject.label] = outcome
            whys = [self.observer.given_up[label] for label in sorted(stopped)]
            own = Reason.of(reason).each() if reason else ()
            return Outcome.INCONCLUSIVE, Reason.together([*own, *whys]), ()
        return outcome, reason, findings

    def _answered_first(self, label: str) -> bool:
        """Return whether the listener of that label answered; if it never did, that is its gate's result."""
        listener = self.observer.target.labelled(label)
        return listener is not None and self._kept(catalogue()[GATES[0]], listener).outcome not in FAILED

    def _concluded(self, subject: Subject) -> Conclusion:
        check, listener = subject.check, subject.listener
        try:
            observer = self.observer
            observations = check.arguments(
                observer.target, listener, lambda need: observer.read(need, listener)
            )
            conclusion = self._fold(subject, list(check.function(**observations)))
            if conclusion[0] is Outcome.CONFORMS and listener and (why := self._no_evidence(listener)):
                return Outcome.NOT_VERIFIED, why, ()
            return conclusion
        except UnobservedError as unobserved:
            return _UNOBSERVED[type(unobserved)], unobserved.why, ()
        except RunEndedError:
            raise
        except Exception as error:
            if blocked := blocked_sockets(error):
                return Outcome.INCONCLUSIVE, blocked, ()
            where = traceback.extract_tb(error.__traceback__)[-1]
            text = f"{type(error).__name__}: {error} ({where.name}, line {where.lineno} of {where.filename})"
            begin = f"the check {check.id} itself failed, a fault of its code and not of the cluster"
            return Outcome.BROKEN, Reason(begin, ending=f": {text}"), ()

    def _no_evidence(self, listener: Listener) -> Reason | str:
        """Return why nothing can conform on a listener, empty if there is evidence of its server.

        Evidence is a handshake in which the server proved that it holds the key of its certificate, even if
        it then refused the client; on an ``http`` URL, an answer to plain HTTP. At a discovered address the
        server must also have a certificate that is trusted.
        """
        if listener.discovered:
            try:
                self.observer.get(ServerProof, None, listener)
            except UnobservedError as unverified:
                return unverified.why
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
        ending = f", so there is no evidence: {attempts}"
        return Reason(f"no TLS handshake with {listener.url} succeeded", ending=ending)

    def _fold(self, subject: Subject, statements: Iterable[Statement]) -> Conclusion:
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
        if findings and subject.moved is Strength.NOTE:
            messages = "; ".join(finding.message for finding in findings)
            notes.insert(0, f"{messages}: a note by {', '.join(subject.sections)}")
            findings = []
        if findings:
            failed = subject.level_of(findings) is Level.MUST or self.strict
            return Outcome.VIOLATES if failed else Outcome.WARNS, "; ".join(notes), tuple(findings)
        for outcome in _WORST_FIRST:
            if reasons := [statement.why for statement in undecided if statement.outcome is outcome]:
                return outcome, Reason.together(reasons), ()
        return Outcome.CONFORMS, "; ".join(dict.fromkeys(notes)), ()


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
        profiles: from :func:`pytest_etcdtls.profiles.profiles.read_profiles`.

    Raises:
        UsageError: if a pattern matches nothing.
    """
    observer.name_members()
    patterns = [check for check in checks or () if isinstance(check, str)]
    chosen = [check for check in checks or () if isinstance(check, Check)]
    if patterns or checks is None:
        chosen += [check for check in select(patterns, named_by="run_checks") if check not in chosen]
    places = [(check, listener) for check in chosen for listener in subjects(check, observer.target)]
    selected = {place_of(check, listener): check for check, listener in places}
    judge = Judge(observer, strict=strict, profiles=profiles, selected=selected)
    judge.collect()
    try:
        return [judge.result(check, listener) for check, listener in places]
    finally:
        judge.abandon()


_LAST: Final = frozenset({BrokenConnections, EtcdLogs, Rehearsals})
"""Observations of the connections that were made before."""


def comes_last(check: Check) -> bool:
    """Return whether a check needs an experiment, or an observation of the connections made before."""
    needs = [
        one for one in check.needs.values() if one.type is not Rehearsals or one.reading is Reading.NEEDED
    ]
    return any(need.type in _LAST or is_of_experiment(need.type) for need in needs)


_WITHOUT_ETCD = frozenset({Declarations, DeclaredFiles, Policy, Rehearsals, TrustedFiles})
"""Observations of a declaration with which etcd does not start. Without one, only the start is known."""

_DECLARED = frozenset({Declarations, DeclaredFiles, DeclaredLeaf, ListenerDeclaration, TrustedFiles})
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
    needs = {need.type for need in check.needs.values() if need.reading is Reading.NEEDED}
    if target.unjudged:
        return "" if check.id == STARTS else f"nothing is known of {target.label}: see {STARTS}"
    if target.live and not target.declared and needs & _DECLARED:
        return "there is no declaration: pass --etcd-config, or on the node --etcd-pid"
    if ProcessComparisons in needs and not any(each.written for each in target.running.values()):
        return "compares a declaration with a process: pass --etcd-pid and --etcd-config"
    if not target.rehearses and Rehearsals in needs:
        return "no restart is rehearsed: pass --etcd-rehearse with --etcd-pid"
    if target.live and check.family == "lifecycle":
        return "needs an etcd that the run starts"
    if target.live and not target.discover and needs & _SEARCHED:
        return "members are not searched for: pass --etcd-discover"
    if target.live and check.id == STARTS:
        return "the run starts no etcd: pass --etcd-binary or --etcd-image"
    one_member = len({one.member for one in target.listeners}) < 2 and not has_unclear_members(target)
    if not target.discover and needs & _COMPARED and one_member:
        return "there is only one member to judge"
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
    return [one for one in target.listeners if one.role in check.roles] if check.roles else [None]


def checks_of(target: Target, checks: Iterable[Check]) -> Iterator[tuple[str, list[Check]]]:
    """Yield the label of each listener, last that of the whole target, with the checks that judge it."""
    judging = [check for check in checks if not left_out(check, target)]
    for listener in target.listeners:
        yield listener.label, [check for check in judging if listener.role in check.roles]
    yield CLUSTER, [check for check in judging if not check.roles]


def see_start(target: Target) -> Reason:
    """Return the reason of every check that needs an etcd that does not start."""
    return see(f"etcd {target.etcd_version} does not start", STARTS)
