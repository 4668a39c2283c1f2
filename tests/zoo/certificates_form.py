"""Clusters whose certificates are weak, or do not follow RFC 5280."""

from __future__ import annotations

from dataclasses import replace

from zoo.certificates_usage import NOT_AS_CLIENT
from zoo.client_access import BROKEN
from zoo.model import Misconfigured

from pytest_etcdtls.pki.profile import AUTHORITY, SERVER, KeyType, PKIPlan

ZOO = [
    Misconfigured(
        # An etcd that was built with Go 1.23 or newer does not start with it.
        name="client-serial-negative",
        what="the serial number of the client port's certificate is negative",
        config=replace(BROKEN, pki=PKIPlan(server=replace(SERVER, serial_number=-5))),
        lines=("3.4", "3.5.1"),
        violated={"client": ["cert.well-formed"]},
    ),
    Misconfigured(
        name="client-serial-zero",
        what="the serial number of the client port's certificate is 0",
        config=replace(BROKEN, pki=PKIPlan(server=replace(SERVER, serial_number=0))),
        warned={"client": ["cert.serial-number"]},
    ),
    Misconfigured(
        name="client-unknown-extension",
        what="the certificate of the client port has an unknown critical extension",
        faults=("cert.critical-extensions",),
        config=replace(BROKEN, pki=PKIPlan(server=replace(SERVER, unknown_critical_extension="1.2.3.4"))),
        violated={"client": ["cert.critical-extensions"]},
        warned={"client": ["api.gateway-works"]},
        not_warned=NOT_AS_CLIENT,
    ),
    Misconfigured(
        name="client-no-key-identifier",
        what="the certificate of the client port has no authorityKeyIdentifier",
        config=replace(BROKEN, pki=PKIPlan(server=replace(SERVER, authority_key_identifier=False))),
        warned={"client": ["cert.key-identifiers"]},
    ),
    Misconfigured(
        name="client-rsa-1024",
        what="the key of the client port's certificate has 1024 bits",
        config=replace(BROKEN, pki=PKIPlan(key_type=KeyType.RSA_2048, server=replace(SERVER, rsa_bits=1024))),
        violated={"client": ["cert.key-strength"]},
    ),
    Misconfigured(
        name="client-sha1",
        what="the certificate of the client port is signed with SHA-1",
        faults=("cert.signature-hash",),
        config=replace(BROKEN, pki=PKIPlan(server=replace(SERVER, signature_hash="sha1"))),
        violated={"client": ["cert.signature-hash"]},
        warned={"client": ["api.gateway-works"]},
        not_warned=NOT_AS_CLIENT,
        # Go 1.16 still accepts it, from the gateway too.
        by_version={
            "3.5.1": {"warns": NOT_AS_CLIENT},
        },
    ),
    Misconfigured(
        name="ca-rsa-1024",
        what="the key of the client port's CA has 1024 bits",
        config=replace(BROKEN, pki=PKIPlan(client_authority=replace(AUTHORITY, rsa_bits=1024))),
        violated={"client": ["cert.issuer-key-strength"]},
    ),
]
