"""The texts about facts: all facts have one, and none differs from run to run; facts as JSON values."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any

import pytest
from conforming import refused, sample, served
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from made import made_report

from pytest_etcdtls.checks.registry import catalogue
from pytest_etcdtls.facts.access import AcceptedClient, Access, Case
from pytest_etcdtls.facts.access_matrix import AccessMatrix
from pytest_etcdtls.facts.api import ClientExchange
from pytest_etcdtls.facts.behaviour import Behaviour
from pytest_etcdtls.facts.experiments import Experiment, ExperimentAttempt, Step
from pytest_etcdtls.facts.fact import Need
from pytest_etcdtls.facts.observed import observed_behaviour, texts
from pytest_etcdtls.facts.protocol import SilentConnection
from pytest_etcdtls.facts.recording import Recording
from pytest_etcdtls.facts.release import GoRelease
from pytest_etcdtls.pki.bundle import ClusterPKI
from pytest_etcdtls.pki.profile import MemberNames, PKIPlan
from pytest_etcdtls.report.json import LONGEST, jsonable
from pytest_etcdtls.report.overview import access_in_words
from pytest_etcdtls.role import Protocol, Role, TLSVersion
from pytest_etcdtls.target import Listener, Target
from pytest_etcdtls.tls.attempt import Attempt, Ending, Response, StreamEnd
from pytest_etcdtls.tls.hello import HelloExchange, Reply

LABEL = "client-127.0.0.1-2379"
LISTENER = Listener(
    role=Role.CLIENT, scheme="https", host="127.0.0.1", port=2379, member="127.0.0.1", label=LABEL
)
TARGET = Target(label="live", origin="live", listeners=(LISTENER,))


def words(*facts: object, key: str | None = None) -> list[tuple[str, str, str, str]]:
    seen = Recording(TARGET, [(LABEL, key or getattr(fact, "identity", None), fact) for fact in facts])
    return [(one.topic, one.subject, one.detail, one.value) for one in observed_behaviour(seen)]


def matrix(*attempts: Attempt, identity: str = "none") -> AccessMatrix:
    return AccessMatrix(
        identity=identity,
        cases=Access(
            Case(
                version=attempt.offered_version or TLSVersion.TLS1_3,
                protocol=attempt.protocol,
                tries=(attempt,),
            )
            for attempt in attempts
        ),
    )


def silent(seconds: float, reply: Reply = Reply.ENDED) -> SilentConnection:
    exchange = HelloExchange(
        url=LISTENER.url,
        purpose="silence",
        offered="",
        reply=reply,
        started_at=datetime.now(UTC),
        milliseconds=seconds * 1000,
    )
    return SilentConnection(patience=20.0, exchange=exchange)


def test_who_gets_no_clear_answer_is_in_a_sentence() -> None:
    unclear = matrix(refused(ending=Ending.UNCLEAR, alert=None, stream_end=StreamEnd.TIMEOUT))
    accepted = sample(Need(AcceptedClient, None), Role.CLIENT)
    seen = Recording(TARGET, [(LABEL, None, accepted), (LABEL, "none", unclear)])
    [said, *_] = access_in_words(made_report(), seen, LISTENER)
    assert "; gives no clear answer to clients without a certificate; " in said


@pytest.mark.parametrize(
    "type_",
    [type_ for type_ in texts.registry if type_ not in (object, GoRelease)],
    ids=lambda type_: type_.__name__,
)
def test_every_fact_has_texts_that_do_not_depend_on_the_run(type_: type) -> None:
    need = Need(type_, KEYS.get(type_.__name__))
    judging = (
        check for check in catalogue().values() if type_ in {need.type for need in check.needs.values()}
    )
    roles = next(judging).roles
    fact = sample(need, Role.CLIENT if Role.CLIENT in roles or not roles else min(roles))
    found = words(fact, key=need.key)
    assert found
    text = json.dumps(found)
    assert not re.search(r"127\.0\.0\.1|:\d{4}|20\d\d-|[0-9a-f]{16}|/tmp|\.crt", text)


KEYS = {
    "AccessMatrix": "none",
    "AlpnChoices": "known",
    "ClientExchange": "/version",
    "UnauthenticatedExchange": "/health",
    "UnusualClientHello": "compression",
    "Experiment": "crl-encoding",
}


@pytest.mark.parametrize(
    ("attempts", "expected"),
    [
        (
            [
                refused(offered_version=TLSVersion.TLS1_2),
                refused(alert=116),
                refused(alert=116, protocol=Protocol.GRPC),
            ],
            [
                ("access", "none", "TLS 1.2", "refused"),
                ("access", "none", "TLS 1.3", "refused"),
                ("alert", "none", "TLS 1.2", "42 bad_certificate"),
                ("alert", "none", "TLS 1.3", "116 certificate_required"),
            ],
        ),
        (
            [refused(ending=Ending.CLOSED, alert=None, stream_end=StreamEnd.CLOSE_NOTIFY)],
            [
                ("access", "none", "TLS 1.3", "refused"),
                ("alert", "none", "TLS 1.3", "close_notify, no alert"),
            ],
        ),
        (
            [served(), refused(protocol=Protocol.GRPC)],
            [
                ("access", "none", "TLS 1.3", "accepted; refused"),
                ("alert", "none", "TLS 1.3", "42 bad_certificate"),
            ],
        ),
        *(
            ([unclear, refused(protocol=Protocol.GRPC)], [])
            for unclear in (
                refused(ending=Ending.UNCLEAR, alert=None, stream_end=StreamEnd.TIMEOUT),
                refused(ending=Ending.OTHER, local=True),
            )
        ),
    ],
)
def test_an_identity_is_accepted_or_refused_by_an_alert_in_each_version(
    attempts: list[Attempt], expected: list[tuple[str, ...]]
) -> None:
    """An attempt without an end is no behaviour."""
    assert words(matrix(*attempts)) == expected


@pytest.mark.parametrize(
    ("seconds", "reply", "value"),
    [
        (5.9, Reply.ALERT, "closed within 7 s"),
        (10.0, Reply.ENDED, "closed within 15 s"),
        (20.0, Reply.SILENCE, "open for 20 s"),
    ],
)
def test_the_time_until_a_silent_connection_is_closed_is_rounded(
    seconds: float, reply: Reply, value: str
) -> None:
    assert words(silent(seconds, reply)) == [("silence", "a connection on which nothing is sent", "", value)]


def test_the_version_answer_is_reported_by_its_field_names() -> None:
    def answer(body: bytes) -> ClientExchange:
        return ClientExchange(path="/version", tries=(served(response=Response(status=200, body=body)),))

    named = words(answer(b'{"storage":"unknown","etcdserver":"3.6.16"}'))
    assert named == words(answer(b'{"etcdserver":"3.6.0","storage":"3.6.0"}'))
    assert ("api", "fields of /version", "", "etcdserver; storage") in named
    assert words(answer(b"not json")) == [("api", "GET /version", "", "HTTP 200")]
    hostile = words(answer(json.dumps(dict.fromkeys(["\x1b[31m\n" * 999, *map(str, range(9999))])).encode()))
    assert all(text.isprintable() and len(text) <= 2048 for one in hostile for text in one)


def test_an_experiment_is_reported_by_step_and_role() -> None:
    trial = ExperimentAttempt(who="good client", role="client", attempt=refused(ending=Ending.CLOSED))
    fact = Experiment(
        name="crl-encoding",
        etcd_version="3.6.16",
        flags=(),
        steps=(Step(name="pem", done="", attempts=(trial,)),),
    )
    seen = Recording(target=TARGET, facts=((None, "crl-encoding", fact),))
    assert observed_behaviour(seen) == (
        Behaviour("client", "lifecycle", "crl-encoding, pem", "good client", "refused"),
    )


def test_order_does_not_matter() -> None:
    facts = [matrix(refused(), identity=name) for name in ("none", "expired", "self-signed")]
    assert words(*facts) == words(*reversed(facts))


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
