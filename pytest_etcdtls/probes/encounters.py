"""All that became of the identities on a listener, gathered from what was seen of each.

Makes no connections of its own, and tries nobody whom no other check tries.
"""

from __future__ import annotations

from collections.abc import Iterator

from pytest_etcdtls.errors import NotApplicableError, NotVerifiedError, UnobservedError
from pytest_etcdtls.observations.admission import (
    Acceptance,
    Admission,
    Encounter,
    Encounters,
    SplitRevocation,
)
from pytest_etcdtls.observations.attempt import Protocol
from pytest_etcdtls.probes.contact import listener_of, tls_answer
from pytest_etcdtls.probes.registry import Context, probe
from pytest_etcdtls.refusal import CLOSED_BY_ETCD
from pytest_etcdtls.target import Listener, Role

_EVERYWHERE = ("none", "self-signed", "foreign-ca", "lookalike-ca")
_CLIENT_AND_PEER = ("expired", "not-yet-valid", "server-auth-only", "intermediate-missing")
_BY_ROLE: dict[Role, tuple[str, ...]] = {
    Role.CLIENT: (*_CLIENT_AND_PEER, "wrong-hostname", "revoked", "peer-certificate", "server-certificate"),
    Role.PEER: (
        *_CLIENT_AND_PEER,
        "wrong-hostname",
        "wrong-cn",
        "revoked",
        "wrong-san",
        "client-certificate",
    ),
    Role.METRICS: ("wrong-san", "revoked"),
    Role.CLIENT_HTTP: ("revoked",),
}
"""Whom the checks about single identities try where: nobody else is tried for the sake of comparison."""


@probe(
    Encounters,
    cost=0,
    needs=[(Acceptance, None), *((Admission, name) for name in _EVERYWHERE + _CLIENT_AND_PEER)],
    across=True,
)
def _encounters(context: Context, key: str | None) -> Encounters:
    listener = listener_of(context)
    tls_answer(context)
    split = split_off(context, listener)
    return Encounters(
        url=listener.url,
        role=listener.role,
        here=tuple(_at(context, listener)),
        split=tuple(_at(context, split)) if split else (),
        split_url=split.url if split else "",
    )


def split_off(context: Context, listener: Listener) -> Listener | None:
    """Return the https listener that speaks HTTP beside the gRPC port of its member, if there is one."""
    if listener.role is not Role.CLIENT:
        return None
    for other in context.target.listeners:
        if other.role is Role.CLIENT_HTTP and other.member == listener.member and other.scheme == "https":
            return other
    return None


def _at(context: Context, listener: Listener) -> Iterator[Encounter]:
    yield from _good(context, listener)
    for name in (*_EVERYWHERE, *_BY_ROLE[listener.role]):
        try:
            admission = context.get(Admission, name, listener=listener)
        except UnobservedError:
            continue
        if admission.instead_of:
            continue
        for cell in admission.cells:
            yield Encounter(
                url=listener.url,
                identity=admission.identity,
                version=cell.version,
                protocol=cell.protocol,
                attempt=cell.attempt,
                closes=admission.identity in CLOSED_BY_ETCD,
            )


def _good(context: Context, listener: Listener) -> Iterator[Encounter]:
    try:
        accepted = context.get(Acceptance, listener=listener).accepted
    except UnobservedError:
        return
    for version, protocol, tries in accepted.tries if accepted else ():
        yield Encounter(
            url=listener.url,
            identity=accepted.identity if accepted else "",
            version=version,
            protocol=protocol,
            attempt=tries[-1],
        )


@probe(SplitRevocation, cost=0, needs=[(Admission, "revoked")], across=True)
def _split_revocation(context: Context, key: str | None) -> SplitRevocation:
    listener = listener_of(context)
    tls_answer(context)
    split = split_off(context, listener)
    if split is None:
        accepted = context.get(Acceptance).accepted
        if accepted is not None and Protocol.HTTP1 not in accepted.spoken:
            raise NotVerifiedError("needs the HTTP listener as well: pass --etcd-client-http-endpoint")
        raise NotApplicableError("HTTP is not split off the gRPC port")
    return SplitRevocation(
        grpc=context.get(Admission, "revoked"), http=context.get(Admission, "revoked", listener=split)
    )
