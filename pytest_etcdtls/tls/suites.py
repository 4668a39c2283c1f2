"""Cipher suites and groups of TLS, and which of them are weak. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from msgspec import Struct

FALLBACK_SCSV = 0x5600
"""TLS_FALLBACK_SCSV, a signaling value: this hello is a retry with a lower version (RFC 7507)."""

RENEGOTIATION_SCSV = 0x00FF
"""A signaling value: this client supports secure renegotiation (RFC 5746 section 3.3)."""

TLS13_SUITES = (0x1301, 0x1302, 0x1303)
"""AES-128-GCM, AES-256-GCM and ChaCha20-Poly1305, the suites that servers implement in TLS 1.3."""

TLS13_NAMES: Mapping[int, str] = {
    0x1301: "TLS_AES_128_GCM_SHA256",
    0x1302: "TLS_AES_256_GCM_SHA384",
    0x1303: "TLS_CHACHA20_POLY1305_SHA256",
    0x1304: "TLS_AES_128_CCM_SHA256",
    0x1305: "TLS_AES_128_CCM_8_SHA256",
}
"""Every suite of TLS 1.3 in RFC 8446, by number."""

_BROKEN = ("_anon_", "_EXPORT_", "_NULL_", "_RC4_", "_RC2_", "_DES_")


class Weakness(StrEnum):
    """The worst weakness of a suite, worst first."""

    BROKEN = "broken"
    """No authentication, no encryption, or a broken cipher: anon, NULL, EXPORT, RC4, DES."""
    TRIPLE_DES = "triple DES"
    """A cipher with blocks of 64 bits (CVE-2016-2183)."""
    STATIC = "no forward secrecy"
    """No forward secrecy: the server's key decrypts connections that were recorded earlier."""
    CBC = "CBC"
    """A block cipher in CBC mode with the MAC before encryption."""
    NONE = "none"


class CipherSuite(Struct, frozen=True, order=True):
    """A cipher suite of TLS 1.2 or before.

    Attributes:
        code: its number in the IANA registry.
        name: its name there.
    """

    code: int
    name: str

    @property
    def is_forward_secret(self) -> bool:
        """The key exchange is ephemeral and authenticated."""
        return self.name.startswith(("TLS_ECDHE_", "TLS_DHE_"))

    @property
    def weakness(self) -> Weakness:
        """The worst weakness of the suite."""
        if any(word in self.name for word in _BROKEN):
            return Weakness.BROKEN
        if "_3DES_" in self.name:
            return Weakness.TRIPLE_DES
        if not self.is_forward_secret:
            return Weakness.STATIC
        return Weakness.CBC if "_CBC_" in self.name else Weakness.NONE

    @property
    def openssl_name(self) -> str:
        """OpenSSL's name, for ``-cipher``."""
        exchange, _, rest = self.name.removeprefix("TLS_").partition("_WITH_")
        exchange = {"RSA": "", "DH_anon": "ADH-", "ECDH_anon": "AECDH-"}.get(exchange, f"{exchange}-")
        if rest.endswith("CHACHA20_POLY1305_SHA256"):
            rest = "CHACHA20_POLY1305"
        for word, ours in (("3DES_EDE_CBC", "DES_CBC3"), ("AES_", "AES"), ("CAMELLIA_", "CAMELLIA")):
            rest = rest.replace(word, ours)
        return (exchange + rest.replace("RC4_128", "RC4").replace("_CBC_SHA", "_SHA")).replace("_", "-")


_NAMES: Mapping[int, str] = {
    0x0001: "TLS_RSA_WITH_NULL_MD5",
    0x0002: "TLS_RSA_WITH_NULL_SHA",
    0x0003: "TLS_RSA_EXPORT_WITH_RC4_40_MD5",
    0x0004: "TLS_RSA_WITH_RC4_128_MD5",
    0x0005: "TLS_RSA_WITH_RC4_128_SHA",
    0x0006: "TLS_RSA_EXPORT_WITH_RC2_CBC_40_MD5",
    0x0008: "TLS_RSA_EXPORT_WITH_DES40_CBC_SHA",
    0x0009: "TLS_RSA_WITH_DES_CBC_SHA",
    0x000A: "TLS_RSA_WITH_3DES_EDE_CBC_SHA",
    0x000E: "TLS_DH_RSA_EXPORT_WITH_DES40_CBC_SHA",
    0x000F: "TLS_DH_RSA_WITH_DES_CBC_SHA",
    0x0010: "TLS_DH_RSA_WITH_3DES_EDE_CBC_SHA",
    0x0014: "TLS_DHE_RSA_EXPORT_WITH_DES40_CBC_SHA",
    0x0015: "TLS_DHE_RSA_WITH_DES_CBC_SHA",
    0x0016: "TLS_DHE_RSA_WITH_3DES_EDE_CBC_SHA",
    0x0017: "TLS_DH_anon_EXPORT_WITH_RC4_40_MD5",
    0x0018: "TLS_DH_anon_WITH_RC4_128_MD5",
    0x0019: "TLS_DH_anon_EXPORT_WITH_DES40_CBC_SHA",
    0x001A: "TLS_DH_anon_WITH_DES_CBC_SHA",
    0x001B: "TLS_DH_anon_WITH_3DES_EDE_CBC_SHA",
    0x002F: "TLS_RSA_WITH_AES_128_CBC_SHA",
    0x0031: "TLS_DH_RSA_WITH_AES_128_CBC_SHA",
    0x0033: "TLS_DHE_RSA_WITH_AES_128_CBC_SHA",
    0x0034: "TLS_DH_anon_WITH_AES_128_CBC_SHA",
    0x0035: "TLS_RSA_WITH_AES_256_CBC_SHA",
    0x0037: "TLS_DH_RSA_WITH_AES_256_CBC_SHA",
    0x0039: "TLS_DHE_RSA_WITH_AES_256_CBC_SHA",
    0x003A: "TLS_DH_anon_WITH_AES_256_CBC_SHA",
    0x003B: "TLS_RSA_WITH_NULL_SHA256",
    0x003C: "TLS_RSA_WITH_AES_128_CBC_SHA256",
    0x003D: "TLS_RSA_WITH_AES_256_CBC_SHA256",
    0x003F: "TLS_DH_RSA_WITH_AES_128_CBC_SHA256",
    0x0041: "TLS_RSA_WITH_CAMELLIA_128_CBC_SHA",
    0x0043: "TLS_DH_RSA_WITH_CAMELLIA_128_CBC_SHA",
    0x0045: "TLS_DHE_RSA_WITH_CAMELLIA_128_CBC_SHA",
    0x0046: "TLS_DH_anon_WITH_CAMELLIA_128_CBC_SHA",
    0x0067: "TLS_DHE_RSA_WITH_AES_128_CBC_SHA256",
    0x0069: "TLS_DH_RSA_WITH_AES_256_CBC_SHA256",
    0x006B: "TLS_DHE_RSA_WITH_AES_256_CBC_SHA256",
    0x006C: "TLS_DH_anon_WITH_AES_128_CBC_SHA256",
    0x006D: "TLS_DH_anon_WITH_AES_256_CBC_SHA256",
    0x0084: "TLS_RSA_WITH_CAMELLIA_256_CBC_SHA",
    0x0086: "TLS_DH_RSA_WITH_CAMELLIA_256_CBC_SHA",
    0x0088: "TLS_DHE_RSA_WITH_CAMELLIA_256_CBC_SHA",
    0x0089: "TLS_DH_anon_WITH_CAMELLIA_256_CBC_SHA",
    0x009C: "TLS_RSA_WITH_AES_128_GCM_SHA256",
    0x009D: "TLS_RSA_WITH_AES_256_GCM_SHA384",
    0x009E: "TLS_DHE_RSA_WITH_AES_128_GCM_SHA256",
    0x009F: "TLS_DHE_RSA_WITH_AES_256_GCM_SHA384",
    0x00A0: "TLS_DH_RSA_WITH_AES_128_GCM_SHA256",
    0x00A1: "TLS_DH_RSA_WITH_AES_256_GCM_SHA384",
    0x00A6: "TLS_DH_anon_WITH_AES_128_GCM_SHA256",
    0x00A7: "TLS_DH_anon_WITH_AES_256_GCM_SHA384",
    0x00BA: "TLS_RSA_WITH_CAMELLIA_128_CBC_SHA256",
    0x00BC: "TLS_DH_RSA_WITH_CAMELLIA_128_CBC_SHA256",
    0x00BE: "TLS_DHE_RSA_WITH_CAMELLIA_128_CBC_SHA256",
    0x00BF: "TLS_DH_anon_WITH_CAMELLIA_128_CBC_SHA256",
    0x00C0: "TLS_RSA_WITH_CAMELLIA_256_CBC_SHA256",
    0x00C2: "TLS_DH_RSA_WITH_CAMELLIA_256_CBC_SHA256",
    0x00C4: "TLS_DHE_RSA_WITH_CAMELLIA_256_CBC_SHA256",
    0x00C5: "TLS_DH_anon_WITH_CAMELLIA_256_CBC_SHA256",
    0xC001: "TLS_ECDH_ECDSA_WITH_NULL_SHA",
    0xC002: "TLS_ECDH_ECDSA_WITH_RC4_128_SHA",
    0xC003: "TLS_ECDH_ECDSA_WITH_3DES_EDE_CBC_SHA",
    0xC004: "TLS_ECDH_ECDSA_WITH_AES_128_CBC_SHA",
    0xC005: "TLS_ECDH_ECDSA_WITH_AES_256_CBC_SHA",
    0xC006: "TLS_ECDHE_ECDSA_WITH_NULL_SHA",
    0xC007: "TLS_ECDHE_ECDSA_WITH_RC4_128_SHA",
    0xC008: "TLS_ECDHE_ECDSA_WITH_3DES_EDE_CBC_SHA",
    0xC009: "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    0xC00A: "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    0xC00B: "TLS_ECDH_RSA_WITH_NULL_SHA",
    0xC00C: "TLS_ECDH_RSA_WITH_RC4_128_SHA",
    0xC00D: "TLS_ECDH_RSA_WITH_3DES_EDE_CBC_SHA",
    0xC00E: "TLS_ECDH_RSA_WITH_AES_128_CBC_SHA",
    0xC00F: "TLS_ECDH_RSA_WITH_AES_256_CBC_SHA",
    0xC010: "TLS_ECDHE_RSA_WITH_NULL_SHA",
    0xC011: "TLS_ECDHE_RSA_WITH_RC4_128_SHA",
    0xC012: "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA",
    0xC013: "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    0xC014: "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    0xC015: "TLS_ECDH_anon_WITH_NULL_SHA",
    0xC016: "TLS_ECDH_anon_WITH_RC4_128_SHA",
    0xC017: "TLS_ECDH_anon_WITH_3DES_EDE_CBC_SHA",
    0xC018: "TLS_ECDH_anon_WITH_AES_128_CBC_SHA",
    0xC019: "TLS_ECDH_anon_WITH_AES_256_CBC_SHA",
    0xC023: "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256",
    0xC024: "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA384",
    0xC025: "TLS_ECDH_ECDSA_WITH_AES_128_CBC_SHA256",
    0xC026: "TLS_ECDH_ECDSA_WITH_AES_256_CBC_SHA384",
    0xC027: "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256",
    0xC028: "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA384",
    0xC029: "TLS_ECDH_RSA_WITH_AES_128_CBC_SHA256",
    0xC02A: "TLS_ECDH_RSA_WITH_AES_256_CBC_SHA384",
    0xC02B: "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    0xC02C: "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    0xC02D: "TLS_ECDH_ECDSA_WITH_AES_128_GCM_SHA256",
    0xC02E: "TLS_ECDH_ECDSA_WITH_AES_256_GCM_SHA384",
    0xC02F: "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    0xC030: "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    0xC031: "TLS_ECDH_RSA_WITH_AES_128_GCM_SHA256",
    0xC032: "TLS_ECDH_RSA_WITH_AES_256_GCM_SHA384",
    0xC072: "TLS_ECDHE_ECDSA_WITH_CAMELLIA_128_CBC_SHA256",
    0xC073: "TLS_ECDHE_ECDSA_WITH_CAMELLIA_256_CBC_SHA384",
    0xC074: "TLS_ECDH_ECDSA_WITH_CAMELLIA_128_CBC_SHA256",
    0xC075: "TLS_ECDH_ECDSA_WITH_CAMELLIA_256_CBC_SHA384",
    0xC076: "TLS_ECDHE_RSA_WITH_CAMELLIA_128_CBC_SHA256",
    0xC077: "TLS_ECDHE_RSA_WITH_CAMELLIA_256_CBC_SHA384",
    0xC078: "TLS_ECDH_RSA_WITH_CAMELLIA_128_CBC_SHA256",
    0xC079: "TLS_ECDH_RSA_WITH_CAMELLIA_256_CBC_SHA384",
    0xC09C: "TLS_RSA_WITH_AES_128_CCM",
    0xC09D: "TLS_RSA_WITH_AES_256_CCM",
    0xC09E: "TLS_DHE_RSA_WITH_AES_128_CCM",
    0xC09F: "TLS_DHE_RSA_WITH_AES_256_CCM",
    0xC0AC: "TLS_ECDHE_ECDSA_WITH_AES_128_CCM",
    0xC0AD: "TLS_ECDHE_ECDSA_WITH_AES_256_CCM",
    0xCCA8: "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
    0xCCA9: "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    0xCCAA: "TLS_DHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
}
"""Suites of the IANA registry TLS Cipher Suites that use RSA, ECDSA or EdDSA certificates, or none."""

SUITES: tuple[CipherSuite, ...] = tuple(CipherSuite(code, name) for code, name in _NAMES.items())


def suite_name(code: int) -> str:
    """Return the name of a suite, or its number in hexadecimal if it is not a suite of TLS 1.2 or before."""
    return _NAMES.get(code, f"0x{code:04X}")


class GroupKind(StrEnum):
    """The security of a key exchange group."""

    HYBRID = "hybrid"
    """An elliptic curve with ML-KEM: recorded connections stay secret from a later quantum computer."""
    MODERN = "modern"
    """An elliptic curve with at least 128 bits of strength; every client supports one of these."""
    OTHER = "other"
    """Strong enough (112 bits), but not what clients commonly offer."""
    WEAK = "weak"
    """Below 112 bits of strength."""


class NamedGroup(Struct, frozen=True, order=True):
    """A group of the IANA registry TLS Supported Groups.

    Attributes:
        code: its number there.
        name: its name there, which is also what ``openssl s_client -groups`` takes.
    """

    code: int
    name: str
    kind: GroupKind


def _groups(kind: GroupKind, names: Mapping[int, str]) -> tuple[NamedGroup, ...]:
    return tuple(NamedGroup(code, name, kind) for code, name in names.items())


HYBRIDS = _groups(
    GroupKind.HYBRID,
    {0x11EC: "X25519MLKEM768", 0x11EB: "SecP256r1MLKEM768", 0x11ED: "SecP384r1MLKEM1024"},
)
MODERN = _groups(
    GroupKind.MODERN, {29: "x25519", 23: "secp256r1", 24: "secp384r1", 25: "secp521r1", 30: "x448"}
)
OTHERS = _groups(
    GroupKind.OTHER,
    {
        **{21: "secp224r1", 22: "secp256k1"},
        **{26: "brainpoolP256r1", 27: "brainpoolP384r1", 28: "brainpoolP512r1"},
        **{256: "ffdhe2048", 257: "ffdhe3072", 258: "ffdhe4096"},
    },
)
WEAK = _groups(
    GroupKind.WEAK,
    {
        **{1: "sect163k1", 2: "sect163r1", 3: "sect163r2", 4: "sect193r1", 5: "sect193r2"},
        **{15: "secp160k1", 16: "secp160r1", 17: "secp160r2", 18: "secp192k1", 19: "secp192r1"},
    },
)

GROUPS = {group.code: group for group in (*HYBRIDS, *MODERN, *OTHERS, *WEAK)}
"""Every known group, by number."""


def group_name(code: int) -> str:
    """Return the name of a group, or its number in hexadecimal if it is unknown."""
    return GROUPS[code].name if code in GROUPS else f"0x{code:04X}"
