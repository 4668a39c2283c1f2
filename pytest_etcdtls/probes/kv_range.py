"""A read over gRPC that transfers no value: ``KV/Range`` of one key, counted only, from the member itself.

With authentication on, and a user given, the call is made with that user's token.
"""

from __future__ import annotations

from pytest_etcdtls.errors import NotApplicableError, UnobservedError
from pytest_etcdtls.observations.admission import ServedClient
from pytest_etcdtls.observations.api import RangeAnswer
from pytest_etcdtls.observations.attempt import Attempt, Protocol
from pytest_etcdtls.pki.identity import Identity
from pytest_etcdtls.probes.api import accepted_client
from pytest_etcdtls.probes.contact import listener_of
from pytest_etcdtls.probes.protobuf import encode, fields, grpc_message
from pytest_etcdtls.probes.registry import Context, Request, probe
from pytest_etcdtls.probes.user_token import UserToken, trusted_leaf

_RANGE = "/etcdserverpb.KV/Range"
# RangeRequest: key, limit, serializable, count_only. The key is the one that etcdctl endpoint health reads.
_ONE_KEY = encode({1: b"health", 3: 1, 7: 1, 9: 1})

DENIED = frozenset({3, 7, 16})
"""Status codes of a call for want of a user or of its permission: InvalidArgument, PermissionDenied,
Unauthenticated (``google.golang.org/grpc/codes``)."""


@probe(
    RangeAnswer,
    cost=lambda target, _listener, _key: 1 if target.user is None else 2,
    needs=[(ServedClient, None), (UserToken, None)],
)
def _range(context: Context, key: str | None) -> RangeAnswer:
    listener = listener_of(context)
    accepted, identity = accepted_client(context)
    if Protocol.GRPC not in accepted.spoken:
        raise NotApplicableError(f"{listener.url} does not speak gRPC to the good client")
    tries = context.attempt(_request(identity, {}))[0]
    answer = _answer(listener.url, tries)
    if context.target.user is None or answer.status not in DENIED:
        return answer
    try:
        token = context.get(UserToken)
        tries = context.attempt(_request(identity, {"token": token.token}, only_to=trusted_leaf(context)))[0]
    except UnobservedError as unobserved:
        return _answer(listener.url, tries, why_not=unobserved.reason)
    return _answer(listener.url, tries, user=token.user)


def _request(identity: Identity, headers: dict[str, str], only_to: bytes | None = None) -> Request:
    return Request(
        purpose="gRPC Range, count only",
        identity=identity,
        path=_RANGE,
        speech=Protocol.GRPC,
        body=_ONE_KEY,
        headers=headers,
        only_to=only_to,
    )


def _answer(url: str, tries: tuple[Attempt, ...], *, user: str = "", why_not: str = "") -> RangeAnswer:
    response = tries[-1].response
    status = response.headers.get("grpc-status", "") if response else ""
    try:
        well_formed = response is not None and bool(fields(grpc_message(response.body)).get(1))
    except ValueError:
        well_formed = False
    return RangeAnswer(
        url=url,
        tries=tries,
        status=int(status) if status.isdigit() else None,
        message=response.headers.get("grpc-message", "") if response else "",
        well_formed=well_formed,
        user=user,
        why_not=why_not,
    )
