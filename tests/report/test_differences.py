"""Differences: what is compared, the result, and how it is shown."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product

import pytest
from made import made_report
from msgspec.structs import replace

from pytest_etcdtls.checks.results import Outcome
from pytest_etcdtls.facts.behaviour import Behaviour
from pytest_etcdtls.report import render
from pytest_etcdtls.report.baseline import Baseline, CheckOutcome, Snapshot
from pytest_etcdtls.report.differences import (
    TOPICS,
    ComparedTargets,
    Direction,
    compare,
    comparisons,
    direction,
)
from pytest_etcdtls.report.model import Report
from pytest_etcdtls.report.terminal import verdict

CLIENT, PEER = "client-m0", "peer-m0"
LISTENERS = ((CLIENT, "client"), (PEER, "peer"))
BAD, GOOD = CheckOutcome(Outcome.VIOLATES, message="it is wrong"), CheckOutcome(Outcome.CONFORMS)


def snapshot(
    *behaviour: Behaviour,
    outcomes: Mapping[tuple[str, str], CheckOutcome] | None = None,
    label: str = "etcd-3.5.33",
) -> Snapshot:
    return Snapshot(label=label, listeners=LISTENERS, outcomes=outcomes or {}, behaviour=behaviour)


def refused(alert: str, identity: str = "none", version: str = "TLS 1.3", on: str = CLIENT) -> Behaviour:
    return Behaviour(on, "alert", identity, version, alert)


def outcome(before: CheckOutcome, after: CheckOutcome) -> ComparedTargets:
    place = (CLIENT, "mtls.no-certificate")
    return compare(snapshot(outcomes={place: before}), snapshot(outcomes={place: after}))


def report(*compared: ComparedTargets) -> Report:
    return made_report(comparisons=compared)


def test_for_an_etcd_that_did_not_start_only_the_declaration_is_compared() -> None:
    served, starts = (CLIENT, "mtls.no-certificate"), ("cluster", "config.starts")
    runs = snapshot(outcomes={served: GOOD, starts: GOOD}, label="etcd-3.6.16")
    stopped = snapshot(outcomes={served: CheckOutcome(Outcome.NOT_VERIFIED), starts: BAD})
    for before, after in ((runs, stopped), (stopped, runs)):
        compared = compare(before, after)
        assert [difference.subjects for difference in compared.differences] == [("config.starts",)]
        assert compared.not_started == ("etcd-3.5.33: it is wrong",)
        assert compared.remarks == ("only what is declared is compared",)
    unverified = compare(runs, replace(stopped, outcomes={**stopped.outcomes, starts: GOOD}))
    assert [difference.subjects for difference in unverified.differences] == [("mtls.no-certificate",)]


@pytest.mark.parametrize("after", Outcome)
@pytest.mark.parametrize("before", Outcome)
def test_only_a_new_finding_is_worse(before: Outcome, after: Outcome) -> None:
    rank = {Outcome.WARNS: 1, Outcome.VIOLATES: 2}
    way = direction(before, after)
    if before is after or Outcome.NOT_RUN in (before, after):
        assert way is None
    elif after in rank and (before is Outcome.WAIVED or rank[after] > rank.get(before, 0)):
        assert way is Direction.WORSE
    elif before in rank and after in (Outcome.CONFORMS, Outcome.NOT_APPLICABLE, Outcome.WARNS):
        assert way is Direction.BETTER
    else:
        assert way is Direction.CHANGED


def test_a_fault_is_worse_with_its_message_and_better_when_it_is_gone() -> None:
    (one,) = outcome(GOOD, BAD).worse
    assert one.sentence == "client-m0: mtls.no-certificate: conforms -> violates"
    assert one.meaning == "it is wrong"
    compared = outcome(BAD, GOOD)
    assert [difference.direction for difference in compared.differences] == [Direction.BETTER]
    assert compared.worse == ()
    (one,) = outcome(GOOD, CheckOutcome(Outcome.NOT_VERIFIED)).differences
    assert one.meaning.startswith("No longer verified: ")


def test_consequences_of_a_refused_good_client_follow_from_it() -> None:
    """Also what says so in other words: who is accepted, what is declared and its traps."""

    def served(value: str, effect: str, trap: str, good: CheckOutcome, rest: Outcome) -> Snapshot:
        return snapshot(
            Behaviour(CLIENT, "access", "client", "TLS 1.3", value),
            Behaviour(PEER, "access", "peer", "TLS 1.3", value),
            Behaviour(CLIENT, "declaration", "effective configuration", "", effect),
            Behaviour("cluster", "declaration", "ineffective settings", "", trap),
            outcomes={
                ("cluster", "config.crl-encoding"): good,
                (CLIENT, "mtls.trusted-client"): replace(good, follows=True),
                (CLIENT, "api.healthy"): CheckOutcome(rest),
            },
        )

    before = served("accepted", "revoked certificates are refused", "none", GOOD, Outcome.CONFORMS)
    bad = replace(BAD, remedies=("convert it",))
    after = served("refused", "every client is refused", "crl-encoding", bad, Outcome.NOT_VERIFIED)
    compared = compare(before, after)
    assert [one.subjects for one in compared.shown] == [("config.crl-encoding",), ("peer",)]
    assert compared.shown[0].remedies == ("convert it",)
    assert len(compared.differences) == 7
    assert len(compare(after, before).shown) == 2


@pytest.mark.parametrize("old", [BAD, CheckOutcome(Outcome.WAIVED)])
@pytest.mark.parametrize(
    ("identity", "check"),
    [
        ("none", "mtls.no-certificate"),
        ("self-signed", "mtls.self-signed"),
        ("revoked", "mtls.revoked-http"),
        ("client-certificate", "mtls.client-certificate-on-peer-port"),
    ],
)
def test_an_identity_that_a_repair_refuses_needs_no_certificate(
    identity: str, check: str, old: CheckOutcome
) -> None:
    open_, closed = (
        snapshot(Behaviour(CLIENT, "access", identity, "TLS 1.3", value), outcomes={(CLIENT, check): outcome})
        for value, outcome in (("accepted", old), ("refused", GOOD))
    )
    assert [difference.subjects for difference in compare(open_, closed).shown] == [(check,)]
    assert [difference.subjects for difference in compare(closed, open_).shown] == [(check,)]


def test_markdown_has_a_page_for_the_reviewer_before_the_rest() -> None:
    """The worst first, each with what to do, and what is alike once."""
    starts, gone = ("cluster", "config.starts"), ("cluster", "config.flag-unknown-to-version")
    flags = ("give --new=1 instead of --old", "remove --gone")
    alerts = [refused("42 bad_certificate", one) for one in ("expired", "self-signed")]
    before = snapshot(*alerts, outcomes={starts: GOOD, gone: GOOD, ("cluster", "cert.trusted"): BAD})
    after = snapshot(
        refused("45 certificate_expired", "expired"),
        refused("48 unknown_ca", "self-signed"),
        outcomes={
            starts: CheckOutcome(Outcome.VIOLATES, True, "it says: no such flag"),
            gone: CheckOutcome(Outcome.VIOLATES, False, "it does not start with --old", flags),
            ("cluster", "cert.trusted"): GOOD,
        },
    )
    page, folded, rest = render(report(compare(before, after)), ".md").partition("<details>")
    assert folded
    assert rest.rstrip().endswith("</details>")
    assert len(page.splitlines()) < 40
    words = ("no such flag", "1. **worse:**", "`--old`", "**What to do:**", "instead of", "remove", "2. on")
    places = [page.index(word) for word in (*words, "**Nothing to do:**", "**better:**")]
    assert places == sorted(places)
    assert page.count("another error text") == 1


@pytest.mark.parametrize(
    ("before", "after", "shown"),
    [
        ("none", "CN=V4 client CA", "none → `CN=V4 client CA`"),
        ("CN=a b", "CN=a b; CN=c d", "new `CN=c d`"),
        ("refused", "accepted", "refused → accepted"),
    ],
)
def test_a_value_in_markdown_is_in_one_code_span(before: str, after: str, shown: str) -> None:
    old, new = (snapshot(Behaviour(CLIENT, "announced", "names", "", value)) for value in (before, after))
    assert f"names: {shown}." in render(report(compare(old, new)), ".md")


def test_the_command_of_a_remedy_is_whole() -> None:
    case = (CLIENT, "lifecycle", "crl-encoding, pem", "the next handshake")
    old, new = (snapshot(Behaviour(*case, value)) for value in ("accepted", "refused"))
    lines = [line.text.strip() for line in verdict(report(compare(old, new)), width=80, verbosity=0)]
    assert "`openssl crl -in crl.pem -outform DER -out crl.der`." in " ".join(lines)


def test_an_observation_of_one_target_only_is_no_difference() -> None:
    before = snapshot(refused("42 bad_certificate"), outcomes={(CLIENT, "tls.floor"): GOOD})
    after = snapshot(refused("42 bad_certificate", "expired"), label="etcd-3.7.3")
    compared = compare(before, after)
    assert compared.differences == ()
    assert compared.remarks == ("no result in etcd-3.7.3, so not compared: tls.floor",)
    (remark, *_) = compare(snapshot(), before).remarks
    assert remark == "etcd-3.5.33 has no record of its behaviour: only outcomes are compared"


def test_equal_differences_are_merged() -> None:
    cases = list(product(("expired", "not-yet-valid"), ("TLS 1.2", "TLS 1.3"), (CLIENT, PEER)))
    before = snapshot(*(refused("42 bad_certificate", *case) for case in cases))
    after = snapshot(*(refused("45 certificate_expired", *case) for case in reversed(cases)))
    (one,) = compare(before, after).differences
    assert one.sentence == (
        "client-m0, peer-m0: alert for expired, not-yet-valid (TLS 1.2, TLS 1.3): "
        "42 bad_certificate -> 45 certificate_expired"
    )
    assert "error text" in one.meaning
    assert one.source


def test_a_difference_of_several_values_names_the_removed_and_added_ones() -> None:
    def groups(*names: str) -> Snapshot:
        return snapshot(Behaviour(CLIENT, "groups", "key exchange groups", "TLS 1.3", "; ".join(names)))

    (one,) = compare(groups("x25519", "secp256r1"), groups("X25519MLKEM768", "x25519")).differences
    assert one.change == "without secp256r1, new X25519MLKEM768"
    assert "hybrid" in one.meaning


def test_listeners_with_other_labels_and_experiments_are_compared_by_role() -> None:
    before = Snapshot(
        label="live",
        listeners=(("metrics-a-1", "metrics"), ("client-a-2", "client"), ("peer-a-3", "peer")),
        outcomes={},
        behaviour=(refused("42 bad_certificate", on="peer-a-3"),),
    )
    compared = compare(before, snapshot(refused("48 unknown_ca", on=PEER)))
    assert [one.listeners for one in compared.differences] == [(PEER,)]
    assert compared.remarks == ("without a counterpart: metrics-a-1",)
    read, not_read = (
        snapshot(Behaviour("client", "lifecycle", "crl-encoding, pem", "good client", value))
        for value in ("accepted", "refused")
    )
    (one,) = compare(read, not_read).differences
    assert one.about == "experiment: crl-encoding, pem (good client)"
    assert one.remedies[0].startswith("If --client-crl-file")


def test_the_go_release_is_shown_and_is_no_difference() -> None:
    old, new = (snapshot(Behaviour(CLIENT, "build", "Go", "", go)) for go in ("go1.24.0", "go1.26.8"))
    compared = compare(old, new)
    assert compared.differences == ()
    assert compared.headline == "etcd-3.5.33 (go1.24.0) -> etcd-3.5.33 (go1.26.8): no difference"


def test_differences_are_ordered_by_importance() -> None:
    before, after = (
        snapshot(
            *(
                Behaviour(CLIENT, topic, "it", "", value)
                for topic in (*reversed(TOPICS[1:]), "of a later version")
            ),
            outcomes={(CLIENT, "a.b"): one, (CLIENT, "c.d"): other, (CLIENT, "e.f"): third},
        )
        for value, one, other, third in (
            ("a", GOOD, BAD, CheckOutcome(Outcome.NOT_APPLICABLE)),
            ("b", BAD, GOOD, GOOD),
        )
    )
    found = [(difference.direction, difference.topic) for difference in compare(before, after).differences]
    assert found == [
        (Direction.WORSE, "outcome"),
        *((Direction.CHANGED, topic) for topic in TOPICS[1:]),
        (Direction.CHANGED, "of a later version"),
        (Direction.CHANGED, "outcome"),
        (Direction.BETTER, "outcome"),
    ]


def test_each_target_is_compared_with_the_previous_one_and_with_the_baseline() -> None:
    now = [snapshot(label=label) for label in ("etcd-3.5.33", "etcd-3.6.16", "etcd-3.7.3")]
    old = Baseline("old.json", (snapshot(label="etcd-3.6.16"), snapshot(label="etcd-3.4.23")), partial=True)
    compared = comparisons(now, old)
    assert [(*one.labels, one.baseline) for one in compared] == [
        ("etcd-3.5.33", "etcd-3.6.16", False),
        ("etcd-3.6.16", "etcd-3.7.3", False),
        ("etcd-3.6.16", "etcd-3.6.16", True),
    ]
    assert compared[-1].remarks == (
        "the run of old.json ended early",
        "without a counterpart: etcd-3.4.23 of the baseline",
        "without a counterpart: etcd-3.5.33, etcd-3.7.3 of this run",
    )
    live = [replace(snapshot(label=label), live=True) for label in ("a", "b")]
    assert comparisons(live, None) == ()
    assert [one.labels for one in comparisons(live, Baseline("old", tuple(live)))] == [("a", "a"), ("b", "b")]


def test_the_verdict_shows_at_most_twelve_lines_of_eighty_columns() -> None:
    def target(value: str, label: str) -> Snapshot:
        every = [
            Behaviour(CLIENT, "api", f"GET /{number}" * 20, "", f"{value}{number}") for number in range(40)
        ]
        return snapshot(*every, outcomes={(CLIENT, "mtls.no-certificate"): GOOD}, label=label)

    labels = [f"etcd-3.{minor}" for minor in range(8)]
    compared = comparisons([target(label, label) for label in labels], None)
    for some in (compared[:1], compared[:2], compared[:3], compared):
        lines = [line.text for line in verdict(report(*some), width=80, verbosity=-2)]
        about = [line for line in lines if not line.startswith(("0 connections", "etcd TLS: "))]
        assert 3 <= len(about) <= 13
        assert max(map(len, lines)) <= 80
        assert any("more: see the report" in line for line in lines)
