"""The summary: the worst first, equal entries merged, no line wider than the terminal; who etcd rejected."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import pytest
from conforming import refused
from made import made_report, made_result
from msgspec.structs import replace
from report.broken_cluster import judged
from starting import start_process

from pytest_etcdtls.checks.results import CheckResult, Finding, Outcome, Severity
from pytest_etcdtls.errors import Reason
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.facts.etcd_log import EtcdLogs, ReadLog, RejectedOthers
from pytest_etcdtls.facts.recording import Recording
from pytest_etcdtls.report.terminal import rejected_lines, summary
from pytest_etcdtls.role import Role
from pytest_etcdtls.target import Listener, Target
from pytest_etcdtls.tls.attempt import Attempt

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
    verbosity: int = 0,
    width: int = 80,
    left_out: Mapping[str, int] | None = None,
) -> list[str]:
    target = Target(label="live", origin="live", listeners=LISTENERS)
    report = made_report(*results, seen=(Recording(target=target),), left_out=left_out or {})
    return [line.text for line in summary(report, width=width, verbosity=verbosity)]


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
        replace(result(Outcome.NOT_VERIFIED, check=f"a.b{check}"), why=Reason(f"reason {number}"))
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
        "\n".join(line.text for line in summary(report, width=80, verbosity=verbosity))
        for verbosity in (0, 1)
    )
    assert "    declared:  " not in quiet
    assert "    declared:  " in verbose
    assert "--client-cert-auth=true" in verbose
    assert "    effective: every client" in verbose
    assert "    observed:  accepts client; refuses none of " in verbose
    assert "accepts clients without a certificate, self-signed, foreign-ca, " in " ".join(verbose.split())


NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
OTHERS = RejectedOthers(
    host="10.0.0.7",
    endpoint="client",
    cause="no client certificate",
    count=4,
    first=NOW,
    last=NOW,
    example="tls: client didn't provide a certificate",
    line=17,
    meaning="A client connected with TLS and presented no certificate.",
    advice="Give it one.",
)
LOG = ReadLog(source="etcd.log", members=("m0",), ours=1)


def rejected(
    *logs: ReadLog,
    origin: Literal["live", "process"] = "live",
    connections: tuple[Attempt, ...] = (),
    every: bool = False,
) -> list[str]:
    facts = ((None, None, EtcdLogs(logs=logs)),) if logs else ()
    seen = Recording(
        target=Target(label="live", origin=origin, listeners=()), facts=facts, connections=connections
    )
    return [line.text for line in rejected_lines(seen, 80, every=every)]


@pytest.mark.parametrize(
    ("ours", "changed", "said"),
    [
        (
            1,
            {"last": NOW.replace(hour=13)},
            "since 2030-01-01 12:00:00, last at 2030-01-01 13:00:00 UTC (line 17): no client certificate",
        ),
        (
            1,
            {"host": "10.0.0.5", "count": 1, "from_here": True, "last": None},
            "1 rejected connection is ours, 1 is not 10.0.0.5, once on the client endpoint (line 17): no "
            "client certificate, from an address of this run",
        ),
        (0, {}, "0 rejected connections are ours, 4 are not NAT, a proxy or a published port changes"),
    ],
)
def test_times_local_addresses_and_changed_ones_are_named(
    ours: int, changed: dict[str, Any], said: str
) -> None:
    text = " ".join(" ".join(rejected(replace(LOG, ours=ours, others=(replace(OTHERS, **changed),)))).split())
    assert said in text
    assert ("NAT" in text) == (ours == 0)


def test_a_cause_is_explained_once_and_a_few_groups_are_shown() -> None:
    many = tuple(replace(OTHERS, host=f"10.0.1.{number}") for number in range(30))
    few = rejected(replace(LOG, others=many))
    assert sum("Give it one." in line for line in few) == 1
    assert sum("10.0.1." in line for line in few) == 5
    assert few[-1] == "    and 25 more like these: -vv and --etcd-report have them"
    every = rejected(replace(LOG, others=many), every=True)
    assert sum("10.0.1." in line for line in every) == 30
    assert not any("more like these" in line for line in every)


def test_a_log_of_ours_is_shown_only_with_unknown_clients_and_a_log_in_part_is_named() -> None:
    assert rejected(LOG, origin="process") == []
    assert rejected(LOG, origin="process", every=True) != []
    assert any("10.0.0.7" in line for line in rejected(replace(LOG, others=(OTHERS,)), origin="process"))
    assert rejected(origin="process", connections=(refused(),)) == []
    assert rejected(replace(LOG, problem="No such file or directory"))[-1] == (
        "  etcd.log (m0) could not be read to the end: No such file or directory"
    )
    assert "0 are not (only its end was read)" in " ".join(
        " ".join(rejected(replace(LOG, truncated=True))).split()
    )
