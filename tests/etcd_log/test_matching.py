"""Matches of lines and attempts, lines of other clients, and their groups."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from msgspec.structs import replace

from etcd_log.cases import VERSIONS, cases
from pytest_etcdtls.etcd_log.matching import MatchedBy, agrees, by_our_clock, clock_ahead, match_connections
from pytest_etcdtls.etcd_log.parse import Cause, Rejection, read_entries, rejections
from pytest_etcdtls.etcd_log.reasons import group
from pytest_etcdtls.role import Side
from pytest_etcdtls.tls.attempt import Attempt, Ending


def _of_mutual_tls(version: str) -> tuple[list[Attempt], list[Rejection]]:
    chosen = [
        case for case in cases(version) if case.what.startswith("mutual TLS") and case.role != "metrics"
    ]
    text = "\n".join(case.log for case in chosen)
    attempts = [case.attempt for case in chosen if case.attempt is not None]
    return attempts, list(rejections(read_entries(text)))


@pytest.mark.parametrize("version", VERSIONS)
def test_every_line_finds_its_attempt(version: str) -> None:
    attempts, lines = _of_mutual_tls(version)
    found = match_connections(attempts, lines)
    assert not found.unmatched
    assert not found.unmentioned
    assert [one.rejection for one in found.ours] == lines
    assert all(
        one.by is MatchedBy.ADDRESS and one.connection.local_address == one.rejection.remote_address
        for one in found.ours
    )
    assert len({id(one.connection) for one in found.ours}) == len(lines)


@pytest.mark.parametrize("version", VERSIONS)
def test_behind_nat_lines_are_matched_by_port_and_time(version: str) -> None:
    attempts, lines = _of_mutual_tls(version)
    port = attempts[0].local_address.rpartition(":")[2]
    elsewhere = [replace(attempts[0], local_address=f"192.0.2.7:{port}", milliseconds=2.0)]
    (one,) = match_connections(elsewhere, lines).ours
    assert (one.rejection, one.by) == (lines[0], MatchedBy.PORT)
    later = [replace(elsewhere[0], started_at=elsewhere[0].started_at + timedelta(minutes=5))]
    assert not match_connections(later, lines).ours


def test_a_port_is_used_again() -> None:
    attempts, lines = _of_mutual_tls("3.6.16")
    first = attempts[0]
    again = replace(first, started_at=first.started_at + timedelta(hours=1), milliseconds=1.0)
    found = match_connections([again, first], lines[:1])
    assert [one.connection for one in found.ours] == [first]
    assert found.unmentioned == (again,)


def test_a_port_that_another_client_used_just_before() -> None:
    attempts, lines = _of_mutual_tls("3.6.16")
    ours, *_ = lines
    assert ours.time is not None
    before = replace(ours, time=ours.time - timedelta(seconds=30), cause=Cause.EXPIRED)
    found = match_connections([replace(attempts[0], milliseconds=2.0)], [before, ours])
    assert [one.rejection for one in found.ours] == [ours]
    assert found.unmatched == (before,)


@pytest.mark.parametrize(
    ("ending", "slack", "ours"), [(Ending.SERVED, 2, 0), (Ending.REFUSED, 2, 1), (Ending.REFUSED, 0, 0)]
)
def test_the_earlier_user_of_a_port_of_a_served_connection(ending: Ending, slack: int, ours: int) -> None:
    attempts, lines = _of_mutual_tls("3.6.16")
    time = lines[0].time
    assert time is not None
    now = replace(attempts[0], ending=ending, started_at=time + timedelta(seconds=1.5), milliseconds=2.0)
    found = match_connections([now], lines[:1], slack=timedelta(seconds=slack))
    assert len(found.ours) == ours


def test_agreeing_clocks_identify_an_earlier_use_of_a_port() -> None:
    attempts, lines = _of_mutual_tls("3.6.16")
    silent, *others = attempts
    assert lines[0].time is not None
    assert len(match_connections(attempts, lines).ours) > 4
    earlier = replace(lines[0], time=silent.started_at - timedelta(seconds=1.5), cause=Cause.EXPIRED)
    found = match_connections([silent, *others], [earlier, *lines[1:]])
    assert earlier in found.unmatched
    assert silent in found.unmentioned


def test_lines_of_other_clients_and_attempts_without_a_line() -> None:
    attempts, lines = _of_mutual_tls("3.7.3")
    served = replace(attempts[2], ending=Ending.SERVED, alert=None, local_address="127.0.0.1:1")
    silent = replace(attempts[3], local_address="127.0.0.1:2")
    found = match_connections([*attempts[:2], served, silent], lines)
    assert len(found.ours) == 2
    assert found.unmatched == tuple(lines[2:])
    assert found.unmentioned == (silent,)


def test_groups_have_host_cause_count_and_times() -> None:
    _, lines = _of_mutual_tls("3.6.16")
    groups = group(lines)
    largest = groups[0]
    assert (largest.host, largest.cause) == ("127.0.0.1", Cause.UNKNOWN_CA)
    assert largest.count == sum(
        one.cause is Cause.UNKNOWN_CA and one.endpoint == largest.endpoint for one in lines
    )
    assert sum(one.count for one in groups) == len(lines)
    assert largest.first is not None
    assert largest.last is not None
    assert largest.first < largest.last


def test_an_ipv6_address() -> None:
    line = (
        '{"level":"warn","ts":"2026-11-25T14:14:05.571104Z","msg":"rejected connection on peer endpoint",'
        '"remote-addr":"[fd00::11]:41414","server-name":"","error":"EOF"}'
    )
    (found,) = rejections(read_entries(line))
    assert (found.remote_host, found.remote_port) == ("fd00::11", 41414)


def _behind_a_proxy(version: str) -> tuple[list[Attempt], list[Rejection], Callable[..., bool]]:
    """Return attempts that ended when they did, and their lines as if a proxy had made the connections."""
    attempts, lines = _of_mutual_tls(version)
    go = cases(version)[0].go
    by_address = {one.local_address: one for one in attempts}
    there = [
        replace(one, local_address=f"10.9.9.9:{number}", milliseconds=30.0)
        for number, one in enumerate(attempts)
    ]
    moved = [
        replace(line, remote_address=f"172.18.0.1:{30000 + number}")
        for number, line in enumerate(lines)
        if line.remote_address in by_address
    ]
    return there, moved, lambda one, line: agrees(one, line, go)


@pytest.mark.parametrize("version", VERSIONS)
def test_behind_a_proxy_lines_are_matched_by_time(version: str) -> None:
    attempts, lines, fitting = _behind_a_proxy(version)
    found = match_connections(attempts, lines, agrees=fitting)
    assert {one.by for one in found.ours} == {MatchedBy.TIME}
    assert [one.rejection for one in found.ours] == lines
    assert not found.unmentioned
    assert not match_connections(attempts, lines).ours


def test_behind_a_proxy_a_line_that_matches_nothing_is_ours_only_without_other_clients() -> None:
    attempts, lines, fitting = _behind_a_proxy("3.7.3")
    other = replace(lines[0], cause=Cause.EXPIRED, error="expired")
    found = match_connections(attempts, [other, *lines[1:]], agrees=fitting)
    assert found.unmatched == (other,)
    alone = match_connections(attempts, [other, *lines[1:]], agrees=fitting, alone=True)
    assert not alone.unmatched
    assert alone.ours[0].rejection == other
    assert alone.ours[0].connection == attempts[0]


def test_a_few_lines_at_the_right_time_match_nothing() -> None:
    attempts, lines, fitting = _behind_a_proxy("3.7.3")
    few = lines[: len(lines) // 3]
    assert not match_connections([replace(one, url="x") for one in attempts], few, agrees=fitting).ours


def test_a_port_that_is_used_towards_both_ports_where_the_log_does_not_say_which() -> None:
    attempts, lines = _of_mutual_tls("3.6.16")
    pairs = list(zip(attempts, lines, strict=True))
    first = pairs[0]
    second = next(
        pair for pair in pairs if not (agrees(first[0], pair[1], None) or agrees(pair[0], first[1], None))
    )
    at_once = [
        replace(
            attempt, local_address=first[0].local_address, started_at=first[0].started_at, milliseconds=9.0
        )
        for attempt, _ in (first, second)
    ]
    of_both = [
        replace(line, remote_address=first[1].remote_address, time=first[1].time)
        for _, line in (second, first)
    ]
    found = match_connections(at_once, of_both, agrees=agrees)
    assert {id(one.connection): one.rejection for one in found.ours} == {
        id(at_once[0]): of_both[1],
        id(at_once[1]): of_both[0],
    }


def test_a_port_that_is_used_towards_both_ports_of_a_member_at_once() -> None:
    attempts, lines = _of_mutual_tls("3.7.3")
    client = next(one for one in lines if one.endpoint == "client")
    peer = next(one for one in lines if one.endpoint == "peer")
    here = next(one for one in attempts if one.local_address == client.remote_address)
    there = next(one for one in attempts if one.local_address == peer.remote_address)
    same = replace(peer, remote_address=client.remote_address, time=client.time)
    also = replace(there, local_address=here.local_address, started_at=here.started_at)
    endpoints: dict[str, Side] = {here.url: "client", there.url: "peer"}
    found = match_connections([here, also], [same, client], endpoints=endpoints)
    assert [(one.connection, one.rejection) for one in found.ours] == [(also, same), (here, client)]


@pytest.mark.parametrize("ahead", [timedelta(hours=2), timedelta(minutes=-7), timedelta(seconds=90)])
def test_a_log_by_another_clock(ahead: timedelta) -> None:
    attempts, lines = _of_mutual_tls("3.4.23")
    there = [replace(one, time=one.time + ahead) for one in lines if one.time is not None]
    assert not match_connections([replace(one, milliseconds=2.0) for one in attempts], there).ours
    measured = clock_ahead(attempts, there)
    assert abs(measured - ahead) < timedelta(seconds=2)
    assert not match_connections(attempts, by_our_clock(there, measured)).unmatched


def test_ports_of_a_proxy_that_equal_ours_by_chance() -> None:
    """A proxy has ports from the same range, one after the other: many are ours, a few seconds apart."""
    attempts, lines = _of_mutual_tls("3.6.16")
    several = len(lines) // 3
    theirs = {line.remote_address: f"172.18.0.1:{line.remote_port}" for line in lines[:several]}
    proxied = [
        replace(
            line,
            remote_address=theirs.get(line.remote_address, f"172.18.0.1:{20000 + place}"),
            time=line.time + timedelta(seconds=4),
        )
        for place, line in enumerate(lines)
        if line.time is not None
    ]
    assert several > 3
    assert clock_ahead(attempts, proxied) == timedelta()
    all_ours = [
        replace(one, remote_address=f"172.18.0.1:{line.remote_port}")
        for one, line in zip(proxied, lines, strict=True)
    ]
    assert abs(clock_ahead(attempts, all_ours) - timedelta(seconds=4)) < timedelta(seconds=2)


def test_agreeing_clocks_with_too_few_lines() -> None:
    attempts, lines = _of_mutual_tls("3.6.16")
    assert clock_ahead(attempts, lines) == timedelta()
    there = [replace(one, time=one.time + timedelta(hours=1)) for one in lines if one.time is not None]
    assert clock_ahead(attempts, there[:2]) == timedelta()
    assert clock_ahead(attempts, ()) == timedelta()
