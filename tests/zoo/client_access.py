"""Clusters that accept the wrong clients, or refuse the right ones."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from zoo.model import Misconfigured

from pytest_etcdtls.checks.registry import catalogue
from pytest_etcdtls.etcd.cluster import Cluster
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.pki.authority import CertificateAuthority
from pytest_etcdtls.pki.bundle import encode_certificates
from pytest_etcdtls.pki.profile import (
    AUTHORITY,
    CLIENT,
    PEER,
    PEER_CLIENT,
    SERVER,
    KeyType,
    PKIPlan,
    Profile,
)
from pytest_etcdtls.role import Role

GOOD = ClusterConfig()
BROKEN = replace(GOOD, expects_health=False)

BAD_IDENTITIES = (
    "mtls.no-certificate",
    "mtls.self-signed",
    "mtls.foreign-ca",
    "mtls.lookalike-ca",
    "mtls.expired",
    "mtls.not-yet-valid",
    "mtls.server-auth-only",
    "mtls.intermediate-missing",
)

OPEN = (*BAD_IDENTITIES, "mtls.announced-ca-present")
"""The checks that a port violates if it requests no client certificate."""

NOT_AS_CLIENT = {"client": ["mtls.server-certificate-as-client"]}
"""What is refused to the gateway is refused to whoever stole the served pair, too."""

GATEWAY_FAILS: Mapping[str, Any] = {
    "warned": {"client": ["api.gateway-works"]},
    "not_warned": NOT_AS_CLIENT,
}

UNAUTHENTICATED_ANSWERED = (
    "api.health-needs-certificate",
    "api.metrics-needs-certificate",
    "api.gateway-needs-certificate",
    "api.grpc-needs-certificate",
    "api.debug-vars",
)
"""The checks that a client port violates if it accepts unauthenticated clients."""


def issued(**changes: Any) -> ClusterConfig:
    """Return the cluster with fields of its plan changed, and fields of the profiles of certificates."""
    plan = PKIPlan()
    for name, change in changes.items():
        value: Any = replace(_PROFILES[name], **change) if isinstance(change, Mapping) else change
        plan = replace(plan, **{name: value})
    return replace(BROKEN, pki=plan)


_PROFILES: Mapping[str, Profile] = {
    "server": SERVER,
    "peer": PEER,
    "client": CLIENT,
    "peer_client": PEER_CLIENT,
    "client_authority": AUTHORITY,
    "server_authority": AUTHORITY,
}


@functools.cache
def other_ca() -> bytes:
    authority = CertificateAuthority.create("some other CA", KeyType.ECDSA_P256)
    return authority.certificate.public_bytes(Encoding.PEM)


def needs_a_client(role: Role) -> list[str]:
    """Return the checks of a listener that need an accepted client: all API checks, and some more."""
    api = [check.id for check in catalogue().values() if check.family == "api" and role in check.roles]
    services = ["config.gateway-as-declared", "config.pprof-as-declared"] if role is Role.CLIENT else []
    return [
        *api,
        *services,
        "cert.covers-advertised-url",
        "mtls.resumption-keeps-verdict",
        "tls.early-data",
        "tls.renegotiation",
    ]


def behind_the_first_gate(role: Role) -> list[str]:
    """Return the checks of a listener that nothing can be said about if ``listener.answers`` fails."""
    gated = (one for one in catalogue().values() if role in one.roles and not one.opt_in)
    return [check.id for check in gated if check.id != "listener.answers"]


def rewrite(cluster: Cluster, name: str, change: Callable[[bytes], bytes], *, restart: bool = False) -> None:
    """Change a file of every member."""
    for member in cluster.members:
        member.replace_files({name: change(member.file(name).read_bytes())})
    if restart:
        cluster.restart()


def namesake_of(authority: CertificateAuthority) -> bytes:
    """Return another CA with the same name, as PEM."""
    (name,) = authority.certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    namesake = CertificateAuthority.create(str(name.value)).certificate
    assert namesake.subject == authority.certificate.subject
    return namesake.public_bytes(Encoding.PEM)


NO_ACCEPTED_CLIENT = {
    "client": [
        "listener.is-etcd",
        *BAD_IDENTITIES,
        "mtls.peer-certificate-on-client-port",
        "mtls.server-certificate-as-client",
        *needs_a_client(Role.CLIENT),
    ],
    "peer": ["api.version-agrees", "api.peer-members", "mtls.ticket-not-transferable"],
    "cluster": ["advisory.go-runtime", "cluster.one-cluster"],
}
NO_ACCEPTED_PEER = {
    "peer": [
        "listener.is-etcd",
        *BAD_IDENTITIES,
        "mtls.wrong-san",
        "mtls.client-certificate-on-peer-port",
        *needs_a_client(Role.PEER),
    ],
    "client": ["mtls.ticket-not-transferable"],
    "cluster": ["cluster.one-cluster"],
}


@functools.cache
def _former_ca() -> bytes:
    authority = CertificateAuthority.create("etcd client-port CA")
    return authority.certificate.public_bytes(Encoding.PEM)


ZOO = [
    Misconfigured(
        name="client-no-auth",
        what="the client port does not request a client certificate",
        faults=("mtls.no-certificate",),
        config=replace(BROKEN, client_cert_auth=False, trusted_ca_file=None),
        violated={"client": [*OPEN, *UNAUTHENTICATED_ANSWERED]},
        not_warned=NOT_AS_CLIENT,
    ),
    Misconfigured(
        name="peer-no-auth",
        what="the peer port does not request a client certificate",
        faults=("mtls.no-certificate",),
        config=replace(BROKEN, peer_client_cert_auth=False, peer_trusted_ca_file=None),
        violated={"peer": [*OPEN, "mtls.wrong-san"]},
    ),
    Misconfigured(
        name="client-wrong-ca",
        what="the client port trusts another CA than the clients' CA",
        faults=("mtls.announced-ca-expected",),
        config=replace(BROKEN, trusted_ca_file="other-ca.crt", extra_files={"other-ca.crt": other_ca()}),
        violated={"client": ["mtls.trusted-client", "mtls.announced-ca-expected"]},
        not_verified=NO_ACCEPTED_CLIENT,
    ),
    Misconfigured(
        name="peer-wrong-ca",
        what="the peer port trusts another CA than the peers' CA",
        faults=("config.chain-closes",),
        config=replace(BROKEN, peer_trusted_ca_file="other-ca.crt", extra_files={"other-ca.crt": other_ca()}),
        violated={
            "peer": ["mtls.trusted-client", "mtls.announced-ca-expected"],
            "cluster": ["config.chain-closes"],
        },
        not_verified=NO_ACCEPTED_PEER,
    ),
    Misconfigured(
        name="client-system-roots",
        what="--client-cert-auth without a trusted CA: etcd trusts every CA in the system's root store",
        faults=("config.client-auth-without-ca",),
        config=replace(
            BROKEN,
            trusted_ca_file=None,
            extra_files={"roots.crt": other_ca()},
            environment={"SSL_CERT_FILE": "{pki}/roots.crt", "SSL_CERT_DIR": "{pki}/none"},
        ),
        violated={
            "client": ["mtls.trusted-client", "mtls.announced-ca-present", "mtls.announced-ca-expected"],
            "cluster": ["config.client-auth-without-ca"],
        },
        not_verified=NO_ACCEPTED_CLIENT,
    ),
    Misconfigured(
        name="client-trusts-too-much",
        what="the CA bundle of the client port contains one CA too many",
        faults=("mtls.announced-ca-expected",),
        config=BROKEN,
        after_start=lambda cluster: rewrite(
            cluster, "client-ca.crt", lambda pem: pem + other_ca(), restart=True
        ),
        violated={"client": ["mtls.announced-ca-expected"]},
        warned={"client": ["mtls.announced-ca-single"]},
    ),
    Misconfigured(
        name="http-beside-https",
        what="an http listener shares the port of the https listener",
        faults=("config.http-listener-beside-tls",),
        config=replace(BROKEN, plaintext_on_client_port=True),
        violated={
            "client": ["mtls.plaintext-refused"],
            "cluster": ["config.http-listener-beside-tls"],
        },
    ),
    Misconfigured(
        name="http-url-that-is-not-served",
        what="an http listener is declared on the port of the https listener, which serves TLS alone",
        config=replace(BROKEN, plaintext_on_client_port=True, client_http=True),
        checks=("config", "mtls.plaintext-refused"),
        warned={"cluster": ["config.http-listener-beside-tls"]},
    ),
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
        after_start=lambda cluster: rewrite(
            cluster, "clients.crt", lambda _: encode_certificates([cluster.pki.client_ca.certificate])
        ),
        violated={"client": ["mtls.trusted-client"]},
        not_verified=NO_ACCEPTED_CLIENT,
    ),
]
