"""A place for the TLS session of a connection, so that another connection can offer it.

Holds secrets, in memory: it is handed from probe to probe and never part of an observation.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from OpenSSL import SSL

from pytest_etcdtls.observations.session import Ticket
from pytest_etcdtls.probes.tickets import read_tickets

_TRAFFIC_SECRET = b"SERVER_TRAFFIC_SECRET_0"


@dataclass(slots=True)
class SessionSlot:
    """The session of one connection, empty until that was made.

    Attributes:
        context: which every connection that offers the session must share; it presents no certificate.
        session: ``None`` if there was no handshake.
        tickets: what the tickets of TLS 1.3 say, as far as they were read.
    """

    context: SSL.Context | None = field(default=None, repr=False)
    session: SSL.Session | None = field(default=None, repr=False)
    tickets: tuple[Ticket, ...] = ()
    _connection: SSL.Connection | None = field(default=None, repr=False)
    _secret: bytes = field(default=b"", repr=False)
    _watching: bool = False

    def watch(self, context: SSL.Context) -> None:
        """Have the context tell us the secret that opens the tickets."""
        self.context, self.session, self.tickets = context, None, ()
        self._secret, self._watching = b"", True
        context.set_keylog_callback(self._note_secret)

    def fill(self, connection: SSL.Connection, received: bytes) -> None:
        """Take the session of a connection that is over, and read its tickets.

        Args:
            connection: kept alive, since OpenSSL marks the session of one that is freed as not resumable.
            received: everything that came on it.
        """
        self._connection = connection
        self.session = connection.get_session()
        suite = connection.get_cipher_name()
        if self._secret and suite is not None:
            self.tickets = read_tickets(received, self._secret, suite)
        self._secret, self._watching = b"", False

    def _note_secret(self, connection: SSL.Connection, line: bytes) -> None:
        label, _, rest = line.partition(b" ")
        if label == _TRAFFIC_SECRET and self._watching:
            self._secret = bytes.fromhex(rest.partition(b" ")[2].decode())
