"""From a configuration to etcd's flags: the command line of one member.

Pure; paths are those that etcd sees, on this host or in a container. Does not start anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from pytest_etcdtls.cluster.addresses import MemberAddresses
from pytest_etcdtls.cluster.config import ClusterConfig
from pytest_etcdtls.cluster.flags import FlagSet
from pytest_etcdtls.cluster.pki_files import FileNames

SECURITY_FIELDS = (
    *("cert_file", "key_file", "client_cert_auth", "trusted_ca_file", "client_crl_file", "auto_tls"),
    *("client_cert_allowed_hostname", "client_cert_file", "client_key_file"),
    *("peer_cert_file", "peer_key_file", "peer_client_cert_auth", "peer_trusted_ca_file", "peer_crl_file"),
    *("peer_auto_tls", "peer_cert_allowed_cn", "peer_cert_allowed_hostname"),
    *("peer_client_cert_file", "peer_client_key_file", "peer_skip_client_san_verification"),
    *("cipher_suites", "tls_min_version", "tls_max_version", "self_signed_cert_validity"),
    *("enable_pprof", "log_level"),
)
"""The fields of :class:`ClusterConfig` that are flags of etcd under their own names."""


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag as it is given.

    Attributes:
        field: the field of ``ClusterConfig`` that it comes from; empty for what every member needs.
        name: without dashes, as this etcd spells it.
        value: for switches ``true``.
    """

    field: str
    name: str
    value: str

    def __str__(self) -> str:
        return f"--{self.name}={self.value}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where etcd finds its things, as it sees them.

    Attributes:
        data: ``--data-dir``.
        pki: the PKI directory.
        config_file: where ``etcd.conf.yml`` is, or would be.
    """

    data: PurePosixPath
    pki: PurePosixPath
    config_file: PurePosixPath

    def fill_in(self, text: str) -> str:
        """Replace ``{pki}`` by the PKI directory."""
        return text.replace("{pki}", str(self.pki))


def member_flags(
    config: ClusterConfig,
    flags: FlagSet,
    addresses: Sequence[MemberAddresses],
    index: int,
    place: Place,
    files: FileNames,
    *,
    token: str,
) -> tuple[Flag, ...]:
    """Return the flags of one member, ``extra_flags`` and ``--config-file`` left out.

    Args:
        config: what is asked for.
        flags: what this etcd knows.
        addresses: of all members.
        index: of this one.
        place: where its things are.
        files: where each file is below the PKI directory.
        token: unique to the cluster (``--initial-cluster-token``), so that no stranger joins it.

    Raises:
        UsageError: if this etcd cannot express something that is asked for.
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
        *_further_listeners(flags, own),
        *_timing(config, flags),
        *_security(config, flags, place, files),
    )


def command_line(program: str, flags: Sequence[Flag], config: ClusterConfig, place: Place) -> tuple[str, ...]:
    """Return the whole command line; it holds paths and no secret."""
    from_file = (f"--config-file={place.config_file}",) if config.config_file else ()
    return (program, *from_file, *map(str, flags), *map(place.fill_in, config.extra_flags))


def _further_listeners(flags: FlagSet, own: MemberAddresses) -> Iterator[Flag]:
    if own.listen_metrics:
        yield Flag("metrics", "listen-metrics-urls", ",".join(own.listen_metrics))
    if own.listen_client_http:
        name = flags.spell("listen-client-http-urls")
        yield Flag("client_http", name, ",".join(own.listen_client_http))


def _timing(config: ClusterConfig, flags: FlagSet) -> Iterator[Flag]:
    """Be ready soon, with data that need not survive the machine; nothing that TLS could notice."""
    # One member elects itself; with a shorter interval an idle etcd takes a tenth of a core. Several must not
    # lose their leader on a busy machine.
    heartbeat, election = (5, 25) if config.size == 1 else (50, 500)
    yield Flag("", "heartbeat-interval", str(heartbeat))
    yield Flag("", "election-timeout", str(election))
    if "unsafe-no-fsync" in flags:
        yield Flag("", "unsafe-no-fsync", "true")
    if config.authentication:
        yield Flag("", "bcrypt-cost", "4")
    # Under systemd etcd would log to the journal instead.
    yield Flag("", "log-outputs", "stderr")


def _security(config: ClusterConfig, flags: FlagSet, place: Place, files: FileNames) -> Iterator[Flag]:
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
