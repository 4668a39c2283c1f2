"""Clusters of three in which one member cannot dial another, and which are healthy through the third."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

from zoo.client_access import BROKEN
from zoo.clusters import restart_one_with, write_pair
from zoo.model import Misconfigured

from pytest_etcdtls.etcd.cluster import Cluster
from pytest_etcdtls.pki.profile import PEER

_THREE = replace(BROKEN, size=3)
_NOT_CONNECTED = {"cluster": ["cluster.members-connected"]}
_LIST = "revokes-m1.der"


def _for_servers_only(cluster: Cluster) -> None:
    write_pair(cluster, "peer", cluster.pki.peer_ca, replace(PEER, extended_key_usage=("serverAuth",)))
    cluster.restart_member(1)


def revoke_one(cluster: Cluster) -> None:
    """Restart the first member with a list that names the peer certificate of the second one."""
    authority = cluster.pki.peer_ca
    authority.revoke(cluster.pki.peers["m1"].chain[0])
    (cluster.pki_directory / _LIST).write_bytes(authority.crl())
    restart_one_with(cluster, 0, peer_crl_file=_LIST)


def _status(cluster: Cluster, index: int) -> dict[str, Any]:
    with cluster.members[index].client() as client:
        status: dict[str, Any] = client.post("/v3/maintenance/status", json={}).json()
    return status


def let_the_third_lead(cluster: Cluster) -> None:
    """Transfer the leadership: a member that cannot dial the leader has none, and does not start."""
    third = _status(cluster, 2)["header"]["member_id"]
    for index in range(2):
        status = _status(cluster, index)
        if status["leader"] == status["header"]["member_id"]:
            with cluster.members[index].client() as client:
                client.post("/v3/maintenance/transfer-leadership", json={"targetID": third})


def _take_the_common_version_away(cluster: Cluster) -> None:
    restart_one_with(cluster, 1, tls_max_version="TLS1.2")
    let_the_third_lead(cluster)
    restart_one_with(cluster, 0, tls_min_version="TLS1.3")


_disconnected = functools.partial(Misconfigured, config=_THREE, checks=("cluster",), violated=_NOT_CONNECTED)

ZOO = [
    _disconnected(
        name="peer-certificate-for-servers-of-one",
        what="the peer certificate of one of three members does not allow clientAuth",
        faults=("cert.client-usage",),
        after_start=_for_servers_only,
        checks=("cluster", "cert.client-usage"),
        violated={**_NOT_CONNECTED, "peer": ["cert.client-usage"]},
    ),
    _disconnected(
        name="one-peer-revoked-by-another",
        what="the revocation list for peers of one of three members names the certificate of another one",
        after_start=revoke_one,
        checks=("cluster.members-connected",),
    ),
    _disconnected(
        name="peers-without-a-common-version",
        what="two of three members have no common TLS version, and the third has all",
        after_start=_take_the_common_version_away,
        warned={"cluster": ["cluster.same-policy"]},
        lines=("3.5.33", "3.6", "3.7"),
    ),
]
