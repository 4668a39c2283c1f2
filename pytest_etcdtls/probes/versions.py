"""Hellos of old protocol versions, hellos that are odd in one point, and a connection that stays silent."""

from __future__ import annotations

from dataclasses import dataclass, replace

from pytest_etcdtls.errors import InconclusiveError, NotApplicableError, NotVerifiedError
from pytest_etcdtls.observations.attempt import TLSVersion
from pytest_etcdtls.observations.cipher_suites import FALLBACK_SCSV, SUITES, TLS13_SUITES
from pytest_etcdtls.observations.greeting import SSL3, TLS1_0, TLS1_1, TLS1_2, TLS1_3, Greeting, Hello, Reply
from pytest_etcdtls.observations.greeting import version_name as name_of
from pytest_etcdtls.observations.listener import Answer
from pytest_etcdtls.observations.protocol import NewestVersion, OddHello, OldVersions, SilentConnection
from pytest_etcdtls.probes.contact import listener_of, tls_answer
from pytest_etcdtls.probes.registry import Context, probe

EVERY_SUITE = tuple(suite.code for suite in SUITES)
KNOWN_ALPN = ("h2", "http/1.1")

_NUMBERS = {TLSVersion.TLS1_2: TLS1_2, TLSVersion.TLS1_3: TLS1_3}
_PATIENCE = 20.0
"""Seconds; etcd ends a silent connection after 10, grpc-go after 120 if at all."""


def plain_hello(version: TLSVersion, purpose: str) -> Hello:
    """Return a hello of that version as any client sends it."""
    return Hello(
        purpose=purpose,
        version=_NUMBERS[version],
        suites=TLS13_SUITES if version is TLSVersion.TLS1_3 else EVERY_SUITE,
        alpn=KNOWN_ALPN,
    )


def need_answer(greeting: Greeting) -> Greeting:
    """Return the greeting if the server answered.

    Raises:
        InconclusiveError: if it did not.
    """
    if not greeting.answered:
        raise InconclusiveError(f"{greeting.url}: {greeting.purpose}: {greeting.describe()}")
    return greeting


@probe(NewestVersion, cost=0, needs=[(Answer, None)])
def _newest(context: Context, key: str | None) -> NewestVersion:
    listener, answer = listener_of(context), tls_answer(context)
    return NewestVersion(
        url=listener.url,
        role=listener.role,
        offered=TLSVersion.TLS1_3 in answer.offered,
        attempt=next(attempt for attempt in answer.tls if attempt.asked is TLSVersion.TLS1_3),
    )


@probe(OldVersions, cost=3, needs=[(Answer, None)])
def _old(context: Context, key: str | None) -> OldVersions:
    listener = listener_of(context)
    tls_answer(context)
    hellos = [
        Hello(purpose=f"hello of {name_of(version)} only", version=version, suites=EVERY_SUITE)
        for version in (SSL3, TLS1_0, TLS1_1)
    ]
    return OldVersions(url=listener.url, role=listener.role, greetings=tuple(context.greet(*hellos)))


@dataclass(frozen=True, slots=True)
class PlainHello:
    """What came back for a hello as any client sends it; the key is the TLS version."""

    greeting: Greeting


@probe(PlainHello, cost=1, needs=[(Answer, None)])
def _plain(context: Context, key: str | None) -> PlainHello:
    version = TLSVersion(str(key))
    if version not in tls_answer(context).offered:
        raise NotApplicableError(f"{listener_of(context).url} does not offer {version}")
    greeting = need_answer(context.greet(plain_hello(version, f"plain hello of {version}"))[0])
    if greeting.reply is not Reply.SERVER_HELLO:
        raise NotVerifiedError(f"a plain hello of {version} is refused: {greeting.describe()}")
    return PlainHello(greeting)


@probe(OddHello, cost=1, needs=[(Answer, None), *((PlainHello, str(version)) for version in TLSVersion)])
def _variant(context: Context, key: str | None) -> OddHello:
    listener, offered = listener_of(context), tls_answer(context).offered
    if key == "unknown-values":
        version = offered[-1]
        hello = replace(plain_hello(version, "hello with unknown values"), grease=True)
    elif key == "compression":
        version = TLSVersion.TLS1_2
        hello = replace(plain_hello(version, "hello with compression"), compression=(1, 64, 0))
    else:
        version = TLSVersion.TLS1_2
        if TLSVersion.TLS1_3 not in offered:
            raise NotApplicableError(
                f"{listener.url} offers one version only: there is nothing to fall back from"
            )
        hello = plain_hello(version, "hello that signals a fallback")
        hello = replace(hello, suites=(*hello.suites, FALLBACK_SCSV))
    plain = context.get(PlainHello, str(version)).greeting
    odd = need_answer(context.greet(hello)[0])
    return OddHello(url=listener.url, role=listener.role, version=version, plain=plain, odd=odd)


@probe(SilentConnection, cost=1, needs=[(Answer, None)])
def _silence(context: Context, key: str | None) -> SilentConnection:
    listener = listener_of(context)
    tls_answer(context)
    greeting = context.keep_silent("connection on which nothing is sent", _PATIENCE)
    return SilentConnection(url=listener.url, role=listener.role, patience=_PATIENCE, greeting=greeting)
