"""Translates a configuration into etcd's command line or configuration file."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Self

import yaml

from pytest_etcdtls.cluster.config import ClusterConfig
from pytest_etcdtls.dataclass import dataclass
from pytest_etcdtls.declared.declaration import version_key
from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.pki.bundle import ClusterPKI, write_files

_HELP_FLAG = re.compile(r"^\s+--([a-z0-9-]+)", re.MULTILINE)

_UNDOCUMENTED = {
    "unsafe-no-fsync": (3, 4, 10),
    "client-cert-file": (3, 5, 0),
    "client-key-file": (3, 5, 0),
    "peer-client-cert-file": (3, 5, 0),
    "peer-client-key-file": (3, 5, 0),
}
"""Flags that are missing in the output of ``etcd --help``, with the first version that has them."""


class UnknownFlagError(UsageError):
    """The version of etcd lacks a flag that the configuration needs."""


@dataclass(frozen=True, slots=True)
class FlagSet:
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


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberAddresses:
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


def ports_needed(config: ClusterConfig) -> int:
    """Return the number of ports that one member needs."""
    return 2 + config.plain_client_listener + (config.metrics is not None) + config.client_http


def loopback_addresses(config: ClusterConfig, name: str, ports: Iterator[int]) -> MemberAddresses:
    """Return the addresses of a member that listens on ``config.host``.

    Args:
        config: the cluster's configuration.
        name: the member's name.
        ports: free ports. As many as :func:`ports_needed` returns are taken.
    """
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


@dataclass(frozen=True, slots=True)
class FileNames:
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
    """Write the PKI and the extra files with mode 0600, in directories with mode 0700.

    An extra file with the logical name of a generated file replaces it, for every member.

    Raises:
        OSError: if a file or directory cannot be written.
    """
    extra = {
        FileNames.of_member(pki, member.name).path(name): content
        for member in pki.members
        for name, content in config.extra_files.items()
    }
    write_files(directory, {**pki.files(with_ca_keys=with_ca_keys), **extra})


SECURITY_FIELDS = (
    *("cert_file", "key_file", "client_cert_auth", "trusted_ca_file", "client_crl_file", "auto_tls"),
    *("client_cert_allowed_hostname", "client_cert_file", "client_key_file"),
    *("peer_cert_file", "peer_key_file", "peer_client_cert_auth", "peer_trusted_ca_file", "peer_crl_file"),
    *("peer_auto_tls", "peer_cert_allowed_cn", "peer_cert_allowed_hostname"),
    *("peer_client_cert_file", "peer_client_key_file", "peer_skip_client_san_verification"),
    *("cipher_suites", "tls_min_version", "tls_max_version", "self_signed_cert_validity"),
    *("enable_pprof", "log_level"),
)
"""The fields of :class:`ClusterConfig` that are named as flags of etcd."""


@dataclass(frozen=True, slots=True)
class Flag:
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


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberPaths:
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

    Args:
        config: the cluster's configuration.
        flags: the flags of this version of etcd.
        addresses: URLs of all members.
        index: index of this member in ``addresses``.
        place: paths of the member's files.
        files: paths below the PKI directory.
        token: ``--initial-cluster-token``, unique to the cluster, so that no member of another cluster joins.
        alone: it is the only member, and will be.
        joins: it was added to a cluster that runs.

    Raises:
        UsageError: if this version of etcd does not support the configuration.
    """
    own = addresses[index]
    everybody = ",".join(f"{member.name}={url}" for member in addresses for url in member.advertise_peer)
    return (
        Flag("", "name", own.name),
        Flag("", "data-dir", str(place.data)),
        Flag("", "listen-client-urls", ",".join(own.listen_client)),
        Flag("", "advertise-client-urls", ",".join(own.advertise_client)),
        Flag("", "listen-peer-urls", ",".join(own.listen_peer)),
        Flag("", "initial-advertise-peer-urls", ",".join(own.advertise_peer)),
        Flag("", "initial-cluster", everybody),
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
    for field in SECURITY_FIELDS:
        value = getattr(config, field)
        if value is None or value is False or value == ():
            continue
        name = flags.spell(field.replace("_", "-"))
        if field.endswith("_file"):
            value = place.pki / files.path(value)
        elif value is True:
            value = "true"
        elif isinstance(value, tuple):
            value = ",".join(value)
        yield Flag(field, name, str(value))


_SECTIONS = ("client-transport-security", "peer-transport-security")

_KEYS = {
    **{
        field: (_SECTIONS[0], field.replace("_", "-"))
        for field in (
            *("cert_file", "key_file", "client_cert_auth", "trusted_ca_file", "auto_tls"),
            # etcd has no configuration key for a CRL. This key is the translated flag; etcd ignores it.
            *("client_cert_file", "client_key_file", "client_crl_file"),
        )
    },
    "client_cert_allowed_hostname": (_SECTIONS[0], "allowed-hostname"),
    "peer_cert_file": (_SECTIONS[1], "cert-file"),
    "peer_key_file": (_SECTIONS[1], "key-file"),
    "peer_client_cert_auth": (_SECTIONS[1], "client-cert-auth"),
    "peer_trusted_ca_file": (_SECTIONS[1], "trusted-ca-file"),
    "peer_auto_tls": (_SECTIONS[1], "auto-tls"),
    "peer_client_cert_file": (_SECTIONS[1], "client-cert-file"),
    "peer_client_key_file": (_SECTIONS[1], "client-key-file"),
    "peer_crl_file": (_SECTIONS[1], "crl-file"),
    "peer_cert_allowed_cn": (_SECTIONS[1], "allowed-cn"),
    "peer_cert_allowed_hostname": (_SECTIONS[1], "allowed-hostname"),
    "peer_skip_client_san_verification": (_SECTIONS[1], "skip-client-san-verification"),
}

_LISTS = {"cipher-suites", "log-outputs", "allowed-cn", "allowed-hostname"}
_NUMBERS = {"heartbeat-interval", "election-timeout", "self-signed-cert-validity", "bcrypt-cost"}


def render(flags: Sequence[Flag], config: ClusterConfig, place: MemberPaths) -> str:
    """Return the configuration file, without ``config_file_omits`` and with ``config_file_adds``."""
    document: dict[str, object] = {}
    sections: dict[str, dict[str, object]] = {name: {} for name in _SECTIONS}
    for flag in flags:
        if flag.field in config.config_file_omits:
            continue
        section, key = _KEYS.get(flag.field, ("", flag.name))
        (sections[section] if section else document)[key] = _value(key, flag.value)
    document |= {name: section for name, section in sections.items() if section}
    return yaml.safe_dump(document, sort_keys=False) + place.fill_in(config.config_file_adds)


def _value(key: str, text: str) -> object:
    if key in _LISTS:
        return text.split(",")
    if key in _NUMBERS:
        return int(text)
    return True if text == "true" else text
