"""Observations as JSON-able values, whatever type they are: a new observation type needs nothing here.

Nothing secret gets through: fields that are hidden from ``repr`` are left out, and a private key is
never looked into.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING

from cryptography import x509

from pytest_etcdtls.observations.attempt import Attempt
from pytest_etcdtls.pki.reading import load
from pytest_etcdtls.report.certificate import certificate_facts, utc

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

LONGEST = 1024
"""Characters of a text, or octets of a binary value, that are kept."""

JSON = None | bool | int | float | str | list["JSON"] | dict[str, "JSON"]


def kind(fact: object) -> str:
    """Return the kind of an observation: ``served-chain`` for ``ServedChain``."""
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z]{2})", "-", type(fact).__name__)
    return name.lower()


def is_reported(fact: object) -> bool:
    """Return whether it is an observation; what probes only hand to each other is not."""
    return dataclasses.is_dataclass(fact) and not type(fact).__module__.startswith("pytest_etcdtls.probes")


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
