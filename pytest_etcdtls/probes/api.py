"""What etcd answers to HTTP requests, of an accepted client and of a stranger. Reads only."""

from __future__ import annotations

import json

from pytest_etcdtls.errors import InconclusiveError, NotApplicableError, NotVerifiedError
from pytest_etcdtls.observations.admission import Acceptance, Candidate, ServedClient
from pytest_etcdtls.observations.api import (
    Exchange,
    GRPCOverHTTP1,
    NegotiatedExchange,
    StrangerExchange,
    VersionAnswers,
)
from pytest_etcdtls.observations.attempt import Attempt, Protocol, Way
from pytest_etcdtls.observations.listener import Answer, Plaintext
from pytest_etcdtls.pki.identity import NO_CERTIFICATE, Identity
from pytest_etcdtls.probes.contact import listener_of, tls_answer, version_path
from pytest_etcdtls.probes.credentials import GoodIdentities
from pytest_etcdtls.probes.exchange import GRPC_STATUS_PATH
from pytest_etcdtls.probes.registry import Context, Request, probe
from pytest_etcdtls.target import Role


def accepted_client(context: Context) -> tuple[Candidate, Identity]:
    """Return the good identity that the listener accepts, as seen and as presentable.

    Without one it is the client without a certificate, if that is served.

    Raises:
        NotVerifiedError: if none is known, or none is accepted.
        UnobservedError: if the listener has no TLS or does not answer.
    """
    acceptance = context.get(Acceptance)
    accepted = context.get(ServedClient).client
    if accepted is None:
        side = "peer-" if listener_of(context).role is Role.PEER else ""
        if not acceptance.candidates:
            raise NotVerifiedError(f"needs a client certificate: pass --etcd-{side}cert and --etcd-{side}key")
        raise NotVerifiedError("needs an accepted client, and no good identity is accepted here")
    if acceptance.accepted is None:
        return accepted, NO_CERTIFICATE
    known = {identity.name: identity for identity in context.get(GoodIdentities).identities}
    return accepted, known[accepted.identity]


@probe(Exchange, cost=1, needs=[(Answer, None), (ServedClient, None), (Plaintext, None)])
def _exchange(context: Context, key: str | None) -> Exchange:
    listener = listener_of(context)
    path, plaintext = str(key), listener.scheme == "http"
    identity = NO_CERTIFICATE
    if not plaintext:
        accepted, identity = accepted_client(context)
        _needs_http1(accepted, listener.url)
        if seen := _seen(accepted, listener.role, path):
            return Exchange(url=listener.url, role=listener.role, path=path, tries=(seen,))
    request = Request(
        purpose=f"GET {path}",
        identity=identity,
        path=path,
        speech=Protocol.HTTP1,
        plaintext=plaintext,
    )
    return Exchange(url=listener.url, role=listener.role, path=path, tries=context.attempt(request)[0])


def _needs_http1(accepted: Candidate, url: str) -> None:
    if Protocol.HTTP1 not in accepted.spoken:
        raise NotApplicableError(f"{url} speaks gRPC only; HTTP is on the split-off listener")


def _seen(accepted: Candidate, role: Role, path: str) -> Attempt | None:
    """Return the answer that was got when the identity was tried, if it was to the same path."""
    if path != version_path(role):
        return None
    return next((found for found in accepted.served if found.protocol is Protocol.HTTP1), None)


@probe(StrangerExchange, cost=1, needs=[(Answer, None), (Acceptance, None)])
def _stranger(context: Context, key: str | None) -> StrangerExchange:
    listener = listener_of(context)
    tls_answer(context)
    reference = context.get(Acceptance).reference
    if reference is not None and reference.served:
        _needs_http1(reference, listener.url)
    path = str(key)
    request = Request(purpose=f"GET {path}, no certificate", path=path, speech=Protocol.HTTP1)
    control = None
    if reference is not None:
        control = next((found for found in reference.attempts if found.protocol is Protocol.HTTP1), None)
    return StrangerExchange(
        url=listener.url,
        role=listener.role,
        path=path,
        tries=context.attempt(request)[0],
        control=control,
    )


@probe(NegotiatedExchange, cost=1, needs=[(ServedClient, None)])
def _negotiated(context: Context, key: str | None) -> NegotiatedExchange:
    listener = listener_of(context)
    _, identity = accepted_client(context)
    path = version_path(listener.role)
    request = Request(
        purpose=f"GET {path} over HTTP/1.1, h2 offered by ALPN",
        identity=identity,
        path=path,
        speech=Protocol.HTTP1,
        alpn=("h2",),
    )
    return NegotiatedExchange(url=listener.url, role=listener.role, tries=context.attempt(request)[0])


@probe(GRPCOverHTTP1, cost=1, needs=[(ServedClient, None)])
def _grpc_over_http1(context: Context, key: str | None) -> GRPCOverHTTP1:
    listener = listener_of(context)
    _, identity = accepted_client(context)
    request = Request(
        purpose="gRPC over HTTP/1.1",
        identity=identity,
        path=GRPC_STATUS_PATH,
        speech=Protocol.HTTP1,
        body=b"\0\0\0\0\0",
        headers={"content-type": "application/grpc", "te": "trailers"},
    )
    return GRPCOverHTTP1(url=listener.url, tries=context.attempt(request)[0])


@probe(VersionAnswers, cost=0, needs=[(Exchange, "/version")], across=True)
def _versions(context: Context, key: str | None) -> VersionAnswers:
    peer = listener_of(context)
    siblings = [
        other
        for other in context.target.listeners
        if other.member == peer.member and other.role in (Role.CLIENT, Role.CLIENT_HTTP)
    ]
    if not siblings:
        raise NotVerifiedError("needs a client listener of the same member: pass --etcd-endpoint")
    answers = [_version_of(context.get(Exchange, "/version"))]
    reasons: list[str] = []
    for sibling in siblings:
        try:
            answers.append(_version_of(context.get(Exchange, "/version", listener=sibling)))
        except NotApplicableError as error:
            reasons.append(error.reason)
    if len(answers) < 2:
        raise NotVerifiedError("; ".join(reasons))
    return VersionAnswers(answers=tuple(answers))


def _version_of(exchange: Exchange) -> tuple[str, dict[str, str]]:
    attempt = exchange.attempt
    if attempt.way is not Way.SERVED or attempt.response is None:
        raise InconclusiveError(f"{exchange.url}/version: {attempt.describe()}")
    try:
        body = json.loads(attempt.response.body)
    except ValueError as error:
        raise NotVerifiedError(f"{exchange.url}/version is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise NotVerifiedError(f"{exchange.url}/version is not a JSON object")
    return exchange.url, {str(name): str(value) for name, value in body.items()}
