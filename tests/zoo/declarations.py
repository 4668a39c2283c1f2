"""Clusters that differ from their declaration, and declarations whose effect differs from what they suggest.

Where the wire does not show it, a member is judged by the checks of declarations alone. Some etcds here
ignore their flags: what runs was then started with other settings than declared.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

from cryptography.x509.oid import NameOID
from oracle.crls import pem, signed, version_1
from unruly.programs import changed_flags, rewritten_arguments
from zoo.client_access import (
    BAD_IDENTITIES,
    BROKEN,
    GOOD,
    NO_ACCEPTED_CLIENT,
    NO_ACCEPTED_PEER,
    NOT_AS_CLIENT,
    OPEN,
    UNAUTHENTICATED_ANSWERED,
    namesake_of,
    other_ca,
    rewrite,
)
from zoo.model import Misconfigured

from pytest_etcdtls.etcd.cluster import Cluster
from pytest_etcdtls.pki.authority import CertificateAuthority
from pytest_etcdtls.pki.bundle import encode_certificates, encode_key
from pytest_etcdtls.pki.profile import AUTHORITY, PEER

_DECLARED = ("config",)
_HIDDEN = "config.config-file-hides-flags"
_FROM_A_FILE = replace(BROKEN, config_file=True)
_ECDSA_128 = "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"

_TOLD_APART = {
    *(*BAD_IDENTITIES, *UNAUTHENTICATED_ANSWERED),
    "mtls.peer-certificate-on-client-port",
}
_EVERYBODY_IS_CLOSED = {
    # Who is closed after the handshake was accepted by TLS, so that those whom TLS refuses are told apart.
    **NO_ACCEPTED_CLIENT,
    "client": [
        *("mtls.revoked-http", "mtls.revoked-grpc", "mtls.server-certificate-as-client"),
        *(check for check in NO_ACCEPTED_CLIENT["client"] if check not in _TOLD_APART),
    ],
}
_EVERY_PEER_IS_CLOSED = {
    **NO_ACCEPTED_PEER,
    "peer": [
        "mtls.revoked-http",
        *(
            check
            for check in NO_ACCEPTED_PEER["peer"]
            if check not in {*BAD_IDENTITIES, "mtls.client-certificate-on-peer-port"}
        ),
    ],
}
_OF_CONTENT = ("config.crl-encoding", "config.crl-one-list")
_NO_CA_TRUSTED = {
    "client": ["mtls.trusted-client", "mtls.announced-ca-present", "mtls.announced-ca-expected"],
    "cluster": ["config.trusted-ca-usable"],
}
_NAMES_OF_NOBODY = {
    "peer": [*OPEN, "mtls.wrong-san", "mtls.wrong-cn", "config.allowed-names-in-force"],
    "cluster": ["config.allowed-names-without-client-auth"],
}
_REFUSED_AGAIN = {
    # An old Go has the name compared for a resumed session too, and there is no certificate then.
    **_NAMES_OF_NOBODY,
    "peer": [*_NAMES_OF_NOBODY["peer"], "mtls.resumption-keeps-verdict"],
}
_NAMES_AS_ONE = {
    **NO_ACCEPTED_PEER,
    "peer": [*NO_ACCEPTED_PEER["peer"], "mtls.wrong-cn", "config.allowed-names-in-force"],
}


def _on_both(check: str) -> dict[str, list[str]]:
    return {"client": [check], "peer": [check]}


def renewed(authority: CertificateAuthority, **changes: Any) -> bytes:
    """Return a CA certificate with the name and key of another, and fields of its profile changed, as PEM."""
    (name,) = authority.certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    profile = replace(AUTHORITY, common_name=str(name.value), self_signed=True, **changes)
    return encode_certificates(authority.issue(profile, name="ca", key=authority.key).chain[:1])


def _delete(name: str, cluster: Cluster) -> None:
    for member in cluster.members:
        member.file(name).unlink()


def _forget_a_namesake(name: str, authority: CertificateAuthority, cluster: Cluster) -> None:
    own = encode_certificates([authority.certificate])
    rewrite(cluster, name, lambda _: own + namesake_of(authority), restart=True)
    rewrite(cluster, name, lambda _: own)


def _bundle_in_memory(side: str, check: str) -> Iterator[Misconfigured]:
    """Yield clusters that trust what the bundle had when they started."""
    bundle = f"{side}-ca.crt"
    same: dict[str, Any] = {"config": BROKEN, "checks": _DECLARED, "violated": {side: [check]}}
    yield Misconfigured(
        name=f"{side}-bundle-not-read-again",
        what=f"a CA was added to the bundle of {side}s, and etcd was not restarted",
        after_start=lambda cluster: rewrite(cluster, bundle, lambda pem: pem + other_ca()),
        **same,
    )
    yield Misconfigured(
        name=f"old-{side}-ca-in-memory",
        what=f"the old CA of {side}s, with the name of the new one, is still in the memory of etcd",
        after_start=lambda cluster: _forget_a_namesake(bundle, getattr(cluster.pki, f"{side}_ca"), cluster),
        **same,
    )


def _list_of_nobody() -> bytes:
    return pem(signed(CertificateAuthority.create("another CA")))


ZOO = [
    Misconfigured(
        name="auto-tls-beside-a-certificate",
        what="--auto-tls is declared together with a certificate, and etcd ignores it",
        config=replace(GOOD, auto_tls=True),
        checks=_DECLARED,
        warned={"cluster": ["config.auto-tls-ignored"]},
    ),
    Misconfigured(
        name="trusted-ca-alone",
        what="a trusted CA is declared without client-cert-auth, and client certificates are required anyway",
        config=replace(GOOD, client_cert_auth=False),
        warned={"cluster": ["config.trusted-ca-alone"]},
    ),
    Misconfigured(
        name="peer-names-without-client-auth",
        what="an allowed common name is declared for peers, but no client certificate is requested",
        faults=("config.allowed-names-without-client-auth",),
        config=replace(
            BROKEN,
            peer_client_cert_auth=False,
            peer_trusted_ca_file=None,
            peer_cert_allowed_cn=str(PEER.common_name),
        ),
        violated=_NAMES_OF_NOBODY,
        by_version={version: {"violates": _REFUSED_AGAIN} for version in ("3.4.23", "3.5.1")},
    ),
    Misconfigured(
        name="peer-names-as-one",
        what="two allowed common names are declared for an etcd that reads them as a single one",
        faults=("config.allowed-names-as-one",),
        config=replace(BROKEN, peer_cert_allowed_cn=f"{PEER.common_name},another"),
        violated={
            "peer": ["mtls.trusted-client"],
            "cluster": ["config.allowed-names-as-one"],
        },
        not_verified=_NAMES_AS_ONE,
        lines=("3.4.23", "3.5.1"),
    ),
    Misconfigured(
        name="crl-in-pem",
        what="the revocation list is PEM encoded, which this etcd no longer reads",
        faults=("config.crl-encoding",),
        config=replace(BROKEN, client_crl_file="crl.pem"),
        violated={"client": ["mtls.trusted-client"], "cluster": ["config.crl-encoding"]},
        not_verified=_EVERYBODY_IS_CLOSED,
        lines=("3.6", "3.7"),
    ),
    Misconfigured(
        name="crl-of-version-1",
        what="the revocation list is of version 1, which this etcd does not read",
        faults=("config.crl-encoding",),
        config=replace(BROKEN, client_crl_file="crl.der"),
        after_start=lambda cluster: rewrite(cluster, "crl.der", version_1),
        violated={"client": ["mtls.trusted-client"], "cluster": ["config.crl-encoding"]},
        not_verified=_EVERYBODY_IS_CLOSED,
        lines=("3.6", "3.7"),
    ),
    Misconfigured(
        name="crl-with-text-before-it",
        what="the revocation list is PEM after a text, as openssl crl -text writes it",
        faults=("config.crl-encoding",),
        config=replace(BROKEN, client_crl_file="crl.der"),
        after_start=lambda cluster: rewrite(cluster, "crl.der", lambda der: b"List (CRL):\n" + pem(der)),
        violated={"client": ["mtls.trusted-client"], "cluster": ["config.crl-encoding"]},
        not_verified=_EVERYBODY_IS_CLOSED,
    ),
    Misconfigured(
        name="crl-of-two-lists",
        what="the file of the revocation list has a second one, which alone revokes a client",
        faults=("config.crl-one-list",),
        config=replace(BROKEN, client_crl_file="crl.der"),
        after_start=lambda cluster: rewrite(cluster, "crl.der", lambda der: _list_of_nobody() + pem(der)),
        violated={
            "client": ["mtls.revoked-http", "mtls.revoked-grpc"],
            "cluster": ["config.crl-one-list"],
        },
        lines=("3.4", "3.5"),
    ),
    Misconfigured(
        name="crl-gone",
        what="the file of the revocation list does not exist",
        faults=("config.crl-missing",),
        config=replace(BROKEN, client_crl_file="gone.der"),
        violated={"client": ["mtls.trusted-client", "config.crl-missing"]},
        not_verified=_EVERYBODY_IS_CLOSED | {"cluster": [*NO_ACCEPTED_CLIENT["cluster"], *_OF_CONTENT]},
    ),
    Misconfigured(
        name="peer-crl-gone",
        what="the file of the peers' revocation list does not exist",
        faults=("config.crl-missing",),
        config=replace(BROKEN, peer_crl_file="gone.der"),
        violated={"peer": ["mtls.trusted-client", "config.crl-missing"]},
        not_verified=_EVERY_PEER_IS_CLOSED | {"cluster": [*NO_ACCEPTED_PEER["cluster"], *_OF_CONTENT]},
    ),
    Misconfigured(
        name="crl-without-client-auth",
        what="a revocation list is declared, but no client certificate is requested",
        faults=("config.crl-without-client-auth",),
        config=replace(BROKEN, client_cert_auth=False, trusted_ca_file=None, client_crl_file="crl.der"),
        violated={
            "client": [*OPEN, *UNAUTHENTICATED_ANSWERED, "mtls.revoked-http", "mtls.revoked-grpc"],
            "cluster": ["config.crl-without-client-auth"],
        },
        not_warned=NOT_AS_CLIENT,
    ),
    Misconfigured(
        name="misspelt-variable",
        what="an etcd environment variable is misspelt",
        config=replace(GOOD, environment={"ETCD_CLIENT_CERT_ATH": "true"}),
        checks=_DECLARED,
        warned={"cluster": ["config.unknown-variable"]},
        # A version that is newer than the known ones may have the name.
        by_version={"3.8": {"warns": {}, "not-verified": {"cluster": ["config.unknown-variable"]}}},
    ),
    Misconfigured(
        name="misspelt-key",
        what="a key of the configuration file is misspelt",
        config=replace(_FROM_A_FILE, config_file_adds="tls-min-verson: TLS1.3\nenable-grpc-gateway: true\n"),
        checks=_DECLARED,
        violated={"cluster": ["config.unknown-key"]},
        by_version={"3.8": {"violates": {}, "not-verified": {"cluster": ["config.unknown-key"]}}},
    ),
    Misconfigured(
        name="key-gone-in-3-7",
        what="a key of the configuration file has its old name, which etcd 3.7 ignores",
        config=replace(
            _FROM_A_FILE,
            config_file_adds="experimental-initial-corrupt-check: true\nenable-grpc-gateway: true\n",
        ),
        checks=_DECLARED,
        violated={"cluster": ["config.unknown-key"]},
        lines=("3.7",),
    ),
    Misconfigured(
        name="key-in-capitals",
        what="a key by its old name is written in capitals, which etcd 3.6 alone ignores",
        config=replace(
            _FROM_A_FILE,
            config_file_adds="Experimental-Initial-Corrupt-Check: true\nenable-grpc-gateway: true\n",
        ),
        checks=_DECLARED,
        violated={"cluster": ["config.unknown-key"]},
        lines=("3.6",),
    ),
    Misconfigured(
        name="undocumented-key",
        what="an undocumented key, the name of a field in etcd's source, sets the revocation list",
        config=replace(
            _FROM_A_FILE,
            config_file_adds="ClientTLSInfo:\n  CRLFile: '{pki}/crl.der'\nenable-grpc-gateway: true\n",
        ),
        checks=_DECLARED,
        warned={"cluster": ["config.undocumented-key"]},
    ),
    Misconfigured(
        name="versions-not-in-force",
        what="a configuration file makes etcd ignore the flag for the minimum TLS version",
        faults=("config.config-file-hides-flags",),
        config=replace(_FROM_A_FILE, tls_min_version="TLS1.3", config_file_omits=("tls_min_version",)),
        violated={**_on_both("config.version-range-in-force"), "cluster": [_HIDDEN]},
        lines=("3.5", "3.6", "3.7"),
    ),
    Misconfigured(
        name="suites-not-in-force",
        what="a configuration file makes etcd ignore the flag for the cipher suites",
        faults=("config.config-file-hides-flags",),
        config=replace(_FROM_A_FILE, cipher_suites=(_ECDSA_128,), config_file_omits=("cipher_suites",)),
        violated={**_on_both("config.suites-in-force"), "cluster": [_HIDDEN]},
        lines=("3.5", "3.6", "3.7"),
    ),
    Misconfigured(
        name="client-auth-hidden",
        what="a configuration file makes etcd ignore the flag for client authentication, also for metrics",
        faults=("config.config-file-hides-flags",),
        config=replace(
            _FROM_A_FILE,
            metrics="https",
            config_file_omits=("client_cert_auth", "trusted_ca_file"),
            config_file_adds="enable-grpc-gateway: true\n",
        ),
        checks=("config", "mtls.no-certificate"),
        violated={
            "client": [
                "mtls.no-certificate",
                "config.client-auth-in-force",
                "config.trusted-ca-in-force",
            ],
            "metrics": [
                "mtls.no-certificate",
                "config.metrics-as-declared",
                "config.trusted-ca-in-force",
            ],
            "cluster": [_HIDDEN],
        },
    ),
    Misconfigured(
        name="client-auth-never-heard-of",
        what="client authentication is declared, but the running etcd was started without it",
        faults=("config.client-auth-in-force",),
        config=BROKEN,
        etcd=changed_flags("client-cert-auth", "trusted-ca-file"),
        violated={
            "client": [
                *(*OPEN, *UNAUTHENTICATED_ANSWERED),
                *("config.client-auth-in-force", "config.trusted-ca-in-force"),
            ]
        },
        not_warned=NOT_AS_CLIENT,
    ),
    Misconfigured(
        name="client-auth-undeclared",
        what="client authentication is in force, but no longer declared",
        config=replace(BROKEN, client_cert_auth=False, trusted_ca_file=None),
        etcd=changed_flags(client_cert_auth="true"),
        checks=_DECLARED,
        violated={"client": ["config.client-auth-in-force"]},
        not_verified={"client": ["config.gateway-as-declared", "config.pprof-as-declared"]},
    ),
    *_bundle_in_memory("client", "config.trusted-ca-in-force"),
    *_bundle_in_memory("peer", "config.peer-trusted-ca-in-force"),
    Misconfigured(
        name="client-bundle-gone",
        what="the bundle of clients was deleted, and etcd will not start again",
        config=BROKEN,
        after_start=lambda cluster: _delete("client-ca.crt", cluster),
        checks=_DECLARED,
        violated={"cluster": ["config.trusted-ca-usable"]},
        not_verified={"client": ["config.trusted-ca-in-force"]},
    ),
    Misconfigured(
        name="dialing-pair-nowhere",
        what="the pair for dialing peers is nowhere; the running etcd was started without it",
        config=replace(
            BROKEN,
            extra_flags=(
                "--peer-client-cert-file=/nowhere/dial.crt",
                "--peer-client-key-file=/nowhere/dial.key",
            ),
        ),
        etcd=changed_flags("peer-client-cert-file", "peer-client-key-file"),
        checks=_DECLARED,
        violated={"cluster": ["config.key-matches-certificate"]},
        not_verified={"cluster": ["config.chain-closes", "config.dials-with-valid-certificates"]},
        lines=("3.5", "3.6", "3.7"),
    ),
    Misconfigured(
        name="client-ca-expired-in-its-file",
        what="the clients' CA was renewed with the same key and has expired; etcd still has the old one",
        faults=("config.chain-closes",),
        config=BROKEN,
        after_start=lambda cluster: rewrite(
            cluster,
            "client-ca.crt",
            lambda _: renewed(cluster.pki.client_ca, valid_from=timedelta(-30), valid_for=timedelta(20)),
        ),
        checks=_DECLARED,
        violated={"client": ["config.trusted-ca-in-force"], "cluster": ["config.chain-closes"]},
    ),
    Misconfigured(
        name="peer-ca-of-servers-in-its-file",
        what="the CA of peers was renewed with its key, for servers only; etcd has the old one",
        faults=("config.chain-closes",),
        config=BROKEN,
        after_start=lambda cluster: rewrite(
            cluster,
            "peer-ca.crt",
            lambda _: renewed(cluster.pki.peer_ca, extended_key_usage=("serverAuth",)),
        ),
        checks=_DECLARED,
        violated={"peer": ["config.peer-trusted-ca-in-force"], "cluster": ["config.chain-closes"]},
    ),
    Misconfigured(
        name="client-bundle-with-a-key",
        what="a private key was put into the bundle of clients, with which etcd will not start again",
        config=BROKEN,
        after_start=lambda cluster: rewrite(
            cluster, "client-ca.crt", lambda pem: pem + encode_key(cluster.pki.client_ca.key)
        ),
        checks=_DECLARED,
        violated={"cluster": ["config.trusted-ca-usable"]},
    ),
    Misconfigured(
        name="client-bundle-on-one-line",
        what="the second certificate in the bundle of clients begins where the first one ends",
        faults=("config.trusted-ca-usable",),
        config=BROKEN,
        after_start=lambda cluster: rewrite(
            cluster, "client-ca.crt", lambda pem: pem.rstrip() + other_ca() + pem, restart=True
        ),
        checks=_DECLARED,
        violated={"cluster": ["config.trusted-ca-usable"]},
        # Go 1.24.8, 1.24.9, 1.25.2 and 1.25.3 read nothing behind such a line (encoding/pem, Decode), so that
        # etcd does not trust the certificate that comes after it either.
        by_version={
            "3.5.24": {
                "violates": {
                    "cluster": ["config.trusted-ca-usable"],
                    "client": ["config.trusted-ca-in-force"],
                },
                "not-verified": {"client": ["config.gateway-as-declared", "config.pprof-as-declared"]},
            }
        },
    ),
    Misconfigured(
        name="client-bundle-empty",
        what="the bundle of clients is empty, and etcd trusts no CA at all",
        faults=("config.trusted-ca-usable",),
        config=replace(BROKEN, trusted_ca_file="empty.pem", extra_files={"empty.pem": b""}),
        violated=_NO_CA_TRUSTED,
        not_verified=NO_ACCEPTED_CLIENT,
    ),
    Misconfigured(
        name="plaintext-undeclared",
        what="the client port serves plaintext, which is not declared",
        faults=("config.listeners-as-declared",),
        config=BROKEN,
        etcd=rewritten_arguments("^--listen-client-urls=https(.*)$", r"--listen-client-urls=https\1,http\1"),
        violated={"client": ["mtls.plaintext-refused"], "cluster": ["config.listeners-as-declared"]},
    ),
    Misconfigured(
        name="flag-of-no-version",
        what="a flag is declared that no etcd accepts, and the running etcd was started without it",
        config=replace(BROKEN, extra_flags=("--client-cert-ath=true",)),
        etcd=changed_flags("client-cert-ath"),
        checks=_DECLARED,
        violated={"cluster": ["config.flag-unknown-to-version"]},
        by_version={"3.8": {"violates": {}, "not-verified": {"cluster": ["config.flag-unknown-to-version"]}}},
    ),
    Misconfigured(
        name="variable-beside-flag",
        what="a flag and its variable are both declared; the running etcd was started with one of them",
        config=replace(BROKEN, environment={"ETCD_CLIENT_CERT_AUTH": "true"}),
        etcd=changed_flags("client-cert-auth"),
        checks=_DECLARED,
        violated={"cluster": ["config.variable-beside-flag"]},
    ),
    Misconfigured(
        name="flag-given-twice",
        what="a flag is given twice with different values, and etcd takes the last one",
        config=replace(BROKEN, extra_flags=("--max-txn-ops=128", "--max-txn-ops=256")),
        checks=_DECLARED,
        warned={"cluster": ["config.flag-given-twice"]},
    ),
    Misconfigured(
        name="suites-without-those-of-http2",
        what="suites are declared with which etcd does not start; the running etcd was started without them",
        faults=("config.does-not-start",),
        config=replace(BROKEN, cipher_suites=("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",)),
        etcd=changed_flags("cipher-suites"),
        checks=_DECLARED,
        violated={**_on_both("config.suites-in-force"), "cluster": ["config.does-not-start"]},
    ),
    Misconfigured(
        name="gateway-not-as-declared",
        what="the gateway is declared as disabled, but answers",
        config=replace(BROKEN, extra_flags=("--enable-grpc-gateway=false",)),
        etcd=changed_flags("enable-grpc-gateway"),
        checks=_DECLARED,
        violated={"client": ["config.gateway-as-declared"]},
    ),
    Misconfigured(
        name="profiles-not-as-declared",
        what="pprof is declared, but not served",
        config=replace(BROKEN, extra_flags=("--enable-pprof",)),
        etcd=changed_flags("enable-pprof"),
        checks=_DECLARED,
        violated={"client": ["config.pprof-as-declared"]},
    ),
]
