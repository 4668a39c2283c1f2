"""A certificate is accepted on the port that it was issued for, and on no other.

With one CA for both ports only the names in a certificate distinguish clients from peers, and etcd does not
check them unless a flag says so: these checks are recommendations.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Annotated, Any

from pytest_etcdtls.checks.mtls_refusals import as_if_accepted
from pytest_etcdtls.facts.access import AccessMatrix
from pytest_etcdtls.facts.release import EtcdRelease
from pytest_etcdtls.judgement import judge
from pytest_etcdtls.registry import check
from pytest_etcdtls.reproduce import GET_VERSION, s_client
from pytest_etcdtls.results import CannotJudge, Finding, Note, Outcome, Statement
from pytest_etcdtls.role import Role, TLSVersion
from pytest_etcdtls.tls.attempt import Ending, ForeignSession, Response, Resumed, Resumption

_CLIENT_PAIR_SINCE = (3, 5)
"""The first release line with ``--client-cert-file``."""


def _as_if_accepted(admission: AccessMatrix, **_: object) -> Mapping[str, Any]:
    return as_if_accepted(admission)


def _judge(admission: AccessMatrix, unauthenticated: AccessMatrix, who: str) -> Iterator[Statement]:
    """Judge the role where unauthenticated clients are refused; otherwise roles do not matter."""
    if any(cell.attempt.ending is Ending.SERVED for cell in unauthenticated.cells):
        reason = "clients without a certificate are accepted, see mtls.no-certificate"
        yield CannotJudge(Outcome.NOT_APPLICABLE, reason)
        return
    yield from judge(admission, who)


@check("mtls.client-certificate-on-peer-port", on={Role.PEER}, counterexample=_as_if_accepted)
def a_client_certificate_is_refused_on_the_peer_port(
    admission: Annotated[AccessMatrix, "client-certificate"], unauthenticated: Annotated[AccessMatrix, "none"]
) -> Iterator[Statement]:
    """A client certificate is refused on the peer port.

    The peer port serves snapshots and takes part in raft. With one CA for both ports, as kubeadm sets it up,
    every client's key gives access to it.

    Spec: etcd THREAT_MODEL.md, Peer-to-Peer Boundary
    Spec: etcd --peer-trusted-ca-file
    Follows: mtls.no-certificate
    Severity: medium
    Level: SHOULD
    Remediation: use a separate CA for peers in --peer-trusted-ca-file, or name the peers with
        --peer-cert-allowed-cn. Members connect to each other with --peer-cert-file, or with
        --peer-client-cert-file; that CA must issue this certificate as well.
    """
    if admission.has_names and any(cell.attempt.ending is Ending.CLOSED for cell in admission.cells):
        reason = "etcd closed the connection by its SAN rule: from its own address it may be accepted"
        yield CannotJudge(Outcome.NOT_VERIFIED, reason)
        return
    yield from _judge(admission, unauthenticated, "a client's certificate on the peer port")


@check("mtls.peer-certificate-on-client-port", on={Role.CLIENT}, counterexample=_as_if_accepted)
def a_peer_certificate_is_refused_on_the_client_port(
    admission: Annotated[AccessMatrix, "peer-certificate"], unauthenticated: Annotated[AccessMatrix, "none"]
) -> Iterator[Statement]:
    """A peer certificate is refused on the client port.

    A leaked peer key then also gives access to the client API, where it reads and writes keys.

    Spec: etcd THREAT_MODEL.md, Peer-to-Peer Boundary
    Spec: etcd --trusted-ca-file
    Follows: mtls.no-certificate
    Severity: low
    Level: SHOULD
    Remediation: use a separate CA for clients in --trusted-ca-file. If that CA does not also issue the
        certificate of --cert-file, the JSON gateway needs a certificate of its own from that CA, with
        --client-cert-file and --client-key-file (etcd 3.5 and newer).
    """
    yield from _judge(admission, unauthenticated, "a peer's certificate on the client port")


@check("mtls.server-certificate-as-client", on={Role.CLIENT}, counterexample=_as_if_accepted)
def the_served_certificate_is_no_client_certificate(
    admission: Annotated[AccessMatrix, "server-certificate"],
    unauthenticated: Annotated[AccessMatrix, "none"],
    etcd: EtcdRelease,
) -> Iterator[Statement]:
    """The certificate that the client port serves is refused as a client certificate.

    A leaked server key otherwise gives client access. etcd's JSON gateway connects to its own port with the
    served certificate, so by default that certificate is accepted. From 3.5 on the gateway can have a
    certificate of its own.

    Spec: etcd --client-cert-file, --client-key-file
    Spec: RFC 5280 section 4.2.1.12
    Follows: cert.signature-hash
    Severity: low
    Level: SHOULD
    Remediation: give the gateway its own certificate with --client-cert-file and --client-key-file, and serve
        a certificate with the extended key usage serverAuth alone.
    """
    statements = list(_judge(admission, unauthenticated, "the served certificate, as a client certificate,"))
    if etcd.release.line < _CLIENT_PAIR_SINCE and any(isinstance(said, Finding) for said in statements):
        reason = f"etcd {etcd.release} has no --client-cert-file for its gateway, which needs it"
        yield CannotJudge(Outcome.NOT_APPLICABLE, reason)
        return
    yield from statements


_CLIENT_AND_PEER = frozenset({Role.CLIENT, Role.PEER})


def _refused_again(resumption: Resumption) -> Mapping[str, Any]:
    def refused(resumed: Resumed) -> Resumed:
        again = replace(resumed.fresh, ending=Ending.OTHER, alert=80, resumed=True, response=None)
        return replace(resumed, again=again)

    return {"resumption": replace(resumption, good=tuple(refused(resumed) for resumed in resumption.good))}


@check("mtls.resumption-keeps-verdict", on=_CLIENT_AND_PEER, counterexample=_refused_again)
def a_resumed_session_keeps_the_verdict(resumption: Resumption) -> Iterator[Statement]:
    """A resumed session is accepted exactly when a full handshake would be.

    A resumed handshake sends no certificate. If the server does not verify the remembered certificate again,
    above all against the revocation list, a revoked client keeps its access. If the server forgets the
    certificate, good clients are refused from their second connection on.

    Spec: RFC 8446 section 2.2
    Spec: etcd THREAT_MODEL.md, Client-to-Server Boundary
    Spec: etcd --{side}-crl-file
    Follows: mtls.no-certificate
    Severity: high
    Level: MUST
    Remediation: let etcd itself terminate TLS on this port: it judges a resumed session by revocation list
        and SANs like any other.
    """
    for resumed in resumption.good:
        yield from _judge_good(resumption, resumed)
    for resumed in resumption.revoked:
        yield from _judge_revoked(resumption, resumed)


def _judge_good(resumption: Resumption, resumed: Resumed) -> Iterator[Statement]:
    again, place = resumed.again, f"{resumed.identity} in {resumed.version}"
    if resumed.fresh.ending is not Ending.SERVED:
        yield CannotJudge(
            Outcome.NOT_VERIFIED, f"{place} is not accepted with a full handshake: {resumed.fresh.describe()}"
        )
    elif again is None:
        yield Note(f"{resumed.version}: the server issues no session")
    elif again.ending is Ending.SERVED:
        yield Note(f"{resumed.version}: {'resumed' if again.resumed else 'not resumed'}")
    elif again.ending in (Ending.UNCLEAR, Ending.CLOSED):
        yield CannotJudge(Outcome.INCONCLUSIVE, f"{place} with its session: {again.describe()}")
    else:
        yield Finding(
            message=f"the good client is accepted, but not with its session, in {resumed.version}",
            expected=resumed.fresh.describe(),
            observed=again.describe(),
            evidence={"identity": resumed.identity},
            reproduce=_lines(resumption.url, resumption.url, resumed.version, resumption.files),
        )


def _judge_revoked(resumption: Resumption, resumed: Resumed) -> Iterator[Statement]:
    again, place = resumed.again, f"{resumed.identity} in {resumed.version}"
    if resumed.fresh.ending is Ending.SERVED or again is None:
        return
    if again.ending is Ending.SERVED:
        yield Finding(
            message=f"a client that is refused otherwise is accepted with its session, in {resumed.version}",
            expected=resumed.fresh.describe(),
            observed=again.describe(),
            evidence={"identity": resumed.identity},
            reproduce=_lines(resumption.url, resumption.url, resumed.version, resumption.files),
        )
    elif again.ending is Ending.UNCLEAR:
        yield CannotJudge(Outcome.INCONCLUSIVE, f"{place} with its session: {again.describe()}")


def _carried_over(foreign: ForeignSession) -> Mapping[str, Any]:
    presented = tuple(
        (
            version,
            fresh,
            replace(again, ending=Ending.SERVED, alert=None, resumed=True, response=Response(status=200)),
        )
        for version, fresh, again in foreign.presented
    )
    return {"foreign": replace(foreign, presented=presented)}


@check("mtls.ticket-not-transferable", on=_CLIENT_AND_PEER, counterexample=_carried_over)
def a_session_of_the_other_port_is_worth_nothing(foreign: ForeignSession) -> Iterator[Statement]:
    """A session from the member's other port is refused.

    A client of the client port could otherwise use the peer port, without a certificate that is valid there:
    ports that share their ticket keys accept each other's clients.

    Spec: RFC 8446 section 4.6.1
    Spec: RFC 9325 section 3.4
    Spec: etcd THREAT_MODEL.md, Client-to-Server Boundary
    Severity: critical
    Level: MUST
    Remediation: let etcd itself terminate TLS on both ports: it has ticket keys of its own for each listener.
    """
    for version, _, again in foreign.presented:
        if again.ending is Ending.UNCLEAR:
            yield CannotJudge(Outcome.INCONCLUSIVE, f"{version}: {again.purpose}: {again.describe()}")
        elif again.ending is Ending.SERVED and not again.resumed:
            reason = (
                "a client without a certificate is accepted without a session too, see mtls.no-certificate"
            )
            yield CannotJudge(Outcome.NOT_APPLICABLE, reason)
        elif again.ending is Ending.SERVED:
            yield Finding(
                message=f"a session of {foreign.other} is accepted in {version}",
                expected="a full handshake, in which a client without a certificate is refused",
                observed=f"resumed; {again.describe()}",
                reproduce=_lines(foreign.other, foreign.url, version, foreign.files),
            )


def _lines(got: str, presented: str, version: TLSVersion, files: tuple[str, str] | None) -> tuple[str, ...]:
    again = None if got != presented else files
    return (
        s_client(got, version, "-sess_out session.pem", files, GET_VERSION, look='"HTTP": a session is kept'),
        s_client(presented, version, "-sess_in session.pem", again, GET_VERSION, look='"Reused" and "HTTP"'),
    )
