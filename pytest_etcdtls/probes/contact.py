"""First contact: does the listener answer, in which TLS versions, and what does it say to plaintext.

Presents no certificate.
"""

from __future__ import annotations

from pytest_etcdtls.errors import InconclusiveError, NotApplicableError, NotVerifiedError
from pytest_etcdtls.observations.attempt import Attempt, Protocol, Stage, TLSVersion, Way
from pytest_etcdtls.observations.listener import Answer, ListenerFacts, Plaintext
from pytest_etcdtls.pki.identity import NO_CERTIFICATE
from pytest_etcdtls.probes.registry import Context, Request, probe
from pytest_etcdtls.target import Listener, Role


def listener_of(context: Context) -> Listener:
    """Return the listener that the context is at.

    Raises:
        TypeError: if it is at the whole target, which is a fault of the check that asked.
    """
    if context.listener is None:
        raise TypeError("this observation is of a listener, the check judges the whole target")
    return context.listener


def version_path(role: Role) -> str:
    """Return the path of a GET that every etcd answers there: a metrics listener has no ``/version``."""
    return "/health" if role is Role.METRICS else "/version"


def tls_answer(context: Context) -> Answer:
    """Return the first contact with a listener that is asked for TLS.

    Raises:
        NotApplicableError: for an ``http`` URL.
        NotVerifiedError: if the listener speaks plaintext, or no TLS version that we have.
        InconclusiveError: if nothing of TLS came back.
    """
    listener = listener_of(context)
    if listener.scheme == "http":
        raise NotApplicableError(f"{listener.url} is asked for plain HTTP: there is no TLS to judge")
    answer = context.get(Answer)
    if not answer.speaks_tls:
        if answer.plaintext is not None and answer.plaintext.way is Way.SERVED:
            raise NotVerifiedError(f"{listener.url} answers plain HTTP and no TLS")
        raise InconclusiveError(f"{listener.url} does not answer: {answer.tls[0].describe()}")
    if not answer.offered:
        raise NotVerifiedError(f"{listener.url} offers neither TLS 1.2 nor TLS 1.3")
    return answer


@probe(ListenerFacts, cost=0)
def _facts(context: Context, key: str | None) -> ListenerFacts:
    listener = listener_of(context)
    return ListenerFacts(
        url=listener.url,
        role=listener.role,
        scheme=listener.scheme,
        host=listener.host,
        port=listener.port,
        member=listener.member,
        label=listener.label,
    )


@probe(Answer, cost=3)
def _answer(context: Context, key: str | None) -> Answer:
    listener = listener_of(context)
    tls: tuple[Attempt, ...] = ()
    if listener.scheme == "https":
        requests = [
            Request(
                purpose="first contact, no certificate",
                identity=NO_CERTIFICATE,
                version=version,
                speech=Protocol.HTTP1,
                path=version_path(listener.role),
            )
            for version in TLSVersion
        ]
        tls = tuple(tries[-1] for tries in context.attempt(*requests))
        if any(attempt.way is not Way.UNCLEAR for attempt in tls):
            return Answer(url=listener.url, role=listener.role, tls=tls)
    plaintext = _plain(context, listener)[-1]
    return Answer(
        url=listener.url,
        role=listener.role,
        tls=tls,
        plaintext=plaintext,
        tls_instead=_tls_instead(context, listener, plaintext),
    )


def _tls_instead(context: Context, listener: Listener, plaintext: Attempt) -> Attempt | None:
    """Try a TLS handshake where something accepts connections and answers no plain HTTP."""
    if listener.scheme == "https" or plaintext.way is Way.SERVED or plaintext.stage is Stage.CONNECT:
        return None
    [tries] = context.attempt(
        Request(purpose="TLS where plain HTTP is not answered", path=version_path(listener.role))
    )
    return tries[-1]


@probe(Plaintext, cost=1, needs=[(Answer, None)])
def _plaintext(context: Context, key: str | None) -> Plaintext:
    listener = listener_of(context)
    answer = context.get(Answer)
    tries = (answer.plaintext,) if answer.plaintext is not None else _plain(context, listener)
    return Plaintext(
        url=listener.url,
        role=listener.role,
        scheme=listener.scheme,
        tries=tries,
        tls_works=any(attempt.way is not Way.UNCLEAR for attempt in answer.tls),
    )


def _plain(context: Context, listener: Listener) -> tuple[Attempt, ...]:
    request = Request(
        purpose="plain HTTP", plaintext=True, speech=Protocol.HTTP1, path=version_path(listener.role)
    )
    return context.attempt(request)[0]
