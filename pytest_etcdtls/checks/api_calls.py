"""The API works for authorised clients: the JSON gateway, gRPC over HTTP/2, HTTP/1.1 between peers."""

from collections.abc import Iterator
from datetime import timedelta

from msgspec.structs import replace

from pytest_etcdtls.checks.api_answers import show
from pytest_etcdtls.checks.judgement import changed
from pytest_etcdtls.checks.refused_clients import Refusal, explain
from pytest_etcdtls.checks.registry import CLIENT_PORTS, check
from pytest_etcdtls.checks.results import Finding, Note, Statement, inconclusive, not_applicable, not_verified
from pytest_etcdtls.errors import Reason, missing
from pytest_etcdtls.etcd_log.parse import Cause
from pytest_etcdtls.etcd_log.reasons import EXPLANATIONS
from pytest_etcdtls.facts.access import ServedClient
from pytest_etcdtls.facts.api import GRPCOverHTTP1, NegotiatedExchange
from pytest_etcdtls.facts.calls import DENIED, USER_OPTIONS, GatewayAnswer, RangeAnswer
from pytest_etcdtls.facts.certificates import AnnouncedCAs, Dialling
from pytest_etcdtls.facts.good_identities import credentials_at
from pytest_etcdtls.facts.listener import ServedChain
from pytest_etcdtls.facts.refusal_grounds import RefusalGrounds
from pytest_etcdtls.pki.certificate import shown
from pytest_etcdtls.pki.go_verify import is_current
from pytest_etcdtls.role import Protocol, Role
from pytest_etcdtls.target import Listener, Target
from pytest_etcdtls.tls.attempt import Ending, Response
from pytest_etcdtls.tls.command import GOOD_CLIENT, STATUS, curl, etcdctl

_CAUSES = {
    "expired certificate": Cause.EXPIRED,
    "unknown certificate authority": Cause.UNKNOWN_CA,
    "client certificate authentication failed": Cause.NAME_NOT_ALLOWED,
    "tls: internal error": Cause.SERVED_PAIR,
}
"""How Go's TLS names alerts, and etcd's message for an allowed hostname."""
_NO_GATEWAY = "switch the gateway off with --enable-grpc-gateway=false, or do without the allowed hostname"
_RENEW_OWN = (
    "renew the pair of --client-cert-file and --client-key-file, from a CA of --trusted-ca-file and with "
    "clientAuth"
)
_OWN_PAIR = (
    "give the gateway a pair with --client-cert-file and --client-key-file (etcd 3.5 and newer) that a CA of "
    "--trusted-ca-file has issued with clientAuth; or, if nobody uses the gateway, switch it off with "
    "--enable-grpc-gateway=false"
)
_REMEDIES = {
    Cause.EXPIRED: "renew the pair of --cert-file and --key-file, as cert.valid-now says, after its CA if "
    "that has expired, as cert.ca-valid-now says; the gateway works again about a second later",
    Cause.USAGE: f"issue the certificate of --cert-file with both clientAuth and serverAuth, or {_OWN_PAIR}",
    Cause.UNKNOWN_CA: _OWN_PAIR,
}
"""Where the gateway dials with the served certificate."""


_out_of_order = changed(
    "answer.tries.*", response=Response(status=503, body=b'{"error":"unavailable","code":14}')
)


@check("api.gateway-works", on=CLIENT_PORTS, counterexample=_out_of_order)
def the_gateway_works(
    here: Listener,
    target: Target,
    answer: GatewayAnswer,
    served: ServedChain | None,
    announced: AnnouncedCAs | None,
    client: ServedClient | None,
    dialling: Dialling,
    grounds: RefusalGrounds | None,
) -> Iterator[Statement]:
    """The JSON gateway answers the good client.

    Clients of the gateway get status 503, while /version and gRPC work. etcd connects to its own client port
    for it, by default with the served certificate as client certificate. The client port refuses that
    certificate if it is for servers only, is from a CA that is not trusted for clients, or has expired. With
    --client-cert-allowed-hostname the gateway never works: etcd applies that rule to its own connection,
    which cannot satisfy it. Only the gateway's own clients are affected.

    Spec: etcd --cert-file, --client-cert-file, --enable-grpc-gateway
    Spec: RFC 5280 section 4.2.1.12
    Follows: cert.*, mtls.trusted-client, config.gateway-as-declared, config.gateway-off-in-config-file,
        tls.forward-secrecy, config.allowed-names-without-client-auth,
        config.dials-with-valid-certificates
    Severity: medium
    Level: SHOULD
    Remediation: issue the certificate of --cert-file with both clientAuth and serverAuth, or from etcd 3.5 on
        give the gateway its own certificate with --client-cert-file and --client-key-file. Where
        --client-cert-allowed-hostname is needed, use gRPC.
    """
    response = answer.attempt.response
    if response is None:
        yield inconclusive(f"{here.url} gateway: {answer.attempt.describe()}")
    elif response.status == 404:
        yield not_applicable("the gateway is switched off (--enable-grpc-gateway)")
    elif response.status in (400, 401, 403):
        yield not_verified(_why_denied(answer, response))
    elif response.status != 200:
        hostnames = credentials_at(here, target).allowed_hostname
        # etcd judges what it dials by its own clock.
        ahead = (client.client.clock_ahead if client and client.client else None) or timedelta()
        refusal = Refusal(
            chain=served.certificates if served else (),
            grounds=replace(grounds or RefusalGrounds(), alerts_differ=True, revocation=None),
            when=answer.attempt.started_at + ahead,
            announced=frozenset(name.public_bytes() for name in announced.most) if announced else frozenset(),
        )
        why, remediation = _why_down(response, refusal, dialling, hostnames)
        yield Finding(
            message=f"the JSON gateway does not work: {why}" if why else "the JSON gateway does not work",
            why=why,
            expected="HTTP 200",
            observed=show(response),
            evidence={"identity": answer.identity},
            reproduce=(curl(here.url, client=answer.identity, protocol=Protocol.GATEWAY, look=STATUS),),
            remediation=remediation,
        )
    elif answer.user:
        yield Note(f"requested as user {answer.user}")


def _why_down(
    response: Response, refusal: Refusal, dialling: Dialling, hostnames: tuple[str, ...]
) -> tuple[str, str]:
    """Return why the gateway cannot connect to etcd, and the remedy; empty texts for another failure.

    The response often gives no reason ("connection closed", "broken pipe"), and before Go 1.20 the alert is
    the same for every failure. The certificate itself says more.
    """
    text = response.body.decode("utf-8", "replace")
    if response.status != 503:
        return "", "see etcd's log; look for a proxy in front of the client port"
    cause = next((cause for words, cause in _CAUSES.items() if words in text), None)
    rule = " ".join(("--client-cert-allowed-hostname", *hostnames))
    served, own = refusal.chain, dialling.with_another
    if own is None and cause is Cause.EXPIRED:
        own = bool(served) and all(is_current(certificate, refusal.when) for certificate in served)
    chain = dialling.own if own else served
    if own and not chain:
        why = {
            Cause.EXPIRED: "has expired",
            Cause.UNKNOWN_CA: "is from a CA that is not trusted for clients",
            Cause.NAME_NOT_ALLOWED: f"does not satisfy {rule}",
        }.get(cause or Cause.OTHER, "is refused, or etcd cannot be dialled for another reason")
        return (
            f"the gateway dials etcd with the certificate of --client-cert-file, which {why}",
            f"use gRPC: {_NO_GATEWAY}" if cause is Cause.NAME_NOT_ALLOWED else _RENEW_OWN,
        )
    if not chain:
        return "", "see etcd's log: the gateway dials etcd's own client port"
    if cause is Cause.SERVED_PAIR:
        pair = "--client-cert-file and --client-key-file" if own else "--cert-file and --key-file"
        return (
            "etcd could not load its certificate and key when the gateway dialled it",
            f"put a certificate and its key at the paths of {pair}",
        )
    if cause is Cause.NAME_NOT_ALLOWED or (cause is None and hostnames):
        return (
            f"etcd applies {rule} to the connection that the gateway makes to it, which cannot satisfy "
            "that rule",
            f"use gRPC: {_NO_GATEWAY}",
        )
    alerts = frozenset(EXPLANATIONS[cause].alerts if cause else ())
    reason = explain(replace(refusal, chain=chain, alerts=alerts))
    which = "the certificate of --client-cert-file" if own else "the served certificate"
    unless = "" if own or dialling.with_another is False else ", unless --client-cert-file names another one"
    with_it = f"the gateway dials etcd with {which}, {shown(chain[0])}{unless}"
    if reason is None:
        return (
            f"{with_it}, which the client port seems to refuse; see what the cert checks of this listener "
            "find",
            f"fix what they find, see etcd's log, or {_RENEW_OWN if own else _OWN_PAIR}",
        )
    of_served = _REMEDIES.get(reason.cause, f"issue the certificate of --cert-file again, or {_OWN_PAIR}")
    remedy = _RENEW_OWN if own else of_served
    if reason.cause is Cause.UNKNOWN_CA:
        remedy += "; restart etcd if --trusted-ca-file has changed, which it reads at start only"
    return f"{with_it}, and is refused: {reason.why}", remedy


def _why_denied(answer: GatewayAnswer, response: Response) -> Reason:
    if b"CommonName" in response.body:
        text = "authentication is on, and the gateway rejects every certificate with a common name"
        passing = f"one without, and --etcd-user ({show(response)})"
        return missing(text, "--etcd-user", passing=passing)
    why = answer.why_not or (f"user {answer.user} may not" if answer.user else show(response))
    return _needs_user(why)


def _needs_user(why: str) -> Reason:
    passing = f"{' and '.join(USER_OPTIONS)} of a user who may read ({why})"
    return missing("authentication is on", *USER_OPTIONS, passing=passing)


_unavailable = changed("answer", status=14, message="etcdserver: no leader", well_formed=False)


@check("api.grpc-range", on={Role.CLIENT}, counterexample=_unavailable)
def grpc_range_answers(here: Listener, answer: RangeAnswer) -> Iterator[Statement]:
    """KV/Range over gRPC answers the good client.

    Clients cannot read keys from this member. The check requests one key with a serializable read and only
    counts it: no value is transferred.

    Spec: etcd Documentation, API reference, KV service
    Severity: high
    Level: MUST
    Remediation: see etcd's log; a proxy in front of the client port must forward gRPC over HTTP/2.
    """
    if answer.status in DENIED:
        why = answer.why_not or (f"user {answer.user} may not read" if answer.user else "")
        yield not_verified(_needs_user(why or answer.message))
    elif answer.attempt.ending is not Ending.SERVED or answer.attempt.response is None:
        yield inconclusive(f"{here.url} Range: {answer.attempt.describe()}")
    elif answer.status != 0 or not answer.well_formed:
        yield Finding(
            message="gRPC KV/Range fails",
            expected="status 0 and a RangeResponse",
            observed=f"status {answer.status} {answer.message}".strip(),
            remediation=_NO_GRPC if answer.status is None else "",
            reproduce=(
                etcdctl(here.url, GOOD_CLIENT, "get health --count-only --write-out=fields", '"Count"'),
            ),
        )
    elif answer.user:
        yield Note(f"requested as user {answer.user}")


_NO_GRPC = (
    "if this is a port of --listen-client-http-urls, which serves no gRPC, name it with "
    f"{Role.CLIENT_HTTP.option}, and the client port with {Role.CLIENT.option}; otherwise let the proxy in "
    "front of the client port forward gRPC over HTTP/2"
)


_STATUS_CALL = "/etcdserverpb.Maintenance/Status"
_AS_GRPC = "-H content-type:application/grpc -H te:trailers -d x"
_KIND = '"content-type: application/grpc": it is answered; 404: it is not'


_bridged = changed(
    "call.tries.*",
    ending=Ending.SERVED,
    response=Response(status=200, headers={"content-type": "application/grpc"}),
)


@check("api.grpc-over-http2-only", on={Role.CLIENT}, counterexample=_bridged)
def grpc_needs_http2(call: GRPCOverHTTP1) -> Iterator[Statement]:
    """No gRPC call is answered over HTTP/1.1.

    etcd passes such a call to its HTTP handlers, which do not support it. A response comes from a proxy that
    translates, and etcd then sees the proxy's certificate instead of the client's.

    Spec: etcd Documentation, API reference
    Severity: info
    Level: SHOULD
    Remediation: let clients connect to --listen-client-urls without a proxy that terminates TLS.
    """
    response = call.attempt.response
    kind = response.headers.get("content-type", "") if response else ""
    if response is not None and response.status == 200 and kind.startswith("application/grpc"):
        yield Finding(
            message="gRPC is answered over HTTP/1.1",
            expected="HTTP 404, or a closed connection",
            observed=f"{show(response)} ({kind})",
            reproduce=(
                curl(call.attempt.url, path=_STATUS_CALL, client=GOOD_CLIENT, options=_AS_GRPC, look=_KIND),
            ),
        )
    else:
        yield Note(f"gRPC over HTTP/1.1: {call.attempt.describe()}")


_http2 = changed("exchange.tries.*", ending=Ending.CLOSED, response=None, detail="close_notify")


@check("api.peer-over-http1", on={Role.PEER}, counterexample=_http2)
def the_peer_port_serves_http1(here: Listener, exchange: NegotiatedExchange) -> Iterator[Statement]:
    """The peer port serves HTTP/1.1, even where ALPN negotiated h2.

    raft runs over HTTP/1.1, although etcd announces h2 on that port too. A proxy that then insists on HTTP/2
    separates the members from each other.

    Spec: etcd Documentation, transport security model
    Spec: RFC 7301 section 3.2
    Severity: high
    Level: MUST
    Remediation: let members connect to --listen-peer-urls without a proxy that terminates TLS.
    """
    attempt = exchange.attempt
    if attempt.ending is Ending.UNCLEAR:
        yield inconclusive(f"{here.url}: {attempt.describe()}")
    elif attempt.response is None:
        yield Finding(
            message="the peer port does not answer HTTP/1.1 once h2 was offered",
            expected="HTTP/1.1 200",
            observed=f"ALPN {attempt.alpn or 'none'}: {attempt.describe()}",
            reproduce=(curl(here.url, client=GOOD_CLIENT),),
        )
