"""Bad identities are refused, in every TLS version and protocol that the listener speaks."""

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


def let_in(admission: AccessMatrix) -> Mapping[str, Any]:
    """Return what would be seen if the identity were served; the counterexample of every refusal."""

    def served(cell: AccessCase) -> AccessCase:
        tries = tuple(
            replace(
                attempt, ending=Ending.SERVED, phase=Phase.READ, alert=None, response=Response(status=200)
            )
            for attempt in cell.tries
        )
        return replace(cell, tries=tries)

    return {"admission": replace(admission, cells=tuple(served(cell) for cell in admission.cells))}


@check("mtls.no-certificate", on=EVERY_LISTENER, counterexample=let_in)
def a_client_without_a_certificate_is_refused(
    admission: Annotated[AccessMatrix, "none"],
) -> Iterator[Statement]:
    """A client without a certificate is refused.

    Whoever reaches the port would read and write the whole key space, in Kubernetes every Secret; on a peer
    port they would read snapshots and take part in raft.

    Spec: etcd THREAT_MODEL.md, Client-to-Server Boundary
    Spec: CIS Kubernetes 2.2, 2.5
    Spec: RFC 8446 section 4.4.2.4
    Spec: etcd --{peer}client-cert-auth
    Severity: critical
    Level: MUST
    Remediation: set --{peer}client-cert-auth=true together with --{peer}trusted-ca-file, and give
        --{peer}cert-file explicitly (auto-tls drops both).
    """
    yield from judge(admission, "a client without a certificate")


@check("mtls.self-signed", on=EVERY_LISTENER, counterexample=let_in)
def a_self_signed_certificate_is_refused(
    admission: Annotated[AccessMatrix, "self-signed"],
) -> Iterator[Statement]:
    """A client with a self-signed certificate is refused.

    A server that asks for a certificate and does not verify it looks protected to every scanner that only
    watches whether one is asked for.

    Spec: etcd THREAT_MODEL.md, Client-to-Server Boundary
    Spec: RFC 5280 section 6.1
    Severity: critical
    Level: MUST
    Remediation: set --{peer}trusted-ca-file to the CA of this port's clients.
    """
    yield from judge(admission, "a self-signed client certificate")


@check("mtls.foreign-ca", on=EVERY_LISTENER, counterexample=let_in)
def a_certificate_of_a_foreign_ca_is_refused(
    admission: Annotated[AccessMatrix, "foreign-ca"],
) -> Iterator[Statement]:
    """A client with a certificate of another CA is refused.

    Without a trusted CA file etcd trusts every CA in the system's root store; a bundle may hold more CAs than
    anybody remembers.

    Spec: etcd THREAT_MODEL.md, Client-to-Server Boundary
    Spec: CIS Kubernetes 2.2, 2.5
    Spec: RFC 5280 section 6.1
    Severity: critical
    Level: MUST
    Remediation: set --{peer}trusted-ca-file to the CA of this port's clients, and to nothing else.
    """
    yield from judge(admission, "a client certificate of a foreign CA")


@check("mtls.lookalike-ca", on=EVERY_LISTENER, counterexample=let_in)
def a_certificate_of_a_lookalike_ca_is_refused(
    admission: Annotated[AccessMatrix, "lookalike-ca"],
) -> Iterator[Statement]:
    """A client with a certificate of a CA that only looks like the trusted one is refused.

    The CA has the subject that the server announces and, where it is known, the key identifier of the trusted
    CA, but another key: only the signature tells them apart.

    Spec: etcd THREAT_MODEL.md, Client-to-Server Boundary
    Spec: RFC 5280 section 6.1.3
    Severity: critical
    Level: MUST
    Remediation: what terminates TLS here asks for a certificate and does not verify its signature: let etcd
        itself do it, with --{peer}trusted-ca-file.
    """
    yield from judge(admission, "a client certificate of a look-alike CA")


@check("mtls.expired", on=_CLIENT_AND_PEER, counterexample=let_in)
def an_expired_certificate_is_refused(admission: Annotated[AccessMatrix, "expired"]) -> Iterator[Statement]:
    """A client with an expired certificate is refused.

    Short validity is worth nothing where it is not enforced.

    Spec: RFC 5280 section 4.1.2.5
    Spec: etcd THREAT_MODEL.md, Client-to-Server Boundary
    Severity: high
    Level: MUST
    Remediation: let etcd itself verify client certificates, with --{peer}trusted-ca-file, and keep its
        clock right.
    """
    yield from judge(admission, "an expired client certificate")


@check("mtls.not-yet-valid", on=_CLIENT_AND_PEER, counterexample=let_in)
def a_certificate_that_is_not_yet_valid_is_refused(
    admission: Annotated[AccessMatrix, "not-yet-valid"],
) -> Iterator[Statement]:
    """A client with a certificate that is not yet valid is refused.

    The same verification as for an expired one; a clock that runs ahead is seen here.

    Spec: RFC 5280 section 4.1.2.5
    Severity: high
    Level: MUST
    Remediation: let etcd itself verify client certificates, with --{peer}trusted-ca-file, and keep its
        clock right.
    """
    yield from judge(admission, "a client certificate that is not yet valid")


@check("mtls.server-auth-only", on=_CLIENT_AND_PEER, counterexample=let_in)
def a_server_certificate_is_no_client_certificate(
    admission: Annotated[AccessMatrix, "server-auth-only"],
) -> Iterator[Statement]:
    """A client with a certificate for servers only is refused.

    A CA that also signs web servers would otherwise hand out keys to etcd with each of them.

    Spec: RFC 5280 section 4.2.1.12
    Spec: etcd THREAT_MODEL.md, Client-to-Server Boundary
    Severity: high
    Level: MUST
    Remediation: let etcd itself verify client certificates, with --{peer}trusted-ca-file.
    """
    yield from judge(admission, "a client certificate with extended key usage serverAuth only")


@check("mtls.intermediate-missing", on=_CLIENT_AND_PEER, counterexample=let_in)
def a_certificate_without_its_intermediate_is_refused(
    admission: Annotated[AccessMatrix, "intermediate-missing"],
) -> Iterator[Statement]:
    """A client that does not send the intermediate between its certificate and a trusted CA is refused.

    A server that fetches or remembers what clients do not send, or stops at the leaf, decides by something
    else than the path. The valid twin sends the intermediate.

    Spec: RFC 8446 section 4.4.2
    Spec: RFC 5280 section 6.1
    Severity: high
    Level: MUST
    Remediation: let etcd itself verify client certificates, with --{peer}trusted-ca-file.
    """
    yield from judge(admission, "a client that does not send its intermediate certificate")


OVER_HTTP = frozenset({Protocol.HTTP1, Protocol.HTTP2, Protocol.GATEWAY})
OVER_GRPC = frozenset({Protocol.GRPC})


def only(admission: AccessMatrix, protocols: frozenset[Protocol]) -> AccessMatrix:
    """Return the part of the admission that was seen in those protocols."""
    return replace(admission, cells=tuple(cell for cell in admission.cells if cell.protocol in protocols))


def _served_over(protocols: frozenset[Protocol], admission: AccessMatrix) -> Mapping[str, Any]:
    served: AccessMatrix = let_in(only(admission, protocols))["admission"]
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

    etcd compares serial numbers with the list at every connection and closes after the handshake. A YAML
    configuration has no key for the list: given there, it is ignored without a word.

    Spec: etcd --{side}-crl-file
    Spec: RFC 5280 section 5
    Severity: critical
    Level: MUST
    Remediation: give etcd the list with the flag --{side}-crl-file, not in a configuration file, DER encoded.
    """
    seen = only(admission, OVER_HTTP)
    if not seen.cells:
        yield CannotJudge(Outcome.NOT_APPLICABLE, f"{admission.url} does not speak HTTP to clients")
    yield from judge(seen, "a client with a revoked certificate")


@check("mtls.revoked-grpc", on={Role.CLIENT}, counterexample=_over_grpc)
def a_revoked_certificate_is_refused_over_grpc(
    admission: Annotated[AccessMatrix, "revoked"],
) -> Iterator[Statement]:
    """A client with a revoked certificate is refused over gRPC.

    gRPC is what clients use to read and write keys. Where HTTP has a listener of its own, the list was not
    looked at on the gRPC port before etcd 3.5.32, 3.6.13 and 3.7.0.

    Spec: etcd --client-crl-file
    Spec: RFC 5280 section 5
    Severity: critical
    Level: MUST
    Remediation: upgrade to etcd 3.5.32, 3.6.13 or 3.7.0, or drop --listen-client-http-urls; give the list
        with the flag --client-crl-file, not in a configuration file, DER encoded.
    """
    seen = only(admission, OVER_GRPC)
    if not seen.cells:
        yield CannotJudge(Outcome.NOT_APPLICABLE, f"{admission.url} does not speak gRPC to clients")
    yield from judge(seen, "a client with a revoked certificate")


@check("mtls.wrong-hostname", on={Role.CLIENT}, counterexample=let_in)
def a_client_with_another_hostname_is_refused(
    admission: Annotated[AccessMatrix, "wrong-hostname"],
) -> Iterator[Statement]:
    """A client whose certificate does not cover the allowed hostname is refused.

    Where a CA signs for others too, this rule alone keeps them out. Judged where the rule is declared, by a
    certificate without subjectAltName, or by any of ours that does not cover the name.

    Spec: etcd --client-cert-allowed-hostname
    Spec: etcd THREAT_MODEL.md, Client-to-Server Boundary
    Severity: high
    Level: MUST
    Remediation: set --client-cert-allowed-hostname where etcd reads it: a configuration file hides flags.
    """
    yield from judge(admission, "a client whose certificate does not cover the allowed hostname")


@check("mtls.wrong-peer-hostname", on={Role.PEER}, counterexample=let_in)
def a_peer_with_another_hostname_is_refused(
    admission: Annotated[AccessMatrix, "wrong-hostname"],
) -> Iterator[Statement]:
    """A peer whose certificate does not cover the allowed hostname is refused.

    Where a CA signs for others too, this rule alone keeps them out of raft. Judged where the rule is
    declared, by a certificate without subjectAltName, or by any of ours that does not cover the name.

    Spec: etcd --peer-cert-allowed-hostname
    Spec: etcd THREAT_MODEL.md, Peer-to-Peer Boundary
    Severity: high
    Level: MUST
    Remediation: set --peer-cert-allowed-hostname where etcd reads it: a configuration file hides flags.
    """
    yield from judge(admission, "a peer whose certificate does not cover the allowed hostname")


@check("mtls.wrong-cn", on={Role.PEER}, counterexample=let_in)
def a_peer_with_another_common_name_is_refused(
    admission: Annotated[AccessMatrix, "wrong-cn"],
) -> Iterator[Statement]:
    """A peer whose certificate has another common name than the allowed one is refused.

    Where a CA signs for others too, this rule alone keeps them out of raft. Judged where the rule is
    declared, by a certificate that is good but for the common name, or by any of ours that is such.

    Spec: etcd --peer-cert-allowed-cn
    Spec: etcd THREAT_MODEL.md, Peer-to-Peer Boundary
    Severity: high
    Level: MUST
    Remediation: set --peer-cert-allowed-cn where etcd reads it: a configuration file hides flags.
    """
    yield from judge(admission, "a peer with another common name than the allowed one")


@check("mtls.wrong-san", on={Role.PEER, Role.METRICS}, counterexample=let_in)
def a_certificate_for_another_address_is_refused(
    admission: Annotated[AccessMatrix, "wrong-san"],
) -> Iterator[Statement]:
    """A certificate whose SANs do not cover the address it comes from is refused.

    etcd compares them on peer and https metrics listeners: a member's certificate is of no use from another
    machine. The refusal is a close after the handshake, without an alert.

    Spec: etcd Documentation, transport security model, notes for TLS authentication
    Spec: etcd --peer-skip-client-san-verification
    Severity: medium
    Level: MUST
    Remediation: do not set --peer-skip-client-san-verification (before 3.7
        --experimental-peer-skip-client-san-verification).
    """
    yield from judge(admission, "a client whose certificate is for another address")
