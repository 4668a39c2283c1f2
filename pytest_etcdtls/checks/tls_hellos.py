"""Hellos that are odd in one point, and connections on which none is sent."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Annotated, Any

from pytest_etcdtls.observations.attempt import TLSVersion
from pytest_etcdtls.observations.greeting import Reply
from pytest_etcdtls.observations.protocol import OddHello, SilentConnection
from pytest_etcdtls.registry import EVERY_LISTENER, check
from pytest_etcdtls.reproduce import look_for, s_client
from pytest_etcdtls.results import Finding, Note, Outcome, Statement, Verdict


def _deflated(variant: OddHello) -> Mapping[str, Any]:
    hello = variant.plain.server_hello
    assert hello is not None  # noqa: S101 - the conforming sample has one
    return {
        "variant": replace(variant, odd=replace(variant.plain, server_hello=replace(hello, compression=1)))
    }


@check("tls.compression", on=EVERY_LISTENER, counterexample=_deflated)
def nothing_is_compressed(variant: Annotated[OddHello, "compression"]) -> Iterator[Statement]:
    """Compression is not selected when a client offers it.

    The length of what is compressed tells about its content (CRIME); etcd's own values would leak that way.

    Spec: RFC 9325 section 3.3
    Spec: CVE-2012-4929
    Severity: high
    Level: MUST
    Remediation: let etcd itself terminate TLS on this port, which never compresses.
    """
    hello = variant.odd.server_hello
    if hello is None:
        yield Note(f"a hello that offers compression is refused: {variant.odd.describe()}")
    elif hello.compression:
        yield Finding(
            message="TLS compression is selected",
            expected="compression method 0, none",
            observed=f"compression method {hello.compression}",
            reproduce=(s_client(variant.url, TLSVersion.TLS1_2, "-comp", look='"Compression"'),),
        )


def _intolerant(variant: OddHello) -> Mapping[str, Any]:
    odd = replace(variant.odd, reply=Reply.ALERT, alert=47, server_hello=None)
    return {"variant": replace(variant, odd=odd)}


@check("tls.unknown-extensions-tolerated", on=EVERY_LISTENER, counterexample=_intolerant)
def unknown_values_are_tolerated(variant: Annotated[OddHello, "unknown-values"]) -> Iterator[Statement]:
    """Unknown extensions, suites, groups and versions in a hello are ignored.

    A listener that stumbles over them locks out the clients of tomorrow.

    Spec: RFC 8701 section 3
    Spec: RFC 8446 section 4.1.2
    Severity: low
    Level: MUST
    Remediation: let etcd itself terminate TLS on this port, or update what does.
    """
    if variant.odd.reply is not Reply.SERVER_HELLO:
        yield Finding(
            message="a hello with values that the listener cannot know is refused",
            expected=f"as without them: {variant.plain.describe()}",
            observed=variant.odd.describe(),
            evidence={"version": str(variant.version)},
        )


def _still_open(silence: SilentConnection) -> Mapping[str, Any]:
    greeting = replace(silence.greeting, reply=Reply.SILENCE, detail="nothing came in time")
    return {"silence": replace(silence, greeting=greeting)}


@check("tls.stalled-handshake", on=EVERY_LISTENER, counterexample=_still_open, opt_in=True)
def a_silent_connection_is_ended(silence: SilentConnection) -> Iterator[Statement]:
    """A connection on which nothing is sent is ended.

    Everybody who reaches the port, with no certificate at all, could otherwise use up the server's file
    descriptors with connections that never begin a handshake. etcd ends them after ten seconds since 3.5.33,
    3.6.14 and 3.7.1, on peer ports after five in every version, and not on the gRPC port of a set-up with
    --listen-client-http-urls. The check waits for twenty.

    Spec: GHSA-6vch-q96h-7gc3
    Spec: etcd THREAT_MODEL.md, Client-to-Server Boundary
    Severity: medium
    Level: SHOULD
    Remediation: use etcd 3.5.33, 3.6.14, 3.7.1 or newer, and let a firewall bound who reaches the port.
    """
    greeting = silence.greeting
    if not greeting.local_address:
        yield Verdict(Outcome.INCONCLUSIVE, f"{silence.url}: {greeting.describe()}")
    elif greeting.reply is Reply.SILENCE:
        authority = silence.url.partition("://")[2]
        yield Finding(
            message="a connection on which nothing is sent stays open",
            expected="the server ends it",
            observed=f"still open after {silence.patience:.0f} seconds",
            reproduce=(
                look_for(
                    f"time timeout 30 curl -sS telnet://{authority}",
                    '"real": 30 s means that the connection was not ended',
                ),
            ),
        )
