"""Features of a connection: renegotiation, early data and ALPN."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Annotated, Any

from pytest_etcdtls.facts.protocol import AlpnChoice, AlpnChoices
from pytest_etcdtls.registry import EVERY_LISTENER, check
from pytest_etcdtls.reproduce import GET_VERSION, s_client
from pytest_etcdtls.results import CannotJudge, Finding, Note, Outcome, Statement
from pytest_etcdtls.role import Role, TLSVersion
from pytest_etcdtls.tls.attempt import Renegotiation, SessionTickets, Ticket, alert_text


def _made(renegotiation: Renegotiation) -> Mapping[str, Any]:
    attempt = renegotiation.attempt
    assert attempt is not None  # noqa: S101 - the conforming sample has one
    made = replace(renegotiation, announced=False, attempt=replace(attempt, renegotiated=True))
    return {"renegotiation": made}


@check("tls.renegotiation", on=EVERY_LISTENER, counterexample=_made)
def there_is_no_renegotiation(renegotiation: Renegotiation) -> Iterator[Statement]:
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
            message="the listener does not know secure renegotiation",
            expected="the extension renegotiation_info in its hello",
            observed="a hello without it",
            reproduce=(s_client(renegotiation.url, TLSVersion.TLS1_2, look='"Secure Renegotiation"'),),
        )
    attempt = renegotiation.attempt
    if attempt is None:
        yield CannotJudge(Outcome.NOT_VERIFIED, renegotiation.unasked)
    elif attempt.renegotiated:
        yield Finding(
            message="a client can renegotiate",
            expected="an alert to the second hello",
            observed="a second handshake",
            reproduce=(
                s_client(
                    renegotiation.url,
                    TLSVersion.TLS1_2,
                    files=renegotiation.files,
                    typed="echo R",
                    look='"RENEGOTIATING" and no "no renegotiation" behind it',
                ),
            ),
        )
    elif attempt.version is None:
        yield CannotJudge(Outcome.INCONCLUSIVE, f"{attempt.purpose}: {attempt.describe()}")


def _invited(tickets: SessionTickets) -> Mapping[str, Any]:
    return {"tickets": replace(tickets, tickets=(Ticket(lifetime=7200, max_early_data=16384),))}


@check("tls.early-data", on=EVERY_LISTENER, counterexample=_invited)
def early_data_is_not_accepted(tickets: SessionTickets) -> Iterator[Statement]:
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
                    tickets.url,
                    TLSVersion.TLS1_3,
                    "-sess_out session.pem",
                    tickets.files,
                    GET_VERSION,
                    look='"Max Early Data": 0 means that none is allowed',
                ),
                "openssl sess_id -in session.pem -noout -text | grep 'Max Early Data'",
            ),
        )


_NO_APPLICATION_PROTOCOL = 120


def _chosen(alpn: AlpnChoices, selected: str) -> Mapping[str, Any]:
    choices = tuple(replace(choice, selected=selected, alert=None) for choice in alpn.choices)
    return {"alpn": replace(alpn, choices=choices)}


def _show(choice: AlpnChoice) -> str:
    if choice.alert is not None:
        return f"{choice.version}: alert {alert_text(choice.alert)}"
    return f"{choice.version}: {choice.selected or 'no protocol selected'}"


def _line(alpn: AlpnChoices, choice: AlpnChoice) -> str:
    return s_client(alpn.url, choice.version, f"-alpn {','.join(alpn.offered)}", look='"ALPN"')


@check("tls.alpn-h2", on=frozenset({Role.CLIENT}), counterexample=lambda alpn: _chosen(alpn, "http/1.1"))
def http2_is_selected(alpn: Annotated[AlpnChoices, "known"]) -> Iterator[Statement]:
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
                reproduce=(_line(alpn, choice),),
            )


@check("tls.alpn-unknown-refused", on=EVERY_LISTENER, counterexample=lambda alpn: _chosen(alpn, ""))
def an_unknown_protocol_is_refused(alpn: Annotated[AlpnChoices, "unknown"]) -> Iterator[Statement]:
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
                reproduce=(_line(alpn, choice),),
            )
        elif choice.alert != _NO_APPLICATION_PROTOCOL:
            yield CannotJudge(Outcome.INCONCLUSIVE, f"unknown protocols in {_show(choice)}")
