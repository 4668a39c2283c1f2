"""Bad identities are refused, in every TLS version and protocol of the listener alike."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from msgspec.structs import replace

from pytest_etcdtls.checks.judgement import SERVED, altered, changed, commands_for, judge
from pytest_etcdtls.checks.registry import CLIENT_AND_PEER, EVERY_LISTENER, TO_CLIENTS, TO_PEERS, check
from pytest_etcdtls.checks.results import Finding, Statement, not_applicable, not_verified
from pytest_etcdtls.declared.cures import SAN_CHECK_OFF, client_certificates, without
from pytest_etcdtls.errors import missing
from pytest_etcdtls.facts.access import Access, Case, ServedClient
from pytest_etcdtls.facts.access_matrix import AccessMatrix, IdentityAttempts
from pytest_etcdtls.facts.api import OtherPort
from pytest_etcdtls.facts.listener import FirstContact
from pytest_etcdtls.role import Protocol, Role, TLSVersion
from pytest_etcdtls.target import Listener
from pytest_etcdtls.tls.attempt import Ending

as_if_accepted = changed("matrix.cases.*.tries.*", **SERVED)
"""The counterexample of every refusal: the identity is accepted."""


@check("mtls.no-certificate", on=EVERY_LISTENER, counterexample=as_if_accepted, cure=client_certificates)
def a_client_without_a_certificate_is_refused(
    matrix: Annotated[AccessMatrix, "none"], served: ServedClient | None, other: OtherPort | None
) -> Iterator[Statement]:
    """A client without a certificate is refused.

    Any client that reaches the port can otherwise read and write the whole key space, in Kubernetes every
    Secret. On a peer port it can read snapshots and take part in raft. Through etcd's grpc-proxy it does so
    with the proxy's certificate, which etcd accepts.

    Spec: etcd THREAT_MODEL.md, Client-to-Server Boundary
    Spec: CIS Kubernetes 2.2, 2.5
    Spec: RFC 8446 section 4.4.2.4
    Spec: etcd --{peer}client-cert-auth
    Follows: config.client-auth-in-force, config.peer-auth-in-force, config.metrics-as-declared,
        config.auto-tls-drops-client-auth, config.crl-without-client-auth,
        config.allowed-names-without-client-auth, cert.generated
    Severity: critical
    Level: MUST
    Remediation: set --{peer}client-cert-auth=true together with --{peer}trusted-ca-file, and give
        --{peer}cert-file and --{peer}key-file explicitly (auto-tls disables both).
    """
    behind_proxy = served is not None and served.client is not None and served.client.lacks_h2
    is_proxy = other is not None and other.is_proxy
    for statement in judge(matrix, "a client without a certificate"):
        if is_proxy and isinstance(statement, Finding):
            message = f"{statement.message}, and reaches etcd as the proxy does"
            yield dataclasses.replace(statement, message=message, remediation=_BY_THE_GRPC_PROXY)
        elif behind_proxy and isinstance(statement, Finding):
            yield dataclasses.replace(statement, remediation=_BY_A_PROXY)
        else:
            yield statement


_BY_THE_GRPC_PROXY = (
    "start the proxy with --trusted-ca-file, --cert-file and --key-file: then it accepts only clients of the "
    "CAs in that file; of each etcd sees only the certificate of the proxy's --cert"
)
_BY_A_PROXY = (
    "a proxy terminates TLS on this port, since etcd would select h2: let it pass TCP through to etcd, or "
    "require client certificates of the CA of this port's clients in it"
)


@check("mtls.self-signed", on=EVERY_LISTENER, counterexample=as_if_accepted, cure=client_certificates)
def a_self_signed_certificate_is_refused(
    matrix: Annotated[AccessMatrix, "self-signed"],
) -> Iterator[Statement]:
    """A client with a self-signed certificate is refused.

    Any client can create such a certificate. A server that requests a certificate and does not verify it
    looks protected to scanners that only check for the request.

    Spec: etcd THREAT_MODEL.md, Client-to-Server Boundary
    Spec: RFC 5280 section 6.1
    Follows: mtls.no-certificate
    Severity: critical
    Level: MUST
    Remediation: set --{peer}trusted-ca-file to the CA of this port's clients.
    """
    yield from judge(matrix, "a self-signed client certificate")


@check("mtls.foreign-ca", on=EVERY_LISTENER, counterexample=as_if_accepted, cure=client_certificates)
def a_certificate_of_a_foreign_ca_is_refused(
    matrix: Annotated[AccessMatrix, "foreign-ca"],
) -> Iterator[Statement]:
    """A client with a certificate of another CA is refused.

    Clients of an unrelated CA have access to every key. Without a trusted CA file etcd trusts every CA in the
    system's root store; a bundle may also contain CAs that were forgotten.

    Spec: etcd THREAT_MODEL.md, Client-to-Server Boundary
    Spec: CIS Kubernetes 2.2, 2.5
    Spec: RFC 5280 section 6.1
    Follows: mtls.no-certificate, mtls.self-signed
    Severity: critical
    Level: MUST
    Remediation: set --{peer}trusted-ca-file to the CA of this port's clients and to no other CA.
    """
    yield from judge(matrix, "a client certificate of a foreign CA")


@check("mtls.lookalike-ca", on=EVERY_LISTENER, counterexample=as_if_accepted)
def a_certificate_of_a_lookalike_ca_is_refused(
    matrix: Annotated[AccessMatrix, "lookalike-ca"],
) -> Iterator[Statement]:
    """A client certificate of a CA that imitates the trusted one is refused.

    Any attacker can create such a CA. It has the subject that the server announces and, where it is known,
    the key identifier of the trusted CA, but another key: only the signature differs.

    Spec: etcd THREAT_MODEL.md, Client-to-Server Boundary
    Spec: RFC 5280 section 6.1.3
    Follows: mtls.no-certificate, mtls.self-signed, mtls.foreign-ca
    Severity: critical
    Level: MUST
    Remediation: this TLS server requests a certificate and does not verify its signature: let etcd itself
        verify it, with --{peer}trusted-ca-file.
    """
    yield from judge(matrix, "a client certificate of a look-alike CA")


@check("mtls.expired", on=CLIENT_AND_PEER, counterexample=as_if_accepted)
def an_expired_certificate_is_refused(matrix: Annotated[AccessMatrix, "expired"]) -> Iterator[Statement]:
    """A client with an expired certificate is refused.

    If expiry is not enforced, a stolen or withdrawn certificate works for ever.

    Spec: RFC 5280 section 4.1.2.5
    Spec: etcd THREAT_MODEL.md, Client-to-Server Boundary
    Follows: mtls.no-certificate, mtls.self-signed, mtls.foreign-ca
    Severity: high
    Level: MUST
    Remediation: let etcd itself verify client certificates, with --{peer}trusted-ca-file, and keep its clock
        correct.
    """
    yield from judge(matrix, "an expired client certificate")


@check("mtls.not-yet-valid", on=CLIENT_AND_PEER, counterexample=as_if_accepted)
def a_certificate_that_is_not_yet_valid_is_refused(
    matrix: Annotated[AccessMatrix, "not-yet-valid"],
) -> Iterator[Statement]:
    """A client with a certificate that is not yet valid is refused.

    A certificate is usable before the time for which it was issued. The cause is a server that does not
    verify validity, or whose clock is ahead.

    Spec: RFC 5280 section 4.1.2.5
    Follows: mtls.no-certificate, mtls.self-signed, mtls.foreign-ca
    Severity: high
    Level: MUST
    Remediation: let etcd itself verify client certificates, with --{peer}trusted-ca-file, and keep its clock
        correct.
    """
    yield from judge(matrix, "a client certificate that is not yet valid")


@check("mtls.server-auth-only", on=CLIENT_AND_PEER, counterexample=as_if_accepted)
def a_server_certificate_is_no_client_certificate(
    matrix: Annotated[AccessMatrix, "server-auth-only"],
) -> Iterator[Statement]:
    """A client with a certificate for servers only is refused.

    If the CA also issues certificates for web servers, each of those gives access to etcd.

    Spec: RFC 5280 section 4.2.1.12
    Spec: etcd THREAT_MODEL.md, Client-to-Server Boundary
    Follows: mtls.no-certificate, mtls.self-signed, mtls.foreign-ca
    Severity: high
    Level: MUST
    Remediation: let etcd itself verify client certificates, with --{peer}trusted-ca-file.
    """
    yield from judge(matrix, "a client certificate with extended key usage serverAuth only")


@check("mtls.intermediate-missing", on=CLIENT_AND_PEER, counterexample=as_if_accepted)
def a_certificate_without_its_intermediate_is_refused(
    matrix: Annotated[AccessMatrix, "intermediate-missing"],
) -> Iterator[Statement]:
    """A client that does not send its intermediate CA is refused.

    A server that fetches or caches intermediates, or verifies only the leaf, does not decide by the
    certificates that it receives, so it may accept others too. The valid counterpart sends the intermediate.

    Spec: RFC 8446 section 4.4.2
    Spec: RFC 5280 section 6.1
    Follows: mtls.no-certificate, mtls.self-signed, mtls.foreign-ca
    Severity: high
    Level: MUST
    Remediation: let etcd itself verify client certificates, with --{peer}trusted-ca-file.
    """
    yield from judge(matrix, "a client that does not send its intermediate certificate")


OVER_HTTP = frozenset({Protocol.HTTP1, Protocol.HTTP2, Protocol.GATEWAY})
OVER_GRPC = frozenset({Protocol.GRPC})


def only(matrix: AccessMatrix, protocols: frozenset[Protocol]) -> AccessMatrix:
    """Return the part of the access matrix that was observed over these protocols."""
    return replace(matrix, cases=matrix.cases.over(*protocols))


def _served_over(protocols: frozenset[Protocol], matrix: AccessMatrix) -> Mapping[str, Any]:
    served, others = matrix.cases.over(*protocols), matrix.cases.over(*frozenset(Protocol) - protocols)
    return {"matrix": replace(matrix, cases=Access((*altered(served, "*.tries.*", **SERVED), *others)))}


def _judge_revoked(
    here: Listener, matrix: AccessMatrix, protocols: frozenset[Protocol], name: str
) -> Iterator[Statement]:
    seen = only(matrix, protocols)
    if not seen.cases:
        yield not_applicable(f"{here.url} does not serve {name} to clients")
    yield from judge(seen, "a client with a revoked certificate")


@check(
    "mtls.revoked-http", on=EVERY_LISTENER, counterexample=lambda matrix, **_: _served_over(OVER_HTTP, matrix)
)
def a_revoked_certificate_is_refused_over_http(
    here: Listener, matrix: Annotated[AccessMatrix, "revoked"]
) -> Iterator[Statement]:
    """A client with a revoked certificate is refused over HTTP.

    A stolen key otherwise gives access although its certificate was revoked. etcd compares serial numbers
    with the list at every connection and closes after the handshake. A YAML configuration has no key for the
    list: etcd silently ignores it there.

    Spec: etcd --{side}-crl-file
    Spec: RFC 5280 section 5
    Follows: mtls.no-certificate, mtls.self-signed, mtls.foreign-ca, config.crl-without-client-auth,
        config.config-file-hides-flags, config.unknown-key, config.crl-one-list
    Severity: critical
    Level: MUST
    Remediation: give etcd the list with the flag --{side}-crl-file, not in a configuration file, DER encoded.
    """
    yield from _judge_revoked(here, matrix, OVER_HTTP, "HTTP")


@check(
    "mtls.revoked-grpc", on={Role.CLIENT}, counterexample=lambda matrix, **_: _served_over(OVER_GRPC, matrix)
)
def a_revoked_certificate_is_refused_over_grpc(
    here: Listener, matrix: Annotated[AccessMatrix, "revoked"]
) -> Iterator[Statement]:
    """A client with a revoked certificate is refused over gRPC.

    Clients read and write keys over gRPC, so a stolen key still gives access to them. With
    --listen-client-http-urls, etcd before 3.5.32, 3.6.13 and 3.7.0 does not check the list on the gRPC port.

    Spec: etcd --client-crl-file
    Spec: RFC 5280 section 5
    Follows: mtls.no-certificate, mtls.self-signed, mtls.foreign-ca, mtls.revoked-http,
        config.crl-without-client-auth, config.crl-ignored-on-grpc, config.config-file-hides-flags,
        config.unknown-key, config.crl-one-list
    Severity: critical
    Level: MUST
    Remediation: upgrade to etcd 3.5.32, 3.6.13 or 3.7.0, or drop --listen-client-http-urls; give the list
        with the flag --client-crl-file, not in a configuration file, DER encoded.
    """
    yield from _judge_revoked(here, matrix, OVER_GRPC, "gRPC")


@check(
    "mtls.wrong-peer-hostname",
    on={Role.PEER},
    counterexample=as_if_accepted,
    words={"refuses": "excludes them from raft", "from": "Peer-to-Peer"} | TO_PEERS,
)
@check(
    "mtls.wrong-hostname",
    on={Role.CLIENT},
    counterexample=as_if_accepted,
    words={"refuses": "refuses them", "from": "Client-to-Server"} | TO_CLIENTS,
)
def a_client_with_another_hostname_is_refused(
    here: Listener, matrix: Annotated[AccessMatrix, "wrong-hostname"]
) -> Iterator[Statement]:
    """A <client> whose certificate does not cover the allowed hostname is refused.

    Where the CA also issues certificates for others, only this rule <refuses>. It is judged where it is
    declared, with a certificate without subjectAltName, or with any available one that does not cover the
    hostname.

    Spec: etcd --<client>-cert-allowed-hostname
    Spec: etcd THREAT_MODEL.md, <from> Boundary
    Follows: mtls.no-certificate, mtls.self-signed, mtls.foreign-ca, config.allowed-names-in-force
    Severity: high
    Level: MUST
    Remediation: set --<client>-cert-allowed-hostname where etcd reads it: a configuration file hides flags.
    """
    yield from judge(matrix, f"a {here.role.side} whose certificate does not cover the allowed hostname")


@check("mtls.wrong-cn", on={Role.PEER}, counterexample=as_if_accepted)
def a_peer_with_another_common_name_is_refused(
    matrix: Annotated[AccessMatrix, "wrong-cn"],
) -> Iterator[Statement]:
    """A peer whose certificate does not have the allowed common name is refused.

    Where the CA also issues certificates for others, only this rule excludes them from raft. It is judged
    where it is declared, with a certificate that is good except for its common name, or with any available
    one of that kind.

    Spec: etcd --peer-cert-allowed-cn
    Spec: etcd THREAT_MODEL.md, Peer-to-Peer Boundary
    Follows: mtls.no-certificate, mtls.self-signed, mtls.foreign-ca, config.allowed-names-in-force
    Severity: high
    Level: MUST
    Remediation: set --peer-cert-allowed-cn where etcd reads it: a configuration file hides flags.
    """
    yield from judge(matrix, "a peer with another common name than the allowed one")


@check(
    "mtls.wrong-san",
    on={Role.PEER, Role.METRICS},
    counterexample=as_if_accepted,
    cure=without(*SAN_CHECK_OFF),
)
def a_certificate_for_another_address_is_refused(
    matrix: Annotated[AccessMatrix, "wrong-san"],
) -> Iterator[Statement]:
    """A certificate whose SANs do not cover the client's address is refused.

    A stolen member certificate otherwise works from any machine. etcd compares the SANs on peer and https
    metrics listeners, and refuses by closing the connection after the handshake, without an alert.

    Spec: etcd Documentation, transport security model, notes for TLS authentication
    Spec: etcd --peer-skip-client-san-verification
    Follows: mtls.no-certificate, mtls.self-signed, mtls.foreign-ca
    Severity: medium
    Level: MUST
    Remediation: do not set --peer-skip-client-san-verification (before 3.7
        --experimental-peer-skip-client-san-verification).
    """
    yield from judge(matrix, "a client whose certificate is for another address")


def _accepted_by(choice: TLSVersion | Protocol, attempts: IdentityAttempts) -> Mapping[str, Any]:
    """Return the attempts as if that TLS version or protocol accepted every identity."""
    chosen = attempts.here.where(lambda case: choice in case.combination)
    others = attempts.here.where(lambda case: choice not in case.combination)
    here = Access((*altered(chosen, "*.tries.*", **SERVED), *others))
    return {"attempts": replace(attempts, here=here)}


@check(
    "mtls.same-verdict-every-version",
    on=EVERY_LISTENER,
    counterexample=lambda attempts, **_: _accepted_by(TLSVersion.TLS1_2, attempts),
)
def every_tls_version_accepts_the_same_clients(
    attempts: IdentityAttempts, answer: FirstContact
) -> Iterator[Statement]:
    """Every TLS version accepts and refuses the same clients.

    A proxy that terminates TLS may verify certificates in one version and not in the other. A scanner that
    offers only the newest version does not detect it, and clients with bad certificates are accepted in the
    other.

    Spec: RFC 8446 section 4.4.2.4
    Spec: RFC 5246 section 7.4.6
    Spec: etcd THREAT_MODEL.md, Client-to-Server Boundary
    Follows: mtls.no-certificate, mtls.self-signed, mtls.foreign-ca
    Severity: high
    Level: MUST
    Remediation: let etcd itself terminate TLS, in every version, on --listen-{role}-urls.
    """
    if answer.unusable:
        yield not_verified(answer.limit)
    if len(attempts.here.versions) < 2:
        yield not_applicable("only one TLS version is offered")
        return
    for protocol in attempts.here.protocols:
        for cases in _by_identity(attempts.here.over(protocol)):
            yield from _judge_alike(cases)


@check(
    "mtls.same-verdict-grpc-and-http",
    on={Role.CLIENT},
    counterexample=lambda attempts: _accepted_by(Protocol.GRPC, attempts),
)
def grpc_and_http_accept_the_same_clients(attempts: IdentityAttempts) -> Iterator[Statement]:
    """The same clients are accepted and refused over gRPC and HTTP.

    A client that is refused over one protocol has access over the other. With --listen-client-http-urls two
    listeners decide: before 3.5.32, 3.6.13 and 3.7.0 only the one for HTTP checked the revocation list.

    Spec: etcd --listen-client-http-urls
    Spec: etcd THREAT_MODEL.md, Client-to-Server Boundary
    Follows: mtls.no-certificate, mtls.self-signed, mtls.foreign-ca, mtls.revoked-grpc,
        advisory.ghsa-3wh4-j44w-pg92-proved
    Severity: high
    Level: MUST
    Remediation: give both listeners the same rules: upgrade etcd, or drop --listen-client-http-urls.
    """
    everything = Access((*attempts.here, *attempts.split))
    over_grpc = everything.over(Protocol.GRPC)
    if not over_grpc:
        yield not_applicable("gRPC was not tried on this listener")
        return
    if len(over_grpc) == len(everything):
        yield not_verified(missing("HTTP has a listener of its own", Role.CLIENT_HTTP.option))
        return
    for version in everything.versions:
        for cases in _by_identity(everything.within(version)):
            yield from _judge_alike(_one_of_each(cases))


def _by_identity(cases: Access) -> Iterator[Access]:
    """Group cases by name and certificate: each listener has its own copy of an issued identity."""
    groups: dict[tuple[str, str], list[Case]] = {}
    for case in cases:
        groups.setdefault((case.identity, case.fingerprint), []).append(case)
    return map(Access, groups.values())


def _one_of_each(cases: Access) -> Access:
    """Return one case over gRPC and one over HTTP: an accepted one if there is one, else the first."""
    deciding: dict[bool, Case] = {}
    for case in cases:
        over_grpc = case.protocol is Protocol.GRPC
        if over_grpc not in deciding or case.attempt.ending is Ending.SERVED:
            deciding[over_grpc] = case
    return Access(deciding.values())


def _judge_alike(cases: Access) -> Iterator[Statement]:
    accepted = cases.accepted
    refused = cases.ended(Ending.REFUSED, Ending.CLOSED).where(
        lambda case: case.closes or case.attempt.ending is Ending.REFUSED
    )
    if accepted and refused:
        yield Finding(
            message=f"the identity {accepted[0].identity} is accepted in one case and refused in another",
            expected="the same decision in every TLS version and protocol",
            observed="; ".join(
                f"{case.attempt.url} {case.version} {case.protocol}: {case.attempt.describe()}"
                for case in cases
            ),
            evidence={"identity": accepted[0].identity},
            reproduce=commands_for((accepted[0], refused[0])),
        )
