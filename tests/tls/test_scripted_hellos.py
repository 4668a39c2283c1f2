"""Each fault of a listener's hello is found by exactly the check of that fault, on a server of ours.

No etcd can be brought to these: Go's TLS has no old versions behind etcd's minimum, no compression, and no
weak groups, and does what RFC 5746, 7507 and 8701 want.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from servers import Handler, Server
from tls.hello_server import (
    FALLBACK_SCSV,
    HANDSHAKE_FAILURE,
    SSL3,
    TLS1_0,
    TLS1_1,
    TLS1_2,
    TLS1_3,
    ClientHello,
    Policy,
    alert,
    server_hello,
)

from pytest_etcdtls.checks.registry import select
from pytest_etcdtls.checks.results import CheckResult, Outcome
from pytest_etcdtls.run.judge import run_checks
from pytest_etcdtls.run.observer import Observer
from pytest_etcdtls.target import Bounds, Target

pytestmark = pytest.mark.usefixtures("hellos_alone")

Serve = Callable[[Handler], Server]

JUDGED = select(
    [
        "tls",
        # These two need a handshake that finishes in TLS 1.3, or an accepted client.
        "!tls.alpn-*",
        "!tls.early-data",
    ]
)


def judge(serve: Serve, policy: Policy) -> list[CheckResult]:
    """Judge a server with that policy; nothing of it is worth waiting for."""
    listener = serve(policy.handler()).listener()
    target = Target(label="scripted", origin="live", listeners=(listener,))
    return run_checks(Observer(target, Bounds(timeout=10)), JUDGED)


def outcomes(results: list[CheckResult]) -> dict[str, Outcome]:
    """Return what did not conform, by check."""
    return {result.check: result.outcome for result in results if result.outcome is not Outcome.CONFORMS}


# Nobody is accepted by these servers, so whether they renegotiate is not to be seen.
UNSEEN = {"tls.renegotiation": Outcome.NOT_VERIFIED}


def test_a_correct_server_conforms(serve: Serve) -> None:
    results = judge(serve, Policy())
    assert outcomes(results) == UNSEEN, (
        f"what Policy of tests/tls/hello_server.py has by default conforms to every check: {results}"
    )
    assert len(results) == len(JUDGED)


@pytest.mark.kills(
    "tls.version-floor",
    "tls.compression",
    "tls.renegotiation",
    "tls.fallback-signal",
    "tls.unknown-extensions-tolerated",
    "tls.groups",
    "tls.sha1-signature",
)
@pytest.mark.parametrize(
    ("policy", "check", "outcome"),
    [
        (Policy(versions=(TLS1_1, TLS1_2, TLS1_3), suites=(0xC02B, 0xC009)), "tls.version-floor", "violates"),
        (Policy(versions=(TLS1_0, TLS1_2, TLS1_3), suites=(0xC02B, 0xC009)), "tls.version-floor", "violates"),
        (Policy(versions=(SSL3, TLS1_2, TLS1_3), suites=(0xC02B, 0x002F)), "tls.version-floor", "violates"),
        (Policy(compression=1), "tls.compression", "violates"),
        (Policy(compression=64), "tls.compression", "violates"),
        (Policy(secure_renegotiation=False), "tls.renegotiation", "violates"),
        (Policy(honours_fallback=False), "tls.fallback-signal", "warns"),
        (Policy(signs_with_sha1=True), "tls.sha1-signature", "warns"),
        (Policy(tolerates_grease=False), "tls.unknown-extensions-tolerated", "violates"),
        (Policy(groups=(0x11EC, 29, 19)), "tls.groups", "violates"),
        (Policy(groups=(29, 23)), "tls.hybrid-group", "warns"),
        (Policy(suites=(0xC02B, 0xC007)), "tls.broken-suites", "violates"),
        (Policy(suites=(0xC02B, 0x0001)), "tls.broken-suites", "violates"),
        (Policy(suites=(0xC02B, 0x0018)), "tls.broken-suites", "violates"),
        (Policy(suites=(0xC02B, 0x0003)), "tls.broken-suites", "violates"),
        (Policy(suites=(0xC02B, 0x0009)), "tls.broken-suites", "violates"),
        (Policy(suites=(0xC02B, 0xC008)), "tls.triple-des", "warns"),
        (Policy(suites=(0xC02B, 0x009C)), "tls.rsa-key-exchange", "warns"),
        (Policy(suites=(0xC02B, 0xC02D)), "tls.rsa-key-exchange", "warns"),
        (Policy(suites=(0xC02B, 0xC024)), "tls.cbc-suites", "warns"),
    ],
)
def test_one_fault_is_found_by_one_check(serve: Serve, policy: Policy, check: str, outcome: str) -> None:
    results = judge(serve, policy)
    expected = {**UNSEEN, check: Outcome(outcome)}
    if policy.versions[0] < TLS1_2:
        # What lets the old version in, a suite that it has, is a fault in TLS 1.2 as well.
        suite = "tls.cbc-suites" if 0xC009 in policy.suites else "tls.rsa-key-exchange"
        expected[suite] = Outcome.WARNS
    assert outcomes(results) == expected, results
    assert all(result.findings for result in results if result.outcome in (Outcome.VIOLATES, Outcome.WARNS))


def test_weak_groups_only_violate(serve: Serve) -> None:
    results = judge(serve, Policy(versions=(TLS1_2,), groups=(19, 21)))
    found = {result.check: [finding.message for finding in result.findings] for result in results}
    assert found["tls.groups"] == ["no group of today is accepted", "a weak group is accepted"]


def test_no_forward_secrecy(serve: Serve) -> None:
    found = outcomes(judge(serve, Policy(versions=(TLS1_2,), suites=(0x009C,))))
    assert found["tls.forward-secrecy"] is Outcome.VIOLATES
    assert found["tls.rsa-key-exchange"] is Outcome.WARNS
    assert found["tls.groups"] is Outcome.NOT_APPLICABLE


def test_checks_of_one_version_do_not_apply_to_the_other(serve: Serve) -> None:
    tls12 = outcomes(judge(serve, Policy(versions=(TLS1_2,))))
    assert tls12 == {
        **UNSEEN,
        "tls.tls13-offered": Outcome.WARNS,
        "tls.hybrid-group": Outcome.NOT_APPLICABLE,
        "tls.fallback-signal": Outcome.NOT_APPLICABLE,
        "tls.allowed-tls13-suites": Outcome.NOT_APPLICABLE,
    }
    tls13 = outcomes(judge(serve, Policy(versions=(TLS1_3,))))
    assert set(tls13.values()) == {Outcome.NOT_APPLICABLE}
    assert set(tls13) == {
        "tls.allowed-suites",
        "tls.broken-suites",
        "tls.cbc-suites",
        "tls.compression",
        "tls.fallback-signal",
        "tls.forward-secrecy",
        "tls.renegotiation",
        "tls.rsa-key-exchange",
        "tls.sha1-signature",
        "tls.triple-des",
    }


def _on(version: int, answer: bytes) -> Callable[[ClientHello], bytes | None]:
    return lambda hello: answer if hello.versions == (version,) else None


def _to_others(hello: ClientHello) -> bytes | None:
    return alert(80) if hello.versions == (TLS1_2,) and 0xC02B not in hello.suites else None


def _to_fallback(hello: ClientHello) -> bytes | None:
    return alert(HANDSHAKE_FAILURE) if FALLBACK_SCSV in hello.suites else None


@pytest.mark.parametrize(
    ("raw", "checks"),
    [
        (_on(TLS1_1, b""), ["tls.version-floor"]),
        (_to_others, ["tls.broken-suites", "tls.triple-des", "tls.rsa-key-exchange", "tls.cbc-suites"]),
        (_to_fallback, ["tls.fallback-signal"]),
        (_on(TLS1_2, server_hello(TLS1_2, 0x1234, b"") + alert(80)), ["tls.broken-suites"]),
    ],
    ids=["closes on TLS 1.1", "another alert", "another alert to a fallback", "a suite that was not offered"],
)
def test_what_is_no_refusal_is_inconclusive(
    serve: Serve, raw: Callable[[ClientHello], bytes | None], checks: list[str]
) -> None:
    results = judge(serve, Policy(raw=raw))
    assert {check: outcomes(results)[check] for check in checks} == dict.fromkeys(
        checks, Outcome.INCONCLUSIVE
    )
    reasons = {result.check: result.reason for result in results}
    assert "tls.version-floor" not in checks or "TLSv1.1" in reasons["tls.version-floor"]


def test_a_warning_before_the_hello_is_not_a_refusal(serve: Serve) -> None:
    plain = Policy()

    def raw(hello: ClientHello) -> bytes | None:
        return alert(112, level=1) + plain.answer(hello)

    assert outcomes(judge(serve, replace(plain, raw=raw))) == UNSEEN


def test_a_server_without_tls_is_not_judged(serve: Serve) -> None:
    results = judge(serve, Policy(raw=lambda _: b"HTTP/1.1 400 Bad Request\r\n\r\n"))
    assert set(outcomes(results).values()) <= {Outcome.NOT_VERIFIED, Outcome.INCONCLUSIVE}
