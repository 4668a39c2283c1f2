"""Versions of two ports of one member: different ones, and one that is not decided yet."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from conforming import sample_listener

from pytest_etcdtls.checks.api_answers import answered_with
from pytest_etcdtls.checks.registry import catalogue
from pytest_etcdtls.errors import NotApplicableError
from pytest_etcdtls.facts.fact import Each
from pytest_etcdtls.results import CannotJudge, Finding, Outcome, Statement
from pytest_etcdtls.role import Role
from pytest_etcdtls.run.conforming import conforming
from pytest_etcdtls.tls.attempt import Response


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
        listener: answered_with(
            given["versions"].at(listener),
            Response(status=200, body=json.dumps(dict(zip(_NAMES, reported, strict=True))).encode()),
        )
        for listener, reported in ((other, client), (here, peer))
    }
    statements = _statements(given | {"versions": Each.of(exchanges)})
    assert any(isinstance(statement, Finding) for statement in statements) is differ


def test_a_port_without_http_is_not_compared() -> None:
    given = conforming(catalogue()["api.version-agrees"], Role.PEER)
    here, other = map(sample_listener, (Role.PEER, Role.CLIENT))
    versions = Each.of({other: NotApplicableError("gRPC only"), here: given["versions"].at(here)})
    assert _statements(given | {"versions": versions}) == [CannotJudge(Outcome.NOT_VERIFIED, "gRPC only")]


_NAMES = ("etcdserver", "etcdcluster")


def _statements(given: Mapping[str, Any]) -> list[Statement]:
    return list(catalogue()["api.version-agrees"].function(**given))
