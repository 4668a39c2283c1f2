"""Bad identities are refused, in every TLS version and protocol that the listener speaks."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Annotated, Any

from pytest_etcdtls.judgement import judge
from pytest_etcdtls.observations.admission import Admission, Cell
from pytest_etcdtls.observations.attempt import Response, Stage, Way
from pytest_etcdtls.registry import EVERY_LISTENER, check
from pytest_etcdtls.results import Statement
from pytest_etcdtls.target import Role

_CLIENT_AND_PEER = frozenset({Role.CLIENT, Role.PEER})


def let_in(admission: Admission) -> Mapping[str, Any]:
    """Return what would be seen if the identity were served; the counterexample of every refusal."""

    def served(cell: Cell) -> Cell:
        tries = tuple(
            replace(attempt, way=Way.SERVED, stage=Stage.READ, alert=None, response=Response(status=200))
            for attempt in cell.tries
        )
        return replace(cell, tries=tries)

    return {"admission": replace(admission, cells=tuple(served(cell) for cell in admission.cells))}


@check("mtls.no-certificate", on=EVERY_LISTENER, counterexample=let_in)
def a_client_without_a_certificate_is_refused(admission: Annotated[Admission, "none"]) -> Iterator[Statement]:
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
    admission: Annotated[Admission, "self-signed"],
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
    admission: Annotated[Admission, "foreign-ca"],
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
    admission: Annotated[Admission, "lookalike-ca"],
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
def an_expired_certificate_is_refused(admission: Annotated[Admission, "expired"]) -> Iterator[Statement]:
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
    admission: Annotated[Admission, "not-yet-valid"],
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
    admission: Annotated[Admission, "server-auth-only"],
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
    admission: Annotated[Admission, "intermediate-missing"],
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
