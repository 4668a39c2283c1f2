"""The summary: the worst first, equal entries merged, no line wider than the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from made import made_report, made_result
from msgspec.structs import replace
from report.broken_cluster import judged
from starting import start_process

from pytest_etcdtls.checks.results import CheckResult, Finding, Outcome, Severity
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.facts.recording import Recording
from pytest_etcdtls.profiles.waivers import Review
from pytest_etcdtls.report.terminal import summary
from pytest_etcdtls.role import Role
from pytest_etcdtls.target import Listener, Target

NOTHING = Review(used=(), stale=(), unused=())
LISTENERS = tuple(
    Listener(role=role, scheme="https", host="10.0.0.11", port=port, member="m0", label=f"{role}-m0")
    for role, port in ((Role.CLIENT, 2379), (Role.PEER, 2380))
)


def result(
    outcome: Outcome,
    listener: int = 0,
    check: str = "cert.trusted",
    severity: Severity = Severity.HIGH,
    message: str = "there is smoke",
) -> CheckResult:
    finds = outcome in (Outcome.VIOLATES, Outcome.WARNS)
    return made_result(
        outcome,
        check,
        severity=severity,
        listener=LISTENERS[listener].label,
        role=LISTENERS[listener].role,
        url=LISTENERS[listener].url,
        reason="" if finds else f"a reason for {outcome}",
        findings=(Finding(message, "none", "some"),) if finds else (),
    )


def lines(
    *results: CheckResult,
    review: Review = NOTHING,
    verbosity: int = 0,
    width: int = 80,
    left_out: Mapping[str, int] | None = None,
) -> list[str]:
    target = Target(label="live", origin="live", listeners=LISTENERS)
    report = made_report(*results, seen=(Recording(target=target),), left_out=left_out or {})
    return [line.text for line in summary(report, review, width=width, verbosity=verbosity)]


def test_equal_warnings_share_a_block_and_equal_reasons_a_line() -> None:
    text = lines(result(Outcome.WARNS), result(Outcome.WARNS, 1), result(Outcome.WARNS, 1, message="fog"))
    assert "  cert.trusted (high) on every listener of live" in text
    assert "  cert.trusted (high) on peer-m0 of live" in text
    assert sum("there is smoke" in line for line in text) == 1
    text = lines(
        result(Outcome.NOT_VERIFIED, check="a.b"),
        result(Outcome.NOT_VERIFIED, 1, check="a.b"),
        result(Outcome.NOT_VERIFIED, check="c.d"),
        verbosity=1,
    )
    assert text.count("  3: a reason for not-verified") == 1


@pytest.mark.parametrize("outcome", [Outcome.NOT_VERIFIED, Outcome.NOT_APPLICABLE])
@pytest.mark.parametrize(("verbosity", "shown"), [(-1, False), (0, False), (1, True)])
def test_verbose_shows_why_a_check_is_not_judged(outcome: Outcome, verbosity: int, shown: bool) -> None:
    text = lines(result(outcome), verbosity=verbosity)
    assert (f"  1: a reason for {outcome}" in text) is shown
    assert (f"1 {outcome.replace('-', ' ')}; 0 connections" in text) is (verbosity >= 0)


def test_results_that_the_options_exclude_are_counted_and_explained_with_v() -> None:
    reasons = {"there is no declaration: pass --etcd-config": 40, "there is only one member to judge": 4}
    assert "1 conforms, 44 not collected; 0 connections" in lines(result(Outcome.CONFORMS), left_out=reasons)
    text = lines(left_out=reasons, verbosity=1)
    assert "  40: there is no declaration: pass --etcd-config" in text
    assert "  4: there is only one member to judge" in text


def test_a_missing_search_for_members_certificates_and_results_are_named() -> None:
    text = lines(verbosity=1)
    assert text.count("  Only the named listeners were judged; --etcd-discover judges every member.") == 1
    assert "nothing was judged; 0 connections" in text
    assert "  every listener: no certificate was seen" in text


def test_of_many_reasons_and_checks_the_last_are_counted() -> None:
    many = [
        replace(result(Outcome.NOT_VERIFIED, check=f"a.b{check}"), reason=f"reason {number}")
        for number in range(9)
        for check in range(9 - number)
    ]
    text = lines(*many, verbosity=1)
    assert "  9: reason 0" in text
    assert "  1: reason 8" not in text
    assert "  21: 6 more reasons: -vv has all" in text
    assert "  1: reason 8: a.b0 on client-m0" in lines(*many, verbosity=2)


@pytest.mark.parametrize("width", [40, 80, 200])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    every = [result(outcome, number % 2, message="word " * 60) for number, outcome in enumerate(Outcome)]
    assert all(len(line) <= width for line in lines(*every, verbosity=1, width=width))


def test_verbose_shows_declared_effective_and_observed_settings(newest_etcd: Path) -> None:
    config = ClusterConfig(auto_tls=True, cert_file=None, key_file=None, expects_health=False)
    with start_process(config, newest_etcd) as cluster:
        report = judged(cluster.target())
    quiet, verbose = (
        "\n".join(line.text for line in summary(report, NOTHING, width=80, verbosity=verbosity))
        for verbosity in (0, 1)
    )
    assert "    declared:  " not in quiet
    assert "    declared:  " in verbose
    assert "--client-cert-auth=true" in verbose
    assert "    effective: every client" in verbose
    assert "    observed:  accepts client; refuses none of " in verbose
    assert "accepts clients without a certificate, self-signed, foreign-ca, " in " ".join(verbose.split())
