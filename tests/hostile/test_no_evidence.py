"""The whole catalogue on servers with which no handshake succeeds: nothing is green."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from hostile.handshake_refusers import refusers
from servers import Handler, ThreadedServer

from pytest_etcdtls.catalog import catalogue
from pytest_etcdtls.observer import Observer
from pytest_etcdtls.pki.bundle import ClusterPKI
from pytest_etcdtls.pki.pki_plan import MemberNames, PKIPlan
from pytest_etcdtls.results import CheckResult, Outcome
from pytest_etcdtls.role import CLUSTER, Role
from pytest_etcdtls.runner import run_checks
from pytest_etcdtls.target import Bounds, PortCredentials, SigningKey, Target, TrustBundle

FAULTS = {
    "test_nothing_conforms_without_a_handshake": (
        "Each of 43 servers that refuse, stall, reset or speak nonsense in every way",
        "nothing conforms but for listed checks of our own files",
        "none of its own",
    ),
}

_OF_A_FILE = "judges a certificate of ours that was given, not the listener; its subject is the whole target"
CONFORMS: Mapping[str, str] = {
    "mtls.client-ca-expires": _OF_A_FILE,
    "mtls.client-ca-strength": _OF_A_FILE,
    "mtls.client-certificate-expires": _OF_A_FILE,
    "mtls.client-certificate-signature": _OF_A_FILE,
    "mtls.client-certificate-strength": _OF_A_FILE,
}
"""Checks that conform where no handshake succeeded, and why."""


@cache
def _pki() -> ClusterPKI:
    return ClusterPKI.generate(PKIPlan(), [MemberNames("m0")])


@cache
def _servers() -> Mapping[str, Handler]:
    chain = _pki().leaves["m0"].server.chain
    return refusers(tuple(found.public_bytes(Encoding.DER) for found in chain))


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[ThreadedServer]:
    """The server of that name."""
    started = ThreadedServer(_servers()[request.param])
    yield started
    started.close()


def _judge(server: ThreadedServer, scheme: str, *roles: Role) -> list[CheckResult]:
    pki = _pki()
    client = PortCredentials(
        server_ca=TrustBundle((pki.server_ca.certificate,), "ca"),
        identities=(pki.client,),
        client_trust=TrustBundle((pki.client_ca.certificate,), "ca"),
        signing_key=SigningKey(pki.client_ca.certificate, pki.client_ca.key),
        revoked=pki.revoked,
    )
    target = Target(
        label="t",
        origin="live",
        listeners=tuple(server.listener(scheme, role) for role in roles),
        client=client,
        peer=client,
        user=("root", "password"),
    )
    observer = Observer(target, Bounds(timeout=0.5))
    return run_checks(observer, [check for check in catalogue().values() if not check.opt_in])


@pytest.fixture(autouse=True)
def _short_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait as long as etcd takes to close a connection on which nothing is sent."""
    monkeypatch.setattr("pytest_etcdtls.facts.protocol._PATIENCE", 0.2)


def _named(results: list[CheckResult], *outcomes: Outcome) -> dict[str, str]:
    return {f"{one.check} on {one.listener}": one.reason for one in results if one.outcome in outcomes}


@pytest.mark.parametrize("server", _servers(), indirect=True)
def test_nothing_conforms_without_a_handshake(server: ThreadedServer) -> None:
    results = _judge(server, "https", Role.CLIENT, Role.PEER, Role.METRICS)
    conforming = {one.check for one in results if one.outcome is Outcome.CONFORMS}
    assert conforming == set(CONFORMS), _named(results, Outcome.CONFORMS)
    assert _named(results, Outcome.BROKEN) == {}
    assert len(results) > 200
    assert {one.listener for one in results if one.check in CONFORMS} == {CLUSTER}


@pytest.mark.parametrize("scheme", ["https", "http"])
@pytest.mark.parametrize("server", ["HTTP", "HTTP to everything"], indirect=True)
def test_what_plain_http_gives_away_is_found_all_the_same(server: ThreadedServer, scheme: str) -> None:
    results = _judge(server, scheme, Role.CLIENT, Role.PEER)
    violated = {(one.check, one.role) for one in results if one.outcome is Outcome.VIOLATES}
    assert {("mtls.plaintext-refused", "client"), ("mtls.plaintext-refused", "peer")} <= violated


def test_old_versions_are_found_without_a_handshake() -> None:
    server = ThreadedServer(_servers()["TLS 1.0 alone"])
    results = _judge(server, "https", Role.CLIENT)
    server.close()
    outcomes = {one.check: one.outcome for one in results}
    assert outcomes["tls.version-floor"] is Outcome.VIOLATES
    assert outcomes["listener.answers"] is Outcome.NOT_VERIFIED
