"""Calls of etcd's API by the accepted client: gRPC ``Range`` and the JSON gateway, as a user where needed.

The gateway is a client of etcd itself. It dials the member's own client port (``grpcGatewayDial`` in
server/embed/etcd.go), with the pair of ``--client-cert-file``, else with the served one. So what it answers
depends on whether etcd accepts the certificate that it presents to itself.

A password and a token are secrets. They are sent only to the leaf that was seen and verified
(:class:`TrustedLeaf`), and only where etcd refuses a call without a user.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Annotated

from cryptography.hazmat.primitives.serialization import Encoding
from msgspec import Struct
from msgspec.structs import replace

from pytest_etcdtls.errors import InconclusiveError, NotApplicableError, NotVerifiedError, missing
from pytest_etcdtls.facts.access import PresentedClient
from pytest_etcdtls.facts.api import serves_grpc_only
from pytest_etcdtls.facts.certificates import PathToTrust
from pytest_etcdtls.facts.fact import Each, Lazy, Planned, Wire, fact
from pytest_etcdtls.facts.listener import FirstContact, ServedChain, Tried
from pytest_etcdtls.pki.go_verify import names_host
from pytest_etcdtls.pki.profile import NO_CERTIFICATE, Identity
from pytest_etcdtls.role import Protocol, Role
from pytest_etcdtls.target import Listener, Target
from pytest_etcdtls.tls.attempt import Attempt, Request
from pytest_etcdtls.tls.http import GATEWAY_STATUS_PATH, encode, grpc_fields


class GatewayAnswer(Tried, frozen=True, kw_only=True):
    """The JSON gateway's answer to the accepted good identity.

    Attributes:
        user: the user whose token was presented, empty if none was.
        why_not: why the user that was given could not be used, empty if there is no such reason.
    """

    identity: str
    user: str = ""
    why_not: str = ""

    @property
    def state(self) -> str:
        """Whether the gateway works, in words; empty if that is not known.

        Where authentication is on, etcd's refusal shows that the gateway reaches it. A failed TCP connection
        (``newHTTP2Client`` in grpc-go) says nothing about certificates: it may be that of a proxy.
        """
        response = self.attempt.response
        if response is None or (response.status == 503 and b"rror while dialing" in response.body):
            return ""
        return _STATES.get(response.status, "")


_STATES = {404: "switched off", 503: "does not work", **dict.fromkeys((200, 400, 401, 403), "works")}
"""By the status of an answer."""


class RangeAnswer(Tried, frozen=True, kw_only=True):
    """The answer to ``etcdserverpb.KV/Range`` of one key with ``count_only``, so that no value is sent.

    Attributes:
        status: the gRPC status code; ``None`` if the server sent none.
        message: the gRPC status message.
        well_formed: the response is a RangeResponse.
        user: the user whose token was presented, empty if none was.
        why_not: why the user that was given could not be used, empty if there is no such reason.
    """

    status: int | None
    message: str = ""
    well_formed: bool = False
    user: str = ""
    why_not: str = ""


class TrustedLeaf(Struct, frozen=True):
    """The served leaf to which secrets may be sent, in DER."""

    der: bytes


@fact(reported=False)
def trusted_leaf(here: Listener, target: Target, served: ServedChain, path: PathToTrust) -> TrustedLeaf:
    """Return the served leaf, if secrets may be sent to the listener.

    Raises:
        NotVerifiedError: if a client that verifies certificates would refuse the leaf, or the CA that
            verifies it is from another source than the password.
    """
    if why := target.password_withheld:
        raise NotVerifiedError(f"no password was sent: {why}")
    if not path.verified or not names_host(served.leaf, here.name):
        raise NotVerifiedError("the password was not sent: the server's certificate is not trusted")
    return TrustedLeaf(served.leaf.public_bytes(Encoding.DER))


@dataclass(frozen=True, slots=True)
class UserToken:
    """The result of ``Auth/Authenticate``."""

    user: str
    token: str = field(repr=False)


USER_OPTIONS = ("--etcd-user", "--etcd-password-file")
"""The options that name a user of etcd's authentication."""
_AUTHENTICATE = "/etcdserverpb.Auth/Authenticate"
_REFUSED = frozenset({3, 9, 16})
"""gRPC statuses of ``Authenticate`` with a wrong password (InvalidArgument), or a user that does not exist or
has no password (FailedPrecondition, Unauthenticated)."""


def _gives_tokens(planned: Planned) -> bool:
    role = planned.listener.role if planned.listener else None
    return planned.target.user is not None and role is Role.CLIENT


def _for_a_token(planned: Planned) -> Iterable[None]:
    return (None,) if _gives_tokens(planned) else ()


@fact(connections=lambda planned: int(_gives_tokens(planned)), reported=False)
def user_token(
    target: Target,
    presented: Lazy[Annotated[PresentedClient, _for_a_token]],
    leaf: Lazy[Annotated[TrustedLeaf, _for_a_token]],
    wire: Wire,
) -> UserToken:
    """Get a token with the password of the user that was given."""
    if target.user is None:
        raise NotVerifiedError("no user was given")
    name, password = target.user
    request = Request(
        purpose="gRPC Authenticate",
        identity=presented.get().identity,
        path=_AUTHENTICATE,
        protocol=Protocol.GRPC,
        body=encode({1: name.encode(), 2: password.encode()}),  # AuthenticateRequest in rpc.proto
        only_to=leaf.get().der,
    )
    attempt = wire.attempt(request)[0][-1]
    if not (token := _token_in(attempt)):
        response = attempt.response
        why = (
            response.headers.get("grpc-message", "no token was returned") if response else attempt.describe()
        )
        if response is not None and response.grpc_status in _REFUSED:
            text, options = f"etcd refuses the user {name} with this password: {why}", USER_OPTIONS
            ending = f"; check {' and '.join(options)}, or ETCDCTL_USER"
            raise InconclusiveError(missing(text, *options, ending=ending))
        raise NotVerifiedError(f"no token for user {name}: {why}")
    return UserToken(name, token)


def _token_in(attempt: Attempt) -> str:
    try:
        token = grpc_fields(attempt.response).get(2, [b""])[0]  # of AuthenticateResponse
    except ValueError:
        return ""
    return token.decode("ascii", "replace") if isinstance(token, bytes) else ""


_RANGE = Request(
    purpose="gRPC Range, count only",
    path="/etcdserverpb.KV/Range",
    protocol=Protocol.GRPC,
    # RangeRequest in etcd's rpc.proto: key, limit, serializable, count_only. `etcdctl endpoint health` reads
    # the same key.
    body=encode({1: b"health", 3: 1, 7: 1, 9: 1}),
)

DENIED = frozenset({3, 7, 16})
"""Status codes of a call without a user or without permission: InvalidArgument, PermissionDenied,
Unauthenticated (``google.golang.org/grpc/codes``)."""


@fact(connections=lambda planned: 1 if planned.target.user is None else 2)
def range_answer(
    here: Listener,
    target: Target,
    presented: PresentedClient,
    token: Lazy[UserToken],
    leaf: Lazy[TrustedLeaf],
    wire: Wire,
) -> RangeAnswer:
    """Count one key, again as the user where etcd requires one."""
    if Protocol.GRPC not in presented.candidate.served_protocols:
        raise NotApplicableError(f"{here.url} does not serve gRPC to the good client")
    request = dataclasses.replace(_RANGE, identity=presented.identity)
    tries = wire.attempt(request)[0]
    answer = _answer(tries)
    if target.user is None or answer.status not in DENIED:
        return answer
    made, user, why_not = _as_user(token.get, leaf, wire, request, "token")
    return _answer(made or tries, user, why_not)


def _as_user(
    token: Callable[[], UserToken], leaf: Lazy[TrustedLeaf], wire: Wire, request: Request, header: str
) -> tuple[tuple[Attempt, ...], str, str]:
    """Return the tries of a request with a token in this header, and the user; or why there are none."""
    try:
        user = token()
        signed = dataclasses.replace(request, headers={header: user.token}, only_to=leaf.get().der)
        return wire.attempt(signed)[0], user.user, ""
    except (NotVerifiedError, NotApplicableError) as unobserved:
        return (), "", str(unobserved)


def _answer(tries: tuple[Attempt, ...], user: str = "", why_not: str = "") -> RangeAnswer:
    response = tries[-1].response
    try:
        # The header is field 1 of every response of etcd.
        well_formed = bool(grpc_fields(response).get(1))
    except ValueError:
        well_formed = False
    return RangeAnswer(
        tries=tries,
        status=response.grpc_status if response else None,
        message=response.headers.get("grpc-message", "") if response else "",
        well_formed=well_formed,
        user=user,
        why_not=why_not,
    )


_DENIED = frozenset({400, 401, 403})

_BACKOFF_SECONDS = 1.3
"""gRPC dials again 1.0 to 1.2 seconds after a dial that failed, and answers with that failure until then."""


def _gateway_cost(planned: Planned) -> int:
    has_tls = planned.listener is None or planned.listener.scheme == "https"
    return 1 + int(planned.target.user is not None) if has_tls else 2


@fact(connections=_gateway_cost)
def gateway_answer(
    here: Listener,
    target: Target,
    contact: FirstContact,
    presented: Lazy[PresentedClient],
    tokens: Each[UserToken],
    leaf: Lazy[TrustedLeaf],
    wire: Wire,
) -> GatewayAnswer:
    """Return what the gateway answered; ask again after a failure that may pass, or as the user."""
    if has_tls := here.scheme == "https":
        client, identity = presented.get().candidate, presented.get().identity
        seen = client.served_over(Protocol.GATEWAY)
    else:
        identity, is_http2 = NO_CERTIFICATE, bool(contact.plaintext and contact.plaintext.is_http2)
        asked = _status_request(identity, "JSON gateway", plaintext=True)
        seen = () if is_http2 else wire.attempt(asked)[0]
    if not seen:
        raise serves_grpc_only(here, target)
    tries = seen[-1:]
    if _may_be_temporary(tries[-1]):
        threading.Event().wait(_BACKOFF_SECONDS)
        again = _status_request(identity, "JSON gateway, once more", plaintext=not has_tls)
        tries += wire.attempt(again)[0]
    answer = GatewayAnswer(tries=tries, identity=identity.name)
    if target.user is None or not has_tls or not _is_denied(tries[-1]):
        return answer
    request = _status_request(identity, "JSON gateway, with a token")
    made, user, why_not = _as_user(
        lambda: tokens.at(_grpc_port(target, here)), leaf, wire, request, "authorization"
    )
    return replace(answer, tries=made or tries, user=user, why_not=why_not)


def _status_request(identity: Identity, purpose: str, *, plaintext: bool = False) -> Request:
    return Request(
        purpose=purpose,
        identity=identity,
        path=GATEWAY_STATUS_PATH,
        protocol=Protocol.GATEWAY,
        plaintext=plaintext,
    )


def _may_be_temporary(attempt: Attempt) -> bool:
    """Whether the gateway could not dial etcd for another reason than its certificate.

    Such a reason may be temporary: a key pair that is being replaced.
    """
    response = attempt.response
    if response is None or response.status != 503:
        return False
    return not any(word in response.body for word in (b"certificate", b"x509"))


def _is_denied(attempt: Attempt) -> bool:
    """Whether etcd requires a user; a certificate with a common name is refused with any user."""
    response = attempt.response
    return response is not None and response.status in _DENIED and b"CommonName" not in response.body


def _grpc_port(target: Target, here: Listener) -> Listener:
    """Return the listener that issues tokens: for an HTTP listener, the client listener of its member."""
    if here.role is Role.CLIENT:
        return here
    for other in target.siblings(here, Role.CLIENT):
        if other.scheme == "https":
            return other
    passing = "--etcd-endpoint of the same member, with https"
    raise NotVerifiedError(missing("a token is issued over gRPC", "--etcd-endpoint", passing=passing))
