"""Which line is about which attempt, who else was rejected, and groups for people."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from etcd_log.cases import VERSIONS, cases
from pytest_etcdtls.etcd_log.causes import Cause
from pytest_etcdtls.etcd_log.entries import read_entries
from pytest_etcdtls.etcd_log.groups import group
from pytest_etcdtls.etcd_log.matching import match_attempts
from pytest_etcdtls.etcd_log.rejections import Rejection, rejections
from pytest_etcdtls.observations.attempt import Attempt, Way


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
    found = match_attempts(attempts, lines)
    assert not found.strangers
    assert not found.unmentioned
    assert [one.rejection for one in found.ours] == lines
    assert all(
        one.by_address and one.attempt.local_address == one.rejection.remote_address for one in found.ours
    )
    assert len({id(one.attempt) for one in found.ours}) == len(lines)


@pytest.mark.parametrize("version", VERSIONS)
def test_behind_nat_port_and_time_decide(version: str) -> None:
    attempts, lines = _of_mutual_tls(version)
    port = attempts[0].local_address.rpartition(":")[2]
    elsewhere = [replace(attempts[0], local_address=f"192.0.2.7:{port}", milliseconds=2.0)]
    (one,) = match_attempts(elsewhere, lines).ours
    assert (one.rejection, one.by_address) == (lines[0], False)
    later = [replace(elsewhere[0], started_at=elsewhere[0].started_at + timedelta(minutes=5))]
    assert not match_attempts(later, lines).ours


def test_a_port_is_used_again() -> None:
    attempts, lines = _of_mutual_tls("3.6.16")
    first = attempts[0]
    again = replace(first, started_at=first.started_at + timedelta(hours=1), milliseconds=1.0)
    found = match_attempts([again, first], lines[:1])
    assert [one.attempt for one in found.ours] == [first]
    assert found.unmentioned == (again,)


def test_strangers_and_what_etcd_does_not_mention() -> None:
    attempts, lines = _of_mutual_tls("3.7.3")
    served = replace(attempts[2], way=Way.SERVED, alert=None, local_address="127.0.0.1:1")
    silent = replace(attempts[3], local_address="127.0.0.1:2")
    found = match_attempts([*attempts[:2], served, silent], lines)
    assert len(found.ours) == 2
    assert found.strangers == tuple(lines[2:])
    assert found.unmentioned == (silent,)


def test_groups_tell_who_why_how_often_and_what_to_do() -> None:
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
    text = largest.describe()
    assert text.startswith(f"127.0.0.1 was rejected {largest.count} times on the ")
    assert "--trusted-ca-file" in text


def test_an_ipv6_address() -> None:
    line = (
        '{"level":"warn","ts":"2026-11-25T14:14:05.571104Z","msg":"rejected connection on peer endpoint",'
        '"remote-addr":"[fd00::11]:41414","server-name":"","error":"EOF"}'
    )
    (found,) = rejections(read_entries(line))
    assert (found.remote_host, found.remote_port) == ("fd00::11", 41414)
