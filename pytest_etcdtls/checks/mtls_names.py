"""Names in a client's certificate: those that etcd was told to admit, and those that its SAN rule wants."""

from collections.abc import Iterator
from typing import Annotated

from pytest_etcdtls.checks.mtls_refusals import let_in
from pytest_etcdtls.judgement import judge
from pytest_etcdtls.observations.admission import Admission
from pytest_etcdtls.registry import check
from pytest_etcdtls.results import Statement
from pytest_etcdtls.target import Role


@check("mtls.wrong-hostname", on={Role.CLIENT}, counterexample=let_in)
def a_client_with_another_hostname_is_refused(
    admission: Annotated[Admission, "wrong-hostname"],
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
    admission: Annotated[Admission, "wrong-hostname"],
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
    admission: Annotated[Admission, "wrong-cn"],
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
    admission: Annotated[Admission, "wrong-san"],
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
