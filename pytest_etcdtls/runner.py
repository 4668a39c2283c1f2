"""Judging: one check on one subject comes to one result, and a verdict once reached stands.

Turns observations that could not be had, gates and a check's statements into an outcome. Knows
nothing of pytest, waivers or reports.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from pytest_etcdtls.catalog import catalogue, select, subjects
from pytest_etcdtls.errors import (
    InconclusiveError,
    NotApplicableError,
    NotVerifiedError,
    RegistrationError,
    UnobservedError,
)
from pytest_etcdtls.observations.admission import Acceptance
from pytest_etcdtls.observer import Observer
from pytest_etcdtls.registry import CLUSTER, Check
from pytest_etcdtls.reproduce import GOOD_CLIENT, GOOD_PEER, with_files
from pytest_etcdtls.results import CheckResult, Finding, Level, Note, Outcome, Statement, Verdict
from pytest_etcdtls.target import Listener, Role

GATES = ("listener.answers", "listener.is-etcd")
"""Checks that come before all others of a listener, in this order."""

_WORST_FIRST = (Outcome.INCONCLUSIVE, Outcome.NOT_VERIFIED, Outcome.NOT_APPLICABLE)
_UNOBSERVED: dict[type[UnobservedError], Outcome] = {
    InconclusiveError: Outcome.INCONCLUSIVE,
    NotVerifiedError: Outcome.NOT_VERIFIED,
    NotApplicableError: Outcome.NOT_APPLICABLE,
}


class Judge:
    """Judges one target; results are kept, so asking again opens no connection.

    Args:
        observer: gets the observations.
        strict: a SHOULD check that finds something violates instead of warning (``--etcd-strict``).
    """

    def __init__(self, observer: Observer, *, strict: bool = False) -> None:
        self.observer = observer
        self.strict = strict
        self._results: dict[tuple[str, str], CheckResult] = {}

    def result(self, check: Check, listener: Listener | None) -> CheckResult:
        """Return what the check comes to on the listener (``None``: on the whole target)."""
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
        """Put the files of the client that a listener accepts into the commands that go to it."""
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
        for label, _, fact in self.observer.facts:
            if listener and label == listener.label and isinstance(fact, Acceptance):
                accepted = fact.accepted.files if fact.accepted else None
                found = [accepted, *found] if accepted else found
        for placeholder in (GOOD_CLIENT, GOOD_PEER):
            line = with_files(line, placeholder, found[0] if found else placeholder)
        return line

    def _gated(
        self, check: Check, listener: Listener | None
    ) -> tuple[Outcome, str, tuple[Finding, ...]] | None:
        """Return not-verified if a gate before this check does not let it through."""
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
        try:
            observations = self.observations(check, listener)
            return self._fold(check, listener, list(check.function(**observations)))
        except UnobservedError as unobserved:
            return _UNOBSERVED[type(unobserved)], unobserved.reason, ()
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            text = f"{type(error).__name__}: {error} ({where.name}, line {where.lineno} of {where.filename})"
            return (
                Outcome.BROKEN,
                f"the check {check.id} itself failed, which is a fault of its code: {text}",
                (),
            )

    def observations(self, check: Check, listener: Listener | None) -> dict[str, Any]:
        """Return the observations that the check asks for, by parameter name.

        Raises:
            UnobservedError: if one of them cannot be had.
        """
        return {name: self.observer.get(need.type, need.key, listener) for name, need in check.needs.items()}

    def _fold(
        self, check: Check, listener: Listener | None, statements: Iterable[Statement]
    ) -> tuple[Outcome, str, tuple[Finding, ...]]:
        findings: list[Finding] = []
        verdicts: list[Verdict] = []
        notes: list[str] = []
        for statement in statements:
            match statement:
                case Finding():
                    findings.append(statement)
                case Verdict():
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
    """Return the strictest level of the findings; without any, the check's on that role."""
    level = check.level_on(role)
    lowered = [finding for finding in findings if finding.level is Level.SHOULD]
    if lowered and level is Level.MUST and not check.lowers:
        raise RegistrationError(f"a finding is SHOULD, and the docstring does not announce it: {lowered[0]}")
    return Level.SHOULD if lowered and len(lowered) == len(findings) else level


def _remediation(check: Check, role: Role | None, findings: Sequence[Finding]) -> str:
    """Return what mends the findings, each remedy once."""
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
    return [
        judge.result(check, listener) for check in chosen for listener in subjects(check, observer.target)
    ]


def _first_url(observer: Observer) -> str:
    listeners = observer.target.listeners
    chosen = next((listener for listener in listeners if listener.role is Role.CLIENT), None)
    return (chosen or listeners[0]).url
