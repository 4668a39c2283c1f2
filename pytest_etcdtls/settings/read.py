"""The settings of one run, read once and checked before any connection."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pytest_etcdtls.cluster.config import ClusterConfig
from pytest_etcdtls.cluster.sources import Announce, EtcdSource, find_etcd
from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.etcd_log.parse import FileLog, LogSource
from pytest_etcdtls.local_file import is_there
from pytest_etcdtls.pki.profile import KeyType
from pytest_etcdtls.role import Role
from pytest_etcdtls.settings.credentials import (
    Ask,
    read_bundle,
    read_credentials,
    read_expected,
    read_user,
    split_host,
)
from pytest_etcdtls.settings.declarations import read_known
from pytest_etcdtls.settings.endpoints import read_connect_to
from pytest_etcdtls.settings.source import Source, integer, option, seconds, word
from pytest_etcdtls.target import Bounds, Listener, Target
from pytest_etcdtls.waivers import Waiver, read_waivers


@dataclass(frozen=True, slots=True, kw_only=True)
class Owned:
    """How owned clusters are started.

    Attributes:
        backend: ``auto``, ``container`` or ``process``.
        images: container images; one cluster is started from each.
        binaries: paths, or names to look up on ``PATH``; one cluster from each, after those of the images.
        config: the configuration of the clusters.
        keep: whether they keep running after the run.
    """

    backend: str = "auto"
    images: tuple[str, ...] = ()
    binaries: tuple[str, ...] = ()
    config: ClusterConfig = field(default_factory=ClusterConfig)
    keep: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of one run.

    Attributes:
        live: the live cluster; ``None`` if owned clusters are judged.
        owned: how owned clusters are started.
        patterns: the patterns of ``--etcd-check``.
        strict: whether a finding of a SHOULD check is a violation.
        expiry_days: the remaining validity, in days, below which certificates are warned about.
        allow_unverified: whether a TLS listener without a verdict about mutual TLS is accepted.
        waivers: the waivers of the file; empty if waivers are disabled.
        reports: the report files to write.
        bounds: the limits on connections and time.
        allow_writes: whether the fixture ``etcd_client`` may write to a live cluster.
    """

    live: Target | None = None
    owned: Owned = field(default_factory=Owned)
    patterns: tuple[str, ...] = ()
    strict: bool = False
    expiry_days: int = 30
    allow_unverified: bool = False
    waivers: tuple[Waiver, ...] = ()
    reports: tuple[Path, ...] = ()
    bounds: Bounds = field(default_factory=Bounds)
    allow_writes: bool = False


def owned_sources(owned: Owned, announce: Announce | None, *, pulls: bool = True) -> list[EtcdSource]:
    """Return the etcd that each owned cluster is started from.

    Args:
        owned: how owned clusters are started.
        announce: called before an image is pulled.
        pulls: whether a missing image is pulled.

    Raises:
        UsageError: if there is no etcd to start a cluster from.
    """
    if not owned.images and not owned.binaries:
        return [find_etcd(owned.backend, announce=announce, pulls=pulls)]
    return [
        *(find_etcd("container", image=image, announce=announce, pulls=pulls) for image in owned.images),
        *(find_etcd("process", binary=binary) for binary in owned.binaries),
    ]


def owned_outline(label: str, source: EtcdSource, settings: Settings) -> Target:
    """Return a target with the members and the roles of their listeners. The ports are not known yet."""
    config = settings.owned.config
    listeners = [
        Listener(
            role=role,
            scheme="https",
            host=config.host,
            port=0,
            member=f"m{number}",
            label=f"{role}-m{number}",
        )
        for number in range(config.size)
        for role in (Role.CLIENT, Role.PEER)
    ]
    return Target(
        label=label,
        origin=source.kind,
        listeners=tuple(listeners),
        etcd_version=source.version,
        source=source.location,
    )


REPORT_SUFFIXES = (".json",)
"""The file name suffixes that ``--etcd-report`` accepts."""

LIVE = "live"
"""The label of the live target."""

_GENTLE_PAUSE = 0.25
_BACKENDS = ("auto", "container", "process")


def read_settings(
    source: Source,
    environment: Mapping[str, str],
    *,
    live: bool,
    waive: bool = True,
    ask: Ask | None = None,
) -> Settings:
    """Return the settings.

    Args:
        source: the source of the values.
        environment: the environment with etcdctl's variables.
        live: whether the given endpoints are used.
        waive: whether waivers are in force.
        ask: asks for the passphrase of an encrypted key.

    Raises:
        UsageError: for the first value that is not valid.
    """
    waivers = source.path("etcd_waivers")
    return Settings(
        live=read_live_target(source, environment, ask) if live else None,
        expiry_days=_expiry_days(source),
        owned=_owned(source),
        patterns=source.texts("etcd_check", commas=True),
        strict=source.flag("etcd_strict"),
        allow_unverified=source.flag("etcd_allow_unverified"),
        waivers=read_waivers(waivers) if waivers is not None and waive else (),
        reports=tuple(_report(source, text) for text in source.texts("etcd_report")),
        bounds=_bounds(source),
        allow_writes=source.flag("etcd_allow_writes"),
    )


def read_live_target(source: Source, environment: Mapping[str, str], ask: Ask | None = None) -> Target:
    """Return the live cluster that the settings name.

    Raises:
        UsageError: if an endpoint or a file cannot be used.
    """
    known = read_known(source)
    client, peer = read_credentials(source, environment, known.defaults, ask)
    listeners = known.listeners
    return Target(
        label=LIVE,
        origin="live",
        listeners=listeners,
        client=client,
        peer=peer,
        expected=(*read_expected(source, listeners), *known.expected),
        logs=read_logs(source, listeners, more=source.flag("etcd_discover")),
        user=read_user(source, environment),
        expiry_days=_expiry_days(source),
        kubernetes_ca=read_bundle(source, "etcd_kubernetes_ca") or known.kubernetes_ca,
        dials_with_another=known.dials_with_another,
        declared=known.declared,
        unreached=known.unreached,
        remarks=known.remarks,
        connect_to=read_connect_to(source),
        discover=source.flag("etcd_discover"),
    )


def _expiry_days(source: Source) -> int:
    return integer(source, "etcd_expiry_days", 30, least=0)


def _owned(source: Source) -> Owned:
    images = source.texts("etcd_image")
    binaries = tuple(_binary(source, text) for text in source.texts("etcd_binary"))
    backend = word(source, "etcd_backend", "auto", _BACKENDS)
    if backend == "process" and images:
        raise UsageError("--etcd-image means a container: it does not go with --etcd-backend=process")
    if backend == "container" and binaries:
        raise UsageError("--etcd-binary means a process: it does not go with --etcd-backend=container")
    return Owned(
        backend=backend,
        images=images,
        binaries=binaries,
        config=_config(source),
        keep=source.flag("etcd_keep"),
    )


def _binary(source: Source, text: str) -> str:
    """Return an absolute path, or a plain name unchanged, since that is looked up on ``PATH``."""
    path = source.resolve("etcd_binary", text)
    return str(path) if os.sep in text or is_there(path) else text


def _config(source: Source) -> ClusterConfig:
    config = ClusterConfig(size=int(word(source, "etcd_size", "1", ("1", "3", "5"))))
    if source.text("etcd_key_type") is None:
        return config
    key_type = KeyType(word(source, "etcd_key_type", "", [str(known) for known in KeyType]))
    return replace(config, pki=replace(config.pki, key_type=key_type))


def _bounds(source: Source) -> Bounds:
    gentle = source.flag("etcd_gentle")
    default = Bounds()
    return Bounds(
        timeout=seconds(source, "etcd_timeout", default.timeout),
        concurrency=1 if gentle else integer(source, "etcd_concurrency", default.concurrency),
        pause=_GENTLE_PAUSE if gentle else 0.0,
        max_connections=integer(source, "etcd_max_connections", default.max_connections),
    )


def _report(source: Source, text: str) -> Path:
    path = source.resolve("etcd_report", text)
    if path.suffix not in REPORT_SUFFIXES:
        raise UsageError(
            f"--etcd-report {text!r}: the suffix chooses the format, and there is {REPORT_SUFFIXES[0]}"
        )
    if path.is_dir() or not path.parent.is_dir():
        raise UsageError(
            f"--etcd-report {text!r}: {path.parent} must be a directory, and no directory of that name"
        )
    if not os.access(path.parent, os.W_OK):
        raise UsageError(f"--etcd-report {text!r}: {path.parent} cannot be written to")
    return path


_NAME = "etcd_log"


def read_logs(
    source: Source, listeners: Sequence[Listener], *, more: bool = False
) -> Mapping[str, LogSource]:
    """Return the logs by host; the log for all hosts has the empty string as key.

    Args:
        source: the source of the values.
        listeners: the named listeners.
        more: whether listeners of other hosts may be discovered later.

    Raises:
        UsageError: if a file does not contain etcd's log, a host is not that of an endpoint, or two files are
            given for one member.
    """
    claimed: dict[str, str] = {}
    logs: dict[str, LogSource] = {}
    hosts = sorted({listener.host for listener in listeners})
    for text in dict.fromkeys(source.texts(_NAME)):
        host, path = split_host(source, _NAME, text)
        if host is not None and host not in hosts and not more:
            known = ", ".join(hosts) or "none"
            raise UsageError(f"{option(_NAME)} {text!r} fits no listener given: their hosts are {known}")
        for other, first in claimed.items():
            if host is None or other in ("", host):
                whom = host or other or "every member"
                raise UsageError(
                    f"{option(_NAME)} {first!r} and {text!r} both claim {whom}: name the host of each, as "
                    "HOST=FILE"
                )
        claimed[host or ""] = text
        logs[host or ""] = FileLog.of(path, option=option(_NAME))
    return logs
