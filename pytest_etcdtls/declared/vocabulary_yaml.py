"""The keys of ``etcd.conf.yml`` and the flags that they stand for.

Source: the JSON tags of ``embed.Config``, ``configJSON`` and ``securityConfig`` in the same versions as in
:mod:`~pytest_etcdtls.declared.vocabulary`. Names only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pytest_etcdtls.declared.version import has, line, version_key
from pytest_etcdtls.declared.vocabulary import EVERY_FLAG, flag_known, names

CLIENT_SECTION: Final = "client-transport-security"
PEER_SECTION: Final = "peer-transport-security"

_BOTH: Final = {
    "cert-file": "cert-file",
    "key-file": "key-file",
    "client-cert-file": "client-cert-file",
    "client-key-file": "client-key-file",
    "client-cert-auth": "client-cert-auth",
    "trusted-ca-file": "trusted-ca-file",
    "auto-tls": "auto-tls",
    "allowed-cn": "cert-allowed-cn",
    "allowed-hostname": "cert-allowed-hostname",
    "skip-client-san-verification": "skip-client-san-verification",
    "ca-file": "ca-file",
}

SECTIONS: Final[Mapping[str, Mapping[str, str]]] = {
    CLIENT_SECTION: {
        **_BOTH,
        "allowed-cn": "client-cert-allowed-cn",
        "allowed-hostname": "client-cert-allowed-hostname",
        "skip-client-san-verification": "client-skip-client-san-verification",
    },
    PEER_SECTION: {key: f"peer-{flag}" for key, flag in _BOTH.items()},
}
"""By section and key, the flag that the key stands for. The client's ``allowed-cn`` and
``skip-client-san-verification`` have no flag; they are named as theirs would be."""

GO_FIELDS: Final[Mapping[str, str]] = {"clienttlsinfo": "client", "peertlsinfo": "peer"}
"""Fields of ``embed.Config`` without a JSON tag, in lower case: Go reads them by their own name."""

LISTS: Final = frozenset({"cipher-suites", "log-outputs", "allowed-cn", "allowed-hostname"})
SWITCH_KEYS: Final = frozenset({"client-cert-auth", "auto-tls", "skip-client-san-verification"})

_NO_KEY: Final = names(
    """
    auto-tls ca-file cert-file client-cert-allowed-hostname client-cert-auth client-cert-file
    client-crl-file client-key-file config-file discovery-cacert discovery-cert discovery-dial-timeout
    discovery-endpoints discovery-insecure-skip-tls-verify discovery-insecure-transport
    discovery-keepalive-time discovery-keepalive-timeout discovery-key discovery-password
    discovery-request-timeout discovery-token discovery-user experimental-snapshot-catchup-entries
    key-file peer-auto-tls peer-ca-file peer-cert-allowed-cn peer-cert-allowed-hostname peer-cert-file
    peer-client-cert-auth peer-client-cert-file peer-client-key-file peer-crl-file peer-key-file
    peer-skip-client-san-verification peer-trusted-ca-file raft-read-timeout raft-write-timeout
    socket-reuse-address socket-reuse-port trusted-ca-file version
    """
)
"""Flags that no key of the same name stands for; what has a key has it in a section."""

_KEYS_ONLY: Final[Mapping[str, str]] = {
    "socket-options": "3.5",
    "experimental-snapshot-catch-up-entries": "3.5",
    "discovery-config": "3.6",
    "grpc-additional-server-options": "3.6",
}
"""Keys without a flag, and the first line that has them."""

_SKIPS_SANS: Final = "experimental-peer-skip-client-san-verification"


def top_level_flag(key: str) -> str | None:
    """Return the flag that a key at the top stands for, in some version; ``None`` if there is none."""
    return key if (key in EVERY_FLAG and key not in _NO_KEY) or key in _KEYS_ONLY else None


def top_level_known(key: str, version: str | None) -> bool:
    """Return whether that version reads the key at the top."""
    if key in _KEYS_ONLY:
        return version_key(version) >= version_key(_KEYS_ONLY[key])
    if key == _SKIPS_SANS:
        return line(version) in (None, "3.6")
    return key not in _NO_KEY and flag_known(key, version)


def section_key_known(key: str, version: str | None) -> bool:
    """Return whether that version reads the key in one of the two sections."""
    if key in ("allowed-cn", "allowed-hostname"):
        return has(version, {"3.5": 15})
    if key == "skip-client-san-verification":
        return version_key(version) >= (3, 6)
    if key in ("client-cert-file", "client-key-file"):
        return version_key(version) >= (3, 5)
    if key == "ca-file":
        return version_key(version) < (3, 4)
    return key in _BOTH
