"""Clusters whose certificates Go accepts, and OpenSSL or Python does not."""

from __future__ import annotations

from dataclasses import replace

from zoo.client_access import BROKEN
from zoo.model import Misconfigured

from pytest_etcdtls.pki.profile import AUTHORITY, SERVER, OtherExtension, PKIPlan

_CLIENT_ONLY = OtherExtension("2.16.840.1.113730.1.1", bytes.fromhex("03020780"))
_CA_NOT_CRITICAL = OtherExtension("2.5.29.19", bytes.fromhex("30030101ff"))
_LOOPBACK_NOT_CRITICAL = OtherExtension(
    "2.5.29.17", bytes.fromhex("3011") + b"\x82\x09localhost" + bytes.fromhex("87047f000001")
)

ZOO = [
    Misconfigured(
        name="client-any-usage",
        what="the certificate of the client port has anyExtendedKeyUsage instead of serverAuth",
        config=replace(BROKEN, pki=PKIPlan(server=replace(SERVER, extended_key_usage=("2.5.29.37.0",)))),
        warned={"client": ["cert.openssl-purpose"]},
    ),
    Misconfigured(
        name="client-ns-cert-type",
        what="the nsCertType of the client port's certificate permits clients only",
        config=replace(BROKEN, pki=PKIPlan(server=replace(SERVER, other_extensions=(_CLIENT_ONLY,)))),
        warned={"client": ["cert.openssl-purpose"]},
    ),
    Misconfigured(
        name="ca-without-key-usage",
        what="the CA of the client port has no keyUsage",
        config=replace(BROKEN, pki=PKIPlan(client_authority=replace(AUTHORITY, key_usage=frozenset()))),
        warned={"client": ["cert.x509-strict"]},
    ),
    Misconfigured(
        name="ca-constraints-not-critical",
        what="the basicConstraints of the client port's CA are not critical",
        config=replace(
            BROKEN, pki=PKIPlan(client_authority=replace(AUTHORITY, other_extensions=(_CA_NOT_CRITICAL,)))
        ),
        warned={"client": ["cert.x509-strict"]},
    ),
    Misconfigured(
        name="client-empty-subject",
        what="the certificate of the client port has no subject, and a subjectAltName that is not critical",
        config=replace(
            BROKEN,
            pki=PKIPlan(server=replace(SERVER, common_name=None, other_extensions=(_LOOPBACK_NOT_CRITICAL,))),
        ),
        warned={"client": ["cert.x509-strict"]},
    ),
]
