"""What keeps etcd from starting, so that what runs cannot have been started with this declaration."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pytest_etcdtls.declared.declaration import Setting, Via
from pytest_etcdtls.declared.in_force import known_to
from pytest_etcdtls.declared.listeners import FLAGS, declared_listeners
from pytest_etcdtls.declared.sides import TLSSide, prefix
from pytest_etcdtls.declared.trap import Situation, Trap, spellings
from pytest_etcdtls.declared.urls import bind_problem
from pytest_etcdtls.declared.version import version_key
from pytest_etcdtls.role import Role

_TLS_VERSIONS = ("TLS1.2", "TLS1.3")
_NEEDED_BY_HTTP2 = frozenset(
    {"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"}
)

Problem = tuple[str, str, tuple[Setting, ...]]
"""What is wrong, what to write instead, and the settings that it is about."""


def does_not_start(situation: Situation) -> Iterator[Trap]:
    """Yield one trap for each reason why etcd does not start."""
    for mistake in situation.declaration.mistakes:
        if mistake.key is not None and not known_to(mistake.key, situation.version):
            continue
        yield Trap(
            id="does-not-start",
            summary=f"{mistake.text} ({mistake.place})",
            why="etcd ends before it opens a port; what runs was started with something else.",
            remedy="correct the line",
            starts=False,
        )
    for rule in _RULES:
        for summary, remedy, settings in rule(situation):
            yield Trap(
                id="does-not-start",
                summary=f"etcd does not start: {summary}",
                why="etcd ends with an error in its log; what runs was started with something else.",
                remedy=remedy,
                settings=settings,
                starts=False,
            )


def _certificates(situation: Situation) -> Iterator[Problem]:
    for side in situation.sides():
        if not situation.secure(side.side) or side.generated:
            continue
        p = prefix(side.side)
        settings = situation.settings(f"{p}cert-file", f"{p}key-file")
        if side.certificate is None and side.key is None:
            listeners = situation.secure(side.side)
            yield (
                f"{listeners[0].url} wants a certificate, and --{p}cert-file and --{p}key-file are not given",
                f"give --{p}cert-file and --{p}key-file",
                tuple(one.declared.setting for one in listeners[:1] if one.declared.setting),
            )
        elif side.certificate is None or side.key is None:
            missing = "cert-file" if side.certificate is None else "key-file"
            yield f"{spellings(settings)} is given without --{p}{missing}", f"give --{p}{missing}", settings
        yield from _dialling_pair(situation, side)


def _dialling_pair(situation: Situation, side: TLSSide) -> Iterator[Problem]:
    p = prefix(side.side)
    pair = (f"{p}client-cert-file", f"{p}client-key-file")
    given = situation.settings(*pair)
    if len([setting for setting in given if setting.value]) == 1:
        yield f"{spellings(given)} is given alone", f"give both --{pair[0]} and --{pair[1]}", given


def _names(situation: Situation) -> Iterator[Problem]:
    for side in situation.sides():
        if side.allowed_cn and side.allowed_hostname and situation.secure(side.side):
            given = situation.settings(f"{side.side}-cert-allowed-cn", f"{side.side}-cert-allowed-hostname")
            yield f"{spellings(given)} exclude each other", "give one of them", given


def _addresses(situation: Situation) -> Iterator[Problem]:
    declared = declared_listeners(situation.seen)
    for listener in declared:
        problem = bind_problem(listener.url)
        if problem and listener.setting:
            yield problem, f"write an address in --{FLAGS[listener.role]}", (listener.setting,)
    ports = {listener.url.address for listener in declared if listener.role is Role.CLIENT_HTTP}
    shared = [found for found in declared if found.role is Role.CLIENT and found.url.address in ports]
    if shared:
        given = situation.settings(FLAGS[Role.CLIENT], FLAGS[Role.CLIENT_HTTP])
        yield f"{shared[0].url} is listed in both {spellings(given)}", "give HTTP a port of its own", given


def _advertised(situation: Situation) -> Iterator[Problem]:
    setting = situation.seen.settings.get(FLAGS[Role.CLIENT])
    if (
        setting is not None
        and setting.via is not Via.KEY
        and not situation.seen.text("advertise-client-urls")
    ):
        yield (
            f"{setting.spelled} is given without --advertise-client-urls",
            "give --advertise-client-urls",
            (setting,),
        )


def _tls_versions(situation: Situation) -> Iterator[Problem]:
    given = situation.settings("tls-min-version", "tls-max-version")
    for setting in given:
        if setting.value and setting.value not in _TLS_VERSIONS:
            yield f"{setting.written} is not a version", f"write {' or '.join(_TLS_VERSIONS)}", (setting,)
    minimum, maximum = situation.seen.text("tls-min-version"), situation.seen.text("tls-max-version")
    if (minimum, maximum) == ("TLS1.3", "TLS1.2"):
        yield "the lowest TLS version is above the highest", "turn them round", given


def _suites(situation: Situation) -> Iterator[Problem]:
    suites = situation.seen.words("cipher-suites")
    if not suites:
        return
    given = situation.settings("cipher-suites", "tls-min-version")
    if situation.seen.text("tls-min-version") == "TLS1.3":
        yield "--cipher-suites do not go with TLS 1.3 alone, whose suites Go decides", "remove them", given
    elif situation.secure("client") and not _NEEDED_BY_HTTP2.intersection(suites):
        yield (
            f"{given[0].written} lacks a suite that HTTP/2 needs",
            f"add {' or '.join(sorted(_NEEDED_BY_HTTP2))}",
            given,
        )


def _renamed(situation: Situation) -> Iterator[Problem]:
    """In 3.6 a flag and its old name, with ``experimental-`` in front, exclude each other."""
    if version_key(situation.version)[:2] != (3, 6):
        return
    for name in situation.seen.settings:
        if f"experimental-{name}" in situation.seen.settings:
            given = situation.settings(name, f"experimental-{name}")
            yield f"{spellings(given)} are two names of one flag", f"keep {given[0].spelled}", given


_RULES: tuple[Callable[[Situation], Iterator[Problem]], ...] = (
    _certificates,
    _names,
    _addresses,
    _advertised,
    _tls_versions,
    _suites,
    _renamed,
)
