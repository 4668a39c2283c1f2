"""What is possible on a connection beyond the first handshake: renegotiation and early data."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from pytest_etcdtls.observations.attempt import TLSVersion
from pytest_etcdtls.observations.session import Renegotiation, SessionTickets, Ticket
from pytest_etcdtls.registry import EVERY_LISTENER, check
from pytest_etcdtls.reproduce import GET_VERSION, s_client
from pytest_etcdtls.results import Finding, Note, Outcome, Statement, Verdict


def _made(renegotiation: Renegotiation) -> Mapping[str, Any]:
    attempt = renegotiation.attempt
    assert attempt is not None  # noqa: S101 - the conforming sample has one
    made = replace(renegotiation, announced=False, attempt=replace(attempt, renegotiated=True))
    return {"renegotiation": made}


@check("tls.renegotiation", on=EVERY_LISTENER, counterexample=_made)
def there_is_no_renegotiation(renegotiation: Renegotiation) -> Iterator[Statement]:
    """A client cannot renegotiate, and the listener knows secure renegotiation.

    A second handshake on a connection costs the server much and the client little. Without the extension of
    RFC 5746 somebody in between could put words before those of the client.

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
        yield Verdict(Outcome.NOT_VERIFIED, renegotiation.unasked)
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
        yield Verdict(Outcome.INCONCLUSIVE, f"{attempt.purpose}: {attempt.describe()}")


def _invited(tickets: SessionTickets) -> Mapping[str, Any]:
    return {"tickets": replace(tickets, tickets=(Ticket(lifetime=7200, max_early_data=16384),))}


@check("tls.early-data", on=EVERY_LISTENER, counterexample=_invited)
def early_data_is_not_accepted(tickets: SessionTickets) -> Iterator[Statement]:
    """No session ticket allows early data.

    A request that is sent before the handshake can be recorded and sent again by anybody: a write would
    happen twice.

    Spec: RFC 8446 section 8
    Spec: RFC 8470 section 3
    Severity: high
    Level: MUST
    Remediation: let etcd itself terminate TLS on this port, which never accepts early data.
    """
    if not tickets.tickets:
        yield Note("no session ticket is given out")
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
