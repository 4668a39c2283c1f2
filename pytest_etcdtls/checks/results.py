"""Results: findings, outcomes and the result of one check on one subject. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import force_setattr

from pytest_etcdtls.errors import Reason
from pytest_etcdtls.untrusted.printable import LONG_LIMIT, printable, printable_lines

if TYPE_CHECKING:
    from pytest_etcdtls.declared.cures import Cure
    from pytest_etcdtls.declared.declaration import SourceLine
    from pytest_etcdtls.tls.command import Command


class Level(StrEnum):
    """The requirement level (RFC 2119)."""

    MUST = "MUST"
    SHOULD = "SHOULD"


class Severity(StrEnum):
    """How serious a violation is for the operator of the cluster."""

    CRITICAL = "critical"
    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"
    INFO = "info"


class Outcome(StrEnum):
    """The outcome of a check; ``docs/results.md`` explains each one."""

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
    """One violated expectation. Its texts are made printable, and one line; evidence may have several.

    Attributes:
        message: what is wrong, one sentence.
        expected: what should have been observed.
        observed: what was observed.
        evidence: further facts, as text; never a secret.
        reproduce: commands that show the finding without this tool. Shell lines are taken as they are; a
            result has nothing else.
        level: a level of this finding below the check's, where the check's docstring announces it.
        remediation: a remediation for this finding, more specific than the check's; with the placeholders of
            the docstring's.
        cure: the steps for this finding, instead of the check's (:mod:`pytest_etcdtls.declared.cures`).
        why: why it is so, where the end of the message says that.
        concerns: for a check about the whole target, the listeners that the finding is about, as ``ROLE`` or
            ``ROLE-MEMBER``; empty for all of them, ``MEMBER`` for none.
        place: the line of a declaration that it is about. The judge completes it with a line of the remedy,
            or else with the line of the listener.
    """

    message: str
    expected: str
    observed: str
    evidence: Mapping[str, str] = field(default_factory=dict)
    reproduce: tuple[Command | str, ...] = ()
    level: Level | None = None
    remediation: str = ""
    cure: Cure | None = None
    concerns: tuple[str, ...] = ()
    why: str = ""
    place: SourceLine | None = None

    @property
    def commands(self) -> tuple[str, ...]:
        """What is pasted, as text."""
        return tuple(map(str, self.reproduce))

    def __post_init__(self) -> None:
        for name in ("message", "expected", "observed", "remediation", "why"):
            object.__setattr__(self, name, printable(getattr(self, name), LONG_LIMIT))
        evidence = {printable(name): printable_lines(text) for name, text in self.evidence.items()}
        object.__setattr__(self, "evidence", evidence)
        commands = (printable_lines(one) if isinstance(one, str) else one for one in self.reproduce)
        object.__setattr__(self, "reproduce", tuple(commands))


class CannotJudge(Struct, frozen=True):
    """A check's statement that it cannot judge: not-applicable, not-verified or inconclusive."""

    outcome: Outcome
    reason: Reason | str

    @property
    def why(self) -> Reason:
        """The reason as a value."""
        return Reason.of(self.reason)

    def __post_init__(self) -> None:
        if isinstance(self.reason, str):
            force_setattr(self, "reason", printable(self.reason, LONG_LIMIT))


not_applicable = partial(CannotJudge, Outcome.NOT_APPLICABLE)
not_verified = partial(CannotJudge, Outcome.NOT_VERIFIED)
inconclusive = partial(CannotJudge, Outcome.INCONCLUSIVE)


class Note(Struct, frozen=True):
    """A remark on the outcome that does not change it."""

    text: str

    def __post_init__(self) -> None:
        force_setattr(self, "text", printable(self.text, LONG_LIMIT))


Statement = Finding | CannotJudge | Note


class Ancestor(Struct, frozen=True):
    """The violation from which another one follows: id of its check and label of its listener."""

    check: str
    listener: str


class CheckResult(Struct, frozen=True, kw_only=True):
    """The result of one check on one listener, or on the whole target.

    Attributes:
        check: the check's permanent id, ``family.fact``.
        target: label of the target.
        listener: label of the listener, ``cluster`` for a check about the whole target.
        role: the listener's role, ``cluster`` for a check about the whole target.
        level: the check's level on that role; with findings, their strictest level.
        url: the listener's URL; the first client URL for a check about the whole target.
        why: the reason for the outcome; for ``conforms`` the notes, often empty.
        seconds: time that the check took, including the observations made for it.
        cause: the violation from which this one follows; ``None`` for a fault, and without findings.
        remedies: what to do, each in one or more sentences; empty without findings.
        settings: the lines of the declaration to write (``+``) and to remove (``-``), with file and line.
    """

    check: str
    level: Level
    severity: Severity
    target: str
    listener: str
    role: str
    url: str
    outcome: Outcome
    why: Reason = Reason()
    findings: tuple[Finding, ...] = ()
    remedies: tuple[str, ...] = ()
    references: tuple[str, ...] = ()
    seconds: float = 0.0
    cause: Ancestor | None = None
    settings: tuple[str, ...] = ()

    @property
    def reason(self) -> str:
        """The reason in English, printable."""
        return printable_lines(str(self.why))

    @property
    def message(self) -> str:
        """What is wrong, or why there is no verdict, in one line."""
        text = self.findings[0].message if self.findings else self.reason
        others = f" (and {len(self.findings) - 1} more)" if len(self.findings) > 1 else ""
        return " ".join(text.split()) + others

    @property
    def remediation(self) -> str:
        """What to do, in one line; empty without findings."""
        *before, last = self.remedies or ("",)
        return "; ".join([*(text.removesuffix(".") for text in before), last])

    def __post_init__(self) -> None:
        force_setattr(self, "remedies", tuple(printable(text, LONG_LIMIT) for text in self.remedies))
        force_setattr(self, "settings", tuple(printable(line, LONG_LIMIT) for line in self.settings))
