"""Every cell of the refusal table has the outcome of docs/verdicts.md."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from pytest_etcdtls.checks.refusal_table import ControlState, rule
from pytest_etcdtls.checks.results import Outcome
from pytest_etcdtls.facts.refusal import by_etcd, is_of_etcd
from pytest_etcdtls.role import Protocol
from pytest_etcdtls.tls.attempt import Attempt, Ending, Phase, Response

CONTROLS = ("served", "none known", "closed", "refused", "other", "unclear")
EXPECTED = {
    "served": ["violates"] * 6,
    "refused": [*["conforms"] * 3, *["not-verified"] * 2, "inconclusive"],
    "closed": [*["inconclusive"] * 2, *["not-verified"] * 3, "inconclusive"],
    "other": [*["inconclusive"] * 3, *["not-verified"] * 2, "inconclusive"],
    "unclear": ["inconclusive"] * 6,
}


def test_every_cell() -> None:
    assert {
        ending.value: [str(rule(ending, ControlState(control)).outcome) for control in CONTROLS]
        for ending in Ending
    } == EXPECTED
    assert {state.value for state in ControlState} == {*CONTROLS}


@pytest.mark.parametrize("control", list(ControlState))
def test_an_identity_that_etcd_closes_conforms_only_with_a_served_control(control: ControlState) -> None:
    usual = Outcome.CONFORMS if control is ControlState.SERVED else rule(Ending.CLOSED, control).outcome
    assert rule(Ending.CLOSED, control, etcd_closes=True).outcome is usual


@pytest.mark.parametrize(
    ("control", "words"),
    [
        (ControlState.NONE_KNOWN, "without control"),
        (ControlState.CLOSED, "TLS accepted the good client, then etcd closed the connection"),
        (ControlState.REFUSED, "the good client is refused as well"),
    ],
)
def test_a_refusal_names_the_state_of_its_control(control: ControlState, words: str) -> None:
    assert rule(Ending.REFUSED, control).note == words


_JSON = {"content-type": "application/json"}
_GRPC = {"content-type": "application/grpc"}
_PAGE = Response(
    status=400,
    headers={"content-type": "text/html"},
    body=b"<html><head><title>400 No required SSL certificate was sent</title></head></html>",
)

OF_ETCD = {
    "version": Response(status=200, body=b'{"etcdserver":"3.6.16","etcdcluster":"3.6.0"}'),
    "metrics": Response(status=200, body=b"# HELP etcd_cluster_version Which version is running.\n"),
    "variables": Response(status=200, body=b'{\n"cmdline": ["etcd"],\n"memstats": {}\n}\n'),
    "gateway, its header alone": Response(
        status=200, headers={"grpc-metadata-content-type": "application/grpc"}, body=b"{}"
    ),
    "no user, etcd 3.5": Response(
        status=400,
        headers=_JSON,
        body=b'{"error":"etcdserver: user name is empty","code":3,"message":"user name is empty"}',
    ),
    "a wrong token, etcd 3.6": Response(
        status=401, headers=_JSON, body=b'{"code":16,"message":"etcdserver: invalid auth token","details":[]}'
    ),
    "a call without permission": Response(
        status=200, headers={**_GRPC, "grpc-status": "7", "grpc-message": "etcdserver: permission denied"}
    ),
    "another Host": Response(status=421, body=b"\netcd received your request, but the Host header was ..."),
}
OF_OTHERS = {
    "nginx": _PAGE,
    "an API gateway": Response(status=401, headers=_JSON, body=b'{"message":"Unauthorized"}'),
    "Kubernetes": Response(
        status=403,
        headers=_JSON,
        body=b'{"kind":"Status","code":403,"message":"forbidden","reason":"Forbidden"}',
    ),
    "Envoy": Response(
        status=200, headers={**_GRPC, "grpc-status": "7", "grpc-message": "RBAC: access denied"}
    ),
    "cut JSON": Response(status=200, body=b'{"etcdserver":'),
    "nothing": Response(status=200),
}


@pytest.mark.parametrize("name", [*OF_ETCD, *OF_OTHERS])
def test_an_answer_of_etcd(name: str) -> None:
    assert is_of_etcd((OF_ETCD | OF_OTHERS)[name]) == (name in OF_ETCD)


def _served(response: Response | None, first_bytes: bytes = b"HTTP/1.1 ") -> Attempt:
    return Attempt(
        url="https://127.0.0.1:2379",
        purpose="t",
        identity="none",
        protocol=Protocol.HTTP1,
        ending=Ending.SERVED,
        phase=Phase.READ,
        started_at=datetime.now(UTC),
        first_bytes=first_bytes if response is None or response.status else b"",
        response=response,
    )


GOOD = _served(OF_ETCD["version"])
NOT_FOUND = _served(Response(status=404, body=b"404 page not found\n"))
SETTINGS = b"\0\0\0\x04\0\0\0\0\0"


@pytest.mark.parametrize(
    ("attempt", "control", "ending"),
    [
        (GOOD, GOOD, Ending.SERVED),
        (GOOD, None, Ending.SERVED),
        (_served(OF_ETCD["no user, etcd 3.5"]), GOOD, Ending.SERVED),
        (_served(_PAGE), GOOD, Ending.UNCLEAR),
        (_served(_PAGE), None, Ending.UNCLEAR),
        (NOT_FOUND, NOT_FOUND, Ending.SERVED),
        (_served(_PAGE), NOT_FOUND, Ending.UNCLEAR),
        (_served(None, SETTINGS), GOOD, Ending.SERVED),
        (_served(None, b"220 mail.example ESMTP"), GOOD, Ending.UNCLEAR),
    ],
)
def test_what_another_server_answers_does_not_count(
    attempt: Attempt, control: Attempt | None, ending: Ending
) -> None:
    counted = by_etcd(attempt, control)
    assert counted.ending is ending
    assert (counted is attempt) is (ending is Ending.SERVED)
