"""What etcd logs of its own settings at startup, with which what is read from a declaration is compared."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from pytest_etcdtls.etcd_log.parse import LogEntry

_INFO = re.compile(r"(?:^|, )([a-z-]+) ?= ?([^,]*)")
READ = ("cert", "key", "trusted-ca", "client-cert-auth", "crl-file")
"""What is read of the TLS settings of a side."""
_FIRST = ("loaded server configuration", "Loading server configuration from ", "Running: ", "etcd Version: ")
"""Messages that begin a startup. Which one comes first depends on version and configuration."""


@dataclass
class Startup:
    """The last startup in a log.

    Attributes:
        etcd_version: the version of etcd; ``None`` if the log begins after the startup.
        client: TLS settings of client and https metrics listeners, those with a value; ``None`` without TLS.
        peer: those of peer listeners.
        urls: the URLs by flag name, where the log has them (3.4's text format does not).
        config_file: the configuration file, because of which etcd ignores flags and variables.
    """

    etcd_version: str | None = None
    client: dict[str, str] | None = None
    peer: dict[str, str] | None = None
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


def _tls(text: str) -> dict[str, str]:
    said = dict(_INFO.findall(text.partition(": ")[2] if "TLS: " in text else text))
    return {name: value for name in READ if (value := said.get(name, "").strip()) not in ("", "false")}
