"""Clusters whose certificates or CAs expire soon, have expired, or are valid for too long."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from zoo.certificates_usage import NOT_AS_CLIENT
from zoo.client_access import BROKEN
from zoo.model import Misconfigured

from pytest_etcdtls.pki.profile import AUTHORITY, CLIENT, PEER, SERVER, CALayout, PKIPlan

_TEN_DAYS = timedelta(days=10)
_TEN_YEARS = timedelta(days=3650)

OF_CLIENTS = ("mtls", "cert", "config", "listener")
"""What judges a CA of clients alone: with a CA for each role the gateway of etcd is none of its clients."""

ZOO = [
    Misconfigured(
        name="client-expires-soon",
        what="the certificate of the client port expires in ten days",
        config=replace(BROKEN, pki=PKIPlan(server=replace(SERVER, valid_for=_TEN_DAYS))),
        warned={"client": ["cert.expires-soon"]},
    ),
    Misconfigured(
        name="peer-expires-soon",
        what="the certificate of the peer port expires in ten days",
        config=replace(BROKEN, pki=PKIPlan(peer=replace(PEER, valid_for=_TEN_DAYS))),
        warned={"peer": ["cert.expires-soon"]},
    ),
    Misconfigured(
        name="client-ten-years",
        what="the certificate of the client port is valid for ten years",
        config=replace(BROKEN, pki=PKIPlan(server=replace(SERVER, valid_for=_TEN_YEARS))),
        warned={"client": ["cert.lifetime"]},
    ),
    Misconfigured(
        name="client-ca-expires-soon",
        what="the CA of the client port expires in ten days, before the certificates that it signed",
        config=replace(BROKEN, pki=PKIPlan(client_authority=replace(AUTHORITY, valid_for=_TEN_DAYS))),
        warned={"client": ["cert.ca-expires-soon"]},
    ),
    Misconfigured(
        # A CA of its own for what is served, so that clients are accepted: the gateway's certificate is none
        # of theirs, which is another fault of this layout.
        name="server-ca-expired",
        what="the CA of the client port's certificate has expired, the certificate has not",
        faults=("cert.ca-valid-now",),
        config=replace(
            BROKEN,
            pki=PKIPlan(
                layout=CALayout.PER_ROLE,
                server_authority=replace(
                    AUTHORITY, valid_from=timedelta(days=-2), valid_for=timedelta(days=1)
                ),
            ),
        ),
        violated={"client": ["cert.ca-valid-now"]},
        warned={"client": ["api.gateway-works"]},
        not_warned=NOT_AS_CLIENT,
    ),
    Misconfigured(
        name="client-certificate-expires",
        what="the certificate of a client expires in ten days",
        config=replace(BROKEN, pki=PKIPlan(client=replace(CLIENT, valid_for=_TEN_DAYS))),
        warned={"cluster": ["mtls.client-certificate-expires"]},
    ),
    Misconfigured(
        name="ca-of-clients-expires",
        what="the CA that signs only client certificates expires in ten days",
        config=replace(
            BROKEN,
            pki=PKIPlan(layout=CALayout.PER_ROLE, client_authority=replace(AUTHORITY, valid_for=_TEN_DAYS)),
        ),
        checks=OF_CLIENTS,
        warned={"cluster": ["mtls.client-ca-expires"]},
    ),
    Misconfigured(
        name="client-certificate-weak-key",
        what="the RSA key of a client certificate has 1024 bits",
        config=replace(BROKEN, pki=PKIPlan(client=replace(CLIENT, rsa_bits=1024))),
        warned={"cluster": ["mtls.client-certificate-strength"]},
    ),
    Misconfigured(
        name="ca-of-clients-weak-key",
        what="the RSA key of the CA that signs only client certificates has 1024 bits",
        config=replace(
            BROKEN,
            pki=PKIPlan(layout=CALayout.PER_ROLE, client_authority=replace(AUTHORITY, rsa_bits=1024)),
        ),
        checks=OF_CLIENTS,
        violated={"cluster": ["mtls.client-ca-strength"]},
    ),
    Misconfigured(
        name="client-certificate-sha1",
        what="the certificate of a client is signed with SHA-1, which Go before 1.18 accepts",
        faults=("mtls.trusted-client",),
        config=replace(BROKEN, pki=PKIPlan(client=replace(CLIENT, signature_hash="sha1"))),
        violated={"client": ["mtls.trusted-client"]},
        warned={"cluster": ["mtls.client-certificate-signature"]},
        by_version={"3.5.1": {"violates": {}}},
    ),
]
