"""The rules of Go's ``x509.Certificate.Verify`` and ``VerifyHostname``: paths, what they require, and names.

The module follows Go 1.26 rule by rule, since most etcd clients, the gateway and the members are written in
Go, and etcd verifies its clients with it. Go differs from RFC 5280 in places; ``tests/oracle`` compares this
module with Go. The functions stand for these of crypto/x509:

- :class:`_Search`, :func:`verified_path`: Certificate.Verify and buildChains. A path is looked for by trying
  each certificate whose subject is the issuer's name, anchors first, up to a number of signatures.
- :func:`issuer_faults`, :func:`is_current`: isValid and the begin of CheckSignatureFrom, which are asked for
  each certificate on the way.
- :func:`path_faults`: what is checked on a whole path, checkChainForKeyUsage and checkChainConstraints
  (constraints.go). What decides about policies, and constraints on mailboxes and URIs, is not judged: such a
  path is not accepted, and has the flaw ``Rule.UNJUDGED``.
- :func:`has_signed`, :func:`signature_problem`: CheckSignatureFrom, checkSignature and
  getSignatureAlgorithmFromAI.
- :func:`names_host`: VerifyHostname.

:mod:`pytest_etcdtls.pki.go_parser` reports what Go does not parse; this module ignores an extension that
does not parse.

If Go accepts no path, :func:`find_path` finds the best one by names and signatures, so that checks can
report its faults.
"""

from __future__ import annotations

import functools
import ipaddress
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.hashes import HashAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding
from msgspec import Struct

from pytest_etcdtls.pki.certificate import (
    LARGEST_RSA_EXPONENT,
    extension_name,
    key_usages,
    public_key,
    purposes,
    shown,
    signature_hash,
)
from pytest_etcdtls.pki.go_parser import (
    DNS,
    EC_KEY,
    ED25519,
    EMAIL,
    INTEGER,
    IP,
    NAME_CONSTRAINTS,
    OBJECT_IDENTIFIER,
    RSA_KEY,
    SEQUENCE,
    SUBJECT_ALT_NAME,
    URI,
    VERSION_WITH_EXTENSIONS,
    MalformedError,
    Names,
    Reader,
    details,
    encode,
    is_domain,
    unjudged,
)
from pytest_etcdtls.untrusted.printable import plural, printable

Path = tuple[x509.Certificate, ...]

_COMPARED = (IP, DNS)
"""The types of names that are compared with name constraints here, in the order of Go."""
_MAPPED = bytes(10) + b"\xff\xff"
"""The prefix of an IPv4-mapped IPv6 address."""
_KEY_CERT_SIGN = 5
SERVER_AUTH: Final = "1.3.6.1.5.5.7.3.1"
CLIENT_AUTH: Final = "1.3.6.1.5.5.7.3.2"
_ANY_PURPOSE = "2.5.29.37.0"

_LEAST_RSA_BITS = 1024
_NO_SHA1_SINCE, _LEAST_RSA_BITS_SINCE = (1, 18), (1, 24)
"""The Go releases that began to refuse SHA-1 and short RSA keys."""
_ECDSA: Final = "1.2.840.10045.4."
_ALGORITHMS: Final = frozenset(
    {
        *(f"1.2.840.113549.1.1.{number}" for number in (11, 12, 13)),  # RSA with SHA-256, SHA-384, SHA-512
        *(f"{_ECDSA}3.{number}" for number in (2, 3, 4)),  # ECDSA with the same
        ED25519,
    }
)
_PSS: Final = "1.2.840.113549.1.1.10"


def _pss_parameters() -> Iterator[bytes]:
    """Yield the parameters of RSASSA-PSS that Go takes (getSignatureAlgorithmFromAI).

    One hash, for the mask too, and a salt of its length. What may be left out is there or not.
    """
    for number, size in ((1, 32), (2, 48), (3, 64)):  # SHA-256, SHA-384, SHA-512
        oid = encode(OBJECT_IDENTIFIER, bytes.fromhex(f"6086480165030402{number:02x}"))
        mgf1 = encode(OBJECT_IDENTIFIER, bytes.fromhex("2a864886f70d010108"))
        salt = encode(0xA2, encode(INTEGER, bytes((size,))))
        for null, nulls, trailer in itertools.product((b"", b"\5\0"), (b"", b"\5\0"), (b"", b"\xa3\3\2\1\1")):
            mask = encode(0xA1, encode(SEQUENCE, mgf1 + encode(SEQUENCE, oid + nulls)))
            hashed = encode(0xA0, encode(SEQUENCE, oid + null))
            yield encode(SEQUENCE, hashed + mask + salt + trailer)


_PSS_PARAMETERS: Final = frozenset(_pss_parameters())

_MOST_SIGNATURE_CHECKS = 100
"""The number of signatures after which Go stops: a server cannot keep a client busy with certificates."""
_MOST_PATHS = 50
_MOST_COMPARISONS = 50_000
"""Of names with constraints, half a second. Go has ``VerifyOptions.MaxConstraintComparisions``."""
_MOST_WEAK_CHECKS = 200


# -- name constraints -----------------------------------------------------------------------------


def fault(names: Names, permitted: Names, excluded: Names) -> str:
    """Return the first name that is excluded or not permitted; empty if there is none.

    Args:
        names: the subjectAltName of a certificate.
        permitted: permitted subtrees of a CA above it. A name type without a subtree is not restricted.
        excluded: excluded subtrees of the same CA.
    """
    for tag in _COMPARED:
        allowed = [subtree for kind, subtree in permitted if kind == tag]
        forbidden = [subtree for kind, subtree in excluded if kind == tag]
        for content in (content for kind, content in names if kind == tag):
            if tag == DNS and not is_domain(content.decode("latin-1")):
                return f"{_shown(tag, content)} cannot be compared with the name constraints of its CA"
            if allowed and not any(_holds(tag, subtree, content) for subtree in allowed):
                return f"{_shown(tag, content)} is not among the names that its CA may certify"
            if any(_holds(tag, subtree, content, by_wildcard=True) for subtree in forbidden):
                return f"{_shown(tag, content)} is excluded by its CA"
    return ""


def _shown(tag: int, content: bytes) -> str:
    if tag == IP:
        # An address of another length is malformed; go_parser reports it.
        return f"the address {ipaddress.ip_address(content) if len(content) in (4, 16) else content.hex()}"
    return f"the DNS name {printable(content)}"


def _holds(tag: int, subtree: bytes, content: bytes, *, by_wildcard: bool = False) -> bool:
    """Return whether a name is within a subtree of its type, or may be by its wildcard."""
    if tag == IP:
        return len(subtree) == 2 * len(content) and _contains(subtree, content)
    text = subtree.decode("latin-1")
    subtree_domain, domain = _lower(text), _lower(content.decode("latin-1"))
    if not subtree_domain or domain == subtree_domain:
        return True
    # A leading period requires at least one more label.
    if domain.endswith(subtree_domain if text.startswith(".") else f".{subtree_domain}"):
        return True
    # *.example.com matches db.example.com.
    _, period, parent = subtree_domain.partition(".")
    return (
        by_wildcard and domain.startswith("*") and bool(period) and domain.partition(".")[1:] == (".", parent)
    )


def _lower(text: str) -> str:
    """Return the text with ASCII letters in lower case and other characters unchanged."""
    return "".join(character.lower() if character.isascii() else character for character in text)


def _contains(subtree: bytes, address: bytes) -> bool:
    half = len(subtree) // 2
    start, mask = subtree[:half], subtree[half:]
    if start.startswith(_MAPPED):
        start, mask = start[12:], mask[12:]
    address = _unmapped(address)
    return len(start) == len(address) and all(
        a & m == b & m for a, b, m in zip(start, address, mask, strict=True)
    )


# -- signatures -----------------------------------------------------------------------------------


def _verifies_algorithm(certificate: x509.Certificate) -> bool:
    """Return whether Go verifies signatures by the algorithm with which it is signed; not with SHA-1."""
    fields = Reader(details(certificate).signature_algorithm)
    try:
        oid = fields.object_identifier()
    except MalformedError:
        return False
    if oid == _PSS:
        return fields.rest in _PSS_PARAMETERS
    return oid in _ALGORITHMS and not (oid == ED25519 and fields)


def signature_problem(certificate: x509.Certificate) -> str:
    """Return with which algorithm, of those that Go does not verify, it is signed; empty for all others."""
    if _verifies_algorithm(certificate):
        return ""
    if certificate.signature_algorithm_oid.dotted_string == _PSS:
        return "RSASSA-PSS with parameters that Go does not take: one hash, and a salt of its length"
    return signature_hash(certificate) or certificate.signature_algorithm_oid.dotted_string


def usable_key(certificate: x509.Certificate) -> CertificatePublicKeyTypes | None:
    """Return the public key; ``None`` if Go does not verify signatures with it."""
    try:
        algorithm = Reader(details(certificate).key).inside(SEQUENCE).inside(SEQUENCE)
        known = algorithm.object_identifier() in (RSA_KEY, EC_KEY, ED25519)
    except MalformedError:
        return None
    return public_key(certificate) if known else None


@functools.lru_cache(maxsize=4096)
def has_signed(issuer: x509.Certificate, certificate: x509.Certificate) -> bool:
    """Return whether Go accepts the signature as the issuer's; names are not compared."""
    key = usable_key(issuer) if _verifies_algorithm(certificate) else None
    if isinstance(key, rsa.RSAPublicKey) and (
        key.key_size < _LEAST_RSA_BITS or key.public_numbers().e > LARGEST_RSA_EXPONENT
    ):
        return False
    is_ecdsa = certificate.signature_algorithm_oid.dotted_string.startswith(_ECDSA)
    fits = isinstance(key, ec.EllipticCurvePublicKey) is is_ecdsa
    return key is not None and fits and _verified(certificate, issuer)


# -- one certificate as an issuer -------------------------------------------------------------------


def is_current(certificate: x509.Certificate, when: datetime) -> bool:
    """Return whether the certificate is valid at this time."""
    # Certificate times are whole seconds; the certificate is valid through the second of notAfter.
    return certificate.not_valid_before_utc <= when and when <= certificate.not_valid_after_utc


def issuer_faults(issuer: x509.Certificate, cas_below: int, *, is_anchor: bool) -> Iterator[tuple[Rule, str]]:
    """Yield why Go does not accept a certificate as an issuer, except for time and critical extensions.

    ``cas_below`` counts the certificates between the CA and the leaf, including self-issued ones.
    """
    fields = details(issuer)
    if fields.is_ca is None:
        # Certificates of version 1 have no extensions; Go accepts them as trust anchors.
        if fields.version == VERSION_WITH_EXTENSIONS or not is_anchor:
            yield Rule.ISSUER, "no basicConstraints"
    elif not fields.is_ca:
        yield Rule.ISSUER, "CA:FALSE"
    if fields.path_length is not None and cas_below > fields.path_length:
        yield Rule.LENGTH, f"pathlen:{fields.path_length} with {plural(cas_below, 'CA')} below"
    if fields.key_usage and _KEY_CERT_SIGN not in fields.key_usage:
        yield Rule.ISSUER, f"keyUsage {', '.join(sorted(key_usages(issuer) or ()))}"


def allows(certificate: x509.Certificate, purpose: str = SERVER_AUTH) -> bool:
    """Return whether the extended key usage allows the purpose or is absent. Go also checks it in CAs."""
    named = details(certificate).purposes
    return not named or purpose in named or _ANY_PURPOSE in named


# -- a path as a whole --------------------------------------------------------------------------------


def constraint_faults(path: Path) -> Iterator[Flaw]:
    """Yield the name on the path that a CA above it excludes, and what of its constraints is not judged.

    Go checks the subjectAltName of every certificate, including self-issued CAs, and never the subject (RFC
    5280 section 4.2.1.10).
    """
    for certificate in path:
        if part := unjudged(certificate.public_bytes(Encoding.DER)):
            yield Flaw(rule=Rule.UNJUDGED, certificate=certificate, text=f"has {part}")
    fields = [details(certificate) for certificate in path]
    for place, below in enumerate(fields):
        above = [ca for ca in fields[place + 1 :] if NAME_CONSTRAINTS in ca.extensions]
        if not above or SUBJECT_ALT_NAME not in below.extensions:
            continue
        if any(tag in (URI, EMAIL) for tag, _ in below.names):
            text = "has a URI or a mailbox, and a CA above it has name constraints"
            yield Flaw(rule=Rule.UNJUDGED, certificate=path[place], text=text)
        for ca in above:
            subtrees = len(ca.permitted) + len(ca.excluded)
            if len(below.names) * subtrees > _MOST_COMPARISONS:
                text = f"has {len(below.names)} names, and a CA above it {subtrees} name constraints"
                yield Flaw(rule=Rule.UNJUDGED, certificate=path[place], text=text)
                return
            if problem := fault(below.names, ca.permitted, ca.excluded):
                yield Flaw(rule=Rule.NAME, certificate=path[0], text=problem)
                return


class _Search:
    """A search for paths as in Go's buildChains: trust anchors first, and bounded.

    Args:
        intermediates: the certificates that a server sent after its leaf.
        roots: the trust anchors.
        most: the number of candidates after which the search ends. The server supplies the certificates.
        accepts: returns whether a candidate, which is an anchor or not, may follow on a path.
    """

    def __init__(
        self,
        intermediates: Sequence[x509.Certificate],
        roots: Sequence[x509.Certificate],
        most: int,
        accepts: Callable[[Path, x509.Certificate, bool], bool],
    ) -> None:
        self._pools = ((dict.fromkeys(roots), True), (dict.fromkeys(intermediates), False))
        self._left = most
        self._accepts = accepts

    def paths(self, path: Path) -> Iterator[Path]:
        for candidates, is_anchor in self._pools:
            for candidate in _plausible_first(path[-1], candidates):
                self._left -= 1
                if self._left < 0:
                    return
                if is_on(path, candidate) or not self._accepts(path, candidate, is_anchor):
                    continue
                if is_anchor:
                    yield (*path, candidate)
                else:
                    yield from self.paths((*path, candidate))


def verified_path(
    leaf: x509.Certificate,
    intermediates: Sequence[x509.Certificate],
    roots: Sequence[x509.Certificate],
    when: datetime,
    purpose: str = SERVER_AUTH,
) -> Path | None:
    """Return the first path that Go accepts, by default for a server; ``None`` if there is none.

    Neither the host name nor whether Go parses every certificate is checked.

    Args:
        leaf: the first certificate that the server sent.
        intermediates: the certificates that it sent after the leaf.
        roots: the trust anchors.
        when: the time of the handshake.
        purpose: the extended key usage that Go requires.
    """
    if any(_own_faults(leaf, when)):
        return None

    def accepts(path: Path, candidate: x509.Certificate, is_anchor: bool) -> bool:
        return not any(_step_faults(path, candidate, when, is_anchor=is_anchor))

    # A leaf that is itself trusted is a whole path, and its signature is not checked.
    paths: Iterator[Path] = iter([(leaf,)])
    if leaf not in roots:
        paths = _Search(intermediates, roots, _MOST_SIGNATURE_CHECKS, accepts).paths((leaf,))
    return next((path for path in paths if not any(path_faults(path, purpose))), None)


class Rule(StrEnum):
    """A rule of ``Certificate.Verify``."""

    EXTENSION = "critical extension"
    VALIDITY = "validity"
    ISSUER = "issuer"
    LENGTH = "path length"
    SIGNATURE = "signature"
    PURPOSE = "extended key usage"
    NAME = "name constraints"
    UNJUDGED = "not judged"


class Flaw(Struct, frozen=True, kw_only=True):
    """A rule that a path breaks.

    Attributes:
        certificate: the certificate that breaks it, which must be issued again.
        text: what is wrong with the certificate, without its name: ``has the critical extension 1.2.3``.
        since: the first Go release with the rule.
    """

    rule: Rule
    certificate: x509.Certificate
    text: str
    since: tuple[int, int] = (1, 0)

    def __str__(self) -> str:
        return f"{shown(self.certificate)} {self.text}"


def path_faults(path: Path, purpose: str) -> Iterator[Flaw]:
    """Yield each requirement of Go for a certification path that this path does not meet."""
    for certificate in path:
        if not allows(certificate, purpose):
            named = ", ".join(purposes(certificate) or ())
            yield Flaw(rule=Rule.PURPOSE, certificate=certificate, text=f"has the extendedKeyUsage {named}")
    yield from constraint_faults(path)


def _plausible_first(
    certificate: x509.Certificate, candidates: Iterable[x509.Certificate]
) -> list[x509.Certificate]:
    """Return the candidates with the issuer's name, those with the matching key identifier first."""
    below = details(certificate)

    def rank(candidate: x509.Certificate) -> int:
        # findPotentialParents: both alike or both missing, one of them missing, different.
        identifier = details(candidate).subject_key
        if identifier == below.authority_key:
            return 0
        return 2 if identifier and below.authority_key else 1

    return sorted((found for found in candidates if details(found).subject == below.issuer), key=rank)


def is_on(path: Path, candidate: x509.Certificate) -> bool:
    """Return whether it is already on the path, as Go compares: same name, key and subjectAltName."""
    wanted = details(candidate)
    for other in map(details, path):
        if other.subject != wanted.subject or other.key != wanted.key:
            continue
        names = [of.extensions.get(SUBJECT_ALT_NAME) for of in (wanted, other)]
        if None in names:
            return names == [None, None]  # alreadyInChain looks no further here either
        if names[0].value == names[1].value:  # type: ignore[union-attr]
            return True
    return False


def subject_alt_names(certificate: x509.Certificate) -> tuple[str, ...]:
    """Return the names for people: ``DNS:localhost``, ``IP:127.0.0.1``, others with the name of their type.

    Each is printable and bounded; :func:`names_host` compares the names themselves.
    """
    names = details(certificate).alternative_names()
    return tuple(printable(kind if text is None else f"{kind}:{text}") for kind, text in names)


@functools.lru_cache(maxsize=4096)
def names_host(certificate: x509.Certificate, host: str) -> bool:
    """Return whether the subjectAltName covers a DNS name or an IP address, whose zone is ignored."""
    fields = details(certificate)
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return any(_matches(pattern, host) for pattern in fields.texts(DNS))
    return _unmapped(address.packed) in {_unmapped(content) for tag, content in fields.names if tag == IP}


def _unmapped(packed: bytes) -> bytes:
    """Return an IPv4-mapped IPv6 address as IPv4. Go treats the two as equal."""
    return packed[12:] if len(packed) == 16 and packed.startswith(_MAPPED) else packed


def _matches(pattern: str, host: str) -> bool:
    if not (_is_hostname(host.removesuffix("."), wildcard=False) and _is_hostname(pattern, wildcard=True)):
        # Go compares a name that is not a valid host name literally: db.example.com. matches itself only.
        return _lower(pattern) == _lower(host) not in ("", ".")
    wanted, given = _lower(host.removesuffix(".")).split("."), _lower(pattern).split(".")
    # A wildcard matches exactly the whole leftmost label (RFC 6125 section 6.4.3).
    return len(wanted) == len(given) and given[0] in ("*", wanted[0]) and given[1:] == wanted[1:]


def _is_hostname(text: str, *, wildcard: bool) -> bool:
    first, *others = text.split(".")
    labels = others if wildcard and first == "*" and others else [first, *others]
    return all(re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_-]*", label) for label in labels)


@functools.lru_cache(maxsize=4096)
def signed_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Return whether the issuer's name matches and its key verifies the signature, also a weak one."""
    if details(certificate).issuer != details(issuer).subject:
        return False
    return _verified(certificate, issuer)


def _verified(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    signature, signed = certificate.signature, certificate.tbs_certificate_bytes
    try:
        match public_key(issuer), certificate.signature_hash_algorithm:
            case rsa.RSAPublicKey() as key, HashAlgorithm() as hash_:
                scheme = certificate.signature_algorithm_parameters
                if not isinstance(scheme, padding.PKCS1v15 | padding.PSS):
                    return False
                key.verify(signature, signed, scheme, hash_)
            case ec.EllipticCurvePublicKey() as key, HashAlgorithm() as hash_:
                key.verify(signature, signed, ec.ECDSA(hash_))
            case ed25519.Ed25519PublicKey() as key, None:
                key.verify(signature, signed)
            case _:
                return False
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError):
        return False
    return True


def is_self_signed(certificate: x509.Certificate) -> bool:
    """Return whether the certificate is signed with its own key."""
    return signed_by(certificate, certificate)


def find_path(
    leaf: x509.Certificate,
    pool: Sequence[x509.Certificate],
    anchors: Sequence[x509.Certificate],
    when: datetime,
    purpose: str = SERVER_AUTH,
) -> Path | None:
    """Return a path from the leaf to a trust anchor, both included; ``None`` if there is none.

    A path that Go accepts is preferred, else the path with the fewest faults is returned. As in Go,
    every certificate of the bundle is a trust anchor, including an intermediate CA and the leaf itself.

    Args:
        leaf: the first certificate of the path.
        pool: candidates for intermediate certificates.
        anchors: the trust anchors.
        when: the time at which the path is verified.
        purpose: the extended key usage that Go requires.
    """
    if leaf in anchors:
        return (leaf,)
    if path := verified_path(leaf, pool, anchors, when, purpose):
        return path
    search = _Search(pool, anchors, _MOST_WEAK_CHECKS, lambda path, issuer, _: signed_by(path[-1], issuer))
    paths = itertools.islice(search.paths((leaf,)), _MOST_PATHS)

    def rank(path: Path) -> tuple[int, int, int]:
        flaws = list(faults(path, when, purpose))
        # Go may accept a path on which nothing else is wrong than what is not judged.
        return sum(flaw.rule is not Rule.UNJUDGED for flaw in flaws), len(flaws), len(path)

    return min(paths, key=rank, default=None)


def faults(path: Path, when: datetime, purpose: str = SERVER_AUTH) -> Iterator[Flaw]:
    """Yield why Go refuses a path, by default for a server. The path's names and signatures match."""
    for place, certificate in enumerate(path):
        if place:
            yield from _step_faults(path[:place], certificate, when, is_anchor=place == len(path) - 1)
        else:
            yield from _own_faults(certificate, when)
    yield from path_faults(path, purpose)


def _own_faults(certificate: x509.Certificate, when: datetime) -> Iterator[Flaw]:
    """Yield why Go refuses a certificate anywhere on a path."""
    for oid in details(certificate).unhandled:
        text = f"has the critical extension {extension_name(oid)}"
        yield Flaw(rule=Rule.EXTENSION, certificate=certificate, text=text)
    if not is_current(certificate, when):
        yield Flaw(rule=Rule.VALIDITY, certificate=certificate, text="is not valid at this time")


def _step_faults(path: Path, issuer: x509.Certificate, when: datetime, *, is_anchor: bool) -> Iterator[Flaw]:
    """Yield why Go does not continue a path, which begins at the leaf, with an issuer."""
    if not has_signed(issuer, path[-1]):
        yield _signature_flaw(issuer, path[-1])
    yield from _own_faults(issuer, when)
    for rule, fault in issuer_faults(issuer, len(path) - 1, is_anchor=is_anchor):
        yield Flaw(rule=rule, certificate=issuer, text=f"has {fault}")


def ca_faults(path: Path, when: datetime, purpose: str) -> Iterator[Flaw]:
    """Yield why Go refuses a path for its CAs, signatures aside, which a CA renewed with its key keeps.

    A CA counts as expired only while the leaf is valid: a wrong clock shows on both.
    """
    for flaw in faults(path, when, purpose):
        if flaw.rule in (Rule.SIGNATURE, Rule.UNJUDGED) or (
            flaw.certificate == path[0] and flaw.rule is not Rule.NAME
        ):
            continue
        if flaw.rule is not Rule.VALIDITY or is_current(path[0], when):
            yield flaw


def _signature_flaw(issuer: x509.Certificate, certificate: x509.Certificate) -> Flaw:
    """Return why Go does not accept a signature that verifies (checkSignature in x509.go)."""
    if problem := signature_problem(certificate):
        since = _NO_SHA1_SINCE if problem == "sha1" else (1, 0)
        return Flaw(
            rule=Rule.SIGNATURE, certificate=certificate, text=f"is signed with {problem}", since=since
        )
    key = usable_key(issuer)
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < _LEAST_RSA_BITS:
        return Flaw(
            rule=Rule.SIGNATURE,
            certificate=issuer,
            text=f"has an RSA key of {key.key_size} bits",
            since=_LEAST_RSA_BITS_SINCE,
        )
    return Flaw(rule=Rule.SIGNATURE, certificate=issuer, text="has a key that Go does not take")


def issuers_among(leaf: x509.Certificate, pool: Sequence[x509.Certificate], when: datetime) -> Path:
    """Return the issuers of the leaf that are in the pool, the direct issuer first; ``()`` for none.

    Certificates that are valid at this time are preferred. A self-signed leaf has no other issuer.
    """
    path: Path = (leaf,)
    current_first = sorted(pool, key=lambda certificate: not is_current(certificate, when))
    while not is_self_signed(path[-1]):
        above = (certificate for certificate in current_first if certificate not in path)
        issuer = next((certificate for certificate in above if signed_by(path[-1], certificate)), None)
        if issuer is None:
            break
        path = (*path, issuer)
    return path[1:]


def ancestors(leaf: x509.Certificate, pool: Sequence[x509.Certificate]) -> frozenset[x509.Certificate]:
    """Return the certificates of the pool that are above the leaf on any path."""
    above: set[x509.Certificate] = set()
    fresh = {leaf}
    while fresh:
        fresh = {
            candidate
            for candidate in pool
            if candidate not in above and any(signed_by(below, candidate) for below in fresh)
        }
        above |= fresh
    return frozenset(above - {leaf})
