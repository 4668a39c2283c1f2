"""``etcd.conf.yml``: the same settings as the flags, under the keys that etcd's YAML has for them.

Source: etcd's ``embed.Config`` and ``etcd.conf.yml.sample``. Does not know what the settings mean.
"""

from __future__ import annotations

from collections.abc import Sequence

import yaml

from pytest_etcdtls.cluster.command_line import Flag, Place
from pytest_etcdtls.cluster.config import ClusterConfig

_SECTIONS = ("client-transport-security", "peer-transport-security")

_KEYS = {
    **{
        field: (_SECTIONS[0], field.replace("_", "-"))
        for field in (
            *("cert_file", "key_file", "client_cert_auth", "trusted_ca_file", "auto_tls"),
            # etcd has no key for a CRL. Who translates flags into keys writes this, and etcd ignores it.
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


def render(flags: Sequence[Flag], config: ClusterConfig, place: Place) -> str:
    """Return the file for these flags, less ``config_file_omits``, and with ``config_file_adds``."""
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
