"""Clusters whose certificates have no names, wrong names, or too many."""

from __future__ import annotations

from dataclasses import replace

from zoo.client_access import BROKEN
from zoo.model import Misconfigured

from pytest_etcdtls.pki.profile import PEER, SERVER, PKIPlan

ZOO = [
    Misconfigured(
        name="client-no-names",
        what="the certificate of the client port has a common name and no subjectAltName",
        config=replace(BROKEN, pki=PKIPlan(server=replace(SERVER, subject_alt_names=()))),
        violated={"client": ["cert.has-subject-alternative-name"]},
        not_verified={"client": ["cert.covers-endpoint", "cert.covers-loopback"]},
    ),
    Misconfigured(
        name="peer-no-names",
        what="the certificate of the peer port has a common name and no subjectAltName",
        config=replace(BROKEN, pki=PKIPlan(peer=replace(PEER, subject_alt_names=()))),
        violated={"peer": ["cert.has-subject-alternative-name"]},
        not_verified={"peer": ["cert.covers-endpoint"]},
    ),
    Misconfigured(
        name="client-address-as-dns-name",
        what="the certificate of the client port has its address as a DNS name",
        config=replace(
            BROKEN,
            pki=PKIPlan(
                server=replace(SERVER, subject_alt_names=("localhost",), dns_names=("127.0.0.1", "::1"))
            ),
        ),
        violated={"client": ["cert.address-as-dns-name"]},
        not_verified={"client": ["cert.covers-endpoint", "cert.covers-loopback"]},
    ),
    Misconfigured(
        name="client-wildcard",
        what="the certificate of the client port has a wildcard name",
        config=replace(
            BROKEN,
            pki=PKIPlan(
                server=replace(SERVER, subject_alt_names=("*.etcd.example", "localhost", "127.0.0.1"))
            ),
        ),
        warned={"client": ["cert.wildcard"]},
    ),
    Misconfigured(
        name="client-without-localhost",
        what="the certificate of the client port covers its address but not localhost",
        config=replace(BROKEN, pki=PKIPlan(server=replace(SERVER, subject_alt_names=("127.0.0.1",)))),
        warned={"client": ["cert.covers-loopback"]},
    ),
    Misconfigured(
        name="client-advertises-another-name",
        what="the certificate does not cover the advertised client URL, and no server answers there",
        faults=("cert.covers-advertised-url",),
        config=replace(BROKEN, extra_flags=("--advertise-client-urls=https://127.0.0.2:2379",)),
        violated={"client": ["cert.covers-advertised-url"]},
        warned={"cluster": ["cluster.advertised-reachable"]},
    ),
    Misconfigured(
        name="peer-advertises-another-name",
        what="the member advertises a peer URL whose host its certificate does not cover",
        config=replace(
            BROKEN,
            pki=PKIPlan(peer=replace(PEER, subject_alt_names=("127.0.0.1",))),
            extra_flags=(
                "--initial-advertise-peer-urls=https://localhost:2380",
                "--initial-cluster=m0=https://localhost:2380",
            ),
        ),
        violated={"peer": ["cert.covers-advertised-url"]},
    ),
]
