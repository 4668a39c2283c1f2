"""Applies a remedy as it is printed to the configuration of a misconfigured cluster.

Every rule is a phrase of a remedy and the change that it requires. Nothing else is changed.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from zoo.model import Misconfigured

from pytest_etcdtls.etcd.cluster import Cluster
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.pki.profile import (
    CLIENT,
    PEER,
    PEER_CLIENT,
    SERVER,
    KeyType,
    Profile,
)

GOOD = ClusterConfig()
KEYS = [name.replace("_", "-") for name in ClusterConfig.__dataclass_fields__]


@dataclass(frozen=True, kw_only=True)
class Mending:
    """A cluster while a remedy is applied to it.

    Attributes:
        version: of its etcd.
        config: the configuration so far.
        after_start: what still happens to its files after the start.
        etcd: makes of an etcd one that is not started as declared.
    """

    version: str
    config: ClusterConfig
    after_start: Callable[[Cluster], None] | None
    etcd: Callable[[Path, Path], Path] | None

    def with_flags(self, **changes: Any) -> Mending:
        return replace(self, config=replace(self.config, **changes))

    def with_pki(self, **changes: Any) -> Mending:
        return self.with_flags(pki=replace(self.config.pki, **changes))

    def reset(self, name: str) -> Mending:
        """Give a setting the value of a good cluster."""
        if name == "after_start":
            return replace(self, after_start=None)
        if name == "etcd":
            return replace(self, etcd=None)
        if name.startswith("pki."):
            name = name.removeprefix("pki.")
            return self.with_pki(**{name: getattr(GOOD.pki, name)})
        return self.with_flags(**{name: getattr(GOOD, name)})


Rule = Callable[[Mending, re.Match[str]], Mending] | str
"""What a phrase makes somebody do: a function, or the settings that become those of a good cluster.

``pki.`` begins those of its PKI; ``after_start`` and ``etcd`` are what happens to its files, and its program.
``{side}`` stands for ``peer_`` where the phrase names a flag of peers.
"""


def _field(flag: str) -> str:
    return flag.lstrip("-").replace("-", "_")


def _spell(mending: Mending, match: re.Match[str]) -> Mending:
    gate = re.search(r"write (\S+) as feature-gates: (\w+=\w+)", match.string)
    lines = []
    for line in mending.config.config_file_adds.splitlines():
        key, colon, value = line.partition(":")
        if gate and gate[1] == key:
            key, value = "feature-gates", f" {gate[2]}"
        right = get_close_matches(key, KEYS, 1, cutoff=0.8)
        lines.append(f"{right[0] if right else key}{colon}{value}\n")
    return mending.with_flags(config_file_adds="".join(lines))


def _into_the_file_as_well(mending: Mending, match: re.Match[str]) -> Mending:
    adds = f"{mending.config.config_file_adds}{match['key']}: true\n"
    return mending.with_flags(config_file_adds=adds)


def _one_name(mending: Mending, _: re.Match[str]) -> Mending:
    first = str(mending.config.peer_cert_allowed_cn).partition(",")[0]
    return mending.with_flags(peer_cert_allowed_cn=first)


def _list_by_flag(mending: Mending, _: re.Match[str]) -> Mending:
    return mending.with_flags(config_file=False) if mending.config.client_crl_file else mending


def _gateway_off(mending: Mending, _: re.Match[str]) -> Mending:
    config = mending.config
    if config.client_cert_file:  # a pair of its own comes first in the text
        return mending
    if config.config_file:
        return mending.with_flags(config_file_adds=f"{config.config_file_adds}enable-grpc-gateway: false\n")
    return mending.with_flags(extra_flags=(*config.extra_flags, "--enable-grpc-gateway=false"))


def _give(mending: Mending, match: re.Match[str]) -> Mending:
    """Give every flag that the phrase names with the file that a good cluster has there."""
    flags = re.findall(r"--((?:peer-)?(?:cert|key|trusted-ca)-file)\b", match[0])
    return mending.with_flags(**{_field(flag): getattr(GOOD, _field(flag)) for flag in flags})


def _remove(mending: Mending, match: re.Match[str]) -> Mending:
    flags = re.findall(r"--[a-z0-9-]+", match[0])
    fields = {_field(flag) for flag in flags} & {*ClusterConfig.__dataclass_fields__}
    further = [flag for flag in mending.config.extra_flags if flag.partition("=")[0] not in flags]
    changes = {name: getattr(GOOD, name) for name in fields}
    return mending.with_flags(**changes, extra_flags=tuple(further))


def _profile(default: Profile, text: str) -> Profile:
    """Return the profile of a certificate that is issued as the text requires, with defaults otherwise."""
    usages = re.search(r"(?:extendedKeyUsage|both) ((?:\w+Auth)(?:(?:, | and )\w+Auth)*)", text)
    if usages:
        default = replace(default, extended_key_usage=tuple(re.findall(r"\w+Auth", usages[1])))
    if "extended key usage serverAuth alone" in text:
        default = replace(default, extended_key_usage=("serverAuth",))
    if "a year or less" in text:
        default = replace(default, valid_for=timedelta(days=365))
    if "signed with SHA-256" in text:
        default = replace(default, signature_hash="sha256")
    if "with localhost and 127.0.0.1 in its subjectAltName" in text:
        default = replace(default, subject_alt_names=("localhost", "127.0.0.1"))
    return default


def _issue(mending: Mending, match: re.Match[str]) -> Mending:
    default = PEER if match["peer"] else SERVER
    issued = _profile(default, match.string)
    if "every host of --advertise-client-urls" in match.string:
        urls = [flag.partition("=https://")[2] for flag in mending.config.extra_flags if "-urls=" in flag]
        hosts = [url.rpartition(":")[0] for url in urls]
        issued = replace(issued, subject_alt_names=("localhost", "127.0.0.1", "::1", *hosts))
    return mending.with_pki(**{"peer" if match["peer"] else "server": issued})


def _issue_to_clients(mending: Mending, match: re.Match[str]) -> Mending:
    text = match.string
    return mending.with_pki(client=_profile(CLIENT, text), peer_client=_profile(PEER_CLIENT, text))


def _dialing_pair(mending: Mending, _: re.Match[str]) -> Mending:
    """The declared files of the pair with which etcd dials are there; others are as planned."""
    if not any(flag.startswith("--peer-client-cert-file=") for flag in mending.config.extra_flags):
        return replace(mending, after_start=None)
    pair = {"peer_client_cert_file": "peer-client.crt", "peer_client_key_file": "peer-client.key"}
    return replace(mending.with_flags(extra_flags=(), **pair), etcd=None)


def _suites(mending: Mending, _: re.Match[str]) -> Mending:
    key = "RSA" if mending.config.pki.key_type is KeyType.RSA_2048 else "ECDSA"
    hashes = ("128_GCM_SHA256", "256_GCM_SHA384")
    return mending.with_flags(cipher_suites=tuple(f"TLS_ECDHE_{key}_WITH_AES_{end}" for end in hashes))


def _urls(mending: Mending, match: re.Match[str]) -> Mending:
    flags = tuple(flag for flag in mending.config.extra_flags if not flag.startswith(f"{match['flag']}="))
    return mending.with_flags(extra_flags=flags)


def _gateways_pair(mending: Mending, match: re.Match[str]) -> Mending:
    if "(etcd 3.5 and newer)" in match.string and mending.version.startswith("3.4."):
        return mending
    return mending.with_flags(client_cert_file="client.crt", client_key_file="client.key")


def _der(mending: Mending, _: re.Match[str]) -> Mending:
    """The file of that name is what the conversion, or the CA, writes."""
    return replace(mending.with_flags(client_crl_file="crl.der"), after_start=None)


def _peers_der(mending: Mending, _: re.Match[str]) -> Mending:
    return mending.with_flags(peer_crl_file="empty-crl.der")


def _godebug(mending: Mending, match: re.Match[str]) -> Mending:
    variables = {**mending.config.environment}
    settings = [
        word for word in variables.pop("GODEBUG", "").split(",") if word not in match["settings"].split(",")
    ]
    return mending.with_flags(
        environment={**variables, **({"GODEBUG": ",".join(settings)} if any(settings) else {})}
    )


_AUTHORITIES = "pki.client_authority pki.server_authority pki.peer_authority"
_USABLE_CA = f"{_AUTHORITIES} after_start"
_BUNDLE = "{side}trusted_ca_file after_start"
_PAIR = "{side}cert_file {side}key_file after_start"
_NO_FILE = "config_file config_file_omits config_file_adds"
_HTTPS = "client_scheme peer_scheme plaintext_on_client_port plain_client_listener"
_CERTIFICATE = r"(?P<peer>peer-)?cert-file"
_KEY = r"--(?:peer-)?key-file"
_READS_IT = r"where etcd reads (?:it|them), and restart it"
RULES: tuple[tuple[str, Rule], ...] = (
    # flags
    (r"(?:give|set|explicitly:|,|peers) --(?P<peer>peer-)?client-cert-auth=true", "{side}client_cert_auth"),
    (r"(?:give|set|together with) (?:[^.;]*)--(?:peer-)?(?:cert|key|trusted-ca)-file[^.;]*", _give),
    (
        r"for peers --peer-cert-file, --peer-key-file and --peer-auto-tls",
        "peer_cert_file peer_key_file peer_auto_tls",
    ),
    (r"remove --[a-z-]+(?: and --[a-z-]+(?:=debug)?)?", _remove),
    (r"leave --[a-z-]+ unset", _remove),
    (r"do not set --[a-z0-9-]+", _remove),
    (r"name (?:only )?suites with ECDHE [^.;]*--cipher-suites", _suites),
    (r"use (?:only https )?URLs in (?P<flag>--advertise-client-urls)", _urls),
    (r"name https URLs only in --listen-client-urls", _HTTPS),
    (r"member update ID --peer-urls=https://\.\.\.`, and --listen-peer-urls with it", "peer_scheme"),
    (
        rf"exchange the values of --cert-file and --peer-cert-file, and of {_KEY} and {_KEY}",
        "cert_file key_file peer_cert_file peer_key_file",
    ),
    # certificates
    (rf"(?:issue|renew) (?:a new certificate for|the certificate of|the pair of) --{_CERTIFICATE}", _issue),
    (rf"issue the malformed certificate again [^.;]* from the file of --{_CERTIFICATE}", _issue),
    (rf"renew --{_CERTIFICATE} and {_KEY} with an? ", _issue),
    (rf"serve a certificate of that CA with --{_CERTIFICATE}", _issue),
    (r"serve a certificate with the extended key usage (?P<peer>peer)?serverAuth alone", _issue),
    (r"(?:, or its CA,|and its CA with|with a CA certificate|or use another CA)", _AUTHORITIES),
    (r"(?:(?:replace|renew) the CA|the new CA)", _AUTHORITIES),
    (r"(?:issue (?:a new client|this) certificate|renew the clients?'s? certificates?)", _issue_to_clients),
    (r"use a separate CA for (?:peers|clients) in --(?:peer-)?trusted-ca-file", "pki.layout"),
    (
        r"give the gateway (?:a pair|its own certificate) with --client-cert-file and --client-key",
        _gateways_pair,
    ),
    (r"switch (?:it|the gateway) off with --enable-grpc-gateway=false", _gateway_off),
    # files
    (rf"keep only the certificate and its intermediates, [^.;]* file of --{_CERTIFICATE}", "after_start"),
    (rf"remove it from the file of --{_CERTIFICATE}", "after_start"),
    (rf"append the intermediates, [^.;]* to the file of --{_CERTIFICATE}", "after_start"),
    (r"with both clientAuth and serverAuth|give both members the same --tls-min-version", "after_start"),
    (r"replace both files with a certificate and its key that the user of etcd may read", _dialing_pair),
    (r"put one file with the CA certificates at that path", "after_start"),
    (r"put a CA certificate that is valid and permits these clients back into the file", _USABLE_CA),
    (rf"put the expected certificate and its key at the path of --{_CERTIFICATE}", _PAIR),
    (rf"use a separate certificate and key for --{_CERTIFICATE}", _PAIR),
    (r"put the CAs [^.;]*, and no other, into the file of --(?P<peer>peer-)?trusted-ca-file", _BUNDLE),
    (r"keep in the file (?P<peer>peer-)?CA certificates alone", _BUNDLE),
    (r"restart etcd, which reads the bundle only at start; set --(?P<peer>peer-)?trusted-ca-file", _BUNDLE),
    (r"restart etcd, which reads --(?P<peer>peer-)?trusted-ca-file at start only", _BUNDLE),
    (r"if the bundle is the wrong file, put the CA of all (?P<peer>members) and no other into it", _BUNDLE),
    (r"convert it: openssl crl -inform \S+ -in \S+ -outform DER", _der),
    (r"have the CA issue it in version 2", _der),
    (r"start every member with the same TLS flags", "etcd after_start"),
    (r"have one list issued with (the|all) serial numbers", _der),
    (r"put a DER encoded list at the path of --client-crl-file", _der),
    (r"put a DER encoded list at the path of --peer-crl-file", _peers_der),
    # declarations
    (r"start etcd with flags instead of a configuration file", _NO_FILE),
    (r"start etcd without the configuration file and with every setting as a flag", _NO_FILE),
    (r"spell the key as in this etcd's etcd\.conf\.yml\.sample", _spell),
    (r"(?i)write experimental-\S+ as [a-z-]+", _spell),
    (r"what has no key there, such as a revocation list [^.;]*, must be a flag", _list_by_flag),
    (r"write (?P<key>enable-grpc-gateway) into the configuration file", _into_the_file_as_well),
    (r"give one name", _one_name),
    (r"rename variables that belong to another program", "environment"),
    (_READS_IT, "etcd after_start"),
    (r"restart etcd(?: with the declaration|, or declare the names)", "etcd after_start"),
    (r"^(remove|perhaps) --", "extra_flags etcd"),
    (r"give it once", "extra_flags"),
    (r"remove one of the two, and restart etcd", "environment etcd"),
    (r"do not set (?P<settings>[a-z0-9=,]+) in GODEBUG", _godebug),
)
"""Phrases, each with what it makes somebody do. All phrases of a text are applied, in this order."""


def _applied(rule: Rule, mending: Mending, match: re.Match[str]) -> Mending:
    if not isinstance(rule, str):
        return rule(mending, match)
    side = "peer_" if match.groupdict().get("peer") else ""
    for name in rule.format(side=side).split():
        mending = mending.reset(name)
    return mending


def mended(member: Misconfigured, version: str, remedies: list[str]) -> Misconfigured:
    """Return the cluster with every remedy applied.

    Raises:
        LookupError: if a remedy has no phrase that can be applied.
    """
    mending = Mending(version=version, config=member.config, after_start=member.after_start, etcd=member.etcd)
    for text in dict.fromkeys(remedies):
        matched = False
        for pattern, rule in RULES:
            for match in re.finditer(pattern, text):
                mending, matched = _applied(rule, mending, match), True
        if not matched:
            raise LookupError(
                f"no rule of tests/remedies/applying.py has words of this remedy: {text!r}. "
                "Use the words of another check, or add a rule"
            )
    return replace(member, config=mending.config, after_start=mending.after_start, etcd=mending.etcd)
