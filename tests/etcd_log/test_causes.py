"""Every line that real etcds logged is parsed, with its cause."""

from __future__ import annotations

import pytest

from etcd_log.cases import VERSIONS, Case, cases
from pytest_etcdtls.etcd_log.parse import Cause, read_entries, rejections
from pytest_etcdtls.etcd_log.reasons import EXPLANATIONS

EXPECTED = {
    "none": Cause.NO_CERTIFICATE,
    "self-signed": Cause.UNKNOWN_CA,
    "foreign-ca": Cause.UNKNOWN_CA,
    "lookalike-ca": Cause.UNKNOWN_CA,
    "intermediate-missing": Cause.UNKNOWN_CA,
    "expired": Cause.EXPIRED,
    "not-yet-valid": Cause.NOT_YET_VALID,
    "server-auth-only": Cause.USAGE,
    "wrong-san": Cause.ADDRESS,
}
"""By identity, on a cluster with mutual TLS."""

DONE = {
    "plaintext": Cause.PLAINTEXT,
    "plaintext HTTP/2": Cause.PLAINTEXT,
    "sends junk": Cause.PLAINTEXT,
    "unknown ALPN": Cause.ALPN,
    "leaves at once": Cause.GONE,
    "leaves inside the handshake": Cause.GONE,
    "resets": Cause.GONE,
    "refuses the server's certificate in TLS 1.2": Cause.REFUSED_BY_CLIENT,
    "refuses the server's certificate in TLS 1.3": Cause.REFUSED_BY_CLIENT,
    "says nothing": Cause.SILENT,
    "no CRL file: client": Cause.CRL_UNREADABLE,
    "PEM CRL: client": Cause.CRL_UNREADABLE,
    "allowed hostname: client": Cause.NAME_NOT_ALLOWED,
    "system roots: client": Cause.UNKNOWN_CA,
}


def _expected(case: Case) -> Cause | None:
    if case.attempt is not None and case.attempt.alert == 70:
        return Cause.PROTOCOL_VERSION
    if case.what.startswith("mutual TLS: "):
        return EXPECTED[case.what.removeprefix("mutual TLS: ")]
    return DONE.get(case.what)


@pytest.mark.parametrize("version", VERSIONS)
def test_lines_of_real_etcds(version: str) -> None:
    """Every line has a cause, the endpoint since 3.5.15, and the time of its connection."""
    every = [rejection for case in cases(version) for rejection in rejections(read_entries(case.log))]
    assert len(every) > 80
    assert not [rejection for rejection in every if rejection.cause is Cause.OTHER]
    known = 0
    for case in cases(version):
        expected = _expected(case)
        for found in case.own:
            if expected is not None:
                known += 1
                assert found.cause is expected, (case.what, case.log)
            if found.cause is Cause.HTTP2_ON_PEER_PORT:
                assert found.endpoint == "peer"
            elif version in ("3.4.23", "3.5.1"):
                assert found.endpoint is None
            else:
                assert found.endpoint == ("peer" if case.role == "peer" else "client")
            if case.attempt is not None:
                assert found.time is not None
                assert abs((found.time - case.attempt.started_at).total_seconds()) < 20
    assert known > 40
    gone = [
        case for case in cases(version) if case.what == "the served key is gone" and case.role == "client"
    ]
    assert [found.cause for case in gone for found in case.own] == [Cause.SERVED_PAIR], "it is no missing CRL"


@pytest.mark.parametrize("version", ["3.4.23", "3.5.1"])
def test_http2_on_the_peer_port_is_not_plaintext(version: str) -> None:
    """Up to 3.5 gRPC expects a second handshake inside the first one, and calls what it gets no TLS.

    3.5.33 does so as well, and says it at debug level only (``shapes/3.5-debug-http2.log``).
    """
    found = [case for case in cases(version) if case.what in ("HTTP/2", "gRPC") and case.role == "peer"]
    assert {one.cause for case in found for one in case.own} == {Cause.HTTP2_ON_PEER_PORT}


def test_every_cause_is_explained() -> None:
    assert set(EXPLANATIONS) == set(Cause)
    for explanation in EXPLANATIONS.values():
        assert explanation.meaning.endswith(".")
        assert explanation.advice
