"""What one stream saw, and which of the five ways of the refusal table that is.

Pure: no sockets. The order of the rules is that of the table; no exception of a library decides.
"""

from __future__ import annotations

from dataclasses import dataclass

from pytest_etcdtls.observations.attempt import CERTIFICATE_ALERTS, Ending, Stage, Way, alert_text

_READ_ALERT = 0x4004
_LOOP = 0x1001
"""What OpenSSL's info callback reports: an alert that came, a step of the handshake."""


@dataclass(slots=True)
class Trace:
    """Filled while an attempt goes on.

    Attributes:
        alert: first alert from the server that is not ``close_notify``.
        close_notify: the server sent it.
        first_bytes: the first application data, at most 64 octets.
        ending: what the stream saw last.
        detail: the end in words.
        local: the end is a limit of our own library.
        certificate_requested: a CertificateRequest was read.
        certificate_read: the server's Certificate was read; a resumed handshake has none.
        ticket_read: a NewSessionTicket was read.
        renegotiated: a second handshake was made on the connection.
    """

    stage: Stage = Stage.CONNECT
    alert: int | None = None
    close_notify: bool = False
    handshake_done: bool = False
    first_bytes: bytes = b""
    ending: Ending = Ending.OPEN
    detail: str = ""
    local: bool = False
    certificate_requested: bool = False
    certificate_read: bool = False
    ticket_read: bool = False
    renegotiated: bool = False

    def note(self, where: int, value: int, state: bytes) -> None:
        """Note what OpenSSL's info callback reports."""
        if where & _READ_ALERT == _READ_ALERT:
            number = value & 0xFF
            if number == 0:
                self.close_notify = True
            elif self.alert is None:
                self.alert = number
        elif where & _LOOP == _LOOP:
            self.certificate_requested |= b"certificate request" in state
            self.certificate_read |= b"read server certificate" in state
            self.ticket_read |= b"read server session ticket" in state

    def end(self, ending: Ending, detail: str, *, local: bool = False) -> None:
        """Note how the stream ended; the first end noted stands, and an alert goes before it."""
        if self.ending is Ending.OPEN:
            self.ending, self.detail, self.local = ending, detail, local


def way_of(trace: Trace) -> Way:
    """Return the way that the attempt ended, first match of the table."""
    if trace.first_bytes:
        return Way.SERVED
    if trace.alert in CERTIFICATE_ALERTS:
        return Way.REFUSED
    if trace.alert is not None:
        return Way.OTHER
    if trace.handshake_done and trace.close_notify:
        return Way.CLOSED
    return Way.UNCLEAR


def detail_of(trace: Trace) -> str:
    """Return the end in words."""
    if trace.first_bytes:
        return "application data"
    if trace.alert is not None:
        return f"alert {alert_text(trace.alert)}"
    if trace.close_notify:
        return "close_notify without any application data"
    return trace.detail or "nothing came"
