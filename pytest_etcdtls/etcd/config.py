"""The configuration of an owned cluster, and etcd's command line or file made of it.

Size, PKI and every etcd flag that affects TLS.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Literal, TypedDict

from msgspec import Struct

from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.etcd.etcd_flags import FlagSet
from pytest_etcdtls.etcd.launch import MemberAddresses, MemberPaths
from pytest_etcdtls.pki.bundle import ClusterPKI, write_files
from pytest_etcdtls.pki.profile import PKIPlan

Scheme = Literal["https", "http"]

START_SECONDS = 30.0
"""Seconds that a start may take on a busy machine."""

SIZES = (1, 3, 5)

_CLIENT_SECTION, _PEER_SECTION = "client-transport-security", "peer-transport-security"


@dataclass(frozen=True, slots=True, kw_only=True)
class _SecurityFlags:
    """The fields of :class:`ClusterConfig` that are named as flags of etcd."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterConfig(_SecurityFlags):
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
        client_scheme: scheme of ``--listen-client-urls``.
        peer_scheme: scheme of ``--listen-peer-urls``.
        plain_client_listener: add an ``http`` client listener on a separate port.
        plaintext_on_client_port: add an ``http`` client listener on the port of the ``https`` one.
        metrics: scheme of ``--listen-metrics-urls``; ``None`` for no such listener.
        client_http: split HTTP off the gRPC port with ``--listen-client-http-urls``.
        host: address that members listen on and advertise: ``127.0.0.1`` or ``::1``.
        network: for containers, the name of an existing network of the engine on which they are (default: a
            network of their own, :attr:`Cluster.network`).
        aliases: for containers, further names of each member on the network, also in its certificates;
            ``{name}`` stands for ``m0``, ``m1`` ...
        advertise: for containers, where clients that follow the member list find the members: from this
            ``host``, or on the ``network``.
        extra_files: contents of files to write into the PKI directory, by name.
        extra_flags: further arguments, passed verbatim after all others, and instead of a flag of the same
            name.
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

    client_scheme: Scheme = "https"
    peer_scheme: Scheme = "https"
    plain_client_listener: bool = False
    plaintext_on_client_port: bool = False
    metrics: Scheme | None = None
    client_http: bool = False
    host: str = "127.0.0.1"
    network: str | None = None
    aliases: tuple[str, ...] = ()
    advertise: Literal["host", "network"] = "host"

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
            UsageError: for an unsupported size or host, an unknown field name, or a file name with a
                directory in it.
        """
        if self.size not in SIZES:
            raise UsageError(f"a cluster of {self.size} members cannot be started: use 1, 3 or 5")
        if self.host not in {"127.0.0.1", "::1"}:
            raise UsageError(f"an owned cluster listens on 127.0.0.1 or ::1, not on {self.host}")
        unknown = sorted(set(self.config_file_omits) - set(type(self).__dataclass_fields__))
        if unknown:
            raise UsageError(f"config_file_omits names no field of ClusterConfig: {', '.join(unknown)}")
        if self.advertise not in {"host", "network"}:
            raise UsageError(f"advertise={self.advertise!r}: members advertise to the host or on the network")
        for name in self.extra_files:
            if "/" in name or name in {"", ".", ".."}:
                raise UsageError(f"extra_files: {name!r} is not a plain file name")


SECURITY_FIELDS = tuple(_SecurityFlags.__dataclass_fields__)
_OF_BOTH_PORTS = ("cipher_suites", "tls_min_version", "tls_max_version")


def names_network(config: ClusterConfig) -> bool:
    """Return whether it says on which network of a container engine the members are, and how."""
    return (config.network, config.aliases, config.advertise) != (None, (), "host")


class ClusterOptions(TypedDict, total=False):
    """The fields of :class:`ClusterConfig` where they are keyword arguments."""

    size: int
    pki: PKIPlan
    cert_file: str | None
    key_file: str | None
    client_cert_auth: bool
    trusted_ca_file: str | None
    client_crl_file: str | None
    auto_tls: bool
    client_cert_allowed_hostname: str | None
    client_cert_file: str | None
    client_key_file: str | None
    peer_cert_file: str | None
    peer_key_file: str | None
    peer_client_cert_auth: bool
    peer_trusted_ca_file: str | None
    peer_crl_file: str | None
    peer_auto_tls: bool
    peer_cert_allowed_cn: str | None
    peer_cert_allowed_hostname: str | None
    peer_client_cert_file: str | None
    peer_client_key_file: str | None
    peer_skip_client_san_verification: bool
    cipher_suites: tuple[str, ...]
    tls_min_version: str | None
    tls_max_version: str | None
    client_scheme: Scheme
    peer_scheme: Scheme
    plain_client_listener: bool
    plaintext_on_client_port: bool
    metrics: Scheme | None
    client_http: bool
    host: str
    network: str | None
    aliases: tuple[str, ...]
    advertise: Literal["host", "network"]
    extra_files: Mapping[str, bytes]
    extra_flags: tuple[str, ...]
    environment: Mapping[str, str]
    config_file: bool
    config_file_omits: tuple[str, ...]
    config_file_adds: str
    authentication: bool
    expects_health: bool


def ports_needed(config: ClusterConfig) -> int:
    """Return the number of ports that one member needs."""
    return 2 + config.plain_client_listener + (config.metrics is not None) + config.client_http


def member_addresses(
    config: ClusterConfig, name: str, ports: Iterator[int], host: str | None = None
) -> MemberAddresses:
    """Return the addresses of a member. It takes :func:`ports_needed` of the ports.

    Args:
        config: of its cluster.
        name: of the member.
        ports: free ones.
        host: at which it is reached from here, if its ports are those of another host.
    """
    host = host or config.host
    host = f"[{host}]" if ":" in host else host
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


def write_pki(pki: ClusterPKI, config: ClusterConfig, directory: Path, *, with_ca_keys: bool) -> None:
    """Write the PKI and the extra files, as :func:`~pytest_etcdtls.pki.bundle.write_files` does.

    An extra file with the logical name of a generated file replaces it, for every member.
    """
    extra = {
        pki.paths(member.name, with_ca_keys=True).get(name, PurePosixPath(name)): content
        for member in pki.members
        for name, content in config.extra_files.items()
    }
    write_files(directory, {**pki.files(with_ca_keys=with_ca_keys), **extra})


class Flag(Struct, frozen=True):
    """One flag with its value.

    Attributes:
        field: the field of ``ClusterConfig`` that sets it; empty for a flag that every member needs.
        name: name without leading dashes, as this version of etcd spells it.
        value: as a configuration file has it.
    """

    field: str
    name: str
    value: str | int | tuple[str, ...]

    def __str__(self) -> str:
        text = ",".join(self.value) if isinstance(self.value, tuple) else str(self.value)
        return f"--{self.name}={'true' if self.value is True else text}"


def member_flags(
    config: ClusterConfig,
    flags: FlagSet,
    addresses: Sequence[MemberAddresses],
    index: int,
    place: MemberPaths,
    files: Mapping[str, PurePosixPath],
    *,
    token: str,
    alone: bool,
    joins: bool = False,
) -> tuple[Flag, ...]:
    """Return the flags of one member, without ``extra_flags`` and ``--config-file``.

    The arguments are those of :func:`~pytest_etcdtls.etcd.member.build_member`, as etcd sees them.

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


def command_line(flags: Sequence[Flag], config: ClusterConfig, place: MemberPaths) -> tuple[str, ...]:
    """Return the command line without the program. It contains paths but no secret.

    A flag of the configuration that is among ``extra_flags`` is not given twice.
    """
    from_file = (f"--config-file={place.config_file}",) if config.config_file else ()
    extra = {argument.lstrip("-").partition("=")[0] for argument in config.extra_flags}
    own = (str(flag) for flag in flags if flag.name not in extra)
    return (*from_file, *own, *map(place.fill_in, config.extra_flags))


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
    yield Flag("", "heartbeat-interval", heartbeat)
    yield Flag("", "election-timeout", election)
    if "unsafe-no-fsync" in flags:
        yield Flag("", "unsafe-no-fsync", True)
    if config.authentication:
        yield Flag("", "bcrypt-cost", 4)
    # Under systemd etcd would log to the journal instead.
    yield Flag("", "log-outputs", ("stderr",))


def _security(
    config: ClusterConfig, flags: FlagSet, place: MemberPaths, files: Mapping[str, PurePosixPath]
) -> Iterator[Flag]:
    for setting in SECURITY_FIELDS:
        value = getattr(config, setting)
        if value is None or value is False or value == ():
            continue
        name = flags.spell(setting.replace("_", "-"))
        if setting.endswith("_file"):
            value = str(place.pki / files.get(value, value))
        elif setting.endswith(("_allowed_cn", "_allowed_hostname")):
            value = tuple(value.split(","))
        yield Flag(setting, name, value)


def render(flags: Sequence[Flag], config: ClusterConfig, place: MemberPaths) -> str:
    """Return the configuration file, without ``config_file_omits`` and with ``config_file_adds``."""
    document: dict[str, object] = {}
    sections: dict[str, dict[str, object]] = {_CLIENT_SECTION: {}, _PEER_SECTION: {}}
    for flag in flags:
        if flag.field in config.config_file_omits:
            continue
        section, key = _section_and_key(flag)
        value = [*flag.value] if isinstance(flag.value, tuple) else flag.value
        (sections[section] if section else document)[key] = value
    document |= {name: section for name, section in sections.items() if section}
    import yaml  # here, since few clusters have a configuration file

    return yaml.safe_dump(document, sort_keys=False) + place.fill_in(config.config_file_adds)


def _section_and_key(flag: Flag) -> tuple[str, str]:
    """Return the section of a flag in the file, empty for none, and its key there."""
    key = flag.field.replace("_", "-")
    if flag.field not in SECURITY_FIELDS or flag.field in _OF_BOTH_PORTS:
        return "", flag.name
    if key.startswith("peer-"):
        return _PEER_SECTION, key.removeprefix("peer-").replace("cert-allowed", "allowed")
    # etcd has no configuration key for a CRL. This key is the translated flag; etcd ignores it.
    return _CLIENT_SECTION, key.replace("client-cert-allowed", "allowed")
