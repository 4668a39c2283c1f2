"""What an etcd's log says about how it was started: version, Go, TLS settings, URLs.

That is what is in force, from etcd's own mouth. Does not know what was declared.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Final

from pytest_etcdtls.etcd_log.entries import LogEntry

WORDS: Final = (
    "oaded server configuration",
    "oading server configuration",
    "Running: ",
    "etcd Version: ",
    "Go Version: ",
    "starting an etcd server",
    "starting with client TLS",
    "starting with peer TLS",
    "ClientTLS: ",
    "peerTLS: ",
)
"""What stands in every line about it."""

_INFO = re.compile(r"(?:^|, )([a-z-]+) ?= ?([^,]*)")
_FIRST = ("loaded server configuration", "Loading server configuration from ", "Running: ", "etcd Version: ")
"""What a start begins with, whichever of them comes first."""

_VERSION = re.compile(r"(?:etcd Version|Go Version): (\S+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedTLS:
    """TLS settings of one side as etcd prints them at its start; empty strings for what is not set."""

    cert: str = ""
    key: str = ""
    client_cert: str = ""
    client_key: str = ""
    trusted_ca: str = ""
    client_cert_auth: bool = False
    crl_file: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Startup:
    """The last start that a log shows.

    Attributes:
        etcd_version: ``None`` if the log does not reach back so far.
        go_version: ``go1.24.0``.
        client: TLS on client and https metrics listeners; ``None`` without TLS.
        peer: TLS on peer listeners.
        urls: by flag name, where the log has them (not in 3.4's text).
        config_file: the file that made etcd ignore flags and variables.
    """

    etcd_version: str | None = None
    go_version: str | None = None
    client: LoggedTLS | None = None
    peer: LoggedTLS | None = None
    urls: dict[str, tuple[str, ...]] = field(default_factory=dict)
    config_file: str | None = None


def last_startup(entries: Iterable[LogEntry]) -> Startup:
    """Return what the log says about the last start in it."""
    found = Startup()
    for entry in entries:
        if found.etcd_version is not None and entry.message.startswith(_FIRST):
            found = Startup()  # another start begins
        found = _add(found, entry)
    return found


def _add(found: Startup, entry: LogEntry) -> Startup:
    message = entry.message
    if match := _VERSION.match(message):
        if message.startswith("etcd"):
            return replace(found, etcd_version=match[1])
        return replace(found, go_version=match[1])
    if message == "starting an etcd server":
        urls = {
            name: tuple(map(str, value))
            for name, value in entry.fields.items()
            if name.endswith("-urls") and isinstance(value, list)
        }
        return replace(
            found,
            etcd_version=entry.text("etcd-version") or found.etcd_version,
            go_version=entry.text("go-version") or found.go_version,
            urls=urls,
        )
    if message.startswith("loaded server configuration"):
        return replace(found, config_file=entry.text("path"))
    if message.startswith("Loading server configuration from "):
        return replace(found, config_file=message.split('"')[1])
    if message == "starting with client TLS" or message.startswith("ClientTLS: "):
        return replace(found, client=_tls(entry.text("tls-info") or message))
    if message == "starting with peer TLS" or message.startswith("peerTLS: "):
        return replace(found, peer=_tls(entry.text("tls-info") or message))
    return found


def _tls(text: str) -> LoggedTLS:
    values = dict(_INFO.findall(text.partition(": ")[2] if "TLS: " in text else text))
    return LoggedTLS(
        cert=values.get("cert", ""),
        key=values.get("key", ""),
        client_cert=values.get("client-cert", ""),
        client_key=values.get("client-key", ""),
        trusted_ca=values.get("trusted-ca", ""),
        client_cert_auth=values.get("client-cert-auth", "") == "true",
        crl_file=values.get("crl-file", "").strip(),
    )
