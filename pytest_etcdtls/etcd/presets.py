"""Configurations of correctly configured clusters, by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final

from msgspec import Struct

from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.pki.profile import CLIENT, PEER, SERVER, CALayout, KeyType, PKIPlan


class Preset(Struct, frozen=True, kw_only=True):
    """A correctly configured cluster.

    Attributes:
        name: its key in :data:`PRESETS`.
        what: description of its configuration, one sentence.
        config: its configuration. A version of etcd that lacks one of the flags cannot be started with it
            (:class:`~pytest_etcdtls.errors.UsageError`).
    """

    name: str
    what: str
    config: ClusterConfig


_DEFAULT = ClusterConfig()
_DIALS_AS_CLIENT: Final[dict[str, Any]] = {"client_cert_file": "client.crt", "client_key_file": "client.key"}
_DIALS_AS_PEER: Final[dict[str, Any]] = {
    "peer_client_cert_file": "peer-client.crt",
    "peer_client_key_file": "peer-client.key",
}
_AEAD_SUITES = (
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
)


_KUBEADM = replace(_DEFAULT, pki=PKIPlan(layout=CALayout.KUBEADM), metrics="http")
_SERVERS_ONLY = PKIPlan(
    server=replace(SERVER, extended_key_usage=("serverAuth",)),
    peer=replace(PEER, extended_key_usage=("serverAuth",)),
)
_HARDENED = replace(
    _DEFAULT,
    size=3,
    pki=replace(_SERVERS_ONLY, layout=CALayout.PER_ROLE),
    client_crl_file="crl.der",
    peer_crl_file="empty-crl.der",
    peer_cert_allowed_cn=str(PEER.common_name),
    tls_min_version="TLS1.3",
    **_DIALS_AS_CLIENT,
    **_DIALS_AS_PEER,
)

_ALL = (
    ("default", "mutual TLS on both ports, a CA for each, ECDSA P-256", _DEFAULT),
    ("kubeadm", "kubeadm's files, names and single CA, RSA 2048; plain HTTP metrics on loopback", _KUBEADM),
    ("kubeadm-three-nodes", "three control plane nodes as kubeadm sets them up", replace(_KUBEADM, size=3)),
    ("one-ca", "one CA for servers, clients and peers", ClusterConfig(pki=PKIPlan(layout=CALayout.SHARED))),
    (
        "ca-per-role",
        "one CA each for servers, clients and peers; the gateway dials with a client certificate",
        ClusterConfig(pki=PKIPlan(layout=CALayout.PER_ROLE), **_DIALS_AS_CLIENT),
    ),
    (
        "intermediate-ca",
        "leaf certificates signed by an intermediate CA for each port",
        ClusterConfig(pki=PKIPlan(layout=CALayout.INTERMEDIATE)),
    ),
    ("rsa-2048", "RSA keys, 2048 bits", ClusterConfig(pki=PKIPlan(key_type=KeyType.RSA_2048))),
    ("rsa-4096", "RSA keys, 4096 bits", ClusterConfig(pki=PKIPlan(key_type=KeyType.RSA_4096))),
    ("ecdsa-p384", "ECDSA keys on P-384", ClusterConfig(pki=PKIPlan(key_type=KeyType.ECDSA_P384))),
    ("ed25519", "Ed25519 keys", ClusterConfig(pki=PKIPlan(key_type=KeyType.ED25519))),
    ("three-members", "three members with the same settings", replace(_DEFAULT, size=3)),
    ("ipv6", "listens on and advertises ::1", replace(_DEFAULT, host="::1")),
    ("split-http", "separate client listeners for HTTP and gRPC", replace(_DEFAULT, client_http=True)),
    ("metrics-on-loopback", "plain HTTP health and metrics on loopback", replace(_DEFAULT, metrics="http")),
    ("metrics-over-https", "health and metrics with mutual TLS", replace(_DEFAULT, metrics="https")),
    ("tls-1.3-only", "no version below TLS 1.3", replace(_DEFAULT, tls_min_version="TLS1.3")),
    ("tls-1.2-only", "no version above TLS 1.2", replace(_DEFAULT, tls_max_version="TLS1.2")),
    ("aead-suites", "suites without CBC in TLS 1.2", replace(_DEFAULT, cipher_suites=_AEAD_SUITES)),
    (
        "crl-without-entries",
        "empty revocation lists on both ports",
        replace(_DEFAULT, client_crl_file="empty-crl.der", peer_crl_file="empty-crl.der"),
    ),
    (
        "crl-with-entries",
        "a revocation list with one client",
        replace(_DEFAULT, client_crl_file="crl.der"),
    ),
    (
        "split-http-with-crl",
        "a revocation list, separate client listeners for HTTP and gRPC",
        replace(_DEFAULT, client_crl_file="crl.der", client_http=True),
    ),
    (
        "peer-common-name",
        "peers need the members' common name",
        replace(_DEFAULT, peer_cert_allowed_cn=str(PEER.common_name)),
    ),
    (
        "peer-hostname",
        "peers need a hostname of the members",
        replace(_DEFAULT, peer_cert_allowed_hostname="localhost"),
    ),
    (
        "separate-client-certificates",
        "server certificates for serving, other certificates for dialling",
        ClusterConfig(pki=_SERVERS_ONLY, **_DIALS_AS_CLIENT, **_DIALS_AS_PEER),
    ),
    (
        "config-file",
        "all settings are in etcd's YAML configuration file",
        replace(_DEFAULT, config_file=True),
    ),
    (
        "authentication",
        "authentication with users and roles is enabled",
        replace(_DEFAULT, authentication=True),
    ),
    (
        "authentication-without-common-name",
        "authentication is enabled, and client certificates have no common name",
        ClusterConfig(
            authentication=True, pki=PKIPlan(client=replace(CLIENT, common_name=None, organization="clients"))
        ),
    ),
    (
        "hardened",
        "three members, a CA per role, separate certificates, peer names, revocation lists, TLS 1.3 only",
        _HARDENED,
    ),
)

PRESETS: Final[Mapping[str, Preset]] = MappingProxyType(
    {name: Preset(name=name, what=what, config=config) for name, what, config in _ALL}
)
"""All presets by name. None has a violation on any etcd that supports it; see ``docs/fixtures.md``."""
