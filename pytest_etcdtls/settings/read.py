"""Reads all settings of a run: bad input is one UsageError, before any connection.

Opens files that were named and no connection.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from pytest_etcdtls.cluster.config import ClusterConfig
from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.observer import Bounds
from pytest_etcdtls.pki.profile import KeyType
from pytest_etcdtls.settings.credentials import read_bundle, read_credentials, read_user
from pytest_etcdtls.settings.expected import read_expected
from pytest_etcdtls.settings.known import read_known
from pytest_etcdtls.settings.logs import read_logs
from pytest_etcdtls.settings.model import Owned, Settings
from pytest_etcdtls.settings.source import Source, integer, seconds, word
from pytest_etcdtls.settings.urls import read_connect_to
from pytest_etcdtls.target import Target
from pytest_etcdtls.waivers import read_waivers

REPORT_SUFFIXES = (".json",)
"""What ``--etcd-report`` can write."""

LIVE = "live"
"""Label of the live target."""

_GENTLE_PAUSE = 0.25
_BACKENDS = ("auto", "container", "process")


def read_settings(
    source: Source, environment: Mapping[str, str], *, live: bool, waive: bool = True
) -> Settings:
    """Return the settings.

    Args:
        source: of the values.
        environment: for etcdctl's variables.
        live: the endpoints given count.
        waive: waivers are in force.

    Raises:
        UsageError: for the first value that cannot be used.
    """
    waivers = source.path("etcd_waivers")
    return Settings(
        live=read_live_target(source, environment) if live else None,
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


def read_live_target(source: Source, environment: Mapping[str, str]) -> Target:
    """Return the live cluster as it was named.

    Raises:
        UsageError: if an endpoint or a file cannot be used.
    """
    known = read_known(source)
    client, peer = read_credentials(source, environment, known.defaults)
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
    """Return a path in full, and a mere name as it is: that is looked up on ``PATH``."""
    path = source.resolve("etcd_binary", text)
    return str(path) if os.sep in text or path.exists() else text


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
