"""With ``--etcd-discover`` other options may name hosts that are not endpoints."""

from __future__ import annotations

from pathlib import Path

import pytest
from given import Given

from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.pki.bundle import ClusterPKI
from pytest_etcdtls.pki.profile import MemberNames, PKIPlan
from pytest_etcdtls.role import Role
from pytest_etcdtls.settings.endpoints import complete, read_connect_to, read_named
from pytest_etcdtls.settings.port_credentials import read_expected
from pytest_etcdtls.target import ConnectTo, Listener

RULE = "10.0.0.12:2379:127.0.0.1:12379"


def given_in(directory: Path, *, discover: bool, **values: list[str]) -> Given:
    endpoint = ["https://10.0.0.11:2379"]
    return Given(directory, etcd_discover=discover, etcd_endpoint=endpoint, **values)


def listeners(given: Given) -> tuple[Listener, ...]:
    return complete(read_named(given), read_connect_to(given), may_grow=given.flag("etcd_discover"))


def test_a_rule_may_be_for_a_discovered_listener(tmp_path: Path) -> None:
    given = given_in(tmp_path, discover=True, etcd_connect_to=[RULE])
    (listener,) = listeners(given)
    assert listener.connect_to is None
    (rule,) = read_connect_to(given)
    assert rule == ConnectTo(text=RULE, host="10.0.0.12", port=2379, to_host="127.0.0.1", to_port=12379)
    assert rule.redirected("10.0.0.12", 2379) == ("127.0.0.1", 12379)
    assert rule.redirected("10.0.0.12", 2380) is None
    with pytest.raises(UsageError, match="matches none of the endpoints"):
        listeners(given_in(tmp_path, discover=False, etcd_connect_to=[RULE]))


def test_a_certificate_may_be_expected_of_a_discovered_host(tmp_path: Path) -> None:
    ClusterPKI.generate(PKIPlan(), [MemberNames("m0")]).write(tmp_path)
    values = {
        "etcd_expect_cert": ["10.0.0.12=m0/server.crt"],
        "etcd_expect_peer_cert": ["10.0.0.12=m0/peer.crt"],
    }
    given = given_in(tmp_path, discover=True, **values)
    found = read_expected(given, listeners(given))
    assert [(leaf.role, leaf.host, leaf.port) for leaf in found] == [
        (Role.CLIENT, "10.0.0.12", None),
        (Role.PEER, "10.0.0.12", None),
    ]
    given = given_in(tmp_path, discover=False, **values)
    with pytest.raises(UsageError, match="matches no listener given"):
        read_expected(given, listeners(given))
