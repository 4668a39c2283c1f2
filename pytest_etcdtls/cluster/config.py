"""The configuration of an owned cluster, the presets, etcd's command line or file made of it, and its ports.

Size, PKI and every etcd flag that affects TLS. Ports are claimed against other processes on this host.

The names of flags differ by version, so a command line is made from what the binary's ``--help`` lists
(:class:`FlagSet`), and a setting without a flag there is an error instead of a cluster without the setting.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any, Final, Literal, Self
from urllib.parse import urlsplit

import yaml
from msgspec import Struct, structs

from pytest_etcdtls.declared.declaration import version_key
from pytest_etcdtls.errors import ClusterStartError, UsageError
from pytest_etcdtls.pki.bundle import ClusterPKI, write_files
from pytest_etcdtls.pki.profile import CLIENT, PEER, SERVER, CALayout, KeyType, PKIPlan

Scheme = Literal["https", "http"]

SIZES = (1, 3, 5)

_CLIENT_FIELDS = (
    *("cert_file", "key_file", "client_cert_auth", "trusted_ca_file", "client_crl_file", "auto_tls"),
    *("client_cert_allowed_hostname", "client_cert_file", "client_key_file"),
)
_PEER_FIELDS = (
    *("peer_cert_file", "peer_key_file", "peer_client_cert_auth", "peer_trusted_ca_file", "peer_crl_file"),
    *("peer_auto_tls", "peer_cert_allowed_cn", "peer_cert_allowed_hostname"),
    *("peer_client_cert_file", "peer_client_key_file", "peer_skip_client_san_verification"),
)
SECURITY_FIELDS = (
    *_CLIENT_FIELDS,
    *_PEER_FIELDS,
    *("cipher_suites", "tls_min_version", "tls_max_version", "self_signed_cert_validity"),
    *("enable_pprof", "log_level"),
)
"""The fields of :class:`ClusterConfig` that are named as flags of etcd."""

_CLIENT_SECTION, _PEER_SECTION = "client-transport-security", "peer-transport-security"
_LISTS = {"cipher-suites", "log-outputs", "allowed-cn", "allowed-hostname"}
_NUMBERS = {"heartbeat-interval", "election-timeout", "self-signed-cert-validity", "bcrypt-cost"}

_PRINTED_VERSION = re.compile(r"^etcd Version: (\S+)", re.MULTILINE)
_HELP_FLAG = re.compile(r"^\s+--([a-z0-9-]+)", re.MULTILINE)
_UNDOCUMENTED = {
    "unsafe-no-fsync": (3, 4, 10),
    "client-cert-file": (3, 5, 0),
    "client-key-file": (3, 5, 0),
    "peer-client-cert-file": (3, 5, 0),
    "peer-client-key-file": (3, 5, 0),
}
"""Flags that are missing in the output of ``etcd --help``, with the first version that has them."""

MOST = 32
"""Ports of one claim: enough for five members with five listeners, with some ports taken by others."""

_BLOCK = 1 + MOST
_FIRST_PORT = 20000
_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterConfig:
    """The configuration of a cluster to start. The default is mutual TLS on both ports.

    Fields for etcd flags have the flag's name with underscores instead of dashes; ``None``, ``False`` and
    ``()`` mean that the flag is not given. A field that names a file has a logical name of the cluster's PKI
    (``server.crt``, ``client-ca.crt``, ``crl.der``), the name of one of ``extra_files``, or any other name,
    which is the path of a missing file in the PKI directory. An example of a misconfigured cluster is
    ``replace(ClusterConfig(), client_cert_auth=False, trusted_ca_file=None)``, with
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
"""All presets by name. None has a violation on any etcd that supports it; see ``docs/presets.md``."""


def printed_version(output: str) -> str | None:
    """Return the version in the output of ``etcd --version``; ``None`` if it is not etcd's."""
    match = _PRINTED_VERSION.search(output)
    return match[1] if match else None


class UnknownFlagError(UsageError):
    """The version of etcd lacks a flag that the configuration needs."""


class FlagSet(Struct, frozen=True):
    """The flags of one version of etcd.

    Attributes:
        version: the version of etcd.
        names: flag names without leading dashes.
    """

    version: str
    names: frozenset[str]

    @classmethod
    def from_help(cls, version: str, text: str) -> Self:
        """Parse the output of ``etcd --help``, and add the undocumented flags of the version."""
        hidden = {name for name, first in _UNDOCUMENTED.items() if version_key(version) >= first}
        return cls(version, frozenset(_HELP_FLAG.findall(text)) | hidden)

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def spell(self, name: str) -> str:
        """Return the flag's name in this version of etcd. Up to 3.6 it may begin with ``experimental-``.

        Raises:
            UnknownFlagError: if this version of etcd has no such flag.
        """
        for candidate in (name, f"experimental-{name}"):
            if candidate in self.names:
                return candidate
        raise UnknownFlagError(f"etcd {self.version} has no --{name}")


class MemberAddresses(Struct, frozen=True, kw_only=True):
    """The URLs of one member.

    Attributes:
        name: the member's name.
        listen_client: ``--listen-client-urls``.
        advertise_client: ``--advertise-client-urls``.
        listen_peer: ``--listen-peer-urls``.
        advertise_peer: ``--initial-advertise-peer-urls``, and the member's part of ``--initial-cluster``.
        listen_metrics: ``--listen-metrics-urls``; empty for none.
        listen_client_http: ``--listen-client-http-urls``; empty for none.
    """

    name: str
    listen_client: tuple[str, ...]
    advertise_client: tuple[str, ...]
    listen_peer: tuple[str, ...]
    advertise_peer: tuple[str, ...]
    listen_metrics: tuple[str, ...] = ()
    listen_client_http: tuple[str, ...] = ()

    @property
    def plain_client(self) -> tuple[str, ...]:
        """The additional ``http`` client listener, if there is one on a port of its own."""
        port = urlsplit(self.listen_client[0]).port
        return tuple(url for url in self.listen_client[1:] if urlsplit(url).port != port)

    def listening_at(self, other: Callable[[str], str]) -> Self:
        """Return the addresses with what ``other`` returns for each URL to listen on."""
        return structs.replace(
            self,
            listen_client=tuple(map(other, self.listen_client)),
            listen_peer=tuple(map(other, self.listen_peer)),
            listen_metrics=tuple(map(other, self.listen_metrics)),
            listen_client_http=tuple(map(other, self.listen_client_http)),
        )


def ports_needed(config: ClusterConfig) -> int:
    """Return the number of ports that one member needs."""
    return 2 + config.plain_client_listener + (config.metrics is not None) + config.client_http


def loopback_addresses(config: ClusterConfig, name: str, ports: Iterator[int]) -> MemberAddresses:
    """Return the addresses of a member on ``config.host``. It takes :func:`ports_needed` of the ports."""
    host = f"[{config.host}]" if ":" in config.host else config.host
    client_port = next(ports)
    client = f"{config.client_scheme}://{host}:{client_port}"
    peer = f"{config.peer_scheme}://{host}:{next(ports)}"
    listen = [client]
    if config.plaintext_on_client_port:
        listen.append(f"http://{host}:{client_port}")
    if config.plain_client_listener:
        listen.append(f"http://{host}:{next(ports)}")
    return MemberAddresses(
        name=name,
        listen_client=tuple(listen),
        advertise_client=(client,),
        listen_peer=(peer,),
        advertise_peer=(peer,),
        listen_metrics=(f"{config.metrics}://{host}:{next(ports)}",) if config.metrics else (),
        listen_client_http=(f"{config.client_scheme}://{host}:{next(ports)}",) if config.client_http else (),
    )


class FileNames(Struct, frozen=True):
    """Paths of one member's files below the PKI directory, by logical name."""

    known: Mapping[str, PurePosixPath]

    @classmethod
    def of_member(cls, pki: ClusterPKI, member: str) -> Self:
        """Return the file names of a member, including the CA keys if they are written."""
        return cls({**pki.paths(member, with_ca_keys=True), **pki.paths(member)})

    def path(self, name: str) -> PurePosixPath:
        """Return the path of a file. An unknown name is a file at the top of the PKI directory."""
        return self.known.get(name, PurePosixPath(name))


def write_pki(pki: ClusterPKI, config: ClusterConfig, directory: Path, *, with_ca_keys: bool) -> None:
    """Write the PKI and the extra files, as :func:`~pytest_etcdtls.pki.bundle.write_files` does.

    An extra file with the logical name of a generated file replaces it, for every member.
    """
    extra = {
        FileNames.of_member(pki, member.name).path(name): content
        for member in pki.members
        for name, content in config.extra_files.items()
    }
    write_files(directory, {**pki.files(with_ca_keys=with_ca_keys), **extra})


class Flag(Struct, frozen=True):
    """One flag with its value.

    Attributes:
        field: the field of ``ClusterConfig`` that sets it; empty for a flag that every member needs.
        name: name without leading dashes, as this version of etcd spells it.
        value: the value; ``true`` for a switch.
    """

    field: str
    name: str
    value: str

    def __str__(self) -> str:
        return f"--{self.name}={self.value}"


class MemberPaths(Struct, frozen=True, kw_only=True):
    """The paths of a member's files, as etcd sees them.

    Attributes:
        data: ``--data-dir``.
        pki: the PKI directory.
        config_file: path of ``etcd.conf.yml``, whether or not it exists.
    """

    data: PurePosixPath
    pki: PurePosixPath
    config_file: PurePosixPath

    def fill_in(self, text: str) -> str:
        """Replace ``{pki}`` with the PKI directory."""
        return text.replace("{pki}", str(self.pki))


def member_flags(
    config: ClusterConfig,
    flags: FlagSet,
    addresses: Sequence[MemberAddresses],
    index: int,
    place: MemberPaths,
    files: FileNames,
    *,
    token: str,
    alone: bool,
    joins: bool = False,
) -> tuple[Flag, ...]:
    """Return the flags of one member, without ``extra_flags`` and ``--config-file``.

    The arguments are those of :func:`~pytest_etcdtls.cluster.cluster.build_member`, as etcd sees them.

    Raises:
        UsageError: if this version of etcd does not support the configuration.
    """
    own = addresses[index]
    initial_cluster = ",".join(
        f"{member.name}={url}" for member in addresses for url in member.advertise_peer
    )
    return (
        Flag("", "name", own.name),
        Flag("", "data-dir", str(place.data)),
        Flag("", "listen-client-urls", ",".join(own.listen_client)),
        Flag("", "advertise-client-urls", ",".join(own.advertise_client)),
        Flag("", "listen-peer-urls", ",".join(own.listen_peer)),
        Flag("", "initial-advertise-peer-urls", ",".join(own.advertise_peer)),
        Flag("", "initial-cluster", initial_cluster),
        Flag("", "initial-cluster-token", token),
        *([Flag("", "initial-cluster-state", "existing")] if joins else []),
        *_further_listeners(flags, own),
        *_timing(config, flags, alone=alone),
        *_security(config, flags, place, files),
    )


def command_line(
    program: str, flags: Sequence[Flag], config: ClusterConfig, place: MemberPaths
) -> tuple[str, ...]:
    """Return the whole command line. It contains paths but no secret."""
    from_file = (f"--config-file={place.config_file}",) if config.config_file else ()
    return (program, *from_file, *map(str, flags), *map(place.fill_in, config.extra_flags))


def _further_listeners(flags: FlagSet, own: MemberAddresses) -> Iterator[Flag]:
    if own.listen_metrics:
        yield Flag("metrics", "listen-metrics-urls", ",".join(own.listen_metrics))
    if own.listen_client_http:
        name = flags.spell("listen-client-http-urls")
        yield Flag("client_http", name, ",".join(own.listen_client_http))


def _timing(config: ClusterConfig, flags: FlagSet, *, alone: bool) -> Iterator[Flag]:
    """Yield flags for a fast start with data that need not be durable. They do not affect TLS."""
    # A single member elects itself; with a shorter interval an idle etcd uses a tenth of a core. Several
    # members must not lose their leader on a busy machine.
    heartbeat, election = (5, 25) if alone else (50, 500)
    yield Flag("", "heartbeat-interval", str(heartbeat))
    yield Flag("", "election-timeout", str(election))
    if "unsafe-no-fsync" in flags:
        yield Flag("", "unsafe-no-fsync", "true")
    if config.authentication:
        yield Flag("", "bcrypt-cost", "4")
    # Under systemd etcd would log to the journal instead.
    yield Flag("", "log-outputs", "stderr")


def _security(config: ClusterConfig, flags: FlagSet, place: MemberPaths, files: FileNames) -> Iterator[Flag]:
    for setting in SECURITY_FIELDS:
        value = getattr(config, setting)
        if value is None or value is False or value == ():
            continue
        name = flags.spell(setting.replace("_", "-"))
        if setting.endswith("_file"):
            value = place.pki / files.path(value)
        elif value is True:
            value = "true"
        elif isinstance(value, tuple):
            value = ",".join(value)
        yield Flag(setting, name, str(value))


def render(flags: Sequence[Flag], config: ClusterConfig, place: MemberPaths) -> str:
    """Return the configuration file, without ``config_file_omits`` and with ``config_file_adds``."""
    document: dict[str, object] = {}
    sections: dict[str, dict[str, object]] = {_CLIENT_SECTION: {}, _PEER_SECTION: {}}
    for flag in flags:
        if flag.field in config.config_file_omits:
            continue
        section, key = _section_and_key(flag)
        (sections[section] if section else document)[key] = _value(key, flag.value)
    document |= {name: section for name, section in sections.items() if section}
    return yaml.safe_dump(document, sort_keys=False) + place.fill_in(config.config_file_adds)


def _section_and_key(flag: Flag) -> tuple[str, str]:
    """Return the section of a flag in the file, empty for none, and its key there."""
    key = flag.field.replace("_", "-")
    if flag.field in _CLIENT_FIELDS:
        # etcd has no configuration key for a CRL. This key is the translated flag; etcd ignores it.
        return _CLIENT_SECTION, key.replace("client-cert-allowed", "allowed")
    if flag.field in _PEER_FIELDS:
        return _PEER_SECTION, key.removeprefix("peer-").replace("cert-allowed", "allowed")
    return "", flag.name


def _value(key: str, text: str) -> object:
    if key in _LISTS:
        return text.split(",")
    if key in _NUMBERS:
        return int(text)
    return True if text == "true" else text


class PortTakenError(ClusterStartError):
    """Another program listens on a port that was free before."""


class PortClaim(Struct, frozen=True):
    """Free ports that are reserved until :meth:`release`, or until this process ends."""

    ports: tuple[int, ...]
    _guard: socket.socket | None

    def release(self) -> None:
        """Release the ports. It may be called repeatedly."""
        if self._guard is not None:
            self._guard.close()


def claim_ports(count: int, host: str, *, skip: int = 0) -> PortClaim:
    """Claim free ports on an address.

    A block of ports is claimed by binding its first port. The system releases it at the latest when this
    process ends, and nothing is left in a file system.

    Args:
        count: number of ports, at most 32.
        host: IP literal that they will be bound to.
        skip: number of blocks to skip; increased when a claimed port turns out to be taken.

    Raises:
        ClusterStartError: if every block is taken.
    """
    for start in _blocks(skip):
        guard = _guard(start)
        if guard is None:
            continue
        free = [port for port in range(start + 1, start + _BLOCK) if _is_free(host, port)]
        if len(free) >= count:
            return PortClaim(tuple(free[:count]), guard)
        guard.close()
    raise ClusterStartError(f"no block of {count} free ports on {host} from {_FIRST_PORT} on: all are in use")


def _blocks(skip: int) -> Iterator[int]:
    """Yield the first port of every block. Concurrent processes begin at different blocks."""
    starts = range(_FIRST_PORT, _end_of_range() - _BLOCK + 1, _BLOCK)
    first = os.getpid() * 7 + skip
    for number in range(len(starts)):
        yield starts[(first + number) % len(starts)]


def _end_of_range() -> int:
    try:
        ephemeral = int(_EPHEMERAL.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        ephemeral = 32768
    # If an administrator has lowered the ephemeral range, only retries help.
    return ephemeral if ephemeral >= _FIRST_PORT + _BLOCK * 16 else 32768


def _guard(port: int) -> socket.socket | None:
    """Return a socket that holds the port on loopback; ``None`` if another program has it.

    Without SO_REUSEADDR and without listening: no other program can bind the port, even with that option.
    """
    guard = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        guard.bind(("127.0.0.1", port))
    except OSError:
        guard.close()
        return None
    return guard


def _is_free(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As etcd does: without this option a port with connections in TIME_WAIT appears taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
