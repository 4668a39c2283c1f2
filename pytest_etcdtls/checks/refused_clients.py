"""Why etcd refuses a client, and what cures it: the user's, or etcd's own gateway.

etcd leaves this to Go. processCertsFromClient in crypto/tls parses every certificate that the client sends,
verifies a path to a CA of --trusted-ca-file with the usage clientAuth, and then calls etcd's functions:
allowed names, and the revocation list on a port for gRPC alone (client/pkg/transport/listener.go). Here the
same rules are applied, in the same order, to the certificates that are known (:func:`explain`).

Up to Go 1.19 the alert is 42 for everything. Later it is 45 for the dates of the client's certificate or of
a CA on the path, 48 if no path leads to a trusted CA, and 42 for all others; from Go 1.25 on it is 50 for a
certificate that does not parse. A certificate signed with SHA-1 gets 48: Go finds no issuer for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import PublicKeyAlgorithmOID
from msgspec import Struct

from pytest_etcdtls.etcd_log.parse import Cause
from pytest_etcdtls.facts.access import Candidate
from pytest_etcdtls.facts.good_identities import listed
from pytest_etcdtls.facts.listener import BAD_CERTIFICATE
from pytest_etcdtls.facts.refusal_grounds import DeclaredRevocation, RefusalGrounds
from pytest_etcdtls.pki.certificate import (
    RSA_MOST_BITS,
    describe_key,
    is_too_long,
    name_list,
    name_text,
    public_key,
    purposes,
    read_name,
    shown,
    span,
)
from pytest_etcdtls.pki.go_parser import details, parse_error, unjudged
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


class Refused(Struct, frozen=True):
    """Why a client is refused, and the remedy.

    Attributes:
        cause: as etcd's log has it; by default Go finds no path to a trusted CA.
    """

    why: str
    remedy: str
    cause: Cause = Cause.UNKNOWN_CA


def explain(refusal: Refusal) -> Refused | None:
    """Return why etcd refuses a client, and the remedy; ``None`` if nothing that is known explains it."""
    for stage in (
        refusal.not_sent,
        refusal.malformed,
        refusal.dates,
        refusal.path,
        refusal.rules_of_etcd,
        refusal.unjudged,
        refusal.bundle_in_force,
    ):
        if refusal.chain and (reasons := list(stage())):
            remedies = dict.fromkeys(reason.remedy for reason in reasons)
            why = " and ".join(reason.why for reason in reasons)
            return Refused(why, "; ".join(remedies), reasons[0].cause)
    return None


def why_refused(candidate: Candidate, bad: Sequence[Attempt], grounds: RefusalGrounds) -> Refused:
    """Return why TLS refuses a client, and the remedy.

    Args:
        candidate: the client.
        bad: its refused attempts.
        grounds: what is known besides its certificate.
    """
    refusal = _refusal(candidate, bad, grounds)
    if (known := explain(refusal)) is not None:
        return known
    alert = " or ".join(sorted(alert_text(number) for number in refusal.alerts if number is not None))
    return Refused(
        f"alert {alert}, which nothing in the certificate explains: an allowed name may, a revocation list "
        "on a port for gRPC alone, or the CA in etcd's bundle: another key, expired, for other usages",
        "see etcd's log; use a certificate with names that --{side}-cert-allowed-hostname or "
        "--peer-cert-allowed-cn allows, from the CA in --{peer}trusted-ca-file",
        Cause.OTHER,
    )


def is_unexplained(candidate: Candidate, bad: Sequence[Attempt], grounds: RefusalGrounds) -> bool:
    """Return whether etcd refuses a client by alert 42 although nothing known is wrong with its certificate.

    The arguments are those of :func:`why_refused`.
    """
    refusal = _refusal(candidate, bad, grounds)
    return refusal.alerts == {BAD_CERTIFICATE} and explain(refusal) is None


def _refusal(candidate: Candidate, bad: Sequence[Attempt], grounds: RefusalGrounds) -> Refusal:
    return Refusal(
        chain=candidate.chain,
        grounds=grounds,
        when=bad[0].started_at,
        alerts=frozenset(attempt.alert for attempt in bad),
        announced=frozenset(der for attempt in bad for der in attempt.announced_ca),
        in_tls13={attempt.offered_version for attempt in bad} == {TLSVersion.TLS1_3},
        excluded=candidate.excluded,
    )


def is_unparsable(chain: Path, grounds: RefusalGrounds) -> bool:
    """Return whether etcd's Go does not parse a certificate of a client, which it answers with alert 50."""
    return any(_parse_problem(certificate, grounds) for certificate in chain)


def _parse_problem(certificate: x509.Certificate, grounds: RefusalGrounds) -> str:
    problem = parse_error(certificate.public_bytes(Encoding.DER))
    negative = details(certificate).serial_number < 0
    return "" if negative and not _has(grounds, _NEGATIVE_SERIAL_SINCE) else problem


def _has(grounds: RefusalGrounds, since: tuple[int, int]) -> bool:
    """Return whether etcd's Go, if it is known, has a rule of that release."""
    return grounds.go is None or grounds.go.line >= since


class Refusal(Struct, frozen=True, kw_only=True):
    """The refusal of one client, and the stages at which Go and etcd refuse, each with its reasons.

    Attributes:
        chain: the certificates that it sends, leaf first; empty if they are not known.
        grounds: what is known besides them.
        when: the time of the refusal.
        alerts: that etcd sent; empty if they are not known.
        announced: the names of the CAs that etcd announces, in DER. Go compares names as they are encoded.
        in_tls13: it was refused in TLS 1.3 alone.
        excluded: a declared rule about names excludes its certificate.
    """

    chain: Path
    grounds: RefusalGrounds
    when: datetime
    alerts: frozenset[int | None] = frozenset()
    announced: frozenset[bytes] = frozenset()
    in_tls13: bool = False
    excluded: bool = False

    @property
    def _sent(self) -> Path:
        return self.chain[1:]

    @property
    def _anchors(self) -> Path:
        known = self.grounds.bundle or self.grounds.authorities
        everyone = self.grounds.bundle and not self.announced
        return tuple(authority for authority in known if everyone or self._announces(authority))

    def _path(self, also_known: Path = ()) -> Path | None:
        pool = (*self._sent, *also_known)
        return find_path(self.chain[0], pool, self._anchors, self.when, CLIENT_AUTH)

    def _announces(self, authority: x509.Certificate) -> bool:
        return authority.subject.public_bytes() in self.announced

    def not_sent(self) -> Iterator[Refused]:
        """Yield the reason if the client sends no certificate, since its key fits no signature scheme.

        Go answers that with certificate_required, an old one and in TLS 1.2 with other alerts. Go offers no
        scheme for RSASSA-PSS keys, and TLS 1.3 has none for curves such as P-224.
        """
        key = public_key(self.chain[0])
        is_pss = self.chain[0].public_key_algorithm_oid == PublicKeyAlgorithmOID.RSASSA_PSS
        no_scheme = isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name not in _CURVES_OF_TLS13
        if is_pss or (no_scheme and self.in_tls13) or _CERTIFICATE_REQUIRED in self.alerts:
            called = "RSASSA-PSS" if is_pss else describe_key(key)
            yield Refused(
                f"its key ({called}) fits no signature scheme that etcd's Go offers, so its certificate is "
                "not sent",
                self._again(self.chain[0], "with an RSA key (rsaEncryption) of 2048 bits or ECDSA P-256"),
                Cause.NO_CERTIFICATE,
            )

    def malformed(self) -> Iterator[Refused]:
        """Yield the reason if Go does not parse a certificate, or refuses the length of its key."""
        for certificate in self.chain:
            if problem := _parse_problem(certificate, self.grounds):
                why = f"Go does not parse {self._called(certificate)}: {problem}"
                yield Refused(why, self._again(certificate, "with a maintained tool"), Cause.OTHER)
                return
        for certificate in self.chain if _has(self.grounds, _LONG_RSA_SINCE) else ():
            if is_too_long(key := public_key(certificate)):
                why = f"{self._called(certificate)} has {describe_key(key)}, and Go takes {RSA_MOST_BITS}"
                again = self._again(certificate, "with an RSA key of 2048 bits or ECDSA P-256")
                yield Refused(why, again, Cause.OTHER)
                return

    def dates(self) -> Iterator[Refused]:
        """Yield the reason if the client's certificate is not valid now."""
        leaf, now = self.chain[0], self.when
        if now > leaf.not_valid_after_utc:
            yield Refused(
                f"its certificate expired {span(now - leaf.not_valid_after_utc)} ago",
                "renew this certificate and give the new pair to the client; nothing is wrong with etcd's "
                "flags",
                Cause.EXPIRED,
            )
        elif now < leaf.not_valid_before_utc:
            yield Refused(
                f"its certificate is not valid before {leaf.not_valid_before_utc:%Y-%m-%d %H:%M:%S} UTC",
                "use the certificate from then on, or correct the clock of the machine that issues or "
                "verifies it",
                Cause.NOT_YET_VALID,
            )

    def path(self) -> Iterator[Refused]:
        """Yield why Go's Verify finds no path, or refuses the one that there is."""
        path = self._path()
        if path is None:
            yield from self._no_path()
            return
        known = list(faults(path, self.when, CLIENT_AUTH))
        judged = [flaw for flaw in known if flaw.rule is not Rule.UNJUDGED]
        flaws = [flaw for flaw in judged if _has(self.grounds, flaw.since)]
        verified = self.chain[0], self._sent, self._anchors, self.when, CLIENT_AUTH
        if not known and verified_path(*verified) is None:
            yield Refused(
                "Go stops: too many candidate certificates are sent, or trusted under one name",
                "send the client's certificate and its intermediate CAs alone, and remove CAs that are not "
                "in use from --{peer}trusted-ca-file",
            )
        elif not flaws and EXPIRED in self.alerts:
            yield self._other_clock()
        elif not flaws and UNKNOWN_CA in self.alerts:
            yield self._older_bundle(path[-1])
        else:
            yield from {flaw.text: self._of(flaw) for flaw in flaws}.values()

    def unjudged(self) -> Iterator[Refused]:
        """Yield what is not judged here, and may be the reason."""
        flaws = constraint_faults(self._path() or ())
        unclear = [(flaw.certificate, flaw.text) for flaw in flaws if flaw.rule is Rule.UNJUDGED]
        unclear += [
            (certificate, f"has {part}")
            for certificate in self.chain
            if (part := unjudged(certificate.public_bytes(Encoding.DER)))
        ]
        for certificate, text in dict.fromkeys(unclear):
            why = f"{self._called(certificate)} {text}, which is not judged here, and may be why"
            yield Refused(why, self._again(certificate, "without it"), Cause.OTHER)

    def bundle_in_force(self) -> Iterator[Refused]:
        """Yield that etcd has read another bundle, if nothing else explains alert 42 of an old Go."""
        path = self._path()
        if path is not None and not self.grounds.alerts_differ and self.grounds.is_file:
            yield self._older_bundle(path[-1])

    def _of(self, flaw: Flaw) -> Refused:
        certificate, text = flaw.certificate, flaw.text
        is_leaf, cause = certificate == self.chain[0], Cause.UNKNOWN_CA
        match flaw.rule:
            case Rule.PURPOSE if is_leaf:
                named = ", ".join(purposes(certificate) or ()) or "empty"
                return Refused(
                    f"its extendedKeyUsage ({named}) has no clientAuth",
                    "issue this certificate with extendedKeyUsage clientAuth",
                    Cause.USAGE,
                )
            case Rule.PURPOSE:
                text += " without clientAuth, which Go requires of every CA on the path"
                how, cause = "without extendedKeyUsage", Cause.USAGE
            case Rule.EXTENSION:
                text += ", which Go does not handle"
                how, cause = "without that extension, or with it not critical", Cause.EXTENSION
            case Rule.VALIDITY:
                ended = self.when - certificate.not_valid_after_utc
                text = f"expired {span(ended)} ago" if ended.total_seconds() > 0 else "is not valid yet"
                how, cause = "with the same key", Cause.EXPIRED
            case Rule.ISSUER | Rule.LENGTH:
                cause = Cause.OTHER if flaw.rule is Rule.LENGTH else cause
                text += ", so it may not issue this certificate"
                how = "with basicConstraints CA:TRUE, keyUsage keyCertSign and a path length that suffices"
            case Rule.SIGNATURE if is_leaf:
                return Refused(
                    f"it {text}, which etcd's Go refuses",
                    "issue a new client certificate, signed with SHA-256; nothing is wrong with etcd's flags",
                )
            case Rule.SIGNATURE:
                text += ", which etcd's Go refuses"
                how = "with an RSA key of 2048 bits or ECDSA P-256, signed with SHA-256"
            case _:
                return Refused(
                    f"the constraints of its CA exclude it: {text}",
                    "issue this certificate without that name (a client needs no subjectAltName), or from a "
                    "CA without these constraints",
                    Cause.OTHER,
                )
        return Refused(f"{self._called(certificate)} {text}", self._again(certificate, how), cause)

    def _called(self, certificate: x509.Certificate) -> str:
        if certificate == self.chain[0]:
            return "its certificate"
        if certificate in self._sent:
            return f"the CA {shown(certificate)} that it sends"
        return f"its CA {shown(certificate)}"

    def _again(self, certificate: x509.Certificate, how: str) -> str:
        """Return the remedy: to issue a certificate again, and where to put it."""
        if certificate == self.chain[0]:
            return f"issue this certificate again {how}; nothing is wrong with etcd's flags"
        again = f"issue the certificate of the CA {shown(certificate)} again {how}, "
        if certificate in self._sent:
            where = "and replace it in the client's certificate file; nothing is wrong with etcd's flags"
        else:
            where = "replace it in --{peer}trusted-ca-file and restart etcd, which reads it at start only"
        return again + where

    def _other_clock(self) -> Refused:
        return Refused(
            "it is valid by the local clock, but not by the member's, or its CA is not",
            "synchronise the clocks of the member and of the CA's machine; renew the CA if that has expired",
            Cause.EXPIRED,
        )

    def _older_bundle(self, anchor: x509.Certificate) -> Refused:
        """Return the reason where the known bundle accepts the client, and etcd knows no such CA."""
        called = shown(anchor)
        if not self.announced:
            return self._not_trusted(anchor, called)
        if self.grounds.is_file:
            return Refused(
                f"etcd was started with another CA named {called} than the one that signed it, which is in "
                f"{self.grounds.source}",
                "restart etcd, which reads --{peer}trusted-ca-file at start only",
            )
        return Refused(
            f"etcd trusts another certificate with the name of its CA, {called}",
            "put the CA that issued this certificate into --{peer}trusted-ca-file and restart etcd, which "
            "reads it at start only",
        )

    def _no_path(self) -> Iterator[Refused]:
        top = (self.chain[0], *issuers_among(self.chain[0], self._sent, self.when))[-1]
        issuer, name = top.issuer.public_bytes(), name_text(top.issuer)
        known = [one for one in self.grounds.bundle if not self._announces(one)] if self.announced else []
        if find_path(self.chain[0], self._sent, known, self.when, CLIENT_AUTH) is not None:
            yield self._not_read(name)
        elif missing := self._not_sent():
            names = ", ".join(map(shown, missing))
            yield Refused(
                f"it does not send the intermediate CA {names}, and etcd has only the CA above",
                "append the certificate of the intermediate CA to the client's certificate file, behind the "
                "client's own; nothing is wrong with etcd's flags",
            )
        elif EXPIRED in self.alerts:
            yield self._other_clock()
        elif any(anchor.subject.public_bytes() == issuer for anchor in self._anchors):
            yield Refused(
                f"its CA has the name of a trusted one, {name}, and another key: the CA was created again "
                "under its old name",
                "put the CA that issued this certificate into --{peer}trusted-ca-file, beside the other one "
                "as long as that is in use, and restart etcd, which reads it at start only; or issue this "
                "certificate again from the CA that is there",
            )
        elif issuer in self.announced and UNKNOWN_CA in self.alerts:
            yield self._unknown_namesake(name)
        elif issuer not in self.announced and (self.announced or UNKNOWN_CA in self.alerts):
            yield self._not_trusted(top, name)
        else:
            yield from self._own_flaws()

    def _own_flaws(self) -> Iterator[Refused]:
        """Yield the flaws of what the client sends, for which Go refuses it whatever CA is above."""
        path = (self.chain[0], *issuers_among(self.chain[0], self._sent, self.when))
        flaws = faults(path, self.when, CLIENT_AUTH)
        yield from (self._of(flaw) for flaw in flaws if _has(self.grounds, flaw.since))

    def _not_read(self, name: str) -> Refused:
        """Return the reason where the known bundle has a CA whose name etcd does not announce."""
        if self.grounds.is_file:
            return Refused(
                f"etcd was started before its CA, {name}, was in {self.grounds.source} (trusted: "
                f"{self._trusted()})",
                "restart etcd, which reads --{peer}trusted-ca-file at start only",
            )
        return self._not_trusted(self.chain[0], name)

    def _not_sent(self) -> Path:
        """Return the intermediate CAs with which there is a path, and which the client does not send."""
        path = self._path(self.grounds.authorities) or ()
        return tuple(certificate for certificate in path[1:-1] if certificate not in self._sent)

    def _unknown_namesake(self, name: str) -> Refused:
        return Refused(
            f"etcd trusts a CA with the name of its CA, {name}, and finds no valid path: that CA has "
            "another key, has expired, or has a fault of its own",
            "compare the CA that issued this certificate with the one in --{peer}trusted-ca-file, and "
            "restart etcd once the right one is there; --etcd-{peer}trusted-ca with that file tells more",
        )

    def _not_trusted(self, top: x509.Certificate, name: str) -> Refused:
        remedy = (
            "put this CA, with all clients that it has, into --{peer}trusted-ca-file and restart etcd, which "
            "reads it at start only"
        )
        if self._trusts_kubernetes():
            remedy += (
                ", instead of the CA of Kubernetes: each of its users and kubelets has a certificate of it"
            )
        else:
            remedy = f"use a certificate of a CA that is there; or {remedy}"
        if not is_self_signed(top):
            remedy += "; if it is an intermediate CA, append its certificate to the client's certificate file"
        alike = next(
            (found for found in self._names() if found == top.issuer and name_text(found) == name), None
        )
        if alike is not None:
            return Refused(
                f"its issuer is {name} as is a trusted CA, but encoded with other types of strings, which Go "
                "takes for another name",
                "issue this certificate again with the issuer's name exactly as in the CA's certificate",
            )
        return Refused(f"its CA, {name}, is not trusted (trusted: {self._trusted()})", remedy)

    def _trusts_kubernetes(self) -> bool:
        """Whether a trusted CA is that of Kubernetes, whose clients should not be etcd's."""
        known = {certificate.subject for certificate in self.grounds.kubernetes}
        return any(name in known or name_text(name) == "CN=kubernetes" for name in self._names())

    def _names(self) -> list[x509.Name]:
        return [*map(read_name, self.announced)]

    def _trusted(self) -> str:
        unknown = "none announced, so no CA or the system's root CAs"
        roots = f"every CA in {self.grounds.roots}" if self.grounds.roots else unknown
        return name_list(self._names()) or roots

    def rules_of_etcd(self) -> Iterator[Refused]:
        """Yield the rules of etcd itself that exclude a certificate with a valid path."""
        grounds, revocation = self.grounds, self.grounds.revocation
        if BAD_CERTIFICATE not in self.alerts:
            return
        if self.excluded:
            yield Refused(
                f"its certificate does not have the {grounds.allowed}, which the declaration requires",
                "use a certificate with that name, or add its name to --{side}-cert-allowed-hostname or "
                "--peer-cert-allowed-cn",
                Cause.NAME_NOT_ALLOWED,
            )
            return
        if revocation is None or not revocation.in_handshake:
            return
        if reason := by_list(self.chain, revocation):
            where = "a port for gRPC alone reads the revocation list in the handshake: "
            yield Refused(f"{where if revocation.problem else ''}{reason.why}", reason.remedy, reason.cause)


def by_list(chain: Path, revocation: DeclaredRevocation) -> Refused | None:
    """Return why a revocation list refuses a client: it is unreadable, or names a sent certificate."""
    if revocation.problem is not None:
        return Refused(*revocation.problem, Cause.CRL_UNREADABLE)
    named = listed(chain, revocation.serial_numbers)
    if not named:
        return None
    if chain[0] in named:
        return Refused(
            f"{revocation.source} revokes its certificate",
            "give this client a new certificate, or correct the list of --{side}-crl-file, which etcd reads "
            "at each connection",
            Cause.REVOKED,
        )
    return Refused(
        f"{revocation.source} revokes the CA {shown(named[0])}, which it sends, and with it all "
        "clients that send that CA",
        "give this client a certificate of a CA that is not revoked, or correct the list of "
        "--{side}-crl-file, which etcd reads at each connection",
        Cause.REVOKED,
    )
