"""A read over gRPC that transfers no value: ``KV/Range`` of one key, counted only, from the member itself.

With authentication on, and a user given, the call is made with that user's token. The password goes only
to a server whose certificate leads to the given CA and names the host, over a connection that serves it.
"""

from __future__ import annotations

from cryptography.hazmat.primitives.serialization import Encoding

from pytest_etcdtls.errors import NotApplicableError, NotVerifiedError, UnobservedError
from pytest_etcdtls.observations.admission import Acceptance
from pytest_etcdtls.observations.api import RangeAnswer
from pytest_etcdtls.observations.attempt import Attempt, Protocol
from pytest_etcdtls.observations.chain import PathToTrust, ServedChain
from pytest_etcdtls.pki.identity import Identity
from pytest_etcdtls.pki.names import names_host
from pytest_etcdtls.probes.api import accepted_client
from pytest_etcdtls.probes.contact import listener_of
from pytest_etcdtls.probes.protobuf import encode, fields, grpc_message
from pytest_etcdtls.probes.registry import Context, Request, probe

_RANGE = "/etcdserverpb.KV/Range"
_AUTHENTICATE = "/etcdserverpb.Auth/Authenticate"
# RangeRequest: key, limit, serializable, count_only. The key is the one that etcdctl endpoint health reads.
_ONE_KEY = encode({1: b"health", 3: 1, 7: 1, 9: 1})

DENIED = frozenset({3, 7, 16})
"""Status codes of a call for want of a user or of its permission: InvalidArgument, PermissionDenied,
Unauthenticated (``google.golang.org/grpc/codes``)."""


@probe(
    RangeAnswer,
    cost=lambda target, _listener, _key: 1 if target.user is None else 3,
    needs=[(Acceptance, None), (PathToTrust, None)],
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
        token, leaf = _token(context, identity, context.target.user)
    except UnobservedError as unobserved:
        return _answer(listener.url, tries, why_not=unobserved.reason)
    tries = context.attempt(_request(identity, {"token": token}, only_to=leaf))[0]
    return _answer(listener.url, tries, user=context.target.user[0])


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


def _token(context: Context, identity: Identity, user: tuple[str, str]) -> tuple[str, bytes]:
    """Return a token for the user, and the leaf of the server that gave it."""
    served, path = context.get(ServedChain), context.get(PathToTrust)
    if path.error or not names_host(served.leaf, served.host):
        raise NotVerifiedError("the password was not sent: the server's certificate is not trusted")
    leaf = served.leaf.public_bytes(Encoding.DER)
    name, password = user
    request = Request(
        purpose="gRPC Authenticate",
        identity=identity,
        path=_AUTHENTICATE,
        speech=Protocol.GRPC,
        body=encode({1: name.encode(), 2: password.encode()}),
        only_to=leaf,
    )
    attempt = context.attempt(request)[0][-1]
    if attempt.response is None:
        raise NotVerifiedError(f"no token for user {name}: {attempt.describe()}")
    try:
        token = fields(grpc_message(attempt.response.body)).get(2, [b""])[0]
    except ValueError:
        token = b""
    if not isinstance(token, bytes) or not token:
        said = attempt.response.headers.get("grpc-message", "no token came")
        raise NotVerifiedError(f"no token for user {name}: {said}")
    return token.decode("ascii", "replace"), leaf


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
