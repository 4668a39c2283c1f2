"""Clusters of three in which one member cannot dial another, and which are healthy through the third."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from zoo.client_access import BROKEN
from zoo.clusters import restart_one_with, write_pair
from zoo.model import Misconfigured

from pytest_etcdtls.cluster.cluster import Cluster
from pytest_etcdtls.pki.authority import CertificateAuthority
from pytest_etcdtls.pki.profile import PEER, Profile

_THREE = replace(BROKEN, size=3)
_APART = {"cluster": ["cluster.members-connected"]}
_LIST, _ANOTHER = "revokes-m1.der", "dials-with"


def _for_servers_only(cluster: Cluster) -> None:
    write_pair(cluster, "peer", cluster.pki.peer_ca, replace(PEER, extended_key_usage=("serverAuth",)))
    cluster.restart_member(1)


def revoke_one(cluster: Cluster) -> None:
    """Restart the first member with a list that names the peer certificate of the second one."""
    authority = cluster.pki.peer_ca
    authority.revoke(cluster.pki.peers["m1"].chain[0])
    (cluster.pki_directory / _LIST).write_bytes(authority.crl())
    restart_one_with(cluster, 0, peer_crl_file=_LIST)


def _dial_with_a_pair(cluster: Cluster, authority: CertificateAuthority, profile: Profile = PEER) -> None:
    write_pair(cluster, _ANOTHER, authority, profile)
    pair = {"peer_client_cert_file": f"{_ANOTHER}.crt", "peer_client_key_file": f"{_ANOTHER}.key"}
    restart_one_with(cluster, 1, **pair)


def _dial_with_a_foreign_certificate(cluster: Cluster) -> None:
    _dial_with_a_pair(cluster, CertificateAuthority.create("another CA"))


def _dial_from_another_address(cluster: Cluster) -> None:
    _dial_with_a_pair(cluster, cluster.pki.peer_ca, replace(PEER, subject_alt_names=("192.0.2.1",)))


def _status(cluster: Cluster, index: int) -> dict[str, Any]:
    with cluster.members[index].client() as client:
        status: dict[str, Any] = client.post("/v3/maintenance/status", json={}).json()
    return status


def _without_a_common_version(cluster: Cluster) -> None:
    restart_one_with(cluster, 1, tls_max_version="TLS1.2")
    # A member that cannot dial the leader has none, and does not start: the third one leads.
    third = _status(cluster, 2)["header"]["member_id"]
    for index in range(2):
        status = _status(cluster, index)
        if status["leader"] == status["header"]["member_id"]:
            with cluster.members[index].client() as client:
                client.post("/v3/maintenance/transfer-leadership", json={"targetID": third})
    restart_one_with(cluster, 0, tls_min_version="TLS1.3")


ZOO = [
    Misconfigured(
        name="peer-certificate-for-servers-of-one",
        what="the peer certificate of one of three members does not allow clientAuth",
        faults=("cert.client-usage",),
        config=_THREE,
        after_start=_for_servers_only,
        checks=("cluster", "cert.client-usage"),
        violated={**_APART, "peer": ["cert.client-usage"]},
    ),
    Misconfigured(
        name="one-peer-revoked-by-another",
        what="the revocation list for peers of one of three members names the certificate of another one",
        config=_THREE,
        after_start=revoke_one,
        checks=("cluster.members-connected",),
        violated=_APART,
    ),
    Misconfigured(
        name="one-peer-dials-with-a-foreign-certificate",
        what="one of three members dials the others with a certificate of another CA",
        config=_THREE,
        after_start=_dial_with_a_foreign_certificate,
        checks=("cluster",),
        violated=_APART,
    ),
    Misconfigured(
        name="one-peer-dials-from-another-address",
        what="one of three members dials with a certificate that names another address than its own",
        config=_THREE,
        after_start=_dial_from_another_address,
        checks=("cluster",),
        violated=_APART,
    ),
    Misconfigured(
        name="peers-without-a-common-version",
        what="two of three members have no common TLS version, and the third has all",
        config=_THREE,
        after_start=_without_a_common_version,
        checks=("cluster",),
        violated=_APART,
        warned={"cluster": ["cluster.same-policy"]},
        lines=("3.5.33", "3.6", "3.7"),
    ),
]
