"""One run: its targets, their clusters and observers, each made when it is first asked for, and once.

Shared by the suite and the fixtures of a process. Knows neither pytest nor how a result is shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property

from pytest_etcdtls.catalog import select, subjects
from pytest_etcdtls.cluster.backend import EtcdSource, start_cluster
from pytest_etcdtls.cluster.config import ClusterConfig
from pytest_etcdtls.cluster.discovery import Announce
from pytest_etcdtls.cluster.interface import Cluster
from pytest_etcdtls.errors import ClusterStartError, EtcdTLSError, UsageError
from pytest_etcdtls.observations.discovery import Discovery
from pytest_etcdtls.observer import Observer
from pytest_etcdtls.registry import CLUSTER, Check
from pytest_etcdtls.results import CheckResult, Outcome
from pytest_etcdtls.runner import GATES, Judge
from pytest_etcdtls.settings.model import Settings
from pytest_etcdtls.settings.owned import owned_outline, owned_sources
from pytest_etcdtls.target import Listener, Target, safe, unique
from pytest_etcdtls.waivers import waive

Start = Callable[[ClusterConfig, EtcdSource], Cluster]


class TargetRun:
    """One target of a run: a live one, or an owned one that is started when it is first needed.

    Args:
        outline: the target as far as it is known beforehand: labels and roles of its listeners.
        settings: of the run.
        start: starts a cluster.
        source: what to start it from; ``None`` for a live target.
        asks: a live cluster may be asked for its members, if it was said that it should be.

    Attributes:
        outline: of an owned target, and of a live one that was not asked for its members, what is known
            beforehand; else its listeners, whether they were named or found.
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

    @cached_property
    def cluster(self) -> Cluster:
        """The owned cluster, started now if it was not.

        Raises:
            ClusterStartError: if it does not start; it is not tried again.
            UsageError: if this etcd cannot express what was asked for.
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
        """The one observer of this target; an owned cluster is started for it, a live one asked who it is.

        Raises:
            ClusterStartError, UsageError: if that does not start.
        """
        target = self.outline
        if self.source is not None:
            target = replace(self.cluster.target(target.label), expiry_days=self.settings.expiry_days)
        observer = Observer(target, self.settings.bounds)
        if self.asks:
            with suppress(Exception):  # the check about the members asks again and says what is broken
                observer.discover()
            self.outline = observer.target
        return observer

    def discover(self) -> None:
        """Ask a live cluster for its members, if it should be and was not asked yet."""
        if self.asks:
            _ = self.observer

    @property
    def discovery(self) -> Discovery | None:
        """What came of asking for the members; ``None`` if they were not asked for, or asking broke."""
        facts = self.seen.facts if self.seen else ()
        return next((fact for _, _, fact in facts if isinstance(fact, Discovery)), None)

    @cached_property
    def judge(self) -> Judge:
        """The one judge of this target; verdicts, once reached, stand."""
        return Judge(self.observer, strict=self.settings.strict)

    @property
    def seen(self) -> Observer | None:
        """The observer if anything was observed, so that a report starts no cluster."""
        return self.__dict__.get("observer")

    def subjects(self, checks: Sequence[Check]) -> Iterator[tuple[str, list[Check]]]:
        """Yield every listener's label, last the word for the whole target, with the checks that judge it."""
        for listener in self.outline.listeners:
            yield listener.label, [check for check in checks if listener.role in check.roles]
        yield CLUSTER, [check for check in checks if subjects(check, self.outline) == [None]]

    def result(self, check: Check, label: str) -> CheckResult:
        """Return what the check comes to on the listener of that label, or on the whole target.

        A cluster that does not start is inconclusive once, at the first gate; the rest is not verified.
        """
        try:
            judge = self.judge
        except (ClusterStartError, UsageError) as error:
            if check.id == GATES[0]:
                return self.unjudged(check, label, Outcome.INCONCLUSIVE, str(error))
            return self.unjudged(check, label, Outcome.NOT_VERIFIED, "the owned cluster did not start")
        return judge.result(check, find_listener(judge.observer.target, label))

    def unjudged(self, check: Check, label: str, outcome: Outcome, reason: str) -> CheckResult:
        """Return a result that no judge came to."""
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
        settings: what the user asked for.
        announce: is told before something is fetched that takes a while.
        asks: a live cluster may be asked for its members.
        pulls: a missing image may be pulled.
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

    @cached_property
    def targets(self) -> tuple[TargetRun, ...]:
        """The live target if there is one, else the owned ones, none of them started.

        Raises:
            UsageError: if there is nothing to start an owned cluster from.
        """
        if self.settings.live is not None:
            return (TargetRun(self.settings.live, self.settings, self.start, asks=self._asks),)
        return self.owned

    @cached_property
    def owned(self) -> tuple[TargetRun, ...]:
        """The owned targets, also where a live one is judged; none of them started.

        Raises:
            UsageError: if there is nothing to start a cluster from.
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
        """Return what the check comes to there, waivers applied."""
        return waive(target.result(check, label), self.settings.waivers, self.started_at.date())

    def start(self, config: ClusterConfig, source: EtcdSource) -> Cluster:
        """Start a cluster that is stopped with the run at the latest.

        Raises:
            UsageError: if that etcd cannot express the configuration.
            ClusterStartError: if it does not start.
        """
        cluster = start_cluster(config, source, keep=self.settings.owned.keep)
        self._clusters.append(cluster)
        return cluster

    def farewells(self) -> list[str]:
        """Return how to talk to each cluster that is left standing."""
        return [cluster.farewell() for cluster in self._clusters if self.settings.owned.keep]

    def stop(self) -> None:
        """Stop every owned cluster, the last one first."""
        for cluster in reversed(self._clusters):
            cluster.stop()


def find_listener(target: Target, label: str) -> Listener | None:
    """Return the listener of that label, ``None`` for the whole target."""
    return next((listener for listener in target.listeners if listener.label == label), None)
