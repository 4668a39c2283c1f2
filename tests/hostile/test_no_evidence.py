"""The whole catalogue on servers with which no handshake succeeds: nothing is green."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from hostile.handshake_refusers import drain, refusers
from impostors.staging import FakeCluster
from made import made_report
from servers import Handler, Server, reset

from pytest_etcdtls.checks.registry import select
from pytest_etcdtls.checks.results import CheckResult, Outcome
from pytest_etcdtls.report.overview import access_in_words
from pytest_etcdtls.role import CLUSTER, Role
from pytest_etcdtls.run.judge import run_checks
from pytest_etcdtls.run.observer import Observer
from pytest_etcdtls.target import Bounds, Target

CONFORMS = {
    *("mtls.client-ca-expires", "mtls.client-ca-strength", "mtls.client-certificate-expires"),
    *("mtls.client-certificate-signature", "mtls.client-certificate-strength"),
}
"""Checks that conform where no handshake succeeded: they judge a certificate of ours that was given, not the
listener; their subject is the whole target."""


Judge = Callable[..., list[CheckResult]]


@pytest.fixture
def judged(fake: FakeCluster) -> Judge:
    """Judges the server of that name by the whole catalogue, with every credential, in each role."""

    def judge(name: str, scheme: str, *roles: Role) -> list[CheckResult]:
        chain = fake.pki.leaves["m0"].server.chain
        server = fake.serve(refusers(tuple(der.public_bytes(Encoding.DER) for der in chain))[name])
        fake.listeners = [server.listener(scheme, role) for role in roles]
        observer = Observer(replace(fake.target(), user=("root", "password")), Bounds(timeout=0.5))
        return run_checks(observer)

    return judge


@pytest.fixture(autouse=True)
def _short_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait as long as etcd takes to close a connection on which nothing is sent."""
    monkeypatch.setattr("pytest_etcdtls.facts.protocol._SILENT_SECONDS", 0.2)


def _named(results: list[CheckResult], *outcomes: Outcome) -> dict[str, str]:
    return {
        f"{result.check} on {result.listener}": result.reason
        for result in results
        if result.outcome in outcomes
    }


@pytest.mark.parametrize("name", refusers(()))
def test_nothing_conforms_without_a_handshake(judged: Judge, name: str) -> None:
    results = judged(name, "https", Role.CLIENT, Role.PEER, Role.METRICS)
    conforming = {result.check for result in results if result.outcome is Outcome.CONFORMS}
    assert conforming == CONFORMS, _named(results, Outcome.CONFORMS)
    assert _named(results, Outcome.BROKEN) == {}
    assert len(results) > 200
    assert {result.listener for result in results if result.check in CONFORMS} == {CLUSTER}


@pytest.mark.parametrize("scheme", ["https", "http"])
@pytest.mark.parametrize("name", ["HTTP", "HTTP to everything"])
def test_plain_http_that_serves_data_is_found_without_a_handshake(
    judged: Judge, name: str, scheme: str
) -> None:
    results = judged(name, scheme, Role.CLIENT, Role.PEER)
    violated = {(result.check, result.role) for result in results if result.outcome is Outcome.VIOLATES}
    is_gate = name == "HTTP to everything"  # and is no etcd
    check = "listener.is-etcd" if is_gate else "mtls.plaintext-refused"
    assert {(check, "client"), (check, "peer")} <= violated


_SETTINGS = bytes.fromhex("000006 04 00 00000000 0003 000000fa")
_HELLO = bytes.fromhex("160303 0031 02 00002d 0303")
ANSWERS: Mapping[str, tuple[bytes, bool]] = {
    "etcd": (b'HTTP/1.1 200 OK\r\nContent-Length: 25\r\n\r\n{"etcdserver": "3.6.16"}\r\n', True),
    "status line": (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", True),
    "status line alone": (b"HTTP/1.1 404 Not Found\r\n", True),
    "SETTINGS": (_SETTINGS, True),
    "empty SETTINGS": (bytes.fromhex("000000 04 00 00000000"), True),
    "SSH": (b"SSH-2.0-OpenSSH_9.6\r\n", False),
    "the request": (b"GET /version HTTP/1.1\r\n", False),
    "part of a status line": (b"HTTP/", False),
    "part of SETTINGS": (_SETTINGS[:8], False),
    "SETTINGS of seven octets": (bytes.fromhex("000007 04 00 00000000") + bytes(7), False),
    "SETTINGS of a stream": (bytes.fromhex("000000 04 00 00000001"), False),
    "half a ServerHello": (_HELLO, False),
    "a record of 1,024 octets": (bytes.fromhex("160303 0400") + bytes(64), False),
    "zeros": (bytes(64), False),
    "a line end": (b"\r\n", False),
}
"""What is answered to everything, and whether plain HTTP is served then."""


@pytest.mark.parametrize("pieces", ["whole", "octets"])
@pytest.mark.parametrize("scheme", ["https", "http"])
@pytest.mark.parametrize(("answer", "is_http"), ANSWERS.values(), ids=ANSWERS)
def test_responses_to_plain_http(
    serve: Callable[[Handler], Server], answer: bytes, is_http: bool, scheme: str, pieces: str
) -> None:
    def handle(connection: socket.socket) -> None:
        connection.recv(65536)
        for octet in [answer] if pieces == "whole" else [bytes([one]) for one in answer]:
            connection.sendall(octet)
        drain(connection)

    target = Target(label="t", origin="live", listeners=(serve(handle).listener(scheme),))
    checks = select(["listener.answers", "listener.is-etcd", "mtls.plaintext-refused"])
    observer = Observer(target, Bounds(timeout=2))
    answers, is_etcd, refused = run_checks(observer, checks)
    if is_http:
        words = access_in_words(made_report(is_etcd), observer.recording, target.listeners[0])
        strange = answer.endswith(b"\r\n\r\n")
        assert (refused.outcome is Outcome.VIOLATES) is not strange
        assert (is_etcd.outcome is Outcome.VIOLATES) is strange
        not_etcd, plain = "answers, but not as etcd does", "answers plain HTTP: accepts every client"
        assert [*words] == [not_etcd if strange else plain]
        return
    assert (answers.outcome, refused.outcome) == (Outcome.INCONCLUSIVE, Outcome.NOT_VERIFIED)
    assert "answers neither TLS nor HTTP" in answers.reason


@pytest.mark.parametrize("end", [reset, socket.socket.close])
def test_a_connection_that_ends_in_the_handshake_has_a_next_step(
    serve: Callable[[Handler], Server], end: Handler
) -> None:
    def handle(connection: socket.socket) -> None:
        connection.recv(65536)
        end(connection)

    target = Target(label="t", origin="live", listeners=(serve(handle).listener(),))
    [answers] = run_checks(Observer(target), select(["listener.answers"]))
    assert answers.reason.endswith(
        "name the listener of etcd itself, or look at what is between: firewall, load balancer, port-forward"
    )


def test_old_versions_are_found_without_a_handshake(judged: Judge) -> None:
    outcomes = {result.check: result.outcome for result in judged("TLS 1.0 alone", "https", Role.CLIENT)}
    assert outcomes["tls.version-floor"] is Outcome.VIOLATES
    assert outcomes["listener.answers"] is Outcome.NOT_VERIFIED
