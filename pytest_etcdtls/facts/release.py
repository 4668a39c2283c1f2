"""Which release of etcd and of Go is running."""

from __future__ import annotations

import re
from typing import Annotated, TypeVar

from msgspec import Struct

from pytest_etcdtls.errors import NotApplicableError, NotVerifiedError, Reason, UnobservedError, missing
from pytest_etcdtls.facts.access import ServedClient
from pytest_etcdtls.facts.api import ClientExchange, Metrics, read_metric
from pytest_etcdtls.facts.bad_identities import ClientIdentity
from pytest_etcdtls.facts.fact import Each, fact
from pytest_etcdtls.role import Protocol, Role
from pytest_etcdtls.target import Listener, Target
from pytest_etcdtls.tls.http import grpc_fields
from pytest_etcdtls.untrusted.printable import printable
from pytest_etcdtls.versions import Release


class EtcdRelease(Struct, frozen=True, kw_only=True):
    """The release of the etcd behind a listener.

    Attributes:
        listener: a listener of the member that reports the release.
        source: where it was read: ``/version``, ``gRPC Status``, ``/metrics``, or ``the binary`` of an owned
            cluster.
    """

    listener: Listener
    release: Release
    source: str


class GoRelease(Struct, frozen=True, kw_only=True):
    """The Go release that the etcd behind a listener was built with, from ``/metrics``.

    Attributes:
        listener: a listener of the member that reports the release.
        text: as etcd writes it: ``go1.26.8``.
    """

    listener: Listener
    release: Release
    text: str


class EtcdReleases(Struct, frozen=True, kw_only=True):
    """The etcd releases of the target's members, one each."""

    members: tuple[EtcdRelease, ...]


class SplitListeners(Struct, frozen=True, kw_only=True):
    """The etcd releases of the members that have a separate HTTP listener next to the gRPC port."""

    members: tuple[EtcdRelease, ...]


class GoReleases(Struct, frozen=True, kw_only=True):
    """The Go releases of the target's members, one each."""

    members: tuple[GoRelease, ...]


T = TypeVar("T", EtcdRelease, GoRelease)

_ETCD = re.compile(rb'^etcd_server_version\{server_version="([^"]+)"\}', re.MULTILINE)
_GO = re.compile(rb'^(?:etcd_server_go_version\{server_go_|go_info\{)version="([^"]+)"\}', re.MULTILINE)
ACCEPTED_CLIENT = "a client certificate that is accepted"
"""What is passed so that etcd answers."""


Versions = Each[Annotated[ClientExchange, "/version"]]


@fact
def etcd_release(
    here: Listener, target: Target, versions: Versions, metrics: Metrics, clients: Each[ServedClient]
) -> EtcdRelease:
    """Return what the member's listeners report, else the version of the binary of an owned cluster."""
    for listener in (here, *target.siblings(here, *Role)):
        try:
            if listener.role is Role.METRICS:
                text, source = read_metric(metrics, listener, _ETCD), "/metrics"
            else:
                text, source = _reported_version(listener, versions, clients)
        except UnobservedError:
            continue
        if (release := Release.parse(text)) is not None:
            return EtcdRelease(listener=listener, release=release, source=source)
    known = Release.parse(target.etcd_version or "")
    if known is not None:
        return EtcdRelease(listener=here, release=known, source="the binary")
    raise NotVerifiedError(missing("the version of etcd is not known", passing=ACCEPTED_CLIENT))


@fact
def go_release(here: Listener, target: Target, metrics: Metrics) -> GoRelease:
    """Return what ``/metrics`` of the member's listeners reports; the peer port does not serve it."""
    reasons: list[Reason] = []
    for listener in (here, *target.siblings(here, *Role)):
        if listener.role is Role.PEER:
            continue
        try:
            text = read_metric(metrics, listener, _GO)
        except UnobservedError as unobserved:
            reasons.append(unobserved.why)
            continue
        if (release := Release.parse(text)) is not None:
            return GoRelease(listener=listener, release=release, text=text)
    why = next(iter(reasons), Reason(f"pass {ACCEPTED_CLIENT}"))
    raise NotVerifiedError(why.after("the Go release is not known, /metrics has it: "))


@fact
def etcd_releases(target: Target, releases: Each[EtcdRelease]) -> EtcdReleases:
    """Return the etcd release of each member that reports one."""
    return EtcdReleases(members=_of_members(target, releases))


@fact
def go_releases(target: Target, releases: Each[GoRelease]) -> GoReleases:
    """Return the Go release of each member that reports one."""
    return GoReleases(members=_of_members(target, releases))


@fact
def split_listeners(
    target: Target,
    releases: Each[EtcdRelease],
    clients: Each[ServedClient],
    revoked: Each[Annotated[ClientIdentity, "revoked"]],
) -> SplitListeners:
    """Return the members with a separate HTTP listener, where no revoked certificate shows what that does."""
    split = [listener for listener in target.listeners if _has_http_split_off(listener, clients)]
    if not split:
        raise NotApplicableError("HTTP is not split off the gRPC port")
    named = any(listener.role is Role.CLIENT_HTTP for listener in target.listeners)
    if named and any(revoked.known(listener) for listener in split):
        raise NotApplicableError("a revoked certificate is available as proof")
    by_member = {listener.member: releases.at(listener) for listener in split}
    return SplitListeners(members=tuple(by_member.values()))


def _has_http_split_off(listener: Listener, clients: Each[ServedClient]) -> bool:
    """Whether it is the separate HTTP listener, or a client listener that serves gRPC only."""
    if listener.role is not Role.CLIENT or listener.scheme == "http":
        return listener.role is Role.CLIENT_HTTP
    served = clients.known(listener)
    return bool(served and served.client and set(served.client.served_protocols) == {Protocol.GRPC})


def _of_members(target: Target, releases: Each[T]) -> tuple[T, ...]:
    """Return one release for each member that has one.

    Raises:
        NotVerifiedError: if no member has one.
    """
    by_member: dict[str, T] = {}
    reasons: list[Reason] = []
    for listener in target.listeners:
        if listener.member in by_member:
            continue
        try:
            by_member[listener.member] = releases.at(listener)
        except UnobservedError as unobserved:
            reasons.append(unobserved.why)
    if not by_member:
        raise NotVerifiedError(Reason.together(reasons))
    return tuple(by_member.values())


def _reported_version(listener: Listener, versions: Versions, clients: Each[ServedClient]) -> tuple[str, str]:
    """Return the version that the listener reports, and where it reports it.

    Raises:
        UnobservedError: if it reports none.
    """
    try:
        response = versions.at(listener).attempt.response
    except UnobservedError:
        return _from_status(listener, clients.at(listener)), "gRPC Status"
    return str(response.fields.get("etcdserver", "")) if response else "", "/version"


def _from_status(listener: Listener, served: ServedClient) -> str:
    """Return the version in the StatusResponse of a gRPC-only listener."""
    accepted = served.client
    for attempt in accepted.served_over(Protocol.GRPC) if accepted else ():
        try:
            # StatusResponse in rpc.proto: header, version.
            version = grpc_fields(attempt.response).get(2, [b""])[0]
        except ValueError:
            continue
        return printable(version) if isinstance(version, bytes) else ""
    raise NotVerifiedError(f"{listener.url} does not report its version")
