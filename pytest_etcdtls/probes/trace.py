"""What one stream saw, and which of the five ways of the refusal table that is.

Pure: no sockets. The order of the rules is that of the table; no exception of a library decides.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from pytest_etcdtls.observations.attempt import CERTIFICATE_ALERTS, Ending, Stage, Way, alert_text


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
    states: list[str] = field(default_factory=list)

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
