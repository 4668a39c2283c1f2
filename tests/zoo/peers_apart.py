"""Clusters of three in which one member cannot dial another, and which are healthy through the third."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from zoo.client_access import BROKEN
from zoo.clusters import restart_one_with, write_pair
from zoo.model import Misconfigured

from pytest_etcdtls.etcd.cluster import Cluster
from pytest_etcdtls.pki.authority import CertificateAuthority
from pytest_etcdtls.pki.profile import PEER, KeyType, PKIPlan, Profile

_THREE = replace(BROKEN, size=3)
_NOT_CONNECTED = {"cluster": ["cluster.members-connected"]}
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


def let_the_third_lead(cluster: Cluster) -> None:
    """Transfer the leadership: a member that cannot dial the leader has none, and does not start."""
    third = _status(cluster, 2)["header"]["member_id"]
    for index in range(2):
        status = _status(cluster, index)
        if status["leader"] == status["header"]["member_id"]:
            with cluster.members[index].client() as client:
                client.post("/v3/maintenance/transfer-leadership", json={"targetID": third})


def _apart(first: Mapping[str, object], second: Mapping[str, object]) -> Callable[[Cluster], None]:
    def restart(cluster: Cluster) -> None:
        restart_one_with(cluster, 1, **second)
        let_the_third_lead(cluster)
        restart_one_with(cluster, 0, **first)

    return restart


def _suites_of_other_keys(cluster: Cluster) -> None:
    # The third one has an RSA key, and the client ports have.
    for member in range(2):
        write_pair(
            cluster,
            "peer",
            cluster.pki.peer_ca,
            replace(PEER, key_type=KeyType.ECDSA_P256),
            member=member,
        )
    let_the_third_lead(cluster)
    restart_one_with(cluster, 1, **_TO_1_2, cipher_suites=("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",))


_TO_1_2 = {"tls_max_version": "TLS1.2"}
"""The suites of TLS 1.3 cannot be selected."""
_disconnected = functools.partial(Misconfigured, config=_THREE, checks=("cluster",), violated=_NOT_CONNECTED)
_WITH_VERSIONS = ("3.5.33", "3.6", "3.7")

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
        name="one-peer-dials-with-a-foreign-certificate",
        what="one of three members dials the others with a certificate of another CA",
        after_start=_dial_with_a_foreign_certificate,
    ),
    _disconnected(
        name="one-peer-dials-from-another-address",
        what="one of three members dials with a certificate that names another address than its own",
        after_start=_dial_from_another_address,
    ),
    _disconnected(
        name="peers-without-a-common-version",
        what="two of three members have no common TLS version, and the third has all",
        after_start=_apart({"tls_min_version": "TLS1.3"}, _TO_1_2),
        warned={"cluster": ["cluster.same-policy"]},
        lines=_WITH_VERSIONS,
    ),
    _disconnected(
        name="peers-without-a-common-suite",
        what="two of three members have TLS 1.2 and no common cipher suite, and the third has all",
        after_start=_apart(
            # Go serves HTTP/2 with one of two suites alone, and etcd does not start without it.
            {
                **_TO_1_2,
                "cipher_suites": (
                    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
                    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
                ),
            },
            {**_TO_1_2, "cipher_suites": ("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",)},
        ),
        warned={"cluster": ["cluster.same-policy"]},
        lines=_WITH_VERSIONS,
    ),
    _disconnected(
        name="peers-with-suites-for-other-keys",
        what="two of three members have ECDSA keys, and one of them cipher suites for RSA keys alone",
        config=replace(_THREE, pki=PKIPlan(key_type=KeyType.RSA_2048)),
        after_start=_suites_of_other_keys,
        warned={"cluster": ["cluster.same-policy"]},
        lines=_WITH_VERSIONS,
    ),
]
