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
    AUTHORITY,
    CLIENT,
    PEER,
    PEER_CLIENT,
    SERVER,
    CALayout,
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


Rule = Callable[[Mending, re.Match[str], str], Mending]


def _field(flag: str) -> str:
    return flag.lstrip("-").replace("-", "_")


def _client_auth(mending: Mending, match: re.Match[str], _: str) -> Mending:
    return mending.with_flags(**{_field(match["flag"]): True})


def _peers_pair(mending: Mending, _: re.Match[str], __: str) -> Mending:
    return mending.with_flags(
        peer_cert_file=GOOD.peer_cert_file, peer_key_file=GOOD.peer_key_file, peer_auto_tls=False
    )


def _as_declared(mending: Mending, _: re.Match[str], __: str) -> Mending:
    return replace(mending, etcd=None, after_start=None)


def _flags_of_this_version(mending: Mending, _: re.Match[str], __: str) -> Mending:
    return replace(mending.with_flags(extra_flags=()), etcd=None)


def _once(mending: Mending, _: re.Match[str], __: str) -> Mending:
    """Keep the last value of each flag."""
    flags = {flag.partition("=")[0]: flag for flag in mending.config.extra_flags}
    return mending.with_flags(extra_flags=tuple(flags.values()))


def _one_of_two(mending: Mending, _: re.Match[str], __: str) -> Mending:
    return replace(mending.with_flags(environment={}), etcd=None)


def _rename(mending: Mending, _: re.Match[str], __: str) -> Mending:
    renamed = {name.replace("ETCD_", "OTHER_"): value for name, value in mending.config.environment.items()}
    return mending.with_flags(environment=renamed)


_GATES = {"experimental-initial-corrupt-check": "InitialCorruptCheck"}


def _spell(mending: Mending, _: re.Match[str], __: str) -> Mending:
    lines = []
    for line in mending.config.config_file_adds.splitlines():
        key, colon, value = line.partition(":")
        key = key.lower()
        if key in _GATES and mending.version >= "3.6":
            key, value = "feature-gates", f" {_GATES[key]}={value.strip()}"
        right = get_close_matches(key, KEYS, 1, cutoff=0.8)
        lines.append(f"{right[0] if right else key}{colon}{value}\n")
    return mending.with_flags(config_file_adds="".join(lines))


def _into_the_file_as_well(mending: Mending, match: re.Match[str], _: str) -> Mending:
    adds = f"{mending.config.config_file_adds}{match['key']}: true\n"
    return mending.with_flags(config_file_adds=adds)


def _one_name(mending: Mending, _: re.Match[str], __: str) -> Mending:
    first = str(mending.config.peer_cert_allowed_cn).partition(",")[0]
    return mending.with_flags(peer_cert_allowed_cn=first)


def _list_by_flag(mending: Mending, _: re.Match[str], __: str) -> Mending:
    return mending.with_flags(config_file=False) if mending.config.client_crl_file else mending


def _gateway_off(mending: Mending, _: re.Match[str], __: str) -> Mending:
    config = mending.config
    if config.client_cert_file:  # a pair of its own comes first in the text
        return mending
    if config.config_file:
        return mending.with_flags(config_file_adds=f"{config.config_file_adds}enable-grpc-gateway: false\n")
    return mending.with_flags(extra_flags=(*config.extra_flags, "--enable-grpc-gateway=false"))


def _give(mending: Mending, match: re.Match[str], _: str) -> Mending:
    """Give every flag that the phrase names with the file that a good cluster has there."""
    flags = re.findall(r"--((?:peer-)?(?:cert|key|trusted-ca)-file)\b", match[0])
    return mending.with_flags(**{_field(flag): getattr(GOOD, _field(flag)) for flag in flags})


def _remove(mending: Mending, match: re.Match[str], _: str) -> Mending:
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


def _issue(mending: Mending, match: re.Match[str], text: str) -> Mending:
    default = PEER if match["peer"] else SERVER
    issued = _profile(default, text)
    if "every host of --advertise-client-urls" in text:
        urls = [flag.partition("=https://")[2] for flag in mending.config.extra_flags if "-urls=" in flag]
        hosts = [url.rpartition(":")[0] for url in urls]
        issued = replace(issued, subject_alt_names=("localhost", "127.0.0.1", "::1", *hosts))
    return mending.with_pki(**{"peer" if match["peer"] else "server": issued})


def _authorities(mending: Mending, _: re.Match[str], __: str) -> Mending:
    return mending.with_pki(client_authority=AUTHORITY, server_authority=AUTHORITY, peer_authority=AUTHORITY)


def _issue_to_clients(mending: Mending, _: re.Match[str], text: str) -> Mending:
    return mending.with_pki(client=_profile(CLIENT, text), peer_client=_profile(PEER_CLIENT, text))


def _files_are_right(mending: Mending, _: re.Match[str], __: str) -> Mending:
    """The files have the planned content, since no change is made after the start."""
    return replace(mending, after_start=None)


def _usable_ca(mending: Mending, match: re.Match[str], text: str) -> Mending:
    """The CAs permit what they are for, when etcd starts and afterwards."""
    return replace(_authorities(mending, match, text), after_start=None)


def _dialing_pair(mending: Mending, _: re.Match[str], __: str) -> Mending:
    """The declared files of the pair with which etcd dials are there; others are as planned."""
    if not any(flag.startswith("--peer-client-cert-file=") for flag in mending.config.extra_flags):
        return replace(mending, after_start=None)
    pair = {"peer_client_cert_file": "peer-client.crt", "peer_client_key_file": "peer-client.key"}
    return replace(mending.with_flags(extra_flags=(), **pair), etcd=None)


def _bundle(mending: Mending, match: re.Match[str], _: str) -> Mending:
    side = "peer_trusted_ca_file" if match["peer"] else "trusted_ca_file"
    return replace(mending.with_flags(**{side: getattr(GOOD, side)}), after_start=None)


def _exchange(mending: Mending, _: re.Match[str], __: str) -> Mending:
    config = mending.config
    return mending.with_flags(
        cert_file=config.peer_cert_file,
        key_file=config.peer_key_file,
        peer_cert_file=config.cert_file,
        peer_key_file=config.key_file,
    )


def _suites(mending: Mending, _: re.Match[str], __: str) -> Mending:
    key = "RSA" if mending.config.pki.key_type is KeyType.RSA_2048 else "ECDSA"
    hashes = ("128_GCM_SHA256", "256_GCM_SHA384")
    return mending.with_flags(cipher_suites=tuple(f"TLS_ECDHE_{key}_WITH_AES_{end}" for end in hashes))


def _urls(mending: Mending, match: re.Match[str], _: str) -> Mending:
    flags = tuple(flag for flag in mending.config.extra_flags if not flag.startswith(f"{match['flag']}="))
    return mending.with_flags(extra_flags=flags)


def _https(mending: Mending, _: re.Match[str], __: str) -> Mending:
    return mending.with_flags(
        client_scheme="https",
        peer_scheme="https",
        plaintext_on_client_port=False,
        plain_client_listener=False,
    )


def _https_peers(mending: Mending, _: re.Match[str], __: str) -> Mending:
    return mending.with_flags(peer_scheme="https")


def _gateways_pair(mending: Mending, _: re.Match[str], text: str) -> Mending:
    if "(etcd 3.5 and newer)" in text and mending.version.startswith("3.4."):
        return mending
    return mending.with_flags(client_cert_file="client.crt", client_key_file="client.key")


def _without_the_file(mending: Mending, _: re.Match[str], __: str) -> Mending:
    return mending.with_flags(config_file=False, config_file_omits=(), config_file_adds="")


def _der(mending: Mending, match: re.Match[str], _: str) -> Mending:
    if match.groupdict().get("side") == "peer":
        return mending.with_flags(peer_crl_file="empty-crl.der")
    # The file of that name is what the conversion, or the CA, writes.
    nowhere = any(flag.startswith("--client-crl-file=") for flag in mending.config.extra_flags)
    flags = {"client_crl_file": "crl.der", **({"extra_flags": ()} if nowhere else {})}
    return replace(mending.with_flags(**flags), after_start=None, etcd=None if nowhere else mending.etcd)


def _godebug(mending: Mending, match: re.Match[str], _: str) -> Mending:
    variables = {**mending.config.environment}
    settings = [
        word for word in variables.pop("GODEBUG", "").split(",") if word not in match["settings"].split(",")
    ]
    return mending.with_flags(
        environment={**variables, **({"GODEBUG": ",".join(settings)} if any(settings) else {})}
    )


def _ca_for_each(mending: Mending, _: re.Match[str], __: str) -> Mending:
    return mending.with_pki(layout=CALayout.PER_PORT)


def _own_pair(mending: Mending, match: re.Match[str], _: str) -> Mending:
    side = (match["peer"] or "").replace("-", "_")
    names = (f"{side}cert_file", f"{side}key_file")
    return replace(mending.with_flags(**{name: getattr(GOOD, name) for name in names}), after_start=None)


_CERTIFICATE = r"(?P<peer>peer-)?cert-file"
_KEY = r"--(?:peer-)?key-file"
_READS_IT = r"where etcd reads (?:it|them), and restart it"
RULES: tuple[tuple[str, Rule], ...] = (
    # flags
    (r"(?:give|set|explicitly:|,|peers) --(?P<flag>(?:peer-)?client-cert-auth)=true", _client_auth),
    (r"(?:give|set|together with) (?:[^.;]*)--(?:peer-)?(?:cert|key|trusted-ca)-file[^.;]*", _give),
    (r"for peers --peer-cert-file, --peer-key-file and --peer-auto-tls", _peers_pair),
    (r"remove --[a-z-]+(?: and --[a-z-]+(?:=debug)?)?", _remove),
    (r"leave --[a-z-]+ unset", _remove),
    (r"do not set --[a-z0-9-]+", _remove),
    (r"name (?:only )?suites with ECDHE [^.;]*--cipher-suites", _suites),
    (r"use (?:only https )?URLs in (?P<flag>--advertise-client-urls)", _urls),
    (r"name https URLs only in --listen-client-urls", _https),
    (r"member update ID --peer-urls=https://\.\.\.`, and --listen-peer-urls with it", _https_peers),
    (rf"exchange the values of --cert-file and --peer-cert-file, and of {_KEY} and {_KEY}", _exchange),
    # certificates
    (rf"(?:issue|renew) (?:a new certificate for|the certificate of|the pair of) --{_CERTIFICATE}", _issue),
    (rf"issue the malformed certificate again [^.;]* from the file of --{_CERTIFICATE}", _issue),
    (rf"renew --{_CERTIFICATE} and {_KEY} with an? ", _issue),
    (rf"serve a certificate of that CA with --{_CERTIFICATE}", _issue),
    (r"serve a certificate with the extended key usage (?P<peer>peer)?serverAuth alone", _issue),
    (r"(?:, or its CA,|and its CA with|with a CA certificate|or use another CA)", _authorities),
    (r"(?:(?:replace|renew) the CA|the new CA)", _authorities),
    (
        r"(?:issue (?:a new client|this) certificate|renew the clients?'s? certificates?)",
        _issue_to_clients,
    ),
    (r"use a separate CA for (?:peers|clients) in --(?:peer-)?trusted-ca-file", _ca_for_each),
    (
        r"give the gateway (?:a pair|its own certificate) with --client-cert-file and --client-key",
        _gateways_pair,
    ),
    (r"switch (?:it|the gateway) off with --enable-grpc-gateway=false", _gateway_off),
    # files
    (rf"keep only the certificate and its intermediates, [^.;]* file of --{_CERTIFICATE}", _files_are_right),
    (rf"remove it from the file of --{_CERTIFICATE}", _files_are_right),
    (rf"append the intermediates, [^.;]* to the file of --{_CERTIFICATE}", _files_are_right),
    (r"with both clientAuth and serverAuth|give both members the same --tls-min-version", _files_are_right),
    (r"replace both files with a certificate and its key that the user of etcd may read", _dialing_pair),
    (r"put one file with the CA certificates at that path", _files_are_right),
    (r"put a CA certificate that is valid and permits these clients back into the file", _usable_ca),
    (rf"put the expected certificate and its key at the path of --{_CERTIFICATE}", _own_pair),
    (rf"use a separate certificate and key for --{_CERTIFICATE}", _own_pair),
    (r"put the CAs [^.;]*, and no other, into the file of --(?P<peer>peer-)?trusted-ca-file", _bundle),
    (r"keep in the file (?P<peer>peer-)?CA certificates alone", _bundle),
    (r"restart etcd, which reads the bundle only at start; set --(?P<peer>peer-)?trusted-ca-file", _bundle),
    (r"restart etcd, which reads --(?P<peer>peer-)?trusted-ca-file at start only", _bundle),
    (r"if the bundle is the wrong file, put the CA of all (?P<peer>members) and no other into it", _bundle),
    (r"convert it: openssl crl -inform \S+ -in \S+ -outform DER", _der),
    (r"have the CA issue it in version 2", _der),
    (r"start every member with the same TLS flags", _as_declared),
    (r"have one list issued with (the|all) serial numbers", _der),
    (r"put a DER encoded list at the path of --(?P<side>client|peer)-crl-file", _der),
    # declarations
    (r"start etcd with flags instead of a configuration file", _without_the_file),
    (r"start etcd without the configuration file and with every setting as a flag", _without_the_file),
    (r"spell the key as in this etcd's etcd\.conf\.yml\.sample", _spell),
    (r"(?i)write experimental-\S+ as [a-z-]+", _spell),
    (r"what has no key there, such as a revocation list [^.;]*, must be a flag", _list_by_flag),
    (r"write (?P<key>enable-grpc-gateway) into the configuration file", _into_the_file_as_well),
    (r"give one name", _one_name),
    (r"rename variables that belong to another program", _rename),
    (_READS_IT, _as_declared),
    (r"restart etcd(?: with the declaration|, or declare the names)", _as_declared),
    (r"^(remove|perhaps) --", _flags_of_this_version),
    (r"give it once", _once),
    (r"remove one of the two, and restart etcd", _one_of_two),
    (r"do not set (?P<settings>[a-z0-9=,]+) in GODEBUG", _godebug),
)
"""Phrases, each with what it makes somebody do. All phrases of a text are applied, in this order."""


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
                mending, matched = rule(mending, match, text), True
        if not matched:
            raise LookupError(
                f"no rule of tests/remedies/applying.py has words of this remedy: {text!r}. "
                "Use the words of another check, or add a rule"
            )
    return replace(member, config=mending.config, after_start=mending.after_start, etcd=mending.etcd)
