"""Why etcd refuses a good client inside the handshake, and what cures it.

etcd leaves this to Go. processCertsFromClient in crypto/tls parses every certificate that the client sends,
verifies a path to a CA of --trusted-ca-file with the usage clientAuth, and then calls etcd's functions:
allowed names, and the revocation list on a port for gRPC alone (client/pkg/transport/listener.go). Here the
same rules are applied, in the same order, to the certificates that are known.

Up to Go 1.19 the alert is 42 for everything. Later it is 45 for the dates of the client's certificate or of
a CA on the path, 48 if no path leads to a trusted CA, and 42 for all others; from Go 1.25 on it is 50 for a
certificate that does not parse. A certificate signed with SHA-1 gets 48: Go finds no issuer for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import PublicKeyAlgorithmOID
from msgspec import Struct

from pytest_etcdtls.facts.access import Candidate
from pytest_etcdtls.facts.listener import BAD_CERTIFICATE
from pytest_etcdtls.facts.refusal_grounds import RefusalGrounds
from pytest_etcdtls.pki.certificate import (
    RSA_MOST_BITS,
    describe_key,
    is_too_long,
    name_list,
    name_text,
    public_key,
    purposes,
    serial_number,
    shown,
    span,
)
from pytest_etcdtls.pki.go_parser import parse_error, unjudged
from pytest_etcdtls.pki.go_verify import (
    CLIENT_AUTH,
    Flaw,
    Path,
    Rule,
    constraint_faults,
    faults,
    find_path,
    is_self_signed,
    issuers_among,
    verified_path,
)
from pytest_etcdtls.role import TLSVersion
from pytest_etcdtls.tls.attempt import Attempt, alert_text

EXPIRED, UNKNOWN_CA, DECODE_ERROR, _CERTIFICATE_REQUIRED = 45, 48, 50, 116
"""Further alerts (RFC 8446 section 6.2)."""

_CURVES_OF_TLS13 = ("secp256r1", "secp384r1", "secp521r1")
"""The curves of ECDSA keys for which TLS 1.3 has a signature scheme (RFC 8446 section 4.2.3)."""

_NEGATIVE_SERIAL_SINCE, _LONG_RSA_SINCE = (1, 23), (1, 20)
"""Go releases that began to refuse a negative serial number, and RSA keys above 8192 bits."""


class Reason(Struct, frozen=True):
    """Why a client is refused, and the remedy."""

    why: str
    remedy: str


def why_refused(candidate: Candidate, bad: Sequence[Attempt], grounds: RefusalGrounds) -> Reason:
    """Return why TLS refuses a client, and the remedy.

    Args:
        candidate: the client.
        bad: its refused attempts.
        grounds: what is known besides its certificate.
    """
    if (known := _explanation(candidate, bad, grounds)) is not None:
        return known
    alerts = {attempt.alert for attempt in bad}
    alert = " or ".join(sorted(alert_text(number) for number in alerts if number is not None))
    return Reason(
        f"alert {alert}, which nothing in the certificate explains: an allowed name may, a revocation list "
        "on a port for gRPC alone, or the CA in etcd's bundle: another key, expired, for other usages",
        "see etcd's log; use a certificate with names that --{side}-cert-allowed-hostname or "
        "--peer-cert-allowed-cn allows, from the CA in --{peer}trusted-ca-file",
    )


def is_unexplained(candidate: Candidate, bad: Sequence[Attempt], grounds: RefusalGrounds) -> bool:
    """Return whether etcd refuses a client by alert 42 although nothing known is wrong with its certificate.

    The arguments are those of :func:`why_refused`.
    """
    alerts = {attempt.alert for attempt in bad}
    return alerts == {BAD_CERTIFICATE} and _explanation(candidate, bad, grounds) is None


def _explanation(candidate: Candidate, bad: Sequence[Attempt], grounds: RefusalGrounds) -> Reason | None:
    if not candidate.chain:
        return None
    refusal = _Refusal(candidate, bad, grounds)
    for stage in (
        refusal.not_sent,
        refusal.malformed,
        refusal.dates,
        refusal.path,
        refusal.rules_of_etcd,
        refusal.unjudged,
        refusal.bundle_in_force,
    ):
        if reasons := list(stage()):
            remedies = dict.fromkeys(reason.remedy for reason in reasons)
            return Reason(" and ".join(reason.why for reason in reasons), "; ".join(remedies))
    return None


def is_unparsable(chain: Path, grounds: RefusalGrounds) -> bool:
    """Return whether etcd's Go does not parse a certificate of a client, which it answers with alert 50."""
    return any(_parse_problem(certificate, grounds) for certificate in chain)


def _parse_problem(certificate: x509.Certificate, grounds: RefusalGrounds) -> str:
    problem = parse_error(certificate.public_bytes(Encoding.DER))
    negative = serial_number(certificate) < 0
    return "" if negative and not _has(grounds, _NEGATIVE_SERIAL_SINCE) else problem


def _has(grounds: RefusalGrounds, since: tuple[int, int]) -> bool:
    """Return whether etcd's Go, if it is known, has a rule of that release."""
    return grounds.go is None or grounds.go.line >= since


class _Refusal:
    """The refusal of one client, and the stages at which Go and etcd refuse, each with its reasons."""

    def __init__(self, candidate: Candidate, bad: Sequence[Attempt], grounds: RefusalGrounds) -> None:
        self._candidate, self._grounds = candidate, grounds
        self._leaf, *self._sent = candidate.chain
        self._bad = bad
        self._alerts = {attempt.alert for attempt in bad}
        self._now = bad[0].started_at
        # Go compares names as they are encoded.
        self._announced = {der for attempt in bad for der in attempt.announced_ca}
        if grounds.bundle:
            self._anchors = [one for one in grounds.bundle if not self._announced or self._announces(one)]
        else:
            self._anchors = [authority for authority in grounds.authorities if self._announces(authority)]

    def _announces(self, authority: x509.Certificate) -> bool:
        return authority.subject.public_bytes() in self._announced

    def not_sent(self) -> Iterator[Reason]:
        """Yield the reason if the client sends no certificate, since its key fits no signature scheme.

        Go answers that with certificate_required, an old one and in TLS 1.2 with other alerts. Go offers no
        scheme for RSASSA-PSS keys, and TLS 1.3 has none for curves such as P-224.
        """
        key = public_key(self._leaf)
        is_pss = self._leaf.public_key_algorithm_oid == PublicKeyAlgorithmOID.RSASSA_PSS
        no_scheme = isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name not in _CURVES_OF_TLS13
        in_tls13 = {attempt.offered_version for attempt in self._bad} == {TLSVersion.TLS1_3}
        if is_pss or (no_scheme and in_tls13) or _CERTIFICATE_REQUIRED in self._alerts:
            called = "RSASSA-PSS" if is_pss else describe_key(key)
            yield Reason(
                f"its key ({called}) fits no signature scheme that etcd's Go offers, so its certificate is "
                "not sent",
                self._again(self._leaf, "with an RSA key (rsaEncryption) of 2048 bits or ECDSA P-256"),
            )

    def malformed(self) -> Iterator[Reason]:
        """Yield the reason if Go does not parse a certificate, or refuses the length of its key."""
        for certificate in self._candidate.chain:
            if problem := _parse_problem(certificate, self._grounds):
                why = f"Go does not parse {self._called(certificate)}: {problem}"
                yield Reason(why, self._again(certificate, "with a maintained tool"))
                return
        for certificate in self._candidate.chain if _has(self._grounds, _LONG_RSA_SINCE) else ():
            if is_too_long(key := public_key(certificate)):
                why = f"{self._called(certificate)} has {describe_key(key)}, and Go takes {RSA_MOST_BITS}"
                yield Reason(why, self._again(certificate, "with an RSA key of 2048 bits or ECDSA P-256"))
                return

    def dates(self) -> Iterator[Reason]:
        """Yield the reason if the client's certificate is not valid now."""
        leaf, now = self._leaf, self._now
        if now > leaf.not_valid_after_utc:
            yield Reason(
                f"its certificate expired {span(now - leaf.not_valid_after_utc)} ago",
                "renew this certificate and give the new pair to the client; nothing is wrong with etcd's "
                "flags",
            )
        elif now < leaf.not_valid_before_utc:
            yield Reason(
                f"its certificate is not valid before {leaf.not_valid_before_utc:%Y-%m-%d %H:%M:%S} UTC",
                "use the certificate from then on, or correct the clock of the machine that issues or "
                "verifies it",
            )

    def path(self) -> Iterator[Reason]:
        """Yield why Go's Verify finds no path, or refuses the one that there is."""
        verified = self._leaf, self._sent, self._anchors, self._now, CLIENT_AUTH
        path = find_path(*verified)
        if path is None:
            yield from self._no_path()
            return
        known = list(faults(path, self._now, CLIENT_AUTH))
        judged = [flaw for flaw in known if flaw.rule is not Rule.UNJUDGED]
        flaws = [flaw for flaw in judged if _has(self._grounds, flaw.since)]
        if not known and verified_path(*verified) is None:
            yield Reason(
                "Go stops: too many candidate certificates are sent, or trusted under one name",
                "send the client's certificate and its intermediate CAs alone, and remove CAs that are not "
                "in use from --{peer}trusted-ca-file",
            )
        elif not flaws and EXPIRED in self._alerts:
            yield self._other_clock()
        elif not flaws and UNKNOWN_CA in self._alerts:
            yield self._older_bundle(shown(path[-1]))
        else:
            yield from {flaw.text: self._of(flaw) for flaw in flaws}.values()

    def unjudged(self) -> Iterator[Reason]:
        """Yield what is not judged here, and may be the reason."""
        path = find_path(self._leaf, self._sent, self._anchors, self._now, CLIENT_AUTH) or ()
        flaws = constraint_faults(path)
        found = [(flaw.certificate, flaw.text) for flaw in flaws if flaw.rule is Rule.UNJUDGED]
        found += [
            (certificate, f"has {what}")
            for certificate in self._candidate.chain
            if (what := unjudged(certificate.public_bytes(Encoding.DER)))
        ]
        for certificate, text in dict.fromkeys(found):
            why = f"{self._called(certificate)} {text}, which is not judged here, and may be why"
            yield Reason(why, self._again(certificate, "without it"))

    def bundle_in_force(self) -> Iterator[Reason]:
        """Yield that etcd has read another bundle, if nothing else explains alert 42 of an old Go."""
        path = find_path(self._leaf, self._sent, self._anchors, self._now, CLIENT_AUTH)
        if path is not None and not self._grounds.alerts_differ and self._grounds.is_file:
            yield self._older_bundle(shown(path[-1]))

    def _of(self, flaw: Flaw) -> Reason:
        certificate, called = flaw.certificate, self._called(flaw.certificate)
        is_leaf = certificate == self._leaf
        match flaw.rule:
            case Rule.PURPOSE if is_leaf:
                named = ", ".join(purposes(certificate) or ()) or "empty"
                return Reason(
                    f"its extendedKeyUsage ({named}) has no clientAuth",
                    "issue this certificate with extendedKeyUsage clientAuth",
                )
            case Rule.PURPOSE:
                return Reason(
                    f"{called} {flaw.text} without clientAuth, which Go requires of every CA on the path",
                    self._again(certificate, "without extendedKeyUsage"),
                )
            case Rule.EXTENSION:
                return Reason(
                    f"{called} {flaw.text}, which Go does not handle",
                    self._again(certificate, "without that extension, or with it not critical"),
                )
            case Rule.VALIDITY:
                ended = self._now - certificate.not_valid_after_utc
                state = f"expired {span(ended)} ago" if ended.total_seconds() > 0 else "is not valid yet"
                return Reason(f"{called} {state}", self._again(certificate, "with the same key"))
            case Rule.ISSUER:
                return Reason(
                    f"{called} {flaw.text}, so it may not issue this certificate",
                    self._again(
                        certificate,
                        "with basicConstraints CA:TRUE, keyUsage keyCertSign and a path length that suffices",
                    ),
                )
            case Rule.SIGNATURE if "key" in flaw.text:
                return Reason(
                    f"{called} {flaw.text}, with which Go verifies no signature",
                    "replace that CA by one with an RSA key of 2048 bits or ECDSA P-256, in "
                    "--{peer}trusted-ca-file and in the certificates that it issued, and restart etcd",
                )
            case Rule.SIGNATURE if is_leaf:
                return Reason(
                    f"it {flaw.text}, which etcd's Go refuses",
                    "issue a new client certificate, signed with SHA-256; nothing is wrong with etcd's flags",
                )
            case Rule.SIGNATURE:
                return Reason(
                    f"{called} {flaw.text}, which etcd's Go refuses",
                    self._again(certificate, "signed with SHA-256"),
                )
        return Reason(
            f"the constraints of its CA exclude it: {flaw.text}",
            "issue this certificate without that name (a client needs no subjectAltName), or from a CA "
            "without these constraints",
        )

    def _called(self, certificate: x509.Certificate) -> str:
        if certificate == self._leaf:
            return "its certificate"
        if certificate in self._sent:
            return f"the CA {shown(certificate)} that it sends"
        return f"its CA {shown(certificate)}"

    def _again(self, certificate: x509.Certificate, how: str) -> str:
        """Return the remedy: to issue a certificate again, and where to put it."""
        if certificate == self._leaf:
            return f"issue this certificate again {how}; nothing is wrong with etcd's flags"
        if certificate in self._sent:
            return (
                f"issue the certificate of the CA {shown(certificate)} again {how}, and replace it in the "
                "client's certificate file; nothing is wrong with etcd's flags"
            )
        return (
            f"issue the certificate of the CA {shown(certificate)} again {how}, replace it in "
            "--{peer}trusted-ca-file and restart etcd, which reads it at start only"
        )

    def _other_clock(self) -> Reason:
        return Reason(
            "it is valid by the local clock, but not by the member's, or its CA is not",
            "synchronise the clocks of the member and of the CA's machine; renew the CA if that has expired",
        )

    def _older_bundle(self, called: str) -> Reason:
        """Return the reason where the known bundle accepts the client, and etcd knows no such CA."""
        if self._grounds.is_file:
            return Reason(
                f"etcd was started with another CA named {called} than the one that signed it, which is in "
                f"{self._grounds.source}",
                "restart etcd, which reads --{peer}trusted-ca-file at start only",
            )
        return Reason(
            f"etcd trusts another certificate with the name of its CA, {called}",
            "put the CA that issued this certificate into --{peer}trusted-ca-file and restart etcd, which "
            "reads it at start only",
        )

    def _no_path(self) -> Iterator[Reason]:
        top = (self._leaf, *issuers_among(self._leaf, self._sent, self._now))[-1]
        issuer, name = top.issuer.public_bytes(), name_text(top.issuer)
        known = [one for one in self._grounds.bundle if not self._announces(one)] if self._announced else []
        if find_path(self._leaf, self._sent, known, self._now, CLIENT_AUTH) is not None:
            yield self._not_read(name)
        elif missing := self._not_sent():
            names = ", ".join(map(shown, missing))
            yield Reason(
                f"it does not send the intermediate CA {names}, and etcd has only the CA above",
                "append the certificate of the intermediate CA to the client's certificate file, behind the "
                "client's own; nothing is wrong with etcd's flags",
            )
        elif EXPIRED in self._alerts:
            yield self._other_clock()
        elif any(anchor.subject.public_bytes() == issuer for anchor in self._anchors):
            yield Reason(
                f"its CA has the name of a trusted one, {name}, and another key: the CA was created again "
                "under its old name",
                "put the CA that issued this certificate into --{peer}trusted-ca-file, beside the other one "
                "as long as that is in use, and restart etcd, which reads it at start only; or issue this "
                "certificate again from the CA that is there",
            )
        elif issuer in self._announced and UNKNOWN_CA in self._alerts:
            yield self._unknown_namesake(name)
        elif issuer not in self._announced and (self._announced or UNKNOWN_CA in self._alerts):
            yield self._not_trusted(top, name)
        else:
            yield from self._own_flaws()

    def _own_flaws(self) -> Iterator[Reason]:
        """Yield the flaws of what the client sends, for which Go refuses it whatever CA is above."""
        path = (self._leaf, *issuers_among(self._leaf, self._sent, self._now))
        flaws = faults(path, self._now, CLIENT_AUTH)
        yield from (self._of(flaw) for flaw in flaws if _has(self._grounds, flaw.since))

    def _not_read(self, name: str) -> Reason:
        """Return the reason where the known bundle has a CA whose name etcd does not announce."""
        if self._grounds.is_file:
            return Reason(
                f"etcd was started before its CA, {name}, was in {self._grounds.source} (trusted: "
                f"{self._trusted()})",
                "restart etcd, which reads --{peer}trusted-ca-file at start only",
            )
        return self._not_trusted(self._leaf, name)

    def _not_sent(self) -> Path:
        """Return the intermediate CAs with which there is a path, and which the client does not send."""
        pool = (*self._sent, *self._grounds.authorities)
        path = find_path(self._leaf, pool, self._anchors, self._now, CLIENT_AUTH) or ()
        return tuple(certificate for certificate in path[1:-1] if certificate not in self._sent)

    def _unknown_namesake(self, name: str) -> Reason:
        return Reason(
            f"etcd trusts a CA with the name of its CA, {name}, and finds no valid path: that CA has "
            "another key, has expired, or has a fault of its own",
            "compare the CA that issued this certificate with the one in --{peer}trusted-ca-file, and "
            "restart etcd once the right one is there; --etcd-{peer}trusted-ca with that file tells more",
        )

    def _not_trusted(self, top: x509.Certificate, name: str) -> Reason:
        remedy = (
            "put this CA into --{peer}trusted-ca-file and restart etcd, which reads it at start only; or use "
            "a certificate of a CA that is there"
        )
        if not is_self_signed(top):
            remedy += "; if it is an intermediate CA, append its certificate to the client's certificate file"
        alike = next(
            (found for found in self._names() if found == top.issuer and name_text(found) == name), None
        )
        if alike is not None:
            return Reason(
                f"its issuer is {name} as is a trusted CA, but encoded with other types of strings, which Go "
                "takes for another name",
                "issue this certificate again with the issuer's name exactly as in the CA's certificate",
            )
        return Reason(f"its CA, {name}, is not trusted (trusted: {self._trusted()})", remedy)

    def _names(self) -> list[x509.Name]:
        return [x509.Name.from_bytes(der) for der in self._announced]

    def _trusted(self) -> str:
        return name_list(self._names()) or "none announced, so the CAs in the system's root store"

    def rules_of_etcd(self) -> Iterator[Reason]:
        """Yield the rules of etcd itself that exclude a certificate with a valid path."""
        grounds, revocation = self._grounds, self._grounds.revocation
        if BAD_CERTIFICATE not in self._alerts:
            return
        if self._candidate.excluded:
            yield Reason(
                f"its certificate does not have the {grounds.allowed}, which the declaration requires",
                "use a certificate with that name, or add its name to --{side}-cert-allowed-hostname or "
                "--peer-cert-allowed-cn",
            )
            return
        if revocation is None or not revocation.in_handshake:
            return
        if revocation.problem is not None:
            why, remedy = revocation.problem
            yield Reason(f"a port for gRPC alone reads the revocation list in the handshake: {why}", remedy)
        elif (reason := revoked(self._candidate, grounds)) is not None:
            yield reason


def revoked(candidate: Candidate, grounds: RefusalGrounds) -> Reason | None:
    """Return the reason if the declared revocation list names a certificate that the client sends."""
    listed = grounds.revocation.revoked(candidate.chain) if grounds.revocation else ()
    if not listed or grounds.revocation is None:
        return None
    if candidate.chain[0] in listed:
        return Reason(
            f"{grounds.revocation.source} revokes its certificate",
            "give this client a new certificate, or correct the list of --{side}-crl-file, which etcd reads "
            "at each connection",
        )
    return Reason(
        f"{grounds.revocation.source} revokes the CA {shown(listed[0])}, which it sends, and with it all "
        "clients that send that CA",
        "give this client a certificate of a CA that is not revoked, or correct the list of "
        "--{side}-crl-file, which etcd reads at each connection",
    )
