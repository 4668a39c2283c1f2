"""A seeded generator of served chains for verifiers, most of them with something unusual.

Certificates are encoded by hand: what is of interest here is what libraries refuse to build. A case begins as
a correct chain, and one to three mutations change it. Times count from the moment that is given.
"""

from __future__ import annotations

import functools
import hashlib
import ipaddress
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, padding, rsa, x25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from pytest_etcdtls.pki.go_parser import SEQUENCE, encode, encode_integer

# -- DER --------------------------------------------------------------------------------------------


def sequence(*parts: bytes) -> bytes:
    return encode(SEQUENCE, b"".join(parts))


def oid(dotted: str) -> bytes:
    first, second, *rest = map(int, dotted.split("."))
    octets = bytearray()
    for number in (40 * first + second, *rest):
        groups = [number & 0x7F]
        while number := number >> 7:
            groups.append(0x80 | number & 0x7F)
        octets += bytes(reversed(groups))
    return encode(0x06, bytes(octets))


def integer(value: int) -> bytes:
    return encode(0x02, encode_integer(value))


def bit_string(octets: bytes, unused: int = 0) -> bytes:
    return encode(0x03, bytes((unused,)) + octets)


def boolean(value: bool) -> bytes:
    return encode(0x01, b"\xff" if value else b"\x00")


def utc_time(moment: datetime) -> bytes:
    return encode(0x17, moment.strftime("%y%m%d%H%M%SZ").encode())


def generalized_time(moment: datetime) -> bytes:
    return encode(0x18, moment.strftime("%Y%m%d%H%M%SZ").encode())


def name(*attributes: tuple[str, str], tag: int = 0x0C) -> bytes:
    """Return a Name of (OID, text) pairs, each in an RDN of its own."""
    return sequence(
        *(encode(0x31, sequence(oid(kind), encode(tag, text.encode()))) for kind, text in attributes)
    )


CN, O, C = "2.5.4.3", "2.5.4.10", "2.5.4.6"  # noqa: E741 - as they are called


# -- keys ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Key:
    """A key of the pool.

    Attributes:
        private: ``None`` if it can only stand in a certificate.
        spki: the SubjectPublicKeyInfo to put there, which may be odd.
    """

    label: str
    private: Any
    spki: bytes

    @property
    def identifier(self) -> bytes:
        return hashlib.sha1(self.spki, usedforsecurity=False).digest()


def _key(label: str, private: Any) -> Key:
    return Key(
        label, private, private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    )


_RSA = sequence(oid("1.2.840.113549.1.1.1"), b"\x05\x00")


def _rsa_spki(modulus: int, exponent: int = 65537, algorithm: bytes = _RSA) -> bytes:
    return sequence(algorithm, bit_string(sequence(integer(modulus), integer(exponent))))


def _odd(bits: int) -> int:
    return random.Random(bits).getrandbits(bits) | 1 << bits - 1 | 1  # noqa: S311 - no key, just its size


def _explicit(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return the SubjectPublicKeyInfo of a P-256 key with the curve written out."""
    p = 2**256 - 2**224 + 2**192 + 2**96 - 1
    b = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
    g = bytes.fromhex(
        "046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"
        "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5"
    )
    n = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    parameters = sequence(
        integer(1),
        sequence(oid("1.2.840.10045.1.1"), integer(p)),
        sequence(encode(0x04, (p - 3).to_bytes(32, "big")), encode(0x04, b.to_bytes(32, "big"))),
        encode(0x04, g),
        integer(n),
        integer(1),
    )
    point = key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return sequence(sequence(oid("1.2.840.10045.2.1"), parameters), bit_string(point))


@functools.cache
def pool() -> dict[str, Key]:
    """Return all keys. Keys do not depend on the seed of the cases, so few are created."""
    keys = [_key(f"p256-{number}", ec.generate_private_key(ec.SECP256R1())) for number in range(8)]
    keys += [
        _key("p224", ec.generate_private_key(ec.SECP224R1())),
        _key("p384", ec.generate_private_key(ec.SECP384R1())),
        _key("p521", ec.generate_private_key(ec.SECP521R1())),
        _key("secp256k1", ec.generate_private_key(ec.SECP256K1())),
        _key("brainpool", ec.generate_private_key(ec.BrainpoolP256R1())),
        _key("ed25519", ed25519.Ed25519PrivateKey.generate()),
        _key("ed448", ed448.Ed448PrivateKey.generate()),
        _key("x25519", x25519.X25519PrivateKey.generate()),
        _key("rsa1024", rsa.generate_private_key(65537, 1024)),  # noqa: S505 - weak on purpose
        _key("rsa2048", rsa.generate_private_key(65537, 2048)),
        _key("rsa3072", rsa.generate_private_key(65537, 3072)),
        _key("dsa", dsa.generate_private_key(1024)),  # noqa: S505 - likewise
    ]
    found = {key.label: key for key in keys}
    p256, large = found["p256-7"].private, found["rsa2048"].private
    found["explicit"] = Key("explicit", p256, _explicit(p256))
    point = p256.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    curve = sequence(oid("1.2.840.10045.2.1"), oid("1.2.840.10045.3.1.7"))
    numbers = large.public_key().public_numbers()
    odd = {
        "compressed": sequence(curve, bit_string(point)),
        "off-curve": sequence(curve, bit_string(b"\x04" + bytes(63) + b"\x01")),
        "short-point": sequence(curve, bit_string(b"\x04" + bytes(10))),
        "no-curve": sequence(sequence(oid("1.2.840.10045.2.1")), bit_string(point)),
        "rsa-no-null": _rsa_spki(numbers.n, algorithm=sequence(oid("1.2.840.113549.1.1.1"))),
        "rsa-pss-key": _rsa_spki(numbers.n, algorithm=sequence(oid("1.2.840.113549.1.1.10"))),
        "rsa-negative": _rsa_spki(-numbers.n),
        "rsa-exponent-1": _rsa_spki(numbers.n, 1),
        "rsa-exponent-0": _rsa_spki(numbers.n, 0),
        "rsa-exponent-large": _rsa_spki(numbers.n, 2**33 + 1),
        "rsa512": _rsa_spki(_odd(512)),
        "rsa1023": _rsa_spki(_odd(1023)),
        "rsa2047": _rsa_spki(_odd(2047)),
        "rsa8192": _rsa_spki(_odd(8192)),
        "rsa8200": _rsa_spki(_odd(8200)),
        "rsa16400": _rsa_spki(_odd(16400)),
        "ed25519-short": sequence(sequence(oid("1.3.101.112")), bit_string(bytes(31))),
        "ed25519-null": sequence(sequence(oid("1.3.101.112"), b"\x05\x00"), bit_string(bytes(32))),
        "unknown-key": sequence(sequence(oid("1.2.3.4")), bit_string(bytes(32))),
        "key-not-der": sequence(_RSA, bit_string(b"\x30\x05\x02\x01")),
    }
    return found | {label: Key(label, None, spki) for label, spki in odd.items()}


# -- certificates ---------------------------------------------------------------------------------------

_HASHES: dict[str, Any] = {
    "md5": hashes.MD5,
    "sha1": hashes.SHA1,
    "sha224": hashes.SHA224,
    "sha256": hashes.SHA256,
    "sha384": hashes.SHA384,
    "sha512": hashes.SHA512,
    "sha3-256": hashes.SHA3_256,
}
_RSA_OIDS = {
    "md5": "1.2.840.113549.1.1.4",
    "sha1": "1.2.840.113549.1.1.5",
    "sha224": "1.2.840.113549.1.1.14",
    "sha256": "1.2.840.113549.1.1.11",
    "sha384": "1.2.840.113549.1.1.12",
    "sha512": "1.2.840.113549.1.1.13",
    "sha3-256": "2.16.840.1.101.3.4.3.14",
}
_ECDSA_OIDS = {
    "sha1": "1.2.840.10045.4.1",
    "sha224": "1.2.840.10045.4.3.1",
    "sha256": "1.2.840.10045.4.3.2",
    "sha384": "1.2.840.10045.4.3.3",
    "sha512": "1.2.840.10045.4.3.4",
    "sha3-256": "2.16.840.1.101.3.4.3.10",
}
_PSS_OIDS = {
    "sha1": "1.3.14.3.2.26",
    "sha256": "2.16.840.1.101.3.4.2.1",
    "sha384": "2.16.840.1.101.3.4.2.2",
    "sha512": "2.16.840.1.101.3.4.2.3",
}


@dataclass
class Extension:
    oid: str
    value: bytes
    critical: bool = False

    def encoded(self) -> bytes:
        critical = boolean(True) if self.critical else b""
        return sequence(oid(self.oid), critical, encode(0x04, self.value))


@dataclass(eq=False)
class Certificate:
    """A certificate to be encoded. ``issuer`` signs; its subject is the issuer name by default."""

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
    tail: bytes = b""
    edit: list[Callable[[bytes], bytes]] = field(default_factory=list)

    def set(self, extension: Extension) -> None:
        """Replace the extension with the same OID, or append it."""
        at = next((n for n, found in enumerate(self.extensions) if found.oid == extension.oid), None)
        if at is None:
            self.extensions.append(extension)
        else:
            self.extensions[at] = extension

    def get(self, dotted: str) -> Extension | None:
        return next((found for found in self.extensions if found.oid == dotted), None)

    def drop(self, dotted: str) -> None:
        self.extensions = [found for found in self.extensions if found.oid != dotted]

    @functools.cached_property
    def der(self) -> bytes:
        signer = self.issuer or self
        algorithm = self.algorithm or self._algorithm(signer.key)
        version = b"" if self.version is None else encode(0xA0, integer(self.version))
        extensions = (
            encode(0xA3, sequence(*(found.encoded() for found in self.extensions)))
            if self.extensions
            else b""
        )
        tbs = sequence(
            version,
            self.serial,
            algorithm,
            signer.subject if self.issuer_name is None else self.issuer_name,
            sequence(self.time(self.not_before), self.time(self.not_after)),
            self.subject,
            self.key.spki,
            extensions,
            self.tail,
        )
        for edit in self.edit:
            tbs = edit(tbs)
        signature = self._sign(signer.key, tbs)
        if self.broken_signature:
            signature = signature[:-1] + bytes((signature[-1] ^ 1,))
        return sequence(tbs, self.outer_algorithm or algorithm, bit_string(signature))

    def _algorithm(self, key: Key) -> bytes:
        match key.private:
            case rsa.RSAPrivateKey() if self.pss is not None:
                mask, salt = self.pss
                hash_ = sequence(oid(_PSS_OIDS[self.digest]), b"\x05\x00")
                mgf = sequence(oid("1.2.840.113549.1.1.8"), sequence(oid(_PSS_OIDS[mask]), b"\x05\x00"))
                parameters = (encode(0xA0, hash_), encode(0xA1, mgf), encode(0xA2, integer(salt)))
                return sequence(oid("1.2.840.113549.1.1.10"), sequence(*parameters))
            case ec.EllipticCurvePrivateKey():
                return sequence(oid(_ECDSA_OIDS.get(self.digest, _ECDSA_OIDS["sha256"])))
            case ed25519.Ed25519PrivateKey():
                return sequence(oid("1.3.101.112"))
            case ed448.Ed448PrivateKey():
                return sequence(oid("1.3.101.113"))
            case dsa.DSAPrivateKey():
                return sequence(oid("2.16.840.1.101.3.4.3.2"))
        return sequence(oid(_RSA_OIDS[self.digest]), b"\x05\x00")

    def _sign(self, key: Key, data: bytes) -> bytes:
        match key.private:
            case rsa.RSAPrivateKey() as private:
                hash_ = _HASHES[self.digest]()
                if self.pss is not None:
                    mask, salt = self.pss
                    return private.sign(data, padding.PSS(padding.MGF1(_HASHES[mask]()), salt), hash_)
                return private.sign(data, padding.PKCS1v15(), hash_)
            case ec.EllipticCurvePrivateKey() as private:
                digest = self.digest if self.digest in _ECDSA_OIDS else "sha256"
                return private.sign(data, ec.ECDSA(_HASHES[digest]()))
            case ed25519.Ed25519PrivateKey() | ed448.Ed448PrivateKey() as private:
                return private.sign(data)
            case dsa.DSAPrivateKey() as private:
                return private.sign(data, hashes.SHA256())
        return bytes(256)


SKI, KEY_USAGE, SAN, BASIC, CONSTRAINTS = "2.5.29.14", "2.5.29.15", "2.5.29.17", "2.5.29.19", "2.5.29.30"
CRL, POLICIES, MAPPINGS, AKI, POLICY_CONSTRAINTS = (
    "2.5.29.31",
    "2.5.29.32",
    "2.5.29.33",
    "2.5.29.35",
    "2.5.29.36",
)
EKU, INHIBIT_ANY, AIA = "2.5.29.37", "2.5.29.54", "1.3.6.1.5.5.7.1.1"
SERVER_AUTH, CLIENT_AUTH, ANY_PURPOSE = "1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2", "2.5.29.37.0"
EMAIL, DNS, DIRECTORY, URI, ADDRESS, REGISTERED, OTHER = 0x81, 0x82, 0xA4, 0x86, 0x87, 0x88, 0xA0


def general_name(tag: int, content: str | bytes) -> bytes:
    return encode(tag, content.encode("latin-1") if isinstance(content, str) else content)


def dns(text: str) -> bytes:
    return general_name(DNS, text)


def address(text: str) -> bytes:
    return general_name(ADDRESS, ipaddress.ip_address(text).packed)


def network(text: str) -> bytes:
    found = ipaddress.ip_interface(text)
    return general_name(ADDRESS, found.ip.packed + found.network.netmask.packed)


def san(*names: bytes, critical: bool = False) -> Extension:
    return Extension(SAN, sequence(*names), critical)


def basic(ca: bool | None = True, length: int | None = None, critical: bool = True) -> Extension:
    parts = [boolean(ca)] if ca is not None else []
    return Extension(BASIC, sequence(*parts, *([integer(length)] if length is not None else [])), critical)


def usage(*bits: int, critical: bool = True) -> Extension:
    value = 0
    for bit in bits:
        value |= 1 << 15 - bit
    octets = value.to_bytes(2, "big").rstrip(b"\0")
    unused = next((n for n in range(8) if octets and octets[-1] >> n & 1), 0)
    return Extension(KEY_USAGE, bit_string(octets, unused), critical)


def purposes(*oids: str, critical: bool = False) -> Extension:
    return Extension(EKU, sequence(*map(oid, oids)), critical)


def constraints(
    permitted: tuple[bytes, ...] = (), excluded: tuple[bytes, ...] = (), *, critical: bool = True
) -> Extension:
    def subtrees(tag: int, names: tuple[bytes, ...]) -> bytes:
        return encode(tag, b"".join(sequence(found) for found in names)) if names else b""

    return Extension(CONSTRAINTS, sequence(subtrees(0xA0, permitted), subtrees(0xA1, excluded)), critical)


def policies(*oids: str, critical: bool = False) -> Extension:
    return Extension(POLICIES, sequence(*(sequence(oid(found)) for found in oids)), critical)


def policy_constraints(explicit: int | None = None, mapping: int | None = None) -> Extension:
    parts = [encode(0x80, encode_integer(explicit))] if explicit is not None else []
    parts += [encode(0x81, encode_integer(mapping))] if mapping is not None else []
    return Extension(POLICY_CONSTRAINTS, sequence(*parts), True)


# -- cases ----------------------------------------------------------------------------------------------


@dataclass
class World:
    """A case under construction.

    Attributes:
        line: leaf first, root last.
        extra: served behind the intermediates.
        sent: what is served behind the leaf, if not the intermediates and ``extra``.
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

    @property
    def cas(self) -> list[Certificate]:
        return self.line[1:]

    def ca(self) -> Certificate:
        return self.rng.choice(self.cas)

    def any(self) -> Certificate:
        return self.rng.choice(self.line)

    def below(self, ca: Certificate) -> Certificate:
        return self.line[self.line.index(ca) - 1]

    def signed_by(self, ca: Certificate) -> list[Certificate]:
        return [found for found in self.line if (found.issuer or found) is ca]

    def chain(self) -> tuple[bytes, ...]:
        others = [*self.line[1:-1], *self.extra, *([self.root] if self.served_root else [])]
        if self.shuffled:
            self.rng.shuffle(others)
        served = [self.leaf, *(found for found in others if found not in self.without)]
        return (*(found.der for found in served[:-1]), served[-1].der + self.appended)

    def copy(self, of: Certificate, **changes: Any) -> Certificate:
        """Return another certificate for the same CA with the given fields changed."""
        copied = replace(
            of,
            extensions=[replace(found) for found in of.extensions],
            serial=integer(self.rng.getrandbits(63) | 1),
            edit=[],
        )
        for attribute, value in changes.items():
            setattr(copied, attribute, value)
        return copied


@dataclass(frozen=True)
class Case:
    """A case.

    Attributes:
        number: with the seed and the time all that is needed to make it again.
        mutations: names.
        chain: what is served, DER, leaf first.
        key: of the leaf, for those who can serve it.
    """

    number: int
    mutations: tuple[str, ...]
    chain: tuple[bytes, ...]
    roots: tuple[bytes, ...]
    host: str
    now: datetime
    key: Key


Mutation = Callable[[World], None]
_MUTATIONS: list[Mutation] = []


def mutation(function: Mutation) -> Mutation:
    _MUTATIONS.append(function)
    return function


HOSTS = ("db.example.com", "10.0.0.1", "localhost", "127.0.0.1", "fd00::1", "etcd-0.etcd.svc.cluster.local")


def _named(host: str) -> bytes:
    try:
        return address(host)
    except ValueError:
        return dns(host)


def cases(count: int, seed: int, now: datetime) -> Iterator[Case]:
    """Yield that many cases, the same ones for the same seed."""
    for number in range(count):
        yield _case(number, seed, now)


def _case(number: int, seed: int, now: datetime) -> Case:
    rng = random.Random(f"{seed}/{number}")  # noqa: S311 - reproducible, not secret
    world = _clean(rng, now, rng.choice(HOSTS))
    chosen = rng.sample(_MUTATIONS, rng.choice((1, 1, 1, 2, 2, 3)))
    if number % 50 == 0:
        chosen = []
    for mutate in chosen:
        mutate(world)
    return Case(
        number=number,
        mutations=tuple(mutate.__name__ for mutate in chosen),
        chain=world.chain(),
        roots=tuple(found.der for found in world.roots),
        host=world.host,
        now=now,
        key=world.leaf.key,
    )


def _clean(rng: random.Random, now: datetime, host: str) -> World:
    labels = [f"p256-{number}" for number in rng.sample(range(7), 4)]
    depth = rng.choice((0, 1, 1, 2))
    line: list[Certificate] = []
    issuer: Certificate | None = None
    for level in range(depth + 1, 0, -1):
        issuer = _authority(rng, now, f"CA {level}", pool()[labels[level]], issuer)
        line.insert(0, issuer)
    key = pool()[labels[0]]
    leaf = Certificate(
        subject=name((O, "etcd"), (CN, "member")),
        key=key,
        issuer=issuer,
        not_before=now - timedelta(days=1),
        not_after=now + timedelta(days=90),
        serial=integer(rng.getrandbits(63) | 1),
        extensions=[
            basic(None),
            usage(0),
            purposes(SERVER_AUTH, CLIENT_AUTH),
            san(_named(host), dns("spare.example.com"), address("192.0.2.1")),
            Extension(SKI, encode(0x04, key.identifier)),
        ],
    )
    assert issuer is not None
    leaf.set(_authority_key(issuer))
    line.insert(0, leaf)
    return World(rng, now, host, line, [line[-1]])


def _authority_key(issuer: Certificate) -> Extension:
    return Extension(AKI, sequence(encode(0x80, issuer.key.identifier)))


def _authority(
    rng: random.Random, now: datetime, common_name: str, key: Key, issuer: Certificate | None
) -> Certificate:
    made = Certificate(
        subject=name((O, "etcd"), (CN, common_name)),
        key=key,
        issuer=issuer,
        not_before=now - timedelta(days=10),
        not_after=now + timedelta(days=900),
        serial=integer(rng.getrandbits(63) | 1),
        extensions=[basic(), usage(5, 6), Extension(SKI, encode(0x04, key.identifier))],
    )
    if issuer is not None:
        made.set(_authority_key(issuer))
    return made


# -- extensions ---------------------------------------------------------------------------------------


@mutation
def leaf_usage(world: World) -> None:
    chosen = world.rng.choice(
        (
            (CLIENT_AUTH,),
            (SERVER_AUTH,),
            (ANY_PURPOSE,),
            (),
            ("1.2.3.4",),
            (CLIENT_AUTH, ANY_PURPOSE),
            ("1.3.6.1.5.5.7.3.3", "1.3.6.1.5.5.7.3.9"),
        )
    )
    world.leaf.set(purposes(*chosen, critical=world.rng.random() < 0.4))


@mutation
def leaf_without_usage(world: World) -> None:
    world.leaf.drop(EKU)
    if world.rng.random() < 0.5:
        world.leaf.drop(KEY_USAGE)


@mutation
def ca_usage(world: World) -> None:
    chosen = world.rng.choice(
        ((CLIENT_AUTH,), (SERVER_AUTH,), (ANY_PURPOSE,), (), ("1.2.3.4",), (SERVER_AUTH, CLIENT_AUTH))
    )
    world.ca().set(purposes(*chosen, critical=world.rng.random() < 0.4))


@mutation
def ca_key_usage(world: World) -> None:
    world.ca().set(
        usage(
            *world.rng.choice(((0,), (6,), (5,), (), (0, 2, 5), (7, 8), (5, 7))),
            critical=world.rng.random() < 0.7,
        )
    )


@mutation
def ca_without_key_usage(world: World) -> None:
    world.ca().drop(KEY_USAGE)


@mutation
def leaf_key_usage(world: World) -> None:
    world.leaf.set(usage(*world.rng.choice(((2,), (0, 2), (), (4,), (5,), (8,), (4, 8)))))


@mutation
def ca_basic_constraints(world: World) -> None:
    ca = world.ca()
    match world.rng.randrange(6):
        case 0:
            ca.drop(BASIC)
        case 1:
            ca.set(basic(None))
        case 2:
            ca.set(basic(False))
        case 3:
            ca.set(basic(True, critical=False))
        case 4:
            ca.set(basic(None, 1))
        case 5:
            ca.set(basic(False, 0, critical=False))


@mutation
def path_length(world: World) -> None:
    world.ca().set(basic(True, world.rng.choice((0, 0, 1, 2, 5, 1 << 40))))


@mutation
def leaf_is_ca(world: World) -> None:
    world.leaf.set(basic(True, world.rng.choice((None, 0))))


@mutation
def leaf_basic_constraints(world: World) -> None:
    if world.rng.random() < 0.5:
        world.leaf.drop(BASIC)
    else:
        world.leaf.set(basic(False, world.rng.choice((None, 0, 3)), critical=world.rng.random() < 0.5))


@mutation
def key_identifiers(world: World) -> None:
    found = world.any()
    match world.rng.randrange(6):
        case 0:
            found.drop(AKI)
        case 1:
            found.drop(SKI)
        case 2:
            found.set(Extension(AKI, sequence(encode(0x80, b"other"))))
        case 3:
            found.set(Extension(SKI, encode(0x04, b"other")))
        case 4:
            found.set(Extension(AKI, sequence()))
        case 5:
            issuer = encode(0xA1, encode(0xA4, world.root.subject))
            found.set(Extension(AKI, sequence(issuer, encode(0x82, encode_integer(7)))))


@mutation
def more_extensions(world: World) -> None:
    found = world.any()
    url = encode(0x86, b"http://example.com/crl")
    for extension in world.rng.sample(
        [
            Extension(CRL, sequence(sequence(encode(0xA0, encode(0xA0, url))))),
            Extension(AIA, sequence(sequence(oid("1.3.6.1.5.5.7.48.1"), url))),
            Extension("2.5.29.18", sequence(dns("issuer.example.com"))),
            Extension("1.2.3.4.5", b"\x05\x00"),
            Extension("2.16.840.1.113730.1.13", encode(0x16, b"OpenSSL Generated Certificate")),
            Extension("1.3.6.1.5.5.7.1.24", sequence(integer(5))),
            Extension("1.3.6.1.4.1.11129.2.4.2", encode(0x04, b"\x00\x00")),
            Extension("2.5.29.46", sequence(sequence(encode(0xA0, encode(0xA0, url))))),
            policies("1.2.3.4"),
        ],
        2,
    ):
        found.set(extension)


@mutation
def no_extensions(world: World) -> None:
    found = world.ca()
    found.extensions = []
    if world.rng.random() < 0.6:
        found.version = world.rng.choice((None, 0, 1))


@mutation
def another_version(world: World) -> None:
    world.any().version = world.rng.choice((None, 0, 1, 3, 7, -1))


# -- criticality ----------------------------------------------------------------------------------------


@mutation
def critical_extension(world: World) -> None:
    found = world.any()
    url = encode(0x86, b"http://example.com/")
    found.set(
        world.rng.choice(
            (
                Extension("1.2.3.4", b"\x05\x00", True),
                Extension("2.5.29.46", sequence(), True),
                Extension("2.5.29.9", sequence(), True),
                Extension("1.3.6.1.5.5.7.1.24", sequence(integer(5)), True),
                Extension("2.16.840.1.113730.1.1", bit_string(b"\x40", 6), True),
                Extension(AIA, sequence(sequence(oid("1.3.6.1.5.5.7.48.1"), url)), True),
                Extension(CRL, sequence(sequence(encode(0xA0, encode(0xA0, url)))), True),
                Extension(INHIBIT_ANY, integer(0), True),
                policies("1.2.3.4", critical=True),
                Extension("2.5.29.18", sequence(dns("example.com")), True),
                Extension("2.5.29.16", sequence(), True),
                Extension("1.3.6.1.5.5.7.1.11", sequence(), True),
            )
        )
    )


@mutation
def critical_key_identifier(world: World) -> None:
    found = world.any()
    wanted = world.rng.choice((SKI, AKI))
    extension = found.get(wanted) or Extension(AKI, sequence(encode(0x80, b"id")))
    found.set(replace(extension, critical=True))


@mutation
def flipped_criticality(world: World) -> None:
    found = world.any()
    extension = world.rng.choice(found.extensions or [basic()])
    found.set(replace(extension, critical=not extension.critical))


@mutation
def stray_with_critical_extension(world: World) -> None:
    stray = _authority(world.rng, world.now, "stray", pool()["p256-6"], None)
    stray.set(
        world.rng.choice((Extension("1.2.3.4", b"\x05\x00", True), Extension(SKI, encode(0x04, b"x"), True)))
    )
    world.extra.append(stray)


# -- names ------------------------------------------------------------------------------------------------


def _wild(host: str) -> str:
    return "*." + host.partition(".")[2] if "." in host else "*"


@mutation
def odd_dns_names(world: World) -> None:
    host = world.host
    choices = [
        (host + ".",),
        (host.upper(),),
        (_wild(host),),
        ("*.*." + host.partition(".")[2],),
        ("*",),
        ("",),
        (".",),
        ("." + host,),
        (host.replace(".", "..", 1),),
        ("a" * 64 + ".example.com", host),
        ("a" * 64 + ".example.com",),
        ("_" + host, host),
        ("-" + host,),
        ("d*.example.com",),
        ("**.example.com",),
        (host + "\x00.evil.example",),
        (host, "bad name.example"),
        (host[:-1],),
        ("xn--n3h.com", host),
        ("sub." + host,),
        ("*." + host,),
        (host, host),
        (f" {host}",),
    ]
    world.leaf.set(san(*map(dns, world.rng.choice(choices))))


@mutation
def address_as_dns_name(world: World) -> None:
    world.host = world.rng.choice(("10.0.0.1", "fd00::1"))
    names = [dns(world.host)]
    match world.rng.randrange(4):
        case 0:
            names.append(address(world.host))
        case 1:
            names = [address(world.host), dns("10.9.9.9")]
    world.leaf.set(san(*names))


@mutation
def odd_addresses(world: World) -> None:
    world.host = world.rng.choice(("10.0.0.1", "127.0.0.1", "fd00::1", "::ffff:10.0.0.1"))
    packed = ipaddress.ip_address(world.host).packed
    choices = [
        packed,
        bytes(10) + b"\xff\xff" + packed if len(packed) == 4 else packed[-4:],
        packed[:-1],
        packed + b"\0",
        bytes(len(packed)),
        b"",
        packed + b"\xff" * len(packed),
    ]
    world.leaf.set(san(general_name(ADDRESS, world.rng.choice(choices))))


@mutation
def no_names(world: World) -> None:
    match world.rng.randrange(4):
        case 0:
            world.leaf.drop(SAN)
        case 1:
            world.leaf.set(san())
        case 2:
            world.leaf.set(san(critical=True))
        case 3:
            world.leaf.drop(SAN)
            world.leaf.subject = name((CN, world.host))


@mutation
def other_kinds_of_names(world: World) -> None:
    other = sequence(oid("1.2.3.4"), encode(0xA0, encode(0x0C, b"x")))[2:]
    kinds = [
        general_name(EMAIL, "root@example.com"),
        general_name(EMAIL, "not a mailbox"),
        general_name(EMAIL, '"quoted string"@example.com'),
        general_name(EMAIL, "röot@example.com"),
        general_name(URI, "https://db.example.com:2379/path"),
        general_name(URI, "spiffe://cluster.local/ns/etcd"),
        general_name(URI, "urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6"),
        general_name(URI, "https://10.0.0.1/"),
        general_name(URI, "http://[fd00::1]:80/"),
        general_name(URI, "https://bad host/"),
        general_name(URI, "https://example.com./"),
        general_name(URI, "%zz"),
        general_name(URI, "http://%zz/"),
        general_name(URI, "://"),
        general_name(URI, "relative/path"),
        general_name(URI, ""),
        general_name(URI, "https://user:pw@db.example.com/?q#f"),
        general_name(URI, "https://exa%6dple.com/"),
        general_name(URI, "https://example.com:port/"),
        encode(DIRECTORY, name((CN, "directory"))),
        general_name(REGISTERED, oid("1.2.3.4")[2:]),
        general_name(OTHER, other),
        general_name(0xA3, b""),
        general_name(0x85, b""),
        general_name(0x89, b"x"),
    ]
    names = world.rng.sample(kinds, world.rng.choice((1, 1, 2)))
    if world.rng.random() < 0.8:
        names.insert(world.rng.randrange(len(names) + 1), _named(world.host))
    world.leaf.set(san(*names, critical=world.rng.random() < 0.3))


@mutation
def non_ascii_name(world: World) -> None:
    name_ = world.rng.choice((dns("exämple.com"), general_name(DNS, "ex\xff.com"), dns("b\x7f.com")))
    world.leaf.set(san(_named(world.host), name_))


@mutation
def another_host(world: World) -> None:
    world.host = world.rng.choice(
        (
            "db.example.com.",
            "DB.Example.COM",
            "other.example.com",
            "sub.db.example.com",
            "example.com",
            "10.0.0.2",
            "::ffff:10.0.0.1",
            "spare.example.com",
            "192.0.2.1",
            "::ffff:192.0.2.1",
            "a_b.example.com",
            "xn--n3h.com",
        )
    )


@mutation
def ca_with_names(world: World) -> None:
    world.ca().set(san(dns("ca.example.com"), critical=world.rng.random() < 0.3))


@mutation
def subjects(world: World) -> None:
    found = world.any()
    found.subject = world.rng.choice(
        (
            name(),
            name((CN, ""), tag=0x13),
            name((CN, "a" * 80)),
            name((C, "DE"), (O, "etcd"), tag=0x13),
            name((C, "GER"), (O, "etcd"), tag=0x13),
            name((CN, "under_score"), tag=0x13),
            name((CN, "T61"), tag=0x14),
            name((CN, "12 34"), tag=0x12),
            name((CN, "ab"), tag=0x1E),
            name((CN, "ascii"), tag=0x16),
            name(("1.2.3.4.5.6", "private")),
            name(("0.9.2342.19200300.100.1.25", "example"), tag=0x16),
            sequence(encode(0x31, sequence(oid(CN), encode(0x0C, b"\xff\xfe")))),
            sequence(encode(0x31, sequence(oid(CN), encode(0x04, b"octets")))),
            sequence(encode(0x31, sequence(oid(CN), encode(0x1E, b"\xff\xfe")))),
            sequence(encode(0x31, sequence(oid(CN), encode(0x1C, b"\0\0\0a")))),
            sequence(encode(0x31, sequence(oid(CN), integer(5)))),
            sequence(encode(0x31, b"")),
            sequence(
                encode(0x31, sequence(oid(CN), encode(0x0C, b"a")) + sequence(oid(O), encode(0x0C, b"b")))
            ),
        )
    )


@mutation
def issuer_in_another_encoding(world: World) -> None:
    below = world.below(world.ca())
    issuer = below.issuer or below
    below.issuer_name = issuer.subject.replace(b"\x0c\x04etcd", b"\x13\x04etcd")
    if world.rng.random() < 0.3:
        below.issuer_name = issuer.subject.replace(b"etcd", b"ETCD")


# -- constraints ----------------------------------------------------------------------------------------


def _subtrees(world: World) -> tuple[bytes, ...]:
    choices = [
        dns("example.com"),
        dns(".example.com"),
        dns("db.example.com"),
        dns("EXAMPLE.com"),
        dns("com"),
        dns("ple.com"),
        dns(""),
        dns("a-b.example.com"),
        dns("svc.cluster.local"),
        dns("localhost"),
        dns("other.example"),
        network("10.0.0.0/8"),
        network("10.0.0.0/24"),
        network("10.0.0.7/24"),
        network("0.0.0.0/0"),
        network("192.0.2.0/24"),
        network("127.0.0.0/8"),
        network("fd00::/8"),
        network("::/0"),
        network("::ffff:10.0.0.0/104"),
        general_name(EMAIL, "example.com"),
        general_name(EMAIL, "root@example.com"),
        general_name(EMAIL, ".example.com"),
        general_name(EMAIL, "nobody@elsewhere.example"),
        general_name(URI, "example.com"),
        general_name(URI, ".example.com"),
        general_name(URI, "cluster.local"),
    ]
    return tuple(world.rng.sample(choices, world.rng.choice((1, 2, 3, 6))))


@mutation
def permitted_names(world: World) -> None:
    world.ca().set(constraints(permitted=_subtrees(world), critical=world.rng.random() < 0.7))


@mutation
def excluded_names(world: World) -> None:
    world.ca().set(constraints(excluded=_subtrees(world), critical=world.rng.random() < 0.7))


@mutation
def permitted_and_excluded(world: World) -> None:
    world.ca().set(constraints(_subtrees(world), _subtrees(world), critical=world.rng.random() < 0.7))


@mutation
def fitting_constraints(world: World) -> None:
    permitted: list[bytes] = [dns("example.com"), dns("localhost"), dns("cluster.local")]
    permitted += [network("10.0.0.0/8"), network("192.0.2.0/24"), network("127.0.0.0/8"), network("fd00::/8")]
    world.ca().set(constraints(tuple(permitted)))


@mutation
def other_kinds_of_constraints(world: World) -> None:
    other = sequence(oid("1.2.3.4"), encode(0xA0, encode(0x0C, b"x")))[2:]
    kinds = (
        encode(DIRECTORY, name((O, "etcd"))),
        encode(DIRECTORY, name((O, "elsewhere"))),
        general_name(OTHER, other),
        general_name(REGISTERED, oid("1.2.3.4")[2:]),
        general_name(0xA3, b""),
    )
    chosen: tuple[bytes, ...] = (world.rng.choice(kinds),)
    if world.rng.random() < 0.4:
        chosen += (_named(world.host) if ":" not in world.host and not world.host[0].isdigit() else dns("x"),)
    critical = world.rng.random() < 0.6
    permitted, excluded = (chosen, ()) if world.rng.random() < 0.5 else ((), chosen)
    world.ca().set(constraints(permitted, excluded, critical=critical))


@mutation
def wildcard_over_excluded(world: World) -> None:
    world.host = "db.example.com"
    world.leaf.set(san(dns("*.example.com")))
    excluded = world.rng.choice(
        ("db.example.com", "x.example.com", "example.com", ".example.com", "a.b.example.com")
    )
    world.ca().set(constraints(excluded=(dns(excluded),)))


@mutation
def names_under_constraints(world: World) -> None:
    """Names that cannot be compared."""
    strange = world.rng.choice(
        (
            general_name(URI, "urn:x"),
            general_name(URI, "https://10.0.0.1/"),
            general_name(URI, "https://a.example.com:80/"),
            general_name(URI, "https://A.EXAMPLE.com/"),
            general_name(URI, "http://[fd00::1]/"),
            general_name(EMAIL, "no mailbox"),
            general_name(EMAIL, "root@EXAMPLE.com"),
            general_name(EMAIL, "ROOT@example.com"),
            general_name(EMAIL, "root@sub.example.com"),
            general_name(EMAIL, "@example.com"),
            dns("trailing.example.com."),
            dns(".leading.example.com"),
            dns("em..pty.example.com"),
            dns("with space.example.com"),
            dns(""),
            dns("*.example.com"),
        )
    )
    world.leaf.set(san(_named(world.host), strange))
    kind = world.rng.choice(
        (dns("example.com"), general_name(EMAIL, "example.com"), general_name(URI, "example.com"))
    )
    if world.rng.random() < 0.5:
        world.ca().set(constraints(excluded=(kind,)))
    else:
        world.ca().set(constraints((kind, dns("example.com"), dns("localhost"), dns("cluster.local"))))


@mutation
def common_name_under_constraints(world: World) -> None:
    world.leaf.subject = name((CN, "elsewhere.invalid"))
    permitted = (dns("example.com"), dns("localhost"), dns("cluster.local"))
    world.ca().set(constraints(permitted))


@mutation
def self_issued_ca(world: World) -> None:
    """A CA renews its own key: same name, signed with the old key."""
    ca = world.ca()
    below = world.below(ca)
    renewed = world.copy(ca, key=pool()["p256-7"], issuer=ca)
    renewed.set(Extension(SKI, encode(0x04, renewed.key.identifier)))
    renewed.set(_authority_key(ca))
    if world.rng.random() < 0.6:
        renewed.set(san(dns(world.rng.choice(("ca.example.com", "ca.elsewhere.example")))))
    below.issuer = renewed
    below.set(_authority_key(renewed))
    world.line.insert(world.line.index(ca), renewed)
    match world.rng.randrange(4):
        case 0:
            ca.set(constraints((dns("example.com"), dns("localhost"), dns("cluster.local"))))
        case 1:
            ca.set(constraints(excluded=(dns("elsewhere.example"),)))
        case 2:
            ca.set(basic(True, 0))
        case 3:
            renewed.set(constraints(excluded=(dns("ca.elsewhere.example"),)))


@mutation
def malformed_constraints(world: World) -> None:
    bad = world.rng.choice(
        (
            sequence(),
            sequence(encode(0xA0, b"")),
            sequence(encode(0xA0, sequence(general_name(ADDRESS, b"\x0a\0\0\0")))),
            sequence(encode(0xA0, sequence(general_name(ADDRESS, b"\x0a\0\0\0\xff\0\xff\0")))),
            sequence(encode(0xA0, sequence(dns("bad name")))),
            sequence(encode(0xA0, sequence(dns("trailing.example.com.")))),
            sequence(encode(0xA0, sequence(dns("*.example.com")))),
            sequence(encode(0xA0, sequence(general_name(EMAIL, "a b@c")))),
            sequence(encode(0xA0, sequence(general_name(URI, "10.0.0.1")))),
            sequence(encode(0xA0, sequence(dns("exämple.com")))),
            sequence(encode(0xA1, sequence(dns("x.example"))), encode(0xA0, sequence(dns("example.com")))),
            sequence(encode(0xA0, sequence(dns("example.com"), encode(0x80, b"\x00")))),
            sequence(encode(0xA0, sequence(dns("example.com"), encode(0x81, b"\x05")))),
            sequence(encode(0xA0, sequence(dns("example.com")))) + b"\x05\x00",
        )
    )
    found = world.rng.choice((world.ca(), world.leaf))
    found.set(Extension(CONSTRAINTS, bad, world.rng.random() < 0.5))


# -- policies -------------------------------------------------------------------------------------------


@mutation
def required_policies(world: World) -> None:
    world.ca().set(policy_constraints(explicit=world.rng.choice((0, 0, 1, 2))))
    if world.rng.random() < 0.6:
        for found in world.line[:-1]:
            if world.rng.random() < 0.8:
                found.set(
                    policies(
                        *world.rng.choice(
                            (("1.2.3.4",), ("1.2.3.5",), ("2.5.29.32.0",), ("1.2.3.4", "1.2.3.5"))
                        )
                    )
                )


@mutation
def inhibited_any_policy(world: World) -> None:
    ca = world.ca()
    ca.set(Extension(INHIBIT_ANY, integer(world.rng.choice((0, 1, 5))), True))
    ca.set(policy_constraints(explicit=0))
    for found in world.line[:-1]:
        found.set(policies(world.rng.choice(("2.5.29.32.0", "1.2.3.4"))))


@mutation
def mapped_policies(world: World) -> None:
    ca = world.ca()
    one, other = world.rng.sample(("1.2.3.4", "1.2.3.5", "2.5.29.32.0"), 2)
    ca.set(Extension(MAPPINGS, sequence(sequence(oid(one), oid(other))), world.rng.random() < 0.5))
    ca.set(policies("1.2.3.4"))
    ca.set(policy_constraints(world.rng.choice((None, 0)), world.rng.choice((None, 0, 1))))
    for found in world.line[:-1]:
        if found is not ca:
            found.set(policies(world.rng.choice(("1.2.3.4", "1.2.3.5"))))
    if world.rng.random() < 0.5:
        world.root.set(policy_constraints(0, world.rng.choice((None, 0))))


@mutation
def leaf_policies(world: World) -> None:
    world.leaf.set(
        world.rng.choice(
            (
                policies("1.2.3.4", "1.2.3.4"),
                policies(),
                policies("2.5.29.32.0"),
                policy_constraints(0),
                policy_constraints(),
                policy_constraints(-1),
            )
        )
    )


# -- paths ----------------------------------------------------------------------------------------------


@mutation
def another_for_the_same_ca(world: World) -> None:
    """A second certificate for a CA on the path, with a fault; the first is as good as before."""
    ca = world.rng.choice(world.line[1:-1] or world.cas)
    second = world.copy(ca)
    match world.rng.randrange(8):
        case 0:
            second.not_after = world.now - timedelta(days=1)
        case 1:
            second.set(Extension("1.2.3.4", b"\x05\x00", True))
        case 2:
            second.set(basic(False))
        case 3:
            second.digest = "sha1"
        case 4:
            second.set(basic(True, 0))
            second.set(purposes(CLIENT_AUTH))
        case 5:
            second.set(constraints(permitted=(dns("elsewhere.example"),)))
        case 6:
            second.broken_signature = True
        case 7:
            second.key = pool()["p256-6"]
    if world.rng.random() < 0.3 and ca is not world.root:
        world.without.append(ca)
    if world.rng.random() < 0.5:
        world.extra.append(second)
        world.shuffled = world.rng.random() < 0.5
    elif ca in world.roots and world.rng.random() < 0.8:
        world.roots.insert(0, second)
    else:
        world.line.index(ca)
        world.extra.insert(0, second)


@mutation
def cross_signed(world: World) -> None:
    """The root, or an intermediate, is signed by another root as well."""
    ca = world.ca()
    other = _authority(world.rng, world.now, "other root", pool()["p256-7"], None)
    cross = world.copy(ca, issuer=other, issuer_name=None)
    cross.set(_authority_key(other))
    world.extra.append(cross)
    match world.rng.randrange(5):
        case 0:
            world.roots = [other]
        case 1:
            world.roots.append(other)
        case 2:
            world.roots = [other]
            other.not_after = world.now - timedelta(days=1)
        case 3:
            world.roots.append(other)
            ca.not_after = world.now - timedelta(days=1)
        case 4:
            cross.set(Extension("1.2.3.4", b"\x05\x00", True))
            world.roots.append(other)
    world.shuffled = world.rng.random() < 0.5


@mutation
def missing_intermediate(world: World) -> None:
    world.without.extend(world.rng.sample(world.line[1:-1], 1) if world.line[1:-1] else [])


@mutation
def another_root(world: World) -> None:
    other = _authority(
        world.rng, world.now, world.rng.choice(("CA 1", "CA 2", "other")), pool()["p256-7"], None
    )
    world.roots = world.rng.choice(([other], [other, world.root], []))


@mutation
def order(world: World) -> None:
    world.shuffled = True
    world.served_root = world.rng.random() < 0.7


@mutation
def strays(world: World) -> None:
    for number in range(world.rng.choice((1, 3))):
        world.extra.append(_authority(world.rng, world.now, f"stray {number}", pool()["p256-6"], None))
    world.shuffled = world.rng.random() < 0.5


@mutation
def intermediate_as_anchor(world: World) -> None:
    world.roots = [world.rng.choice(world.line[1:])]
    if world.rng.random() < 0.3:
        world.roots.append(world.root)


@mutation
def leaf_as_anchor(world: World) -> None:
    world.roots = [world.leaf]


@mutation
def self_signed_leaf(world: World) -> None:
    world.leaf.issuer = None
    world.leaf.drop(AKI)
    if world.rng.random() < 0.3:
        world.leaf.subject = name((O, "etcd"))
        world.leaf.set(basic(True))
    if world.rng.random() < 0.5:
        world.roots = [world.leaf]
    world.line = [world.leaf, world.root]


@mutation
def counterparts(world: World) -> None:
    """Served twice."""
    world.extra.append(world.any())


@mutation
def two_ways_up(world: World) -> None:
    """Two CAs have signed each other."""
    ca = world.line[1]
    other = _authority(world.rng, world.now, "bridge", pool()["p256-7"], ca)
    back = world.copy(ca, issuer=other, issuer_name=None)
    world.extra.extend((other, back))
    if world.rng.random() < 0.4:
        world.roots = [_root_of(world, other)]
    world.shuffled = world.rng.random() < 0.5


def _root_of(world: World, ca: Certificate) -> Certificate:
    return world.copy(ca, issuer=None, issuer_name=None)


@mutation
def many_namesakes(world: World) -> None:
    """More candidates than Go tries, or nearly."""
    ca = world.rng.choice(world.line[1:])
    for _ in range(world.rng.choice((20, 98, 105, 130))):
        world.extra.append(world.copy(ca, key=pool()["p256-6"]))
    if world.rng.random() < 0.5:
        world.extra, world.line[1:1] = world.extra[:5], world.extra[5:]


@mutation
def same_name_below(world: World) -> None:
    """Leaf and CA have one name."""
    world.leaf.subject = world.line[1].subject


@mutation
def wrong_issuer_name(world: World) -> None:
    world.rng.choice(world.line[:-1]).issuer_name = name((CN, "nobody"))


# -- times ----------------------------------------------------------------------------------------------


@mutation
def leaf_times(world: World) -> None:
    _times(world, world.leaf)


@mutation
def ca_times(world: World) -> None:
    _times(world, world.ca())


def _times(world: World, found: Certificate) -> None:
    now = world.now
    found.not_before, found.not_after = world.rng.choice(
        (
            (now - timedelta(days=20), now - timedelta(hours=2)),
            (now + timedelta(hours=2), now + timedelta(days=20)),
            (now - timedelta(days=20), now + timedelta(hours=2)),
            (now - timedelta(days=20), now + timedelta(days=8000)),
            (now + timedelta(days=20), now - timedelta(days=20)),
            (now - timedelta(days=9000), now + timedelta(days=3)),
        )
    )


@mutation
def generalized(world: World) -> None:
    world.any().time = generalized_time


@mutation
def odd_times(world: World) -> None:
    def written(moment: datetime, form: int) -> bytes:
        text = moment.strftime("%Y%m%d%H%M%S")
        return (
            encode(0x17, text[2:12].encode() + b"Z"),
            encode(0x17, text[2:].encode() + b"+0100"),
            encode(0x18, text.encode() + b".5Z"),
            encode(0x18, text.encode()),
            encode(0x17, text[2:].encode()),
            encode(0x17, text[2:].encode() + b"+0000"),
            encode(0x18, b"00000101000000Z"),
            encode(0x17, b"991332000000Z"),
            encode(0x18, text[:-2].encode() + b"60Z"),
            encode(0x16, text.encode()),
        )[form]

    form = world.rng.randrange(10)
    world.any().time = lambda moment: written(moment, form)


# -- keys -----------------------------------------------------------------------------------------------


@mutation
def leaf_key(world: World) -> None:
    labels = [label for label in pool() if not label.startswith("p256-")]
    world.leaf.key = pool()[world.rng.choice(labels)]


@mutation
def ca_key(world: World) -> None:
    labels = [label for label, key in pool().items() if key.private is not None and label != "x25519"]
    ca = world.ca()
    ca.key = pool()[world.rng.choice(labels)]
    if world.rng.random() < 0.8:
        ca.set(Extension(SKI, encode(0x04, ca.key.identifier)))
        world.below(ca).set(_authority_key(ca))


@mutation
def stray_key(world: World) -> None:
    labels = [label for label in pool() if not label.startswith("p256-")]
    stray = _authority(world.rng, world.now, "stray", pool()[world.rng.choice(labels)], world.root)
    world.extra.append(stray)


# -- signatures -----------------------------------------------------------------------------------------


@mutation
def digests(world: World) -> None:
    ca = world.ca()
    if world.rng.random() < 0.6:
        ca.key = pool()["rsa2048"]
    signed = world.rng.choice(world.signed_by(ca) or world.line)
    signed.digest = world.rng.choice(("md5", "sha1", "sha224", "sha384", "sha512", "sha3-256"))


@mutation
def pss(world: World) -> None:
    ca = world.ca()
    ca.key = pool()["rsa2048"]
    signed = world.rng.choice(world.signed_by(ca) or world.line)
    signed.digest, mask, salt = world.rng.choice(
        (
            ("sha256", "sha256", 32),
            ("sha384", "sha384", 48),
            ("sha512", "sha512", 64),
            ("sha256", "sha256", 20),
            ("sha256", "sha1", 32),
            ("sha1", "sha1", 20),
        )
    )
    signed.pss = (mask, salt)


@mutation
def broken_signature(world: World) -> None:
    world.any().broken_signature = True


@mutation
def algorithms_differ(world: World) -> None:
    world.any().outer_algorithm = sequence(oid("1.2.840.10045.4.3.3"))


@mutation
def odd_algorithm(world: World) -> None:
    found = world.any()
    found.algorithm = world.rng.choice(
        (
            sequence(oid("1.2.840.10045.4.3.2"), b"\x05\x00"),
            sequence(oid("1.2.3.4")),
            sequence(oid("1.3.101.112"), b"\x05\x00"),
            sequence(b"\x05\x00"),
            sequence(oid("1.2.840.113549.1.1.10")),
        )
    )


@mutation
def signed_by_another(world: World) -> None:
    below = world.rng.choice(world.line[:-1])
    issuer = below.issuer
    if issuer is not None:
        below.issuer = world.copy(issuer, key=pool()["p256-6"])


# -- encodings ------------------------------------------------------------------------------------------


@mutation
def serial_numbers(world: World) -> None:
    world.any().serial = world.rng.choice(
        (
            integer(0),
            integer(-1),
            integer(-5),
            integer(-(1 << 150)),
            integer(1 << 158),
            integer(1 << 160),
            integer(1 << 400),
            encode(0x02, b"\x00\x01"),
            encode(0x02, b"\xff\xff"),
            encode(0x02, b""),
            encode(0x0A, b"\x05"),
        )
    )


@mutation
def stray_serial(world: World) -> None:
    stray = _authority(world.rng, world.now, "stray", pool()["p256-6"], None)
    stray.serial = integer(-7)
    if world.rng.random() < 0.5:
        world.extra.append(stray)
    else:
        world.roots.append(stray)


@mutation
def duplicate_extension(world: World) -> None:
    found = world.any()
    if found.extensions:
        found.extensions.append(replace(world.rng.choice(found.extensions)))


@mutation
def explicit_default(world: World) -> None:
    """criticality FALSE is written out, which DER forbids and Go accepts."""
    extension = sequence(oid("1.2.3.4.5"), boolean(False), encode(0x04, b"\x05\x00"))
    found = world.any()
    if found.extensions:
        found.edit.append(lambda tbs: _with_extension(tbs, extension))


def _with_extension(tbs: bytes, extension: bytes) -> bytes:
    from pytest_etcdtls.pki.go_parser import children

    *fields, last = children(tbs)
    if last[:1] != b"\xa3":
        return tbs
    (extensions,) = children(last)
    return sequence(*fields, encode(0xA3, sequence(*children(extensions), extension)))


@mutation
def unique_identifiers(world: World) -> None:
    found = world.any()
    extensions, found.extensions = found.extensions, []
    identifiers = encode(0x81, b"\0\1") + encode(0x82, b"\0\2")
    encoded = encode(0xA3, sequence(*(one.encoded() for one in extensions)))
    found.tail = world.rng.choice((identifiers + encoded, encoded + b"\x05\x00", encoded + identifiers))


@mutation
def trailing_data(world: World) -> None:
    world.appended = world.rng.choice((b"\0", b"\x05\x00", b"\x30"))


# -- malformed ------------------------------------------------------------------------------------------

_GARBAGE = (
    b"",
    b"\x05\x00",
    b"\x30",
    b"\x30\x80\x00\x00",
    b"\x30\x81\x01\x00",
    b"\x31\x00",
    b"\x04\x00",
    b"\x02\x01\x05",
    b"\x30\x03\x02\x01\x05",
    b"\x30\x04\x80\x02\x00\x00",
    b"\x03\x02\x09\x00",
    b"\x03\x01\x00",
    b"\x01\x01\x01",
    b"\x30\x03\x01\x01\x01",
    b"\x30\x06\x01\x01\xff\x02\x01\xff",
    b"\x30\x05\x30\x03\x06\x01\x80",
    b"\x30\x03\x06\x01\x80",
    b"\x30\x84\x00\x00\x00\x01\x00",
    b"\xff\xff\xff",
)


@mutation
def malformed_extension(world: World) -> None:
    found = world.any()
    extension = world.rng.choice(
        (
            *(SKI, KEY_USAGE, SAN, BASIC, CONSTRAINTS, CRL, POLICIES, MAPPINGS, AKI, POLICY_CONSTRAINTS, EKU),
            *(INHIBIT_ANY, AIA, "2.5.29.18", "2.5.29.46", "2.5.29.9", "2.5.29.16", "1.3.6.1.5.5.7.1.24"),
        )
    )
    found.set(Extension(extension, world.rng.choice(_GARBAGE), world.rng.random() < 0.2))


@mutation
def extension_with_a_tail(world: World) -> None:
    found = world.any()
    if found.extensions:
        extension = world.rng.choice(found.extensions)
        found.set(replace(extension, value=extension.value + b"\x05\x00"))


@mutation
def truncated_extension(world: World) -> None:
    found = world.any()
    if found.extensions:
        extension = world.rng.choice(found.extensions)
        found.set(replace(extension, value=extension.value[:-1]))


@mutation
def flipped_octet(world: World) -> None:
    """One octet of the signed part is another; it is signed all the same."""
    found = world.any()
    at, mask = world.rng.random(), 1 << world.rng.randrange(8)

    def flip(tbs: bytes) -> bytes:
        place = 4 + int(at * (len(tbs) - 4))
        return tbs[:place] + bytes((tbs[place] ^ mask,)) + tbs[place + 1 :]

    found.edit.append(flip)


@mutation
def critical_field(world: World) -> None:
    bad = world.rng.choice((encode(0x01, b"\x01"), encode(0x01, b""), encode(0x02, b"\x01")))
    extension = sequence(oid("1.2.3.4.5"), bad, encode(0x04, b"\x05\x00"))
    found = world.any()
    if found.extensions:
        found.edit.append(lambda tbs: _with_extension(tbs, extension))
