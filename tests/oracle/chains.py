"""A seeded generator of served chains for verifiers, most of them with something unusual.

Certificates are encoded by hand: what is of interest here is what libraries refuse to build. A case begins as
a correct chain, and one to three mutations change it. Those of the table set an extension on a
certificate of the path that is drawn. Times count from the moment that is given.
"""

from __future__ import annotations

import functools
import hashlib
import ipaddress
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from pytest_etcdtls.pki.go_parser import SEQUENCE, children, encode, encode_integer

# -- DER --------------------------------------------------------------------------------------------

NULL = b"\x05\x00"


def sequence(*parts: bytes) -> bytes:
    return encode(SEQUENCE, b"".join(parts))


def oid(dotted: str) -> bytes:
    return children(x509.ExtendedKeyUsage([x509.ObjectIdentifier(dotted)]).public_bytes())[0]


def integer(value: int) -> bytes:
    return encode(0x02, encode_integer(value))


def bit_string(octets: bytes, unused: int = 0) -> bytes:
    return encode(0x03, bytes((unused,)) + octets)


def boolean(value: bool) -> bytes:
    return encode(0x01, b"\xff" if value else b"\x00")


def name(*attributes: tuple[str, str], tag: int = 0x0C) -> bytes:
    """Return a Name of (OID, text) pairs, each in an RDN of its own."""
    return sequence(
        *(encode(0x31, sequence(oid(kind), encode(tag, text.encode()))) for kind, text in attributes)
    )


CN, O, C = "2.5.4.3", "2.5.4.10", "2.5.4.6"  # noqa: E741 - as they are called


# -- keys ---------------------------------------------------------------------------------------------


class Key(NamedTuple):
    """A key of the pool. Without the private one it can only stand in a certificate."""

    private: Any
    spki: bytes

    @property
    def identifier(self) -> bytes:
        return hashlib.sha1(self.spki, usedforsecurity=False).digest()


_RSA = sequence(oid("1.2.840.113549.1.1.1"), NULL)
_EC, _P256 = oid("1.2.840.10045.2.1"), oid("1.2.840.10045.3.1.7")


def _rsa_spki(modulus: int, exponent: int = 65537, algorithm: bytes = _RSA) -> bytes:
    return sequence(algorithm, bit_string(sequence(integer(modulus), integer(exponent))))


def _odd(bits: int) -> int:
    return random.Random(bits).getrandbits(bits) | 1 << bits - 1 | 1  # noqa: S311 - no key, just its size


@functools.cache
def pool() -> dict[str, Key]:
    """Return all keys. Keys do not depend on the seed of the cases, so few are created."""
    private: dict[str, Any] = {
        **{f"p256-{number}": ec.generate_private_key(ec.SECP256R1()) for number in range(8)},
        "p224": ec.generate_private_key(ec.SECP224R1()),
        "p384": ec.generate_private_key(ec.SECP384R1()),
        "p521": ec.generate_private_key(ec.SECP521R1()),
        "ed25519": ed25519.Ed25519PrivateKey.generate(),
        "rsa1024": rsa.generate_private_key(65537, 1024),  # noqa: S505 - weak on purpose
        "rsa2048": rsa.generate_private_key(65537, 2048),
    }
    public = private["p256-7"].public_key()
    point, compressed = (
        bit_string(public.public_bytes(Encoding.X962, of))
        for of in (PublicFormat.UncompressedPoint, PublicFormat.CompressedPoint)
    )
    n = private["rsa2048"].public_key().public_numbers().n
    odd = {
        "compressed": sequence(sequence(_EC, _P256), compressed),
        "off-curve": sequence(sequence(_EC, _P256), bit_string(b"\x04" + bytes(63) + b"\x01")),
        "short-point": sequence(sequence(_EC, _P256), bit_string(b"\x04" + bytes(10))),
        "no-curve": sequence(sequence(_EC), point),
        "explicit-curve": sequence(sequence(_EC, sequence(integer(1))), point),
        "secp256k1": sequence(sequence(_EC, oid("1.3.132.0.10")), point),
        "rsa-no-null": _rsa_spki(n, algorithm=sequence(oid("1.2.840.113549.1.1.1"))),
        "rsa-pss-key": _rsa_spki(n, algorithm=sequence(oid("1.2.840.113549.1.1.10"))),
        "rsa-negative": _rsa_spki(-n),
        **{f"rsa-exponent-{exponent}": _rsa_spki(n, exponent) for exponent in (0, 1, 2**33 + 1)},
        **{f"rsa{bits}": _rsa_spki(_odd(bits)) for bits in (512, 1023, 2047, 8192, 8200, 16400)},
        "key-not-der": sequence(_RSA, bit_string(b"\x30\x05\x02\x01")),
        "ed25519-short": sequence(sequence(oid("1.3.101.112")), bit_string(bytes(31))),
        "ed25519-null": sequence(sequence(oid("1.3.101.112"), NULL), bit_string(bytes(32))),
        "ed448": sequence(sequence(oid("1.3.101.113")), bit_string(bytes(57))),
        "x25519": sequence(sequence(oid("1.3.101.110")), bit_string(bytes(32))),
        "dsa": sequence(
            sequence(oid("1.2.840.10040.4.1"), sequence(integer(23), integer(11), integer(4))),
            bit_string(integer(8)),
        ),
        "unknown-key": sequence(sequence(oid("1.2.3.4")), bit_string(bytes(32))),
    }
    form = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    return {label: Key(key, key.public_key().public_bytes(*form)) for label, key in private.items()} | {
        label: Key(None, spki) for label, spki in odd.items()
    }


# -- certificates ---------------------------------------------------------------------------------------


class Digest(NamedTuple):
    """A hash, and what it is called alone and in signatures of RSA and ECDSA."""

    hash: Any
    alone: str
    rsa: str
    ecdsa: str


_NIST, _PKCS1, _X962 = "2.16.840.1.101.3.4", "1.2.840.113549.1.1", "1.2.840.10045.4"
DIGESTS = {
    "md5": Digest(hashes.MD5, "1.2.840.113549.2.5", f"{_PKCS1}.4", "1.2.3.4"),
    "sha1": Digest(hashes.SHA1, "1.3.14.3.2.26", f"{_PKCS1}.5", f"{_X962}.1"),
    "sha256": Digest(hashes.SHA256, f"{_NIST}.2.1", f"{_PKCS1}.11", f"{_X962}.3.2"),
    "sha384": Digest(hashes.SHA384, f"{_NIST}.2.2", f"{_PKCS1}.12", f"{_X962}.3.3"),
    "sha512": Digest(hashes.SHA512, f"{_NIST}.2.3", f"{_PKCS1}.13", f"{_X962}.3.4"),
    "sha3-256": Digest(hashes.SHA3_256, f"{_NIST}.2.8", f"{_NIST}.3.14", f"{_NIST}.3.10"),
}


@dataclass
class Extension:
    """An extension; ``critical`` may be the octets of that field."""

    oid: str
    value: bytes
    critical: bool | bytes = False

    def encoded(self) -> bytes:
        critical = self.critical
        if not isinstance(critical, bytes):
            critical = boolean(True) if critical else b""
        return sequence(oid(self.oid), critical, encode(0x04, self.value))


def utc_time(moment: datetime) -> bytes:
    return encode(0x17, moment.strftime("%y%m%d%H%M%SZ").encode())


@dataclass(eq=False)
class Certificate:
    """A certificate to be encoded. ``issuer`` signs; its subject is the issuer name by default.

    Attributes:
        pss: the hash of the mask and the length of the salt, for RSASSA-PSS.
        around: octets before and after the extensions.
    """

    subject: bytes
    key: Key
    issuer: Certificate | None
    not_before: datetime
    not_after: datetime
    serial: bytes
    extensions: list[Extension] = field(default_factory=list)
    version: int | None = 2
    digest: str = "sha256"
    pss: tuple[str, int] | None = None
    issuer_name: bytes | None = None
    time: Callable[[datetime], bytes] = utc_time
    algorithm: bytes | None = None
    outer_algorithm: bytes | None = None
    broken_signature: bool = False
    around: tuple[bytes, bytes] = (b"", b"")
    edit: Callable[[bytes], bytes] | None = None

    def set(self, extension: Extension) -> None:
        """Replace the extension with the same OID, or append it."""
        self.drop(extension.oid)
        self.extensions.append(extension)

    def drop(self, dotted: str) -> None:
        self.extensions = [found for found in self.extensions if found.oid != dotted]

    @functools.cached_property
    def der(self) -> bytes:
        signer = self.issuer or self
        algorithm = self.algorithm or self._algorithm(signer.key)
        extensions = sequence(*(found.encoded() for found in self.extensions))
        before, after = self.around
        tbs = sequence(
            b"" if self.version is None else encode(0xA0, integer(self.version)),
            self.serial,
            algorithm,
            signer.subject if self.issuer_name is None else self.issuer_name,
            sequence(self.time(self.not_before), self.time(self.not_after)),
            self.subject,
            self.key.spki,
            before,
            encode(0xA3, extensions) if self.extensions else b"",
            after,
        )
        if self.edit:
            tbs = self.edit(tbs)
        signature = self._sign(signer.key, tbs)
        if self.broken_signature:
            signature = signature[:-1] + bytes((signature[-1] ^ 1,))
        return sequence(tbs, self.outer_algorithm or algorithm, bit_string(signature))

    def _algorithm(self, key: Key) -> bytes:
        digest = DIGESTS[self.digest]
        if isinstance(key.private, ec.EllipticCurvePrivateKey):
            return sequence(oid(digest.ecdsa))
        if isinstance(key.private, ed25519.Ed25519PrivateKey):
            return sequence(oid("1.3.101.112"))
        if self.pss is None or key.private is None:
            return sequence(oid(digest.rsa), NULL)
        mask, salt = self.pss
        hash_, of_mask = (sequence(oid(found.alone), NULL) for found in (digest, DIGESTS[mask]))
        mgf = sequence(oid("1.2.840.113549.1.1.8"), of_mask)
        parameters = sequence(encode(0xA0, hash_), encode(0xA1, mgf), encode(0xA2, integer(salt)))
        return sequence(oid("1.2.840.113549.1.1.10"), parameters)

    def _sign(self, key: Key, data: bytes) -> bytes:
        digest = DIGESTS[self.digest].hash()
        match key.private:
            case rsa.RSAPrivateKey() as private if self.pss is not None:
                mask, salt = self.pss
                return private.sign(data, padding.PSS(padding.MGF1(DIGESTS[mask].hash()), salt), digest)
            case rsa.RSAPrivateKey() as private:
                return private.sign(data, padding.PKCS1v15(), digest)
            case ec.EllipticCurvePrivateKey() as private:
                return private.sign(data, ec.ECDSA(digest))
            case ed25519.Ed25519PrivateKey() as private:
                return private.sign(data)
        return bytes(256)


SKI, KEY_USAGE, SAN, BASIC, CONSTRAINTS = "2.5.29.14", "2.5.29.15", "2.5.29.17", "2.5.29.19", "2.5.29.30"
CRL, POLICIES, MAPPINGS, AKI, REQUIRED = "2.5.29.31", "2.5.29.32", "2.5.29.33", "2.5.29.35", "2.5.29.36"
EKU, INHIBIT_ANY, AIA, ISSUER_ALT_NAME = "2.5.29.37", "2.5.29.54", "1.3.6.1.5.5.7.1.1", "2.5.29.18"
SERVER_AUTH, CLIENT_AUTH, ANY_PURPOSE = "1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2", "2.5.29.37.0"
EMAIL, DNS, DIRECTORY, URI, ADDRESS, REGISTERED, OTHER = 0x81, 0x82, 0xA4, 0x86, 0x87, 0x88, 0xA0


def general_name(tag: int, content: str | bytes) -> bytes:
    return encode(tag, content.encode("latin-1") if isinstance(content, str) else content)


def names(tag: int, *texts: str) -> list[bytes]:
    return [general_name(tag, text) for text in texts]


def dns(text: str) -> bytes:
    return general_name(DNS, text)


def address(text: str) -> bytes:
    return general_name(ADDRESS, ipaddress.ip_address(text).packed)


def network(text: str) -> bytes:
    found = ipaddress.ip_interface(text)
    return general_name(ADDRESS, found.ip.packed + found.network.netmask.packed)


def san(*names: bytes) -> Extension:
    return Extension(SAN, sequence(*names))


def basic(ca: bool | None = True, length: int | None = None) -> Extension:
    parts = [boolean(ca)] if ca is not None else []
    return Extension(BASIC, sequence(*parts, *([integer(length)] if length is not None else [])), True)


def usage(*bits: int) -> Extension:
    octets = sum(1 << 15 - bit for bit in bits).to_bytes(2, "big").rstrip(b"\0")
    unused = next((n for n in range(8) if octets and octets[-1] >> n & 1), 0)
    return Extension(KEY_USAGE, bit_string(octets, unused), True)


def purposes(*oids: str) -> Extension:
    return Extension(EKU, sequence(*map(oid, oids)))


def constraints(permitted: Sequence[bytes] = (), excluded: Sequence[bytes] = ()) -> Extension:
    subtrees = (
        encode(tag, b"".join(map(sequence, names)))
        for tag, names in ((0xA0, permitted), (0xA1, excluded))
        if names
    )
    return Extension(CONSTRAINTS, sequence(*subtrees), True)


def policies(*oids: str) -> Extension:
    return Extension(POLICIES, sequence(*(sequence(oid(found)) for found in oids)))


# -- cases ----------------------------------------------------------------------------------------------


@dataclass
class World:
    """A case under construction.

    Attributes:
        line: leaf first, root last.
        extra: served behind the intermediates.
        without: what is not served.
        roots: the CA file.
    """

    rng: random.Random
    now: datetime
    host: str
    line: list[Certificate]
    roots: list[Certificate]
    extra: list[Certificate] = field(default_factory=list)
    without: list[Certificate] = field(default_factory=list)
    served_root: bool = False
    shuffled: bool = False
    appended: bytes = b""

    @property
    def leaf(self) -> Certificate:
        return self.line[0]

    @property
    def root(self) -> Certificate:
        return self.line[-1]

    def ca(self) -> Certificate:
        return self.rng.choice(self.line[1:])

    def any(self) -> Certificate:
        return self.rng.choice(self.line)

    def below(self, ca: Certificate) -> Certificate:
        return self.line[self.line.index(ca) - 1]

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    def authority(
        self, common_name: str, key: str = "p256-6", issuer: Certificate | None = None
    ) -> Certificate:
        """Return a CA of that name."""
        made = Certificate(
            subject=name((O, "etcd"), (CN, common_name)),
            key=pool()[key],
            issuer=issuer,
            not_before=self.now - timedelta(days=10),
            not_after=self.now + timedelta(days=900),
            serial=integer(self.rng.getrandbits(63) | 1),
            extensions=[basic(), usage(5, 6)],
        )
        set_identifiers(made)
        return made

    def copy(self, of: Certificate, **changes: Any) -> Certificate:
        """Return another certificate for the same CA with the given fields changed."""
        extensions = [replace(found) for found in of.extensions]
        serial = integer(self.rng.getrandbits(63) | 1)
        return replace(of, extensions=extensions, serial=serial, edit=None, **changes)

    def chain(self) -> tuple[bytes, ...]:
        others = [*self.line[1:-1], *self.extra, *([self.root] if self.served_root else [])]
        if self.shuffled:
            self.rng.shuffle(others)
        served = [self.leaf, *(found for found in others if found not in self.without)]
        return (*(found.der for found in served[:-1]), served[-1].der + self.appended)


def set_identifiers(certificate: Certificate) -> None:
    """Set the key identifiers that fit the key and that of the issuer."""
    certificate.set(Extension(SKI, encode(0x04, certificate.key.identifier)))
    if certificate.issuer is not None:
        identifier = encode(0x80, certificate.issuer.key.identifier)
        certificate.set(Extension(AKI, sequence(identifier)))


@dataclass(frozen=True)
class Case:
    """A case.

    Attributes:
        number: with the seed and the time all that is needed to make it again.
        mutations: names.
        chain: what is served, DER, leaf first.
    """

    number: int
    mutations: tuple[str, ...]
    chain: tuple[bytes, ...]
    roots: tuple[bytes, ...]
    host: str
    now: datetime


def cases(count: int, seed: int, now: datetime) -> Iterator[Case]:
    """Yield that many cases, the same ones for the same seed."""
    for number in range(count):
        rng = random.Random(f"{seed}/{number}")  # noqa: S311 - reproducible, not secret
        world = _clean(rng, now)
        chosen = rng.sample([*MUTATIONS], rng.choice((1, 1, 1, 2, 2, 3))) if number % 50 else []
        for mutation in chosen:
            MUTATIONS[mutation](world)
        roots = tuple(found.der for found in world.roots)
        yield Case(number, tuple(chosen), world.chain(), roots, world.host, now)


HOSTS = ("db.example.com", "10.0.0.1", "localhost", "127.0.0.1", "fd00::1", "etcd-0.etcd.svc.cluster.local")


def named(host: str) -> bytes:
    try:
        return address(host)
    except ValueError:
        return dns(host)


def _clean(rng: random.Random, now: datetime) -> World:
    world = World(rng, now, rng.choice(HOSTS), [], [])
    keys = [f"p256-{number}" for number in rng.sample(range(6), 4)]
    issuer = None
    for level in range(rng.choice((1, 2, 2, 3)), 0, -1):
        issuer = world.authority(f"CA {level}", keys[level], issuer)
        world.line.insert(0, issuer)
    names = san(named(world.host), dns("spare.example.com"), address("192.0.2.1"))
    leaf = Certificate(
        subject=name((O, "etcd"), (CN, "member")),
        key=pool()[keys[0]],
        issuer=issuer,
        not_before=now - timedelta(days=1),
        not_after=now + timedelta(days=90),
        serial=integer(rng.getrandbits(63) | 1),
        extensions=[basic(None), usage(0), purposes(SERVER_AUTH, CLIENT_AUTH), names],
    )
    set_identifiers(leaf)
    world.line.insert(0, leaf)
    world.roots = [world.root]
    return world


# -- extensions ---------------------------------------------------------------------------------------

_URL = encode(URI, b"http://example.com/crl")
_POINTS = sequence(sequence(encode(0xA0, encode(0xA0, _URL))))
_RESPONDER = sequence(sequence(oid("1.3.6.1.5.5.7.48.1"), _URL))
_GARBAGE = tuple(
    bytes.fromhex(octets)
    for octets in (
        *("", "0500", "30", "30800000", "30810100", "3100", "0400", "020105", "3003020105"),
        *("300480020000", "03020900", "030100", "010101", "3003010101", "30060101ff0201ff"),
        *("30053003060180", "3003060180", "30840000000100", "ffffff"),
    )
)

OF_ANY: Mapping[str, Sequence[Extension]] = {
    "extended key usage": [
        *map(purposes, (CLIENT_AUTH, SERVER_AUTH, ANY_PURPOSE, "1.2.3.4", "1.3.6.1.5.5.7.3.9")),
        *(purposes(), purposes(CLIENT_AUTH, ANY_PURPOSE), purposes(SERVER_AUTH, CLIENT_AUTH)),
    ],
    "key usage": [usage(*bits) for bits in ((0,), (2,), (4,), (5,), (6,), (), (0, 2, 5), (7, 8), (5, 7))],
    "basic constraints": [
        *map(basic, (None, False, True)),
        *(basic(None, 1), basic(False, 0), basic(False, 3)),
    ],
    "path length": [basic(True, length) for length in (0, 0, 1, 2, 5, 1 << 40)],
    "key identifiers": [
        Extension(AKI, sequence(encode(0x80, b"other"))),
        Extension(AKI, sequence()),
        Extension(AKI, sequence(encode(0xA1, encode(DIRECTORY, name((CN, "CA")))), encode(0x82, b"\7"))),
        Extension(SKI, encode(0x04, b"other")),
    ],
    "other extensions": [
        Extension(CRL, _POINTS),
        Extension(AIA, _RESPONDER),
        Extension(ISSUER_ALT_NAME, sequence(dns("issuer.example.com"))),
        Extension("2.5.29.46", _POINTS),
        Extension("1.2.3.4.5", NULL),
        Extension("2.16.840.1.113730.1.1", bit_string(b"\x40", 6)),
        Extension("1.3.6.1.5.5.7.1.24", sequence(integer(5))),
        policies("1.2.3.4"),
    ],
    "critical extensions": [
        *(Extension(dotted, NULL, True) for dotted in ("1.2.3.4", "1.3.6.1.5.5.7.1.24")),
        *(Extension(dotted, sequence(), True) for dotted in ("2.5.29.9", "2.5.29.16", "2.5.29.46")),
        *(Extension(CRL, _POINTS, True), Extension(AIA, _RESPONDER, True)),
        *(Extension(SKI, encode(0x04, b"x"), True), Extension(AKI, sequence(encode(0x80, b"x")), True)),
    ],
    "policies": [
        *(policies(), policies("2.5.29.32.0"), policies("1.2.3.4", "1.2.3.4")),
        Extension(REQUIRED, sequence(encode(0x80, b"\0"))),
    ],
    "odd criticality": [
        # FALSE is written out, which DER forbids and Go accepts.
        Extension("1.2.3.4.5", NULL, boolean(False)),
        *(Extension("1.2.3.4.5", NULL, bytes.fromhex(octets)) for octets in ("010101", "0100", "020101")),
    ],
    "malformed constraints": [
        *(Extension(CONSTRAINTS, sequence(*of)) for of in ((), (encode(0xA0, b""),))),
        Extension(
            CONSTRAINTS,
            sequence(encode(0xA1, sequence(dns("x.example"))), encode(0xA0, sequence(dns("example.com")))),
        ),
        *(
            constraints([base])
            for base in (
                *names(DNS, "bad name", "trailing.example.com.", "*.example.com", "ex\xe4"),
                *names(ADDRESS, "\x0a\0\0\0", "\x0a\0\0\0\xff\0\xff\0"),
                *(general_name(EMAIL, "a b@c"), general_name(URI, "10.0.0.1")),
                *(dns("example.com") + encode(0x80, b"\x00"), dns("example.com") + encode(0x81, b"\x05")),
            )
        ),
    ],
    "malformed extensions": [
        Extension(dotted, value)
        for value in _GARBAGE
        for dotted in (
            *(SKI, KEY_USAGE, SAN, BASIC, CONSTRAINTS, CRL, POLICIES, MAPPINGS, AKI, REQUIRED, EKU),
            *(INHIBIT_ANY, AIA, ISSUER_ALT_NAME, "2.5.29.46", "2.5.29.9", "2.5.29.16", "1.3.6.1.5.5.7.1.24"),
        )
    ],
}
"""Extensions of a certificate of the path."""

# -- names ------------------------------------------------------------------------------------------------

_OTHER_NAME = general_name(OTHER, sequence(oid("1.2.3.4"), encode(0xA0, encode(0x0C, b"x")))[2:])
KINDS = (
    *names(EMAIL, "root@example.com", "not a mailbox", "r\xf6ot@example.com"),
    *names(URI, "https://db.example.com:2379/path", "spiffe://cluster.local/ns/etcd", "urn:uuid:f81d4fae"),
    *names(URI, "http://[fd00::1]:80/", "https://bad host/", "http://%zz/", "relative/path", ""),
    *names(DNS, "ex\xe4mple.com", "b\x7f.com", "trailing.example.com.", ".leading.example.com"),
    *names(DNS, "em..pty.example.com", "with space.x", "", "*.example.com"),
    *(encode(DIRECTORY, name((CN, "directory"))), general_name(REGISTERED, oid("1.2.3.4")[2:]), _OTHER_NAME),
    *(general_name(tag, text) for tag, text in ((0xA3, b""), (0x85, b""), (0x89, b"x"))),
)
"""Names beside that of the host."""


def _dns_names(host: str) -> list[tuple[str, ...]]:
    above, long = host.partition(".")[2], "a" * 64 + ".example.com"
    alone = (
        *(host + ".", host.upper(), f"*.{above}", f"*.*.{above}", "*", "", ".", "." + host, "-" + host),
        *(host.replace(".", "..", 1), "d*.example.com", "**.example.com", host + "\0.evil.example"),
        *(host[:-1], "sub." + host, "*." + host, f" {host}", long),
    )
    beside = (long, "_" + host, "xn--n3h.com", host, "bad name.example")
    return [*((text,) for text in alone), *((host, text) for text in beside)]


def _addresses(host: str) -> list[bytes]:
    packed = ipaddress.ip_address(host).packed
    mapped = bytes(10) + b"\xff\xff" + packed if len(packed) == 4 else packed[-4:]
    lengths = (packed[:-1], packed + b"\0", bytes(len(packed)), b"", packed + b"\xff" * len(packed))
    return [general_name(ADDRESS, octets) for octets in (packed, mapped, *lengths)]


# -- mutations ------------------------------------------------------------------------------------------

Mutation = Callable[[World], None]
MUTATIONS: dict[str, Mutation] = {}


def mutation(function: Mutation) -> Mutation:
    MUTATIONS[function.__name__] = function
    return function


def _setting(choices: Sequence[Extension]) -> Mutation:
    def mutate(world: World) -> None:
        extension = world.rng.choice(choices)
        critical = extension.critical
        if isinstance(critical, bool) and world.chance(0.2):
            critical = not critical
        world.any().set(replace(extension, critical=critical))

    return mutate


MUTATIONS |= {kind: _setting(choices) for kind, choices in OF_ANY.items()}


@mutation
def without_an_extension(world: World) -> None:
    found = world.any()
    extensions = found.extensions
    match world.rng.randrange(5):
        case 0:
            found.extensions, found.version = [], world.rng.choice((None, 0, 1, 2))
        case 1:
            found.version = world.rng.choice((None, 0, 1, 3, 7, -1))
        case _ if extensions:
            found.drop(world.rng.choice(extensions).oid)


@mutation
def changed_extension(world: World) -> None:
    """One is critical or not, there twice, has a tail, or is cut off."""
    found = world.any()
    extension = world.rng.choice(found.extensions or [basic()])
    match world.rng.randrange(4):
        case 0:
            found.set(replace(extension, critical=not extension.critical))
        case 1:
            found.extensions.append(replace(extension))
        case 2:
            found.set(replace(extension, value=extension.value + NULL))
        case 3:
            found.set(replace(extension, value=extension.value[:-1]))


@mutation
def dns_names(world: World) -> None:
    world.leaf.set(san(*map(dns, world.rng.choice(_dns_names(world.host)))))


@mutation
def addresses(world: World) -> None:
    """An address that is odd, or is a DNS name."""
    world.host = world.rng.choice(("10.0.0.1", "127.0.0.1", "fd00::1", "::ffff:10.0.0.1"))
    right, as_name = address(world.host), dns(world.host)
    names = [
        (as_name,),
        (as_name, right),
        (right, dns("10.9.9.9")),
        *((odd,) for odd in _addresses(world.host)),
    ]
    world.leaf.set(san(*world.rng.choice(names)))


@mutation
def no_names(world: World) -> None:
    world.leaf.drop(SAN)
    if world.chance(0.5):
        world.leaf.set(replace(san(), critical=world.chance(0.5)))
    elif world.chance(0.5):
        world.leaf.subject = name((CN, world.host))


@mutation
def other_kinds_of_names(world: World) -> None:
    names = world.rng.sample(KINDS, world.rng.choice((1, 1, 2)))
    if world.chance(0.8):
        names.insert(world.rng.randrange(len(names) + 1), named(world.host))
    certificate = world.leaf if world.chance(0.8) else world.ca()
    certificate.set(replace(san(*names), critical=world.chance(0.3)))


@mutation
def another_host(world: World) -> None:
    world.host = world.rng.choice(
        (
            *("db.example.com.", "DB.Example.COM", "other.example.com", "sub.db.example.com", "example.com"),
            *("10.0.0.2", "::ffff:10.0.0.1", "spare.example.com", "192.0.2.1", "::ffff:192.0.2.1"),
            *("a_b.example.com", "xn--n3h.com"),
        )
    )


@mutation
def subjects(world: World) -> None:
    texts = ((0x13, ""), (0x13, "under_score"), (0x14, "T61"), (0x12, "12 34"), (0x1E, "ab"), (0x16, "ascii"))
    values = (encode(0x0C, b"\xff\xfe"), encode(0x04, b"octets"), encode(0x1E, b"\xff\xfe"), integer(5))
    world.any().subject = world.rng.choice(
        (
            name(),
            name((CN, "a" * 80)),
            name((C, "GER"), (O, "etcd"), tag=0x13),
            name(("1.2.3.4.5.6", "private")),
            *(name((CN, text), tag=tag) for tag, text in texts),
            *(sequence(encode(0x31, sequence(oid(CN), value))) for value in values),
            sequence(encode(0x31, b"")),
            sequence(encode(0x31, name((CN, "a"))[4:] + name((O, "b"))[4:])),
        )
    )


@mutation
def issuer_names(world: World) -> None:
    """In another encoding, of nobody, or that of the leaf."""
    below = world.rng.choice(world.line[:-1])
    own = (below.issuer or below).subject
    match world.rng.randrange(4):
        case 0:
            below.issuer_name = own.replace(b"\x0c\x04etcd", b"\x13\x04etcd")
        case 1:
            below.issuer_name = own.replace(b"etcd", b"ETCD")
        case 2:
            below.issuer_name = name((CN, "nobody"))
        case 3:
            world.leaf.subject = world.line[1].subject


# -- constraints ----------------------------------------------------------------------------------------

_FITTING = (
    *map(dns, ("example.com", "localhost", "cluster.local")),
    *map(network, ("10.0.0.0/8", "192.0.2.0/24", "127.0.0.0/8", "fd00::/8")),
)
SUBTREES = (
    *names(DNS, ".example.com", "db.example.com", "EXAMPLE.com", "com", "ple.com", "", "a-b.example.com"),
    *names(DNS, "svc.cluster.local", "other.example", "x.example.com"),
    *map(network, ("10.0.0.0/24", "10.0.0.7/24", "0.0.0.0/0", "::/0", "::ffff:10.0.0.0/104")),
    *(general_name(kind, "example.com") for kind in (EMAIL, URI)),
    *(encode(DIRECTORY, name((O, text))) for text in ("etcd", "elsewhere")),
    *(_OTHER_NAME, general_name(REGISTERED, oid("1.2.3.4")[2:]), general_name(0xA3, b"")),
)


def _subtrees(world: World) -> list[bytes]:
    return world.rng.sample(SUBTREES + _FITTING, world.rng.choice((1, 2, 3, 6)))


@mutation
def permitted_names(world: World) -> None:
    permitted = [*_FITTING, *_subtrees(world)] if world.chance(0.5) else _subtrees(world)
    world.ca().set(replace(constraints(permitted), critical=world.chance(0.7)))


@mutation
def excluded_names(world: World) -> None:
    permitted = _FITTING if world.chance(0.3) else ()
    world.ca().set(replace(constraints(permitted, _subtrees(world)), critical=world.chance(0.7)))


@mutation
def names_under_constraints(world: World) -> None:
    """Names that are difficult to compare, and constraints of DNS names."""
    world.leaf.set(san(named(world.host), world.rng.choice(KINDS)))
    kind = dns(world.rng.choice(("example.com", "x.example.com")))
    world.ca().set(constraints(excluded=[kind]) if world.chance(0.5) else constraints([kind, *_FITTING]))


@mutation
def wildcard_over_excluded(world: World) -> None:
    world.host = "db.example.com"
    world.leaf.set(san(dns("*.example.com")))
    excluded = ("db.example.com", "x.example.com", "example.com", ".example.com", "a.b.example.com")
    world.ca().set(constraints(excluded=[dns(world.rng.choice(excluded))]))


# -- paths ----------------------------------------------------------------------------------------------


@mutation
def self_issued_ca(world: World) -> None:
    """A CA renews its own key: same name, signed with the old key."""
    ca = world.ca()
    below = world.below(ca)
    renewed = world.copy(ca, key=pool()["p256-7"], issuer=ca)
    if world.chance(0.6):
        renewed.set(san(dns(world.rng.choice(("ca.example.com", "ca.elsewhere.example")))))
    below.issuer = renewed
    set_identifiers(renewed)
    set_identifiers(below)
    world.line.insert(world.line.index(ca), renewed)
    rules = constraints(_FITTING), constraints(excluded=[dns("elsewhere.example")]), basic(True, 0), basic()
    ca.set(world.rng.choice(rules))


@mutation
def another_for_the_same_ca(world: World) -> None:
    """A second certificate for a CA on the path, with a fault; the first is as good as before."""
    ca = world.ca()
    second = world.copy(ca)
    match world.rng.randrange(6):
        case 0:
            second.not_after = world.now - timedelta(days=1)
        case 1:
            second.digest = "sha1"
        case 2:
            second.broken_signature = True
        case 3:
            second.key = pool()["p256-6"]
        case _:
            kind = world.rng.choice(("basic constraints", "critical extensions", "extended key usage"))
            second.set(world.rng.choice((*OF_ANY[kind], constraints([dns("elsewhere.example")]))))
    if world.chance(0.3) and ca is not world.root:
        world.without.append(ca)
    if ca in world.roots and world.chance(0.4):
        world.roots.insert(0, second)
    else:
        world.extra.insert(0, second)
        world.shuffled = world.chance(0.5)


@mutation
def cross_signed(world: World) -> None:
    """The root, or an intermediate, is signed by another root as well."""
    ca, other = world.ca(), world.authority("other root", "p256-7")
    cross = world.copy(ca, issuer=other, issuer_name=None)
    set_identifiers(cross)
    world.extra.append(cross)
    world.roots = world.rng.choice(([other], [world.root, other]))
    match world.rng.randrange(4):
        case 0:
            other.not_after = world.now - timedelta(days=1)
        case 1:
            ca.not_after = world.now - timedelta(days=1)
        case 2:
            cross.set(Extension("1.2.3.4", NULL, True))
    world.shuffled = world.chance(0.5)


@mutation
def two_ways_up(world: World) -> None:
    """Two CAs have signed each other."""
    ca = world.line[1]
    other = world.authority("bridge", "p256-7", ca)
    world.extra.extend((other, world.copy(ca, issuer=other, issuer_name=None)))
    if world.chance(0.4):
        world.roots = [world.copy(other, issuer=None, issuer_name=None)]
    world.shuffled = world.chance(0.5)


@mutation
def many_namesakes(world: World) -> None:
    """More candidates than Go tries, or nearly."""
    ca = world.ca()
    for _ in range(world.rng.choice((20, 98, 105, 130))):
        world.extra.append(world.copy(ca, key=pool()["p256-6"]))
    if world.chance(0.5):
        world.extra, world.line[1:1] = world.extra[:5], world.extra[5:]


@mutation
def served_otherwise(world: World) -> None:
    """In another order, with the root, without an intermediate, or with a certificate twice."""
    world.shuffled, world.served_root = world.chance(0.7), world.chance(0.5)
    if world.chance(0.4):
        world.without.append(world.ca())
    if world.chance(0.4):
        world.extra.append(world.any())
    if world.chance(0.2):
        world.appended = world.rng.choice((b"\0", NULL, b"\x30"))


@mutation
def strays(world: World) -> None:
    """CAs that no path needs, the last one with something unusual."""
    world.extra += [world.authority(f"stray {number}") for number in range(world.rng.choice((1, 3)))]
    stray = world.extra[-1]
    match world.rng.randrange(4):
        case 0:
            stray.serial = integer(-7)
        case 1:
            stray.set(world.rng.choice(OF_ANY["critical extensions"]))
        case 2:
            stray.key = pool()[world.rng.choice([*pool()])]
    if world.chance(0.3):
        world.roots.append(world.extra.pop())
    world.shuffled = world.chance(0.5)


@mutation
def other_anchors(world: World) -> None:
    other = world.authority(world.rng.choice(("CA 1", "CA 2", "other")), "p256-7")
    between = world.ca()
    world.roots = world.rng.choice(
        ([other], [other, world.root], [], [between], [between, world.root], [world.leaf])
    )


@mutation
def self_signed_leaf(world: World) -> None:
    world.leaf.issuer = None
    world.leaf.drop(AKI)
    if world.chance(0.3):
        world.leaf.subject = name((O, "etcd"))
        world.leaf.set(basic(True))
    if world.chance(0.5):
        world.roots = [world.leaf]
    world.line = [world.leaf, world.root]


# -- times ----------------------------------------------------------------------------------------------


@mutation
def times(world: World) -> None:
    found, now = world.any(), world.now
    found.not_before, found.not_after = world.rng.choice(
        (
            (now - timedelta(days=20), now - timedelta(hours=2)),
            (now + timedelta(hours=2), now + timedelta(days=20)),
            (now - timedelta(days=20), now + timedelta(hours=2)),
            (now - timedelta(days=9000), now + timedelta(days=8000)),
            (now + timedelta(days=20), now - timedelta(days=20)),
        )
    )


@mutation
def odd_times(world: World) -> None:
    tag, form = world.rng.choice(
        (
            *((0x17, form) for form in ("%y%m%d%H%MZ", "%y%m%d%H%M%S", "%y%m%d%H%M%S+0100", "991332000000Z")),
            *((0x17, form) for form in ("%y%m%d%H%M%S+0000", "%y%m%d%H%M60Z")),
            *(
                (0x18, form)
                for form in ("%Y%m%d%H%M%SZ", "%Y%m%d%H%M%S.5Z", "%Y%m%d%H%M%S", "00000101000000Z")
            ),
            (0x16, "%Y%m%d%H%M%SZ"),
        )
    )
    world.any().time = lambda moment: encode(tag, moment.strftime(form).encode())


# -- keys and signatures --------------------------------------------------------------------------------


@mutation
def leaf_key(world: World) -> None:
    world.leaf.key = pool()[world.rng.choice([label for label in pool() if not label.startswith("p256-")])]


@mutation
def ca_key(world: World) -> None:
    ca = world.ca()
    ca.key = pool()[
        world.rng.choice([label for label, key in pool().items() if key.private or world.chance(0.2)])
    ]
    if world.chance(0.8):
        set_identifiers(ca)
        set_identifiers(world.below(ca))


@mutation
def signatures(world: World) -> None:
    ca = world.ca()
    signed = world.rng.choice([found for found in world.line if (found.issuer or found) is ca] or world.line)
    signed.digest = world.rng.choice([digest for digest in DIGESTS if digest != "sha256"])
    if world.chance(0.7):
        ca.key = pool()["rsa2048"]
    if world.chance(0.5):
        ca.key = pool()["rsa2048"]
        signed.digest, *signed.pss = world.rng.choice(  # type: ignore[assignment]
            (
                *(("sha256", "sha256", 32), ("sha384", "sha384", 48), ("sha512", "sha512", 64)),
                *(("sha256", "sha256", 20), ("sha256", "sha1", 32), ("sha1", "sha1", 20)),
            )
        )


@mutation
def odd_signatures(world: World) -> None:
    found = world.any()
    match world.rng.randrange(4):
        case 0:
            found.broken_signature = True
        case 1:
            found.outer_algorithm = sequence(oid("1.2.840.10045.4.3.3"))
        case 2 if found.issuer is not None:
            found.issuer = world.copy(found.issuer, key=pool()["p256-6"])
        case _:
            found.algorithm = sequence(
                *world.rng.choice(
                    (
                        *((oid("1.2.840.10045.4.3.2"), NULL), (oid("1.2.3.4"),), (NULL,)),
                        *((oid("1.3.101.112"), NULL), (oid("1.2.840.113549.1.1.10"),)),
                    )
                )
            )


# -- encodings ------------------------------------------------------------------------------------------


@mutation
def serial_numbers(world: World) -> None:
    world.any().serial = world.rng.choice(
        (
            *map(integer, (0, -1, -(1 << 150), 1 << 158, 1 << 160, 1 << 400)),
            *(encode(0x02, octets) for octets in (b"\x00\x01", b"\xff\xff", b"")),
            encode(0x0A, b"\x05"),
        )
    )


@mutation
def unique_identifiers(world: World) -> None:
    identifiers = encode(0x81, b"\0\1") + encode(0x82, b"\0\2")
    world.any().around = world.rng.choice(((identifiers, b""), (b"", NULL), (b"", identifiers)))


@mutation
def flipped_octet(world: World) -> None:
    """One octet of the signed part is another; it is signed all the same."""
    at, mask = world.rng.random(), 1 << world.rng.randrange(8)

    def flip(tbs: bytes) -> bytes:
        place = 4 + int(at * (len(tbs) - 4))
        return tbs[:place] + bytes((tbs[place] ^ mask,)) + tbs[place + 1 :]

    world.any().edit = flip
