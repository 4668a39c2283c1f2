"""Checks of declared files: findings, conforming files, and files that cannot be judged."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from conforming import sample
from msgspec.structs import replace

from pytest_etcdtls.checks.registry import catalogue
from pytest_etcdtls.checks.results import CannotJudge, Finding, Note, Outcome, Statement
from pytest_etcdtls.declared.files import FileFact, MemberFiles
from pytest_etcdtls.facts.declared_files import DeclaredFiles
from pytest_etcdtls.facts.fact import Need

Change = Callable[[MemberFiles], MemberFiles]


def said(check: str, change: Change, **of_all: Any) -> list[Statement]:
    """Return what a check says of the conforming files of a member, changed."""
    files: DeclaredFiles = sample(Need(DeclaredFiles), "client")
    files = replace(files, members=(change(files.members[0]),), **of_all)
    return list(catalogue()[check].function(files=files))


def with_key(**changes: Any) -> Change:
    """Return the change of the first pair's key."""

    def change(member: MemberFiles) -> MemberFiles:
        pair, *rest = member.pairs
        return replace(
            member, pairs=(replace(pair, key=replace(pair.key, **{"shut_by": ""} | changes)), *rest)
        )

    return change


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"mode": 0o600}, ""),
        ({"mode": 0o640}, ""),
        ({"mode": 0o604}, "mode 0604"),
        ({"mode": 0o644, "original": False}, "mode 0644"),
        ({"mode": 0o644, "shut_by": "/pki", "lets_group": True}, ""),
        ({"mode": 0o646, "shut_by": "/pki", "lets_group": True}, "mode 0646"),
        ({"mode": 0o666, "shut_by": "/pki", "lets_group": False}, ""),
        ({"owner": 2379}, ""),
        ({"owner": 4711}, "owner 4711"),
        ({"owner": 4711, "original": False}, ""),
        ({"owner": 4711, "data_owner": None}, ""),
    ],
    ids=str,
)
def test_rights_to_a_key(changes: dict[str, Any], fault: str) -> None:
    """Its owner is not judged if the user of etcd, who owns the data, is unknown."""
    changes = dict(changes)
    data_owner = changes.pop("data_owner", 2379)

    def change(member: MemberFiles) -> MemberFiles:
        # Whoever runs the tests owns the recorded files.
        pairs = tuple(replace(pair, key=replace(pair.key, owner=0)) for pair in member.pairs)
        clients = tuple(replace(client, key=replace(client.key, owner=0)) for client in member.clients)
        return with_key(**changes)(replace(member, pairs=pairs, clients=clients, data_owner=data_owner))

    found = said("config.key-file-mode", change, reader=1000)
    assert [fault in one.observed for one in found if isinstance(one, Finding)] == ([True] if fault else [])


def test_keys_that_are_not_here() -> None:
    def absent(member: MemberFiles) -> MemberFiles:
        gone = FileFact(said="--key-file=/pki/server.key", absent="it is not here")
        pairs = tuple(replace(pair, key=gone, matches=None) for pair in member.pairs)
        return replace(member, pairs=pairs, clients=())

    for check in ("config.key-file-mode", "config.key-matches-certificate"):
        verdicts = [one for one in said(check, absent) if isinstance(one, CannotJudge)]
        assert {one.outcome for one in verdicts} == {Outcome.NOT_VERIFIED}
        assert all("it is not here" in str(one.reason) for one in verdicts)


@pytest.mark.parametrize("fact", ["key-matches-certificate", "chain-closes", "ca-key-beside", "crl-fresh"])
def test_where_no_file_is_declared(fact: str) -> None:
    [verdict] = said(f"config.{fact}", lambda member: MemberFiles(label=member.label))
    assert isinstance(verdict, CannotJudge)
    assert verdict.outcome is Outcome.NOT_APPLICABLE


@pytest.mark.parametrize(("mode", "kind"), [(0o600, Note), (0o640, Finding), (None, Note)])
def test_a_ca_key_beside_its_certificate(mode: int | None, kind: type[Statement]) -> None:
    def lying(member: MemberFiles) -> MemberFiles:
        key = FileFact(said="beside ca.crt", path="/pki/ca.key", mode=mode)
        return replace(
            member,
            bundles={
                side: dataclasses.replace(bundle, keys=(key,)) for side, bundle in member.bundles.items()
            },
        )

    [statement] = said("config.ca-key-beside", lying)  # once, though both bundles lie there
    assert isinstance(statement, kind)


def test_the_certificate_that_etcd_dials_client_ports_with_must_be_of_the_clients_ca() -> None:
    def dialling(member: MemberFiles) -> MemberFiles:
        [peer] = [pair for pair in member.pairs if pair.side == "peer" and not pair.dials]
        return replace(member, pairs=(*member.pairs, replace(peer, side="client", dials=True)))

    [finding] = said("config.chain-closes", dialling)
    assert isinstance(finding, Finding)
    assert "does not chain" in finding.message
