"""Which etcd is running and which Go it was built with, read from its own answers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import TypeVar

from pytest_etcdtls.errors import NotApplicableError, NotVerifiedError, UnobservedError
from pytest_etcdtls.observations.admission import ServedClient
from pytest_etcdtls.observations.api import Exchange
from pytest_etcdtls.observations.attempt import Protocol
from pytest_etcdtls.observations.release import (
    EtcdRelease,
    EtcdReleases,
    GoRelease,
    GoReleases,
    Release,
    SplitListeners,
)
from pytest_etcdtls.probes.contact import listener_of
from pytest_etcdtls.probes.presentable import Presentable
from pytest_etcdtls.probes.protobuf import fields, grpc_message
from pytest_etcdtls.probes.registry import Context, probe
from pytest_etcdtls.target import Listener, Role

T = TypeVar("T", EtcdRelease, GoRelease)

_ETCD = re.compile(rb'^etcd_server_version\{server_version="([^"]+)"\}', re.MULTILINE)
_GO = re.compile(rb'^(?:etcd_server_go_version\{server_go_|go_info\{)version="([^"]+)"\}', re.MULTILINE)
_NEED = "pass a client certificate that is accepted"


@probe(EtcdRelease, cost=0, needs=[(Exchange, "/version"), (ServedClient, None)], across=True)
def _etcd(context: Context, key: str | None) -> EtcdRelease:
    """Take the listener's own word, else that of another listener of the member, else the binary's."""
    listener = listener_of(context)
    for place in (listener, *_siblings(context, listener)):
        try:
            text, source = _etcd_version(context, place)
        except UnobservedError:
            continue
        if (release := Release.parse(text)) is not None:
            return EtcdRelease(url=place.url, member=listener.member, release=release, source=source)
    known = Release.parse(context.target.etcd_version or "")
    if known is not None:
        return EtcdRelease(url=listener.url, member=listener.member, release=known, source="the binary")
    raise NotVerifiedError(f"the version of etcd is not known: {_NEED}")


@probe(GoRelease, cost=0, needs=[(Exchange, "/metrics")], across=True)
def _go(context: Context, key: str | None) -> GoRelease:
    listener = listener_of(context)
    for place in (listener, *_siblings(context, listener)):
        if place.role is Role.PEER:
            continue
        try:
            text = _metric(context, place, _GO)
        except UnobservedError:
            continue
        if (release := Release.parse(text)) is not None:
            return GoRelease(url=place.url, member=listener.member, release=release, text=text)
    raise NotVerifiedError(f"the Go release is not known, it stands in /metrics: {_NEED}")


@probe(EtcdReleases, cost=0, needs=[(EtcdRelease, None)], across=True)
def _etcds(context: Context, key: str | None) -> EtcdReleases:
    return EtcdReleases(members=_of_members(context, EtcdRelease))


@probe(GoReleases, cost=0, needs=[(GoRelease, None)], across=True)
def _gos(context: Context, key: str | None) -> GoReleases:
    return GoReleases(members=_of_members(context, GoRelease))


@probe(
    SplitListeners,
    cost=0,
    needs=[(EtcdRelease, None), (ServedClient, None), (Presentable, None)],
    across=True,
)
def _split(context: Context, key: str | None) -> SplitListeners:
    split = [listener for listener in context.target.listeners if _has_http_split_off(context, listener)]
    if not split:
        raise NotApplicableError("HTTP is not split off the gRPC port")
    named = any(listener.role is Role.CLIENT_HTTP for listener in context.target.listeners)
    if named and any(_can_prove(context, listener) for listener in split):
        raise NotApplicableError("a revoked certificate is at hand to prove it")
    found = {listener.member: context.get(EtcdRelease, listener=listener) for listener in split}
    return SplitListeners(members=tuple(found.values()))


def _can_prove(context: Context, listener: Listener) -> bool:
    try:
        context.get(Presentable, "revoked", listener=listener)
    except UnobservedError:
        return False
    return True


def _has_http_split_off(context: Context, listener: Listener) -> bool:
    """Whether it is the HTTP listener itself, or a client listener that speaks nothing but gRPC."""
    if listener.role is not Role.CLIENT or listener.scheme == "http":
        return listener.role is Role.CLIENT_HTTP
    try:
        accepted = context.get(ServedClient, listener=listener).client
    except UnobservedError:
        return False
    return accepted is not None and set(accepted.spoken) == {Protocol.GRPC}


def _of_members(context: Context, type_: type[T]) -> tuple[T, ...]:
    """Return one observation per member, of those that have one.

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


def _siblings(context: Context, listener: Listener) -> Iterator[Listener]:
    for other in context.target.listeners:
        if other.member == listener.member and other is not listener:
            yield other


def _etcd_version(context: Context, place: Listener) -> tuple[str, str]:
    """Return what that listener says, and where it says so.

    Raises:
        UnobservedError: if it does not.
    """
    if place.role is Role.METRICS:
        return _metric(context, place, _ETCD), "/metrics"
    try:
        return _from_version(context, place), "/version"
    except UnobservedError:
        return _from_status(context, place), "gRPC Status"


def _from_version(context: Context, place: Listener) -> str:
    response = context.get(Exchange, "/version", listener=place).attempt.response
    try:
        return str(json.loads(response.body)["etcdserver"]) if response else ""
    except (ValueError, TypeError, KeyError):
        return ""


def _from_status(context: Context, place: Listener) -> str:
    """Return the version in the StatusResponse that a gRPC-only listener gave."""
    accepted = context.get(ServedClient, listener=place).client
    for attempt in accepted.served if accepted else ():
        if attempt.protocol is Protocol.GRPC and attempt.response is not None:
            try:
                version = fields(grpc_message(attempt.response.body)).get(2, [b""])[0]
            except ValueError:
                continue
            return version.decode("ascii", "replace") if isinstance(version, bytes) else ""
    raise NotVerifiedError(f"{place.url} does not tell its version")


def _metric(context: Context, place: Listener, pattern: re.Pattern[bytes]) -> str:
    response = context.get(Exchange, "/metrics", listener=place).attempt.response
    found = pattern.search(response.body) if response else None
    if found is None:
        raise NotVerifiedError(f"{place.url}/metrics does not tell the version")
    return found[1].decode("ascii", "replace")
