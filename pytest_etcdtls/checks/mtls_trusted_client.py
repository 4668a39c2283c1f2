"""The good client is accepted: the control of every refusal."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Annotated, Any

from pytest_etcdtls.observations.admission import Acceptance, Admission, Candidate
from pytest_etcdtls.observations.attempt import Way
from pytest_etcdtls.registry import EVERY_LISTENER, check
from pytest_etcdtls.reproduce import curl
from pytest_etcdtls.results import Finding, Note, Outcome, Statement, Verdict
from pytest_etcdtls.target import Role


def _refused(acceptance: Acceptance, stranger: Admission) -> Mapping[str, Any]:
    def refused(candidate: Candidate) -> Candidate:
        tries = tuple(
            (version, speech, tuple(replace(a, way=Way.REFUSED, alert=42, response=None) for a in made))
            for version, speech, made in candidate.tries
        )
        return replace(candidate, tries=tries)

    candidates = tuple(refused(candidate) for candidate in acceptance.candidates)
    return {"acceptance": replace(acceptance, accepted=None, candidates=candidates)}


@check("mtls.trusted-client", on=EVERY_LISTENER, counterexample=_refused)
def a_trusted_client_is_accepted(
    acceptance: Acceptance, stranger: Annotated[Admission, "none"]
) -> Iterator[Statement]:
    """A client with a good certificate is accepted.

    It is the control of all refusals, and what the cluster is for. A good client that TLS lets in and etcd
    then closes meets a certificate revocation list: an unreadable one, a PEM one on etcd 3.6 and newer, or
    one that names it.

    Spec: etcd THREAT_MODEL.md, Client-to-Server Boundary
    Spec: etcd --{peer}trusted-ca-file, --{side}-crl-file
    Severity: critical
    Level: MUST
    Remediation: give etcd the CA of its clients with --{peer}trusted-ca-file (read at start only), and a
        DER encoded --{side}-crl-file.
    """
    if not acceptance.candidates and any(cell.attempt.way is Way.SERVED for cell in stranger.cells):
        reason = "a client without a certificate is let in, see mtls.no-certificate: nobody needs a good one"
        yield Verdict(Outcome.NOT_APPLICABLE, reason)
        return
    if not acceptance.candidates:
        side = "peer-" if acceptance.role == Role.PEER else ""
        reason = f"needs a client certificate: pass --etcd-{side}cert and --etcd-{side}key"
        yield Verdict(Outcome.NOT_VERIFIED, reason)
        return
    accepted = acceptance.accepted
    if accepted is not None:
        failed = [found for found in acceptance.candidates if found is not accepted and _is_refused(found)]
        named = [found for found in failed if not found.minted and not _borrowed(acceptance, found)]
        yield from (_not_accepted(acceptance, found) for found in named)
        missed = [attempt for attempt in accepted.attempts if attempt.protocol in accepted.spoken]
        missed = [attempt for attempt in missed if attempt.way is Way.REFUSED]
        if missed:
            yield _not_accepted(acceptance, accepted)
        yield Note(f"accepted: {accepted.identity} ({accepted.origin})")
        return
    rest = [found for found in acceptance.candidates if not acceptance.closed_by_san_rule(found)]
    if not rest:
        yield Verdict(
            Outcome.NOT_VERIFIED,
            "TLS accepted the certificate and etcd closed the connection, which its rule on SANs explains: "
            "here they must cover the address we come from. Pass a certificate of that CA without SANs",
        )
    elif all(found.excluded and found.ways == {Way.REFUSED} for found in rest):
        yield Verdict(
            Outcome.NOT_VERIFIED,
            f"a declared rule about names excludes the certificate of {rest[0].identity}, which is refused: "
            f"pass --etcd-{'peer-' if acceptance.role == Role.PEER else ''}cert with one that it allows",
        )
    elif failed := [found for found in rest if found.ways & {Way.REFUSED, Way.CLOSED}]:
        if all(_borrowed(acceptance, found) for found in failed):
            yield Verdict(
                Outcome.NOT_VERIFIED,
                "the certificate for client ports is refused, as it should be where peers have a CA of their "
                "own: pass --etcd-peer-cert and --etcd-peer-key",
            )
        else:
            yield _not_accepted(acceptance, next(f for f in failed if not _borrowed(acceptance, f)))
    else:
        yield Verdict(Outcome.INCONCLUSIVE, f"{rest[0].identity}: {rest[0].attempts[0].describe()}")


def _borrowed(acceptance: Acceptance, candidate: Candidate) -> bool:
    """Whether it is the certificate for client ports, tried on a peer port for want of a better one."""
    return acceptance.role == Role.PEER and candidate.identity == "client"


def _is_refused(candidate: Candidate) -> bool:
    return Way.REFUSED in candidate.ways


def _not_accepted(acceptance: Acceptance, candidate: Candidate) -> Finding:
    bad = [attempt for attempt in candidate.attempts if attempt.way in (Way.REFUSED, Way.CLOSED)]
    closed = all(attempt.way is Way.CLOSED for attempt in bad)
    return Finding(
        message=f"the good client {candidate.identity} ({candidate.origin}) is "
        + (
            "accepted by TLS and closed by etcd: its revocation list is unreadable, PEM on 3.6 or newer, "
            "or names this certificate"
            if closed
            else "refused"
        ),
        expected="an answer to every request",
        observed="; ".join(f"{attempt.asked} {attempt.protocol}: {attempt.describe()}" for attempt in bad),
        evidence={"identity": candidate.identity},
        reproduce=(
            curl(
                acceptance.url,
                role=acceptance.role,
                files=candidate.files,
                version=bad[0].asked,
                protocol=bad[0].protocol,
            ),
        ),
    )
