"""The verdicts of every run, and the differences between runs."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from pytest_etcdtls.results import CheckResult

Verdicts = Mapping[str, str]
"""Outcome by ``LISTENER CHECK``."""


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """The verdicts of one judgement of one subject.

    Attributes:
        subject: its description.
        verdicts: all of them.
        reasons: the reasons of those that have one.
        seconds: the time that it took, with the start of the cluster.
    """

    subject: str
    verdicts: Verdicts
    reasons: Mapping[str, str]
    seconds: float

    @classmethod
    def of(cls, subject: str, results: Iterable[CheckResult], seconds: float) -> Judgement:
        """Return the judgement with these results."""
        verdicts, reasons = {}, {}
        for result in results:
            key = f"{result.listener} {result.check}"
            verdicts[key] = str(result.outcome)
            texts = [
                result.reason,
                *(f"{finding.message}: {finding.observed}" for finding in result.findings),
            ]
            if why := "; ".join(text for text in texts if text):
                reasons[key] = why
        return cls(subject=subject, verdicts=verdicts, reasons=reasons, seconds=round(seconds, 3))

    @classmethod
    def failed(cls, subject: str, error: Exception, seconds: float) -> Judgement:
        """Return the judgement of a subject that could not be started, which is a verdict too."""
        key = "cluster starts"
        reason = f"{type(error).__name__}: {error}"
        return cls(
            subject=subject, verdicts={key: "failed"}, reasons={key: reason}, seconds=round(seconds, 3)
        )


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A verdict that is not the same in every run.

    Attributes:
        runs: numbers of the runs by outcome, ``none`` where there was no such verdict.
        reasons: of the outcomes, where they had any.
    """

    subject: str
    verdict: str
    runs: Mapping[str, list[int]]
    reasons: Mapping[str, str]

    def __str__(self) -> str:
        outcomes = "; ".join(
            f"{outcome} in run {', '.join(map(str, runs))}"
            + (f" ({self.reasons[outcome]})" if outcome in self.reasons else "")
            for outcome, runs in self.runs.items()
        )
        return f"{self.subject}: {self.verdict}: {outcomes}"


@dataclass(kw_only=True)
class Record:
    """All runs. Equal verdicts of a subject are kept once, under their digest.

    Attributes:
        about: what was run, where and when.
    """

    about: dict[str, Any]
    runs: list[dict[str, Any]] = field(default_factory=list)
    verdicts: dict[str, Verdicts] = field(default_factory=dict)
    reasons: dict[str, Mapping[str, str]] = field(default_factory=dict)

    def add(self, run: int, judgements: Iterable[Judgement], load: float) -> None:
        """Add a whole run; ``load`` is the load average (1 minute) at its end."""
        entries = []
        for judgement in judgements:
            digest = _digest(judgement.verdicts)
            self.verdicts.setdefault(digest, judgement.verdicts)
            self.reasons.setdefault(f"{judgement.subject} {digest}", judgement.reasons)
            entries.append({"subject": judgement.subject, "verdicts": digest, "seconds": judgement.seconds})
        self.runs.append({"run": run, "load": load, "subjects": entries})

    def to_json(self) -> str:
        """Return the record with the differences as JSON."""
        different = [asdict(difference) for difference in self.differences()]
        value = {
            "about": self.about,
            "differences": different,
            "runs": self.runs,
            "verdicts": self.verdicts,
        }
        return json.dumps(value, indent=1) + "\n"

    def counted(self) -> int:
        """Return how many verdicts there were, all runs together."""
        return sum(len(self.verdicts[entry["verdicts"]]) for run in self.runs for entry in run["subjects"])

    def differences(self) -> Iterator[Difference]:
        """Yield every verdict that is not the same in all runs of its subject."""
        by_subject: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
        for run in self.runs:
            for entry in run["subjects"]:
                by_subject[entry["subject"]][entry["verdicts"]].append(run["run"])
        for subject, digests in by_subject.items():
            if len(digests) > 1:
                yield from self._between(subject, digests)

    def _between(self, subject: str, digests: Mapping[str, list[int]]) -> Iterator[Difference]:
        for verdict in sorted({key for digest in digests for key in self.verdicts[digest]}):
            runs: dict[str, list[int]] = defaultdict(list)
            reasons: dict[str, str] = {}
            for digest, numbers in digests.items():
                outcome = self.verdicts[digest].get(verdict, "none")
                runs[outcome] += numbers
                if verdict in self.reasons[f"{subject} {digest}"]:
                    reasons.setdefault(outcome, self.reasons[f"{subject} {digest}"][verdict])
            if len(runs) > 1:
                yield Difference(subject=subject, verdict=verdict, runs=dict(runs), reasons=reasons)


def _digest(verdicts: Verdicts) -> str:
    return hashlib.sha256(json.dumps(verdicts, sort_keys=True).encode()).hexdigest()[:16]
