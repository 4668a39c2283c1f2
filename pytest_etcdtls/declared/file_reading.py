"""Reads what there is to know of a member's files. Of a private key nothing is kept; judges nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from cryptography import x509

from pytest_etcdtls.declared.client_files import client_files
from pytest_etcdtls.declared.declaration import Setting
from pytest_etcdtls.declared.effective import effective_of
from pytest_etcdtls.declared.file_facts import BundleFact, ClientFact, FileFact, MemberFiles, PairFact
from pytest_etcdtls.declared.files import exists
from pytest_etcdtls.declared.member import DeclaredMember
from pytest_etcdtls.declared.sides import SIDES, Side, prefix
from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.pki.loading import load_certificates, load_key, load_trust
from pytest_etcdtls.pki.reading import public_key

_HAS_OWNERS = os.name == "posix"


def read_member_files(label: str, told: DeclaredMember) -> MemberFiles:
    """Return what the files of a member are, as far as they are here.

    Args:
        label: of the member.
        told: what it was told to be.
    """
    settings = [told.declaration.settings.get(f"{side}-crl-file") for side in SIDES]
    return MemberFiles(
        label=label,
        pairs=tuple(_pairs(told)),
        bundles=MappingProxyType({side: found for side in SIDES if (found := _bundle(told, side))}),
        clients=tuple(_clients(told)),
        crls=tuple((one, told.crls[one.value]) for one in settings if one and one.value in told.crls),
        data_owner=_data_owner(told),
    )


def read_served(told: DeclaredMember, side: Side) -> tuple[FileFact, tuple[x509.Certificate, ...]] | None:
    """Return the file that a side is told to serve, and its certificates; ``None`` if none is declared.

    Args:
        told: what the member was told to be.
        side: of it.
    """
    if effective_of(told).sides[side].certificate is None:
        return None
    return _certificates(_declared(told, f"{prefix(side)}cert-file"))


def _pairs(told: DeclaredMember) -> Iterator[PairFact]:
    for side, tls in effective_of(told).sides.items():
        p = prefix(side)
        if tls.certificate is not None:
            yield _pair(told, side, f"{p}cert-file", f"{p}key-file", dials=False)
        if tls.dials_with not in (None, tls.certificate):
            yield _pair(told, side, f"{p}client-cert-file", f"{p}client-key-file", dials=True)


def _pair(told: DeclaredMember, side: Side, certificate_name: str, key_name: str, *, dials: bool) -> PairFact:
    certificate, chain = _certificates(_declared(told, certificate_name))
    key, matches = _key(_declared(told, key_name), chain)
    return PairFact(side=side, dials=dials, certificate=certificate, key=key, chain=chain, matches=matches)


def _bundle(told: DeclaredMember, side: Side) -> BundleFact | None:
    name = f"{prefix(side)}trusted-ca-file"
    if effective_of(told).sides[side].trusted_ca is None:
        return None
    file, certificates = _certificates(_declared(told, name), trust=True)
    keys = tuple(_lying(Path(file.path), file.original)) if file.path else ()
    return BundleFact(side=side, file=file, certificates=certificates, keys=keys)


def _lying(bundle: Path, original: bool) -> Iterator[FileFact]:
    """Yield the files beside a bundle that are called as its key would be; they are not opened."""
    for name in dict.fromkeys((f"{bundle.stem}.key", f"{bundle.stem}-key.pem", "ca.key", "ca-key.pem")):
        path = bundle.with_name(name)
        if exists(path):
            yield _with_rights(FileFact(said=f"beside {bundle.name}", path=str(path), original=original))


def _clients(told: DeclaredMember) -> Iterator[ClientFact]:
    for client in client_files(told):
        said = client.said
        certificate, chain = _certificates(_found(FileFact(said=said[0]), client.certificate))
        key, _ = _key(_found(FileFact(said=said[1]), client.key), chain)
        yield ClientFact(name=client.name, certificate=certificate, key=key, chain=chain)


def _declared(told: DeclaredMember, name: str) -> FileFact:
    """Return the file of a setting, not yet looked into."""
    setting = told.declaration.settings.get(name)
    if setting is None or not setting.value:
        return FileFact(said=f"--{name}", absent=f"--{name} is not declared")
    path = told.file(name)
    if path is None:
        return FileFact(said=str(setting), absent=_absent(told, setting))
    fact = _found(FileFact(said=str(setting)), path)
    return replace(fact, original=told.where.is_original(setting.value, path))


def _absent(told: DeclaredMember, setting: Setting) -> str:
    if setting.name in told.others:
        return f"the file of {setting} is not here: what lies there is another member's"
    if told.where.pki_dir is None:
        return f"the file of {setting} is not here: run on the member, or name copies by --etcd-pki-dir"
    return f"the file of {setting} is not under --etcd-pki-dir {told.where.pki_dir}"


def _found(fact: FileFact, path: Path) -> FileFact:
    fact = _with_rights(replace(fact, path=str(path)))
    if not exists(path):
        return replace(fact, absent=f"{path} is not there")
    if not os.access(path, os.R_OK):
        return replace(fact, absent=f"{path} may not be read by this user: run as one who may")
    return fact


def _with_rights(fact: FileFact) -> FileFact:
    if not _HAS_OWNERS or fact.path is None:
        return fact
    try:
        status = os.stat(fact.path)
    except OSError:
        return fact
    return replace(fact, mode=status.st_mode & 0o7777, owner=status.st_uid)


def _certificates(fact: FileFact, *, trust: bool = False) -> tuple[FileFact, tuple[x509.Certificate, ...]]:
    if fact.absent or fact.path is None:
        return fact, ()
    load = load_trust if trust else load_certificates
    try:
        return fact, load(Path(fact.path), option=fact.said)
    except UsageError as error:
        return replace(fact, problem=str(error)), ()


def _key(fact: FileFact, chain: tuple[x509.Certificate, ...]) -> tuple[FileFact, bool | None]:
    if fact.absent or fact.path is None:
        return fact, None
    try:
        # Only the public half is looked at.
        key = load_key(Path(fact.path), option=fact.said, consistent=False)
    except UsageError as error:
        return replace(fact, problem=str(error)), None
    return fact, (key.public_key() == public_key(chain[0])) if chain else None


def _data_owner(told: DeclaredMember) -> int | None:
    directory = told.declaration.text("data-dir")
    if not _HAS_OWNERS or directory is None or not os.path.isabs(directory):
        return None
    try:
        return os.stat(directory).st_uid
    except OSError:
        return None
