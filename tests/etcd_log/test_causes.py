"""Every line that real etcds logged is parsed, with its cause, which agrees with the alert on the wire."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from etcd_log.cases import VERSIONS, Case, cases
from pytest_etcdtls.etcd_log.matching import compare_wire_and_log, expected_alerts
from pytest_etcdtls.etcd_log.parse import Cause, read_entries, rejections
from pytest_etcdtls.etcd_log.reasons import EXPLANATIONS
from pytest_etcdtls.tls.attempt import Ending

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
    if case.what.startswith("mutual TLS: "):
        identity = case.what.removeprefix("mutual TLS: ")
        too_old = case.attempt is not None and case.attempt.alert == 70
        return Cause.PROTOCOL_VERSION if too_old else EXPECTED[identity]
    return DONE.get(case.what)


@pytest.mark.parametrize("version", VERSIONS)
def test_causes_of_known_rejections(version: str) -> None:
    wrong = []
    known = 0
    for case in cases(version):
        expected = _expected(case)
        if expected is None or not case.own or (case.attempt is not None and case.attempt.alert == 70):
            continue
        known += 1
        causes = {found.cause for found in case.own}
        if causes != {expected}:
            wrong.append(f"{case.what} on {case.role}: {causes}, not {expected}\n{case.log}")
    assert not wrong, "\n".join(wrong)
    assert known > 40


@pytest.mark.parametrize("version", VERSIONS)
def test_no_line_is_without_a_cause(version: str) -> None:
    found = [rejection for case in cases(version) for rejection in rejections(read_entries(case.log))]
    assert not [one for one in found if one.cause is Cause.OTHER]
    assert len(found) > 80


@pytest.mark.parametrize("version", VERSIONS)
def test_the_endpoint_is_logged_since_3_5_15(version: str) -> None:
    tells = version not in ("3.4.23", "3.5.1")
    for case in cases(version):
        for found in case.own:
            if found.cause is Cause.HTTP2_ON_PEER_PORT:
                assert found.endpoint == "peer"
            elif tells:
                assert found.endpoint == ("peer" if case.role == "peer" else "client")
            else:
                assert found.endpoint is None


@pytest.mark.parametrize("version", VERSIONS)
def test_times_are_those_of_the_connections(version: str) -> None:
    seen = 0
    for case in cases(version):
        for found in case.own:
            if case.attempt is not None:
                assert found.time is not None
                assert abs((found.time - case.attempt.started_at).total_seconds()) < 20
                seen += 1
    assert seen > 40


@pytest.mark.parametrize("version", ["3.4.23", "3.5.1"])
def test_http2_on_the_peer_port_is_not_plaintext(version: str) -> None:
    """Up to 3.5 gRPC expects a second handshake inside the first one, and calls what it gets no TLS.

    3.5.33 does so as well, and says it at debug level only (``shapes/3.5-debug-http2.log``).
    """
    found = [case for case in cases(version) if case.what in ("HTTP/2", "gRPC") and case.role == "peer"]
    assert found
    for case in found:
        assert {one.cause for one in case.own} == {Cause.HTTP2_ON_PEER_PORT}


@pytest.mark.parametrize("version", VERSIONS)
def test_a_missing_key_is_not_a_missing_crl(version: str) -> None:
    found = [
        case for case in cases(version) if case.what == "the served key is gone" and case.role == "client"
    ]
    assert [one.cause for case in found for one in case.own] == [Cause.SERVED_PAIR]


def test_every_cause_is_explained() -> None:
    assert set(EXPLANATIONS) == set(Cause)
    for explanation in EXPLANATIONS.values():
        assert explanation.meaning.endswith(".")
        assert explanation.advice


@pytest.mark.parametrize("version", VERSIONS)
def test_both_ends_agree(version: str) -> None:
    count = 0
    for case in cases(version):
        for found in case.own:
            if case.attempt is not None:
                compared = compare_wire_and_log(case.attempt, found)
                assert compared.agree, (case, compared)
                count += 1
    assert count > 60


@pytest.mark.parametrize("version", VERSIONS)
def test_another_alert_disagrees(version: str) -> None:
    for case in cases(version):
        if case.attempt is not None and case.attempt.alert is not None and case.own:
            other = replace(case.attempt, alert=51)
            assert not compare_wire_and_log(other, case.own[0]).agree, case


@pytest.mark.parametrize("version", VERSIONS)
def test_a_served_attempt_disagrees_with_every_rejection(version: str) -> None:
    for case in cases(version):
        for found in case.own:
            if case.attempt is not None:
                served = replace(case.attempt, ending=Ending.SERVED, alert=None, version="TLSv1.3")
                assert not compare_wire_and_log(served, found).agree, case


@pytest.mark.parametrize(
    ("cause", "version", "alerts"),
    [
        (Cause.NO_CERTIFICATE, "TLSv1.3", {42, 116}),
        (Cause.NO_CERTIFICATE, "TLSv1.2", {40, 42}),
        (Cause.NO_CERTIFICATE, None, {40, 42, 116}),
        (Cause.UNKNOWN_CA, "TLSv1.2", {42, 48}),
        (Cause.EXPIRED, None, {42, 45}),
        (Cause.REVOKED, "TLSv1.3", set()),
    ],
)
def test_expected_alerts(cause: Cause, version: str | None, alerts: set[int]) -> None:
    assert expected_alerts(cause, version) == alerts


@pytest.mark.parametrize("cause", [Cause.GONE, Cause.SILENT, Cause.STOPPING, Cause.HTTP2_ON_PEER_PORT])
def test_an_unclear_attempt_agrees_with_a_cause_of_unclear_ends(cause: Cause) -> None:
    case = next(case for case in cases("3.7.3") if case.attempt is not None and case.own)
    assert case.attempt is not None
    unclear = replace(case.attempt, ending=Ending.UNCLEAR, alert=None)
    rejection = replace(case.own[0], cause=cause)
    assert compare_wire_and_log(unclear, rejection).agree
    served = replace(unclear, ending=Ending.SERVED)
    assert not compare_wire_and_log(served, rejection).agree
