"""A network stream for httpcore that sees what TLS really did.

TLS runs over memory BIOs: a server that refuses a client under TLS 1.3 closes while we may still be
writing, and with a connection bound to the socket its alert would be lost in a failed write. Here
what the socket still holds is fed in after a failed write, before anything is judged.

Knows neither HTTP nor what the end means.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from typing import NoReturn

import httpcore
from OpenSSL import SSL

from pytest_etcdtls.observations.attempt import Ending, Stage
from pytest_etcdtls.probes.dial import local_address
from pytest_etcdtls.probes.trace import Trace

_CHUNK = 65536
_KEPT = 64


class DeadlineError(Exception):
    """The attempt's time is over."""


class WireStream(httpcore.NetworkStream):
    """A connected socket, with TLS over memory BIOs or plain.

    Args:
        sock: connected; closed by :meth:`close`.
        deadline: ``time.monotonic()`` at which the attempt is over.
        trace: filled with what is seen.
    """

    def __init__(self, sock: socket.socket, deadline: float, trace: Trace) -> None:
        self._socket = sock
        self._deadline = deadline
        self._eof = False
        self._write_failed = False
        self._socket_end: tuple[Ending, str] | None = None
        self.trace = trace
        self.tls: SSL.Connection | None = None
        self.local_address = local_address(sock)
        self.received: bytearray | None = None
        """Everything that came, if a caller puts a bytearray here beforehand."""

    # -- handshake ---------------------------------------------------------------------------

    def begin_tls(self, context: SSL.Context, name: str | None) -> SSL.Connection:
        """Put TLS on the socket; what the connection shall present can be set on it before the handshake."""
        self.trace.stage = Stage.HANDSHAKE
        self.tls = SSL.Connection(context, None)
        self.tls.set_info_callback(
            lambda tls, where, value: self.trace.note(where, value, tls.get_state_string())
        )
        if name is not None:
            self.tls.set_tlsext_host_name(name.encode("ascii"))
        self.tls.set_connect_state()
        return self.tls

    def handshake(self) -> bool:
        """Make the TLS handshake; return whether it finished on our side."""
        self.trace.handshake_done = self._shake_hands()
        return self.trace.handshake_done

    def renegotiate(self) -> bool:
        """Ask for a second handshake on the connection (TLS 1.2); return whether it was made."""
        assert self.tls is not None  # noqa: S101 - called with TLS only
        self.trace.stage = Stage.HANDSHAKE
        self.tls.renegotiate()
        self.trace.renegotiated = self._shake_hands()
        return self.trace.renegotiated

    def _shake_hands(self) -> bool:
        assert self.tls is not None  # noqa: S101 - called with TLS only
        try:
            while True:
                try:
                    self.tls.do_handshake()
                except SSL.WantReadError:
                    self._exchange()
                else:
                    break
            self._flush()
        except SSL.Error as error:
            self._note_tls_error(error)
            with contextlib.suppress(DeadlineError):
                self._flush()
            return False
        except DeadlineError:
            return False
        return True

    # -- httpcore's interface ----------------------------------------------------------------

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Return application data, nothing at the end.

        Raises:
            httpcore.ReadError, httpcore.ReadTimeout: if the stream ended otherwise.
        """
        try:
            data = self._receive(max_bytes)
        except DeadlineError as error:
            raise httpcore.ReadTimeout(str(error)) from error
        except SSL.ZeroReturnError:
            self.trace.end(Ending.CLOSE_NOTIFY, "close_notify")
            return b""
        except SSL.Error as error:
            self._note_tls_error(error)
            raise httpcore.ReadError(self.trace.detail) from error
        if data and not self.trace.first_bytes:
            self.trace.first_bytes = data[:_KEPT]
        if not data:
            self.trace.end(Ending.EOF, "end of stream")
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send application data.

        Raises:
            httpcore.WriteError: if the socket or TLS does not take it; what the socket held was fed in.
        """
        if not buffer:
            return
        try:
            if self.tls is None:
                self._send(buffer)
            else:
                self.tls.sendall(buffer)
                self._flush()
        except DeadlineError as error:
            raise httpcore.WriteTimeout(str(error)) from error
        except SSL.Error as error:
            self._note_tls_error(error)
            raise httpcore.WriteError(self.trace.detail) from error
        if self._write_failed:
            self.read_to_the_end()
            raise httpcore.WriteError(self.trace.detail or "the server closed while we were writing")

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        """Return the stream itself: the handshake was made before, with credentials in memory."""
        return self

    def get_extra_info(self, info: str) -> object:
        """Return nothing: what is known is in the trace."""
        return None

    def close(self) -> None:
        """Send ``close_notify`` if that is still possible, and close the socket."""
        if self.tls is not None and self.trace.handshake_done and not self._eof:
            with contextlib.suppress(SSL.Error, DeadlineError):
                self.tls.shutdown()
                self._flush()
        self._socket.close()

    # -- reading on --------------------------------------------------------------------------

    def read_to_the_end(self) -> None:
        """Read until application data, an alert, the end or the deadline; whatever it was is in the trace."""
        while not self.trace.first_bytes and self.trace.ending is Ending.OPEN:
            try:
                if not self.read(_CHUNK):
                    return
            except (httpcore.ReadError, httpcore.ReadTimeout):
                return

    # -- sockets -----------------------------------------------------------------------------

    def _receive(self, max_bytes: int) -> bytes:
        if self.tls is None:
            return self._recv(max_bytes)
        while True:
            try:
                return self.tls.recv(max_bytes)
            except SSL.WantReadError:
                self._exchange()

    def _exchange(self) -> None:
        """Send what TLS has to say, then feed in what the server says."""
        assert self.tls is not None  # noqa: S101 - called with TLS only
        self._flush()
        data = self._recv(_CHUNK)
        if data:
            self.tls.bio_write(data)
        else:
            self.tls.bio_shutdown()

    def _flush(self) -> None:
        assert self.tls is not None  # noqa: S101 - called with TLS only
        while True:
            try:
                data = self.tls.bio_read(_CHUNK)
            except SSL.WantReadError:
                return
            self._send(data)

    def _send(self, data: bytes) -> None:
        if self._write_failed:
            return
        self._socket.settimeout(self._left())
        try:
            self._socket.sendall(data)
        except TimeoutError:
            self._expire()
        except OSError:
            self._write_failed = True

    def _recv(self, size: int) -> bytes:
        if self._eof:
            return b""
        self._socket.settimeout(self._left())
        try:
            data = self._socket.recv(size)
        except TimeoutError:
            self._expire()
        except OSError as error:
            self._eof = True
            self._note_socket_end(Ending.RESET, f"connection reset ({error.strerror})")
            return b""
        if not data:
            self._eof = True
            if self.tls is not None:
                self._note_socket_end(Ending.EOF, "end of stream without close_notify")
        if self.received is not None:
            self.received += data
        return data

    def _left(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            self._expire()
        return left

    def _expire(self) -> NoReturn:
        self.trace.end(Ending.TIMEOUT, f"nothing came in time during {self.trace.stage}")
        raise DeadlineError(self.trace.detail)

    def _note_socket_end(self, ending: Ending, detail: str) -> None:
        """Note the socket's end, unless TLS has said goodbye in what was read before."""
        self._socket_end = (ending, detail)

    def _note_tls_error(self, error: SSL.Error) -> None:
        if self.trace.alert is not None:
            self.trace.end(Ending.ALERT, "alert")
        elif isinstance(error, SSL.ZeroReturnError):
            self.trace.end(Ending.CLOSE_NOTIFY, "close_notify")
        elif self._socket_end is not None:
            self.trace.end(*self._socket_end)
        else:
            text = _reason(error)
            self.trace.end(Ending.FAILED, text, local=text in _LOCAL_REASONS)


_CANNOT_PARSE = (
    "this client's OpenSSL cannot parse the served certificate: see openssl s_client and openssl x509"
)
_LOCAL_REASONS = frozenset(
    {"no protocols available", "no ciphers available", "unsupported protocol", _CANNOT_PARSE}
)
"""OpenSSL's words for what it will not even try, and ours for what it gives up."""


def _reason(error: SSL.Error) -> str:
    queue = error.args[0] if error.args else ()
    if isinstance(queue, list | tuple) and queue and isinstance(queue[-1], tuple):
        # The only ASN.1 that a client reads in a handshake is the Certificate message.
        return _CANNOT_PARSE if queue[-1][-1] == "ASN1 lib" else str(queue[-1][-1])
    return str(error) or type(error).__name__
