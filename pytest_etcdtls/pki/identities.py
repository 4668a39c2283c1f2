"""The made identities, under one roof: those that need only the listener, and those that need a CA's key."""

from __future__ import annotations

from pytest_etcdtls.pki.minted import MINTED_NAMES, TWINS, mint, mint_all, revoked
from pytest_etcdtls.pki.untrusted import COMMON_NAME, foreign_ca, lookalike_ca, self_signed

__all__ = [
    "COMMON_NAME",
    "MINTED_NAMES",
    "TWINS",
    "foreign_ca",
    "lookalike_ca",
    "mint",
    "mint_all",
    "revoked",
    "self_signed",
]
