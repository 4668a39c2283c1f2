"""Observations of all types as JSON values, without secrets."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any

import pytest
from conforming import refused
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from pytest_etcdtls.pki.bundle import ClusterPKI
from pytest_etcdtls.pki.profile import MemberNames, PKIPlan
from pytest_etcdtls.report.json import LONGEST, jsonable
from pytest_etcdtls.role import Role


class Number(Enum):
    ONE = 1


@dataclass(frozen=True)
class Fact:
    shown: str
    secret: str = field(repr=False, default="s3cret")


@pytest.fixture(scope="module")
def pki() -> ClusterPKI:
    return ClusterPKI.generate(PKIPlan(), [MemberNames("m0")])


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (0.5, 0.5),
        (Role.CLIENT, "client"),
        (Number.ONE, 1),
        (b"HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\n"),
        (b"\x00\xff", {"hex": "00ff", "octets": 2}),
        (datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC), "2030-01-02T03:04:05Z"),
        (timedelta(minutes=1), 60.0),
        ((1, "two"), [1, "two"]),
        (frozenset({"b", "a"}), ["a", "b"]),
        ({1: (b"x",)}, {"1": ["x"]}),
        (Fact("yes"), {"shown": "yes"}),
        (object(), "object"),
    ],
)
def test_a_value_becomes_a_json_value(value: object, expected: object) -> None:
    assert jsonable(value) == expected
    json.dumps(jsonable(value))


def test_a_long_value_is_cut() -> None:
    assert str(jsonable("x" * 5000)).startswith("x" * LONGEST + "... (5000")
    cut = jsonable(b"\x00" * 5000)
    assert isinstance(cut, dict)
    assert (len(str(cut["hex"])), cut["octets"]) == (2 * LONGEST, 5000)


def test_a_certificate_becomes_its_facts_and_a_key_is_omitted(pki: ClusterPKI) -> None:
    text = json.dumps(jsonable((pki.client, pki.client_ca, pki.client.key, pki.servers)))
    assert "PRIVATE" not in text
    assert "private_numbers" not in text
    assert pki.client.chain[0].subject.rfc4514_string() in text
    assert f"{pki.client.chain[0].serial_number:x}" in text


def test_an_attempt_has_fingerprints_and_names(pki: ClusterPKI) -> None:
    leaf = pki.servers["m0"].chain[0]
    attempt = refused(
        alert=116,
        announced_ca=(leaf.issuer.public_bytes(), b"\x00"),
        chain=(leaf.public_bytes(Encoding.DER),),
    )
    found: Any = jsonable(attempt)
    assert found["chain"] == [leaf.fingerprint(hashes.SHA256()).hex()]
    assert found["announced_ca"] == [leaf.issuer.rfc4514_string(), "2.5.4.45=#0000"]
    assert (found["ending"], found["alert"]) == ("refused", 116)
