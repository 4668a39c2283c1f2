"""The good client is accepted: the control of every refusal."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any

from cryptography import x509

from pytest_etcdtls.observations.admission import Acceptance, Admission, Candidate
from pytest_etcdtls.observations.attempt import Attempt, Way, alert_text
from pytest_etcdtls.pki.reading import is_for, purposes, span
from pytest_etcdtls.registry import EVERY_LISTENER, check
from pytest_etcdtls.reproduce import curl
from pytest_etcdtls.results import Finding, Note, Outcome, Statement, Verdict
from pytest_etcdtls.target import Role

_EXPIRED, _UNKNOWN_CA = 45, 48
"""Alerts certificate_expired and unknown_ca (RFC 8446 section 6.2)."""


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

    It is the control of all refusals, and what the cluster is for. The alert tells why it is refused: 45 that
    its certificate has expired or is not yet valid, 48 that its CA is not trusted, 42 anything else, and up
    to Go 1.19 all of these. A good client that TLS lets in and etcd then closes meets a certificate
    revocation list: an unreadable one, a PEM one on etcd 3.6 and newer, or one that names it; on peer and
    metrics ports also the rule that a certificate with SANs has to fit the address that it comes from.

    Spec: etcd THREAT_MODEL.md, Client-to-Server Boundary
    Spec: etcd --{peer}trusted-ca-file, --{side}-crl-file
    Severity: critical
    Level: MUST
    Remediation: give etcd the CA of its clients with --{peer}trusted-ca-file (read at start only), and
        clients certificates of it that are valid and have clientAuth.
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
    becomes, (why, remediation) = (
        ("accepted by TLS and closed by etcd", _why_closed(acceptance, candidate))
        if closed
        else ("refused", _why_refused(candidate, bad))
    )
    return Finding(
        message=f"the good client {candidate.identity} ({candidate.origin}) is {becomes}: {why}",
        remediation=remediation,
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


def _why_closed(acceptance: Acceptance, candidate: Candidate) -> tuple[str, str]:
    why = "its revocation list is unreadable, PEM on 3.6 or newer, or names this certificate"
    remedy = "give a --{side}-crl-file that is there, is DER encoded, and does not name this certificate"
    if acceptance.san_rule and candidate.has_names:
        why += "; or the SANs of the certificate do not fit the address that we come from"
        remedy += "; or try a certificate without SANs, or from an address that they name"
    return why, remedy


def _why_refused(candidate: Candidate, bad: Sequence[Attempt]) -> tuple[str, str]:
    """Return why a client is refused, as far as its certificate and the alert tell, and what mends that.

    What can be seen in the certificate comes first, since an old Go sends 42 for everything.
    """
    alerts = {attempt.alert for attempt in bad}
    alert = " or ".join(sorted(alert_text(number) for number in alerts if number is not None))
    renew = "renew this certificate and give the new pair to the client; nothing is wrong with etcd's flags"
    if not candidate.chain:
        return f"alert {alert}", ""
    leaf, now = candidate.chain[0], bad[0].started_at
    if now > leaf.not_valid_after_utc:
        return f"its certificate expired {span(now - leaf.not_valid_after_utc)} ago", renew
    if now < leaf.not_valid_before_utc:
        return f"its certificate is not valid before {leaf.not_valid_before_utc:%Y-%m-%d %H:%M:%S} UTC", (
            "use the certificate from then on, or set the clock of the machine that issues or checks it"
        )
    if _EXPIRED in alerts:
        return "it is valid by our clock, and expired or not yet valid by that of the member, or its CA is", (
            "synchronise the clocks of the member and of the CA's machine; renew the CA if that has expired"
        )
    issuer = candidate.chain[-1].issuer
    announced = {x509.Name.from_bytes(der) for attempt in bad for der in attempt.announced_ca}
    known = {found.subject for found in candidate.chain[1:]} | {issuer}
    if _UNKNOWN_CA in alerts or (announced and not known & announced):
        names = ", ".join(sorted(name.rfc4514_string() for name in announced)) or "none announced"
        return f"its CA, {issuer.rfc4514_string()}, is not trusted (trusted: {names})", (
            "put this CA into --{peer}trusted-ca-file and restart etcd, which reads it at start only; or use "
            "a certificate of a CA that is there"
        )
    if not is_for(leaf, "clientAuth"):
        return f"its extendedKeyUsage ({', '.join(purposes(leaf) or ()) or 'empty'}) has no clientAuth", (
            "issue this certificate with extendedKeyUsage clientAuth"
        )
    return f"alert {alert}, and nothing in the certificate explains it: an allowed name, or another CA key", (
        "see etcd's log; use a certificate whose names --{side}-cert-allowed-hostname or "
        "--peer-cert-allowed-cn admits, of the very CA that is in --{peer}trusted-ca-file"
    )
