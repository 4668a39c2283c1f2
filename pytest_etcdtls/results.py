"""What a check comes to: findings, verdicts, outcomes and the result of one check on one subject.

Plain values; this module does not know how they are found or shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Self


class Level(StrEnum):
    """The word of RFC 2119 that the requirement carries."""

    MUST = "MUST"
    SHOULD = "SHOULD"


class Severity(StrEnum):
    """How bad a violation is for who runs the cluster."""

    CRITICAL = "critical"
    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"
    INFO = "info"


class Outcome(StrEnum):
    """What a check came to; the meanings are in ``docs/interpreting-results.md``."""

    CONFORMS = "conforms"
    VIOLATES = "violates"
    WARNS = "warns"
    WAIVED = "waived"
    NOT_APPLICABLE = "not-applicable"
    NOT_VERIFIED = "not-verified"
    INCONCLUSIVE = "inconclusive"
    BROKEN = "broken"
    NOT_RUN = "not-run"


@dataclass(frozen=True, slots=True)
class Finding:
    """One violated expectation.

    Attributes:
        message: what is wrong, one sentence.
        expected: what should have been seen.
        observed: what was seen.
        evidence: further facts, as text; never a secret.
        reproduce: shell lines that show the same without this tool.
        level: a lower one than the check's for this finding, where its docstring announces that.
        remediation: what mends this finding, where what was seen tells more than the check can; with the
            placeholders of the docstring's.
    """

    message: str
    expected: str
    observed: str
    evidence: Mapping[str, str] = field(default_factory=dict)
    reproduce: tuple[str, ...] = ()
    level: Level | None = None
    remediation: str = ""


@dataclass(frozen=True, slots=True)
class CannotJudge:
    """A check's own word that it cannot judge: not-applicable, not-verified or inconclusive."""

    outcome: Outcome
    reason: str


@dataclass(frozen=True, slots=True)
class Note:
    """A remark that goes with the outcome and does not change it."""

    text: str


Statement = Finding | CannotJudge | Note


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """What one check came to on one listener, or on the whole target.

    Attributes:
        check: the check's permanent id, ``family.fact``.
        target: label of the target.
        listener: label of the listener, ``cluster`` for a check about the whole target.
        role: the listener's role, ``cluster`` likewise.
        level: the check's on that role; with findings, the strictest of theirs.
        url: the listener's URL; the first client URL for a check about the whole target.
        reason: why the outcome is what it is; for ``conforms`` the notes, often empty.
        seconds: time that the judgement took, observations made for it included.
    """

    check: str
    level: Level
    severity: Severity
    target: str
    listener: str
    role: str
    url: str
    outcome: Outcome
    reason: str = ""
    findings: tuple[Finding, ...] = ()
    remediation: str = ""
    references: tuple[str, ...] = ()
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Return the result as JSON-able values, in the shape of the report.

        Level and remediation of single findings are those of the result by then.
        """
        value = asdict(self)
        for finding in value["findings"]:
            del finding["level"], finding["remediation"]
        return value

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Rebuild a result from :meth:`to_json` (used to carry results between processes).

        Raises:
            KeyError, TypeError, ValueError: if the value was not made by :meth:`to_json`.
        """
        fields = dict(value)
        fields["level"] = Level(fields["level"])
        fields["severity"] = Severity(fields["severity"])
        fields["outcome"] = Outcome(fields["outcome"])
        fields["references"] = tuple(fields["references"])
        fields["findings"] = tuple(
            Finding(**{**finding, "reproduce": tuple(finding["reproduce"])}) for finding in fields["findings"]
        )
        return cls(**fields)
