"""Clusters that serve certificates which some clients cannot parse."""

from __future__ import annotations

from dataclasses import replace

from zoo.client_access import BROKEN
from zoo.model import Misconfigured

from pytest_etcdtls.etcd.cluster import Cluster
from pytest_etcdtls.pki.authority import CertificateAuthority
from pytest_etcdtls.pki.bundle import encode_certificates
from pytest_etcdtls.pki.profile import AUTHORITY, SERVER, OtherExtension, PKIPlan

_NULL = b"\x05\x00"
_NO_MASK = OtherExtension("2.5.29.30", bytes.fromhex("300aa0083006" + "87047f000001"), critical=True)
"""A nameConstraints that permits 127.0.0.1, without the mask that RFC 5280 section 4.2.1.10 asks for."""


def _serve_a_malformed_one_too(cluster: Cluster) -> None:
    """Restarted, so that the gateway dials with it as well."""
    profile = replace(AUTHORITY, other_extensions=(_NO_MASK,))
    malformed = CertificateAuthority.create("malformed CA", profile=profile).certificate
    for member in cluster.members:
        served = cluster.pki.servers[member.name].chain
        member.file("server.crt").write_bytes(encode_certificates([*served, malformed]))
    cluster.restart()


ZOO = [
    Misconfigured(
        name="client-unparsable-extension",
        what="the certificate of the client port has an issuerAltName that cannot be parsed",
        config=replace(
            BROKEN,
            pki=PKIPlan(server=replace(SERVER, other_extensions=(OtherExtension("2.5.29.18", _NULL),))),
        ),
        warned={"client": ["cert.parsable"]},
    ),
    Misconfigured(
        name="client-malformed-certificate",
        what="the client port serves, after its certificate, a CA certificate that Go cannot parse",
        faults=("cert.well-formed", "cert.no-stray-certificates"),
        config=BROKEN,
        after_start=_serve_a_malformed_one_too,
        violated={"client": ["cert.well-formed"]},
        warned={"client": ["cert.no-stray-certificates", "api.gateway-works"]},
    ),
]
