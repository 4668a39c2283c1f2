"""Clusters that serve the wrong certificate or none, or an incomplete, too long or foreign chain."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from cryptography import x509
from zoo.client_access import BROKEN, GATEWAY_FAILS, behind_the_first_gate, issued, rewrite
from zoo.model import Misconfigured

from pytest_etcdtls.etcd.cluster import Cluster
from pytest_etcdtls.pki.bundle import encode_certificates
from pytest_etcdtls.pki.profile import PEER, CALayout, OtherExtension
from pytest_etcdtls.role import Role


def serve(cluster: Cluster, *certificates: x509.Certificate, restart: bool = False) -> None:
    """Serve other certificates on the client port; after a restart the gateway dials with them as well."""
    rewrite(cluster, "server.crt", lambda _: encode_certificates(certificates), restart=restart)


def _give_all_the_first_ones_pair(cluster: Cluster) -> None:
    first, *others = cluster.members
    for member in others:
        for name in ("server.key", "server.crt"):
            member.file(name).write_bytes(first.file(name).read_bytes())


def _certify_the_servers_key_for_peers(cluster: Cluster) -> None:
    for member in cluster.members:
        server, hosts = cluster.pki.servers[member.name], ("localhost", "127.0.0.1", "::1")
        issuer = cluster.pki.authorities.peer_issuer
        peer = issuer.issue(PEER, name="peer", key=server.key, hosts=hosts)
        member.file("peer.key").write_bytes(member.file("server.key").read_bytes())
        member.file("peer.crt").write_bytes(encode_certificates(peer.chain))


def _without_peer_pair(cluster: Cluster) -> None:
    for member in cluster.members:
        member.file("peer.crt").unlink()
        member.file("peer.key").unlink()


_BELOW_EXAMPLE = OtherExtension("2.5.29.30", bytes.fromhex("300da00b300982076578616d706c65"), critical=True)
"""A nameConstraints with permittedSubtrees: dNSName example."""

ZOO = [
    Misconfigured(
        name="client-expired",
        what="the certificate of the client port has expired",
        faults=("cert.valid-now",),
        config=issued(server={"valid_from": timedelta(days=-2), "valid_for": timedelta(days=1)}),
        violated={"client": ["cert.valid-now"]},
        **GATEWAY_FAILS,
    ),
    Misconfigured(
        name="peer-expired",
        what="the certificate of the peer port has expired",
        config=issued(peer={"valid_from": timedelta(days=-2), "valid_for": timedelta(days=1)}),
        violated={"peer": ["cert.valid-now"]},
    ),
    Misconfigured(
        name="client-not-yet-valid",
        what="the certificate of the client port is valid from tomorrow on",
        faults=("cert.valid-now",),
        config=issued(server={"valid_from": timedelta(days=1)}),
        violated={"client": ["cert.valid-now"]},
        **GATEWAY_FAILS,
    ),
    Misconfigured(
        name="peer-not-yet-valid",
        what="the certificate of the peer port is valid from tomorrow on",
        config=issued(peer={"valid_from": timedelta(days=1)}),
        violated={"peer": ["cert.valid-now"]},
    ),
    Misconfigured(
        name="peer-no-names",
        what="the certificate of the peer port has a common name and no subjectAltName",
        config=issued(peer={"subject_alt_names": ()}),
        violated={"peer": ["cert.has-subject-alternative-name"]},
        not_verified={"peer": ["cert.covers-endpoint"]},
    ),
    Misconfigured(
        name="client-wrong-san",
        what="the certificate of the client port names another host",
        config=issued(server={"subject_alt_names": ("etcd.example",)}),
        violated={"client": ["cert.covers-endpoint"]},
        not_verified={"client": ["cert.covers-loopback"]},
    ),
    Misconfigured(
        name="client-self-signed",
        what="the certificate of the client port is self-signed",
        faults=("cert.trusted",),
        config=issued(server={"self_signed": True}),
        violated={"client": ["cert.trusted"]},
        **GATEWAY_FAILS,
    ),
    Misconfigured(
        name="swapped",
        what="each port serves the certificate of the other port",
        faults=("cert.ports-not-swapped",),
        config=replace(
            BROKEN,
            cert_file="peer.crt",
            key_file="peer.key",
            peer_cert_file="server.crt",
            peer_key_file="server.key",
        ),
        violated={
            "client": ["cert.trusted", "cert.matches-expected-file"],
            "peer": ["cert.trusted", "cert.matches-expected-file"],
            "cluster": ["cert.ports-not-swapped", "config.chain-closes"],
        },
        **GATEWAY_FAILS,
    ),
    Misconfigured(
        name="same-pair-on-both-ports",
        what="with one CA, both ports serve the certificate and key of the client port",
        faults=(
            "cert.matches-expected-file",
            "cert.own-certificate-per-port",
            "mtls.client-certificate-on-peer-port",
            "mtls.peer-certificate-on-client-port",
        ),
        config=replace(
            issued(layout=CALayout.SHARED), peer_cert_file="server.crt", peer_key_file="server.key"
        ),
        violated={"peer": ["cert.matches-expected-file"]},
        warned={
            "client": ["mtls.peer-certificate-on-client-port"],
            "peer": ["cert.own-certificate-per-port", "mtls.client-certificate-on-peer-port"],
        },
    ),
    Misconfigured(
        name="peer-pair-gone",
        what="the certificate and key of the peer port were removed after the start",
        config=BROKEN,
        after_start=_without_peer_pair,
        faults=("config.key-matches-certificate",),
        violated={"peer": ["listener.answers"], "cluster": ["config.key-matches-certificate"]},
        not_verified={
            "peer": behind_the_first_gate(Role.PEER),
            "client": ["mtls.ticket-not-transferable"],
            "cluster": ["cluster.one-cluster", "config.chain-closes"],
        },
    ),
    Misconfigured(
        name="client-intermediate-not-served",
        what="the client port serves its certificate without the intermediate CA that signed it",
        faults=("cert.complete",),
        config=issued(layout=CALayout.INTERMEDIATE),
        after_start=lambda cluster: serve(cluster, cluster.pki.servers["m0"].chain[0], restart=True),
        violated={"client": ["cert.complete"]},
        warned={"client": ["api.gateway-works"]},
    ),
    Misconfigured(
        name="client-stray-certificate",
        what="the client port serves the certificate of the peer port after its own",
        config=BROKEN,
        after_start=lambda cluster: serve(
            cluster, *cluster.pki.servers["m0"].chain, cluster.pki.peers["m0"].chain[0]
        ),
        warned={"client": ["cert.no-stray-certificates"]},
    ),
    Misconfigured(
        name="server-ca-is-none",
        what="the issuer of the client port's certificate is not a CA",
        faults=("cert.issuer-is-ca",),
        config=issued(layout=CALayout.PER_ROLE, server_authority={"ca": False}),
        violated={"client": ["cert.issuer-is-ca"]},
        **GATEWAY_FAILS,
    ),
    Misconfigured(
        name="ca-per-role-without-client-pair",
        what="the gateway dials with the client port's certificate, whose CA the client port does not trust",
        config=issued(layout=CALayout.PER_ROLE),
        **GATEWAY_FAILS,
    ),
    Misconfigured(
        name="server-ca-for-other-names",
        what="the name constraints of the client port's CA permit only names below example",
        faults=("cert.ca-constraints",),
        config=issued(layout=CALayout.PER_ROLE, server_authority={"other_extensions": (_BELOW_EXAMPLE,)}),
        violated={"client": ["cert.ca-constraints"]},
        **GATEWAY_FAILS,
    ),
    Misconfigured(
        name="root-with-unknown-extension",
        what="the root CA of the client port's certificate has an unknown critical extension",
        faults=("cert.critical-extensions",),
        config=issued(layout=CALayout.PER_ROLE, server_authority={"unknown_critical_extension": "1.2.3.4"}),
        violated={"client": ["cert.critical-extensions"]},
        **GATEWAY_FAILS,
    ),
    Misconfigured(
        name="one-pair-for-all-members",
        what="the client ports of all members serve the certificate and key of the first member",
        faults=("cert.matches-expected-file",),
        config=replace(BROKEN, size=3),
        after_start=_give_all_the_first_ones_pair,
        violated={"client": ["cert.matches-expected-file"]},
        warned={"cluster": ["cert.own-key-per-member"]},
    ),
    Misconfigured(
        name="same-key-on-both-ports",
        what="both ports serve certificates with the same key",
        config=BROKEN,
        after_start=_certify_the_servers_key_for_peers,
        violated={"peer": ["cert.matches-expected-file"]},
        warned={"peer": ["cert.own-certificate-per-port"]},
    ),
]
