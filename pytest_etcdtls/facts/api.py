"""Requests to etcd's HTTP endpoints, by the accepted client and by one without a certificate.

A client port serves gRPC, the JSON gateway and HTTP endpoints. etcd takes a request for gRPC if it is HTTP/2
with gRPC's content type (``grpcHandlerFunc`` in server/embed/serve.go). With ``--listen-client-http-urls``
the HTTP part is a listener of its own. A peer port serves HTTP/1.1 (server/etcdserver/api/etcdhttp/peer.go).

Where TLS refuses a client at its first contact, no request of it is tried.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Annotated

from msgspec import Struct

from pytest_etcdtls.errors import (
    NotApplicableError,
    NotVerifiedError,
    RegistrationError,
    UnobservedError,
    UnreadableJSONError,
    missing,
)
from pytest_etcdtls.facts.access import (
    AcceptedClient,
    Candidate,
    PresentedClient,
    ServedClient,
)
from pytest_etcdtls.facts.certificates import AnnouncedCAs, PathToTrust
from pytest_etcdtls.facts.fact import Each, Lazy, Wire, fact
from pytest_etcdtls.facts.listener import FirstContact, ServedChain, TLSContact, Tried, version_path
from pytest_etcdtls.facts.refusal import by_etcd
from pytest_etcdtls.role import Protocol, Role
from pytest_etcdtls.target import Listener, Target
from pytest_etcdtls.tls.attempt import Attempt, Ending, Request
from pytest_etcdtls.tls.hello import HelloExchange, Reply
from pytest_etcdtls.tls.http import GRPC_STATUS_PATH
from pytest_etcdtls.untrusted.json_text import read_json
from pytest_etcdtls.untrusted.printable import printable


class Exchange(Tried, frozen=True, kw_only=True):
    """One request over HTTP/1.1; which one is in the key, see :func:`request_of`."""

    path: str
    method: str = "GET"


class ClientExchange(Exchange, frozen=True, kw_only=True):
    """One request by the accepted client; on a listener without TLS, by a client without a certificate."""


class UnauthenticatedExchange(Exchange, frozen=True, kw_only=True):
    """One request without a certificate.

    If TLS refused the first contact in every version, no request would be read: the attempt is then that of
    the first contact.

    Attributes:
        control: the attempt with a good identity that counts; ``None`` if no good identity is known.
    """

    control: Attempt | None

    @property
    def attempt(self) -> Attempt:
        """The attempt that counts; unclear if another server than etcd answers it."""
        return by_etcd(self.tries[-1], self.control)


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
            f"{key!r} is not a request: write 'METHOD /path', a line 'Header: value' for each header, an "
            "empty line and the body"
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


class NegotiatedExchange(Tried, frozen=True, kw_only=True):
    """One GET over HTTP/1.1 on a connection for which ``h2`` was offered by ALPN."""


class GRPCOverHTTP1(Tried, frozen=True, kw_only=True):
    """A gRPC call sent over HTTP/1.1 by the accepted good identity."""


class OtherPort(Struct, frozen=True, kw_only=True):
    """Whether a listener is another port of etcd than the one that it was named as, by what it answers.

    Attributes:
        role: the role of that other port; ``None`` if nothing shows one.
        is_proxy: it is etcd's grpc-proxy.
        path: the path that shows it, which etcd serves on that port and not on the named one; of a grpc-proxy
            up to etcd 3.4 beside gRPC.
        attempt: the answer; ``None`` if nothing was suspected.
        silence: the connection on which nothing was sent that shows it instead, where no client is accepted;
            ``None`` if none was made.
    """

    role: Role | None = None
    is_proxy: bool = False
    path: str = ""
    attempt: Attempt | None = None
    silence: HelloExchange | None = None


@fact(connections=1)
def client_exchange(
    here: Listener,
    target: Target,
    key: str,
    contact: FirstContact,
    presented: Lazy[PresentedClient],
    wire: Wire,
) -> ClientExchange:
    """Send the request of the key, unless the client was tried with it."""
    request = request_of(key)
    tries: tuple[Attempt, ...] = ()
    if here.scheme == "http":
        if contact.plaintext and contact.plaintext.is_http2:
            raise serves_grpc_only(here, target)
        tries = wire.attempt(replace(request, plaintext=True))[0]
    else:
        client = presented.get()
        _needs_http1(client.candidate, here, target)
        if key in (path := version_path(here.role), f"GET {path}"):
            tries = client.candidate.served_over(Protocol.HTTP1)[:1]
        request = replace(request, identity=client.identity)
        tries = tries or wire.attempt(request)[0]
    return ClientExchange(path=request.path, method=request.method, tries=tries)


def _needs_http1(accepted: Candidate, here: Listener, target: Target) -> None:
    if Protocol.HTTP1 not in accepted.served_protocols:
        raise serves_grpc_only(here, target)


def serves_grpc_only(here: Listener, target: Target) -> UnobservedError:
    """Return why HTTP is not judged on a client port that serves gRPC only: on which port it is, if known."""
    if others := target.siblings(here, Role.CLIENT_HTTP):
        return NotApplicableError(f"{here.url} serves gRPC only; HTTP is on {others[0].url}")
    text, option = f"{here.url} serves gRPC only, so another port serves HTTP", Role.CLIENT_HTTP.option
    return NotVerifiedError(missing(text, option, passing=f"{option}, a URL of --listen-client-http-urls"))


Metrics = Each[Annotated[ClientExchange, "/metrics"]]


def read_metric(metrics: Metrics, listener: Listener, pattern: re.Pattern[bytes]) -> str:
    """Return the first group of a pattern in ``/metrics`` of a listener.

    Raises:
        UnobservedError: if it cannot be requested, or does not match.
    """
    response = metrics.at(listener).attempt.response
    match = pattern.search(response.body) if response else None
    if match is None:
        raise NotVerifiedError(f"{listener.url}/metrics does not report it")
    return printable(match[1])


@fact(connections=1)
def unauthenticated_exchange(
    here: Listener, target: Target, key: str, contact: TLSContact, good: AcceptedClient, wire: Wire
) -> UnauthenticatedExchange:
    """Send the request of the key without a certificate, unless TLS refused the first contact."""
    reference = good.reference
    if reference is not None and reference.served:
        _needs_http1(reference, here, target)
    request = request_of(key)
    attempts = reference.attempts if reference is not None else ()
    return UnauthenticatedExchange(
        path=request.path,
        method=request.method,
        tries=_refused_before(here, contact, reference)
        or wire.attempt(replace(request, purpose=f"{request.purpose}, no certificate"))[0],
        control=next((attempt for attempt in attempts if attempt.protocol is Protocol.HTTP1), None),
    )


def _refused_before(
    here: Listener, contact: FirstContact, reference: Candidate | None
) -> tuple[Attempt, ...]:
    """Return the first contact in the highest version if TLS refused it in all, and serves a good client."""
    refused = bool(contact.tls) and all(attempt.ending is Ending.REFUSED for attempt in contact.tls)
    if here.discovered or not refused or reference is None or not reference.served:
        return ()
    return contact.tls[-1:]


@fact(connections=1)
def negotiated_exchange(here: Listener, presented: PresentedClient, wire: Wire) -> NegotiatedExchange:
    """Send a GET over HTTP/1.1 after ``h2`` was offered."""
    path = version_path(here.role)
    request = Request(
        purpose=f"GET {path} over HTTP/1.1, h2 offered by ALPN",
        identity=presented.identity,
        path=path,
        protocol=Protocol.HTTP1,
        alpn=("h2",),
    )
    return NegotiatedExchange(tries=wire.attempt(request)[0])


_OVER_HTTP1 = Request(
    purpose="gRPC over HTTP/1.1",
    path=GRPC_STATUS_PATH,
    protocol=Protocol.HTTP1,
    # One message of length 0, not compressed: a flag and four octets of length (gRPC over HTTP2, "Requests").
    body=b"\0\0\0\0\0",
    headers={"content-type": "application/grpc", "te": "trailers"},
)


@fact(connections=1)
def grpc_over_http1(here: Listener, presented: PresentedClient, wire: Wire) -> GRPCOverHTTP1:
    """Send a gRPC call over HTTP/1.1."""
    return GRPCOverHTTP1(tries=wire.attempt(replace(_OVER_HTTP1, identity=presented.identity))[0])


@fact(connections=3)
def other_port(
    here: Listener,
    served: ServedClient,
    presented: Lazy[PresentedClient],
    good: Lazy[AcceptedClient],
    chain: ServedChain | None,
    path_to_trust: PathToTrust | None,
    announced: AnnouncedCAs | None,
    wire: Wire,
) -> OtherPort:
    """Ask for a path of the other port that the answers so far suggest.

    Where no client is accepted, send nothing: a peer port ends that connection after five seconds
    (ConnReadTimeout of api/rafthttp in etcd's server), a client port after ten or never. That is tried if the
    port trusts the CA of its own certificate, as peers must, and the given CA does not verify it.
    """
    if served.client is None and served.stranger is None:
        trusts_itself = (
            chain is not None
            and announced is not None
            and any(certificate.issuer in announced.most for certificate in chain.certificates)
        )
        is_foreign = good.get().candidates if path_to_trust is None else path_to_trust.error
        if here.role is Role.PEER or not trusts_itself or not is_foreign:
            return OtherPort()
        silence = wire.keep_silent("connection on which nothing is sent, as to a peer port", _PEERS_END[1])
        ended = silence.reply is Reply.ENDED and silence.milliseconds >= _PEERS_END[0] * 1000
        return OtherPort(role=Role.PEER if ended else None, silence=silence)
    other = OtherPort()
    for role, path in _suspected(here.role, served.client):
        asked = Request(
            purpose=f"GET {path}, as on {f'a {role} port' if role else 'a grpc-proxy'}", path=path
        )
        if served.stranger is not None:
            asked = replace(asked, plaintext=True)
        else:
            asked = replace(asked, identity=presented.get().identity)
        attempt = wire.attempt(asked)[0][-1]
        shown = _serves(attempt, list if path == _MEMBERS else dict)
        if shown and role is Role.METRICS and served.stranger is not None:
            role = None if _serves_grpc(wire) else role
        other = OtherPort(
            role=role if shown else None, is_proxy=shown and not role, path=path, attempt=attempt
        )
        if shown:
            break
    return other


def _serves_grpc(wire: Wire) -> bool:
    """Return whether HTTP/2 is served without TLS, which no metrics port does."""
    asked = Request(
        purpose="gRPC, as on a grpc-proxy", path=GRPC_STATUS_PATH, protocol=Protocol.GRPC, plaintext=True
    )
    return wire.attempt(asked)[0][-1].is_http2


_MEMBERS, _HEALTH, _PROXY_HEALTH = "/members", "/health", "/proxy/health"
_PEERS_END = (4.5, 7.0)
"""Seconds within which a peer port ends a silent connection: 5.0 from etcd 3.4 to 3.7."""


def _suspected(role: Role, client: Candidate | None) -> tuple[tuple[Role | None, str], ...]:
    """Return which other ports the answers so far suggest, each with a path that it alone serves.

    /version is answered by client and peer ports, with a header for CORS on client ports only; /health by all
    but peer ports, /members by peer ports (api/etcdhttp in etcd's server). etcd's grpc-proxy, without a role
    here, has gRPC and /health, no /version (mustHTTPServer in etcdmain/grpc_proxy.go), and from etcd 3.5 on
    /proxy/health (proxy/grpcproxy/health.go), also at its --metrics-addr. Its gRPC calls fail while no etcd
    answers it.
    """
    is_etcd = client is not None and client.of_etcd
    if role is Role.METRICS:
        return ((None, _PROXY_HEALTH),) if is_etcd else ((Role.PEER, _MEMBERS),)
    calls = client.served_over(Protocol.GRPC) if client is not None else ()
    has_grpc = any(call.response is not None and call.response.grpc_status is not None for call in calls)
    if client is None or not is_etcd:
        return (None, _PROXY_HEALTH), (None if has_grpc else Role.METRICS, _HEALTH)
    responses = [attempt.response for attempt in client.served if attempt.response is not None]
    if role is Role.PEER:
        for_browsers = any("access-control-allow-origin" in response.headers for response in responses)
        return ((Role.CLIENT, _HEALTH),) if for_browsers else ()
    answers = [attempt.response for attempt in client.served_over(Protocol.GATEWAY) if attempt.response]
    has_gateway = any(response.status != 404 for response in answers)
    if not calls:
        return () if has_gateway else ((Role.PEER, _MEMBERS),)
    versions = [attempt.response for attempt in client.served_over(Protocol.HTTP1) if attempt.response]
    has_version = any(response.status != 404 for response in versions)
    return () if has_version or not versions else ((None, _PROXY_HEALTH), (None, _HEALTH))


def _serves(attempt: Attempt, kind: type) -> bool:
    """Return whether the response is JSON of this kind: a list of members, or an object with the health."""
    if attempt.response is None or attempt.response.status not in (200, 503):
        return False
    try:
        body = read_json(attempt.response.body)
    except UnreadableJSONError:
        return False
    return isinstance(body, kind) and (not isinstance(body, dict) or "health" in body)
