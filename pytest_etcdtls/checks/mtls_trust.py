"""Which CAs the listener announces, that it accepts a trusted client, and that it refuses plain HTTP."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any

from cryptography import x509

from pytest_etcdtls.facts.access import AcceptedClient, AccessMatrix, Candidate
from pytest_etcdtls.facts.certificates import AnnouncedCAs, ClientTrust
from pytest_etcdtls.facts.listener import Plaintext
from pytest_etcdtls.judgement import ANNOUNCED, IN_PLAINTEXT, curl, s_client, with_attempts
from pytest_etcdtls.pki.certificate import is_for, name_list, name_text, purposes, signature_hash, span
from pytest_etcdtls.pki.go_verify import signature_scheme
from pytest_etcdtls.registry import EVERY_LISTENER, check
from pytest_etcdtls.results import CannotJudge, Finding, Note, Outcome, Statement
from pytest_etcdtls.role import Role
from pytest_etcdtls.tls.attempt import Attempt, Ending, Response, alert_text

_TLS_ALERT = b"\x15\x03"
"""The beginning of a record with an alert: content type 21, then the version (RFC 8446 section 5.1)."""


def _empty(announced: AnnouncedCAs) -> Mapping[str, Any]:
    names = tuple((version, ()) for version, _ in announced.names)
    return {"announced": replace(announced, names=names)}


@check("mtls.announced-ca-present", on=EVERY_LISTENER, counterexample=_empty)
def the_listener_announces_its_cas(announced: AnnouncedCAs) -> Iterator[Statement]:
    """The listener requests a client certificate and announces at least one CA.

    An etcd with client-cert-auth and no trusted CA file announces none: it trusts every CA in the system's
    root store and refuses the cluster's own clients.

    Spec: RFC 8446 section 4.2.4
    Spec: RFC 5246 section 7.4.4
    Spec: etcd --{peer}trusted-ca-file
    Follows: mtls.no-certificate, config.client-auth-without-ca
    Severity: critical
    Level: MUST
    Remediation: set --{peer}trusted-ca-file; --{peer}client-cert-auth alone trusts the system's root CAs.
    """
    names = dict(announced.names)
    without = [version for version, requested in announced.requested if not requested]
    empty = [version for version, requested in announced.requested if requested and not names[version]]
    if without:
        yield Finding(
            message="no client certificate is requested",
            expected="a CertificateRequest with the names of the trusted CAs",
            observed=f"no CertificateRequest in {', '.join(without)}",
            reproduce=(s_client(announced.url, look=ANNOUNCED),),
        )
    if empty:
        yield Finding(
            message="the list of announced CAs is empty: every CA in the system's root store is trusted",
            expected="the names of the trusted CAs in the CertificateRequest",
            observed=f"an empty list in {', '.join(empty)}",
            reproduce=(s_client(announced.url, look=ANNOUNCED),),
        )


def _one_more(announced: AnnouncedCAs, trust: ClientTrust) -> Mapping[str, Any]:
    foreign = x509.Name(list(trust.certificates[0].subject.rdns) * 2)
    names = tuple((version, (*found, foreign)) for version, found in announced.names)
    return {"announced": replace(announced, names=names)}


@check("mtls.announced-ca-expected", on=EVERY_LISTENER, counterexample=_one_more)
def the_listener_trusts_the_expected_cas(announced: AnnouncedCAs, trust: ClientTrust) -> Iterator[Statement]:
    """The announced CAs are exactly those that etcd is meant to trust.

    etcd accepts every client certificate that an additional CA in the bundle has issued.

    Spec: RFC 8446 section 4.2.4
    Spec: etcd THREAT_MODEL.md, Client-to-Server Boundary
    Spec: CIS Kubernetes 2.7
    Follows: config.trusted-ca-in-force, config.peer-trusted-ca-in-force, config.chain-closes,
        mtls.announced-ca-present
    Severity: high
    Level: MUST
    Remediation: put the CAs of this port's clients, and no other, into the file of --{peer}trusted-ca-file
        and restart etcd: it reads the bundle only at start.
    """
    if trust.declared:
        reason = "the bundle is known from the declaration alone: see config.trusted-ca-in-force"
        yield CannotJudge(Outcome.NOT_APPLICABLE, reason)
        return
    wanted = {certificate.subject.public_bytes() for certificate in trust.certificates}
    expected = name_list(certificate.subject for certificate in trust.certificates)
    versions = [version for version, requested in announced.requested if requested]
    given = {version: {name.public_bytes(): name for name in names} for version, names in announced.names}
    if not versions:
        reason = "no client certificate is requested, see mtls.announced-ca-present"
        yield CannotJudge(Outcome.NOT_APPLICABLE, reason)
        return
    for version in versions:
        if set(given[version]) != wanted:
            observed = name_list(given[version].values())
            observed = observed or "an empty list, so that every CA in the system's root store is trusted"
            yield Finding(
                message="other CAs are announced than those that etcd is meant to trust",
                expected=f"{expected} ({trust.source})",
                observed=f"{version}: {observed}",
                reproduce=(s_client(announced.url, look=ANNOUNCED),),
            )
            return


def _two(announced: AnnouncedCAs) -> Mapping[str, Any]:
    names = tuple(
        (version, (*found, x509.Name(list(found[0].rdns) * 2))) for version, found in announced.names
    )
    return {"announced": replace(announced, names=names)}


@check("mtls.announced-ca-single", on=EVERY_LISTENER, counterexample=_two)
def the_listener_trusts_one_ca(announced: AnnouncedCAs) -> Iterator[Statement]:
    """The listener announces only one CA.

    A bundle with several CAs is correct while a CA is being replaced. If the old CA stays in it, etcd keeps
    accepting that CA's certificates.

    Spec: RFC 8446 section 4.2.4
    Spec: etcd THREAT_MODEL.md, Client-to-Server Boundary
    Follows: mtls.announced-ca-expected
    Severity: low
    Level: SHOULD
    Remediation: once every client has a certificate of the new CA, remove the old one from
        --{peer}trusted-ca-file and restart etcd.
    """
    names = {name.public_bytes(): name for _, found in announced.names for name in found}
    if len(names) > 1:
        yield Finding(
            message=f"{len(names)} CAs are announced",
            expected="one CA",
            observed=name_list(names.values()),
            reproduce=(s_client(announced.url, look=ANNOUNCED),),
        )


def _answered(plaintext: Plaintext) -> Mapping[str, Any]:
    served = replace(
        plaintext.attempt, ending=Ending.SERVED, first_bytes=b"HTTP/1.1 200 OK", response=Response(status=200)
    )
    return {"plaintext": replace(plaintext, tries=(served,))}


@check("mtls.plaintext-refused", on=EVERY_LISTENER, counterexample=_answered)
def plain_http_is_refused(plaintext: Plaintext) -> Iterator[Statement]:
    """Plain HTTP requests get no answer.

    etcd applies no TLS flags to an http listener. Such a listener accepts every client, even on the same port
    as an https listener.

    Spec: etcd THREAT_MODEL.md, Client-to-Server Boundary
    Spec: CIS Kubernetes 2.1, 2.4
    Spec: etcd --listen-{side}-urls
    Follows: config.http-listener-beside-tls, config.listeners-as-declared, cluster.peer-urls-https
    Severity: critical
    Level: MUST
    Remediation: name https URLs only in --listen-{side}-urls.
    """
    if plaintext.role == Role.METRICS and plaintext.scheme == "http":
        yield CannotJudge(Outcome.NOT_APPLICABLE, "a metrics listener may use plain HTTP")
        return
    attempt = plaintext.attempt
    if attempt.is_http:
        yield Finding(
            message="plain HTTP is answered",
            expected="the connection is closed without a byte of an answer",
            observed=attempt.describe(),
            evidence={"first bytes": attempt.first_text},
            reproduce=(
                curl(plaintext.url.replace("https://", "http://"), role=plaintext.role, look=IN_PLAINTEXT),
            ),
        )
    elif attempt.first_bytes and not attempt.first_bytes.startswith(_TLS_ALERT):
        reason = f"plain HTTP: what answers is neither TLS nor HTTP: '{attempt.first_text}'"
        yield CannotJudge(Outcome.INCONCLUSIVE, reason)
    elif not plaintext.tls_works or not (
        attempt.first_bytes or attempt.stream_end in ("end of stream", "reset")
    ):
        yield CannotJudge(Outcome.INCONCLUSIVE, f"plain HTTP: {attempt.describe()}")


_EXPIRED, _UNKNOWN_CA = 45, 48
"""Alerts certificate_expired and unknown_ca (RFC 8446 section 6.2)."""


def _refused(client: AcceptedClient, unauthenticated: AccessMatrix) -> Mapping[str, Any]:
    candidates = tuple(
        with_attempts(candidate, ending=Ending.REFUSED, alert=42, response=None)
        for candidate in client.candidates
    )
    return {"client": replace(client, accepted=None, candidates=candidates)}


@check("mtls.trusted-client", on=EVERY_LISTENER, counterexample=_refused)
def a_trusted_client_is_accepted(
    client: AcceptedClient, unauthenticated: Annotated[AccessMatrix, "none"]
) -> Iterator[Statement]:
    """A client with a good certificate is accepted.

    Otherwise the cluster's clients have no access, and refusals of bad identities prove nothing, since this
    is their control. The alert gives the reason: 45 for a certificate that has expired or is not yet valid,
    48 for a CA that is not trusted, 42 for anything else; up to Go 1.19 it is 42 for all of these. If etcd
    closes the connection after the handshake, the cause is a revocation list: an unreadable one, a PEM one on
    etcd 3.6 and newer, or one that contains the certificate. On peer and metrics ports it can also be the
    rule that a certificate's SANs must cover the client's address.

    Spec: etcd THREAT_MODEL.md, Client-to-Server Boundary
    Spec: etcd --{peer}trusted-ca-file, --{side}-crl-file
    Follows: mtls.announced-ca-expected, config.crl-missing, config.crl-encoding, config.chain-closes,
        config.client-auth-without-ca, config.allowed-names-as-one, config.trusted-ca-in-force,
        config.peer-trusted-ca-in-force
    Severity: critical
    Level: MUST
    Remediation: give etcd the CA of its clients with --{peer}trusted-ca-file (read only at start), and give
        clients valid certificates of that CA with clientAuth.
    """
    if not client.candidates and any(case.attempt.ending is Ending.SERVED for case in unauthenticated.cases):
        reason = "clients without a certificate are accepted, see mtls.no-certificate"
        yield CannotJudge(Outcome.NOT_APPLICABLE, reason)
        return
    if not client.candidates:
        prefix = Role(client.role).prefix
        reason = f"needs a client certificate: pass --etcd-{prefix}cert and --etcd-{prefix}key"
        yield CannotJudge(Outcome.NOT_VERIFIED, reason)
        return
    accepted = client.accepted
    if accepted is not None:
        failed = [
            found for found in client.candidates if found is not accepted and Ending.REFUSED in found.endings
        ]
        named = [found for found in failed if not found.issued and not _borrowed(client, found)]
        yield from (_not_accepted(client, found) for found in named)
        if any(
            attempt.ending is Ending.REFUSED and attempt.protocol in accepted.served_protocols
            for attempt in accepted.attempts
        ):
            yield _not_accepted(client, accepted)
        yield Note(f"accepted: {accepted.identity} ({accepted.origin})")
        return
    rest = [found for found in client.candidates if not client.closed_by_san_rule(found)]
    if not rest:
        yield CannotJudge(
            Outcome.NOT_VERIFIED,
            "TLS accepted the certificate and etcd closed the connection, as its SAN rule explains: here the "
            "SANs must cover the client's address. Pass a certificate of that CA without SANs",
        )
    elif all(found.excluded and found.endings == {Ending.REFUSED} for found in rest):
        yield CannotJudge(
            Outcome.NOT_VERIFIED,
            f"a declared rule about names excludes the certificate of {rest[0].identity}, which is refused: "
            f"pass --etcd-{Role(client.role).prefix}cert with one that it allows",
        )
    elif failed := [found for found in rest if found.endings & {Ending.REFUSED, Ending.CLOSED}]:
        if all(_borrowed(client, found) for found in failed):
            yield CannotJudge(
                Outcome.NOT_VERIFIED,
                "the client port's certificate is refused, as expected where peers have a separate CA: pass "
                "--etcd-peer-cert and --etcd-peer-key",
            )
        else:
            yield _not_accepted(client, next(f for f in failed if not _borrowed(client, f)))
    else:
        yield CannotJudge(Outcome.INCONCLUSIVE, f"{rest[0].identity}: {rest[0].attempts[0].describe()}")


def _borrowed(client: AcceptedClient, candidate: Candidate) -> bool:
    """Whether it is the client port's certificate, used on a peer port because there is no better one."""
    return client.role == Role.PEER and candidate.identity == "client"


def _not_accepted(client: AcceptedClient, candidate: Candidate) -> Finding:
    bad = [attempt for attempt in candidate.attempts if attempt.ending in (Ending.REFUSED, Ending.CLOSED)]
    closed = all(attempt.ending is Ending.CLOSED for attempt in bad)
    outcome = "accepted by TLS and closed by etcd" if closed else "refused"
    why, remediation = _why_closed(client, candidate) if closed else _why_refused(candidate, bad)
    return Finding(
        message=f"the good client {candidate.identity} ({candidate.origin}) is {outcome}: {why}",
        remediation=remediation,
        expected="an answer to every request",
        observed="; ".join(
            f"{attempt.offered_version} {attempt.protocol}: {attempt.describe()}" for attempt in bad
        ),
        evidence={"identity": candidate.identity},
        reproduce=(
            curl(
                client.url,
                role=client.role,
                files=candidate.files,
                version=bad[0].offered_version,
                protocol=bad[0].protocol,
            ),
        ),
    )


def _why_closed(client: AcceptedClient, candidate: Candidate) -> tuple[str, str]:
    why = "its revocation list is unreadable, is PEM on 3.6 or newer, or contains this certificate"
    remedy = "give a --{side}-crl-file that exists, is DER encoded and does not contain this certificate"
    if client.san_rule and candidate.has_names:
        why += "; or the SANs of the certificate do not cover this client's address"
        remedy += "; or try a certificate without SANs, or connect from an address that they cover"
    return why, remedy


def _why_refused(candidate: Candidate, bad: Sequence[Attempt]) -> tuple[str, str]:
    """Return why a client is refused, judged by its certificate and the alert, and the remedy.

    The certificate's own faults come first, since an old Go sends alert 42 for everything.
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
            "use the certificate from then on, or correct the clock of the machine that issues or verifies it"
        )
    if _EXPIRED in alerts:
        return "it is valid by the local clock, but not by the member's, or its CA is not", (
            "synchronise the clocks of the member and of the CA's machine; renew the CA if that has expired"
        )
    issuer = candidate.chain[-1].issuer
    announced = {x509.Name.from_bytes(der) for attempt in bad for der in attempt.announced_ca}
    known = {found.subject for found in candidate.chain[1:]} | {issuer}
    if known & announced and signature_scheme(leaf) is None:
        return f"it is signed with {signature_hash(leaf)}, which etcd's Go refuses", (
            "issue a new client certificate, signed with SHA-256; nothing is wrong with etcd's flags"
        )
    if _UNKNOWN_CA in alerts or (announced and not known & announced):
        names = name_list(announced) or "none announced"
        return f"its CA, {name_text(issuer)}, is not trusted (trusted: {names})", (
            "put this CA into --{peer}trusted-ca-file and restart etcd, which reads it at start only; or use "
            "a certificate of a CA that is there"
        )
    if not is_for(leaf, "clientAuth"):
        return f"its extendedKeyUsage ({', '.join(purposes(leaf) or ()) or 'empty'}) has no clientAuth", (
            "issue this certificate with extendedKeyUsage clientAuth"
        )
    return (
        f"alert {alert}, which nothing in the certificate explains: an allowed name may, or another CA key",
        (
            "see etcd's log; use a certificate with names that --{side}-cert-allowed-hostname or "
            "--peer-cert-allowed-cn allows, from the CA in --{peer}trusted-ca-file"
        ),
    )
