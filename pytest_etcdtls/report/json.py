"""The report as JSON, version 1. Its schema is ``schema-v1.json`` in this directory.

The file is written atomically: a reader never finds a partial report.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

from pytest_etcdtls.facts.configuration import MemberDeclaration
from pytest_etcdtls.faults import Fault
from pytest_etcdtls.pki.profile import NO_CERTIFICATE
from pytest_etcdtls.report.certificate_text import utc
from pytest_etcdtls.report.flag_reader import Comparison, ListenerRow, compare, members
from pytest_etcdtls.report.model import Report, Seen, fields, kind, tool
from pytest_etcdtls.results import CheckResult
from pytest_etcdtls.role import CLUSTER
from pytest_etcdtls.target import Listener
from pytest_etcdtls.tls.hello import Connection, HelloExchange
from pytest_etcdtls.untrusted import printable

SCHEMA_VERSION = 1

Part = TypeVar("Part")


def document(report: Report, lost: list[str] | None = None) -> dict[str, Any]:
    """Return the report as a document that conforms to its schema.

    Args:
        report: the report.
        lost: is filled with the parts that could not be written, in words; without them it is partial.
    """
    lost = [] if lost is None else lost

    def parts(
        what: str, made: Iterable[Part], encode: Callable[[Part], dict[str, Any]]
    ) -> list[dict[str, Any]]:
        return list(_kept(what, made, encode, lost))

    targets = parts("target", report.seen, lambda seen: _target(report, seen))
    results = parts("result", report.results, CheckResult.to_json)
    found = parts("fault", [*report.faults, *report.warnings], _fault)
    observations = parts(
        "observation",
        [(seen, *entry) for seen in report.seen for entry in seen.observations()],
        lambda entry: _observation(*entry),
    )
    connections = parts(
        "connection", [attempt for seen in report.seen for attempt in seen.connections], _connection
    )
    return {
        "schema_version": SCHEMA_VERSION,
        "tool": tool(),
        "started_at": utc(report.started_at),
        "seconds": round(report.seconds, 3),
        "partial": report.partial or bool(lost),
        "targets": targets,
        "results": results,
        "faults": found,
        "observations": observations,
        "connections": connections,
        "summary": {"faults": len(report.faults), **report.counts, "connections": report.connections},
    }


def schema() -> dict[str, Any]:
    """Return the JSON Schema of the report."""
    text = (files("pytest_etcdtls.report") / f"schema-v{SCHEMA_VERSION}.json").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def _kept(
    what: str, parts: Iterable[Part], encode: Callable[[Part], dict[str, Any]], lost: list[str]
) -> Iterator[dict[str, Any]]:
    """Yield the parts as JSON values; one that cannot be encoded costs no other."""
    for number, part in enumerate(parts, 1):
        try:
            entry = encode(part)
            json.dumps(entry, allow_nan=False)
        except Exception as error:
            lost.append(f"{what} {number}: {type(error).__name__}: {printable(str(error))}")
        else:
            yield entry


_UNPRINTABLE = re.compile(r"[^\n\x20-\x7e]")


def encoded(value: object) -> str:
    """Return a value as JSON for people's eyes too: other scripts as they are, no control or bidi character.

    Lone surrogates, which UTF-8 does not have, become U+FFFD.
    """
    return _UNPRINTABLE.sub(_escape, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


def _escape(found: re.Match[str]) -> str:
    character = found[0]
    if character.isprintable():
        return character
    return (
        r"\ufffd"
        if "\ud800" <= character <= "\udfff"
        else json.dumps(character)[1:-1].replace("\x7f", r"\u007f")
    )


def write_document(report: Report, path: Path) -> list[str]:
    """Write the report to a file, replace an existing one, and return which parts are not in it.

    Raises:
        OSError: if it cannot be written. An existing file is not changed.
    """
    lost: list[str] = []
    text = encoded(document(report, lost)) + "\n"
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return lost


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


def _observation(seen: Seen, listener: Listener | None, key: str | None, fact: Any) -> dict[str, Any]:  # noqa: ANN401 - any fact
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
    }
