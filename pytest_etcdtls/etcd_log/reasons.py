"""What each cause of a rejected connection means and what to do, and which connections an earlier run made.

:mod:`pytest_etcdtls.etcd_log.parse` reads the cause from a line. Where a text below says what etcd does, a
comment names the function in etcd's source.

An earlier run against the same etcd has left about as many lines as this one, and nobody should look for
their client. etcd does not log who a client is, but two names that only this tool sends are marks: the
server name of a rejected connection (server/embed, config_logging.go, logTLSHandshakeFailureFunc), and the
application protocols that the client requested, in Go's error (crypto/tls, handshake_server.go,
negotiateALPN; before Go 1.17 unknown ones are no error). Lines from the same host that are as near to a mark
as one run is long belong to the run that sent it. A run of few checks leaves no mark, and its lines are
listed as those of any client.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from msgspec import Struct

from pytest_etcdtls.etcd_log.parse import Cause, Rejection
from pytest_etcdtls.role import Side


class Explanation(Struct, frozen=True):
    """The explanation of a cause.

    Attributes:
        meaning: what happened, in one sentence.
        advice: what to do.
    """

    meaning: str
    advice: str


EXPLANATIONS: Final[Mapping[Cause, Explanation]] = {
    Cause.NO_CERTIFICATE: Explanation(
        "A client connected with TLS and presented no certificate.",
        "Give it a certificate of the trusted CA, or find out what scans the port: health checks of load "
        "balancers and monitoring are the usual ones, and belong on --listen-metrics-urls.",
    ),
    # transport.TLSInfo.ServerConfig reads the bundle once; GetCertificate of baseConfig reads the served pair
    # for each handshake (SERVED_PAIR).
    Cause.UNKNOWN_CA: Explanation(
        "A client presented a certificate that no CA in the trusted bundle has signed.",
        "Compare its issuer with --trusted-ca-file (--peer-trusted-ca-file for members); after a change of "
        "CA etcd must be restarted, since it reads the bundle at start only.",
    ),
    Cause.EXPIRED: Explanation(
        "A client presented a certificate that has expired, or the clocks differ.",
        "Renew it; compare the two times in the message with the clock of this machine.",
    ),
    Cause.NOT_YET_VALID: Explanation(
        "A client presented a certificate that is not valid yet, or the clocks differ.",
        "Compare the two times in the message with the clocks of both machines.",
    ),
    # embed.Etcd.grpcGatewayDial connects to the client port with the ServerConfig, whose certificate as a
    # client is the served one unless --client-cert-file is given (GetClientCertificate of baseConfig).
    Cause.USAGE: Explanation(
        "A client presented a certificate whose extended key usage does not allow it to be a client.",
        "Issue it with clientAuth. From etcd's own address it is the gateway or a member that presents the "
        "served certificate: that needs both clientAuth and serverAuth, or --client-cert-file.",
    ),
    Cause.EXTENSION: Explanation(
        "A client presented a certificate with a critical extension that Go does not know.",
        "Issue it without that extension, or with it not marked critical.",
    ),
    Cause.NAME_NOT_ALLOWED: Explanation(
        "A certificate of the trusted CA does not have one of the allowed names.",
        "See --client-cert-allowed-hostname, --peer-cert-allowed-cn, --peer-cert-allowed-hostname; the "
        "served certificate needs such a name as well, since the gateway presents it.",
    ),
    # transport.wrapTLS passes checkSAN for peer and metrics listeners; the client listener is made in
    # serveCtx.serve with NewTLSListener, which has no such check. checkCertSAN lets a certificate without
    # names pass.
    Cause.ADDRESS: Explanation(
        "A certificate has names, and none of them covers the address that the connection comes from; etcd "
        "compares them on peer and https metrics listeners.",
        "Issue it with the client's address or a name that resolves to it, or without any; behind NAT etcd "
        "sees the gateway's address.",
    ),
    Cause.REVOKED: Explanation(
        "A client presented a certificate whose serial number is in the CRL.",
        "If it should work, renew it; if not, find out who still uses it.",
    ),
    # transport.checkCRL: x509.ParseCRL up to 3.5, which takes PEM, x509.ParseRevocationList from 3.6. It is
    # called only if the client has sent a certificate.
    Cause.CRL_UNREADABLE: Explanation(
        "etcd cannot read its CRL, and therefore refuses every client that presents a certificate.",
        "Put a CRL in DER where --client-crl-file or --peer-crl-file says; PEM is read up to 3.5 only.",
    ),
    Cause.PLAINTEXT: Explanation(
        "The first bytes were not TLS: usually HTTP in plaintext.",
        "Use https:// in the client; a port scanner and a TCP health check look the same.",
    ),
    # Up to 3.5, embed.Etcd.servePeers gives a gRPC server with TLS credentials what the TLS listener has
    # accepted.
    Cause.HTTP2_ON_PEER_PORT: Explanation(
        "A client used HTTP/2 on the peer port. Up to 3.5 etcd hands that to a gRPC server which expects a "
        "second TLS handshake inside the first one.",
        "The peer port serves HTTP/1.1 to members only: use curl --http1.1, and gRPC on the client port.",
    ),
    Cause.PROTOCOL_VERSION: Explanation(
        "The client offered only TLS versions that etcd does not support.",
        "TLS 1.2 is the lowest; see --tls-min-version and --tls-max-version. A scanner looks the same.",
    ),
    Cause.CIPHER_SUITE: Explanation(
        "The client offered only cipher suites that etcd does not allow.",
        "See --cipher-suites, and the key type of the served certificate. A scanner looks the same.",
    ),
    # transport.TLSInfo.ServerConfig: NextProtos.
    Cause.ALPN: Explanation(
        "The client offered only application protocols that etcd does not support.",
        "etcd announces h2; offer that or nothing.",
    ),
    Cause.SERVED_PAIR: Explanation(
        "etcd cannot load the certificate and key that it should serve: a file is missing, or the two do not "
        "belong together. No client gets a connection.",
        "Put both files in place; the next handshake reads them, without a restart.",
    ),
    Cause.REFUSED_BY_CLIENT: Explanation(
        "The client ended the handshake because it does not accept etcd's certificate.",
        "Check the CA that the client trusts and the name that it connects to. In TLS 1.3 a client's alert "
        "arrives unreadable and is logged as bad record MAC.",
    ),
    Cause.GONE: Explanation(
        "The client closed or lost the connection before the handshake was over.",
        "Harmless when it is rare: TCP health checks and port scans do it.",
    ),
    Cause.SILENT: Explanation(
        "A client connected and did not finish the handshake in time.",
        "Harmless when it is rare; many of them are an attack or a broken middlebox.",
    ),
    Cause.STOPPING: Explanation(
        "etcd was about to stop and closed the connection itself.", "Nothing, if it was stopped on purpose."
    ),
    Cause.OTHER: Explanation(
        "An unknown error.", "See the text; it comes from Go's TLS or from etcd's listener."
    ),
}


class Group(Struct, frozen=True, kw_only=True):
    """Connections from one host that were rejected for one cause.

    Attributes:
        host: the client's address as seen by etcd.
        endpoint: ``client`` covers metrics as well; ``None`` in versions that do not log it.
        count: the number of connections.
        first: the time of the first; ``None`` if no line contains date, time and zone.
        example: the error of the last.
        line: the line of the last in the log.
    """

    host: str
    endpoint: Side | None
    cause: Cause
    count: int
    first: datetime | None
    last: datetime | None
    example: str
    line: int


def group(rejections: Iterable[Rejection]) -> tuple[Group, ...]:
    """Return the groups, the largest first."""
    alike: dict[tuple[str, Side | None, Cause], list[Rejection]] = defaultdict(list)
    for rejection in rejections:
        alike[rejection.remote_host, rejection.endpoint, rejection.cause].append(rejection)
    groups = []
    for (host, endpoint, cause), lines in alike.items():
        times = [line.time for line in lines if line.time is not None]
        groups.append(
            Group(
                host=host,
                endpoint=endpoint,
                cause=cause,
                count=len(lines),
                first=min(times, default=None),
                last=max(times, default=None),
                example=lines[-1].error,
                line=lines[-1].line,
            )
        )
    return tuple(sorted(groups, key=lambda group: (-group.count, group.host, group.cause)))


OWN_MARKS: Final = ("etcdtls-unknown", "unknown.invalid")
"""Names that only this tool offers, by ALPN and by SNI. etcd logs both."""

_PAUSE: Final = timedelta(seconds=2)
"""The longest time between two rejected connections of one run, unless it waits."""


class EarlierRun(Struct, frozen=True):
    """Rejected connections that look like those of an earlier run of this tool.

    Attributes:
        lines: the log entries in the order of time.
    """

    host: str
    lines: tuple[Rejection, ...]
    first: datetime
    last: datetime


class _Line(NamedTuple):
    time: datetime
    rejection: Rejection


def earlier_runs(others: Iterable[Rejection], ours: Sequence[Rejection]) -> tuple[EarlierRun, ...]:
    """Return the rejected connections that look like those of earlier runs.

    Args:
        others: the rejected connections that are not from this run. Those without a time are of no run.
        ours: the rejected connections of this run, which takes about as long as an earlier one.
    """
    times = [line.time for line in ours if line.time is not None]
    duration = (max(times) - min(times) if times else timedelta()) + _PAUSE
    by_host: dict[str, list[_Line]] = defaultdict(list)
    for rejection in others:
        if rejection.time is not None:
            by_host[rejection.remote_host].append(_Line(rejection.time, rejection))
    runs = [
        EarlierRun(host, tuple(line.rejection for line in burst), burst[0].time, burst[-1].time)
        for host, lines in by_host.items()
        for burst in _bursts(_near_marks(sorted(lines, key=lambda line: line.time), duration), duration)
    ]
    return tuple(sorted(runs, key=lambda run: run.first))


def _near_marks(lines: Sequence[_Line], duration: timedelta) -> Iterator[_Line]:
    """Yield the lines of one host that are near a mark."""
    marks = [line.time for line in lines if _has_mark(line.rejection)]
    for line in lines:
        after = bisect_left(marks, line.time)
        neighbours = marks[max(0, after - 1) : after + 1]  # the marks before and after the line
        if any(abs(line.time - mark) <= duration for mark in neighbours):
            yield line


def _has_mark(rejection: Rejection) -> bool:
    return rejection.server_name in OWN_MARKS or any(mark in rejection.error for mark in OWN_MARKS)


def _bursts(lines: Iterable[_Line], pause: timedelta) -> Iterator[list[_Line]]:
    """Yield groups of entries in the order of time, separated by longer pauses."""
    burst: list[_Line] = []
    for line in lines:
        if burst and line.time - burst[-1].time > pause:
            yield burst
            burst = []
        burst.append(line)
    if burst:
        yield burst
