"""What etcd logs of its own settings at startup, with which what is read from a declaration is compared."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from msgspec import Struct

from pytest_etcdtls.etcd_log.parse import LogEntry

_INFO = re.compile(r"(?:^|, )([a-z-]+) ?= ?([^,]*)")
_FIRST = ("loaded server configuration", "Loading server configuration from ", "Running: ", "etcd Version: ")
"""Messages that begin a startup. Which one comes first depends on version and configuration."""


class LoggedTLS(Struct, frozen=True, kw_only=True):
    """TLS settings of one side as etcd logs them at startup; empty strings for settings without a value."""

    cert: str = ""
    key: str = ""
    client_cert: str = ""
    client_key: str = ""
    trusted_ca: str = ""
    client_cert_auth: bool = False
    crl_file: str = ""


@dataclass
class Startup:
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
    urls: dict[str, tuple[str, ...]] = field(default_factory=dict)
    config_file: str | None = None


def last_startup(entries: Iterable[LogEntry]) -> Startup:
    """Return the last startup in a log."""
    startup = Startup()
    for entry in entries:
        message = entry.message
        if startup.etcd_version is not None and message.startswith(_FIRST):
            startup = Startup()
        if message.startswith("etcd Version: "):
            startup.etcd_version = message.split()[2]
        elif message == "starting an etcd server":
            startup.etcd_version = entry.text("etcd-version") or startup.etcd_version
            startup.urls = {
                name: tuple(map(str, value))
                for name, value in entry.fields.items()
                if name.endswith("-urls") and isinstance(value, list)
            }
        elif message.startswith("loaded server configuration"):
            startup.config_file = entry.text("path")
        elif message.startswith("Loading server configuration from "):
            startup.config_file = message.split('"')[1]
        elif message == "starting with client TLS" or message.startswith("ClientTLS: "):
            startup.client = _tls(entry.text("tls-info") or message)
        elif message == "starting with peer TLS" or message.startswith("peerTLS: "):
            startup.peer = _tls(entry.text("tls-info") or message)
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
