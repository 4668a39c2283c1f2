"""A run: its targets, and one result for each check and listener."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from pytest_etcdtls.catalog import catalogue, select, subjects
from pytest_etcdtls.cluster.cluster import Cluster, start_cluster
from pytest_etcdtls.cluster.config import ClusterConfig
from pytest_etcdtls.cluster.sources import Announce, EtcdSource
from pytest_etcdtls.errors import (
    ClusterStartError,
    EtcdTLSError,
    InconclusiveError,
    NotApplicableError,
    NotVerifiedError,
    RegistrationError,
    UnobservedError,
    UsageError,
)
from pytest_etcdtls.facts.access import AcceptedClient
from pytest_etcdtls.facts.certificates import ServerProof
from pytest_etcdtls.facts.discovery import Discovery
from pytest_etcdtls.facts.listener import FirstContact
from pytest_etcdtls.faults import FOUND, cause_of, with_causes
from pytest_etcdtls.observer import Observer
from pytest_etcdtls.registry import Check
from pytest_etcdtls.reproduce import GOOD_CLIENT, GOOD_PEER, with_files
from pytest_etcdtls.results import CannotJudge, CheckResult, Finding, Level, Note, Outcome, Statement
from pytest_etcdtls.role import CLUSTER, Role
from pytest_etcdtls.settings.read import Settings, owned_outline, owned_sources
from pytest_etcdtls.target import Listener, Target, safe, unique
from pytest_etcdtls.waivers import waive

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
        results: where the results are kept, by check id and label of the listener (default: in a new one).
    """

    def __init__(
        self, observer: Observer, *, strict: bool = False, results: KeptResults | None = None
    ) -> None:
        self.observer = observer
        self.strict = strict
        self._results: KeptResults = {} if results is None else results

    def result(self, check: Check, listener: Listener | None) -> CheckResult:
        """Return the result of the check on the listener (``None``: on the whole target)."""
        key = (check.id, listener.label if listener else CLUSTER)
        if key not in self._results:
            self._results[key] = self._judge(check, listener)
        return self._results[key]

    def _judge(self, check: Check, listener: Listener | None) -> CheckResult:
        started = time.monotonic()
        outcome, reason, findings = self._gated(check, listener) or self._run(check, listener)
        findings = tuple(self._with_files(finding) for finding in findings)
        role = listener.role if listener else None
        return CheckResult(
            check=check.id,
            level=_level(check, role, findings),
            severity=check.severity,
            target=self.observer.target.label,
            listener=listener.label if listener else CLUSTER,
            role=role or CLUSTER,
            url=listener.url if listener else _first_url(self.observer),
            outcome=outcome,
            reason=reason,
            findings=findings,
            remediation=_remediation(check, role, findings),
            references=check.sources(role),
            seconds=round(time.monotonic() - started, 6),
        )

    def _with_files(self, finding: Finding) -> Finding:
        """Insert the files of the client that a listener accepts into the commands for that listener."""
        return replace(finding, reproduce=tuple(map(self._filled_in, finding.reproduce)))

    def _filled_in(self, line: str) -> str:
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
        if listener is None:
            return None
        gates = GATES[: GATES.index(check.id)] if check.id in GATES else GATES
        for gate in gates:
            if listener.role not in catalogue()[gate].roles:
                continue
            result = self.result(catalogue()[gate], listener)
            if result.outcome in (Outcome.VIOLATES, Outcome.INCONCLUSIVE, Outcome.BROKEN):
                said = result.findings[0].message if result.findings else result.reason
                return Outcome.NOT_VERIFIED, f"{gate} {result.outcome}: {said}", ()
        return None

    def _run(self, check: Check, listener: Listener | None) -> tuple[Outcome, str, tuple[Finding, ...]]:
        before = self.observer.given_up
        outcome, reason, findings = self._concluded(check, listener)
        if not findings and (stopped := self.observer.given_up - before):
            # Somebody has to say it: the checks after this one are not verified, which alone fails no run.
            why = "; ".join(self.observer.why_given_up(label) for label in sorted(stopped))
            return Outcome.INCONCLUSIVE, f"{reason}; {why}" if reason else why, ()
        return outcome, reason, findings

    def _concluded(self, check: Check, listener: Listener | None) -> tuple[Outcome, str, tuple[Finding, ...]]:
        try:
            observations = self.observations(check, listener)
            concluded = self._fold(check, listener, list(check.function(**observations)))
            if concluded[0] is Outcome.CONFORMS and listener and (why := self._no_evidence(listener)):
                return Outcome.NOT_VERIFIED, why, ()
            return concluded
        except UnobservedError as unobserved:
            return _UNOBSERVED[type(unobserved)], unobserved.reason, ()
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            text = f"{type(error).__name__}: {error} ({where.name}, line {where.lineno} of {where.filename})"
            return (
                Outcome.BROKEN,
                f"the check {check.id} itself failed, a fault of its code and not of the cluster: {text}",
                (),
            )

    def _no_evidence(self, listener: Listener) -> str:
        """Return why nothing can conform on a listener, empty if there is evidence of what serves there.

        Evidence is a handshake in which the server proved that it holds the key of its certificate, even if
        it then refused the client; on an ``http`` URL, an answer to plain HTTP. At a discovered address the
        server must have proved who it is as well.
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
        seen = "; ".join(dict.fromkeys(attempt.describe() for attempt in contact.tls))
        return f"no TLS handshake with {listener.url} succeeded, so there is no evidence: {seen}"

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
        verdicts: list[CannotJudge] = []
        notes: list[str] = []
        for statement in statements:
            match statement:
                case Finding():
                    findings.append(statement)
                case CannotJudge():
                    verdicts.append(statement)
                case Note():
                    notes.append(statement.text)
        if findings:
            level = _level(check, listener.role if listener else None, findings)
            failed = level is Level.MUST or self.strict
            return Outcome.VIOLATES if failed else Outcome.WARNS, "; ".join(notes), tuple(findings)
        for outcome in _WORST_FIRST:
            reasons = dict.fromkeys(verdict.reason for verdict in verdicts if verdict.outcome is outcome)
            if reasons:
                return outcome, "; ".join(reasons), ()
        return Outcome.CONFORMS, "; ".join(dict.fromkeys(notes)), ()


def _level(check: Check, role: Role | None, findings: Sequence[Finding]) -> Level:
    """Return the strictest level of the findings; without findings, the check's level on that role."""
    level = check.level_on(role)
    lowered = [finding for finding in findings if finding.level is Level.SHOULD]
    if lowered and level is Level.MUST and not check.lowers:
        raise RegistrationError(f"a finding is SHOULD, and the docstring does not announce it: {lowered[0]}")
    return Level.SHOULD if lowered and len(lowered) == len(findings) else level


def _remediation(check: Check, role: Role | None, findings: Sequence[Finding]) -> str:
    """Return the remediation of the findings, each text once."""
    return "; ".join(dict.fromkeys(check.remedy(role, finding.remediation) for finding in findings))


def run_checks(
    observer: Observer, checks: Sequence[Check] | None = None, *, strict: bool = False
) -> list[CheckResult]:
    """Judge a target with the given checks (default: the whole catalogue) and return every result.

    Args:
        observer: made for the target.
        checks: from :func:`pytest_etcdtls.catalog.select`.
        strict: as ``--etcd-strict``.
    """
    judge = Judge(observer, strict=strict)
    chosen = select() if checks is None else checks
    results = [
        judge.result(check, listener) for check in chosen for listener in subjects(check, observer.target)
    ]
    return with_causes(results, {check.id: check for check in chosen})


def _first_url(observer: Observer) -> str:
    listeners = observer.target.listeners
    chosen = next((listener for listener in listeners if listener.role is Role.CLIENT), None)
    return (chosen or listeners[0]).url


Start = Callable[[ClusterConfig, EtcdSource], Cluster]


class TargetRun:
    """One target of a run: a live cluster, or an owned cluster that is started when it is first needed.

    Args:
        outline: the target as known before it is observed: labels and roles of its listeners.
        settings: of the run.
        start: starts a cluster.
        source: the etcd to start; ``None`` for a live target.
        asks: a live cluster may be asked for its members, if discovery is requested.

    Attributes:
        outline: for an owned target, and for a live one that was not asked for its members, the target as
            known before; else with its listeners, both named and discovered.
    """

    def __init__(
        self,
        outline: Target,
        settings: Settings,
        start: Start,
        source: EtcdSource | None = None,
        *,
        asks: bool = True,
    ) -> None:
        self.outline = outline
        self.source = source
        self.asks = asks and outline.discover
        self.settings = settings
        self._start = start
        self._failure: EtcdTLSError | None = None
        self._results: KeptResults = {}

    @property
    def live(self) -> bool:
        """Whether it is a live cluster."""
        return self.outline.live

    @cached_property
    def cluster(self) -> Cluster:
        """The owned cluster; started if it is not running yet.

        Raises:
            ClusterStartError: if it does not start; the start is not repeated.
            UsageError: if this etcd does not support the requested configuration.
            TypeError: for a live target.
        """
        if self.source is None:
            raise TypeError(f"target {self.outline.label} is not ours")
        if self._failure is not None:
            raise self._failure
        try:
            return self._start(self.settings.owned.config, self.source)
        except (ClusterStartError, UsageError) as error:
            self._failure = error
            raise

    @cached_property
    def observer(self) -> Observer:
        """The observer of this target; an owned cluster is started, a live one is asked for its members.

        Raises:
            ClusterStartError, UsageError: if the owned cluster does not start.
        """
        target = self.outline
        if self.source is not None:
            target = replace(self.cluster.target(target.label), expiry_days=self.settings.expiry_days)
        observer = Observer(target, self.settings.bounds)
        if self.asks:
            with suppress(Exception):  # the check about the members asks again and reports the error
                observer.discover()
            self.outline = observer.target
        return observer

    def discover(self) -> None:
        """Ask a live cluster for its members, if it should be and was not asked yet."""
        if self.asks:
            _ = self.observer

    @property
    def discovery(self) -> Discovery | None:
        """The result of discovery; ``None`` if it was not requested, or failed."""
        return self.seen.known(Discovery) if self.seen else None

    @cached_property
    def judge(self) -> Judge:
        """The judge of this target."""
        return Judge(self.observer, strict=self.settings.strict, results=self._results)

    @property
    def seen(self) -> Observer | None:
        """The observer if it was used, else ``None``, so that a report does not start a cluster."""
        return self.__dict__.get("observer")

    def subjects(self, checks: Sequence[Check]) -> Iterator[tuple[str, list[Check]]]:
        """Yield the label of each listener, last that of the whole target, with the checks that judge it."""
        for listener in self.outline.listeners:
            yield listener.label, [check for check in checks if listener.role in check.roles]
        yield CLUSTER, [check for check in checks if subjects(check, self.outline) == [None]]

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
        return judge.result(check, find_listener(judge.observer.target, label))

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
        asks: a live cluster may be asked for its members.
        pulls: a missing image may be pulled.

    Attributes:
        selected: target, listener and check of the items that are run; ``None`` for all. A violation follows
            only from one of these.
    """

    def __init__(
        self, settings: Settings, announce: Announce | None = None, *, asks: bool = True, pulls: bool = True
    ) -> None:
        self.settings = settings
        self._pulls = pulls
        self._asks = asks
        self._announce = announce
        self._clusters: list[Cluster] = []
        self.started_at = datetime.now(UTC)
        self.selected: frozenset[tuple[str, str, str]] | None = None

    @cached_property
    def targets(self) -> tuple[TargetRun, ...]:
        """The live target if there is one, else the owned targets, not started.

        Raises:
            UsageError: if there is no etcd to start an owned cluster from.
        """
        if self.settings.live is not None:
            return (TargetRun(self.settings.live, self.settings, self.start, asks=self._asks),)
        return self.owned

    @cached_property
    def owned(self) -> tuple[TargetRun, ...]:
        """The owned targets, not started, also if a live target is judged.

        Raises:
            UsageError: if there is no etcd to start a cluster from.
        """
        runs: list[TargetRun] = []
        for source in owned_sources(self.settings.owned, self._announce, pulls=self._pulls):
            label = unique(f"etcd-{safe(source.version)}", [run.outline.label for run in runs])
            outline = owned_outline(label, source, self.settings)
            runs.append(TargetRun(outline, self.settings, self.start, source))
        return tuple(runs)

    @cached_property
    def checks(self) -> list[Check]:
        """The selected checks, in order of id.

        Raises:
            UsageError: if a pattern matches nothing.
        """
        return select(self.settings.patterns)

    def discover(self) -> None:
        """Ask a live cluster for its members, if it should be and was not asked yet."""
        for target in self.targets:
            target.discover()

    def result(self, target: TargetRun, check: Check, label: str) -> CheckResult:
        """Return the result of the check on that subject, with waivers applied, and its cause.

        A cause is looked for among the selected checks, which are judged for it if they were not yet.
        """
        result = self._waived(target, check, label)
        if result.outcome not in FOUND or not check.follows:
            return result
        observer = target.seen
        known = observer.target if observer else target.outline

        def lookup(id_: str, place: str) -> CheckResult | None:
            ancestor = self._by_id[id_]
            listener = find_listener(known, place)
            judged = listener.role in ancestor.roles if listener else not ancestor.roles
            if not judged or (
                self.selected is not None and (target.outline.label, place, id_) not in self.selected
            ):
                return None
            return self._waived(target, ancestor, place)

        labels = [listener.label for listener in known.listeners]
        return replace(result, cause=cause_of(result, self._by_id, labels, lookup))

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
        cluster = start_cluster(config, source, keep=self.settings.owned.keep)
        self._clusters.append(cluster)
        return cluster

    def keep_messages(self) -> list[str]:
        """Return for each cluster that is kept the message how to connect to it."""
        return [cluster.keep_message() for cluster in self._clusters if self.settings.owned.keep]

    def stop(self) -> None:
        """Stop every owned cluster, the last one first."""
        for cluster in reversed(self._clusters):
            cluster.stop()


def find_listener(target: Target, label: str) -> Listener | None:
    """Return the listener of that label, ``None`` for the whole target."""
    return next((listener for listener in target.listeners if listener.label == label), None)
