"""What etcd logs of its own settings at startup, with which what is read from a declaration is compared."""

from __future__ import annotations

import re
from collections.abc import Iterable

from msgspec import Struct
from msgspec.structs import replace

from pytest_etcdtls.etcd_log.parse import LogEntry

_INFO = re.compile(r"(?:^|, )([a-z-]+) ?= ?([^,]*)")
_FIRST = ("loaded server configuration", "Loading server configuration from ", "Running: ", "etcd Version: ")
"""Messages that begin a startup. Which one comes first depends on version and configuration."""

_VERSION = re.compile(r"etcd Version: (\S+)")


class LoggedTLS(Struct, frozen=True, kw_only=True):
    """TLS settings of one side as etcd logs them at startup; empty strings for settings without a value."""

    cert: str = ""
    key: str = ""
    client_cert: str = ""
    client_key: str = ""
    trusted_ca: str = ""
    client_cert_auth: bool = False
    crl_file: str = ""


class Startup(Struct, frozen=True, kw_only=True):
    """The last startup in a log.

    Attributes:
        etcd_version: the version of etcd; ``None`` if the log begins after the startup.
        client: TLS on client and https metrics listeners; ``None`` without TLS.
        peer: TLS on peer listeners; ``None`` without TLS.
        urls: the URLs by flag name, where the log has them (3.4's text format does not).
        config_file: the configuration file, because of which etcd ignores flags and variables.
    """

    etcd_version: str | None = None
    client: LoggedTLS | None = None
    peer: LoggedTLS | None = None
    urls: dict[str, tuple[str, ...]] = {}
    config_file: str | None = None


def last_startup(entries: Iterable[LogEntry]) -> Startup:
    """Return the last startup in a log."""
    startup = Startup()
    for entry in entries:
        if startup.etcd_version is not None and entry.message.startswith(_FIRST):
            startup = Startup()  # a new startup
        startup = _add(startup, entry)
    return startup


def _add(startup: Startup, entry: LogEntry) -> Startup:
    message = entry.message
    if match := _VERSION.match(message):
        return replace(startup, etcd_version=match[1])
    if message == "starting an etcd server":
        urls = {
            name: tuple(map(str, value))
            for name, value in entry.fields.items()
            if name.endswith("-urls") and isinstance(value, list)
        }
        return replace(
            startup,
            etcd_version=entry.text("etcd-version") or startup.etcd_version,
            urls=urls,
        )
    if message.startswith("loaded server configuration"):
        return replace(startup, config_file=entry.text("path"))
    if message.startswith("Loading server configuration from "):
        return replace(startup, config_file=message.partition('"')[2].partition('"')[0] or None)
    if message == "starting with client TLS" or message.startswith("ClientTLS: "):
        return replace(startup, client=_tls(entry.text("tls-info") or message))
    if message == "starting with peer TLS" or message.startswith("peerTLS: "):
        return replace(startup, peer=_tls(entry.text("tls-info") or message))
    return startup


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
