"""Whether a listener answers, whether it is an etcd, and whether there are undeclared listeners."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from pytest_etcdtls.checks.api_answers import answered_throughout
from pytest_etcdtls.facts.access import ServedClient
from pytest_etcdtls.facts.api import is_of_etcd
from pytest_etcdtls.facts.listener import FirstContact, UnnamedPorts
from pytest_etcdtls.judgement import curl, s_client
from pytest_etcdtls.registry import EVERY_LISTENER, check
from pytest_etcdtls.results import CannotJudge, Finding, Note, Outcome, Statement
from pytest_etcdtls.role import Protocol
from pytest_etcdtls.tls.attempt import Attempt, Ending, Phase, Response

_INTERNAL_ERROR = 80
"""The alert (RFC 8446 section 6.2) that Go sends if GetCertificate returns an error."""


def _without_a_pair(answer: FirstContact) -> Mapping[str, Any]:
    failed = tuple(
        replace(attempt, ending=Ending.OTHER, phase=Phase.HANDSHAKE, alert=_INTERNAL_ERROR, chain=())
        for attempt in answer.tls
    )
    return {"answer": replace(answer, tls=failed)}


@check("listener.answers", on=EVERY_LISTENER, counterexample=_without_a_pair)
def the_listener_answers(answer: FirstContact) -> Iterator[Statement]:
    """The listener answers, in TLS or in plaintext.

    Otherwise clients cannot use it, and no other check can judge it. If certificate and key are missing or do
    not match, etcd answers every TLS handshake with the alert internal_error until the files are replaced: it
    reads them at each handshake.

    Spec: RFC 8446 section 6.2
    Spec: etcd --{peer}cert-file, --{peer}key-file
    Severity: critical
    Level: MUST
    Remediation: replace the files of --{peer}cert-file and --{peer}key-file with a matching pair; etcd needs
        no restart for that.
    """
    attempts = answer.tls
    if attempts and answer.serves_tls:
        offered = [attempt for attempt in attempts if attempt.offered_version in answer.offered]
        if offered and all(attempt.alert == _INTERNAL_ERROR for attempt in offered):
            yield Finding(
                message="every handshake ends in internal_error: the served pair is missing or broken",
                expected="a TLS handshake with a certificate",
                observed="; ".join(f"{attempt.offered_version}: {attempt.describe()}" for attempt in offered),
                reproduce=(s_client(answer.url),),
            )
        return
    plaintext = answer.plaintext
    if plaintext is not None and plaintext.first_bytes and not plaintext.is_http:
        yield CannotJudge(
            Outcome.INCONCLUSIVE,
            f"{answer.url} answers neither TLS nor HTTP: it sent '{plaintext.first_text}'; name the listener "
            "of etcd itself",
        )
    elif plaintext is None or plaintext.ending is not Ending.SERVED:
        if answer.needs_tls:
            address = answer.url.partition("://")[2]
            yield CannotJudge(
                Outcome.INCONCLUSIVE,
                f"{answer.url} answers TLS and no plain HTTP: use https, pass https://{address}",
            )
            return
        last = attempts[0] if attempts else plaintext
        stream_end = last.describe() if last else "no attempt was made"
        yield CannotJudge(Outcome.INCONCLUSIVE, f"{answer.url} does not answer: {stream_end}")


def _not_an_etcd(served: ServedClient) -> Mapping[str, Any]:
    page = Response(status=200, headers={"content-type": "text/html"}, body=b"<html>hello</html>")
    return answered_throughout(served, page)


@check("listener.is-etcd", on=EVERY_LISTENER, counterexample=_not_an_etcd)
def the_listener_is_an_etcd(served: ServedClient) -> Iterator[Statement]:
    """The listener answers accepted clients as etcd does.

    A proxy, a load balancer or a wrong port can serve correct TLS, and results about it say nothing about
    etcd. The check uses the good client, or a client without a certificate where no good client is accepted.

    Spec: etcd Documentation, /version and /health endpoints
    Severity: critical
    Level: MUST
    Remediation: name the listener of etcd itself (--listen-{side}-urls), not a proxy in front of it.
    """
    client = served.client
    if client is None:
        yield CannotJudge(Outcome.NOT_VERIFIED, "needs an accepted client; no answer was seen")
        return
    if any(_of_etcd(attempt) for attempt in client.served):
        return
    versions = [attempt for attempt in client.attempts if attempt.protocol is Protocol.HTTP1]
    if versions and all(attempt.ending is Ending.UNCLEAR for attempt in versions):
        # A gateway that is off answers 404, which is no evidence without the answer to /version.
        yield CannotJudge(
            Outcome.INCONCLUSIVE, f"the answer to /version is missing: {versions[0].describe()}"
        )
        return
    first = client.served[0]
    yield Finding(
        message="the server that answers is not etcd",
        expected="/version, the JSON gateway or gRPC as etcd answers",
        observed="; ".join(f"{attempt.protocol}: {_show(attempt)}" for attempt in client.served[:3]),
        evidence={"identity": client.identity},
        reproduce=(curl(served.url, role=served.role, files=client.files, protocol=first.protocol),),
    )


def _of_etcd(attempt: Attempt) -> bool:
    response = attempt.response
    if response is None:
        return False
    if attempt.protocol is Protocol.GRPC:
        return response.headers.get("content-type", "").startswith("application/grpc")
    return is_of_etcd(response)


def _show(attempt: Attempt) -> str:
    response = attempt.response
    if response is None:
        return attempt.describe()
    kind = response.headers.get("content-type", "no content type")
    encoding = f", content encoding {response.content_encoding}" if response.content_encoding else ""
    return f"HTTP {response.status}, {kind}{encoding}, '{response.excerpt(60)}'"


def _metrics_in_plain_http(ports: UnnamedPorts) -> Mapping[str, Any]:
    first, *others = ports.tried
    health = Response(status=200, body=b'{"health":"true","reason":""}')
    served = replace(
        first, ending=Ending.SERVED, phase=Phase.READ, response=health, first_bytes=b"HTTP/1.1 200 OK"
    )
    return {"ports": replace(ports, tried=(served, *others))}


@check("listener.undeclared", on=frozenset(), counterexample=_metrics_in_plain_http)
def no_unknown_listener_serves_plain_http(ports: UnnamedPorts) -> Iterator[Statement]:
    """No member serves plain HTTP on a usual etcd port that is not a known listener.

    A client, peer or metrics URL in http needs no certificate: any client that reaches it is accepted,
    although the other ports use TLS. The check runs only with `--etcd-discover`. It tries plain HTTP once at
    2379, 2380, 2381, 4001 and 7001 on the hosts of the member list, without a credential. Ports that are
    known listeners have checks of their own.

    Spec: etcd --listen-client-urls, --listen-peer-urls, --listen-metrics-urls
    Spec: etcd THREAT_MODEL.md, Client-to-Server Boundary
    Severity: high
    Level: MUST
    Remediation: take the http URL out of --listen-client-urls, --listen-peer-urls, --listen-metrics-urls or
        --listen-client-http-urls, or let it listen on 127.0.0.1 alone; if it is intended, name it with
        --etcd-metrics-endpoint or --etcd-endpoint, or declare it with --etcd-config.
    """
    for attempt in ports.tried:
        if attempt.answers_plaintext:
            yield _answers_plain_http(attempt)
        elif attempt.phase is not Phase.CONNECT:
            yield Note(f"{attempt.url} accepts connections and answers no plain HTTP: {attempt.describe()}")
    for reason in ports.not_tried:
        yield Note(reason)
    if ports.not_tried and not ports.tried:
        yield CannotJudge(Outcome.NOT_VERIFIED, "; ".join(ports.not_tried))


def _answers_plain_http(attempt: Attempt) -> Finding:
    response = attempt.response
    known = response is not None and is_of_etcd(response)
    who = "etcd" if known else "a server that does not identify itself as etcd"
    path = "/version" if attempt.url.endswith((":2380", ":7001")) else "/health"
    return Finding(
        message=f"{who} answers plain HTTP at {attempt.url}, which is not a known listener",
        expected="no answer to plain HTTP",
        observed=_show(attempt) if response is not None else f"'{attempt.first_text}'",
        reproduce=(curl(attempt.url, role="", path=path),),
    )
