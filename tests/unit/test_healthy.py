"""What /health says, and what follows from it."""

from __future__ import annotations

import pytest
from conforming import sample_listener

from pytest_etcdtls.checks.api_answers import answered_with
from pytest_etcdtls.conforming import conforming
from pytest_etcdtls.registry import catalogue
from pytest_etcdtls.results import CannotJudge, Finding, Level, Outcome
from pytest_etcdtls.role import Role
from pytest_etcdtls.tls.attempt import Response


@pytest.mark.parametrize(
    ("reason", "says"),
    [
        ("RAFT NO LEADER", None),
        ("ALARM CORRUPT", None),
        ("ALARM NOSPACE", Level.SHOULD),
        ("RANGE ERROR:etcdserver: request timed out", None),
        ("RANGE ERROR:etcdserver: leader changed", Outcome.INCONCLUSIVE),
        ("QGET ERROR:etcdserver: leader changed", Outcome.INCONCLUSIVE),
    ],
)
def test_an_election_during_the_request_is_no_verdict(reason: str, says: Level | Outcome | None) -> None:
    """Seen on etcd 3.7 while the leader, another member, was stopped."""
    check = catalogue()["api.healthy"]
    given = conforming(check, Role.CLIENT)
    body = f'{{"health":"false","reason":"{reason}"}}'.encode()
    sick = answered_with(given["exchange"], Response(status=503, body=body))
    [statement] = check.function(**given | {"exchange": sick})
    if isinstance(statement, CannotJudge):
        assert statement.outcome is says
        assert statement.reason.startswith(f"{sample_listener(Role.CLIENT).url}/health")
        assert "run again" in statement.reason
    else:
        assert isinstance(statement, Finding)
        assert statement.level is says
