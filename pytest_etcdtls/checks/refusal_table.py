"""The refusal table, which gives the outcome of an attempt with a bad identity.

The table is the one in ``docs/verdicts.md``. A row is how the bad identity's attempt ended, a column
how the same connection with a good identity did, because a server that refuses everybody has refused nobody
for a certificate. Only an alert about the certificate is a refusal by itself. A close_notify is one only for
identities that etcd itself closes after the handshake (client/pkg/transport/listener_tls.go, acceptLoop: a
revoked certificate, or by :func:`~pytest_etcdtls.facts.refusal.san_rule`), since a server that stops closes
every connection.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from msgspec import Struct

from pytest_etcdtls.checks.results import Outcome
from pytest_etcdtls.tls.attempt import Ending


class ControlState(StrEnum):
    """How the same connection with a good identity ended."""

    SERVED = "served"
    NONE_KNOWN = "none known"
    CLOSED = "closed"
    REFUSED = "refused"
    OTHER = "other"
    UNCLEAR = "unclear"


class Ruling(Struct, frozen=True):
    """An outcome and a note about it.

    Attributes:
        note: for the report, empty if the outcome needs none.
    """

    outcome: Outcome
    note: str = ""


_VIOLATES = Ruling(Outcome.VIOLATES)
_INCONCLUSIVE = Ruling(Outcome.INCONCLUSIVE, "the evidence is unclear")
_SAME_FOR_ALL = Ruling(Outcome.NOT_VERIFIED, "the same happens to the good client")
_REFUSED_AS_WELL = Ruling(Outcome.NOT_VERIFIED, "the good client is refused as well")

CLOSED_AFTER_SERVED = Ruling(
    Outcome.INCONCLUSIVE,
    "the connection was closed without an alert, which etcd does not do to this identity",
)
"""The ruling that depends on the identity: it is ``conforms`` for identities that etcd itself closes."""

TABLE: Mapping[tuple[Ending, ControlState], Ruling] = {
    **{(Ending.SERVED, state): _VIOLATES for state in ControlState},
    **{(Ending.UNCLEAR, state): _INCONCLUSIVE for state in ControlState},
    (Ending.REFUSED, ControlState.SERVED): Ruling(Outcome.CONFORMS),
    (Ending.REFUSED, ControlState.NONE_KNOWN): Ruling(Outcome.CONFORMS, "without control"),
    (Ending.REFUSED, ControlState.CLOSED): Ruling(
        Outcome.CONFORMS, "TLS accepted the good client, then etcd closed the connection"
    ),
    (Ending.REFUSED, ControlState.REFUSED): _REFUSED_AS_WELL,
    (Ending.REFUSED, ControlState.OTHER): _SAME_FOR_ALL,
    (Ending.REFUSED, ControlState.UNCLEAR): _INCONCLUSIVE,
    (Ending.CLOSED, ControlState.SERVED): CLOSED_AFTER_SERVED,
    (Ending.CLOSED, ControlState.NONE_KNOWN): _INCONCLUSIVE,
    (Ending.CLOSED, ControlState.CLOSED): _SAME_FOR_ALL,
    (Ending.CLOSED, ControlState.REFUSED): _REFUSED_AS_WELL,
    (Ending.CLOSED, ControlState.OTHER): _SAME_FOR_ALL,
    (Ending.CLOSED, ControlState.UNCLEAR): _INCONCLUSIVE,
    (Ending.OTHER, ControlState.SERVED): _INCONCLUSIVE,
    (Ending.OTHER, ControlState.NONE_KNOWN): _INCONCLUSIVE,
    (Ending.OTHER, ControlState.CLOSED): _INCONCLUSIVE,
    (Ending.OTHER, ControlState.REFUSED): _REFUSED_AS_WELL,
    (Ending.OTHER, ControlState.OTHER): _SAME_FOR_ALL,
    (Ending.OTHER, ControlState.UNCLEAR): _INCONCLUSIVE,
}


def rule(ending: Ending, control: ControlState, *, etcd_closes: bool = False) -> Ruling:
    """Return the outcome of an attempt with a bad identity.

    Args:
        ending: how the attempt ended.
        control: how the same connection with a good identity ended.
        etcd_closes: etcd itself closes such a client after the handshake, without an alert: a revoked
            certificate, or one whose SANs do not cover its address where etcd's SAN rule applies.
    """
    if etcd_closes and (ending, control) == (Ending.CLOSED, ControlState.SERVED):
        return Ruling(Outcome.CONFORMS)
    return TABLE[ending, control]
