"""What the listener says of whom it trusts, and that it does not talk without TLS."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from cryptography import x509

from pytest_etcdtls.observations.attempt import Attempt, Response, Way
from pytest_etcdtls.observations.chain import AnnouncedCAs, ClientTrust
from pytest_etcdtls.observations.listener import Plaintext
from pytest_etcdtls.registry import EVERY_LISTENER, check
from pytest_etcdtls.reproduce import ANNOUNCED, IN_PLAINTEXT, curl, s_client
from pytest_etcdtls.results import Finding, Outcome, Statement, Verdict
from pytest_etcdtls.target import Role

_TLS_ALERT = b"\x15\x03"


def _empty(announced: AnnouncedCAs) -> Mapping[str, Any]:
    names = tuple((version, ()) for version, _ in announced.names)
    return {"announced": replace(announced, names=names)}


@check("mtls.announced-ca-present", on=EVERY_LISTENER, counterexample=_empty)
def the_listener_announces_whom_it_trusts(announced: AnnouncedCAs) -> Iterator[Statement]:
    """The listener asks for a certificate and announces at least one CA.

    An etcd with client-cert-auth and no trusted CA file announces none: it trusts every CA in the system's
    root store and refuses the cluster's own clients.

    Spec: RFC 8446 section 4.2.4
    Spec: RFC 5246 section 7.4.4
    Spec: etcd --{peer}trusted-ca-file
    Severity: critical
    Level: MUST
    Remediation: set --{peer}trusted-ca-file; --{peer}client-cert-auth alone trusts the system's roots.
    """
    names = dict(announced.names)
    silent = [version for version, asked in announced.requested if not asked]
    empty = [version for version, asked in announced.requested if asked and not names[version]]
    if silent:
        yield Finding(
            message="no client certificate is asked for",
            expected="a CertificateRequest with the names of the trusted CAs",
            observed=f"no CertificateRequest in {', '.join(silent)}",
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
    foreign = trust.certificates[0].subject.__class__(list(trust.certificates[0].subject.rdns) * 2)
    names = tuple((version, (*found, foreign)) for version, found in announced.names)
    return {"announced": replace(announced, names=names)}


@check("mtls.announced-ca-expected", on=EVERY_LISTENER, counterexample=_one_more)
def the_listener_trusts_whom_it_should(announced: AnnouncedCAs, trust: ClientTrust) -> Iterator[Statement]:
    """The announced CAs are exactly those that etcd was told to trust.

    One more CA in the bundle lets in everybody whom that CA ever signed.

    Spec: RFC 8446 section 4.2.4
    Spec: etcd THREAT_MODEL.md, Client-to-Server Boundary
    Spec: CIS Kubernetes 2.7
    Severity: high
    Level: MUST
    Remediation: put the CAs of this port's clients, and no other, into the file of
        --{peer}trusted-ca-file and restart etcd: the bundle is read at start only.
    """
    if trust.declared:
        reason = "the bundle is known from the declaration alone: see config.trusted-ca-in-force"
        yield Verdict(Outcome.NOT_APPLICABLE, reason)
        return
    wanted = {certificate.subject.public_bytes() for certificate in trust.certificates}
    expected = ", ".join(sorted(certificate.subject.rfc4514_string() for certificate in trust.certificates))
    asked = [version for version, requested in announced.requested if requested]
    given = {version: {name.public_bytes(): name for name in names} for version, names in announced.names}
    if not asked:
        reason = "no client certificate is asked for, see mtls.announced-ca-present"
        yield Verdict(Outcome.NOT_APPLICABLE, reason)
        return
    for version in asked:
        if set(given[version]) != wanted:
            observed = ", ".join(sorted(name.rfc4514_string() for name in given[version].values()))
            observed = observed or "an empty list, so that every CA in the system's root store is trusted"
            yield Finding(
                message="other CAs are announced than those that etcd was told to trust",
                expected=f"{expected} ({trust.source})",
                observed=f"{version}: {observed}",
                reproduce=(s_client(announced.url, look=ANNOUNCED),),
            )
            return


def _two(announced: AnnouncedCAs) -> Mapping[str, Any]:
    def with_another(found: tuple[x509.Name, ...]) -> tuple[x509.Name, ...]:
        return (*found, x509.Name(list(found[0].rdns) * 2))

    names = tuple((version, with_another(found)) for version, found in announced.names)
    return {"announced": replace(announced, names=names)}


@check("mtls.announced-ca-single", on=EVERY_LISTENER, counterexample=_two)
def the_listener_trusts_one_ca(announced: AnnouncedCAs) -> Iterator[Statement]:
    """The listener announces one CA and no more.

    A bundle of several is right while a CA is being replaced; one that stays trusts the old CA for ever.

    Spec: RFC 8446 section 4.2.4
    Spec: etcd THREAT_MODEL.md, Client-to-Server Boundary
    Severity: low
    Level: SHOULD
    Remediation: once every client has a certificate of the new CA, take the old one out of
        --{peer}trusted-ca-file and restart etcd.
    """
    names = {name.public_bytes(): name for _, found in announced.names for name in found}
    if len(names) > 1:
        yield Finding(
            message=f"{len(names)} CAs are announced",
            expected="one CA",
            observed=", ".join(sorted(name.rfc4514_string() for name in names.values())),
            reproduce=(s_client(announced.url, look=ANNOUNCED),),
        )


def _answered(plaintext: Plaintext) -> Mapping[str, Any]:
    def served(attempt: Attempt) -> Attempt:
        return replace(attempt, way=Way.SERVED, first_bytes=b"HTTP/1.1 200 OK", response=Response(status=200))

    return {"plaintext": replace(plaintext, tries=tuple(served(attempt) for attempt in plaintext.tries))}


@check("mtls.plaintext-refused", on=EVERY_LISTENER, counterexample=_answered)
def plain_http_is_refused(plaintext: Plaintext) -> Iterator[Statement]:
    """Plain HTTP gets no answer.

    etcd applies none of its TLS flags to an http listener; beside an https one, even on the same port, it
    serves everybody.

    Spec: etcd THREAT_MODEL.md, Client-to-Server Boundary
    Spec: CIS Kubernetes 2.1, 2.4
    Spec: etcd --listen-{side}-urls
    Severity: critical
    Level: MUST
    Remediation: name https URLs only in --listen-{side}-urls.
    """
    if plaintext.role == Role.METRICS and plaintext.scheme == "http":
        yield Verdict(Outcome.NOT_APPLICABLE, "a metrics listener may speak plain HTTP")
        return
    attempt = plaintext.tries[-1]
    if attempt.first_bytes and not attempt.first_bytes.startswith(_TLS_ALERT):
        yield Finding(
            message="plain HTTP is answered",
            expected="the connection is closed without a byte of an answer",
            observed=attempt.describe(),
            evidence={"first bytes": attempt.first_bytes.decode("latin-1")},
            reproduce=(
                curl(plaintext.url.replace("https://", "http://"), role=plaintext.role, look=IN_PLAINTEXT),
            ),
        )
    elif not plaintext.tls_works or not (attempt.first_bytes or attempt.ending in ("end of stream", "reset")):
        yield Verdict(Outcome.INCONCLUSIVE, f"plain HTTP: {attempt.describe()}")
