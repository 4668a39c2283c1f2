"""What /health says and what follows from it; versions of two ports of one member."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from conforming import sample_listener

from pytest_etcdtls.checks.judgement import altered
from pytest_etcdtls.checks.registry import catalogue
from pytest_etcdtls.checks.results import CannotJudge, Finding, Level, Outcome, Statement
from pytest_etcdtls.errors import NotApplicableError, Reason
from pytest_etcdtls.facts.fact import Each
from pytest_etcdtls.role import Role
from pytest_etcdtls.run.conforming import conforming
from pytest_etcdtls.tls.attempt import Response


@pytest.mark.parametrize(
    ("reason", "says"),
    [
        ("RAFT NO LEADER", None),
        ("ALARM NOSPACE", Level.SHOULD),
        ("RANGE ERROR:etcdserver: request timed out", None),
        ("RANGE ERROR:etcdserver: leader changed", Outcome.INCONCLUSIVE),
        ("RANGE ERROR:etcdserver: server stopped", Outcome.INCONCLUSIVE),
    ],
)
def test_a_read_cut_by_the_stop_of_a_member_is_not_a_verdict(
    reason: str, says: Level | Outcome | None
) -> None:
    """Seen on etcd 3.7 while the leader, another member, was stopped, and on 3.5 while this one was."""
    check = catalogue()["api.healthy"]
    given = conforming(check, Role.CLIENT)
    body = f'{{"health":"false","reason":"{reason}"}}'.encode()
    sick = altered(given["exchange"], "tries.*", response=Response(status=503, body=body))
    [statement] = check.function(**given | {"exchange": sick})
    if isinstance(statement, CannotJudge):
        assert statement.outcome is says
        url = sample_listener(Role.CLIENT).url
        assert statement.reason == f"a member was stopping, run again: {url}/health said {reason}"
    else:
        assert isinstance(statement, Finding)
        assert statement.level is says


@pytest.mark.parametrize(
    ("client", "peer", "differ"),
    [
        (("3.7.3", "3.7.0"), ("3.7.3", "3.7.0"), False),
        (("3.7.3", "3.0.0"), ("3.7.3", "3.7.0"), False),
        (("3.7.3", "not_decided"), ("3.7.3", "3.0.0"), False),
        (("3.7.3", "3.6.0"), ("3.7.3", "3.7.0"), True),
        (("3.7.3", "3.7.0"), ("3.7.2", "3.7.0"), True),
    ],
)
def test_a_cluster_version_that_is_not_decided_is_not_another_version(
    client: tuple[str, str], peer: tuple[str, str], differ: bool
) -> None:
    here, other = map(sample_listener, (Role.PEER, Role.CLIENT))
    given = conforming(catalogue()["api.version-agrees"], Role.PEER)
    exchanges = {
        listener: altered(
            given["versions"].at(listener),
            "tries.*",
            response=Response(status=200, body=json.dumps(dict(zip(_NAMES, reported, strict=True))).encode()),
        )
        for listener, reported in ((other, client), (here, peer))
    }
    statements = _statements(given | {"versions": Each.of(exchanges)})
    assert any(isinstance(statement, Finding) for statement in statements) is differ


def test_a_port_without_http_is_not_compared() -> None:
    given = conforming(catalogue()["api.version-agrees"], Role.PEER)
    here, other = map(sample_listener, (Role.PEER, Role.CLIENT))
    versions = Each.of({other: NotApplicableError("gRPC only"), here: given["versions"].at(here)})
    assert _statements(given | {"versions": versions}) == [
        CannotJudge(Outcome.NOT_VERIFIED, Reason("gRPC only"))
    ]


_NAMES = ("etcdserver", "etcdcluster")


def _statements(given: Mapping[str, Any]) -> list[Statement]:
    return list(catalogue()["api.version-agrees"].function(**given))
