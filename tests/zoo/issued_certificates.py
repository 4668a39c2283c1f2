"""Clusters whose certificates have wrong names, usages, times or forms, or one that some clients refuse."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from zoo.client_access import BROKEN, GATEWAY_FAILS, NOT_AS_CLIENT, OPEN, UNAUTHENTICATED_ANSWERED, issued
from zoo.model import Misconfigured
from zoo.served_certificates import serve

from pytest_etcdtls.etcd.cluster import Cluster
from pytest_etcdtls.pki.authority import CertificateAuthority
from pytest_etcdtls.pki.profile import AUTHORITY, CALayout, KeyType, OtherExtension

_FOR_SERVERS = ("serverAuth",)
_TEN_DAYS, _TEN_YEARS = timedelta(days=10), timedelta(days=3650)
_EXPIRED = {"valid_from": timedelta(days=-2), "valid_for": timedelta(days=1)}
_OF_CLIENTS = ("mtls", "cert", "config", "listener")
"""What judges a CA of clients alone: with a CA for each role the gateway of etcd is none of its clients."""

_NOT_OURS = ("cert.generated", "cert.trusted", "cert.matches-expected-file")

_CA_NOT_CRITICAL = OtherExtension("2.5.29.19", bytes.fromhex("30030101ff"))
_LOOPBACK_NOT_CRITICAL = OtherExtension(
    "2.5.29.17", bytes.fromhex("3011") + b"\x82\x09localhost" + bytes.fromhex("87047f000001")
)
_NO_MASK = OtherExtension("2.5.29.30", bytes.fromhex("300aa0083006" + "87047f000001"), critical=True)
"""A nameConstraints that permits 127.0.0.1, without the mask that RFC 5280 section 4.2.1.10 asks for."""


def _serve_a_malformed_one_too(cluster: Cluster) -> None:
    profile = replace(AUTHORITY, other_extensions=(_NO_MASK,))
    malformed = CertificateAuthority.create("malformed CA", profile=profile).certificate
    serve(cluster, *cluster.pki.servers["m0"].chain, malformed, restart=True)


ZOO = [
    # names
    Misconfigured(
        name="client-no-names",
        what="the certificate of the client port has a common name and no subjectAltName",
        config=issued(server={"subject_alt_names": ()}),
        violated={"client": ["cert.has-subject-alternative-name"]},
        not_verified={"client": ["cert.covers-endpoint", "cert.covers-loopback"]},
    ),
    Misconfigured(
        name="client-address-as-dns-name",
        what="the certificate of the client port has its address as a DNS name",
        config=issued(server={"subject_alt_names": ("localhost",), "dns_names": ("127.0.0.1", "::1")}),
        violated={"client": ["cert.address-as-dns-name"]},
        not_verified={"client": ["cert.covers-endpoint", "cert.covers-loopback"]},
    ),
    Misconfigured(
        name="client-wildcard",
        what="the certificate of the client port has a wildcard name",
        config=issued(server={"subject_alt_names": ("*.etcd.example", "localhost", "127.0.0.1")}),
        warned={"client": ["cert.wildcard"]},
    ),
    Misconfigured(
        name="client-without-localhost",
        what="the certificate of the client port covers its address but not localhost",
        config=issued(server={"subject_alt_names": ("127.0.0.1",)}),
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
            issued(peer={"subject_alt_names": ("127.0.0.1",)}),
            extra_flags=(
                "--initial-advertise-peer-urls=https://localhost:2380",
                "--initial-cluster=m0=https://localhost:2380",
            ),
        ),
        violated={"peer": ["cert.covers-advertised-url"]},
    ),
    # usages
    Misconfigured(
        name="client-for-clients-only",
        what="the certificate of the client port has the extended key usage clientAuth only",
        config=issued(server={"extended_key_usage": ("clientAuth",)}),
        violated={"client": ["cert.server-usage"]},
    ),
    Misconfigured(
        name="client-for-servers-only",
        what="the certificate of the client port lacks clientAuth, so the gateway fails",
        faults=("cert.client-usage",),
        config=issued(server={"extended_key_usage": _FOR_SERVERS}),
        warned={"client": ["cert.client-usage", "api.gateway-works"]},
        not_warned=NOT_AS_CLIENT,
    ),
    Misconfigured(
        name="peer-for-servers-only",
        what="the certificate of the peer port lacks clientAuth, so no member can join",
        config=issued(peer={"extended_key_usage": _FOR_SERVERS}),
        violated={"peer": ["cert.client-usage"]},
    ),
    Misconfigured(
        name="client-key-may-not-sign",
        what="the key usage of the client port's certificate is keyEncipherment only",
        config=issued(key_type=KeyType.RSA_2048, server={"key_usage": frozenset({"keyEncipherment"})}),
        warned={"client": ["cert.key-usage"]},
    ),
    Misconfigured(
        name="client-ecdsa-key-may-not-sign",
        what="the same with an ECDSA key: our OpenSSL refuses the certificate in TLS 1.2, and Go does not",
        config=issued(server={"key_usage": frozenset({"keyEncipherment"})}),
        lines=("3.4", "3.5.33", "3.6", "3.7"),  # others offer TLS 1.2 alone
        warned={"client": ["cert.key-usage"]},
        not_verified={"client": ["mtls.same-verdict-every-version", "tls.renegotiation"]},
    ),
    Misconfigured(
        name="client-is-a-ca",
        what="the certificate of the client port is a CA certificate",
        config=issued(server={"ca": True}),
        warned={"client": ["cert.not-a-ca"]},
    ),
    Misconfigured(
        name="client-auto-tls",
        what="the client port serves a certificate generated by etcd and does not request one from clients",
        faults=("config.auto-tls-drops-client-auth",),
        config=replace(BROKEN, auto_tls=True, cert_file=None, key_file=None),
        violated={
            "client": [
                *(*_NOT_OURS, *OPEN, *UNAUTHENTICATED_ANSWERED),
                *("config.client-auth-in-force", "config.trusted-ca-in-force"),
            ],
            "cluster": ["config.auto-tls-drops-client-auth"],
        },
        not_warned=NOT_AS_CLIENT,
    ),
    Misconfigured(
        name="peer-auto-tls",
        what="the peer port serves a certificate generated by etcd and does not request one from clients",
        faults=("config.auto-tls-drops-client-auth",),
        config=replace(BROKEN, peer_auto_tls=True, peer_cert_file=None, peer_key_file=None),
        violated={
            "peer": [
                *(*_NOT_OURS, *OPEN, "mtls.wrong-san"),
                *("config.peer-auth-in-force", "config.peer-trusted-ca-in-force"),
            ],
            "cluster": ["config.auto-tls-drops-client-auth"],
        },
    ),
    # times
    Misconfigured(
        name="client-expires-soon",
        what="the certificate of the client port expires in ten days",
        config=issued(server={"valid_for": _TEN_DAYS}),
        warned={"client": ["cert.expires-soon"]},
    ),
    Misconfigured(
        name="client-ten-years",
        what="the certificate of the client port is valid for ten years",
        config=issued(server={"valid_for": _TEN_YEARS}),
        warned={"client": ["cert.lifetime"]},
    ),
    Misconfigured(
        name="client-ca-expires-soon",
        what="the CA of the client port expires in ten days, before the certificates that it signed",
        config=issued(client_authority={"valid_for": _TEN_DAYS}),
        warned={"client": ["cert.ca-expires-soon"]},
    ),
    Misconfigured(
        # A CA of its own for what is served, so that clients are accepted: the gateway's certificate is none
        # of theirs, which is another fault of this layout.
        name="server-ca-expired",
        what="the CA of the client port's certificate has expired, the certificate has not",
        faults=("cert.ca-valid-now",),
        config=issued(layout=CALayout.PER_ROLE, server_authority=_EXPIRED),
        violated={"client": ["cert.ca-valid-now"]},
        **GATEWAY_FAILS,
    ),
    # clients and their CA
    Misconfigured(
        name="client-certificate-expires",
        what="the certificate of a client expires in ten days",
        config=issued(client={"valid_for": _TEN_DAYS}),
        warned={"cluster": ["mtls.client-certificate-expires"]},
    ),
    Misconfigured(
        name="ca-of-clients-expires",
        what="the CA that signs only client certificates expires in ten days",
        config=issued(layout=CALayout.PER_ROLE, client_authority={"valid_for": _TEN_DAYS}),
        checks=_OF_CLIENTS,
        warned={"cluster": ["mtls.client-ca-expires"]},
    ),
    Misconfigured(
        name="client-certificate-weak-key",
        what="the RSA key of a client certificate has 1024 bits",
        config=issued(client={"rsa_bits": 1024}),
        warned={"cluster": ["mtls.client-certificate-strength"]},
    ),
    Misconfigured(
        name="ca-of-clients-weak-key",
        what="the RSA key of the CA that signs only client certificates has 1024 bits",
        config=issued(layout=CALayout.PER_ROLE, client_authority={"rsa_bits": 1024}),
        checks=_OF_CLIENTS,
        violated={"cluster": ["mtls.client-ca-strength"]},
    ),
    Misconfigured(
        name="client-certificate-sha1",
        what="the certificate of a client is signed with SHA-1, which Go before 1.18 accepts",
        faults=("mtls.trusted-client",),
        config=issued(client={"signature_hash": "sha1"}),
        violated={"client": ["mtls.trusted-client"]},
        warned={"cluster": ["mtls.client-certificate-signature"]},
        by_version={"3.5.1": {"violates": {}}},
    ),
    # form
    Misconfigured(
        # An etcd that was built with Go 1.23 or newer does not start with it.
        name="client-serial-negative",
        what="the serial number of the client port's certificate is negative",
        config=issued(server={"serial_number": -5}),
        lines=("3.4", "3.5.1"),
        violated={"client": ["cert.well-formed"]},
    ),
    Misconfigured(
        name="client-serial-zero",
        what="the serial number of the client port's certificate is 0",
        config=issued(server={"serial_number": 0}),
        warned={"client": ["cert.serial-number"]},
    ),
    Misconfigured(
        name="client-unknown-extension",
        what="the certificate of the client port has an unknown critical extension",
        faults=("cert.critical-extensions",),
        config=issued(server={"unknown_critical_extension": "1.2.3.4"}),
        violated={"client": ["cert.critical-extensions"]},
        **GATEWAY_FAILS,
    ),
    Misconfigured(
        name="client-no-key-identifier",
        what="the certificate of the client port has no authorityKeyIdentifier",
        config=issued(server={"authority_key_identifier": False}),
        warned={"client": ["cert.key-identifiers"]},
    ),
    Misconfigured(
        name="client-rsa-1024",
        what="the key of the client port's certificate has 1024 bits",
        config=issued(key_type=KeyType.RSA_2048, server={"rsa_bits": 1024}),
        violated={"client": ["cert.key-strength"]},
    ),
    Misconfigured(
        name="client-sha1",
        what="the certificate of the client port is signed with SHA-1",
        faults=("cert.signature-hash",),
        config=issued(server={"signature_hash": "sha1"}),
        violated={"client": ["cert.signature-hash"]},
        **GATEWAY_FAILS,
        # Go 1.16 still accepts it, from the gateway too.
        by_version={"3.5.1": {"warns": NOT_AS_CLIENT}},
    ),
    Misconfigured(
        name="ca-rsa-1024",
        what="the key of the client port's CA has 1024 bits",
        config=issued(client_authority={"rsa_bits": 1024}),
        violated={"client": ["cert.issuer-key-strength"]},
    ),
    # what Go accepts, and OpenSSL, Python or a parser does not
    Misconfigured(
        name="client-any-usage",
        what="the certificate of the client port has anyExtendedKeyUsage instead of serverAuth",
        config=issued(server={"extended_key_usage": ("2.5.29.37.0",)}),
        warned={"client": ["cert.openssl-purpose"]},
    ),
    Misconfigured(
        name="ca-constraints-not-critical",
        what="the basicConstraints of the client port's CA are not critical",
        config=issued(client_authority={"other_extensions": (_CA_NOT_CRITICAL,)}),
        warned={"client": ["cert.x509-strict"]},
    ),
    Misconfigured(
        name="client-empty-subject",
        what="the certificate of the client port has no subject, and a subjectAltName that is not critical",
        config=issued(server={"common_name": None, "other_extensions": (_LOOPBACK_NOT_CRITICAL,)}),
        warned={"client": ["cert.x509-strict"]},
    ),
    Misconfigured(
        name="client-unparsable-extension",
        what="the certificate of the client port has an issuerAltName that cannot be parsed",
        config=issued(server={"other_extensions": (OtherExtension("2.5.29.18", b"\x05\x00"),)}),
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
