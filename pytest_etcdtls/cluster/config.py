"""The configuration of an owned cluster: size, PKI and every etcd flag that affects TLS. Data only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.pki.pki_plan import PKIPlan

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
