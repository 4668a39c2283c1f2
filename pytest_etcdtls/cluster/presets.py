"""Correctly configured clusters by name, as etcd is run in practice. Data only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Final

from pytest_etcdtls.cluster.config import ClusterConfig
from pytest_etcdtls.pki.pki_plan import CALayout, PKIPlan
from pytest_etcdtls.pki.profile import CLIENT, PEER, SERVER, KeyType


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
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
_FOR_SERVERS = ("serverAuth",)
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
    server=replace(SERVER, extended_key_usage=_FOR_SERVERS),
    peer=replace(PEER, extended_key_usage=_FOR_SERVERS),
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
    ("kubeadm", "kubeadm's files, names and one CA, RSA 2048; plain metrics on loopback", _KUBEADM),
    ("kubeadm-three-nodes", "three control plane nodes as kubeadm sets them up", replace(_KUBEADM, size=3)),
    ("one-ca", "one CA for servers, clients and peers", ClusterConfig(pki=PKIPlan(layout=CALayout.SHARED))),
    (
        "ca-per-role",
        "a CA each for servers, clients and peers; the gateway dials with a client's certificate",
        ClusterConfig(pki=PKIPlan(layout=CALayout.PER_ROLE), **_DIALS_AS_CLIENT),
    ),
    (
        "intermediate-ca",
        "leaves signed by an intermediate CA of each port",
        ClusterConfig(pki=PKIPlan(layout=CALayout.INTERMEDIATE)),
    ),
    ("rsa-2048", "RSA keys, 2048 bits", ClusterConfig(pki=PKIPlan(key_type=KeyType.RSA_2048))),
    ("rsa-4096", "RSA keys, 4096 bits", ClusterConfig(pki=PKIPlan(key_type=KeyType.RSA_4096))),
    ("ecdsa-p384", "ECDSA keys on P-384", ClusterConfig(pki=PKIPlan(key_type=KeyType.ECDSA_P384))),
    ("ed25519", "Ed25519 keys", ClusterConfig(pki=PKIPlan(key_type=KeyType.ED25519))),
    ("three-members", "three members, all alike", replace(_DEFAULT, size=3)),
    ("ipv6", "listens on and advertises ::1", replace(_DEFAULT, host="::1")),
    ("split-http", "HTTP has a listener of its own beside gRPC's", replace(_DEFAULT, client_http=True)),
    ("metrics-on-loopback", "plain health and metrics on loopback", replace(_DEFAULT, metrics="http")),
    ("metrics-over-https", "health and metrics with mutual TLS", replace(_DEFAULT, metrics="https")),
    ("tls-1.3-only", "nothing below TLS 1.3", replace(_DEFAULT, tls_min_version="TLS1.3")),
    ("tls-1.2-only", "nothing above TLS 1.2", replace(_DEFAULT, tls_max_version="TLS1.2")),
    ("aead-suites", "suites without CBC in TLS 1.2", replace(_DEFAULT, cipher_suites=_AEAD_SUITES)),
    (
        "crl-without-entries",
        "revocation lists on both ports, nothing revoked",
        replace(_DEFAULT, client_crl_file="empty-crl.der", peer_crl_file="empty-crl.der"),
    ),
    (
        "crl-with-entries",
        "a revocation list that one client is on",
        replace(_DEFAULT, client_crl_file="crl.der"),
    ),
    (
        "split-http-with-crl",
        "a revocation list, HTTP beside gRPC",
        replace(_DEFAULT, client_crl_file="crl.der", client_http=True),
    ),
    (
        "peer-common-name",
        "peers only with the members' common name",
        replace(_DEFAULT, peer_cert_allowed_cn=str(PEER.common_name)),
    ),
    (
        "peer-hostname",
        "peers only with a hostname of the members",
        replace(_DEFAULT, peer_cert_allowed_hostname="localhost"),
    ),
    (
        "separate-client-certificates",
        "certificates for servers only are served, others dial",
        ClusterConfig(pki=_SERVERS_ONLY, **_DIALS_AS_CLIENT, **_DIALS_AS_PEER),
    ),
    ("config-file", "everything is in etcd's YAML configuration", replace(_DEFAULT, config_file=True)),
    ("authentication", "users and roles are on", replace(_DEFAULT, authentication=True)),
    (
        "authentication-without-common-name",
        "users and roles are on, and clients have no common name",
        ClusterConfig(
            authentication=True, pki=PKIPlan(client=replace(CLIENT, common_name=None, organization="clients"))
        ),
    ),
    (
        "hardened",
        "three members, a CA per role, separate certificates, peers by name, revocation lists, TLS 1.3 only",
        _HARDENED,
    ),
)

PRESETS: Final[Mapping[str, Preset]] = MappingProxyType(
    {name: Preset(name=name, what=what, config=config) for name, what, config in _ALL}
)
"""All presets by name. None has a violation on any etcd that supports it; see ``docs/presets.md``."""
