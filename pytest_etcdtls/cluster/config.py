"""The configuration of an owned cluster: size, PKI and every etcd flag that affects TLS; and the presets.

Data only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, replace
from types import MappingProxyType
from typing import Any, Final, Literal

from pytest_etcdtls.dataclass import dataclass
from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.pki.profile import CLIENT, PEER, SERVER, CALayout, KeyType, PKIPlan

SIZES = (1, 3, 5)

Scheme = Literal["https", "http"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterConfig:
    """The configuration of a cluster to start. The default is mutual TLS on both ports.

    Fields for etcd flags have the flag's name with underscores instead of dashes; ``None``, ``False`` and
    ``()`` mean that the flag is not given. A field that names a file has a logical name of the cluster's PKI
    (``server.crt``, ``client-ca.crt``, ``crl.der``), the name of one of ``extra_files``, or any other name,
    which is the path of a missing file in the PKI directory. An example of a misconfigured cluster is
    ``dataclasses.replace(ClusterConfig(), client_cert_auth=False, trusted_ca_file=None)``, with
    ``expects_health=False`` if etcd may refuse the cluster's own client.

    In the values of ``environment``, in ``extra_flags`` and in ``config_file_adds``, ``{pki}`` is replaced
    with the PKI directory as etcd sees it.

    Attributes:
        size: number of members: 1, 3 or 5.
        pki: the plan of the cluster's PKI.
        self_signed_cert_validity: validity in years, for ``auto_tls`` and ``peer_auto_tls``.
        client_scheme: scheme of ``--listen-client-urls``.
        peer_scheme: scheme of ``--listen-peer-urls``.
        plain_client_listener: add an ``http`` client listener on a separate port.
        plaintext_on_client_port: add an ``http`` client listener on the port of the ``https`` one.
        metrics: scheme of ``--listen-metrics-urls``; ``None`` for no such listener.
        client_http: split HTTP off the gRPC port with ``--listen-client-http-urls``.
        host: address that members listen on and advertise: ``127.0.0.1`` or ``::1``.
        extra_files: contents of files to write into the PKI directory, by name.
        extra_flags: further arguments, passed verbatim after all others.
        environment: variables for etcd. No ``ETCD_*`` variable is inherited from our environment.
        config_file: write all settings to ``etcd.conf.yml`` and pass ``--config-file`` in addition to the
            flags, which etcd then ignores. A CRL has no key in the file, so etcd does not read it.
        config_file_omits: names of fields that are omitted from the YAML file although the flags are given.
        config_file_adds: lines that are appended to the YAML file verbatim.
        authentication: enable RBAC with the user ``root`` and a generated password.
        expects_health: wait for an authenticated ``/health`` in addition to the log lines of a ready etcd.
    """

    size: int = 1
    pki: PKIPlan = field(default_factory=PKIPlan)

    cert_file: str | None = "server.crt"
    key_file: str | None = "server.key"
    client_cert_auth: bool = True
    trusted_ca_file: str | None = "client-ca.crt"
    client_crl_file: str | None = None
    auto_tls: bool = False
    client_cert_allowed_hostname: str | None = None
    client_cert_file: str | None = None
    client_key_file: str | None = None

    peer_cert_file: str | None = "peer.crt"
    peer_key_file: str | None = "peer.key"
    peer_client_cert_auth: bool = True
    peer_trusted_ca_file: str | None = "peer-ca.crt"
    peer_crl_file: str | None = None
    peer_auto_tls: bool = False
    peer_cert_allowed_cn: str | None = None
    peer_cert_allowed_hostname: str | None = None
    peer_client_cert_file: str | None = None
    peer_client_key_file: str | None = None
    peer_skip_client_san_verification: bool = False

    cipher_suites: tuple[str, ...] = ()
    tls_min_version: str | None = None
    tls_max_version: str | None = None
    self_signed_cert_validity: int | None = None
    enable_pprof: bool = False
    log_level: str | None = None

    client_scheme: Scheme = "https"
    peer_scheme: Scheme = "https"
    plain_client_listener: bool = False
    plaintext_on_client_port: bool = False
    metrics: Scheme | None = None
    client_http: bool = False
    host: str = "127.0.0.1"

    extra_files: Mapping[str, bytes] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    extra_flags: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    config_file: bool = False
    config_file_omits: tuple[str, ...] = ()
    config_file_adds: str = ""
    authentication: bool = False
    expects_health: bool = True

    def __post_init__(self) -> None:
        """Refuse a configuration that no backend can start.

        Raises:
            UsageError: for an unsupported size, host or log level, an unknown field name, or a file name
                with a directory in it.
        """
        if self.size not in SIZES:
            raise UsageError(f"a cluster of {self.size} members cannot be started: use 1, 3 or 5")
        if self.log_level not in {None, "info", "debug"}:
            raise UsageError(f"log_level={self.log_level!r} hides that etcd is ready: use info or debug")
        if self.host not in {"127.0.0.1", "::1"}:
            raise UsageError(f"an owned cluster listens on 127.0.0.1 or ::1, not on {self.host}")
        unknown = sorted(set(self.config_file_omits) - set(type(self).__dataclass_fields__))
        if unknown:
            raise UsageError(f"config_file_omits names no field of ClusterConfig: {', '.join(unknown)}")
        for name in self.extra_files:
            if "/" in name or name in {"", ".", ".."}:
                raise UsageError(f"extra_files: {name!r} is not a plain file name")


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
