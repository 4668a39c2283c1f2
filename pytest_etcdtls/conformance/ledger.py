"""The ledger of a run: what was to be judged, what came of it, and what that means for the exit code.

Knows nothing of terminals and files.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pytest_etcdtls.catalog import catalogue
from pytest_etcdtls.conformance.nodes import CheckItem
from pytest_etcdtls.results import CheckResult, Outcome
from pytest_etcdtls.run import Run
from pytest_etcdtls.waivers import Review, review

VERDICTS = frozenset({Outcome.CONFORMS, Outcome.VIOLATES, Outcome.WARNS, Outcome.WAIVED})
"""Outcomes by which something is known of a listener."""

FAILING = frozenset({Outcome.VIOLATES, Outcome.INCONCLUSIVE, Outcome.BROKEN})
"""Outcomes that fail a run."""

_FAMILY = "mtls"


@dataclass(frozen=True, slots=True)
class Unverified:
    """A listener about which the run found nothing out; ``what`` says which checks came to no verdict."""

    target: str
    url: str
    what: str


class Ledger:
    """Keeps the selection and the results of a run.

    Args:
        run: the run.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self._selected: dict[str, CheckItem] = {}
        self._results: dict[str, CheckResult] = {}

    def select(self, items: Iterable[CheckItem]) -> None:
        """Note what is to be judged."""
        self._selected = {item.nodeid: item for item in items}

    def record(self, nodeid: str, result: CheckResult) -> None:
        """Note what an item came to; the first result stands."""
        self._results.setdefault(nodeid, result)

    @property
    def results(self) -> list[CheckResult]:
        """One result per selected item, in the order of selection, those that were not run included."""
        known = dict(self._results)
        for nodeid, item in self._selected.items():
            if nodeid not in known:
                reason = "the run ended before it"
                known[nodeid] = item.target.unjudged(item.check, item.label, Outcome.NOT_RUN, reason)
        return [known.pop(nodeid) for nodeid in self._selected] + list(known.values())

    @property
    def judged(self) -> int:
        """How many results arrived."""
        return len(self._results)

    @property
    def complete(self) -> bool:
        """Whether every selected item has a result."""
        return all(nodeid in self._results for nodeid in self._selected)

    @property
    def failed(self) -> bool:
        """Whether a result fails the run."""
        return any(result.outcome in FAILING for result in self._results.values())

    def review_waivers(self) -> Review:
        """Say what became of the waivers."""
        today = self.run.started_at.date()
        return review(self.run.settings.waivers, self._results.values(), catalogue().keys(), today)

    def unverified(self) -> list[Unverified]:
        """Return the listeners that were judged to the end without anything being found out.

        On a TLS listener a verdict about mutual TLS is wanted, if such checks were selected there; else
        any verdict, unless nothing that was selected applies.
        """
        found = []
        for target in self.run.targets:
            actual = target.seen.target if target.seen else target.outline
            for listener in actual.listeners:
                results = [
                    result
                    for result in self.results
                    if (result.target, result.listener) == (target.outline.label, listener.label)
                ]
                if any(result.outcome is Outcome.NOT_RUN for result in results):
                    continue
                about_tls = [result for result in results if result.check.startswith(f"{_FAMILY}.")]
                applicable = [result for result in results if result.outcome is not Outcome.NOT_APPLICABLE]
                wanted = about_tls if about_tls and listener.scheme == "https" else applicable
                if wanted and not any(result.outcome in VERDICTS for result in wanted):
                    what = "no check about mutual TLS" if wanted is about_tls else "no check"
                    found.append(Unverified(target.outline.label, listener.url, what))
        return found
