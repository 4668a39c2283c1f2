"""Identities made with the key of a CA that etcd trusts: bad ones, and the good twin of each.

All of one CA are made from one key and differ from their twin in one point only. Unless told otherwise,
good ones have no subjectAltName, so that etcd's SAN rule lets them in from any address.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import timedelta
from types import MappingProxyType
from typing import Final

from cryptography import x509

from pytest_etcdtls.pki import recipes
from pytest_etcdtls.pki.authority import CertificateAuthority
from pytest_etcdtls.pki.extensions import general_name
from pytest_etcdtls.pki.identity import Identity, PrivateKey
from pytest_etcdtls.pki.profile import AUTHORITY, CLIENT, KeyType, Profile, generate_key
from pytest_etcdtls.pki.untrusted import COMMON_NAME

WRONG_COMMON_NAME: Final = "pytest-etcdtls-wrong-cn"
WRONG_ADDRESS: Final = "192.0.2.1"
"""An address of nobody (RFC 5737). It is judged at once; for a DNS name etcd would ask its resolver."""

TWINS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "expired": "minted",
        "not-yet-valid": "minted",
        "server-auth-only": "minted",
        "wrong-cn": "minted",
        "wrong-hostname": "minted",
        "wrong-san": "minted",
        "intermediate-missing": "intermediate-sent",
    }
)
"""The good identity that each bad one differs from in one point only."""

MINTED_NAMES: Final = ("minted", *TWINS, "intermediate-sent")
"""All names that :func:`mint` knows."""

_VALIDITY = {"expired": recipes.EXPIRED, "not-yet-valid": recipes.NOT_YET_VALID}
_ONE_DAY = timedelta(days=1)
_SUB_CA = "pytest-etcdtls intermediate CA"


def mint(
    authority: CertificateAuthority,
    name: str,
    *,
    key: PrivateKey | None = None,
    common_name: str = COMMON_NAME,
    subject_alt_names: tuple[str, ...] = (),
    ca_files: tuple[str, str] = ("ca.crt", "ca.key"),
) -> Identity:
    """Return one identity, valid for a day unless its fault is another validity.

    Args:
        authority: the CA that signs.
        name: one of :data:`MINTED_NAMES`.
        key: the leaf's; ``None`` for a new one.
        common_name: of all but ``wrong-cn``. Where etcd admits some names only, one of those.
        subject_alt_names: of all but ``wrong-san`` and ``wrong-hostname``, which has none. Where etcd admits
            some hostnames only, one of those and, on a peer port, our address as it sees it.
        ca_files: paths of the CA's certificate and key, for the recipe.

    Raises:
        ValueError: if the name is unknown.
    """
    return mint_all(
        authority,
        (name,),
        key=key,
        common_name=common_name,
        subject_alt_names=subject_alt_names,
        ca_files=ca_files,
    )[name]


def mint_all(
    authority: CertificateAuthority,
    names: Iterable[str] = MINTED_NAMES,
    *,
    key: PrivateKey | None = None,
    common_name: str = COMMON_NAME,
    subject_alt_names: tuple[str, ...] = (),
    ca_files: tuple[str, str] = ("ca.crt", "ca.key"),
) -> dict[str, Identity]:
    """Return several identities of one key, by name; the arguments are those of :func:`mint`.

    Raises:
        ValueError: if a name is unknown.
    """
    key = key or generate_key(KeyType.ECDSA_P256)
    profiles = _profiles(common_name, subject_alt_names)
    sub_ca: CertificateAuthority | None = None
    minted = {}
    for name in names:
        if name not in profiles:
            raise ValueError(f"unknown identity {name!r}, known are {', '.join(profiles)}")
        below = name.startswith("intermediate")
        if below and sub_ca is None:
            sub_ca = authority.intermediate(
                _SUB_CA, profile=replace(AUTHORITY, valid_for=_ONE_DAY, path_length=0)
            )
        signer = sub_ca if below and sub_ca is not None else authority
        identity = signer.issue(profiles[name], name=name, key=key)
        if name == "intermediate-missing":
            identity = replace(identity, chain=identity.chain[:1])
        recipe = _recipe(name, profiles[name], ca_files)
        minted[name] = replace(identity, origin="minted in memory", recipe=recipe)
    return minted


def revoked(authority: CertificateAuthority, *, serial: int, ca_files: tuple[str, str]) -> Identity:
    """Return a client certificate with the serial number of one that was revoked, valid for a day.

    Args:
        authority: the CA that signs, which has issued the list.
        serial: a number on the list.
        ca_files: paths of the CA's certificate and key, for the recipe.
    """
    profile = replace(CLIENT, common_name=COMMON_NAME, serial_number=serial, valid_for=_ONE_DAY)
    identity = authority.issue(profile, name="revoked", key=generate_key(KeyType.ECDSA_P256))
    recipe = recipes.leaf_recipe("revoked", COMMON_NAME, ca_files, serial=serial)
    return replace(identity, origin="minted in memory", recipe=recipe)


def _profiles(common_name: str, subject_alt_names: tuple[str, ...]) -> dict[str, Profile]:
    good = replace(
        CLIENT,
        common_name=common_name,
        subject_alt_names=subject_alt_names,
        valid_for=_ONE_DAY,
        key_type=KeyType.ECDSA_P256,
    )
    return {
        "minted": good,
        "expired": replace(good, valid_from=-2 * _ONE_DAY),
        "not-yet-valid": replace(good, valid_from=_ONE_DAY),
        "server-auth-only": replace(good, extended_key_usage=("serverAuth",)),
        "wrong-cn": replace(good, common_name=WRONG_COMMON_NAME),
        "wrong-hostname": replace(good, subject_alt_names=()),
        "wrong-san": replace(good, subject_alt_names=(WRONG_ADDRESS,)),
        "intermediate-missing": good,
        "intermediate-sent": good,
    }


def _recipe(name: str, profile: Profile, ca_files: tuple[str, str]) -> tuple[str, ...]:
    signer, sub_ca = ca_files, f"{name}-authority"
    before: tuple[str, ...] = ()
    if name.startswith("intermediate"):
        before = recipes.authority_recipe(sub_ca, _SUB_CA, ca_files)
        signer = (f"{sub_ca}.crt", f"{sub_ca}.key")
    leaf = recipes.leaf_recipe(
        name,
        str(profile.common_name),
        signer,
        usages=recipes.SERVER_USAGES if name == "server-auth-only" else recipes.CLIENT_USAGES,
        subject_alt_name=_names(profile),
        validity=_VALIDITY.get(name),
    )
    after = (f"cat {sub_ca}.crt >> {name}.crt",) if name == "intermediate-sent" else ()
    return (*before, *leaf, *after)


def _names(profile: Profile) -> str | None:
    """Return the subjectAltName in openssl's words."""
    names = [general_name(name) for name in profile.subject_alt_names or ()]
    kinds = ("IP" if isinstance(name, x509.IPAddress) else "DNS" for name in names)
    return ",".join(f"{kind}:{name.value}" for kind, name in zip(kinds, names, strict=True)) or None
