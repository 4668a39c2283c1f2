"""The report as JSON, and as the document that it is written from."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, TypeVar

from cryptography import x509
from msgspec import Struct, to_builtins
from msgspec.structs import asdict, replace

from pytest_etcdtls.checks.results import Ancestor
from pytest_etcdtls.errors import Reason, escaped
from pytest_etcdtls.facts.configuration import MemberDeclaration
from pytest_etcdtls.facts.observed import observed_behaviour
from pytest_etcdtls.facts.recording import Recording
from pytest_etcdtls.pki.certificate import name_text, read_name
from pytest_etcdtls.pki.profile import NO_CERTIFICATE
from pytest_etcdtls.profiles.profiles import Guideline, outcome_of
from pytest_etcdtls.report.benchmark import compare
from pytest_etcdtls.report.differences import ComparedTargets, TargetDifference
from pytest_etcdtls.report.document import (
    SCHEMA_VERSION,
    ConnectionEntry,
    DeclarationEntry,
    DeclaredListenerEntry,
    DifferenceEntry,
    Document,
    FaultEntry,
    ListenerEntry,
    ProfileEntry,
    ProfileSection,
    ResultEntry,
    Summary,
    TargetEntry,
    TrapEntry,
    UnreachedListener,
)
from pytest_etcdtls.report.in_force import ListenerRow, declared_behaviour, members
from pytest_etcdtls.report.model import Fault, Report, tool, version_of
from pytest_etcdtls.report.overview import access_in_words, conclusion
from pytest_etcdtls.report.text import certificate_facts, utc
from pytest_etcdtls.role import CLUSTER
from pytest_etcdtls.target import Listener
from pytest_etcdtls.tls.attempt import Attempt
from pytest_etcdtls.tls.hello import Connection, HelloExchange
from pytest_etcdtls.untrusted.printable import error_text

Part = TypeVar("Part")
Encoded = TypeVar("Encoded")

LONGEST = 1024
"""Maximum length of a text in characters, or of a binary value in octets."""

_LONGEST_NUMBER = 1024
"""Bits of a whole number in decimal digits; JSON readers refuse numbers with many digits."""

JSON = None | bool | int | float | str | list["JSON"] | dict[str, "JSON"]
Refer = Callable[[Attempt], JSON]


def document(report: Report, lost: list[str] | None = None, *, evidence: bool = True) -> Document:
    """Return the report as a document.

    Args:
        report: the report.
        lost: the parts that could not be encoded are appended; without them the report is partial.
        evidence: with single observations and connections.
    """
    lost = [] if lost is None else lost

    def parts(name: str, made: Iterable[Part], encode: Callable[[Part], Encoded]) -> tuple[Encoded, ...]:
        return tuple(kept(name, made, encode, lost))

    targets = parts("target", report.seen, lambda seen: target_entry(report, seen))
    results = parts("result", report.results, ResultEntry.of)
    faults = parts("fault", [*report.faults, *report.warnings], _fault)
    attempts: list[Attempt] = []
    numbers: dict[int, int] = {}

    def refer(attempt: Attempt) -> JSON:
        if (number := numbers.setdefault(id(attempt), len(attempts))) == len(attempts):
            attempts.append(attempt)
        return {"attempt": number}

    observations = parts(
        "observation",
        [(seen, *entry) for seen in report.seen if evidence for entry in seen.observations()],
        lambda entry: _observation(*entry, refer),
    )
    connections = parts(
        "connection",
        [attempt for seen in report.seen if evidence for attempt in seen.connections],
        _connection,
    )
    differences = parts(
        "difference",
        [(one, difference) for one in report.comparisons for difference in one.differences],
        lambda entry: _difference(*entry),
    )
    profiles = parts("profile", report.profiles.profiles, lambda profile: _profile(report, profile))
    return Document(
        schema_version=SCHEMA_VERSION,
        tool=tool(),
        started_at=utc(report.started_at),
        seconds=round(report.seconds, 3),
        partial=report.partial or bool(lost),
        verdict=conclusion(report).text,
        metadata=dict(report.metadata),
        targets=targets,
        results=results,
        faults=faults,
        differences=differences,
        profiles=profiles,
        observations=observations,
        attempts=parts(
            "attempt", enumerate(attempts), lambda entry: {"attempt": entry[0], **attempt_fields(entry[1])}
        ),
        connections=connections,
        summary=Summary(
            faults=len(report.faults),
            **{outcome.name.lower(): number for outcome, number in report.counts.items()},
            not_collected=sum(report.left_out.values()),
            connections=report.connections,
        ),
    )


def kept(
    name: str, parts: Iterable[Part], encode: Callable[[Part], Encoded], lost: list[str]
) -> Iterator[Encoded]:
    """Yield the entries of the parts; one that JSON cannot have is omitted and named in ``lost``."""
    for number, part in enumerate(parts, 1):
        try:
            entry = encode(part)
            json.dumps(to_builtins(entry), allow_nan=False)
        except Exception as error:
            lost.append(f"{name} {number}: {error_text(error)}")
        else:
            yield entry


_UNPRINTABLE = re.compile(r"[^\n\x20-\x7e]|#(?=#)")


def encoded(value: object) -> str:
    """Return a value as readable JSON: letters of all scripts as they are, and nothing that is acted on.

    What :func:`~pytest_etcdtls.untrusted.escaped` does not show is written as JSON writes it. Lone
    surrogates, which UTF-8 does not have, become U+FFFD.

    Args:
        value: the value; a Struct has the members of its fields.
    """
    return _UNPRINTABLE.sub(
        _escape, json.dumps(to_builtins(value), indent=2, ensure_ascii=False, allow_nan=False)
    )


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


def _fault(fault: Fault) -> FaultEntry:
    first = fault.first
    return FaultEntry(
        check=first.check,
        target=first.target,
        outcome=first.outcome,
        severity=first.severity,
        listeners=fault.listeners,
        message=first.message,
        remediation=first.remediation,
        settings=fault.settings,
        consequences=tuple(Ancestor(result.check, result.listener) for result in fault.consequences),
    )


def _difference(compared: ComparedTargets, difference: TargetDifference) -> DifferenceEntry:
    known = asdict(difference) | {"details": tuple(filter(None, difference.details))}
    judgement, _ = known.pop("direction").value, known.pop("why")
    between, about = compared.labels, difference.about
    return DifferenceEntry(
        between=between, baseline=compared.baseline, subject=about, judgement=judgement, **known
    )


def _profile(report: Report, profile: Guideline) -> ProfileEntry:
    return ProfileEntry(
        name=profile.name,
        title=profile.title,
        sections=tuple(
            ProfileSection(
                section=section.section,
                title=section.title,
                outcome=outcome_of(section, report.results),
                checks=tuple(section.checks),
                not_judged=section.not_judged,
            )
            for section in profile.sections
        ),
    )


def target_entry(report: Report, seen: Recording) -> TargetEntry:
    """Return the entry of a target, which the report has already if its targets are compared."""
    target = seen.target
    for made in report.targets:
        if made.label == target.label:
            return made
    return TargetEntry(
        label=target.label,
        origin=target.origin,
        etcd_version=version_of(seen),
        source=target.source,
        listeners=tuple(
            ListenerEntry(role=str(one.role), url=one.url, label=one.label) for one in target.listeners
        ),
        declared=tuple(_member(report, seen, *member) for member in members(seen)),
        unreached=tuple(UnreachedListener(**asdict(unreached)) for unreached in target.unreached),
        benchmark=compare(report, seen),
        behaviour=tuple(sorted((*observed_behaviour(seen), *declared_behaviour(seen)))),
    )


def _member(
    report: Report, seen: Recording, member: MemberDeclaration, rows: Sequence[ListenerRow]
) -> DeclarationEntry:
    declaration = member.declared.declaration
    return DeclarationEntry(
        member=member.label,
        source=declaration.source,
        form=str(declaration.form),
        etcd_version=member.version or declaration.version,
        listeners=tuple(
            DeclaredListenerEntry(
                label=row.listener.label,
                url=row.listener.url,
                declared=tuple(map(str, row.declared)),
                effective=row.effective,
                observed="; ".join(access_in_words(report, seen, row.listener)),
            )
            for row in rows
        ),
        unknown=tuple(map(str, declaration.unknown)),
        hidden=tuple(map(str, declaration.hidden)),
        traps=tuple(TrapEntry(id=trap.id, summary=trap.summary) for trap in member.traps),
        notes=tuple(declaration.notes),
    )


def _observation(
    seen: Recording,
    listener: Listener | None,
    key: str | None,
    fact: Any,  # noqa: ANN401 - any fact
    refer: Refer,
) -> dict[str, JSON]:
    place: dict[str, JSON] = {
        "kind": kind(fact),
        "target": seen.target.label,
        "role": str(listener.role) if listener else CLUSTER,
        "url": listener.url if listener else seen.target.url,
    }
    if key is not None:
        place["key"] = key
    return {**fields(fact, refer), **place}


def _connection(attempt: Connection) -> ConnectionEntry:
    if isinstance(attempt, HelloExchange):
        identity, tls, outcome = NO_CERTIFICATE.name, attempt.offered or None, attempt.outcome
        alpn = attempt.server_hello.alpn if attempt.server_hello else ""
    else:
        identity, alpn, outcome = attempt.identity, attempt.alpn, attempt.ending.value
        tls = attempt.version or (str(attempt.offered_version) if attempt.offered_version else None)
    return ConnectionEntry(
        url=attempt.url,
        purpose=attempt.purpose,
        identity=identity,
        tls=tls,
        alpn=alpn,
        outcome=outcome,  # type: ignore[arg-type] # one of these words
        alert=attempt.alert,
        milliseconds=round(attempt.milliseconds, 3),
    )


def kind(fact: object) -> str:
    """Return the kind of an observation: ``served-chain`` for ``ServedChain``."""
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z]{2})", "-", type(fact).__name__)
    return name.lower()


def jsonable(value: object, refer: Refer | None = None) -> JSON:
    """Return a value of an observation as a JSON value; of an attempt within it, what ``refer`` returns."""
    match value:
        case float() if not math.isfinite(value):
            return str(value)
        case int() if value.bit_length() > _LONGEST_NUMBER:
            return hex(value)[: LONGEST + 1]
        case None | bool() | int() | float():
            return value
        case Enum():
            return jsonable(value.value, refer)
        case str() | Reason():
            return _bounded(str(value))
        case bytes():
            return _octets(value)
        case datetime():
            return utc(value)
        case timedelta():
            return value.total_seconds()
        case x509.Certificate():
            return certificate_facts(value)
        case x509.Name():
            return name_text(value)
        case Mapping():
            return {str(name): jsonable(item, refer) for name, item in value.items()}
    return _composite(value, refer)


def _composite(value: object, refer: Refer | None) -> JSON:
    if isinstance(value, Listener):
        return {"role": str(value.role), "url": value.url, "label": value.label}
    if isinstance(value, Attempt):
        return (refer or attempt_fields)(value)
    if isinstance(value, Struct) or (dataclasses.is_dataclass(value) and not isinstance(value, type)):
        return fields(value, refer)
    if isinstance(value, set | frozenset):
        return sorted((jsonable(item, refer) for item in value), key=str)
    if isinstance(value, Collection):
        return [jsonable(item, refer) for item in value]
    return type(value).__name__


def fields(value: object, refer: Refer | None = None) -> dict[str, JSON]:
    """Return the fields of a Struct, or those of a dataclass that its ``repr`` does not hide.

    A fact of another package may be of any class. One that is neither is shown without fields.
    """
    names: tuple[str, ...] = ()
    if isinstance(value, Struct):
        names = value.__struct_fields__
    elif dataclasses.is_dataclass(value):
        names = tuple(field.name for field in dataclasses.fields(value) if field.repr)
    return {name: jsonable(getattr(value, name), refer) for name in names}


def attempt_fields(attempt: Attempt) -> dict[str, JSON]:
    """Return an attempt with fingerprints of the served chain. The ServedChain observation has it in full."""
    return {
        **fields(replace(attempt, chain=(), announced_ca=())),
        "chain": [hashlib.sha256(der).hexdigest() for der in attempt.chain],
        "announced_ca": [name_text(read_name(der)) for der in attempt.announced_ca],
    }


def _bounded(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}... ({len(text)} characters)"


def _octets(data: bytes) -> JSON:
    """Return text as text, and other data in hexadecimal."""
    if re.fullmatch(rb"[\t\r\n\x20-\x7e]*", data):
        return _bounded(data.decode("ascii"))
    return {"hex": data[:LONGEST].hex(), "octets": len(data)}
