"""With ``--etcd-discover`` other options may name hosts that are not endpoints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.pki.bundle import ClusterPKI
from pytest_etcdtls.pki.profile import MemberNames, PKIPlan
from pytest_etcdtls.role import Role
from pytest_etcdtls.settings.endpoints import complete, read_connect_to, read_named
from pytest_etcdtls.settings.port_credentials import read_expected
from pytest_etcdtls.target import ConnectTo, Listener

RULE = "10.0.0.12:2379:127.0.0.1:12379"


class Given:
    """Values as a test gives them."""

    def __init__(self, directory: Path, *, discover: bool, **values: Sequence[str]) -> None:
        self.directory = directory
        self.discover = discover
        self.values = {"etcd_endpoint": ["https://10.0.0.11:2379"], **values}

    def text(self, name: str) -> str | None:
        return None

    def texts(self, name: str, *, commas: bool = False) -> tuple[str, ...]:
        return tuple(self.values.get(name, ()))

    def flag(self, name: str) -> bool:
        return name == "etcd_discover" and self.discover

    def path(self, name: str) -> Path | None:
        return None

    def resolve(self, name: str, value: str) -> Path:
        return self.directory / value

    def origin(self, name: str) -> str:
        return ""


def listeners(given: Given) -> tuple[Listener, ...]:
    return complete(given, read_named(given, {}))


def test_a_rule_may_be_for_a_discovered_listener(tmp_path: Path) -> None:
    given = Given(tmp_path, discover=True, etcd_connect_to=[RULE])
    (listener,) = listeners(given)
    assert listener.connect_to is None
    (rule,) = read_connect_to(given)
    assert rule == ConnectTo(text=RULE, host="10.0.0.12", port=2379, to_host="127.0.0.1", to_port=12379)
    assert rule.redirected("10.0.0.12", 2379) == ("127.0.0.1", 12379)
    assert rule.redirected("10.0.0.12", 2380) is None
    with pytest.raises(UsageError, match="matches none of the endpoints"):
        listeners(Given(tmp_path, discover=False, etcd_connect_to=[RULE]))


def test_a_certificate_may_be_expected_of_a_discovered_host(tmp_path: Path) -> None:
    ClusterPKI.generate(PKIPlan(), [MemberNames("m0")]).write(tmp_path)
    values = {
        "etcd_expect_cert": ["10.0.0.12=m0/server.crt"],
        "etcd_expect_peer_cert": ["10.0.0.12=m0/peer.crt"],
    }
    given = Given(tmp_path, discover=True, **values)
    found = read_expected(given, listeners(given))
    assert [(leaf.role, leaf.host, leaf.port) for leaf in found] == [
        (Role.CLIENT, "10.0.0.12", None),
        (Role.PEER, "10.0.0.12", None),
    ]
    given = Given(tmp_path, discover=False, **values)
    with pytest.raises(UsageError, match="matches no listener given"):
        read_expected(given, listeners(given))
