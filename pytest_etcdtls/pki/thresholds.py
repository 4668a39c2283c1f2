"""Thresholds that checks apply in addition to their own limits: those of profiles, and the user's days.

A threshold may be stricter than the check's own limit, and never loosens it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import asdict

RSA_BITS_OF_THE_CHECKS: Final = 2048
"""RSA keys below this are weak without any profile, in bits."""

LIFETIME_OF_THE_CHECKS: Final = 825
"""Days: Apple's limit for server certificates of any CA, also private ones; kubeadm issues for a year."""


class Thresholds(Struct, frozen=True, kw_only=True):
    """What the named profiles allow one check to find; ``None`` where they have no threshold.

    Attributes:
        tls_versions: the only TLS versions that may be accepted.
        cipher_suites: the only cipher suites that may be accepted in TLS 1.2, by their IANA names.
        tls13_cipher_suites: the only ones in TLS 1.3.
        groups: the only key exchange groups that may be accepted. Hybrid groups with ML-KEM are judged only
            if one of them is listed, since older guidelines do not know them.
        groups_one_of: sets of groups; of each set one group must be accepted. One set for each profile.
        keys: the only kinds of public key: ``RSA``, ``Ed25519``, or the name of a curve.
        rsa_bits: the minimum size of an RSA key, in bits.
        signature_hashes: the only hashes of certificate signatures.
        lifetime_days: the maximum validity of a served certificate, in days.
        expiry_days: certificates that end within so many days are warned about.
        sources: profile and section of each threshold, by its name.
    """

    tls_versions: frozenset[str] | None = None
    cipher_suites: frozenset[str] | None = None
    tls13_cipher_suites: frozenset[str] | None = None
    groups: frozenset[str] | None = None
    groups_one_of: tuple[frozenset[str], ...] = ()
    keys: frozenset[str] | None = None
    rsa_bits: int | None = None
    signature_hashes: frozenset[str] | None = None
    lifetime_days: int | None = None
    expiry_days: int | None = None
    sources: Mapping[str, str] = {}

    def given(self) -> dict[str, Any]:
        """Return the thresholds that are set, by name."""
        values = {name: value for name, value in asdict(self).items() if name != "sources"}
        return {name: value for name, value in values.items() if value not in (None, ())}

    def source(self, name: str) -> str:
        """Return profile and section of a threshold, in parentheses after a space; empty if it is not set."""
        return f" ({self.sources[name]})" if name in self.sources else ""


NO_THRESHOLDS: Final = Thresholds()
