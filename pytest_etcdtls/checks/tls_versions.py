"""Protocol versions, the fallback signal, unusual ClientHellos, and features of a connection."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from msgspec.structs import replace

from pytest_etcdtls.checks.judgement import changed
from pytest_etcdtls.checks.registry import EVERY_LISTENER, check
from pytest_etcdtls.checks.results import Finding, Note, Statement, inconclusive, not_verified
from pytest_etcdtls.declared.cures import without
from pytest_etcdtls.facts.listener import PROTOCOL_VERSION, FirstContact, Policy, TLSContact
from pytest_etcdtls.facts.protocol import (
    AlpnChoice,
    AlpnChoices,
    OldVersions,
    SilentConnection,
    UnusualClientHello,
)
from pytest_etcdtls.facts.sessions import Renegotiation, SessionTickets
from pytest_etcdtls.pki.thresholds import Thresholds
from pytest_etcdtls.role import Role, TLSVersion
from pytest_etcdtls.target import Listener
from pytest_etcdtls.tls.attempt import Ending, Phase, Ticket, alert_text
from pytest_etcdtls.tls.command import GET_VERSION, GOOD_CLIENT, Command, s_client, send_nothing
from pytest_etcdtls.tls.hello import TLS1_0, Reply, ServerHello

_INAPPROPRIATE_FALLBACK = 86  # RFC 7507 section 4
_X25519 = 29  # RFC 8446 section 4.2.7
_S_CLIENT_FLAGS = {"TLSv1.0": "-tls1", "TLSv1.1": "-tls1_1"}


_tls10_accepted = changed(
    "old.exchanges.1",
    reply=Reply.SERVER_HELLO,
    server_hello=ServerHello(version=TLS1_0, suite=0x002F),
    alert=None,
)


@check("tls.version-floor", on=EVERY_LISTENER, counterexample=_tls10_accepted)
def no_version_below_tls12_is_accepted(
    here: Listener, old: OldVersions, contact: FirstContact, policy: Policy
) -> Iterator[Statement]:
    """No protocol version below TLS 1.2 is accepted, and none that a profile excludes.

    SSL 3.0, TLS 1.0 and TLS 1.1 rely on MD5 and SHA-1 and have known attacks. etcd has never supported them,
    so a proxy in front of it does.

    Spec: RFC 8996 sections 4, 5
    Spec: RFC 7568 section 3
    Spec: etcd --tls-min-version
    Severity: high
    Level: MUST
    Remediation: let etcd itself terminate TLS on this port, or set the minimum of the proxy that does to TLS
        1.2; etcd's own is --tls-min-version, TLS1.2 unless set to TLS1.3.
    """
    supported = [exchange for exchange in old.exchanges if exchange.reply is Reply.SERVER_HELLO]
    if supported:
        lines = (
            s_client(here.url, options=f"{_S_CLIENT_FLAGS[exchange.offered]} -cipher ALL:@SECLEVEL=0")
            for exchange in supported
            if exchange.offered in _S_CLIENT_FLAGS
        )
        yield Finding(
            message=f"{', '.join(exchange.offered for exchange in supported)} is accepted",
            expected="the alert 70 protocol_version",
            observed="; ".join(f"{exchange.offered}: {exchange.describe()}" for exchange in supported),
            reproduce=tuple(lines),
        )
    yield from _excluded(here, contact, policy.of("tls.version-floor"))
    for exchange in old.exchanges:
        if not exchange.answered:
            yield inconclusive(f"{exchange.offered}: {exchange.describe()}")


def _excluded(here: Listener, contact: FirstContact, thresholds: Thresholds) -> Iterator[Statement]:
    """Yield a finding for each of the current versions that is accepted and that no profile allows."""
    allowed = thresholds.tls_versions
    for attempt in contact.tls if allowed is not None else ():
        version = attempt.offered_version
        if allowed is None or version is None or version in allowed or version not in contact.offered:
            continue
        if attempt.ending is Ending.UNCLEAR:
            yield inconclusive(f"{version}: {attempt.describe()}")
            continue
        flag, value = _TO_EXCLUDE[version]
        yield Finding(
            message=f"{version} is accepted, which the profile does not allow",
            expected=f"{', '.join(sorted(allowed))} alone{thresholds.source('tls_versions')}",
            observed=f"the version is accepted; a client without a certificate: {attempt.describe()}",
            reproduce=(s_client(here.url, version),),
            remediation=f"set {flag}={value}; it is for every TLS listener of the member",
        )


_TO_EXCLUDE = {
    TLSVersion.TLS1_2: ("--tls-min-version", "TLS1.3"),
    TLSVersion.TLS1_3: ("--tls-max-version", "TLS1.2"),
}


_tls13_refused = changed(
    "contact.tls.1", ending=Ending.OTHER, phase=Phase.HANDSHAKE, alert=PROTOCOL_VERSION, version=None
)


@check("tls.tls13-offered", on=EVERY_LISTENER, counterexample=_tls13_refused, cure=without("tls-max-version"))
def tls13_is_offered(here: Listener, contact: TLSContact) -> Iterator[Statement]:
    """TLS 1.3 is supported.

    Without it connections have neither encrypted certificates nor post-quantum key exchange, and may use weak
    cipher suites. etcd 3.5.0 to 3.5.7 limit the maximum to TLS 1.2.

    Spec: RFC 8446 section 1.2
    Spec: etcd --tls-max-version
    Severity: low
    Level: SHOULD
    Remediation: leave --tls-max-version unset or set it to TLS1.3, and use etcd 3.4.25, 3.5.8 or newer.
    """
    attempt = next(attempt for attempt in contact.tls if attempt.offered_version is TLSVersion.TLS1_3)
    if TLSVersion.TLS1_3 not in contact.offered:
        yield Finding(
            message="TLS 1.3 is not offered",
            expected="a handshake in TLS 1.3",
            observed=attempt.describe(),
            reproduce=(s_client(here.url, TLSVersion.TLS1_3),),
        )
    elif attempt.ending is Ending.UNCLEAR:
        yield inconclusive(f"TLSv1.3: {attempt.describe()}")


def _ignored(variant: UnusualClientHello, **_: object) -> Mapping[str, Any]:
    return {"variant": replace(variant, unusual=variant.plain)}


@check("tls.fallback-signal", on=EVERY_LISTENER, counterexample=_ignored)
def the_fallback_signal_is_honoured(
    here: Listener, variant: Annotated[UnusualClientHello, "fallback"]
) -> Iterator[Statement]:
    """A TLS 1.2 ClientHello with TLS_FALLBACK_SCSV is refused if TLS 1.3 is supported.

    An attacker who can drop packets can otherwise make a client that retries with older versions use the
    older one.

    Spec: RFC 7507 section 3
    Severity: low
    Level: SHOULD
    Remediation: let etcd itself terminate TLS on this port; the current TLS server ignores TLS_FALLBACK_SCSV.
    """
    exchange = variant.unusual
    if exchange.reply is Reply.SERVER_HELLO:
        yield Finding(
            message="TLS_FALLBACK_SCSV is ignored",
            expected="the alert 86 inappropriate_fallback",
            observed=exchange.describe(),
            reproduce=(s_client(here.url, TLSVersion.TLS1_2, "-fallback_scsv"),),
        )
    elif exchange.alert != _INAPPROPRIATE_FALLBACK:
        yield inconclusive(f"{exchange.purpose}: {exchange.describe()}, without the signal accepted")


def _answered_with(variant: UnusualClientHello, **changes: Any) -> Mapping[str, Any]:  # noqa: ANN401
    hello = variant.plain.server_hello
    assert hello is not None  # noqa: S101 - the recorded one has it
    answer = replace(variant.plain, server_hello=replace(hello, **changes))
    return {"variant": replace(variant, unusual=answer)}


@check(
    "tls.compression",
    on=EVERY_LISTENER,
    counterexample=lambda variant, **_: _answered_with(variant, compression=1),
)
def nothing_is_compressed(
    here: Listener, variant: Annotated[UnusualClientHello, "compression"]
) -> Iterator[Statement]:
    """Compression is not selected when a client offers it.

    The length of compressed data discloses its content (CRIME), including etcd's values.

    Spec: RFC 9325 section 3.3
    Spec: CVE-2012-4929
    Severity: high
    Level: MUST
    Remediation: let etcd itself terminate TLS on this port, which never compresses.
    """
    hello = variant.unusual.server_hello
    if hello is None:
        yield Note(f"a hello that offers compression is refused: {variant.unusual.describe()}")
    elif hello.compression:
        yield Finding(
            message="TLS compression is selected",
            expected="compression method 0, none",
            observed=f"compression method {hello.compression}",
            reproduce=(s_client(here.url, TLSVersion.TLS1_2, "-comp", look='"Compression"'),),
        )


@check(
    "tls.sha1-signature",
    on=EVERY_LISTENER,
    counterexample=lambda variant, **_: _answered_with(variant, group=_X25519),
)
def no_handshake_is_signed_with_sha1(
    here: Listener, variant: Annotated[UnusualClientHello, "sha1-signatures"]
) -> Iterator[Statement]:
    """A client that accepts only SHA-1 signatures gets no TLS 1.2 handshake.

    SHA-1 collisions are practical: an attacker who can compute them in time can impersonate the server to a
    client that accepts them. Go up to 1.24 signs with SHA-1 by default; TLS 1.3 never does.

    Spec: RFC 9155 section 4
    Spec: Go 1.25 release notes, crypto/tls (GODEBUG tlssha1)
    Severity: low
    Level: SHOULD
    Remediation: run an etcd that was built with Go 1.25 or newer, or set --tls-min-version=TLS1.3.
    """
    hello = variant.unusual.server_hello
    if hello is None:
        yield Note(f"a hello with SHA-1 signatures alone is refused: {variant.unusual.describe()}")
    elif hello.group is not None:
        yield Finding(
            message="the key exchange is signed with SHA-1 if a client offers nothing else",
            expected="the alert 40 handshake_failure",
            observed=variant.unusual.describe(),
            reproduce=(
                s_client(
                    here.url,
                    TLSVersion.TLS1_2,
                    "-sigalgs ECDSA+SHA1:RSA+SHA1 -cipher ALL:@SECLEVEL=0",
                    look='"Peer signing digest: SHA1"',
                ),
            ),
        )


_TOLERATED = (
    '"alert" or "(NONE)": the unknown extension 64250 is refused; "Cipher is": this one alone is tolerated'
)


_intolerant = changed("variant.unusual", reply=Reply.ALERT, alert=47, server_hello=None)


@check("tls.unknown-extensions-tolerated", on=EVERY_LISTENER, counterexample=_intolerant)
def unknown_values_are_tolerated(
    here: Listener,
    variant: Annotated[UnusualClientHello, "unknown-values"],
) -> Iterator[Statement]:
    """Unknown extensions, suites, groups and versions in a ClientHello are ignored.

    Otherwise clients that offer newer extensions or versions cannot connect.

    Spec: RFC 8701 section 3
    Spec: RFC 8446 section 4.1.2
    Severity: low
    Level: MUST
    Remediation: let etcd itself terminate TLS on this port, or update the proxy that does.
    """
    if variant.unusual.reply is not Reply.SERVER_HELLO:
        yield Finding(
            message="a hello with values that the listener cannot know is refused",
            expected=f"as without them: {variant.plain.describe()}",
            observed=variant.unusual.describe(),
            evidence={"version": str(variant.version)},
            reproduce=(s_client(here.url, variant.version, "-serverinfo 64250", look=_TOLERATED),),
        )


_still_open = changed("silence.exchange", reply=Reply.SILENCE, detail="no data arrived in time")


@check("tls.stalled-handshake", on=EVERY_LISTENER, counterexample=_still_open, opt_in=True)
def a_silent_connection_is_ended(here: Listener, silence: SilentConnection) -> Iterator[Statement]:
    """A connection on which the client sends nothing is closed.

    Any client that reaches the port, without a certificate, can otherwise exhaust the server's file
    descriptors with connections that never begin a handshake. etcd closes them after ten seconds since
    3.5.33, 3.6.14 and 3.7.1, on peer ports after five seconds in every version, and does not on the gRPC port
    if --listen-client-http-urls is set. The check waits for twenty seconds.

    Spec: GHSA-6vch-q96h-7gc3
    Spec: etcd THREAT_MODEL.md, Client-to-Server Boundary
    Severity: medium
    Level: SHOULD
    Remediation: use etcd 3.5.33, 3.6.14, 3.7.1 or newer, and restrict access to the port with a firewall.
    """
    exchange = silence.exchange
    if not exchange.local_address:
        yield inconclusive(f"{here.url}: {exchange.describe()}")
    elif exchange.reply is Reply.SILENCE:
        yield Finding(
            message="a connection on which nothing is sent stays open",
            expected="the server ends it",
            observed=f"still open after {silence.patience:.0f} seconds",
            reproduce=(send_nothing(here.url, '"real": 30 s means that the connection was not ended'),),
        )


_made = changed("renegotiation.attempt", renegotiated=True)


@check("tls.renegotiation", on=EVERY_LISTENER, counterexample=_made)
def renegotiation_is_refused(here: Listener, renegotiation: Renegotiation) -> Iterator[Statement]:
    """Renegotiation is refused, and secure renegotiation is supported.

    A handshake costs the server much more than the client, so repeated handshakes can exhaust it. Without the
    extension of RFC 5746 an attacker in the middle can insert data before the client's.

    Spec: RFC 5746 section 3.6
    Spec: RFC 9325 section 3.5
    Severity: medium
    Level: MUST
    Remediation: let etcd itself terminate TLS on this port, which refuses renegotiation.
    """
    if not renegotiation.announced:
        yield Finding(
            message="the listener does not support secure renegotiation",
            expected="the extension renegotiation_info in its hello",
            observed="a hello without it",
            reproduce=(s_client(here.url, TLSVersion.TLS1_2, look='"Secure Renegotiation"'),),
        )
    attempt = renegotiation.attempt
    if attempt is None:
        yield not_verified(renegotiation.not_requested)
    elif attempt.renegotiated:
        yield Finding(
            message="a client can renegotiate",
            expected="an alert to the second hello",
            observed="a second handshake",
            reproduce=(
                s_client(
                    here.url,
                    TLSVersion.TLS1_2,
                    client=GOOD_CLIENT,
                    typed="echo R",
                    look='"RENEGOTIATING" and no "no renegotiation" behind it',
                ),
            ),
        )
    elif attempt.version is None:
        yield inconclusive(f"{attempt.purpose}: {attempt.describe()}")


_invited = changed("tickets", tickets=(Ticket(lifetime=7200, max_early_data=16384),))


@check("tls.early-data", on=EVERY_LISTENER, counterexample=_invited)
def early_data_is_not_accepted(here: Listener, tickets: SessionTickets) -> Iterator[Statement]:
    """No session ticket allows early data.

    A request in early data can be recorded and sent again by an attacker, so that a write happens twice.

    Spec: RFC 8446 section 8
    Spec: RFC 8470 section 3
    Severity: high
    Level: MUST
    Remediation: let etcd itself terminate TLS on this port, which never accepts early data.
    """
    if not tickets.tickets:
        yield Note("the server issues no session ticket")
    if most := max((ticket.max_early_data for ticket in tickets.tickets), default=0):
        yield Finding(
            message="session tickets allow early data",
            expected="tickets without the extension early_data",
            observed=f"up to {most} octets of early data",
            reproduce=(
                s_client(
                    here.url,
                    TLSVersion.TLS1_3,
                    "-sess_out session.pem",
                    GOOD_CLIENT,
                    GET_VERSION,
                    look='"Max Early Data": 0 means that none is allowed',
                ),
            ),
        )


_NO_APPLICATION_PROTOCOL = 120  # RFC 7301 section 3.2


def _show(choice: AlpnChoice) -> str:
    if choice.alert is not None:
        return f"{choice.version}: alert {alert_text(choice.alert)}"
    return f"{choice.version}: {choice.selected or 'no protocol selected'}"


def _line(here: Listener, alpn: AlpnChoices, choice: AlpnChoice) -> Command:
    return s_client(here.url, choice.version, f"-alpn {','.join(alpn.offered)}", look='"ALPN"')


@check(
    "tls.alpn-h2", on={Role.CLIENT}, counterexample=changed("alpn.choices.*", selected="http/1.1", alert=None)
)
def http2_is_selected(here: Listener, alpn: Annotated[AlpnChoices, "known"]) -> Iterator[Statement]:
    """A client that offers h2 and http/1.1 gets h2.

    gRPC needs HTTP/2, and current clients refuse a connection on which ALPN did not select it. A proxy that
    selects http/1.1, or nothing, breaks all of them.

    Spec: RFC 7301 section 3.2
    Spec: RFC 9113 section 3.2
    Severity: high
    Level: MUST
    Remediation: let the proxy that terminates TLS on this port pass TCP through to etcd, or enable h2 in it.
    """
    for choice in alpn.choices:
        if choice.selected != "h2":
            yield Finding(
                message=f"h2 is not selected in {choice.version}",
                expected="h2",
                observed=_show(choice),
                reproduce=(_line(here, alpn, choice),),
            )


@check(
    "tls.alpn-unknown-refused",
    on=EVERY_LISTENER,
    counterexample=changed("alpn.choices.*", selected="", alert=None),
)
def an_unknown_protocol_is_refused(
    here: Listener, alpn: Annotated[AlpnChoices, "unknown"]
) -> Iterator[Statement]:
    """A client that offers only unknown ALPN protocols is refused.

    An attacker can otherwise redirect a connection for another protocol to etcd (ALPACA). Go 1.17 and newer
    refuses it.

    Spec: RFC 7301 section 3.2
    Severity: low
    Level: SHOULD
    Remediation: use an etcd that is built with Go 1.17 or newer.
    """
    for choice in alpn.choices:
        if choice.alert is None:
            yield Finding(
                message=f"unknown protocols are ignored in {choice.version}",
                expected="the alert 120 no_application_protocol",
                observed=_show(choice),
                reproduce=(_line(here, alpn, choice),),
            )
        elif choice.alert != _NO_APPLICATION_PROTOCOL:
            yield inconclusive(f"unknown protocols in {_show(choice)}")
