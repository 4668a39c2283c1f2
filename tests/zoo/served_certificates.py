"""Clusters that serve the wrong certificate, or none."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from zoo.client_access import BROKEN, behind_the_first_gate
from zoo.model import Misconfigured

from pytest_etcdtls.etcd.cluster import Cluster
from pytest_etcdtls.pki.profile import PEER, SERVER, CALayout, PKIPlan, Profile
from pytest_etcdtls.role import Role


def _expired(profile: Profile) -> PKIPlan:
    expired = replace(profile, valid_from=timedelta(days=-2), valid_for=timedelta(days=1))
    return PKIPlan(peer=expired) if profile is PEER else PKIPlan(server=expired)


def _without_peer_pair(cluster: Cluster) -> None:
    for member in cluster.members:
        member.file("peer.crt").unlink()
        member.file("peer.key").unlink()


ZOO = [
    Misconfigured(
        name="client-expired",
        what="the certificate of the client port has expired",
        faults=("cert.valid-now",),
        config=replace(BROKEN, pki=_expired(SERVER)),
        violated={"client": ["cert.valid-now"]},
        warned={"client": ["api.gateway-works"]},
        not_warned={"client": ["mtls.server-certificate-as-client"]},
    ),
    Misconfigured(
        name="peer-expired",
        what="the certificate of the peer port has expired",
        config=replace(BROKEN, pki=_expired(PEER)),
        violated={"peer": ["cert.valid-now"]},
    ),
    Misconfigured(
        name="client-wrong-san",
        what="the certificate of the client port names another host",
        config=replace(BROKEN, pki=PKIPlan(server=replace(SERVER, subject_alt_names=("etcd.example",)))),
        violated={"client": ["cert.covers-endpoint"]},
        not_verified={"client": ["cert.covers-loopback"]},
    ),
    Misconfigured(
        name="client-self-signed",
        what="the certificate of the client port is self-signed",
        faults=("cert.trusted",),
        config=replace(BROKEN, pki=PKIPlan(server=replace(SERVER, self_signed=True))),
        violated={"client": ["cert.trusted"]},
        warned={"client": ["api.gateway-works"]},
        not_warned={"client": ["mtls.server-certificate-as-client"]},
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
        warned={"client": ["api.gateway-works"]},
        not_warned={"client": ["mtls.server-certificate-as-client"]},
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
            BROKEN,
            pki=PKIPlan(layout=CALayout.SHARED),
            peer_cert_file="server.crt",
            peer_key_file="server.key",
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
            "cluster": ["cluster.one-cluster"],
        },
    ),
]
