"""The report as JSON, version 1. Its schema is ``schema-v1.json`` in this directory.

The file is written atomically: a reader never finds a partial report.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from pytest_etcdtls.facts.configuration import MemberDeclaration
from pytest_etcdtls.faults import Fault
from pytest_etcdtls.pki.profile import NO_CERTIFICATE
from pytest_etcdtls.report.certificate_text import utc
from pytest_etcdtls.report.flag_reader import Comparison, ListenerRow, compare, members
from pytest_etcdtls.report.model import Report, Seen, fields, kind, tool
from pytest_etcdtls.role import CLUSTER
from pytest_etcdtls.tls.hello import Connection, HelloExchange

SCHEMA_VERSION = 1


def document(report: Report) -> dict[str, Any]:
    """Return the report as a document that conforms to its schema."""
    return {
        "schema_version": SCHEMA_VERSION,
        "tool": tool(),
        "started_at": utc(report.started_at),
        "seconds": round(report.seconds, 3),
        "partial": report.partial,
        "targets": [_target(report, seen) for seen in report.seen],
        "results": [result.to_json() for result in report.results],
        "faults": [_fault(fault) for fault in (*report.faults, *report.warnings)],
        "observations": [entry for seen in report.seen for entry in _observations(seen)],
        "connections": [_connection(attempt) for seen in report.seen for attempt in seen.connections],
        "summary": {"faults": len(report.faults), **report.counts, "connections": report.connections},
    }


def schema() -> dict[str, Any]:
    """Return the JSON Schema of the report."""
    text = (files("pytest_etcdtls.report") / f"schema-v{SCHEMA_VERSION}.json").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def write_document(report: Report, path: Path) -> None:
    """Write the report to a file and replace an existing one.

    Raises:
        OSError: if it cannot be written. An existing file is not changed.
    """
    text = json.dumps(document(report), indent=2, ensure_ascii=False) + "\n"
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


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
        "consequences": [
            {"check": result.check, "listener": result.listener} for result in fault.consequences
        ],
    }


def _target(report: Report, seen: Seen) -> dict[str, Any]:
    target = seen.target
    return {
        "label": target.label,
        "origin": target.origin,
        "etcd_version": seen.etcd_version,
        "source": target.source,
        "listeners": [
            {"role": str(listener.role), "url": listener.url, "label": listener.label}
            for listener in target.listeners
        ],
        "declared": [_member(member, rows) for member, rows in members(seen)],
        "unreached": [
            {"member": one.member, "role": str(one.role), "url": one.url, "reason": one.reason}
            for one in target.unreached
        ],
        "benchmark": [_comparison(comparison) for comparison in compare(report, seen)],
    }


def _member(member: MemberDeclaration, rows: Sequence[ListenerRow]) -> dict[str, Any]:
    declaration = member.told.declaration
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


def _observations(seen: Seen) -> list[dict[str, Any]]:
    entries = []
    for listener, key, fact in seen.observations():
        place = {
            "kind": kind(fact),
            "target": seen.target.label,
            "role": str(listener.role) if listener else CLUSTER,
            "url": (listener or seen.target.listeners[0]).url,
        }
        if key is not None:
            place["key"] = key
        entries.append({**fields(fact), **place})
    return entries


def _connection(attempt: Connection) -> dict[str, Any]:
    if isinstance(attempt, HelloExchange):
        return _greeting(attempt)
    return {
        "url": attempt.url,
        "purpose": attempt.purpose,
        "identity": attempt.identity,
        "tls": attempt.version or (str(attempt.asked) if attempt.asked else None),
        "alpn": attempt.alpn,
        "outcome": str(attempt.ending),
        "alert": attempt.alert,
        "milliseconds": round(attempt.milliseconds, 3),
    }


def _greeting(greeting: HelloExchange) -> dict[str, Any]:
    hello = greeting.server_hello
    return {
        "url": greeting.url,
        "purpose": greeting.purpose,
        "identity": NO_CERTIFICATE.name,
        "tls": greeting.offered or None,
        "alpn": hello.alpn if hello else "",
        "outcome": greeting.outcome,
        "alert": greeting.alert,
        "milliseconds": round(greeting.milliseconds, 3),
    }
