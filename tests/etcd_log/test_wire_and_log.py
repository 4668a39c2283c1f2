"""The alert on the wire agrees with the cause in the log, and another alert does not."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from etcd_log.cases import VERSIONS, cases
from pytest_etcdtls.etcd_log.matching import compare_wire_and_log, expected_alerts
from pytest_etcdtls.etcd_log.parse import Cause
from pytest_etcdtls.tls.attempt import Ending


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
