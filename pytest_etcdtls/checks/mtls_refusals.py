"""Bad identities are refused, in every TLS version and protocol that the listener supports."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Annotated, Any

from pytest_etcdtls.facts.access import AccessCase, AccessMatrix
from pytest_etcdtls.judgement import judge
from pytest_etcdtls.registry import EVERY_LISTENER, check
from pytest_etcdtls.results import CannotJudge, Outcome, Statement
from pytest_etcdtls.role import Protocol, Role
from pytest_etcdtls.tls.attempt import Ending, Phase, Response

_CLIENT_AND_PEER = frozenset({Role.CLIENT, Role.PEER})


def as_if_accepted(admission: AccessMatrix) -> Mapping[str, Any]:
    """Return what would be observed if the identity were accepted; the counterexample of every refusal."""

    def served(cell: AccessCase) -> AccessCase:
        tries = tuple(
            replace(
                attempt, ending=Ending.SERVED, phase=Phase.READ, alert=None, response=Response(status=200)
            )
            for attempt in cell.tries
        )
        return replace(cell, tries=tries)

    return {"admission": replace(admission, cells=tuple(served(cell) for cell in admission.cells))}


@check("mtls.no-certificate", on=EVERY_LISTENER, counterexample=as_if_accepted)
def a_client_without_a_certificate_is_refused(
    admission: Annotated[AccessMatrix, "none"],
) -> Iterator[Statement]:
    """A client without a certificate is refused.

    Any client that reaches the port can otherwise read and write the whole key space, in Kubernetes every
    Secret. On a peer port it can read snapshots and take part in raft.

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
        --{peer}cert-file explicitly (auto-tls disables both).
    """
    yield from judge(admission, "a client without a certificate")


@check("mtls.self-signed", on=EVERY_LISTENER, counterexample=as_if_accepted)
def a_self_signed_certificate_is_refused(
    admission: Annotated[AccessMatrix, "self-signed"],
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
    yield from judge(admission, "a self-signed client certificate")


@check("mtls.foreign-ca", on=EVERY_LISTENER, counterexample=as_if_accepted)
def a_certificate_of_a_foreign_ca_is_refused(
    admission: Annotated[AccessMatrix, "foreign-ca"],
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
    yield from judge(admission, "a client certificate of a foreign CA")


@check("mtls.lookalike-ca", on=EVERY_LISTENER, counterexample=as_if_accepted)
def a_certificate_of_a_lookalike_ca_is_refused(
    admission: Annotated[AccessMatrix, "lookalike-ca"],
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
    yield from judge(admission, "a client certificate of a look-alike CA")


@check("mtls.expired", on=_CLIENT_AND_PEER, counterexample=as_if_accepted)
def an_expired_certificate_is_refused(admission: Annotated[AccessMatrix, "expired"]) -> Iterator[Statement]:
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
    yield from judge(admission, "an expired client certificate")


@check("mtls.not-yet-valid", on=_CLIENT_AND_PEER, counterexample=as_if_accepted)
def a_certificate_that_is_not_yet_valid_is_refused(
    admission: Annotated[AccessMatrix, "not-yet-valid"],
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
    yield from judge(admission, "a client certificate that is not yet valid")


@check("mtls.server-auth-only", on=_CLIENT_AND_PEER, counterexample=as_if_accepted)
def a_server_certificate_is_no_client_certificate(
    admission: Annotated[AccessMatrix, "server-auth-only"],
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
    yield from judge(admission, "a client certificate with extended key usage serverAuth only")


@check("mtls.intermediate-missing", on=_CLIENT_AND_PEER, counterexample=as_if_accepted)
def a_certificate_without_its_intermediate_is_refused(
    admission: Annotated[AccessMatrix, "intermediate-missing"],
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
    yield from judge(admission, "a client that does not send its intermediate certificate")


OVER_HTTP = frozenset({Protocol.HTTP1, Protocol.HTTP2, Protocol.GATEWAY})
OVER_GRPC = frozenset({Protocol.GRPC})


def only(admission: AccessMatrix, protocols: frozenset[Protocol]) -> AccessMatrix:
    """Return the part of the access matrix that was observed over these protocols."""
    return replace(admission, cells=tuple(cell for cell in admission.cells if cell.protocol in protocols))


def _served_over(protocols: frozenset[Protocol], admission: AccessMatrix) -> Mapping[str, Any]:
    served: AccessMatrix = as_if_accepted(only(admission, protocols))["admission"]
    others = only(admission, frozenset(Protocol) - protocols)
    return {"admission": replace(admission, cells=(*served.cells, *others.cells))}


def _over_http(admission: AccessMatrix) -> Mapping[str, Any]:
    return _served_over(OVER_HTTP, admission)


def _over_grpc(admission: AccessMatrix) -> Mapping[str, Any]:
    return _served_over(OVER_GRPC, admission)


@check("mtls.revoked-http", on=EVERY_LISTENER, counterexample=_over_http)
def a_revoked_certificate_is_refused_over_http(
    admission: Annotated[AccessMatrix, "revoked"],
) -> Iterator[Statement]:
    """A client with a revoked certificate is refused over HTTP.

    A stolen key otherwise gives access although its certificate was revoked. etcd compares serial numbers
    with the list at every connection and closes after the handshake. A YAML configuration has no key for the
    list: etcd silently ignores it there.

    Spec: etcd --{side}-crl-file
    Spec: RFC 5280 section 5
    Follows: mtls.no-certificate, mtls.self-signed, mtls.foreign-ca, config.crl-without-client-auth,
        config.config-file-hides-flags, config.unknown-key
    Severity: critical
    Level: MUST
    Remediation: give etcd the list with the flag --{side}-crl-file, not in a configuration file, DER encoded.
    """
    seen = only(admission, OVER_HTTP)
    if not seen.cells:
        yield CannotJudge(Outcome.NOT_APPLICABLE, f"{admission.url} does not serve HTTP to clients")
    yield from judge(seen, "a client with a revoked certificate")


@check("mtls.revoked-grpc", on={Role.CLIENT}, counterexample=_over_grpc)
def a_revoked_certificate_is_refused_over_grpc(
    admission: Annotated[AccessMatrix, "revoked"],
) -> Iterator[Statement]:
    """A client with a revoked certificate is refused over gRPC.

    Clients read and write keys over gRPC, so a stolen key still gives access to them. With
    --listen-client-http-urls, etcd before 3.5.32, 3.6.13 and 3.7.0 does not check the list on the gRPC port.

    Spec: etcd --client-crl-file
    Spec: RFC 5280 section 5
    Follows: mtls.no-certificate, mtls.self-signed, mtls.foreign-ca, mtls.revoked-http,
        config.crl-without-client-auth, config.crl-ignored-on-grpc, config.config-file-hides-flags,
        config.unknown-key
    Severity: critical
    Level: MUST
    Remediation: upgrade to etcd 3.5.32, 3.6.13 or 3.7.0, or drop --listen-client-http-urls; give the list
        with the flag --client-crl-file, not in a configuration file, DER encoded.
    """
    seen = only(admission, OVER_GRPC)
    if not seen.cells:
        yield CannotJudge(Outcome.NOT_APPLICABLE, f"{admission.url} does not serve gRPC to clients")
    yield from judge(seen, "a client with a revoked certificate")


@check("mtls.wrong-hostname", on={Role.CLIENT}, counterexample=as_if_accepted)
def a_client_with_another_hostname_is_refused(
    admission: Annotated[AccessMatrix, "wrong-hostname"],
) -> Iterator[Statement]:
    """A client whose certificate does not cover the allowed hostname is refused.

    Where the CA also issues certificates for others, only this rule refuses them. It is judged where it is
    declared, with a certificate without subjectAltName, or with any available one that does not cover the
    hostname.

    Spec: etcd --client-cert-allowed-hostname
    Spec: etcd THREAT_MODEL.md, Client-to-Server Boundary
    Follows: mtls.no-certificate, mtls.self-signed, mtls.foreign-ca, config.allowed-names-in-force
    Severity: high
    Level: MUST
    Remediation: set --client-cert-allowed-hostname where etcd reads it: a configuration file hides flags.
    """
    yield from judge(admission, "a client whose certificate does not cover the allowed hostname")


@check("mtls.wrong-peer-hostname", on={Role.PEER}, counterexample=as_if_accepted)
def a_peer_with_another_hostname_is_refused(
    admission: Annotated[AccessMatrix, "wrong-hostname"],
) -> Iterator[Statement]:
    """A peer whose certificate does not cover the allowed hostname is refused.

    Where the CA also issues certificates for others, only this rule excludes them from raft. It is judged
    where it is declared, with a certificate without subjectAltName, or with any available one that does not
    cover the hostname.

    Spec: etcd --peer-cert-allowed-hostname
    Spec: etcd THREAT_MODEL.md, Peer-to-Peer Boundary
    Follows: mtls.no-certificate, mtls.self-signed, mtls.foreign-ca, config.allowed-names-in-force
    Severity: high
    Level: MUST
    Remediation: set --peer-cert-allowed-hostname where etcd reads it: a configuration file hides flags.
    """
    yield from judge(admission, "a peer whose certificate does not cover the allowed hostname")


@check("mtls.wrong-cn", on={Role.PEER}, counterexample=as_if_accepted)
def a_peer_with_another_common_name_is_refused(
    admission: Annotated[AccessMatrix, "wrong-cn"],
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
    yield from judge(admission, "a peer with another common name than the allowed one")


@check("mtls.wrong-san", on={Role.PEER, Role.METRICS}, counterexample=as_if_accepted)
def a_certificate_for_another_address_is_refused(
    admission: Annotated[AccessMatrix, "wrong-san"],
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
    yield from judge(admission, "a client whose certificate is for another address")
