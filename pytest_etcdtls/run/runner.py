"""A run: its targets, the selected checks and their results."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Final

from pytest_etcdtls.checks.registry import FOUND, Check, catalogue, select
from pytest_etcdtls.checks.results import CheckResult, Outcome
from pytest_etcdtls.errors import (
    ClusterStartError,
    EtcdFailedError,
    EtcdTLSError,
    Reason,
    RunEndedError,
    UnobservedError,
    UsageError,
)
from pytest_etcdtls.etcd.clocks import moved_clock
from pytest_etcdtls.facts.discovery import Discovery
from pytest_etcdtls.facts.etcd_log import EtcdLogs
from pytest_etcdtls.facts.experiments import is_of_experiment
from pytest_etcdtls.facts.listener import FirstContact, ServedChain
from pytest_etcdtls.facts.recording import Recording
from pytest_etcdtls.profiles.profiles import FAILED
from pytest_etcdtls.profiles.waivers import Review, review
from pytest_etcdtls.role import CLUSTER
from pytest_etcdtls.run.etcds import Etcds
from pytest_etcdtls.run.judge import (
    STARTS,
    Judge,
    Place,
    Subject,
    checks_of,
    left_out_of,
    see_start,
)
from pytest_etcdtls.run.observer import Observer
from pytest_etcdtls.settings.read import Settings
from pytest_etcdtls.target import StartFailure, Target
from pytest_etcdtls.tls.hello import Connection
from pytest_etcdtls.untrusted.printable import some

if TYPE_CHECKING:
    # A run on a live cluster starts none.
    from pytest_etcdtls.etcd.cluster import Cluster
    from pytest_etcdtls.etcd.replay import ReplayedEtcd
    from pytest_etcdtls.etcd.sources import EtcdSource
    from pytest_etcdtls.run.workers import Pool

    Etcd = Cluster | ReplayedEtcd

_AWAITED = 3
"""Maximum number of listeners that are named as awaited."""
_OK, _FAILED, _NO_TESTS = 0, 1, 5
ENDED_WELL: Final = (_OK, _FAILED, _NO_TESTS)
"""pytest's exit codes (``pytest.ExitCode``) of a run that was not cut short."""

_SECONDS_AT_END: Final = 10.0
"""Longest time for judging after an interruption, since somebody waits for it."""


class TargetRun:
    """One target of a run. An etcd that the run starts for it is started when it is first needed.

    Args:
        outline: the target as known before it is observed: labels and roles of its listeners.
        settings: of the run.
        source: the etcd to start; ``None`` for a live target, and for the cluster of a user's fixture.
        start: starts it.
        discovers: the members of a live cluster may be requested, if discovery is.
        cluster: the owned cluster, if a user's fixture starts and stops it.

    Attributes:
        handed_out: a user's test has used the owned cluster since it was last compared.
        outline: the target that is observed, once it is.
        selected: the checks that judge it; empty if that is not known.
        results: what items and reports show, made once, also if the etcd is replaced afterwards.
    """

    def __init__(
        self,
        outline: Target,
        settings: Settings,
        source: EtcdSource | None = None,
        start: Callable[[EtcdSource], Etcd] | None = None,
        *,
        discovers: bool = True,
        cluster: Cluster | None = None,
    ) -> None:
        self.source = source
        self.discovers = discovers and outline.discover
        self.settings = settings
        self._start = start
        self._given = outline
        self._failure: EtcdTLSError | None = None
        self.results: dict[Place, CheckResult] = {}
        self._kept: dict[Place, CheckResult] = {}
        self._experiments: Pool | None = None
        self._experimenting = False
        self._has_told = False
        self._starting = False
        self._ended = False
        self.selected: dict[Place, Check] = {}
        self._etcd: Etcd | None = cluster
        self._connections: list[Connection] = []
        self._observers: list[Observer] = []
        self.handed_out = False

    @property
    def outline(self) -> Target:
        """The target as it is known: from the start what was given, later with what was found of it."""
        return self._observers[-1].target if self._observers else self._given

    @property
    def etcd(self) -> Etcd | None:
        """The etcd of this target; started if it is not running yet, ``None`` if it is not ours.

        Raises:
            ClusterStartError: if it does not start; the start is not repeated.
            UsageError: if this etcd does not support the requested configuration.
        """
        if self._etcd is None and self.source is not None and self._start is not None:
            if self._failure is not None:
                raise self._failure.with_traceback(None)  # else its traceback grows with each item
            self._starting = True
            try:
                self._etcd = self._start(self.source)
            except (ClusterStartError, UsageError) as error:
                # One of a test that has moved the clock of this process says nothing about the next test.
                self._failure = None if moved_clock() else error
                raise
            finally:
                self._starting = False
        return self._etcd

    @property
    def cluster(self) -> Cluster:
        """The owned cluster; started if it is not running yet.

        Raises:
            ClusterStartError, UsageError: as :attr:`etcd`.
            TypeError: for a target that is no owned cluster.
        """
        from pytest_etcdtls.etcd.cluster import Cluster

        if isinstance(etcd := self.etcd, Cluster):
            return etcd
        raise TypeError(f"target {self.outline.label} is not a cluster that the run starts")

    def _target(self) -> Target:
        """Return the target to observe, also if its etcd ended or does not serve its clients.

        Raises:
            ClusterStartError, UsageError: if it cannot be tried.
        """
        try:
            etcd = self.etcd if self.source is not None else None
            return self.outline if etcd is None else self.settings.on(etcd.target(self.outline.label))
        except EtcdFailedError as error:
            return replace(self.outline, failure=error.failure)

    @property
    def is_owned(self) -> bool:
        """Whether it is an owned cluster, whose files and administrator are known, started or not."""
        return self.outline.replay is None and (self.source is not None or self._etcd is not None)

    def judges(self, target: Target) -> bool:
        """Return whether it is this target, as it was given or with the members that were found."""
        return target is self._given or (self.seen is not None and self.seen.target is target)

    def has(self, cluster: Cluster) -> bool:
        """Return whether this is the target's cluster."""
        return cluster is self._etcd

    def replace_damaged(self) -> str:
        """Stop the owned cluster if it differs from what was started; the next request starts another.

        Its results are dropped, since it may have been damaged before they were made. Its connections stay.

        Returns:
            How it differed, empty if it did not.
        """
        self.handed_out = False
        if self._etcd is None or self.source is None or not (why := self.cluster.difference()):
            return ""
        self.end_experiments()
        self._etcd.stop()
        self._etcd = None
        self._kept.clear()
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
            ClusterStartError, UsageError: if the owned cluster cannot be started, which is not about etcd.
        """
        observer = Observer(self._target(), self.settings.bounds)
        observer.recording.connections = self._connections
        self._observers.append(observer)
        with suppress(Exception):  # the check about the members discovers again and reports the error
            if self.discovers:
                observer.discover()
            else:
                observer.name_members()
        return observer

    def ended(self) -> str:
        """Return why this etcd does not run any more; empty if it runs, or if tests may have ended it."""
        return "" if self._etcd is None or self.handed_out else self._etcd.ended()

    @property
    def discovery(self) -> Discovery | None:
        """The result of discovery; ``None`` if it was not requested, or failed."""
        return self.seen.recording.known(Discovery) if self.seen else None

    @cached_property
    def judge(self) -> Judge:
        """The judge of this target."""
        settings = self.settings
        return Judge(
            self.observer,
            strict=settings.strict,
            profiles=settings.profiles,
            waivers=settings.waivers,
            today=settings.started_at.date(),
            selected=self.selected,
            results=self._kept,
        )

    @property
    def seen(self) -> Observer | None:
        """The observer if it was used, else ``None``, so that a report does not start a cluster."""
        return self.__dict__.get("observer")

    @property
    def awaited(self) -> str:
        """What its checks wait for now, in words; empty if nothing is known."""
        if self._starting:
            return f"waiting for {self.outline.label} to start"
        observer = self._observers[-1] if self._observers else None
        if observer is None:
            return ""
        urls = {listener.label: listener.url for listener in observer.target.listeners}
        waiting = [urls.get(label, label) for label, number in observer.open.copy().items() if number]
        if waiting:
            return f"waiting for {some(waiting, _AWAITED)}"
        return "waiting for experiments of the family lifecycle" if self._experiments else ""

    @property
    def connected(self) -> int:
        """The number of connections made."""
        return sum(observer.used.total() for observer in self._observers)

    @property
    def _reported(self) -> Observer | None:
        """The observer that a report shows: after a replacement, the one with most observations."""
        return max(self._observers, key=lambda observer: len(observer.facts), default=None)

    @property
    def recording(self) -> Recording:
        """What a report shows of the target."""
        observer = self._reported
        return observer.recording.until_now() if observer else Recording(target=self.outline)

    def complete(self) -> None:
        """Make the observations that a report shows and no check may have needed."""
        if (observer := self._reported) is None:
            return
        for listener in observer.target.listeners:
            if observer.recording.known(FirstContact, label=listener.label) is not None:
                with suppress(UnobservedError):  # from the first contact, without a connection
                    observer.get(ServedChain, listener=listener)
        if observer.connections:
            with suppress(UnobservedError):
                observer.get(EtcdLogs)  # at the end, when all our connections are known

    def result(self, check: Check, label: str) -> CheckResult:
        """Return the result of the check on the listener of that label, or on the whole target.

        It is made once and kept. If the cluster does not start, no check can be verified, and the first one
        is inconclusive, unless :data:`STARTS` is selected and fails the run.
        """
        kept = self._kept.get((check.id, label))
        if kept and kept.outcome not in FOUND:
            return kept
        if self._ended:
            # What is recorded is judged without a connection.
            if self.seen is not None:
                with suppress(RunEndedError):
                    return self.judge.result(check, self.seen.target.labelled(label))
            return self.not_run(check, label)
        try:
            judge = self.judge
        except (ClusterStartError, UsageError) as error:
            return self._without_etcd(check, label, str(error))
        target = judge.observer.target
        if target.failure and judge.needs_etcd(check) and (STARTS, CLUSTER) not in self.selected:
            return self._without_etcd(check, label, _not_started(target, target.failure))
        if judge.collector is None and self.selected:
            judge.collect()
        self._experiment(judge)
        return judge.result(check, target.labelled(label))

    def final_result(self, check: Check, label: str) -> CheckResult:
        """Return the result that its item and the reports show."""
        place = check.id, label
        if (known := self.results.get(place)) is not None:
            return known
        result = self.result(check, label)
        if result.outcome is not Outcome.NOT_RUN:
            self.results[place] = result
        return result

    def _without_etcd(self, check: Check, label: str, why: str) -> CheckResult:
        """Keep and return the result of a check without an etcd. The first one fails the run."""
        if self._has_told:
            result = self.unjudged(check, label, Outcome.NOT_VERIFIED, see_start(self.outline))
        else:
            result = self.unjudged(check, label, Outcome.INCONCLUSIVE, why)
        self._has_told = True
        return self._kept.setdefault((check.id, label), result)

    def _experiment(self, judge: Judge) -> None:
        """Start the threads of the selected experiments with the first check."""
        if self._experimenting or not self.selected or self.settings.bounds.concurrency == 1:
            return
        self._experimenting = True
        needs = [
            (need.type, need.key)
            for check in self.selected.values()
            for need in check.needs.values()
            if is_of_experiment(need.type)
        ]
        if needs and judge.observer.target.runs:
            # Imported here: most runs make no experiments.
            from pytest_etcdtls.lifecycle.changes import settings_for
            from pytest_etcdtls.run.collector import experiment

            self._experiments = experiment(judge.observer, settings_for(judge.observer.target, needs))

    def abandon(self) -> None:
        """Make no further connection ahead of a check."""
        if self._experiments is not None:
            self._experiments.abandon()
        if self.seen is not None:
            self.judge.abandon()

    def end(self) -> None:
        """Make no further connection. From now on a check is judged only by recorded facts."""
        self._ended = True
        if self.seen is not None:
            self.seen.end()

    def stopped(self, check: Check, label: str, reason: str) -> CheckResult:
        """Return the result of a check that was stopped, which has no verdict unless it has one already."""
        unjudged = self.unjudged(check, label, Outcome.INCONCLUSIVE, reason)
        self._kept.setdefault((check.id, label), unjudged)
        return self.final_result(check, label)

    def not_run(self, check: Check, label: str) -> CheckResult:
        """Return the result of a check before which the run ended."""
        return self.unjudged(check, label, Outcome.NOT_RUN, "the run ended before this check")

    def unjudged(self, check: Check, label: str, outcome: Outcome, reason: Reason | str) -> CheckResult:
        """Return a result without running the check."""
        observer = self.seen
        target = observer.target if observer else self.outline
        subject = Subject.of(check, target, label, target.labelled(label), self.settings.profiles)
        return subject.with_outcome(outcome, reason)


Selected = tuple[TargetRun, Check, str]
"""A selected check: its target, the check, and the label of the listener."""


class Run:
    """All targets of a run, the checks that are selected, and their results.

    Args:
        settings: the user's options.
        etcds: those that it starts.
        discovers: the members of a live cluster may be requested.

    Attributes:
        selected: the checks that are selected, each on its listener.
    """

    def __init__(self, settings: Settings, etcds: Etcds | None = None, *, discovers: bool = True) -> None:
        self.settings = settings
        self.etcds = etcds or Etcds(settings.owned)
        self._discovers = discovers
        self.selected: Sequence[Selected] = ()

    @cached_property
    def targets(self) -> tuple[TargetRun, ...]:
        """What is judged: the live targets if there are some, else the replayed or owned ones, not started.

        Only here it matters where a target is from.

        Raises:
            UsageError: if there is no etcd to start an owned cluster from.
        """
        settings, plan = self.settings, self.settings.replay
        if settings.live:
            return tuple(
                TargetRun(settings.on(live), settings, discovers=self._discovers) for live in settings.live
            )
        if plan is None:
            return self.owned
        start = partial(self.etcds.start_replay, plan)
        return tuple(
            TargetRun(settings.on(plan.outline(label, source)), settings, source, start)
            for label, source in self.etcds.sources.items()
        )

    @cached_property
    def owned(self) -> tuple[TargetRun, ...]:
        """The owned targets, not started, also if a live target is judged.

        Raises:
            UsageError: if there is no etcd to start a cluster from.
        """
        return tuple(
            self.owned_target(label, source, self.settings) for label, source in self.etcds.sources.items()
        )

    def owned_target(self, label: str, source: EtcdSource, settings: Settings) -> TargetRun:
        """Return a target whose cluster is started from an etcd when it is first needed."""
        from pytest_etcdtls.etcd.member import outline_listeners

        outline = Target(
            label=label,
            origin=source.kind,
            listeners=outline_listeners(settings.owned.config),
            etcd_version=source.version,
            source=source.location,
        )
        start = partial(self.etcds.start, settings.owned.config)
        return TargetRun(settings.on(outline), settings, source, start)

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
        for target in self.targets if self.settings.live else ():
            if target.discovers:
                _ = target.observer

    @property
    def awaited(self) -> str:
        """What the checks of its targets wait for now, in words; empty if nothing is known."""
        return next(filter(None, (target.awaited for target in self.known_targets)), "")

    @property
    def connected(self) -> int:
        """The number of connections made so far."""
        return sum(target.connected for target in self.known_targets)

    def abandon(self) -> None:
        """Make no further connection ahead of a check."""
        for target in self.known_targets:
            target.abandon()

    def end(self) -> None:
        """Make no further connection. From now on a check is judged only by recorded facts."""
        self.abandon()
        for target in self.known_targets:
            target.end()

    def stop(self) -> None:
        """Stop every etcd that it started."""
        for target in self.known_targets:
            target.end_experiments()
        self.etcds.stop()

    def select(self, checks: Iterable[Selected]) -> None:
        """Record which checks are selected. A violation follows only from one of these."""
        self.selected = tuple(checks)
        selected = {(target, check.id, label) for target, check, label in self.selected}
        for target in {target for target, _, _ in self.selected}:
            target.selected |= {
                (check.id, label): check
                for label, checks in checks_of(target.outline, self.checks)
                for check in checks
                if (target, check.id, label) in selected
            }

    def judge(self, checks: Iterable[Selected]) -> None:
        """Judge all checks that are selected."""
        self.select(checks)
        for target, check, label in self.selected:
            target.final_result(check, label)

    def judge_failed_starts(self) -> None:
        """Add a result for each etcd that does not start or cannot be judged, even if it was not selected."""
        for target in self.targets:
            if target.outline.unjudged or (target.seen is not None and not target.seen.target.runs):
                target.final_result(catalogue()[STARTS], CLUSTER)

    def judge_recorded(self) -> None:
        """Judge what was selected and not run, where the facts are recorded, without a connection.

        Checks of the user are left out: the signal may have come because one of them does not end.
        """
        self.end()
        deadline = time.monotonic() + _SECONDS_AT_END
        for target, check, label in self.selected:
            if check.is_ours and time.monotonic() < deadline:
                target.final_result(check, label)

    @property
    def judged(self) -> list[CheckResult]:
        """The results that there are."""
        # Those of the known targets, since the targets of a run without an etcd cannot be asked for.
        return [result for target in self.known_targets for result in target.results.values()]

    @cached_property
    def results(self) -> tuple[CheckResult, ...]:
        """One result per selected check, in order of selection, once all are judged or the run has ended."""
        results = {
            (target, check.id, label): target.results.get((check.id, label)) or target.not_run(check, label)
            for target, check, label in self.selected
        }
        for target in self.known_targets:
            results |= {(target, *place): result for place, result in target.results.items()}
        return tuple(results.values())

    @property
    def failed(self) -> bool:
        """Whether a result fails the run."""
        return any(result.outcome in FAILED for result in self.judged)

    @property
    def reviewed(self) -> Review:
        """Which waivers were used, and which are stale."""
        return review(self.settings.waivers, self.judged, self.settings.started_at.date())

    @property
    def left_out(self) -> Counter[str]:
        """For each reason, how many results the options leave out."""
        return sum((left_out_of(self.checks, target.outline) for target in self.targets), Counter())

    def exit_status(self, status: int, problems: Sequence[str]) -> int:
        """Return pytest's exit code, corrected: our items are collected, and a problem fails the run."""
        if status == _NO_TESTS and self.judged:
            status = _FAILED if self.failed else _OK
        return _FAILED if problems and status in (_OK, _NO_TESTS) else status


def _not_started(target: Target, failure: StartFailure) -> str:
    """Return why etcd does not start, with the end of its log in the order in which it was written."""
    log = "\n".join(["; its log ends:", *reversed(failure.log)]) if failure.log else ""
    etcd = f"etcd {target.etcd_version} ({target.source})"
    return f"{failure.member} does not start: {failure.reason}; with {etcd}{log}"
