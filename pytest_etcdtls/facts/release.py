"""Which release of etcd and of Go is running."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Self, TypeVar

from pytest_etcdtls.dataclass import dataclass
from pytest_etcdtls.errors import NotApplicableError, NotVerifiedError, UnobservedError, UnreadableJSONError
from pytest_etcdtls.facts.access import ClientIdentity, ServedClient
from pytest_etcdtls.facts.api import ClientExchange
from pytest_etcdtls.facts.listener import listener_of
from pytest_etcdtls.facts.probe import Context, SampleListener, observed, probe, sample
from pytest_etcdtls.role import Protocol, Role
from pytest_etcdtls.target import Listener
from pytest_etcdtls.tls.http import grpc_fields
from pytest_etcdtls.untrusted import printable, read_json

_LONGEST = 100
_RELEASE = re.compile(r"(?:v|go)?(\d+)\.(\d+)(?:\.(\d+))?(.*)", re.DOTALL)
_BEFORE_RELEASE = re.compile(r"-?(alpha|beta|pre|rc)")


@dataclass(frozen=True, slots=True, order=True)
class Release:
    """A version that can be compared: ``3.6.0-rc.1`` comes before ``3.6.0``.

    Attributes:
        patch: 0 where the version has none (``go1.20``).
        final: it is no alpha, beta or release candidate. Other suffixes are a vendor's and are ignored.
    """

    major: int
    minor: int
    patch: int
    final: bool = True

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Return the release that ``3.5.33``, ``3.6.0-rc.1`` or ``go1.24.0`` names, ``None`` if none."""
        found = _RELEASE.fullmatch(text.strip()) if len(text) < _LONGEST else None
        if found is None:
            return None
        final = _BEFORE_RELEASE.match(found[4]) is None
        return cls(int(found[1]), int(found[2]), int(found[3] or 0), final)

    @property
    def line(self) -> tuple[int, int]:
        """The release line, ``(3, 6)``."""
        return self.major, self.minor

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}" + ("" if self.final else " before release")


@dataclass(frozen=True, slots=True, kw_only=True)
class EtcdRelease:
    """The release of the etcd behind a listener.

    Attributes:
        member: label of the member.
        source: where it was read: ``/version``, ``gRPC Status``, ``/metrics``, or ``the binary`` of an owned
            cluster.
    """

    url: str
    member: str
    release: Release
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GoRelease:
    """The Go release that the etcd behind a listener was built with, from ``/metrics``.

    Attributes:
        member: label of the member.
        text: as etcd writes it: ``go1.26.8``.
    """

    url: str
    member: str
    release: Release
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EtcdReleases:
    """The etcd releases of the target's members, one each."""

    members: tuple[EtcdRelease, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitListeners:
    """The etcd releases of the members that have a separate HTTP listener next to the gRPC port."""

    members: tuple[EtcdRelease, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GoReleases:
    """The Go releases of the target's members, one each."""

    members: tuple[GoRelease, ...]


T = TypeVar("T", EtcdRelease, GoRelease)

_ETCD = re.compile(rb'^etcd_server_version\{server_version="([^"]+)"\}', re.MULTILINE)
_GO = re.compile(rb'^(?:etcd_server_go_version\{server_go_|go_info\{)version="([^"]+)"\}', re.MULTILINE)
_ADVICE = "pass a client certificate that is accepted"


@probe(
    EtcdRelease,
    cost=0,
    needs=[(ClientExchange, "/version"), (ClientExchange, "/metrics"), ServedClient],
    across=True,
)
def _etcd(context: Context) -> EtcdRelease:
    listener = listener_of(context)
    for one in (listener, *context.target.siblings(listener, *Role)):
        try:
            text, source = _etcd_version(context, one)
        except UnobservedError:
            continue
        if (release := Release.parse(text)) is not None:
            return EtcdRelease(url=one.url, member=listener.member, release=release, source=source)
    known = Release.parse(context.target.etcd_version or "")
    if known is not None:
        return EtcdRelease(url=listener.url, member=listener.member, release=known, source="the binary")
    raise NotVerifiedError(f"the version of etcd is not known: {_ADVICE}")


@probe(GoRelease, cost=0, needs=[(ClientExchange, "/metrics")], across=True)
def _go(context: Context) -> GoRelease:
    listener = listener_of(context)
    for one in (listener, *context.target.siblings(listener, *Role)):
        if one.role is Role.PEER:
            continue
        try:
            text = _metric(context, one, _GO)
        except UnobservedError:
            continue
        if (release := Release.parse(text)) is not None:
            return GoRelease(url=one.url, member=listener.member, release=release, text=text)
    raise NotVerifiedError(f"the Go release is not known, /metrics has it: {_ADVICE}")


@probe(EtcdReleases, cost=0, needs=[EtcdRelease], across=True)
def _etcds(context: Context) -> EtcdReleases:
    return EtcdReleases(members=_of_members(context, EtcdRelease))


@probe(GoReleases, cost=0, needs=[GoRelease], across=True)
def _gos(context: Context) -> GoReleases:
    return GoReleases(members=_of_members(context, GoRelease))


@probe(
    SplitListeners,
    cost=0,
    needs=[EtcdRelease, ServedClient, (ClientIdentity, "revoked")],
    across=True,
)
def _split(context: Context) -> SplitListeners:
    split = [listener for listener in context.target.listeners if _has_http_split_off(context, listener)]
    if not split:
        raise NotApplicableError("HTTP is not split off the gRPC port")
    named = any(listener.role is Role.CLIENT_HTTP for listener in context.target.listeners)
    if named and any(observed(context, ClientIdentity, "revoked", one) for one in split):
        raise NotApplicableError("a revoked certificate is at hand to prove it")
    found = {listener.member: context.get(EtcdRelease, listener=listener) for listener in split}
    return SplitListeners(members=tuple(found.values()))


def _has_http_split_off(context: Context, listener: Listener) -> bool:
    """Whether it is the separate HTTP listener, or a client listener that serves gRPC only."""
    if listener.role is not Role.CLIENT or listener.scheme == "http":
        return listener.role is Role.CLIENT_HTTP
    served = observed(context, ServedClient, listener=listener)
    return bool(served and served.client and set(served.client.served_protocols) == {Protocol.GRPC})


def _of_members(context: Context, type_: type[T]) -> tuple[T, ...]:
    """Return one observation for each member that has one.

    Raises:
        NotVerifiedError: if no member has one.
    """
    found: dict[str, T] = {}
    reasons: list[str] = []
    for listener in context.target.listeners:
        if listener.member in found:
            continue
        try:
            found[listener.member] = context.get(type_, listener=listener)
        except UnobservedError as unobserved:
            reasons.append(unobserved.reason)
    if not found:
        raise NotVerifiedError("; ".join(dict.fromkeys(reasons)))
    return tuple(found.values())


def _etcd_version(context: Context, listener: Listener) -> tuple[str, str]:
    """Return the version that the listener reports, and where it reports it.

    Raises:
        UnobservedError: if it reports none.
    """
    if listener.role is Role.METRICS:
        return _metric(context, listener, _ETCD), "/metrics"
    try:
        return _from_version(context, listener), "/version"
    except UnobservedError:
        return _from_status(context, listener), "gRPC Status"


def _from_version(context: Context, listener: Listener) -> str:
    response = context.get(ClientExchange, "/version", listener=listener).attempt.response
    try:
        body = read_json(response.body) if response else None
    except UnreadableJSONError:
        return ""
    return str(body.get("etcdserver", "")) if isinstance(body, dict) else ""


def _from_status(context: Context, listener: Listener) -> str:
    """Return the version in the StatusResponse of a gRPC-only listener."""
    accepted = context.get(ServedClient, listener=listener).client
    for attempt in accepted.served_over(Protocol.GRPC) if accepted else ():
        try:
            # StatusResponse in rpc.proto: header, version.
            version = grpc_fields(attempt.response).get(2, [b""])[0]
        except ValueError:
            continue
        return printable(version) if isinstance(version, bytes) else ""
    raise NotVerifiedError(f"{listener.url} does not report its version")


def _metric(context: Context, listener: Listener, pattern: re.Pattern[bytes]) -> str:
    response = context.get(ClientExchange, "/metrics", listener=listener).attempt.response
    found = pattern.search(response.body) if response else None
    if found is None:
        raise NotVerifiedError(f"{listener.url}/metrics does not report the version")
    return printable(found[1])


@sample(EtcdRelease)
def _sample_etcd(listener: SampleListener) -> EtcdRelease:
    return EtcdRelease(url=listener.url, member="m0", release=Release(3, 6, 16), source="/version")


@sample(EtcdReleases)
def _sample_etcds(listener: SampleListener) -> EtcdReleases:
    one = _sample_etcd(listener)
    return EtcdReleases(members=(one, replace(one, member="m1")))


@sample(GoReleases)
def _sample_gos(listener: SampleListener) -> GoReleases:
    go = GoRelease(url=listener.url, member="m0", release=Release(1, 26, 8), text="go1.26.8")
    return GoReleases(members=(go, replace(go, member="m1")))


@sample(SplitListeners)
def _sample_split(listener: SampleListener) -> SplitListeners:
    return SplitListeners(members=(_sample_etcd(listener),))
