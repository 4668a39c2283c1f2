"""Whether a listener answers, each time, whether it is an etcd, and whether others are undeclared."""

import dataclasses
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from pytest_etcdtls.checks.judgement import EVERY_ANSWER, changed, key_in_words
from pytest_etcdtls.checks.registry import EVERY_LISTENER, check
from pytest_etcdtls.checks.results import Finding, Level, Note, Statement, inconclusive, not_verified
from pytest_etcdtls.declared.cures import handshakes
from pytest_etcdtls.declared.declaration import is_loopback
from pytest_etcdtls.errors import silent
from pytest_etcdtls.facts.access import ServedClient
from pytest_etcdtls.facts.api import OtherPort
from pytest_etcdtls.facts.certificates import ServedKey
from pytest_etcdtls.facts.listener import BrokenConnections, FirstContact, UnnamedPorts, version_path
from pytest_etcdtls.facts.refusal import is_of_etcd
from pytest_etcdtls.pki.profile import NO_CERTIFICATE
from pytest_etcdtls.role import Protocol, Role, TLSVersion
from pytest_etcdtls.target import Listener, Target
from pytest_etcdtls.tls.attempt import NOT_RESOLVED, Attempt, Ending, Phase, Response, StreamEnd
from pytest_etcdtls.tls.command import GOOD_CLIENT, STATUS, curl, in_plaintext, s_client, send_nothing

_INTERNAL_ERROR = 80
"""The alert (RFC 8446 section 6.2) that Go sends if GetCertificate returns an error."""


_without_a_pair = changed(
    "answer.tls.*", ending=Ending.OTHER, phase=Phase.HANDSHAKE, alert=_INTERNAL_ERROR, chain=()
)


@check("listener.answers", on=EVERY_LISTENER, counterexample=_without_a_pair, cure=handshakes)
def the_listener_answers(here: Listener, answer: FirstContact, key: ServedKey) -> Iterator[Statement]:
    """The listener answers, in TLS or in plaintext.

    Otherwise clients cannot use it, and no other check can judge it. If certificate and key are missing or do
    not match, etcd answers every TLS handshake with the alert internal_error until the files are replaced: it
    reads them at each handshake. If it does not support TLS 1.3 and --cipher-suites has no suite for the type
    of its key, it answers every handshake with the alert handshake_failure.

    Spec: RFC 8446 section 6.2
    Spec: RFC 5246 section 7.4.1.3
    Spec: etcd --{peer}cert-file, --{peer}key-file, --cipher-suites
    Follows: config.key-matches-certificate
    Severity: critical
    Level: MUST
    Remediation: replace the files of --{peer}cert-file and --{peer}key-file with a matching pair that the
        user of etcd may read; etcd needs no restart for that.
    """
    attempts = answer.tls
    if attempts and answer.serves_tls:
        offered = [attempt for attempt in attempts if attempt.offered_version in answer.offered]
        if offered and all(attempt.alert == _INTERNAL_ERROR for attempt in offered):
            yield Finding(
                message="every handshake ends in internal_error: the served pair is missing or broken",
                expected="a TLS handshake with a certificate",
                observed="; ".join(f"{attempt.offered_version}: {attempt.describe()}" for attempt in offered),
                reproduce=(s_client(here.url),),
            )
        elif answer.without_suite and not offered:
            yield _nothing_in_common(here, answer, key)
        return
    plaintext = answer.plaintext
    if plaintext is not None and plaintext.first_bytes and not plaintext.is_http:
        advice = "name the listener of etcd itself"
        if here.via:
            advice += "; the command of --etcd-via must write only what the listener sends"
        sent = f"it sent '{plaintext.first_text}'"
        text, ending = "answers neither TLS nor HTTP", f": {sent}; {advice}"
        yield inconclusive(silent(here.url, text, ending, detail=sent))
    elif plaintext is None or not (plaintext.answers_plaintext or (attempts and plaintext.is_http)):
        if answer.needs_tls:
            ending = f": use https, pass https://{here.authority}"
            yield inconclusive(silent(here.url, "answers TLS and no plain HTTP", ending))
            return
        last = attempts[0] if attempts else plaintext
        why = (last.detail or last.describe()) if last else "no attempt was made"
        is_closed = last is not None and last.phase is Phase.CONNECT
        ended = f"{last.phase} {last.stream_end}" if last else ""
        options: tuple[str, ...] = ()
        advice = "; start etcd, or name the address and port at which it listens" if is_closed else ""
        if last is not None and last.stream_end in (StreamEnd.RESET, StreamEnd.EOF):
            advice = (
                "; name the listener of etcd itself, or look at what is between: firewall, load balancer, "
            )
            advice += "port-forward"
        if NOT_RESOLVED in why:
            advice = "; correct the name, or name the member by its address"
        if is_closed and re.search(r"\.svc(\.|$)", here.host):
            options = ("--etcd-via",)
            advice = "; a Service's name is known in its cluster only: run it there, or pass --etcd-via"
        yield inconclusive(silent(here.url, "does not answer", f": {why}{advice}", *options, detail=ended))


def _nothing_in_common(here: Listener, answer: FirstContact, key: ServedKey) -> Statement:
    observed = "; ".join(f"{attempt.offered_version}: {attempt.describe()}" for attempt in answer.tls)
    if TLSVersion.TLS1_3 in answer.without_suite:
        # No flag of etcd takes suites or groups of TLS 1.3 away.
        advice = "name the listener of etcd itself, or use the name that a proxy in front of it knows"
        text = "refuses every hello before its ServerHello, as no etcd does"
        return inconclusive(silent(here.url, text, f" ({observed}): {advice}", detail=observed))
    return Finding(
        message=f"no client can connect: --cipher-suites has no suite for {key_in_words(key)}",
        expected=f"a handshake with a suite for it{f', {key.suites}...' if key.suites else ''}",
        observed=f"{observed}, also to a hello with every suite and group",
        evidence={"certificate": key.source} if key.source else {},
        reproduce=(s_client(here.url, TLSVersion.TLS1_2, "-cipher ALL:@SECLEVEL=0"),),
        remediation=_SUITES_FOR_THE_KEY,
    )


_SUITES_FOR_THE_KEY = (
    "name suites with ECDHE for the key type of --{peer}cert-file in --cipher-suites: TLS_ECDHE_RSA_ for "
    "RSA, TLS_ECDHE_ECDSA_ for ECDSA and Ed25519; restart etcd"
)


_A_PORT = {
    Role.CLIENT: "a client port",
    Role.PEER: "a peer port",
    Role.METRICS: "a metrics port",
    Role.CLIENT_HTTP: "a client port for HTTP",
}
_LOOKS = {
    Role.CLIENT: '"health", which no peer port answers',
    Role.PEER: "a list of members in JSON, which only a peer port answers",
    Role.METRICS: '"health", which a metrics port answers',
}
"""What shows in the answer to the path by which each port is recognised."""


_not_an_etcd = changed(
    EVERY_ANSWER,
    response=Response(status=200, headers={"content-type": "text/html"}, body=b"<html>hello</html>"),
)


@check("listener.is-etcd", on=EVERY_LISTENER, counterexample=_not_an_etcd)
def the_listener_is_an_etcd(
    here: Listener, served: ServedClient, other: OtherPort | None
) -> Iterator[Statement]:
    """The listener answers accepted clients as the named port of etcd does.

    A proxy, a load balancer or a wrong port can serve correct TLS, and results about it say nothing about the
    listener that was meant. Another port of etcd is recognised by its paths: a peer port has /members, a
    metrics port has /health without /version. The check uses the good client, or a client without a
    certificate where no good client is accepted. Where neither is, and the given CA does not verify the
    served certificate, a peer port shows by ending a connection after five seconds on which nothing is sent.

    etcd's grpc-proxy has /proxy/health; up to etcd 3.4 it has gRPC and /health, and not /version. It is not
    etcd, so this check finds it: whom etcd itself accepts is not known from it. But it is a way into the
    cluster. Whom it accepts has the access of its own client certificate, so its `mtls`, `cert` and `tls`
    checks are judged as on a port of etcd, and the other families are not verified. A waiver for this check
    alone accepts that a proxy is judged. `etcd gateway` passes TCP on, so what is judged behind it is etcd.

    Spec: etcd Documentation, /version and /health endpoints
    Spec: etcd Documentation, gRPC proxy
    Follows: cluster.advertised-reachable
    Severity: critical
    Level: MUST
    Remediation: name the listener of etcd itself (--listen-{role}-urls), not a proxy in front of it.
    """
    client, plain = served.client, served.stranger
    if other is not None and other.attempt is not None and (other.role is not None or other.is_proxy):
        yield _what_answers_instead(here, other, client.identity if client is not None else "")
        return
    if plain is not None:
        yield Finding(
            message="the server that answers plain HTTP is not etcd",
            expected=f"{version_path(here.role)} as etcd answers",
            observed=_show(plain),
            reproduce=(curl(in_plaintext(here.url), look=STATUS),),
        )
        return
    if client is None and other is not None and other.role is Role.PEER and other.silence is not None:
        yield Finding(
            message="is this the peer port of etcd? It ends a silent connection as only a peer port does",
            expected=f"{_A_PORT[here.role]}, which keeps a silent connection for ten seconds or longer",
            observed=f"it ended after {other.silence.milliseconds / 1000:.1f} s; no client is accepted, and "
            "the CA of the served certificate is trusted",
            reproduce=(
                send_nothing(here.url, '"real": about 5 s, after which only a peer port ends the connection'),
            ),
            remediation=f"if so, pass it as {Role.PEER.option}={here.url}, and {_A_PORT[here.role]} as "
            f"{here.role.option}",
        )
        return
    if client is None:
        yield not_verified("needs an accepted client; no answer of etcd was seen")
        return
    if client.of_etcd:
        if other is None:  # the listener was given up before
            yield not_verified("it may be another port of etcd: no answer shows which")
        return
    versions = client.cases.over(Protocol.HTTP1)
    if versions.endings == {Ending.UNCLEAR}:
        # A gateway that is off answers 404, which is no evidence without the answer to /version.
        yield inconclusive(f"the answer to /version is missing: {versions[0].attempt.describe()}")
        return
    first = client.served[0]
    yield Finding(
        message="the server that answers is not etcd",
        expected="/version, the JSON gateway or gRPC as etcd answers",
        observed="; ".join(f"{attempt.protocol}: {_show(attempt)}" for attempt in client.served[:3]),
        evidence={"identity": client.identity},
        reproduce=(curl(here.url, client=client.identity, protocol=first.protocol, look=STATUS),),
    )


def _what_answers_instead(here: Listener, other: OtherPort, identity: str) -> Finding:
    """Return the finding about another port of etcd, or its grpc-proxy; without an identity in plaintext."""
    named, role, path = _A_PORT[here.role], other.role, other.path
    if role is None:
        shown, looks = path, {path: '"health", which only a grpc-proxy answers'}
        if path == version_path(Role.METRICS):
            shown = "gRPC and /health, and not /version"
            looks = {path: _LOOKS[Role.METRICS], "/version": '"404": every port of etcd with gRPC has it'}
        message = f"this is etcd's grpc-proxy, not etcd itself: it answers {shown}"
        remediation = f"name {named} of etcd itself with {here.role.option}; the proxy's --endpoints has it"
    else:
        shown, looks = path, {path: _LOOKS[role]}
        if role is Role.METRICS:
            shown, looks["/version"] = (
                "/health and not /version",
                '"404": only a metrics port has no /version',
            )
        message = f"this is {_A_PORT[role]} of etcd, named as {named}: it answers {shown}"
        remediation = f"name it with {role.option}, and {named} with {here.role.option}"
    url = here.url if identity else in_plaintext(here.url)
    return Finding(
        message=message,
        expected=f"the answers of {named}",
        observed=f"GET {path}: {_show(other.attempt) if other.attempt is not None else ''}",
        evidence={"identity": identity} if identity else {},
        reproduce=tuple(
            curl(url, path=path, client=identity or NO_CERTIFICATE.name, look=look)
            for path, look in looks.items()
        ),
        remediation=remediation,
    )


def _show(attempt: Attempt) -> str:
    response = attempt.response
    if response is None:
        return attempt.describe()
    kind = response.headers.get("content-type", "no content type")
    encoding = f", content encoding {response.content_encoding}" if response.content_encoding else ""
    return f"HTTP {response.status}, {kind}{encoding}, '{response.excerpt(60)}'"


def _every_fifth(connections: BrokenConnections, target: Target) -> Mapping[str, Any]:
    broken = Attempt(
        url=target.listeners[0].url,
        purpose="first contact",
        identity="none",
        protocol=Protocol.HTTP1,
        ending=Ending.UNCLEAR,
        phase=Phase.HANDSHAKE,
        started_at=datetime.fromtimestamp(0, UTC),
        stream_end=StreamEnd.RESET,
        detail="the connection was reset",
    )
    return {"connections": BrokenConnections(broken=(broken,) * _FEW, made={broken.url: 5 * _FEW})}


_FEW = 2
"""Broken connections to one listener of which one alone may be chance."""


@check("listener.keeps-connections", on=set(), counterexample=_every_fifth)
def connections_are_not_broken(connections: BrokenConnections, target: Target) -> Iterator[Statement]:
    """No connection is reset or ended before the answer to a request that is answered when it is repeated.

    etcd itself answers a request every time. What resets connections now and then is between: a load balancer
    with a member that is down, an overloaded firewall or proxy, two machines with one address. The suite
    repeats such a request, so its verdicts do not depend on it; clients fail. It is judged at the end of the
    run, of all of its requests, and two broken connections to a listener are reported.

    Spec: RFC 9293 section 3.5.2
    Spec: etcd Documentation, clustering, load balancing
    Severity: medium
    Level: SHOULD
    Remediation: name the listener of etcd itself; if that is done, look at what is between: load balancer,
        proxy, firewall, port forward, a second machine with the address.
    """
    for listener in target.listeners:
        broken = [attempt for attempt in connections.broken if attempt.url == listener.url]
        if len(broken) >= _FEW:
            made = connections.made[listener.url]
            ends = Counter(attempt.describe() for attempt in broken)
            yield Finding(
                message=f"{len(broken)} of {made} connections to {listener.url} broke before an answer, and "
                "the same requests were answered when repeated",
                expected="an answer on each connection",
                observed="; ".join(f"{end} ({number})" for end, number in ends.most_common(3)),
                reproduce=(curl(listener.url, client=GOOD_CLIENT, look=_AGAIN),),
                concerns=(listener.label,),
            )


_AGAIN = "an answer each time, if it is repeated twenty times"


_metrics_in_plain_http = changed(
    "ports.tried.0",
    ending=Ending.SERVED,
    phase=Phase.READ,
    response=Response(status=200, body=b'{"health":"true","reason":""}'),
    first_bytes=b"HTTP/1.1 200 OK",
)


@check("listener.undeclared", on=set(), counterexample=_metrics_in_plain_http)
def no_unknown_listener_serves_plain_http(ports: UnnamedPorts) -> Iterator[Statement]:
    """No member serves plain HTTP on a usual etcd port that is not a known listener.

    A client, peer or metrics URL in http needs no certificate: any client that reaches it is accepted,
    although the other ports use TLS. The check runs only with `--etcd-discover`. It tries plain HTTP once at
    2379, 2380, 2381, 4001 and 7001 on the hosts of the member list, without a credential. Ports that are
    known listeners have checks of their own. One that serves metrics alone is judged as api.metrics-exposed
    judges it where it is named: on loopback it is no fault, elsewhere a warning.

    Spec: etcd --listen-client-urls, --listen-peer-urls, --listen-metrics-urls
    Spec: etcd THREAT_MODEL.md, Client-to-Server Boundary
    Severity: high
    Level: MUST, SHOULD where it serves metrics alone
    Remediation: take the http URL out of --listen-client-urls, --listen-peer-urls, --listen-metrics-urls or
        --listen-client-http-urls, or let it listen on 127.0.0.1 alone; if it is intended, name it with
        --etcd-metrics-endpoint or --etcd-endpoint, or declare it with --etcd-config.
    """
    for attempt in ports.tried:
        metrics_alone = attempt.url in ports.metrics
        if metrics_alone and is_loopback(urlsplit(attempt.url).hostname or ""):
            yield Note(f"{attempt.url} serves metrics in plain HTTP on loopback")
        elif attempt.answers_plaintext:
            finding = _answers_plain_http(attempt)
            yield dataclasses.replace(finding, level=Level.SHOULD) if metrics_alone else finding
        elif attempt.phase is not Phase.CONNECT:
            yield Note(f"{attempt.url} accepts connections and answers no plain HTTP: {attempt.describe()}")
    for reason in ports.not_tried:
        yield Note(reason)
    if ports.not_tried and not ports.tried:
        yield not_verified("; ".join(ports.not_tried))


def _answers_plain_http(attempt: Attempt) -> Finding:
    response = attempt.response
    known = response is not None and is_of_etcd(response)
    who = "etcd" if known else "a server that does not identify itself as etcd"
    path = "/version" if attempt.url.endswith((":2380", ":7001")) else "/health"
    return Finding(
        message=f"{who} answers plain HTTP at {attempt.url}, which is not a known listener",
        expected="no answer to plain HTTP",
        observed=_show(attempt) if response is not None else f"'{attempt.first_text}'",
        reproduce=(curl(attempt.url, path=path),),
    )
