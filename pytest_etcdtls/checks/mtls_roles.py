"""A certificate opens the port that it was issued for, and no other.

On a CA that signs for both ports nothing but the certificate's names tells its holders apart, and etcd does
not look at them unless it is told to: these are recommendations.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pytest_etcdtls.checks.mtls_refusals import let_in
from pytest_etcdtls.judgement import judge
from pytest_etcdtls.observations.admission import Admission
from pytest_etcdtls.observations.attempt import Way
from pytest_etcdtls.observations.release import EtcdRelease
from pytest_etcdtls.registry import check
from pytest_etcdtls.results import Finding, Outcome, Statement, Verdict
from pytest_etcdtls.target import Role

_CLIENT_PAIR_SINCE = (3, 5)
"""``--client-cert-file`` is there from this line on."""


def _let_in(admission: Admission, **_: object) -> Mapping[str, Any]:
    return let_in(admission)


def _judge(admission: Admission, stranger: Admission, who: str) -> Iterator[Statement]:
    """Judge it where strangers are refused; where they are not, roles do not matter."""
    if any(cell.attempt.way is Way.SERVED for cell in stranger.cells):
        reason = "everybody is let in, see mtls.no-certificate"
        yield Verdict(Outcome.NOT_APPLICABLE, reason)
        return
    yield from judge(admission, who)


@check("mtls.client-certificate-on-peer-port", on={Role.PEER}, counterexample=_let_in)
def a_client_certificate_is_refused_on_the_peer_port(
    admission: Annotated[Admission, "client-certificate"], stranger: Annotated[Admission, "none"]
) -> Iterator[Statement]:
    """A client's certificate is refused on the peer port.

    The peer port gives out snapshots and takes part in raft. With one CA for both ports, as kubeadm sets it
    up, every client's key opens it.

    Spec: etcd THREAT_MODEL.md, Peer-to-Peer Boundary
    Spec: etcd --peer-trusted-ca-file
    Severity: medium
    Level: SHOULD
    Remediation: let a CA of their own sign the peers, in --peer-trusted-ca-file, or name the peers with
        --peer-cert-allowed-cn. Members dial each other with the pair of --peer-cert-file, which that CA has
        to issue as well, or with that of --peer-client-cert-file.
    """
    if admission.has_names and any(cell.attempt.way is Way.CLOSED for cell in admission.cells):
        reason = "etcd closed it, which its rule on SANs explains: it may be let in from its own address"
        yield Verdict(Outcome.NOT_VERIFIED, reason)
        return
    yield from _judge(admission, stranger, "a client's certificate on the peer port")


@check("mtls.peer-certificate-on-client-port", on={Role.CLIENT}, counterexample=_let_in)
def a_peer_certificate_is_refused_on_the_client_port(
    admission: Annotated[Admission, "peer-certificate"], stranger: Annotated[Admission, "none"]
) -> Iterator[Statement]:
    """A peer's certificate is refused on the client port.

    A leaked peer key would otherwise read and write keys as well.

    Spec: etcd THREAT_MODEL.md, Peer-to-Peer Boundary
    Spec: etcd --trusted-ca-file
    Severity: low
    Level: SHOULD
    Remediation: let a CA of their own sign the clients, in --trusted-ca-file. If that CA does not issue the
        certificate of --cert-file too, the JSON gateway needs a pair of its own from it, with
        --client-cert-file and --client-key-file (etcd 3.5 and newer).
    """
    yield from _judge(admission, stranger, "a peer's certificate on the client port")


@check("mtls.server-certificate-as-client", on={Role.CLIENT}, counterexample=_let_in)
def the_served_certificate_is_no_client_certificate(
    admission: Annotated[Admission, "server-certificate"],
    stranger: Annotated[Admission, "none"],
    etcd: EtcdRelease,
) -> Iterator[Statement]:
    """The certificate that the client port serves is refused as a client's.

    etcd's JSON gateway dials its own port with the served pair, so by default that pair is a good client.
    From 3.5 on the gateway can be given one of its own; then a leaked server key is no client's key.

    Spec: etcd --client-cert-file, --client-key-file
    Spec: RFC 5280 section 4.2.1.12
    Severity: low
    Level: SHOULD
    Remediation: give the gateway a pair of its own with --client-cert-file and --client-key-file, and serve a
        certificate with the extended key usage serverAuth alone.
    """
    statements = list(_judge(admission, stranger, "the certificate of the server itself, as a client's,"))
    if etcd.release.line < _CLIENT_PAIR_SINCE and any(isinstance(said, Finding) for said in statements):
        reason = f"etcd {etcd.release} has no --client-cert-file for its gateway, which needs it"
        yield Verdict(Outcome.NOT_APPLICABLE, reason)
        return
    yield from statements
