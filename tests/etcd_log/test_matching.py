"""Matches of lines and connections."""

from __future__ import annotations

from datetime import timedelta

import pytest
from msgspec.structs import replace

from etcd_log.cases import cases
from pytest_etcdtls.etcd_log.matching import match_connections
from pytest_etcdtls.etcd_log.parse import Cause, Rejection, read_entries, rejections
from pytest_etcdtls.role import Side
from pytest_etcdtls.tls.attempt import Attempt, Ending


def _of_mutual_tls(version: str) -> tuple[list[Attempt], list[Rejection]]:
    chosen = [
        case for case in cases(version) if case.what.startswith("mutual TLS") and case.role != "metrics"
    ]
    text = "\n".join(case.log for case in chosen)
    attempts = [case.attempt for case in chosen if case.attempt is not None]
    return attempts, list(rejections(read_entries(text)))


def test_a_port_is_used_again() -> None:
    attempts, lines = _of_mutual_tls("3.6.16")
    first = attempts[0]
    again = replace(first, started_at=first.started_at + timedelta(hours=1), milliseconds=1.0)
    found = match_connections([again, first], lines[:1])
    assert found == {0: first}


def test_a_port_that_another_client_used_just_before() -> None:
    attempts, lines = _of_mutual_tls("3.6.16")
    ours, *_ = lines
    assert ours.time is not None
    before = replace(ours, time=ours.time - timedelta(seconds=30), cause=Cause.EXPIRED)
    found = match_connections([replace(attempts[0], milliseconds=2.0)], [before, ours])
    assert set(found) == {1}


@pytest.mark.parametrize(
    ("ending", "host", "slack", "ours"),
    [
        (Ending.SERVED, "10.0.0.5", 2, 0),
        (Ending.REFUSED, "10.0.0.5", 2, 1),
        (Ending.REFUSED, "10.0.0.5", 0, 0),
        (Ending.REFUSED, "127.0.0.1", 2, 0),
    ],
)
def test_the_earlier_user_of_a_port(ending: Ending, host: str, slack: int, ours: int) -> None:
    attempts, lines = _of_mutual_tls("3.6.16")
    time, address = lines[0].time, f"{host}:40000"
    assert time is not None
    now = replace(attempts[0], ending=ending, started_at=time + timedelta(seconds=1.5), milliseconds=2.0)
    line = replace(lines[0], remote_address=address)
    found = match_connections([replace(now, local_address=address)], [line], slack=timedelta(seconds=slack))
    assert len(found) == ours


def test_lines_of_other_clients() -> None:
    attempts, lines = _of_mutual_tls("3.7.3")
    served = replace(attempts[2], ending=Ending.SERVED, alert=None, local_address="127.0.0.1:1")
    found = match_connections([*attempts[:2], served], lines)
    assert set(found) == {0, 1}


def test_an_ipv6_address() -> None:
    line = (
        '{"level":"warn","ts":"2026-11-25T14:14:05.571104Z","msg":"rejected connection on peer endpoint",'
        '"remote-addr":"[fd00::11]:41414","server-name":"","error":"EOF"}'
    )
    (found,) = rejections(read_entries(line))
    assert (found.remote_host, found.remote_address) == ("fd00::11", "[fd00::11]:41414")


def test_a_source_port_used_for_both_ports_if_the_log_does_not_name_the_port() -> None:
    attempts, lines = _of_mutual_tls("3.5.1")
    at_once = [
        replace(attempt, local_address=lines[0].remote_address, started_at=attempts[0].started_at)
        for attempt in attempts[:2]
    ]
    of_both = [
        replace(line, remote_address=lines[0].remote_address, time=lines[0].time) for line in lines[:3]
    ]
    assert set(match_connections(at_once, of_both)) == {0, 1}, "the third is of somebody else"


def test_a_source_port_used_for_both_ports_of_a_member_at_once() -> None:
    attempts, lines = _of_mutual_tls("3.7.3")
    client = next(one for one in lines if one.endpoint == "client")
    peer = next(one for one in lines if one.endpoint == "peer")
    here = next(attempt for attempt in attempts if attempt.local_address == client.remote_address)
    there = next(attempt for attempt in attempts if attempt.local_address == peer.remote_address)
    same = replace(peer, remote_address=client.remote_address, time=client.time)
    also = replace(there, local_address=here.local_address, started_at=here.started_at)
    endpoints: dict[str, Side] = {here.url: "client", there.url: "peer"}
    found = match_connections([here, also], [same, client], endpoints=endpoints)
    assert found == {0: also, 1: here}
