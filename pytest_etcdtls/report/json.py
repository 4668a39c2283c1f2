"""The report as JSON, version 1. Its schema is ``schema-v1.json`` in this directory."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.resources import files
from typing import Any, TypeVar

from msgspec.structs import asdict

from pytest_etcdtls.baseline import SCHEMA_VERSION
from pytest_etcdtls.errors import escaped
from pytest_etcdtls.facts.configuration import MemberDeclaration
from pytest_etcdtls.pki.profile import NO_CERTIFICATE
from pytest_etcdtls.profiles import Guideline, outcome_of
from pytest_etcdtls.recording import Recording
from pytest_etcdtls.registry import Fault
from pytest_etcdtls.report.behaviour import ListenerRow, members
from pytest_etcdtls.report.benchmark import Comparison, compare
from pytest_etcdtls.report.differences import ComparedTargets, TargetDifference
from pytest_etcdtls.report.model import Report, fields, jsonable, kind, tool, version_of
from pytest_etcdtls.report.overview import conclusion
from pytest_etcdtls.report.text import utc
from pytest_etcdtls.results import CheckResult
from pytest_etcdtls.role import CLUSTER
from pytest_etcdtls.target import Listener
from pytest_etcdtls.tls.hello import Connection, HelloExchange
from pytest_etcdtls.untrusted import error_text

Part = TypeVar("Part")


def document(report: Report, lost: list[str] | None = None, *, evidence: bool = True) -> dict[str, Any]:
    """Return the report as a document that conforms to its schema.

    Args:
        report: the report.
        lost: the parts that could not be encoded are appended; without them the report is partial.
        evidence: with single observations and connections.
    """
    lost = [] if lost is None else lost

    def parts(
        name: str, made: Iterable[Part], encode: Callable[[Part], dict[str, Any]]
    ) -> list[dict[str, Any]]:
        return list(kept(name, made, encode, lost))

    targets = parts("target", report.seen, lambda seen: _target(report, seen))
    results = parts("result", report.results, CheckResult.to_json)
    faults = parts("fault", [*report.faults, *report.warnings], _fault)
    observations = parts(
        "observation",
        [(seen, *entry) for seen in report.seen if evidence for entry in seen.observations()],
        lambda entry: _observation(*entry),
    )
    connections = parts(
        "connection",
        [attempt for seen in report.seen if evidence for attempt in seen.connections],
        _connection,
    )
    return {
        "schema_version": SCHEMA_VERSION,
        "tool": tool(),
        "started_at": utc(report.started_at),
        "seconds": round(report.seconds, 3),
        "partial": report.partial or bool(lost),
        "verdict": conclusion(report, report.problems),
        "metadata": dict(report.metadata),
        "targets": targets,
        "results": results,
        "faults": faults,
        "differences": parts(
            "difference",
            [(one, difference) for one in report.comparisons for difference in one.differences],
            lambda entry: _difference(*entry),
        ),
        "profiles": parts("profile", report.profiles.profiles, lambda profile: _profile(report, profile)),
        "observations": observations,
        "connections": connections,
        "summary": {
            "faults": len(report.faults),
            **report.counts,
            "not-collected": sum(report.left_out.values()),
            "connections": report.connections,
        },
    }


def schema() -> dict[str, Any]:
    """Return the JSON Schema of the report."""
    text = (files("pytest_etcdtls.report") / f"schema-v{SCHEMA_VERSION}.json").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def kept(
    name: str, parts: Iterable[Part], encode: Callable[[Part], dict[str, Any]], lost: list[str]
) -> Iterator[dict[str, Any]]:
    """Yield the parts as JSON values; one that cannot be encoded is omitted and named in ``lost``."""
    for number, part in enumerate(parts, 1):
        try:
            entry = encode(part)
            json.dumps(entry, allow_nan=False)
        except Exception as error:
            lost.append(f"{name} {number}: {error_text(error)}")
        else:
            yield entry


_UNPRINTABLE = re.compile(r"[^\n\x20-\x7e]|#(?=#)")


def encoded(value: object, indent: int | None = 2) -> str:
    """Return a value as readable JSON: letters of all scripts as they are, and nothing that is acted on.

    What :func:`~pytest_etcdtls.untrusted.escaped` does not show is written as JSON writes it. Lone
    surrogates, which UTF-8 does not have, become U+FFFD.

    Args:
        value: the value.
        indent: spaces of each level; ``None`` for one line.
    """
    return _UNPRINTABLE.sub(_escape, json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False))


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    if character == "#":  # of two: a CI runner takes "##[" for the beginning of a command
        return r"\u0023"
    if escaped(character) == character:
        return character
    if "\ud800" <= character <= "\udfff":
        return r"\ufffd"
    return json.dumps(character)[1:-1].replace("\x7f", r"\u007f")  # json.dumps leaves DEL as it is


def render(report: Report, lost: list[str]) -> str:
    """Return the report as the text of a file, and append to ``lost`` the parts that are not in it."""
    return encoded(document(report, lost)) + "\n"


def _fault(fault: Fault) -> dict[str, Any]:
    first = fault.first
    return {
        "check": first.check,
        "target": first.target,
        "outcome": str(first.outcome),
        "severity": str(first.severity),
        "listeners": list(fault.listeners),
        "message": first.message,
        "remediation": first.remediation,
        "diff": fault.diff,
        "consequences": [
            {"check": result.check, "listener": result.listener} for result in fault.consequences
        ],
    }


def _difference(compared: ComparedTargets, difference: TargetDifference) -> dict[str, Any]:
    return {
        "between": list(compared.labels),
        "baseline": compared.baseline,
        "topic": difference.topic,
        "subject": difference.about,
        "subjects": list(difference.subjects),
        "details": [detail for detail in difference.details if detail],
        "listeners": list(difference.listeners),
        "before": difference.before,
        "after": difference.after,
        "judgement": str(difference.direction),
        "follows": difference.follows,
        "meaning": difference.meaning,
        "source": difference.source,
    }


def _profile(report: Report, profile: Guideline) -> dict[str, Any]:
    return {
        "name": profile.name,
        "title": profile.title,
        "sections": [
            {
                "section": section.section,
                "title": section.title,
                "outcome": outcome_of(section, report.results),
                "checks": list(section.checks),
                "not_judged": section.not_judged,
            }
            for section in profile.sections
        ],
    }


def _target(report: Report, seen: Recording) -> dict[str, Any]:
    target = seen.target
    return {
        "label": target.label,
        "origin": target.origin,
        "etcd_version": version_of(seen),
        "source": target.source,
        "listeners": jsonable(target.listeners),
        "declared": [_member(member, rows) for member, rows in members(seen)],
        "unreached": [
            {"member": one.member, "role": str(one.role), "url": one.url, "reason": one.reason}
            for one in target.unreached
        ],
        "benchmark": [_comparison(comparison) for comparison in compare(report, seen)],
        "behaviour": [
            asdict(one)
            for snapshot in report.snapshots
            if snapshot.label == target.label
            for one in snapshot.behaviour
        ],
    }


def _member(member: MemberDeclaration, rows: Sequence[ListenerRow]) -> dict[str, Any]:
    declaration = member.declared.declaration
    return {
        "member": member.label,
        "source": declaration.source,
        "form": str(declaration.form),
        "etcd_version": member.version or declaration.version,
        "listeners": [
            {
                "label": row.listener.label,
                "url": row.listener.url,
                "declared": [str(setting) for setting in row.declared],
                "effective": row.effective,
                "observed": row.observed,
            }
            for row in rows
        ],
        "unknown": [str(setting) for setting in declaration.unknown],
        "hidden": [str(setting) for setting in declaration.hidden],
        "traps": [{"id": trap.id, "summary": trap.summary} for trap in member.traps],
        "notes": list(declaration.notes),
    }


def _comparison(comparison: Comparison) -> dict[str, Any]:
    return {
        "source": "CIS Kubernetes Benchmark",
        "item": comparison.flags.item,
        "member": comparison.member,
        "title": comparison.flags.title,
        "reads": list(comparison.flags.reads),
        "flags_say": "pass" if comparison.flags.passes else "fail",
        "wire_says": str(comparison.wire) if comparison.wire else None,
        "checks": list(comparison.checks),
        "differs": comparison.differs,
    }


def _observation(seen: Recording, listener: Listener | None, key: str | None, fact: Any) -> dict[str, Any]:  # noqa: ANN401 - any fact
    place = {
        "kind": kind(fact),
        "target": seen.target.label,
        "role": str(listener.role) if listener else CLUSTER,
        "url": (listener or seen.target.listeners[0]).url,
    }
    if key is not None:
        place["key"] = key
    return {**fields(fact), **place}


def _connection(attempt: Connection) -> dict[str, Any]:
    if isinstance(attempt, HelloExchange):
        return _exchange(attempt)
    return {
        "url": attempt.url,
        "purpose": attempt.purpose,
        "identity": attempt.identity,
        "tls": attempt.version or (str(attempt.offered_version) if attempt.offered_version else None),
        "alpn": attempt.alpn,
        "outcome": str(attempt.ending),
        "alert": attempt.alert,
        "milliseconds": round(attempt.milliseconds, 3),
        "reused": attempt.reused,
    }


def _exchange(exchange: HelloExchange) -> dict[str, Any]:
    hello = exchange.server_hello
    return {
        "url": exchange.url,
        "purpose": exchange.purpose,
        "identity": NO_CERTIFICATE.name,
        "tls": exchange.offered or None,
        "alpn": hello.alpn if hello else "",
        "outcome": exchange.outcome,
        "alert": exchange.alert,
        "milliseconds": round(exchange.milliseconds, 3),
        "reused": False,
    }
