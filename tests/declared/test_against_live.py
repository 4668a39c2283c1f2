"""A declaration compared with a running etcd: its bundles, its listeners and from where they are reached."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from judged import judge
from starting import start_process

from declared.declaring import flags, without
from pytest_etcdtls.checks.registry import Check, catalogue
from pytest_etcdtls.checks.results import Outcome
from pytest_etcdtls.declared.reading import declared_member, from_command_line
from pytest_etcdtls.etcd.cluster import Cluster
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.facts.configuration import (
    Declarations,
    ListenerDeclaration,
    MemberDeclaration,
    listener_declaration,
)
from pytest_etcdtls.role import Role
from pytest_etcdtls.settings.endpoints import listeners_from_here, parse_endpoint, runs_here
from pytest_etcdtls.target import Target, Unreached


@pytest.fixture(scope="module")
def cluster(newest_etcd: Path) -> Iterator[Cluster]:
    with start_process(ClusterConfig(), newest_etcd) as running:
        yield running


def _with_declaration(cluster: Cluster, **changes: str) -> Target:
    """Return the cluster as a target whose declaration has other values for some flags."""
    argv = [_changed(argument, changes) for argument in cluster.members[0].argv]
    declaration = from_command_line([argument for argument in argv if argument])
    return replace(cluster.target(), declared={"m0": declared_member(declaration)})


def _changed(argument: str, changes: dict[str, str]) -> str:
    name = argument.lstrip("-").partition("=")[0]
    value = changes.get(name.replace("-", "_"))
    return argument if value is None else value and f"--{name}={value}"


def test_a_missing_bundle_is_not_verified(cluster: Cluster) -> None:
    declared = _with_declaration(cluster, trusted_ca_file="/nowhere/ca.crt")
    result = judge(declared, "config.trusted-ca-in-force", Role.CLIENT)
    assert result.outcome is Outcome.NOT_VERIFIED
    assert result.reason.startswith("/nowhere/ca.crt does not exist: see config.trusted-ca-usable")
    # It is the member's own machine: the file is gone, and a restart would end etcd.
    (finding,) = judge(declared, "config.trusted-ca-usable").findings
    assert finding.remediation.startswith("put one file with the CA certificates at that path")
    gone = {"trusted_ca_file": "/nowhere/ca.crt", "cert_file": "/nowhere/a.crt", "peer_cert_file": "/b.crt"}
    elsewhere = _with_declaration(cluster, **gone)
    result = judge(elsewhere, "config.trusted-ca-in-force", Role.CLIENT)
    assert result.outcome is Outcome.NOT_VERIFIED
    assert result.reason.startswith("the file of --trusted-ca-file=/nowhere/ca.crt (the command line) is not")
    assert "run on the member, or name copies by --etcd-pki-dir" in result.reason


def test_without_a_declaration_nothing_is_judged(cluster: Cluster) -> None:
    target = replace(cluster.target(), declared={})
    of_declarations = [
        check
        for check in catalogue().values()
        if any(need.type in (Declarations, ListenerDeclaration) for need in check.needs.values())
        and check.roles != {Role.METRICS}
        # The member list and the handshake say it too.
        and check.id not in ("cluster.advertised-https", "mtls.announced-ca-present")
    ]
    outcomes = {check.id: judge(target, check.id, _role(check)).outcome for check in of_declarations}
    assert len(outcomes) > 25
    assert set(outcomes.values()) == {Outcome.NOT_APPLICABLE}, outcomes


def _role(check: Check) -> Role | None:
    """Return a role that the check judges and the cluster has a listener of."""
    return next((role for role in (Role.CLIENT, Role.PEER) if role in check.roles), None)


MANY = "https://127.0.0.1:2379,https://10.0.0.11:2379,http://127.0.0.1:2382"


@pytest.mark.parametrize(
    ("urls", "judged", "found"),
    [
        (MANY, "https://10.0.0.11:2379", "https://10.0.0.11:2379"),
        (MANY, "https://localhost:2379", "https://127.0.0.1:2379"),
        (MANY, "https://node1.example:2379", "https://10.0.0.11:2379"),
        (MANY, "https://10.0.0.11:2380", None),
        (MANY, "https://127.0.0.1:2382", None),
        (MANY, "http://127.0.0.1:2382", "http://127.0.0.1:2382"),
        ("https://127.0.0.1:2379", "https://node1.example:2379", "https://127.0.0.1:2379"),
        ("https://localhost:2379", "https://127.0.0.1:2379", "https://localhost:2379"),
        ("https://0.0.0.0:2379", "https://10.0.0.12:2379", "https://0.0.0.0:2379"),
        ("unixs:///run/etcd.sock", "https://node1.example:2379", None),
    ],
)
def test_each_judged_listener_matches_a_declared_one(urls: str, judged: str, found: str | None) -> None:
    listener = replace(parse_endpoint("etcd_endpoint", judged, Role.CLIENT), member="m0")
    declared = declared_member(flags(*without("listen-client-urls"), f"--listen-client-urls={urls}"))
    target = Target(label="live", origin="live", listeners=(listener,), declared={"m0": declared})
    member = MemberDeclaration.of("m0", declared, "3.6.16")
    one = listener_declaration(target, listener, member).listener
    assert (None if one is None else str(one.url)) == found


def test_a_wildcard_listener_is_reached_at_the_advertised_address() -> None:
    declaration = flags(
        "--listen-client-urls=https://0.0.0.0:2379,unixs://s:1",
        "--advertise-client-urls=https://node1.example:2379",
        "--listen-peer-urls=https://[::]:2380",
        "--initial-advertise-peer-urls=https://10.0.0.11:2380",
        "--listen-metrics-urls=http://0.0.0.0:2381",
    )
    nowhere = flags("--listen-client-urls=https://0.0.0.0:2379")
    client, socket, metrics, peer, wildcard, _ = (
        one if isinstance(one, Unreached) else one.url
        for declared in (declaration, nowhere)
        for one in listeners_from_here("m0", declared, here=runs_here(declared))
    )
    assert (client, metrics) == ("https://node1.example:2379", "http://node1.example:2381")
    assert peer == "https://10.0.0.11:2380"
    for unreached, why in ((socket, "is a Unix domain socket"), (wildcard, "pass the member's URL")):
        assert isinstance(unreached, Unreached)
        assert why in unreached.reason
