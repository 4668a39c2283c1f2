"""The report of a run: what every format is made from. Values only."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import platform
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.backends.openssl.backend import backend

from pytest_etcdtls._version import __version__
from pytest_etcdtls.facts.api import GetExchange
from pytest_etcdtls.facts.certificates import ServedChain
from pytest_etcdtls.pki.certificate import load
from pytest_etcdtls.report.certificate_text import certificate_facts, utc
from pytest_etcdtls.results import CheckResult, Outcome
from pytest_etcdtls.target import Listener, Target
from pytest_etcdtls.tls.attempt import Attempt
from pytest_etcdtls.tls.hello import Connection

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


LONGEST = 1024
"""Characters of a text, or octets of a binary value, that are kept."""

JSON = None | bool | int | float | str | list["JSON"] | dict[str, "JSON"]


def kind(fact: object) -> str:
    """Return the kind of an observation: ``served-chain`` for ``ServedChain``."""
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z]{2})", "-", type(fact).__name__)
    return name.lower()


def jsonable(value: object) -> JSON:
    """Return a value out of an observation as JSON knows it."""
    match value:
        case None | bool() | int() | float():
            return value
        case Enum():
            return jsonable(value.value)
        case str():
            return _bounded(value)
        case bytes():
            return _octets(value)
        case datetime():
            return utc(value)
        case timedelta():
            return value.total_seconds()
        case x509.Certificate():
            return certificate_facts(value)
        case x509.Name():
            return value.rfc4514_string()
        case Mapping():
            return {str(name): jsonable(item) for name, item in value.items()}
    return _composite(value)


def _composite(value: object) -> JSON:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _attempt(value) if isinstance(value, Attempt) else fields(value)
    if isinstance(value, set | frozenset):
        return sorted((jsonable(item) for item in value), key=str)
    if isinstance(value, Collection):
        return [jsonable(item) for item in value]
    return type(value).__name__


def fields(value: DataclassInstance) -> dict[str, JSON]:
    """Return the fields of a dataclass, those apart that its ``repr`` hides."""
    return {
        field.name: jsonable(getattr(value, field.name)) for field in dataclasses.fields(value) if field.repr
    }


def _attempt(attempt: Attempt) -> dict[str, JSON]:
    """Return an attempt with fingerprints for what was served, which stands in the served chain in full."""
    return {
        **fields(dataclasses.replace(attempt, chain=(), announced_ca=())),
        "chain": [hashlib.sha256(der).hexdigest() for der in attempt.chain],
        "announced_ca": [_distinguished_name(der) for der in attempt.announced_ca],
    }


def _distinguished_name(der: bytes) -> JSON:
    try:
        return x509.Name.from_bytes(der).rfc4514_string()
    except ValueError:
        return _hexadecimal(der)


def _bounded(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}... ({len(text)} characters)"


def _octets(data: bytes) -> JSON:
    """Return text as text, a DER certificate as its facts, anything else in hexadecimal."""
    if data[:1] == b"\x30":
        try:
            return certificate_facts(load(data))
        except ValueError:
            return _hexadecimal(data)
    try:
        text = data.decode("ascii")
    except UnicodeDecodeError:
        return _hexadecimal(data)
    return (
        _bounded(text)
        if text.isprintable() or not re.search(r"[^\t\r\n\x20-\x7e]", text)
        else _hexadecimal(data)
    )


def _hexadecimal(data: bytes) -> dict[str, JSON]:
    return {"hex": data[:LONGEST].hex(), "octets": len(data)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A target, and what was seen of it.

    Attributes:
        facts: listener label (``None`` for the whole target), key, observation.
        connections: every connection that was made, in order.
    """

    target: Target
    facts: tuple[tuple[str | None, str | None, Any], ...] = ()
    connections: tuple[Connection, ...] = ()

    def observations(self) -> Iterator[tuple[Listener | None, str | None, Any]]:
        """Yield listener, key and observation, those left out that probes only hand to each other."""
        by_label = {listener.label: listener for listener in self.target.listeners}
        for label, key, fact in self.facts:
            yield by_label.get(label or ""), key, fact

    def served(self, label: str) -> ServedChain | None:
        """Return what a listener served, if that was seen."""
        return next(
            (fact for at, _, fact in self.facts if at == label and isinstance(fact, ServedChain)), None
        )

    @property
    def etcd_version(self) -> str | None:
        """As known beforehand, else as the first listener said that answered ``/version``."""
        if self.target.etcd_version is not None:
            return self.target.etcd_version
        return next((found for _, _, fact in self.facts if (found := _version(fact)) is not None), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a run came to.

    Attributes:
        started_at: aware UTC.
        seconds: how long it took.
        partial: it ended before everything selected was judged.
        results: one per selected check and listener.
    """

    started_at: datetime
    seconds: float
    partial: bool
    seen: tuple[Seen, ...]
    results: tuple[CheckResult, ...]

    @property
    def counts(self) -> Mapping[Outcome, int]:
        """How many results there are of each outcome, zeros included."""
        counted = Counter(result.outcome for result in self.results)
        return {outcome: counted[outcome] for outcome in Outcome}

    @property
    def connections(self) -> int:
        """How many connections were made."""
        return sum(len(seen.connections) for seen in self.seen)


def tool() -> dict[str, str]:
    """Return what made the report."""
    return {
        "name": "pytest-etcdtls",
        "version": __version__,
        "python": platform.python_version(),
        "openssl": openssl_version(),
    }


def openssl_version() -> str:
    """Return the version of the OpenSSL that makes the handshakes."""
    return backend.openssl_version_text()


def _version(fact: object) -> str | None:
    if not isinstance(fact, GetExchange) or fact.path != "/version" or fact.attempt.response is None:
        return None
    try:
        body = json.loads(fact.attempt.response.body)
    except ValueError:
        return None
    version = body.get("etcdserver") if isinstance(body, dict) else None
    return version if isinstance(version, str) else None
