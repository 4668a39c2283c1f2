"""Clusters whose certificates have the wrong usage, or too many usages."""

from __future__ import annotations

from dataclasses import replace

from zoo.client_access import BAD_IDENTITIES, BROKEN
from zoo.model import Misconfigured

from pytest_etcdtls.pki.profile import PEER, SERVER, KeyType, PKIPlan

_FOR_SERVERS = ("serverAuth",)

NOT_AS_CLIENT = {"client": ["mtls.server-certificate-as-client"]}
"""What is refused to the gateway is refused to whoever stole the served pair, too."""

_NOT_OURS = ("cert.generated", "cert.trusted", "cert.matches-expected-file")
_OPEN = ("mtls.announced-ca-present", "mtls.intermediate-missing", *BAD_IDENTITIES)
_SERVED = ("gateway", "grpc", "health", "metrics")
_API_IS_OPEN = ("api.debug-vars", *(f"api.{what}-needs-certificate" for what in _SERVED))

ZOO = [
    Misconfigured(
        name="client-for-clients-only",
        what="the certificate of the client port has the extended key usage clientAuth only",
        config=replace(BROKEN, pki=PKIPlan(server=replace(SERVER, extended_key_usage=("clientAuth",)))),
        violated={"client": ["cert.server-usage"]},
    ),
    Misconfigured(
        name="client-for-servers-only",
        what="the certificate of the client port lacks clientAuth, so the gateway fails",
        faults=("cert.client-usage",),
        config=replace(BROKEN, pki=PKIPlan(server=replace(SERVER, extended_key_usage=_FOR_SERVERS))),
        warned={"client": ["cert.client-usage", "api.gateway-works"]},
        not_warned=NOT_AS_CLIENT,
    ),
    Misconfigured(
        name="peer-for-servers-only",
        what="the certificate of the peer port lacks clientAuth, so no member can join",
        config=replace(BROKEN, pki=PKIPlan(peer=replace(PEER, extended_key_usage=_FOR_SERVERS))),
        violated={"peer": ["cert.client-usage"]},
    ),
    Misconfigured(
        name="client-key-may-not-sign",
        what="the key usage of the client port's certificate is keyEncipherment only",
        config=replace(
            BROKEN,
            pki=PKIPlan(
                key_type=KeyType.RSA_2048,
                server=replace(SERVER, key_usage=frozenset({"keyEncipherment"})),
            ),
        ),
        warned={"client": ["cert.key-usage"]},
    ),
    Misconfigured(
        name="client-is-a-ca",
        what="the certificate of the client port is a CA certificate",
        config=replace(BROKEN, pki=PKIPlan(server=replace(SERVER, ca=True))),
        warned={"client": ["cert.not-a-ca"]},
    ),
    Misconfigured(
        name="client-auto-tls",
        what="the client port serves a generated certificate and does not request a client certificate",
        faults=("config.auto-tls-drops-client-auth",),
        config=replace(BROKEN, auto_tls=True, cert_file=None, key_file=None),
        violated={
            "client": [
                *(*_NOT_OURS, *_OPEN, *_API_IS_OPEN),
                *("config.client-auth-in-force", "config.trusted-ca-in-force"),
            ],
            "cluster": ["config.auto-tls-drops-client-auth"],
        },
        not_warned=NOT_AS_CLIENT,
    ),
    Misconfigured(
        name="peer-auto-tls",
        what="the peer port serves a generated certificate and does not request a client certificate",
        faults=("config.auto-tls-drops-client-auth",),
        config=replace(BROKEN, peer_auto_tls=True, peer_cert_file=None, peer_key_file=None),
        violated={
            "peer": [
                *(*_NOT_OURS, *_OPEN, "mtls.wrong-san"),
                *("config.peer-auth-in-force", "config.peer-trusted-ca-in-force"),
            ],
            "cluster": ["config.auto-tls-drops-client-auth"],
        },
    ),
]
