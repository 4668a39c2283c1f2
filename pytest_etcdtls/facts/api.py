"""Answers of etcd over HTTP and gRPC to an accepted client and to an unauthenticated client."""

from __future__ import annotations

import json
import re
import threading
from dataclasses import field, replace
from datetime import datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from pytest_etcdtls.dataclass import dataclass
from pytest_etcdtls.errors import (
    InconclusiveError,
    NotApplicableError,
    NotVerifiedError,
    RegistrationError,
    UnreadableJSONError,
)
from pytest_etcdtls.facts.access import (
    AcceptedClient,
    AcceptedConnections,
    Candidate,
    GoodIdentities,
    ServedClient,
)
from pytest_etcdtls.facts.certificates import AnnouncedCAs, ClientTrust, Dialling, PathToTrust, ServedChain
from pytest_etcdtls.facts.listener import (
    FirstContact,
    Plaintext,
    Tried,
    listener_of,
    tls_answer,
    version_path,
)
from pytest_etcdtls.facts.probe import (
    ETCD_PATHS,
    SAMPLE_FILES,
    Context,
    Planned,
    SampleListener,
    etcd_response,
    observed,
    probe,
    sample,
)
from pytest_etcdtls.pki.go_verify import names_host
from pytest_etcdtls.pki.profile import NO_CERTIFICATE, Identity
from pytest_etcdtls.role import Protocol, Role
from pytest_etcdtls.target import Listener
from pytest_etcdtls.tls.attempt import Attempt, Ending, Request, Response
from pytest_etcdtls.tls.http import GATEWAY_STATUS_PATH, GRPC_STATUS_PATH, encode, grpc_fields
from pytest_etcdtls.untrusted import printable, read_json

_NAMES_IN_ETCD_JSON = (b'"etcdserver"', b'"cluster_id"', b'"health"', b'"code"')


def is_of_etcd(response: Response) -> bool:
    """Return whether a response has etcd's format: of ``/version``, ``/health`` or the JSON gateway."""
    return any(name in response.body for name in _NAMES_IN_ETCD_JSON)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange(Tried):
    """One request over HTTP/1.1; which one is in the key, see :func:`request_of`."""

    url: str
    role: str
    path: str
    method: str = "GET"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientExchange(Exchange):
    """One request by the accepted client; on a listener without TLS, by a client without a certificate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnauthenticatedExchange(Exchange):
    """One request without a certificate.

    If TLS refused the first contact in every version, no request would be read: the attempt is then that of
    the first contact.

    Attributes:
        control: the attempt with a good identity that counts; ``None`` if no good identity is known.
    """

    control: Attempt | None


_METHOD = re.compile(r"[A-Z]+")


def request_of(key: str) -> Request:
    """Return the request of a key.

    A key is written as HTTP/1.1 writes a request (RFC 9112 section 2.1), without the version: method and
    path, a line for each header, an empty line and the body. ``/version`` is ``GET /version``.

    Raises:
        RegistrationError: if it is not written so.
    """
    head, ended, body = key.partition("\n\n")
    start, *lines = head.split("\n")
    method, _, path = start.rpartition(" ")
    headers = dict(line.split(": ", 1) for line in lines if ": " in line)
    if not (_METHOD.fullmatch(method or "GET") and path.startswith("/") and len(headers) == len(lines)):
        raise RegistrationError(
            f"{key!r} is no request: write 'METHOD /path', a line 'Header: value' for each header, an empty "
            "line and the body"
        )
    method = method or "GET"
    return Request(
        purpose=f"{method} {path}",
        protocol=Protocol.HTTP1,
        method=method,
        path=path,
        headers={name.lower(): value for name, value in headers.items()},
        body=body.encode() if ended else None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class NegotiatedExchange(Tried):
    """One GET over HTTP/1.1 on a connection for which ``h2`` was offered by ALPN."""

    url: str
    role: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GRPCOverHTTP1(Tried):
    """A gRPC call sent over HTTP/1.1 by the accepted good identity."""

    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayAnswer(Tried):
    """The JSON gateway's answer to the accepted good identity.

    Attributes:
        files: paths of its certificate and key.
        user: the user whose token was presented, empty if none was.
        why_not: why the user that was given could not be used, empty if there is no such reason.
    """

    url: str
    role: str
    identity: str
    files: tuple[str, str] | None = None
    user: str = ""
    why_not: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayDial:
    """The connection that the gateway makes to etcd's own client port, as far as it is known.

    Attributes:
        served: certificates that the client port serves, leaf first; empty if not known.
        observed_at: when they were served, aware UTC.
        with_another: etcd is declared to dial with another certificate; ``None`` if that is not known.
        trusted: the bundle that etcd is declared to trust for clients; ``None`` if it is not known.
        trust_source: where the bundle comes from.
        announced: subjects of the CAs that the client port announces.
        allowed_hostname: declared hostnames, one of which a client certificate must cover.
    """

    served: tuple[x509.Certificate, ...]
    observed_at: datetime | None
    with_another: bool | None
    trusted: tuple[x509.Certificate, ...] | None
    trust_source: str
    announced: tuple[x509.Name, ...]
    allowed_hostname: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarms:
    """The alarms in the status response to the accepted client.

    Attributes:
        texts: as etcd writes them, ``memberID:1 alarm:NOSPACE``; empty also if there was no status response.
    """

    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RangeAnswer(Tried):
    """The answer to ``etcdserverpb.KV/Range`` of one key with ``count_only``, so that no value is sent.

    Attributes:
        status: the gRPC status code; ``None`` if the server sent none.
        message: the gRPC status message.
        well_formed: the response is a RangeResponse.
        user: the user whose token was presented, empty if none was.
        why_not: why the user that was given could not be used, empty if there is no such reason.
    """

    url: str
    status: int | None
    message: str = ""
    well_formed: bool = False
    user: str = ""
    why_not: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberRecord:
    """One member as etcd lists it.

    Attributes:
        id: the member ID, in lower-case hexadecimal without leading zeros.
        name: empty until the member has been started.
        client_urls: empty until the member has been started.
        learner: it has no vote yet; not compared between two records.
    """

    id: str
    name: str
    peer_urls: tuple[str, ...]
    client_urls: tuple[str, ...]
    learner: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberLists:
    """The member list from a peer listener and from a client listener.

    Attributes:
        by_peer: from ``/members`` of the peer listener.
        by_client: from ``MemberList`` on a client listener.
    """

    url: str
    by_peer: tuple[MemberRecord, ...]
    by_client: tuple[MemberRecord, ...]
    client_url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionAnswers:
    """``/version`` of a member's listeners: pairs of URL and parsed body, the peer listener first."""

    answers: tuple[tuple[str, dict[str, str]], ...]


def accepted_client(context: Context) -> tuple[Candidate, Identity]:
    """Return the good identity that the listener accepts, with its attempts and its credentials.

    If there is none, it is the client without a certificate, if that is served.

    Raises:
        NotVerifiedError: if none is known, or none is accepted.
        UnobservedError: if the listener has no TLS or does not answer.
    """
    good = context.get(AcceptedClient)
    accepted = context.get(ServedClient).client
    if accepted is None:
        side = listener_of(context).role.prefix
        if not good.candidates:
            raise NotVerifiedError(f"needs a client certificate: pass --etcd-{side}cert and --etcd-{side}key")
        raise NotVerifiedError("needs an accepted client, and no good identity is accepted here")
    if good.accepted is None:
        return accepted, NO_CERTIFICATE
    return accepted, context.get(GoodIdentities).named(accepted.identity)


def _shared_with_key(planned: Planned) -> Request | None:
    """Return the request if it reads, presents nothing of its own, and is not that of the first contact."""
    role, key = planned.listener.role if planned.listener else Role.CLIENT, str(planned.key)
    request = request_of(key)
    own = request.headers or request.body is not None or request.method not in ("GET", "HEAD")
    # The facts about the release request /metrics of every port, and the peer port does not serve it.
    nothing = role is Role.PEER and request.path == "/metrics"
    return None if own or nothing or request.path == version_path(role) else request


@probe(
    ClientExchange,
    cost=1,
    needs=[FirstContact, ServedClient, AcceptedConnections, Plaintext],
    shared_request=_shared_with_key,
)
def _exchange(context: Context, key: str) -> ClientExchange:
    listener = listener_of(context)
    request, plaintext = request_of(key), listener.scheme == "http"
    seen = None
    if not plaintext:
        accepted, identity = accepted_client(context)
        _needs_http1(accepted, listener.url)
        request = replace(request, identity=identity)
        seen = _seen(accepted, listener.role, key) or context.get(AcceptedConnections).more.get(
            (ClientExchange, key)
        )
    return ClientExchange(
        url=listener.url,
        role=listener.role,
        path=request.path,
        method=request.method,
        tries=(seen,) if seen else context.attempt(replace(request, plaintext=plaintext))[0],
    )


def _needs_http1(accepted: Candidate, url: str) -> None:
    if Protocol.HTTP1 not in accepted.served_protocols:
        raise NotApplicableError(f"{url} serves gRPC only; HTTP is on the split-off listener")


def _seen(accepted: Candidate, role: Role, key: str) -> Attempt | None:
    """Return the attempt of an identity with the same request, if it was made to try the identity."""
    if key not in (path := version_path(role), f"GET {path}"):
        return None
    return next(iter(accepted.served_over(Protocol.HTTP1)), None)


@probe(UnauthenticatedExchange, cost=1, needs=[FirstContact, AcceptedClient])
def _unauthenticated(context: Context, key: str) -> UnauthenticatedExchange:
    listener = listener_of(context)
    tls_answer(context)
    reference = context.get(AcceptedClient).reference
    if reference is not None and reference.served:
        _needs_http1(reference, listener.url)
    request = request_of(key)
    control = None
    if reference is not None:
        control = next((found for found in reference.attempts if found.protocol is Protocol.HTTP1), None)
    return UnauthenticatedExchange(
        url=listener.url,
        role=listener.role,
        path=request.path,
        method=request.method,
        tries=_refused_before(context, reference)
        or context.attempt(replace(request, purpose=f"{request.purpose}, no certificate"))[0],
        control=control,
    )


def _refused_before(context: Context, reference: Candidate | None) -> tuple[Attempt, ...]:
    """Return the first contact in the highest version if TLS refused it in all, and serves a good client."""
    attempts = context.get(FirstContact).tls
    refused = bool(attempts) and all(attempt.ending is Ending.REFUSED for attempt in attempts)
    if listener_of(context).discovered or not refused or reference is None or not reference.served:
        return ()
    return attempts[-1:]


@probe(NegotiatedExchange, cost=1, needs=[ServedClient])
def _negotiated(context: Context) -> NegotiatedExchange:
    listener = listener_of(context)
    _, identity = accepted_client(context)
    path = version_path(listener.role)
    request = Request(
        purpose=f"GET {path} over HTTP/1.1, h2 offered by ALPN",
        identity=identity,
        path=path,
        protocol=Protocol.HTTP1,
        alpn=("h2",),
    )
    return NegotiatedExchange(url=listener.url, role=listener.role, tries=context.attempt(request)[0])


_OVER_HTTP1 = Request(
    purpose="gRPC over HTTP/1.1",
    path=GRPC_STATUS_PATH,
    protocol=Protocol.HTTP1,
    # One message of length 0, not compressed: a flag and four octets of length (gRPC over HTTP2, "Requests").
    body=b"\0\0\0\0\0",
    headers={"content-type": "application/grpc", "te": "trailers"},
)


@probe(GRPCOverHTTP1, cost=1, needs=[ServedClient, AcceptedConnections], shared_request=lambda _: _OVER_HTTP1)
def _grpc_over_http1(context: Context) -> GRPCOverHTTP1:
    listener = listener_of(context)
    _, identity = accepted_client(context)
    return GRPCOverHTTP1(
        url=listener.url,
        tries=on_its_connection(context, GRPCOverHTTP1, replace(_OVER_HTTP1, identity=identity)),
    )


def on_its_connection(context: Context, type_: type[Any], request: Request) -> tuple[Attempt, ...]:
    """Return the attempt of a request on the connection of the accepted client, else the tries on its own."""
    made = context.get(AcceptedConnections).more.get((type_, None))
    return (made,) if made else context.attempt(request)[0]


@probe(VersionAnswers, cost=0, needs=[(ClientExchange, "/version")], across=True)
def _versions(context: Context) -> VersionAnswers:
    peer = listener_of(context)
    siblings = context.target.siblings(peer, Role.CLIENT, Role.CLIENT_HTTP)
    if not siblings:
        raise NotVerifiedError("needs a client listener of the same member: pass --etcd-endpoint")
    answers = [_version_of(context.get(ClientExchange, "/version"))]
    reasons: list[str] = []
    for sibling in siblings:
        try:
            answers.append(_version_of(context.get(ClientExchange, "/version", listener=sibling)))
        except NotApplicableError as error:
            reasons.append(error.reason)
    if len(answers) < 2:
        raise NotVerifiedError("; ".join(reasons))
    return VersionAnswers(answers=tuple(answers))


def _version_of(exchange: ClientExchange) -> tuple[str, dict[str, str]]:
    attempt = exchange.attempt
    if attempt.ending is not Ending.SERVED or attempt.response is None:
        raise InconclusiveError(f"{exchange.url}/version: {attempt.describe()}")
    try:
        body = read_json(attempt.response.body)
    except UnreadableJSONError as error:
        raise NotVerifiedError(f"{exchange.url}/version cannot be read: {error}") from error
    if not isinstance(body, dict):
        raise NotVerifiedError(f"{exchange.url}/version is not a JSON object")
    return exchange.url, {name: printable(str(value)) for name, value in body.items()}


_DENIED = frozenset({400, 401, 403})

_BACKOFF_SECONDS = 1.3
"""gRPC dials again 1.0 to 1.2 seconds after a dial that failed, and answers with that failure until then."""


@dataclass(frozen=True, slots=True)
class UserToken:
    """The result of ``Auth/Authenticate``."""

    user: str
    token: str = field(repr=False)


@probe(
    GatewayAnswer,
    cost=lambda planned: 1 + int(planned.target.user is not None),
    needs=[ServedClient, UserToken],
    across=[UserToken],
)
def _gateway(context: Context) -> GatewayAnswer:
    listener = listener_of(context)
    accepted, _ = accepted_client(context)
    seen = accepted.served_over(Protocol.GATEWAY)
    if not seen:
        raise NotApplicableError(f"{listener.url} has no gateway: HTTP is split off")
    tries = (seen[-1], *(_attempt_after_backoff(context) if _may_be_temporary(seen[-1]) else ()))
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
    except (NotVerifiedError, NotApplicableError) as unobserved:
        return replace(answer, why_not=unobserved.reason)
    return replace(answer, tries=tries, user=token.user)


@probe(GatewayDial, cost=0, needs=[ServedChain, Dialling, ClientTrust, AnnouncedCAs])
def _dial(context: Context) -> GatewayDial:
    listener = listener_of(context)
    served, trust = observed(context, ServedChain), observed(context, ClientTrust)
    announced = observed(context, AnnouncedCAs)
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


@probe(Alarms, cost=0, needs=[AcceptedClient])
def _alarms(context: Context) -> Alarms:
    good = observed(context, AcceptedClient)
    accepted = good.accepted if good else None
    found: dict[str, None] = {}
    for attempt in accepted.served_over(Protocol.GATEWAY) if accepted else ():
        try:
            body = read_json(attempt.response.body) if attempt.response else None
        except UnreadableJSONError:
            continue
        errors = body.get("errors") if isinstance(body, dict) else None
        texts = [text.strip() for text in errors if isinstance(text, str)] if isinstance(errors, list) else []
        found |= dict.fromkeys(printable(text) for text in texts if "alarm:" in text)
    return Alarms(texts=tuple(found))


def _may_be_temporary(attempt: Attempt) -> bool:
    """Whether the gateway could not dial etcd for another reason than its certificate.

    Such a reason may be temporary: a key pair that is being replaced.
    """
    response = attempt.response
    if response is None or response.status != 503:
        return False
    return not any(word in response.body for word in (b"certificate", b"x509"))


def _attempt_after_backoff(context: Context) -> tuple[Attempt, ...]:
    threading.Event().wait(_BACKOFF_SECONDS)
    return context.attempt(_status_request(context, "JSON gateway, once more"))[0]


def _as_user(context: Context, token: UserToken) -> tuple[Attempt, ...]:
    request = _status_request(context, "JSON gateway, with a token")
    headers = {"authorization": token.token}
    return context.attempt(replace(request, headers=headers, only_to=trusted_leaf(context)))[0]


def _status_request(context: Context, purpose: str) -> Request:
    _, identity = accepted_client(context)
    return Request(purpose=purpose, identity=identity, path=GATEWAY_STATUS_PATH, protocol=Protocol.GATEWAY)


def _grpc_port(context: Context, listener: Listener) -> Listener:
    """Return the listener that issues tokens: for an HTTP listener, the client listener of its member."""
    if listener.role is Role.CLIENT:
        return listener
    for other in context.target.siblings(listener, Role.CLIENT):
        if other.scheme == "https":
            return other
    raise NotVerifiedError("a token is issued over gRPC: pass --etcd-endpoint of the same member")


def _is_denied(attempt: Attempt) -> bool:
    """Whether etcd requires a user; a certificate with a common name is refused with any user."""
    response = attempt.response
    return response is not None and response.status in _DENIED and b"CommonName" not in response.body


_RANGE = "/etcdserverpb.KV/Range"
# RangeRequest in etcd's rpc.proto: key, limit, serializable, count_only. `etcdctl endpoint health` reads the
# same key.
_ONE_KEY = encode({1: b"health", 3: 1, 7: 1, 9: 1})

DENIED = frozenset({3, 7, 16})
"""Status codes of a call without a user or without permission: InvalidArgument, PermissionDenied,
Unauthenticated (``google.golang.org/grpc/codes``)."""


@probe(
    RangeAnswer,
    cost=lambda planned: 1 if planned.target.user is None else 2,
    needs=[ServedClient, AcceptedConnections, UserToken],
    shared_request=lambda _: _range_request(NO_CERTIFICATE, {}),
)
def _range(context: Context) -> RangeAnswer:
    listener = listener_of(context)
    accepted, identity = accepted_client(context)
    if Protocol.GRPC not in accepted.served_protocols:
        raise NotApplicableError(f"{listener.url} does not serve gRPC to the good client")
    tries = on_its_connection(context, RangeAnswer, _range_request(identity, {}))
    answer = _answer(listener.url, tries)
    if context.target.user is None or answer.status not in DENIED:
        return answer
    try:
        token = context.get(UserToken)
        tries = context.attempt(
            _range_request(identity, {"token": token.token}, only_to=trusted_leaf(context))
        )[0]
    except (NotVerifiedError, NotApplicableError) as unobserved:
        return _answer(listener.url, tries, why_not=unobserved.reason)
    return _answer(listener.url, tries, user=token.user)


def _range_request(identity: Identity, headers: dict[str, str], only_to: bytes | None = None) -> Request:
    return Request(
        purpose="gRPC Range, count only",
        identity=identity,
        path=_RANGE,
        protocol=Protocol.GRPC,
        body=_ONE_KEY,
        headers=headers,
        only_to=only_to,
    )


def _answer(url: str, tries: tuple[Attempt, ...], *, user: str = "", why_not: str = "") -> RangeAnswer:
    response = tries[-1].response
    try:
        # The header is field 1 of every response of etcd.
        well_formed = bool(grpc_fields(response).get(1))
    except ValueError:
        well_formed = False
    return RangeAnswer(
        url=url,
        tries=tries,
        status=response.grpc_status if response else None,
        message=response.headers.get("grpc-message", "") if response else "",
        well_formed=well_formed,
        user=user,
        why_not=why_not,
    )


_AUTHENTICATE = "/etcdserverpb.Auth/Authenticate"
_REFUSED = frozenset({3, 9, 16})
"""gRPC statuses of ``Authenticate`` with a wrong password (InvalidArgument), or a user that does not exist or
has no password (FailedPrecondition, Unauthenticated)."""


def trusted_leaf(context: Context) -> bytes:
    """Return the DER of the served leaf, if secrets may be sent to the listener.

    Raises:
        NotVerifiedError: if a client that verifies certificates would refuse the leaf.
        UnobservedError: if that is not known.
    """
    served, path = context.get(ServedChain), context.get(PathToTrust)
    if not path.verified or not names_host(served.leaf, served.host):
        raise NotVerifiedError("the password was not sent: the server's certificate is not trusted")
    return served.leaf.public_bytes(Encoding.DER)


def _gives_tokens(planned: Planned) -> bool:
    role = planned.listener.role if planned.listener else None
    return planned.target.user is not None and role is Role.CLIENT


@probe(
    UserToken,
    reported=False,
    cost=lambda planned: int(_gives_tokens(planned)),
    needs=lambda planned: [ServedClient, ServedChain, PathToTrust] if _gives_tokens(planned) else [],
)
def _user_token(context: Context) -> UserToken:
    if context.target.user is None:
        raise NotVerifiedError("no user was given")
    name, password = context.target.user
    _, identity = accepted_client(context)
    request = Request(
        purpose="gRPC Authenticate",
        identity=identity,
        path=_AUTHENTICATE,
        protocol=Protocol.GRPC,
        body=encode({1: name.encode(), 2: password.encode()}),  # AuthenticateRequest in rpc.proto
        only_to=trusted_leaf(context),
    )
    attempt = context.attempt(request)[0][-1]
    if not (token := _token_in(attempt)):
        response = attempt.response
        why = (
            response.headers.get("grpc-message", "no token was returned") if response else attempt.describe()
        )
        if response is not None and response.grpc_status in _REFUSED:
            raise InconclusiveError(
                f"etcd refuses the user {name} with this password: {why}; check --etcd-user and "
                "--etcd-password-file, or ETCDCTL_USER"
            )
        raise NotVerifiedError(f"no token for user {name}: {why}")
    return UserToken(name, token)


def _token_in(attempt: Attempt) -> str:
    try:
        token = grpc_fields(attempt.response).get(2, [b""])[0]  # of AuthenticateResponse
    except ValueError:
        return ""
    return token.decode("ascii", "replace") if isinstance(token, bytes) else ""


@sample(ClientExchange)
def _sample_exchange(listener: SampleListener, key: str) -> ClientExchange:
    request = request_of(key)
    response = etcd_response(request.method, request.path.partition("?")[0], listener.role)
    return ClientExchange(
        url=listener.url,
        role=listener.role,
        path=request.path,
        method=request.method,
        tries=(listener.attempt(response=response),),
    )


@sample(UnauthenticatedExchange)
def _sample_unauthenticated(listener: SampleListener, key: str) -> UnauthenticatedExchange:
    request = request_of(key)
    return UnauthenticatedExchange(
        url=listener.url,
        role=listener.role,
        path=request.path,
        method=request.method,
        tries=(listener.refused(identity=NO_CERTIFICATE.name),),
        control=listener.attempt(),
    )


@sample(NegotiatedExchange)
def _sample_negotiated(listener: SampleListener) -> NegotiatedExchange:
    return NegotiatedExchange(url=listener.url, role=listener.role, tries=(listener.attempt(),))


@sample(GRPCOverHTTP1)
def _sample_over_http1(listener: SampleListener) -> GRPCOverHTTP1:
    return GRPCOverHTTP1(url=listener.url, tries=(listener.attempt(response=Response(status=404)),))


@sample(GatewayAnswer)
def _sample_gateway(listener: SampleListener) -> GatewayAnswer:
    return GatewayAnswer(
        url=listener.url,
        role=listener.role,
        tries=(listener.attempt(protocol=Protocol.GATEWAY),),
        identity="client",
        files=SAMPLE_FILES,
    )


@sample(GatewayDial)
def _sample_dial(listener: SampleListener) -> GatewayDial:
    return GatewayDial(
        served=listener.chain,
        observed_at=None,
        with_another=False,
        trusted=(listener.trusted,),
        trust_source="ca.crt",
        announced=(),
        allowed_hostname=(),
    )


@sample(Alarms)
def _sample_alarms(_: SampleListener) -> Alarms:
    return Alarms(texts=())


@sample(RangeAnswer)
def _sample_range(listener: SampleListener) -> RangeAnswer:
    return RangeAnswer(url=listener.url, tries=(listener.attempt(),), status=0, well_formed=True)


@sample(VersionAnswers)
def _sample_versions(_: SampleListener) -> VersionAnswers:
    body = {name: str(value) for name, value in json.loads(ETCD_PATHS["/version"]).items()}
    return VersionAnswers(answers=(("https://127.0.0.1:2380", body), ("https://127.0.0.1:2379", dict(body))))
