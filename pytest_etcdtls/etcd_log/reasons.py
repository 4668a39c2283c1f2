"""What each cause of a rejected connection means and what to do."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from pytest_etcdtls.dataclass import dataclass
from pytest_etcdtls.etcd_log.parse import Cause, Endpoint, Rejection


@dataclass(frozen=True, slots=True)
class Explanation:
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
    Cause.CRL_UNREADABLE: Explanation(
        "etcd cannot read its CRL, and therefore refuses every client that presents a certificate.",
        "Put a CRL in DER where --client-crl-file or --peer-crl-file says; PEM is read up to 3.5 only.",
    ),
    Cause.PLAINTEXT: Explanation(
        "The first bytes were not TLS: usually HTTP in plaintext.",
        "Use https:// in the client; a port scanner and a TCP health check look the same.",
    ),
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
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
    endpoint: Endpoint | None
    cause: Cause
    count: int
    first: datetime | None
    last: datetime | None
    example: str
    line: int

    def describe(self) -> str:
        """Return one paragraph: the client, the number of connections, the meaning and the advice."""
        explanation = EXPLANATIONS[self.cause]
        times = "once" if self.count == 1 else f"{self.count} times"
        where = f" on the {self.endpoint} endpoint" if self.endpoint else ""
        when = f", last at {self.last:%Y-%m-%d %H:%M:%S} UTC" if self.last else ""
        return (
            f"{self.host or 'an unknown address'} was rejected {times}{where}{when}: {self.cause}. "
            f"{explanation.meaning} {explanation.advice}"
        )


def group(rejections: Iterable[Rejection]) -> tuple[Group, ...]:
    """Return the groups, the largest first."""
    members: dict[tuple[str, Endpoint | None, Cause], list[Rejection]] = {}
    for rejection in rejections:
        key = (rejection.remote_host, rejection.endpoint, rejection.cause)
        members.setdefault(key, []).append(rejection)
    groups = [_group(key, found) for key, found in members.items()]
    return tuple(sorted(groups, key=lambda one: (-one.count, one.host, one.cause)))


def _group(key: tuple[str, Endpoint | None, Cause], found: list[Rejection]) -> Group:
    times = [rejection.time for rejection in found if rejection.time is not None]
    return Group(
        host=key[0],
        endpoint=key[1],
        cause=key[2],
        count=len(found),
        first=min(times, default=None),
        last=max(times, default=None),
        example=found[-1].error,
        line=found[-1].line,
    )


OWN_MARKS: Final = ("etcdtls-unknown", "unknown.invalid")
"""Names that only this tool offers, by ALPN and by SNI. etcd logs both."""

_BETWEEN: Final = timedelta(seconds=2)
"""The longest time between two rejected connections of one run, unless it waits."""
_KINDS: Final = 4
"""No client or health check causes so many kinds of rejected connections that a run also causes."""


@dataclass(frozen=True, slots=True)
class EarlierRun:
    """Rejected connections that look like those of an earlier run of this tool.

    Attributes:
        lines: the log entries in the order of time.
    """

    host: str
    lines: tuple[Rejection, ...]
    first: datetime
    last: datetime


def earlier_runs(others: Iterable[Rejection], ours: Sequence[Rejection]) -> tuple[EarlierRun, ...]:
    """Return the rejected connections that look like those of earlier runs.

    These are connections from one host shortly before or after one with a name that only this tool sends, and
    successive connections from an address of this run, of several kinds that this run has as well.

    Args:
        others: the rejected connections that are not from this run.
        ours: the rejected connections of this run.
    """
    times = [one.time for one in ours if one.time is not None]
    span = (max(times) - min(times) if times else timedelta()) + _BETWEEN
    hosts, kinds = {one.remote_host for one in ours}, {_kind(one) for one in ours}
    by_host: dict[str, list[tuple[datetime, Rejection]]] = {}
    for one in others:
        if one.time is not None:
            by_host.setdefault(one.remote_host, []).append((one.time, one))
    found: list[EarlierRun] = []
    for host, lines in by_host.items():
        lines.sort(key=lambda line: line[0])
        marks = [
            time
            for time, one in lines
            if one.server_name in OWN_MARKS or any(mark in one.error for mark in OWN_MARKS)
        ]
        near: list[tuple[datetime, Rejection]] = []
        rest: list[tuple[datetime, Rejection]] = []
        for line in lines:
            at = bisect_left(marks, line[0])
            close = any(abs(line[0] - mark) <= span for mark in marks[max(0, at - 1) : at + 1])
            (near if close else rest).append(line)
        bursts = [*_bursts(near, span)]
        if host in hosts:
            bursts += [
                burst
                for burst in _bursts(rest, _BETWEEN)
                if burst[-1][0] - burst[0][0] <= span
                and len(found_kinds := {_kind(one) for _, one in burst}) >= _KINDS
                and found_kinds <= kinds
            ]
        found += [
            EarlierRun(host, tuple(one for _, one in burst), burst[0][0], burst[-1][0]) for burst in bursts
        ]
    return tuple(sorted(found, key=lambda run: run.first))


def _kind(rejection: Rejection) -> tuple[Endpoint | None, Cause, str]:
    return rejection.endpoint, rejection.cause, rejection.server_name


def _bursts(
    lines: Sequence[tuple[datetime, Rejection]], between: timedelta
) -> Iterator[list[tuple[datetime, Rejection]]]:
    """Yield groups of entries in the order of time, separated by longer pauses."""
    burst: list[tuple[datetime, Rejection]] = []
    for line in lines:
        if burst and line[0] - burst[-1][0] > between:
            yield burst
            burst = []
        burst.append(line)
    if burst:
        yield burst
