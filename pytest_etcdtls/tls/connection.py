"""One connection: connect, handshake, request, read, and its result; also with several requests.

An attempt does not raise for an error of the server or the network: the error is its result. The
:class:`Ending` follows from what was seen on the stream, by rules in the order of the refusal table. No
exception type of a library decides it.

So the stream is ours. OpenSSL works on memory BIOs (pyOpenSSL without a socket), and :class:`WireStream`
moves the bytes between them and the socket, which shows three things that a TLS socket hides:

- An alert that arrives while the client still writes. A server that refuses in TLS 1.3 closes at once, and a
  second write fails with EPIPE or ECONNRESET while the alert is unread in the socket's buffer. A write error
  is therefore kept back until what has arrived is read.
- Which message of the server was read last. Only after ServerHelloDone (TLS 1.2) or Finished (TLS 1.3) can an
  alert be about the client's certificate. OpenSSL's info callback reports the states, :class:`Trace` notes
  them.
- How the stream ended: close_notify, a bare end, a reset, or our deadline. One deadline bounds the whole
  attempt: a time-out of each read would never pass on a server that sends single bytes.

Certificates are not verified here, and the security level is 0: checks judge what is served, and a library
that refuses a weak key would look like a server that does.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import re
import socket
import struct
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NoReturn

from msgspec import Struct
from OpenSSL import SSL, crypto

from pytest_etcdtls.declared.declaration import authority, is_address, is_loopback
from pytest_etcdtls.role import Protocol, TLSVersion
from pytest_etcdtls.target import Carrier, Listener, no_machine
from pytest_etcdtls.tls.attempt import (
    CERTIFICATE_ALERTS,
    HANDSHAKE_FAILURE,
    NOT_RESOLVED,
    Attempt,
    Ending,
    Phase,
    Request,
    Response,
    StreamEnd,
    alert_text,
)
from pytest_etcdtls.tls.http import AnswerError, WriteError, make_request
from pytest_etcdtls.tls.namespace import network_of
from pytest_etcdtls.tls.via import CarriedSocket
from pytest_etcdtls.untrusted.in_time import each_in_time
from pytest_etcdtls.untrusted.printable import LINE_LIMIT, printable
from pytest_etcdtls.untrusted.process_root import looked_up
from pytest_etcdtls.untrusted.process_user import check_same, rights_of, user_of

_SIGNED_BY_SERVER = (b"read server key exchange", b"read server certificate verify")
"""Messages that a server signs with the key of its certificate: in TLS 1.2, in TLS 1.3."""

_LAST_OF_SERVER = (b"read server done", b"read finished")
"""The last message of the server before the client's certificate: in TLS 1.2, in TLS 1.3."""

_LONGEST_NAME: Final = 253
_HOST_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*")

_CHUNK = 65536
_FIRST_BYTES = 64
_FRAME_HEAD = 9
"""Octets of the head of an HTTP/2 frame, which :attr:`Attempt.is_http` needs."""
UNNAMED: Final = "@"
"""The address of a Unix domain socket without a name, as Go writes it (sockaddrToUnix in net/unixsock_posix.go)."""
_PEER_CREDENTIALS: Final = struct.Struct("=iII")
_MOST_RECEIVED = 4 * 1024 * 1024
"""Octets that are received on one connection; the requested responses have a few hundred kilobytes."""

_CANNOT_PARSE = (
    "this client's OpenSSL cannot parse the served certificate: see openssl s_client and openssl x509"
)
_CANNOT_SIGN = (
    "this client's OpenSSL refuses the served certificate in TLS 1.2, since its keyUsage lacks "
    "digitalSignature, see cert.key-usage"
)
"""OpenSSL's "bad ecc cert" (ssl_lib.c, ssl_check_srvr_ecc_cert_and_alg); Go does not check the key usage."""
_LOCAL_REASONS = frozenset(
    {"no protocols available", "no ciphers available", "unsupported protocol", _CANNOT_PARSE, _CANNOT_SIGN}
)
"""OpenSSL's reasons that come from our side, and our texts for certificates that it cannot use."""

_ALPN: dict[Protocol, tuple[str, ...]] = {
    Protocol.HTTP1: (),
    Protocol.GATEWAY: (),
    Protocol.HTTP2: ("h2",),
    Protocol.GRPC: ("h2",),
}

_ANOTHER = "another certificate than before is served; nothing was sent"
_VERSIONS = {TLSVersion.TLS1_2: SSL.TLS1_2_VERSION, TLSVersion.TLS1_3: SSL.TLS1_3_VERSION}


class Trace(Struct):
    """What was seen during one attempt; filled while the attempt is made.

    Attributes:
        alert: first alert from the server that is not ``close_notify``.
        close_notify: the server sent it.
        first_bytes: the first application data, at most 64 octets.
        stream_end: how the TCP stream ended.
        detail: how the attempt ended, in words.
        local: the attempt ended at a limit of our own library.
        session_offered: a session of an earlier connection was offered, with which the server may keep the
            client's certificate.
        certificate_requested: a CertificateRequest was read.
        server_done: the server's part of the handshake was read to its ServerHelloDone (TLS 1.2) or Finished,
            which only then lets the client present a certificate.
        certificate_read: the server's Certificate was read; a resumed handshake has none.
        ticket_read: a NewSessionTicket was read.
        renegotiated: a second handshake was made on the connection.
        key_proved: a signature of the server over this handshake was verified.
    """

    phase: Phase = Phase.CONNECT
    alert: int | None = None
    close_notify: bool = False
    handshake_done: bool = False
    first_bytes: bytes = b""
    stream_end: StreamEnd = StreamEnd.OPEN
    detail: str = ""
    local: bool = False
    session_offered: bool = False
    certificate_requested: bool = False
    server_done: bool = False
    certificate_read: bool = False
    ticket_read: bool = False
    renegotiated: bool = False
    key_proved: bool = False

    def note(self, where: int, value: int, state: bytes) -> None:
        """Record what OpenSSL's info callback reports."""
        if where & SSL.SSL_CB_READ_ALERT == SSL.SSL_CB_READ_ALERT:
            number = value & 0xFF
            if number == 0:
                self.close_notify = True
            elif self.alert is None:
                self.alert = number
        elif where & SSL.SSL_CB_CONNECT_LOOP == SSL.SSL_CB_CONNECT_LOOP:
            self.certificate_requested |= b"certificate request" in state
            self.server_done |= any(message in state for message in _LAST_OF_SERVER)
            self.certificate_read |= b"read server certificate" in state
            self.ticket_read |= b"read server session ticket" in state
            # Reported when the next message comes, after the signature in this one was verified.
            self.key_proved |= any(message in state for message in _SIGNED_BY_SERVER)

    def end(self, stream_end: StreamEnd, detail: str, *, local: bool = False) -> None:
        """Record how the stream ended; the first recorded end is kept, and an alert takes precedence."""
        if self.stream_end is StreamEnd.OPEN:
            # The libraries quote data that the server sent.
            self.stream_end, self.detail, self.local = stream_end, printable(detail, LINE_LIMIT), local


def ending_of(trace: Trace) -> Ending:
    """Return how the attempt ended: the first match in the refusal table."""
    if trace.first_bytes:
        return Ending.SERVED
    if trace.alert in CERTIFICATE_ALERTS and _may_be_about_certificate(trace):
        return Ending.REFUSED
    if trace.alert is not None:
        return Ending.OTHER
    if trace.handshake_done and trace.close_notify:
        return Ending.CLOSED
    return Ending.UNCLEAR


def _may_be_about_certificate(trace: Trace) -> bool:
    """Return whether the server could judge a certificate, or its absence, before it sent its alert.

    It has the client's answer only after its own part of the handshake. Before, Go sends alert 40 if no
    cipher suite, group or signature scheme is supported by both sides (``pickCipherSuite`` in
    ``handshake_server.go``, ``processClientHello`` in ``handshake_server_tls13.go``). A session that is
    offered has the certificate in it, which Go verifies at once; it does not send alert 40 then.
    """
    return trace.server_done or (trace.session_offered and trace.alert != HANDSHAKE_FAILURE)


def detail_of(trace: Trace) -> str:
    """Return in words how the attempt ended."""
    if trace.first_bytes:
        return "application data"
    if trace.alert is not None:
        return f"alert {alert_text(trace.alert)}"
    if trace.close_notify:
        return "close_notify without any application data"
    return trace.detail or "no data arrived"


class DialError(Exception):
    """The TCP connection failed.

    Attributes:
        stream_end: a timeout, a refused connection, or another failure.
    """

    def __init__(self, stream_end: StreamEnd, detail: str) -> None:
        super().__init__(detail)
        self.stream_end = stream_end


def dial(listener: Listener, deadline: float) -> socket.socket:
    """Return a connected socket, for the caller to close. The deadline is a value of ``time.monotonic()``.

    Raises:
        DialError: if there is no connection by then.
    """
    host, port = listener.address
    if listener.via:
        if listener.discovered and not is_address(host):
            text = f"{host} was not contacted: --etcd-via resolves it where that cannot be checked; name it"
            raise DialError(StreamEnd.FAILED, text)
        return _carried(listener.via, host, port)
    if listener.is_socket:
        return _on_socket(listener.socket_file, listener.process or 0, deadline)
    if is_address(host):
        addresses = [host]
    elif listener.discovered and listener.connect_to is None:
        addresses = _allowed(host, _until(deadline), may_be_local=listener.may_be_local)
    else:
        addresses = _resolved(host, port)
    try:
        with contextlib.nullcontext() if listener.process is None else network_of(listener.process):
            connected = _connect_to_any(host, addresses, port, deadline)
    except OSError as error:
        why = "ended during the run: run again" if isinstance(error, FileNotFoundError) else error.strerror
        text = f"no connection to {host} port {port}: process {listener.process} {why}"
        raise DialError(StreamEnd.FAILED, text) from error
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connected


def _carried(carrier: Carrier, host: str, port: int) -> CarriedSocket:
    try:
        return CarriedSocket(carrier, host, port)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        text = f"the command of --etcd-via cannot be started: {why}"
        raise DialError(StreamEnd.FAILED, text) from error


def _on_socket(path: Path, process: int, deadline: float) -> socket.socket:
    """Connect to the Unix domain socket of a process, with the rights of its user.

    What that user has placed there may be the socket of another process, which gets nothing of us: the kernel
    says which process listens (``SO_PEERCRED`` in unix(7)).
    """
    connected = socket.socket(socket.AF_UNIX)
    try:
        connected.settimeout(_until(deadline))
        check_same(process)
        user = user_of(process)
        with looked_up(path) as here, rights_of(user):
            connected.connect(str(here))
        credentials = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER_CREDENTIALS.size)
        other, *_ = _PEER_CREDENTIALS.unpack(credentials)
        if other != process:
            raise PermissionError(errno.EPERM, f"process {other} listens there, and not process {process}")
    except OSError as error:
        connected.close()
        if isinstance(error, TimeoutError):
            raise DialError(StreamEnd.TIMEOUT, f"no connection to the socket {path} in time") from error
        refused = isinstance(error, ConnectionRefusedError)
        end = StreamEnd.CONNECTION_REFUSED if refused else StreamEnd.FAILED
        raise DialError(end, f"no connection to the socket {path}: {error.strerror}") from error
    return connected


def carrier_said(sock: socket.socket, *, ended: bool) -> str:
    """Return what is known of the process that carries a connection, to put behind how that ended.

    Args:
        sock: the connection, with or without a process.
        ended: its output has ended, else it is silent.
    """
    if not isinstance(sock, CarriedSocket):
        return ""
    text = sock.why_ended() if ended else sock.said()
    return f"; {text}" if text else ""


def _until(deadline: float) -> float:
    return max(0.001, deadline - time.monotonic())


def _connect_to_any(host: str, addresses: Sequence[str], port: int, deadline: float) -> socket.socket:
    """Connect to the first of the host's addresses that accepts, with an equal part of the time for each."""
    errors: list[Exception] = []
    for number, address in enumerate(addresses):
        seconds = _until(deadline) / (len(addresses) - number)
        try:
            return socket.create_connection((_with_index(address), port), timeout=seconds)
        except OSError as error:
            errors.append(error)
    raise _no_connection(host, port, errors) from errors[-1]


def _with_index(address: str) -> str:
    """Return an address with the index of its zone. glibc resolves the name only of a link-local address."""
    address, percent, zone = address.partition("%")
    return (
        f"{address}%{socket.if_nametoindex(zone)}"
        if percent and not zone.isdecimal()
        else address + percent + zone
    )


def _resolved(host: str, port: int) -> list[str]:
    """Return the addresses of a host, in an order that does not change from one answer of DNS to the next.

    Raises:
        DialError: if it has none.
    """
    try:
        answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise DialError(StreamEnd.FAILED, f"{_not_resolved(host)}: {error.strerror}") from error
    except UnicodeError as error:
        raise DialError(StreamEnd.FAILED, f"{host!r} is not a host name: {error}") from error
    return in_order(str(address[0]) for *_, address in answers)


def _not_resolved(host: str) -> str:
    # What follows says why, and what to do.
    return f"the name {printable(host, 80)} {NOT_RESOLVED}"


def _allowed(host: str, seconds: float, *, may_be_local: bool) -> list[str]:
    """Return the addresses of a host that a member advertises, if all of them may be contacted.

    Raises:
        DialError: if it has none, or one that leads to this machine or to no machine of a cluster.
    """
    addresses = in_order(addresses_of(host, seconds))
    if not addresses:
        raise DialError(StreamEnd.FAILED, _not_resolved(host))
    for address in addresses:
        if why_not := why_not_contacted(address, may_be_local=may_be_local):
            raise DialError(StreamEnd.FAILED, f"{host} was not contacted: {why_not}")
    return addresses


def in_order(addresses: Iterable[str]) -> list[str]:
    """Return the addresses in the order in which they are tried, IPv4 first."""
    return sorted(set(addresses), key=lambda address: (":" in address, address))


def why_not_contacted(address: str, *, may_be_local: bool) -> str:
    """Return why an address of a host that a member advertises is not contacted; empty if it is."""
    if is_loopback(address):
        return "" if may_be_local else f"{address} leads to this machine"
    return no_machine(address.partition("%")[0])


def _no_connection(host: str, port: int, errors: Sequence[Exception]) -> DialError:
    """Return the error of the last address of a host; it is a refusal only if every address refused."""
    last = errors[-1]
    if isinstance(last, TimeoutError):
        return DialError(StreamEnd.TIMEOUT, f"no TCP connection to {host} port {port} in time")
    refused = all(isinstance(error, ConnectionRefusedError) for error in errors)
    why = (last.strerror if isinstance(last, OSError) else None) or last
    text = f"no TCP connection to {host} port {port}: {why}"
    return DialError(StreamEnd.CONNECTION_REFUSED if refused else StreamEnd.FAILED, text)


def addresses_of(host: str, seconds: float) -> frozenset[str]:
    """Return the addresses of a host; empty if it has none or the resolver does not answer in time."""
    [answers] = each_in_time(
        lambda name: socket.getaddrinfo(name, None, type=socket.SOCK_STREAM), [host], seconds
    )
    return frozenset() if isinstance(answers, Exception) else frozenset(str(one[4][0]) for one in answers)


def local_address(sock: socket.socket) -> str:
    """Return the local address of a connection as Go writes it in a log: ``host:port``, ``[host]:port``.

    It is empty for a connection that a process carries. On a Unix domain socket clients have no address.
    """
    if isinstance(sock, CarriedSocket):
        return ""
    if sock.family == socket.AF_UNIX:
        return UNNAMED
    host, port, *_ = sock.getsockname()
    return authority(host, port)


def server_address(sock: socket.socket) -> str:
    """Return where a connection leads; empty if a process carries it, or if it was reset already.

    On a Unix domain socket, it is the path that the server listens on.
    """
    if isinstance(sock, CarriedSocket):
        return ""
    try:
        name = sock.getpeername()
        return str(name if sock.family == socket.AF_UNIX else name[0])
    except OSError:
        return ""


def sni(host: str) -> str | None:
    """Return a host as it is sent by SNI: without trailing dot (RFC 6066 section 3), as Go's client does.

    Returns:
        ``None`` for an address, and for a text that is not an ASCII host name (empty or overlong labels).
        Whether a label such as ``xn--n3h`` is valid IDNA is not checked; clients of etcd do not check it
        either.
    """
    name = host.rstrip(".")
    if is_address(name) or len(name) > _LONGEST_NAME or not _HOST_NAME.fullmatch(name):
        return None
    return name


class DeadlineError(AnswerError):
    """The attempt's time is over."""


class WireStream:
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
        self._count = 0
        self._write_failed = False
        self._socket_end: tuple[StreamEnd, str] | None = None
        self.trace = trace
        self.tls: SSL.Connection | None = None
        self.local_address = local_address(sock)
        self.server_address = server_address(sock)
        self.received: bytearray | None = None
        """All received bytes, if a caller sets a bytearray here beforehand."""

    # -- handshake ---------------------------------------------------------------------------

    def begin_tls(self, context: SSL.Context, name: str | None) -> SSL.Connection:
        """Start TLS on the socket; the certificate to present can be set before the handshake."""
        self.trace.phase = Phase.HANDSHAKE
        self.tls = SSL.Connection(context, None)
        trace = self.trace  # not of this stream: the callback would keep the connection that keeps it
        self.tls.set_info_callback(lambda tls, where, value: trace.note(where, value, tls.get_state_string()))
        if name is not None:
            self.tls.set_tlsext_host_name(name.encode("ascii"))
        self.tls.set_connect_state()
        return self.tls

    def handshake(self) -> bool:
        """Make the TLS handshake; return whether it finished on our side."""
        self.trace.handshake_done = self._shake_hands()
        return self.trace.handshake_done

    def renegotiate(self) -> bool:
        """Request a second handshake on the connection (TLS 1.2); return whether it was made."""
        assert self.tls is not None  # noqa: S101 - called with TLS only
        self.trace.phase = Phase.HANDSHAKE
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

    # -- application data --------------------------------------------------------------------

    def read(self, max_bytes: int) -> bytes:
        """Return application data, empty at the end of the stream.

        Raises:
            AnswerError: if the stream ended in another way.
        """
        try:
            data = self._receive(max_bytes)
        except SSL.ZeroReturnError:
            self.trace.end(StreamEnd.CLOSE_NOTIFY, "close_notify")
            return b""
        except SSL.Error as error:
            self._note_tls_error(error)
            raise AnswerError(self.trace.detail) from error
        # A server may send its first line octet by octet.
        self.trace.first_bytes += data[: _FIRST_BYTES - len(self.trace.first_bytes)]
        if not data:
            self.trace.end(StreamEnd.EOF, f"end of stream{carrier_said(self._socket, ended=True)}")
        return data

    def write(self, buffer: bytes) -> None:
        """Send application data.

        Raises:
            WriteError: if the socket or TLS rejects it; data that had arrived is processed first.
            DeadlineError: if the time is over.
        """
        if not buffer:
            return
        try:
            if self.tls is None:
                self._send(buffer)
            else:
                self.tls.sendall(buffer)
                self._flush()
        except SSL.Error as error:
            self._note_tls_error(error)
            raise WriteError(self.trace.detail) from error
        if self._write_failed:
            self.read_to_the_end()
            raise WriteError(self.trace.detail or "the server closed while we were writing")

    def close(self) -> None:
        """Send ``close_notify`` if that is still possible, and close the socket."""
        if self.tls is not None and self.trace.handshake_done and not self._eof:
            with contextlib.suppress(SSL.Error, DeadlineError):
                self.tls.shutdown()
                self._flush()
        self._socket.close()

    # -- reading on --------------------------------------------------------------------------

    def read_to_the_end(self) -> None:
        """Read until application data, an alert, the end or the deadline, and record it in the trace."""
        while not self.trace.first_bytes and self.trace.stream_end is StreamEnd.OPEN:
            try:
                if not self.read(_CHUNK):
                    return
            except AnswerError:
                return

    # -- sockets -----------------------------------------------------------------------------

    def _receive(self, max_bytes: int) -> bytes:
        if self.tls is None:
            data = self._recv(max_bytes)
            # h11 raises at the first wrong octet; the next ones are needed to recognise the protocol.
            with contextlib.suppress(DeadlineError):
                while data and len(self.trace.first_bytes + data) < _FRAME_HEAD:
                    if not (rest := self._recv(_CHUNK)):
                        break
                    data += rest
            return data
        while True:
            try:
                return self.tls.recv(max_bytes)
            except SSL.WantReadError:
                self._exchange()

    def _exchange(self) -> None:
        """Send pending TLS output, then pass what the server sends to TLS."""
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
        if self._count >= _MOST_RECEIVED:
            self._eof = True
            self.trace.end(StreamEnd.FAILED, f"more than {_MOST_RECEIVED} octets arrived")
            return b""
        self._socket.settimeout(self._left())
        try:
            data = self._socket.recv(size)
        except TimeoutError:
            self._expire()
        except OSError as error:
            self._eof = True
            self._socket_end = (StreamEnd.RESET, f"connection reset ({error.strerror})")
            return b""
        if not data:
            self._eof = True
            if self.tls is not None:
                text = f"end of stream without close_notify{carrier_said(self._socket, ended=True)}"
                self._socket_end = (StreamEnd.EOF, text)
        self._count += len(data)
        if self.received is not None:
            self.received += data
        return data

    def _left(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            self._expire()
        return left

    def _expire(self) -> NoReturn:
        said = carrier_said(self._socket, ended=False)
        self.trace.end(StreamEnd.TIMEOUT, f"no data arrived in time during {self.trace.phase}{said}")
        raise DeadlineError(self.trace.detail)

    def _note_tls_error(self, error: SSL.Error) -> None:
        if self.trace.alert is not None:
            self.trace.end(StreamEnd.ALERT, "alert")
        elif isinstance(error, SSL.ZeroReturnError):
            self.trace.end(StreamEnd.CLOSE_NOTIFY, "close_notify")
        elif self._socket_end is not None:
            self.trace.end(*self._socket_end)
        else:
            text = _reason(error)
            self.trace.end(StreamEnd.FAILED, text, local=text in _LOCAL_REASONS)


def _reason(error: SSL.Error) -> str:
    queue = error.args[0] if error.args else ()
    if isinstance(queue, list | tuple) and queue and isinstance(queue[-1], tuple):
        # The only ASN.1 that a client reads in a handshake is the Certificate message.
        texts = {"ASN1 lib": _CANNOT_PARSE, "bad ecc cert": _CANNOT_SIGN}
        return texts.get(queue[-1][-1], str(queue[-1][-1]))
    return str(error) or type(error).__name__


def make_attempt(listener: Listener, request: Request, timeout: float) -> Attempt:
    """Make one connection to the listener, for at most this many seconds, and return the attempt."""
    started_at, started = datetime.now(UTC), time.monotonic()
    trace = Trace()
    alpn = request.alpn if request.alpn is not None else _ALPN[request.protocol]
    stream: WireStream | None = None
    response: Response | None = None
    session: dict[str, Any] = {}
    try:
        try:
            stream = WireStream(dial(listener, started + timeout), started + timeout, trace)
        except DialError as error:
            trace.end(error.stream_end, str(error))
        else:
            response = _converse(stream, listener, request, alpn)
            if stream.tls is not None:
                if request.keep is not None and trace.handshake_done:
                    request.keep.fill(stream.tls, bytes(stream.received or b""))
                    stream.received = None
                session = _session(stream.tls, trace)
        return Attempt(
            url=listener.url,
            purpose=request.purpose,
            identity=request.identity.name,
            protocol=request.protocol,
            ending=ending_of(trace),
            phase=trace.phase,
            started_at=started_at,
            stream_end=trace.stream_end,
            offered_version=request.version,
            offered_alpn=alpn,
            alert=trace.alert,
            detail=detail_of(trace),
            local=trace.local,
            certificate_requested=trace.certificate_requested or (False if trace.server_done else None),
            first_bytes=trace.first_bytes,
            response=response,
            local_address=stream.local_address if stream is not None else "",
            server_address=stream.server_address if stream is not None else "",
            milliseconds=round((time.monotonic() - started) * 1000, 3),
            resumed=trace.handshake_done and not trace.certificate_read,
            ticket=trace.ticket_read,
            renegotiated=trace.renegotiated,
            key_proved=trace.key_proved or trace.handshake_done,
            **session,
        )
    finally:
        if stream is not None:
            stream.close()


def _converse(
    stream: WireStream,
    listener: Listener,
    request: Request,
    alpn: tuple[str, ...],
) -> Response | None:
    if not request.plaintext:
        if not _shake_hands(stream, listener, request, alpn):
            return None
        if request.only_to is not None and stream.tls is not None:
            leaf = stream.tls.get_peer_certificate()
            if leaf is None or request.only_to != _der(leaf):
                stream.trace.end(StreamEnd.FAILED, _ANOTHER)
                return None
    stream.trace.phase = Phase.REQUEST
    response = None
    try:
        response = make_request(stream, listener, request)
    except (AnswerError, ValueError) as error:
        stream.trace.phase = Phase.READ
        stream.read_to_the_end()
        stream.trace.end(StreamEnd.FAILED, f"the answer is not {request.protocol}: {error}")
    stream.trace.phase = Phase.READ
    return response


def _shake_hands(stream: WireStream, listener: Listener, request: Request, alpn: tuple[str, ...]) -> bool:
    """Make the handshakes of the request; return whether they finished on our side."""
    if request.resume is not None and request.resume.context is not None:
        context = request.resume.context
    else:
        context = _context(request, alpn)
        if request.keep is not None:
            request.keep.watch(context)
            stream.received = bytearray()
    name = sni(listener.name) if request.server_name is None else request.server_name
    tls = stream.begin_tls(context, name or None)
    identity = request.identity
    try:
        # On the connection, so that those of one context can present different identities.
        if identity.chain and identity.key is not None:
            tls.use_certificate(identity.chain[0])
            tls.use_privatekey(identity.key)
    except SSL.Error as error:
        text = f"our OpenSSL does not take the identity {request.identity.name}: {error}"
        stream.trace.end(StreamEnd.FAILED, text, local=True)
        return False
    if request.proved is not None:
        _only_to(tls, request.proved, stream.trace)
    if request.resume is not None and request.resume.session is not None:
        tls.set_session(request.resume.session)
        stream.trace.session_offered = True
    return stream.handshake() and (not request.renegotiate or stream.renegotiate())


def _context(request: Request, alpn: tuple[str, ...]) -> SSL.Context:
    version = request.version
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_verify(SSL.VERIFY_NONE)
    # Checks report weak keys and signatures of either side; our TLS library must not refuse them.
    context.set_cipher_list(f"{request.suites or 'DEFAULT'}:@SECLEVEL=0".encode())
    floor, ceiling = (_VERSIONS[version],) * 2 if version else (SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION)
    context.set_min_proto_version(floor)
    context.set_max_proto_version(ceiling)
    if alpn:
        context.set_alpn_protos([name.encode() for name in alpn])
    # NOTE: a connection has no method to add intermediates; add them before a connection is made.
    for intermediate in request.identity.chain[1:]:
        context.add_extra_chain_cert(intermediate)
    return context


def _only_to(tls: SSL.Connection, leaves: frozenset[bytes], trace: Trace) -> None:
    """End the handshake at the server's Certificate message if it holds another leaf.

    The client's certificate is sent later than that, in every version of TLS.
    """

    def is_proved(_tls: SSL.Connection, certificate: crypto.X509, _error: int, depth: int, _ok: int) -> bool:
        if depth == 0 and _der(certificate) not in leaves:
            trace.end(StreamEnd.FAILED, _ANOTHER)
            return False
        return True

    tls.set_verify(SSL.VERIFY_PEER, is_proved)


def _session(tls: SSL.Connection, trace: Trace) -> dict[str, Any]:
    """Return the fields of :class:`Attempt` that are about the TLS session."""
    # In DER: parsing raises an error for names that Go and OpenSSL accept.
    names = tls.get_client_ca_list() if trace.certificate_requested else []
    session: dict[str, Any] = {
        "announced_ca": tuple(_shared(name.der()) for name in names),
        "chain": tuple(_shared(_der(certificate)) for certificate in tls.get_peer_cert_chain() or ()),
    }
    if trace.handshake_done:
        session |= {
            "version": tls.get_protocol_version_name(),
            "cipher": tls.get_cipher_name(),
            "group": tls.get_group_name(),
            "alpn": printable(tls.get_alpn_proto_negotiated()),
        }
    return session


def _der(certificate: crypto.X509) -> bytes:
    return crypto.dump_certificate(crypto.FILETYPE_ASN1, certificate)


@functools.lru_cache(maxsize=256)
def _shared(octets: bytes) -> bytes:
    """Return the same object for equal octets: every attempt at a listener holds its chain."""
    return octets
