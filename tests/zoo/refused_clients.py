"""Clusters whose own client is refused in the handshake, for what its certificate or its CA has."""

from __future__ import annotations

import functools
from dataclasses import replace

from cryptography.hazmat.primitives.serialization import Encoding
from zoo.client_access import BROKEN, NO_ACCEPTED_CLIENT, issued
from zoo.model import Misconfigured

from pytest_etcdtls.etcd.cluster import Cluster
from pytest_etcdtls.pki.authority import CertificateAuthority


@functools.cache
def _former_ca() -> bytes:
    authority = CertificateAuthority.create("etcd client-port CA")
    return authority.certificate.public_bytes(Encoding.PEM)


def _renew_the_bundle(cluster: Cluster) -> None:
    for member in cluster.members:
        member.file("clients.crt").write_bytes(member.file("client-ca.crt").read_bytes())


ZOO = [
    Misconfigured(
        name="client-certificate-with-unknown-extension",
        what="the certificate of a client has a critical extension that Go does not handle",
        config=issued(client={"unknown_critical_extension": "1.2.3.4"}),
        violated={"client": ["mtls.trusted-client"]},
    ),
    Misconfigured(
        name="client-ca-for-servers-only",
        what="the CA of the client port has the extended key usage serverAuth alone",
        config=issued(client_authority={"extended_key_usage": ("serverAuth",)}),
        faults=("config.chain-closes",),
        violated={"client": ["mtls.trusted-client"], "cluster": ["config.chain-closes"]},
        not_verified=NO_ACCEPTED_CLIENT,
    ),
    Misconfigured(
        name="client-ca-renewed-on-disk",
        what="the CA of clients was created again under its name, and etcd was not restarted",
        config=replace(BROKEN, trusted_ca_file="clients.crt", extra_files={"clients.crt": _former_ca()}),
        after_start=_renew_the_bundle,
        violated={"client": ["mtls.trusted-client"]},
        not_verified=NO_ACCEPTED_CLIENT,
    ),
]
