"""What a listener makes of protocol names in ALPN, in each TLS version that it offers.

In TLS 1.2 its hello tells; in TLS 1.3 the answer is encrypted, so a handshake is made, without a certificate:
it is over on our side before the server asks for one.
"""

from __future__ import annotations

from dataclasses import replace

from pytest_etcdtls.errors import InconclusiveError
from pytest_etcdtls.observations.attempt import Attempt, Protocol, Stage, TLSVersion, Way
from pytest_etcdtls.observations.listener import Answer
from pytest_etcdtls.observations.protocol import AlpnChoice, AlpnChoices
from pytest_etcdtls.probes.contact import listener_of, tls_answer, version_path
from pytest_etcdtls.probes.registry import Context, Request, probe
from pytest_etcdtls.probes.versions import KNOWN_ALPN, PlainHello, need_answer, plain_hello

UNKNOWN_ALPN = ("etcdtls-unknown",)
_OFFERS = {"known": KNOWN_ALPN, "unknown": UNKNOWN_ALPN}


@probe(AlpnChoices, cost=2, needs=[(Answer, None), (PlainHello, str(TLSVersion.TLS1_2))])
def _alpn(context: Context, key: str | None) -> AlpnChoices:
    listener, names = listener_of(context), _OFFERS[str(key)]
    of_version = {TLSVersion.TLS1_2: _in_tls12, TLSVersion.TLS1_3: _in_tls13}
    choices = tuple(of_version[version](context, names) for version in tls_answer(context).offered)
    return AlpnChoices(url=listener.url, role=listener.role, offered=names, choices=choices)


def _in_tls12(context: Context, names: tuple[str, ...]) -> AlpnChoice:
    version = TLSVersion.TLS1_2
    if names == KNOWN_ALPN:
        greeting = context.get(PlainHello, str(version)).greeting
    else:
        hello = plain_hello(version, f"ALPN {', '.join(names)}")
        greeting = need_answer(context.greet(replace(hello, alpn=names))[0])
    hello_back = greeting.server_hello
    return AlpnChoice(version=version, selected=hello_back.alpn if hello_back else "", alert=greeting.alert)


def _in_tls13(context: Context, names: tuple[str, ...]) -> AlpnChoice:
    listener = listener_of(context)
    request = Request(
        purpose=f"ALPN {', '.join(names)}",
        version=TLSVersion.TLS1_3,
        speech=Protocol.HTTP2 if names == KNOWN_ALPN else Protocol.HTTP1,
        path=version_path(listener.role),
        alpn=names,
    )
    attempt = context.attempt(request)[0][-1]
    if attempt.version is None and attempt.alert is None:
        raise InconclusiveError(f"{listener.url}: {request.purpose}: {attempt.describe()}")
    return AlpnChoice(version=TLSVersion.TLS1_3, selected=attempt.alpn, alert=_refusal(attempt))


def _refusal(attempt: Attempt) -> int | None:
    """Return the alert of a handshake that did not finish: one that comes later is about the certificate."""
    return attempt.alert if attempt.stage is Stage.HANDSHAKE and attempt.way is not Way.SERVED else None
