"""A TLS session stands for the handshake in which it was got: no more, no less, and nowhere else."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from pytest_etcdtls.observations.attempt import Response, TLSVersion, Way
from pytest_etcdtls.observations.session import ForeignSession, Resumed, Resumption
from pytest_etcdtls.registry import check
from pytest_etcdtls.reproduce import GET_VERSION, s_client
from pytest_etcdtls.results import Finding, Note, Outcome, Statement, Verdict
from pytest_etcdtls.target import Role

_CLIENT_AND_PEER = frozenset({Role.CLIENT, Role.PEER})


def _refused_again(resumption: Resumption) -> Mapping[str, Any]:
    def refused(resumed: Resumed) -> Resumed:
        again = replace(resumed.fresh, way=Way.OTHER, alert=80, resumed=True, response=None)
        return replace(resumed, again=again)

    return {"resumption": replace(resumption, good=tuple(refused(resumed) for resumed in resumption.good))}


@check("mtls.resumption-keeps-verdict", on=_CLIENT_AND_PEER, counterexample=_refused_again)
def a_resumed_session_keeps_the_verdict(resumption: Resumption) -> Iterator[Statement]:
    """Who resumes a session is let in exactly if a full handshake would let them in.

    A resumed handshake shows no certificate; what the server remembers of it must be judged again, a
    revocation list above all. The other way round, a server that forgets it locks out good clients from their
    second connection on.

    Spec: RFC 8446 section 2.2
    Spec: etcd THREAT_MODEL.md, Client-to-Server Boundary
    Spec: etcd --{side}-crl-file
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
    if resumed.fresh.way is not Way.SERVED:
        yield Verdict(Outcome.NOT_VERIFIED, f"{place} is not let in afresh: {resumed.fresh.describe()}")
    elif again is None:
        yield Note(f"{resumed.version}: no session is given out")
    elif again.way is Way.SERVED:
        yield Note(f"{resumed.version}: {'resumed' if again.resumed else 'not resumed'}")
    elif again.way in (Way.UNCLEAR, Way.CLOSED):
        yield Verdict(Outcome.INCONCLUSIVE, f"{place} with its session: {again.describe()}")
    else:
        yield Finding(
            message=f"the good client is let in afresh, and not with its session, in {resumed.version}",
            expected=resumed.fresh.describe(),
            observed=again.describe(),
            evidence={"identity": resumed.identity},
            reproduce=_lines(resumption.url, resumption.url, resumed.version, resumption.files),
        )


def _judge_revoked(resumption: Resumption, resumed: Resumed) -> Iterator[Statement]:
    again, place = resumed.again, f"{resumed.identity} in {resumed.version}"
    if resumed.fresh.way is Way.SERVED or again is None:
        return
    if again.way is Way.SERVED:
        yield Finding(
            message=f"a client that is refused afresh is let in with its session, in {resumed.version}",
            expected=resumed.fresh.describe(),
            observed=again.describe(),
            evidence={"identity": resumed.identity},
            reproduce=_lines(resumption.url, resumption.url, resumed.version, resumption.files),
        )
    elif again.way is Way.UNCLEAR:
        yield Verdict(Outcome.INCONCLUSIVE, f"{place} with its session: {again.describe()}")


def _carried_over(foreign: ForeignSession) -> Mapping[str, Any]:
    presented = tuple(
        (
            version,
            fresh,
            replace(again, way=Way.SERVED, alert=None, resumed=True, response=Response(status=200)),
        )
        for version, fresh, again in foreign.presented
    )
    return {"foreign": replace(foreign, presented=presented)}


@check("mtls.ticket-not-transferable", on=_CLIENT_AND_PEER, counterexample=_carried_over)
def a_session_of_the_other_port_is_worth_nothing(foreign: ForeignSession) -> Iterator[Statement]:
    """A session of the member's other port lets nobody in here.

    Whoever may speak to clients' port could otherwise speak to the peers', with no certificate that is valid
    there: ports that share their ticket keys share their clients.

    Spec: RFC 8446 section 4.6.1
    Spec: RFC 9325 section 3.4
    Spec: etcd THREAT_MODEL.md, Client-to-Server Boundary
    Severity: critical
    Level: MUST
    Remediation: let etcd itself terminate TLS on both ports: it has ticket keys of its own for each listener.
    """
    for version, _, again in foreign.presented:
        if again.way is Way.UNCLEAR:
            yield Verdict(Outcome.INCONCLUSIVE, f"{version}: {again.purpose}: {again.describe()}")
        elif again.way is Way.SERVED and not again.resumed:
            reason = "a client without a certificate is let in, session or not: see mtls.no-certificate"
            yield Verdict(Outcome.NOT_APPLICABLE, reason)
        elif again.way is Way.SERVED:
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
