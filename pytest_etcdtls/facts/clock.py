"""The member's clock, by the Date headers of its answers.

Each side of a handshake judges validity by its own clock: etcd the certificates of clients (crypto/tls,
``c.config.time()``), a client the served chain. Go's server sends its time with every answer (net/http,
``Date``), and does not tell it to a client that it refuses.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from cryptography import x509
from msgspec import Struct

from pytest_etcdtls.facts.access import ServedClient
from pytest_etcdtls.facts.certificates import Issuers
from pytest_etcdtls.facts.fact import fact
from pytest_etcdtls.facts.listener import ServedChain
from pytest_etcdtls.target import Listener, Target

CLOCK_TOLERANCE = timedelta(seconds=60)
"""Clocks that differ by less agree."""


class MemberClock(Struct, frozen=True, kw_only=True):
    """The clock of the member, compared with the local one.

    Attributes:
        ahead: how far it is ahead of the local clock, negative if it is behind; ``None`` if no answer has a
            Date header.
        certificates: those whose validity one of the two sides judges here: the served chain, its issuers,
            and the certificates that we hold for the port.
    """

    ahead: timedelta | None
    certificates: tuple[x509.Certificate, ...] = ()

    def times(self, ours: datetime) -> tuple[datetime, ...]:
        """Return a time by the local clock and, where the clocks differ, the same moment by the member's."""
        if self.ahead is None or abs(self.ahead) <= CLOCK_TOLERANCE:
            return (ours,)
        return (ours, ours + self.ahead)


@fact(reported=False)
def member_clock(
    here: Listener,
    target: Target,
    served: ServedClient | None,
    chain: ServedChain | None,
    issuers: Issuers | None,
) -> MemberClock:
    """Return the clock that the accepted client saw, and the certificates that are judged by it."""
    certificates = (
        *(chain.certificates if chain else ()),
        *(issuers.certificates if issuers else ()),
        *(certificate for held in target.credentials(here.role).identities for certificate in held.chain),
    )
    return MemberClock(
        ahead=served.client.clock_ahead if served and served.client else None,
        certificates=tuple(dict.fromkeys(certificates)),
    )
