"""What /health says, and what follows from it."""

from __future__ import annotations

import pytest
from conforming import sample_listener

from pytest_etcdtls.checks.api_answers import answered_with
from pytest_etcdtls.checks.registry import catalogue
from pytest_etcdtls.results import CannotJudge, Finding, Level, Outcome
from pytest_etcdtls.role import Role
from pytest_etcdtls.run.conforming import conforming
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
        ("RANGE ERROR:etcdserver: server stopped", Outcome.INCONCLUSIVE),
    ],
)
def test_a_read_that_the_stop_of_a_member_has_cut_is_no_verdict(
    reason: str, says: Level | Outcome | None
) -> None:
    """Seen on etcd 3.7 while the leader, another member, was stopped, and on 3.5 while this one was."""
    check = catalogue()["api.healthy"]
    given = conforming(check, Role.CLIENT)
    body = f'{{"health":"false","reason":"{reason}"}}'.encode()
    sick = answered_with(given["exchange"], Response(status=503, body=body))
    [statement] = check.function(**given | {"exchange": sick})
    if isinstance(statement, CannotJudge):
        assert statement.outcome is says
        url = sample_listener(Role.CLIENT).url
        assert statement.reason == f"a member was stopping, run again: {url}/health said {reason}"
    else:
        assert isinstance(statement, Finding)
        assert statement.level is says
