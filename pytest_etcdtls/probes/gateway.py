"""What the JSON gateway answers to the good client, and to the user that was given where it wants one."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from typing import TypeVar

from pytest_etcdtls.errors import NotApplicableError, NotVerifiedError, UnobservedError
from pytest_etcdtls.observations.admission import Acceptance, ServedClient
from pytest_etcdtls.observations.api import Alarms, GatewayAnswer, GatewayDial
from pytest_etcdtls.observations.attempt import Attempt, Protocol
from pytest_etcdtls.observations.chain import AnnouncedCAs, ClientTrust, Dialling, ServedChain
from pytest_etcdtls.probes.api import accepted_client
from pytest_etcdtls.probes.contact import listener_of
from pytest_etcdtls.probes.exchange import GATEWAY_STATUS_PATH
from pytest_etcdtls.probes.registry import Context, Request, probe
from pytest_etcdtls.probes.user_token import UserToken, trusted_leaf
from pytest_etcdtls.target import Listener, Role

T = TypeVar("T")

_DENIED = frozenset({400, 401, 403})

_BACKOFF_SECONDS = 1.3
"""gRPC dials again 1.0 to 1.2 seconds after a dial that failed, and answers with that failure until then."""


@probe(
    GatewayAnswer,
    cost=lambda target, _listener, _key: 1 + int(target.user is not None),
    needs=[(ServedClient, None), (UserToken, None)],
)
def _gateway(context: Context, key: str | None) -> GatewayAnswer:
    listener = listener_of(context)
    accepted, _ = accepted_client(context)
    seen = [attempt for attempt in accepted.served if attempt.protocol is Protocol.GATEWAY]
    if not seen:
        raise NotApplicableError(f"{listener.url} has no gateway: HTTP is split off")
    tries = (seen[-1], *(_again(context) if _may_pass(seen[-1]) else ()))
    answer = GatewayAnswer(
        url=listener.url,
        role=listener.role,
        tries=tries,
        identity=accepted.identity,
        files=accepted.files,
    )
    if context.target.user is None or not _is_denied(tries[-1]):
        return answer
    try:
        token = context.get(UserToken, listener=_grpc_port(context, listener))
        tries = _as_user(context, token)
    except UnobservedError as unobserved:
        return replace(answer, why_not=unobserved.reason)
    return replace(answer, tries=tries, user=token.user)


@probe(
    GatewayDial,
    cost=0,
    needs=[(ServedChain, None), (Dialling, None), (ClientTrust, None), (AnnouncedCAs, None)],
)
def _dial(context: Context, key: str | None) -> GatewayDial:
    listener = listener_of(context)
    served, trust = _known(context, ServedChain), _known(context, ClientTrust)
    announced = _known(context, AnnouncedCAs)
    return GatewayDial(
        served=served.certificates if served else (),
        observed_at=served.observed_at if served else None,
        with_another=context.get(Dialling).with_another,
        trusted=trust.certificates if trust else None,
        trust_source=trust.source if trust else "",
        announced=tuple(dict.fromkeys(name for _, names in announced.names for name in names))
        if announced
        else (),
        allowed_hostname=context.target.credentials(listener.role).allowed_hostname,
    )


@probe(Alarms, cost=0, needs=[(Acceptance, None)])
def _alarms(context: Context, key: str | None) -> Alarms:
    acceptance = _known(context, Acceptance)
    accepted = acceptance.accepted if acceptance else None
    found: dict[str, None] = {}
    for attempt in accepted.served if accepted else ():
        if attempt.protocol is not Protocol.GATEWAY or attempt.response is None:
            continue
        try:
            errors = json.loads(attempt.response.body)["errors"]
            found |= dict.fromkeys(str(error).strip() for error in errors if "alarm:" in str(error))
        except (ValueError, TypeError, KeyError):
            continue
    return Alarms(texts=tuple(found))


def _known(context: Context, type_: type[T]) -> T | None:
    try:
        return context.get(type_)
    except UnobservedError:
        return None


def _may_pass(attempt: Attempt) -> bool:
    """Whether the gateway could not dial etcd for a reason that is not its certificate.

    A pair that is being replaced is such a reason, for a moment.
    """
    response = attempt.response
    if response is None or response.status != 503:
        return False
    return not any(word in response.body for word in (b"certificate", b"x509"))


def _again(context: Context) -> tuple[Attempt, ...]:
    """Ask once more when the gateway has dialled once more."""
    threading.Event().wait(_BACKOFF_SECONDS)
    return context.attempt(_request(context, "JSON gateway, once more"))[0]


def _as_user(context: Context, token: UserToken) -> tuple[Attempt, ...]:
    request = _request(context, "JSON gateway, with a token")
    headers = {"authorization": token.token}
    return context.attempt(replace(request, headers=headers, only_to=trusted_leaf(context)))[0]


def _request(context: Context, purpose: str) -> Request:
    _, identity = accepted_client(context)
    return Request(purpose=purpose, identity=identity, path=GATEWAY_STATUS_PATH, speech=Protocol.GATEWAY)


def _grpc_port(context: Context, listener: Listener) -> Listener:
    """Return where a token can be had: beside an HTTP listener the client listener of its member."""
    if listener.role is Role.CLIENT:
        return listener
    for other in context.target.listeners:
        if other.role is Role.CLIENT and other.member == listener.member and other.scheme == "https":
            return other
    raise NotVerifiedError("a token is given by gRPC: pass --etcd-endpoint of the same member")


def _is_denied(attempt: Attempt) -> bool:
    """Whether a user is wanted; a certificate with a common name is turned away with any user."""
    response = attempt.response
    return response is not None and response.status in _DENIED and b"CommonName" not in response.body
