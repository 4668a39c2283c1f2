"""With ``--etcd-discover`` a certificate may be expected of a host that is not an endpoint."""

from __future__ import annotations

from pathlib import Path

import pytest
from given import Given

from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.pki.bundle import ClusterPKI
from pytest_etcdtls.pki.profile import MemberNames, PKIPlan
from pytest_etcdtls.role import Role
from pytest_etcdtls.settings.endpoints import complete, read_named
from pytest_etcdtls.settings.port_credentials import read_expected


def expected(directory: Path, *, discover: bool) -> list[tuple[Role, str | None, int | None]]:
    given = Given(
        directory,
        etcd_discover=discover,
        etcd_endpoint="https://10.0.0.11:2379",
        etcd_expect_cert="10.0.0.12=m0/server.crt",
        etcd_expect_peer_cert="10.0.0.12=m0/peer.crt",
    )
    listeners = complete(read_named(given), (), may_grow=discover)
    return [(leaf.role, leaf.host, leaf.port) for leaf in read_expected(given, listeners)]


def test_a_certificate_may_be_expected_of_a_discovered_host(tmp_path: Path) -> None:
    ClusterPKI.generate(PKIPlan(), [MemberNames("m0")]).write(tmp_path)
    assert expected(tmp_path, discover=True) == [
        (Role.CLIENT, "10.0.0.12", None),
        (Role.PEER, "10.0.0.12", None),
    ]
    with pytest.raises(UsageError, match="matches no listener given"):
        expected(tmp_path, discover=False)
