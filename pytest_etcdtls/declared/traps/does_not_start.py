"""Declarations with which etcd does not start, as far as TLS and its ports decide it.

An etcd that is started with the declaration, by a replay or a rehearsal, says itself why it ends. Without
one, no other check finds most of these mistakes, since the running etcd was started without them.
"""

from __future__ import annotations

from collections.abc import Iterator

from pytest_etcdtls.declared.cures import suites
from pytest_etcdtls.declared.declaration import (
    FLAGS,
    Setting,
    Via,
    bind_problem,
    declared_listeners,
    known_to,
)
from pytest_etcdtls.declared.effective import TLS_VERSIONS, Effective, TLSSide, prefix
from pytest_etcdtls.declared.flags import GO_SUITES
from pytest_etcdtls.declared.traps.trap import FoundTrap, spellings, trap
from pytest_etcdtls.role import Role
from pytest_etcdtls.versions import version_key

Problem = tuple[str, str, tuple[Setting, ...]]
"""Why etcd does not start, what to write instead, and the settings concerned."""


@trap("does-not-start", cure=suites)
def etcd_starts_with_the_declaration(etcd: Effective) -> Iterator[FoundTrap]:
    """The declaration lets etcd start.

    Settings of TLS, their files and the ports are judged. Other values are judged by an etcd that is started
    with them, see config.starts. If etcd runs nevertheless, it was started with other settings: the
    declaration is not in force, and the next restart fails.

    Spec: etcd Documentation, configuration options
    Follows: restart.starts, config.unknown-*
    Severity: high
    Level: MUST
    Remediation: correct the declaration, and restart etcd with it.
    """
    for mistake in etcd.member.declaration.mistakes:
        if mistake.key is not None and not known_to(mistake.key, etcd.version):
            continue
        summary = f"{mistake.text} ({mistake.place.named})"
        yield FoundTrap(summary=summary, remedy="correct the line", starts=False)
    for rule in (_certificates, _names, _addresses, _advertised, _tls_versions, _cipher_suites, _renamed):
        for problem, remedy, settings in rule(etcd):
            summary = f"etcd does not start: {problem}"
            yield FoundTrap(summary=summary, remedy=remedy, settings=settings, starts=False)


_NEEDED_BY_HTTP2 = frozenset(
    {"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"}
)


def _certificates(etcd: Effective) -> Iterator[Problem]:
    for side in etcd.sides.values():
        if side.generated or not _reads_pair(etcd, side):
            continue
        p = prefix(side.side)
        settings = etcd.settings(f"{p}cert-file", f"{p}key-file")
        if side.certificate is None and side.key is None:
            listeners = etcd.secure(side)
            yield (
                f"{listeners[0].url} needs a certificate, and --{p}cert-file and --{p}key-file are not given",
                f"give --{p}cert-file and --{p}key-file",
                tuple(listener.declared.setting for listener in listeners[:1] if listener.declared.setting),
            )
        elif side.certificate is None or side.key is None:
            missing = "cert-file" if side.certificate is None else "key-file"
            yield f"{spellings(settings)} is given without --{p}{missing}", f"give --{p}{missing}", settings
        pair = (f"{p}client-cert-file", f"{p}client-key-file")
        given = etcd.settings(*pair)
        if len([setting for setting in given if setting.value]) == 1:
            yield f"{spellings(given)} is given alone", f"give both --{pair[0]} and --{pair[1]}", given


def _reads_pair(etcd: Effective, side: TLSSide) -> bool:
    """Return whether etcd reads the pair at its start: to serve TLS, and of peers always, to dial."""
    dials = side.side == "peer" and (side.certificate is not None or side.key is not None)
    return bool(etcd.secure(side)) or dials


def _names(etcd: Effective) -> Iterator[Problem]:
    for side in etcd.sides.values():
        if side.allowed_cn and side.allowed_hostname and _reads_pair(etcd, side):
            given = etcd.settings(f"{side.side}-cert-allowed-cn", f"{side.side}-cert-allowed-hostname")
            yield f"{spellings(given)} exclude each other", "give one of them", given


def _addresses(etcd: Effective) -> Iterator[Problem]:
    declared = declared_listeners(etcd.seen)
    for listener in declared:
        problem = bind_problem(listener.url)
        if problem and listener.setting:
            yield problem, f"write an address in --{FLAGS[listener.role]}", (listener.setting,)
    ports = {listener.url.address for listener in declared if listener.role is Role.CLIENT_HTTP}
    shared = [found for found in declared if found.role is Role.CLIENT and found.url.address in ports]
    if shared:
        given = etcd.settings(FLAGS[Role.CLIENT], FLAGS[Role.CLIENT_HTTP])
        yield f"{shared[0].url} is listed in both {spellings(given)}", "give HTTP a port of its own", given


def _advertised(etcd: Effective) -> Iterator[Problem]:
    name, listening = "advertise-client-urls", etcd.settings(FLAGS[Role.CLIENT])
    # etcd asks whether a flag is set: an empty flag is, an empty variable and a key are not.
    given = any(map(_is_set, etcd.settings(name))) or name in etcd.seen.started_with.left_out
    if any(map(_is_set, listening)) and not given:
        yield f"{listening[0].spelled} is given without --{name}", f"give --{name}", listening


def _is_set(setting: Setting) -> bool:
    return setting.via is Via.FLAG or (setting.via is Via.VARIABLE and bool(setting.value))


def _tls_versions(etcd: Effective) -> Iterator[Problem]:
    given = etcd.settings("tls-min-version", "tls-max-version")
    for setting in given:
        if setting.value and setting.value not in TLS_VERSIONS:
            yield f"{setting.written} is not a TLS version", f"write {' or '.join(TLS_VERSIONS)}", (setting,)
    minimum, maximum = etcd.seen.text("tls-min-version"), etcd.seen.text("tls-max-version")
    if (minimum, maximum) == ("TLS1.3", "TLS1.2"):
        yield "the lowest TLS version is above the highest", "swap them", given


def _cipher_suites(etcd: Effective) -> Iterator[Problem]:
    setting = etcd.seen.settings.get("cipher-suites")
    # An empty variable or key names no suite; an empty flag is a list with one empty name.
    if setting is not None and (setting.value or setting.via is Via.FLAG):
        for name in setting.value.split(","):
            if name not in GO_SUITES:
                remedy = f"write Go's names in {setting.spelled}, with commas and no blanks, or remove it"
                yield f"{name!r} in {setting.spelled} is no cipher suite", remedy, (setting,)
    suites = etcd.seen.words("cipher-suites")
    if not suites:
        return
    given = etcd.settings("cipher-suites", "tls-min-version")
    if etcd.seen.text("tls-min-version") == "TLS1.3":
        yield "--cipher-suites cannot be given with TLS 1.3 alone: Go selects them", "remove them", given
    elif etcd.secure(etcd.sides["client"]) and not _NEEDED_BY_HTTP2.intersection(suites):
        remedy = f"add {' or '.join(sorted(_NEEDED_BY_HTTP2))}"
        yield f"{given[0].written} lacks a suite that HTTP/2 needs", remedy, given


def _renamed(etcd: Effective) -> Iterator[Problem]:
    """In 3.6, a flag and its old name with the prefix ``experimental-`` exclude each other."""
    if version_key(etcd.version)[:2] != (3, 6):
        return
    for name in etcd.seen.settings:
        if f"experimental-{name}" in etcd.seen.settings:
            given = etcd.settings(name, f"experimental-{name}")
            yield f"{spellings(given)} are two names of one flag", f"keep {given[0].spelled}", given
