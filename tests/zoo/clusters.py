"""Clusters whose members differ, advertise wrong URLs, or cannot dial each other.

Those of three members start on one line of etcd only: what they show does not depend on the version.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

from unruly.programs import copied_flag, rewritten_arguments
from zoo.client_access import BROKEN, other_ca
from zoo.model import Misconfigured

from pytest_etcdtls.etcd.cluster import Cluster
from pytest_etcdtls.pki.authority import CertificateAuthority
from pytest_etcdtls.pki.bundle import encode_certificates, encode_key
from pytest_etcdtls.pki.profile import CLIENT, PEER, SERVER, Profile

_ONE_LINE = ("3.6",)


def expired(profile: Profile) -> Profile:
    """Return a profile of certificates that expired seven days ago."""
    return replace(profile, valid_from=timedelta(days=-12), valid_for=timedelta(days=5))


def _restart_one_with_another_ca(cluster: Cluster) -> None:
    bundle = cluster.members[0].file("client-ca.crt")
    bundle.write_bytes(bundle.read_bytes() + other_ca())
    cluster.restart_member(1)


def write_pair(
    cluster: Cluster, name: str, authority: CertificateAuthority, profile: Profile = PEER, *, member: int = 1
) -> None:
    """Issue a certificate on loopback, and write it and its key as files of a member, mostly the second."""
    pair = authority.issue(profile, name=name, hosts=("localhost", "127.0.0.1", "::1"))
    assert pair.key is not None
    cluster.members[member].path(f"{name}.key").write_bytes(encode_key(pair.key))
    cluster.members[member].path(f"{name}.crt").write_bytes(encode_certificates(pair.chain))


def _forget_one(cluster: Cluster) -> None:
    write_pair(cluster, "server", cluster.pki.client_ca, replace(SERVER, valid_for=timedelta(days=20)))


def restart_one_with(cluster: Cluster, index: int, **changes: object) -> None:
    """Restart one member with other settings than the others."""
    everywhere, cluster.config = cluster.config, replace(cluster.config, **changes)  # type: ignore[arg-type]
    try:
        cluster._replace(index)
    finally:
        cluster.config = everywhere


def _for_servers_only(cluster: Cluster) -> None:
    write_pair(cluster, "peer", cluster.pki.peer_ca, replace(PEER, extended_key_usage=("serverAuth",)))
    cluster.restart_member(1)


def revoke_one(cluster: Cluster) -> None:
    """Restart the first member with a list that names the peer certificate of the second one."""
    authority = cluster.pki.peer_ca
    authority.revoke(cluster.pki.peers["m1"].chain[0])
    (cluster.pki_directory / "revokes-m1.der").write_bytes(authority.crl())
    restart_one_with(cluster, 0, peer_crl_file="revokes-m1.der")


def _dial_with(cluster: Cluster, authority: CertificateAuthority, profile: Profile = PEER) -> None:
    write_pair(cluster, "dials-with", authority, profile)
    pair = {"peer_client_cert_file": "dials-with.crt", "peer_client_key_file": "dials-with.key"}
    restart_one_with(cluster, 1, **pair)


def _dial_with_an_expired_pair(cluster: Cluster) -> None:
    """Connections that exist stay, so the member is connected until one of the two is restarted."""
    _dial_with(cluster, cluster.pki.peer_ca)
    write_pair(cluster, "dials-with", cluster.pki.peer_ca, expired(PEER))


def _expire_the_gateways_pair(cluster: Cluster) -> None:
    """Its connection stays: from etcd 3.7 on it dials at the first request."""
    write_pair(cluster, "gateway", cluster.pki.client_ca, CLIENT, member=0)
    restart_one_with(cluster, 0, client_cert_file="gateway.crt", client_key_file="gateway.key")
    _status(cluster, 0)
    write_pair(cluster, "gateway", cluster.pki.client_ca, expired(CLIENT), member=0)


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


def _take_the_common_suite_away(cluster: Cluster) -> None:
    # Go serves HTTP/2 with one of two suites alone, and etcd does not start without it.
    ours = ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384")
    theirs = ("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",)
    restart_one_with(cluster, 1, tls_max_version="TLS1.2", cipher_suites=theirs)
    let_the_third_lead(cluster)
    restart_one_with(cluster, 0, tls_max_version="TLS1.2", cipher_suites=ours)


_NOT_CONNECTED = {"cluster": ["cluster.members-connected"]}
_disconnected = partial(
    Misconfigured, config=replace(BROKEN, size=3), checks=("cluster",), violated=_NOT_CONNECTED
)
"""A cluster of three, of which a member cannot connect to another."""

ZOO = [
    Misconfigured(
        name="one-member-without-a-list",
        what="one of three members is declared without the revocation list",
        config=replace(BROKEN, size=3, client_crl_file="crl.der"),
        after_start=lambda cluster: restart_one_with(cluster, 1, client_crl_file=None),
        checks=("cluster", "config"),
        violated={"cluster": ["cluster.same-policy"]},
        lines=_ONE_LINE,
    ),
    Misconfigured(
        name="one-member-without-san-rule",
        what="one of three members alone accepts peers' certificates from any address",
        config=replace(BROKEN, size=3),
        after_start=lambda cluster: restart_one_with(cluster, 1, peer_skip_client_san_verification=True),
        checks=("cluster",),
        warned={"cluster": ["cluster.same-policy"]},
        lines=_ONE_LINE,
    ),
    Misconfigured(
        name="one-member-with-another-bundle",
        what="only one of three members was restarted after a CA was added to the bundle",
        faults=(
            "config.trusted-ca-in-force",
            "mtls.announced-ca-expected",
        ),
        config=replace(BROKEN, size=3),
        after_start=_restart_one_with_another_ca,
        # The bundle has two CAs, and those who were not restarted trust one.
        violated={
            "cluster": ["cluster.same-ca"],
            "client": ["mtls.announced-ca-expected", "config.trusted-ca-in-force"],
        },
        warned={"client": ["mtls.announced-ca-single"]},
        lines=_ONE_LINE,
    ),
    Misconfigured(
        name="one-certificate-forgotten",
        what="the certificate of one of three members expires long before the others",
        faults=("cert.matches-expected-file", "mtls.server-certificate-as-client"),
        config=replace(BROKEN, size=3),
        after_start=_forget_one,
        violated={"client": ["cert.matches-expected-file"]},
        warned={
            "cluster": ["cluster.expiry-spread"],
            "client": ["cert.expires-soon", "mtls.server-certificate-as-client"],
        },
        not_verified={"client": ["mtls.server-certificate-as-client"]},
        lines=_ONE_LINE,
    ),
    Misconfigured(
        name="advertises-nowhere",
        what="no server answers at the advertised client URL",
        config=replace(BROKEN, extra_flags=("--advertise-client-urls=https://127.0.0.1:1",)),
        warned={"cluster": ["cluster.advertised-reachable"]},
    ),
    Misconfigured(
        name="advertises-the-peer-port",
        what="the advertised client URL is that of the member's peer port",
        config=BROKEN,
        etcd=copied_flag("listen-peer-urls", "advertise-client-urls"),
        violated={"cluster": ["cluster.advertised-reachable"]},
    ),
    Misconfigured(
        name="advertises-http",
        what="the advertised client URL is http, and no server answers there",
        faults=("cluster.advertised-https",),
        config=replace(BROKEN, extra_flags=("--advertise-client-urls=http://127.0.0.1:1",)),
        violated={"cluster": ["cluster.advertised-https"]},
        warned={"cluster": ["cluster.advertised-reachable"]},
    ),
    Misconfigured(
        name="declared-to-advertise-http",
        what="an http client URL is declared to be advertised; the running etcd was started with https",
        config=replace(BROKEN, extra_flags=("--advertise-client-urls=http://127.0.0.1:1",)),
        etcd=rewritten_arguments("^--advertise-client-urls=http:(.*)$", r"--advertise-client-urls=https:\1"),
        checks=("cluster.advertised-https",),
        violated={"cluster": ["cluster.advertised-https"]},
    ),
    Misconfigured(
        name="peers-without-tls",
        what="members connect to each other over http",
        faults=("cluster.peer-urls-https",),
        config=replace(BROKEN, peer_scheme="http"),
        violated={
            "cluster": ["cluster.peer-urls-https", "config.http-listener-beside-tls"],
            "peer": ["mtls.plaintext-refused"],
        },
    ),
    Misconfigured(
        name="peer-certificate-for-servers-of-one",
        what="the peer certificate of one of three members does not allow clientAuth",
        faults=("cert.client-usage",),
        after_start=_for_servers_only,
        checks=("cluster", "cert.client-usage"),
        violated={**_NOT_CONNECTED, "peer": ["cert.client-usage"]},
        config=replace(BROKEN, size=3),
    ),
    Misconfigured(
        name="one-peer-dials-with-an-expired-pair",
        what="the pair with which one of three members dials the others has expired; it serves another one",
        faults=("config.dials-with-valid-certificates",),
        config=replace(BROKEN, size=3),
        after_start=_dial_with_an_expired_pair,
        violated={"cluster": ["config.dials-with-valid-certificates"]},
        warned={"cluster": ["mtls.client-certificate-expires"]},
        lines=("3.5", "3.6", "3.7"),
    ),
    Misconfigured(
        name="gateway-pair-expired",
        what="the pair with which the gateway dials etcd has expired; etcd serves another one",
        faults=("config.dials-with-valid-certificates",),
        config=BROKEN,
        after_start=_expire_the_gateways_pair,
        violated={"cluster": ["config.dials-with-valid-certificates"]},
        warned={"cluster": ["mtls.client-certificate-expires"]},
        lines=("3.5", "3.6", "3.7"),
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
        after_start=lambda cluster: _dial_with(cluster, CertificateAuthority.create("another CA")),
    ),
    _disconnected(
        name="one-peer-dials-from-another-address",
        what="one of three members dials with a certificate that names another address than its own",
        after_start=lambda cluster: _dial_with(
            cluster, cluster.pki.peer_ca, replace(PEER, subject_alt_names=("192.0.2.1",))
        ),
    ),
    _disconnected(
        name="peers-without-a-common-suite",
        what="two of three members have TLS 1.2 and no common cipher suite, and the third has all",
        after_start=_take_the_common_suite_away,
        warned={"cluster": ["cluster.same-policy"]},
        lines=("3.5.33", "3.6", "3.7"),
    ),
    _disconnected(
        name="peers-without-a-common-version",
        what="two of three members have no common TLS version, and the third has all",
        after_start=_take_the_common_version_away,
        warned={"cluster": ["cluster.same-policy"]},
        lines=("3.5.33", "3.6", "3.7"),
    ),
]
