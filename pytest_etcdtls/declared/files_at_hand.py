"""Certificates and CAs beside the declared files, and what their paths are on the member.

A remedy that names a flag is of use if it names the file too, and mostly the file lies where the other ones
do. A pair fits a side if its key matches, and it is valid for the hosts and usages of that side. A bundle
fits if it accepts every client that must be accepted, and no other one has fewer CAs.

A member's paths need not be those of this machine: they may be copies, and a container has mounts. So a path
is translated by the declared files that were found: what lies in the directory of one of them, lies in the
declared directory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Final

from cryptography import x509
from msgspec import Struct

from pytest_etcdtls.declared.declaration import FILES, DeclaredMember, exists
from pytest_etcdtls.errors import UnreadableFileError, UsageError
from pytest_etcdtls.pki.certificate import is_for, load_certificates, load_key, public_key, read_pool
from pytest_etcdtls.pki.go_verify import CLIENT_AUTH, find_path, names_host, verified_path
from pytest_etcdtls.process_root import names_in
from pytest_etcdtls.role import Side
from pytest_etcdtls.untrusted import read_regular

MOST_FILES: Final = 200
"""Files that are looked at, since a declared path may be in a directory of anything."""
_SIZE: Final = 256 * 1024
_SUFFIXES: Final = (".crt", ".pem", ".cert", ".cer")


class Pair(Struct, frozen=True):
    """A certificate and its key, by their paths on the member."""

    certificate: str
    key: str


def accepts(bundle: Sequence[x509.Certificate], chain: Sequence[x509.Certificate]) -> bool:
    """Return whether etcd with that bundle accepts a client's chain now: CA, validity, usage."""
    return verified_path(chain[0], chain[1:], bundle, datetime.now(UTC), CLIENT_AUTH) is not None


def has_signed(bundle: Sequence[x509.Certificate], chain: Sequence[x509.Certificate]) -> bool:
    """Return whether a chain leads to a CA of the bundle, whatever else is wrong with it."""
    return find_path(chain[0], chain[1:], bundle, datetime.now(UTC), CLIENT_AUTH) is not None


def trusted_by(file: Path) -> tuple[x509.Certificate, ...]:
    """Return the CAs that etcd has of a bundle; empty if it cannot be read."""
    try:
        return read_pool(read_regular(file, _SIZE)).certificates
    except UnreadableFileError:
        return ()


def path_on_member(member: DeclaredMember, file: Path) -> str | None:
    """Return the path that etcd has for a file of this machine; ``None`` if it does not see the file."""
    file = file.absolute()
    for name in FILES:
        declared, here = member.declaration.text(name), member.file(name)
        if declared and here and here.absolute().parent == file.parent:
            return str(PurePosixPath(declared).parent / file.name)
    if member.paths.pki_dir is not None:
        return None
    if member.paths.working:
        root = member.paths.root
        return f"/{file.relative_to(root)}" if file.is_relative_to(root) else None
    mounts = member.paths.mounts
    for mount in sorted(mounts, key=lambda mount: len(mount.outside), reverse=True):
        if str(file).startswith(f"{mount.outside.rstrip('/')}/"):
            return mount.inside.rstrip("/") + str(file)[len(mount.outside.rstrip("/")) :]
    return None if mounts else str(file)


def pairs_for(member: DeclaredMember, side: Side, hosts: Sequence[str]) -> Iterator[Pair]:
    """Yield the pairs with which the member can serve a side, the one that is named after it first."""
    now = datetime.now(UTC)
    names = ("peer", "member") if side == "peer" else ("server", "etcd")
    for file in sorted(_files(member), key=lambda one: (not one.name.startswith(names), one.name)):
        try:
            leaf = load_certificates(file)[0]
        except UsageError:
            continue
        usages = ("serverAuth", "clientAuth") if side == "peer" else ("serverAuth",)
        fits = all(is_for(leaf, usage) for usage in usages) and all(names_host(leaf, host) for host in hosts)
        if not (fits and leaf.not_valid_before_utc <= now <= leaf.not_valid_after_utc):
            continue
        for key in (file.with_suffix(".key"), file.with_name(f"{file.stem}-key{file.suffix}")):
            paths = [path_on_member(member, one) for one in (file, key)]
            if exists(key) and _matches(leaf, key) and all(paths):
                yield Pair(*(path for path in paths if path))


def bundle_for(
    member: DeclaredMember, chains: Sequence[Sequence[x509.Certificate]], first: Sequence[Path] = ()
) -> str | None:
    """Return the path on the member of the smallest bundle that accepts all these clients.

    Args:
        member: the member.
        chains: of the clients, leaf first; without one, no bundle is known to be right.
        first: files of bundles elsewhere, which come after those beside the declared files.
    """
    fitting = []
    for number, file in enumerate((*_files(member), *first)):
        bundle, path = trusted_by(file), path_on_member(member, file)
        # Go also trusts a leaf that is in the bundle itself: that is no CA of clients.
        if path and bundle and chains and all(map(_is_ca, bundle)):
            has_key = b"PRIVATE KEY" in read_regular(file, _SIZE)
            if not has_key and all(accepts(bundle, chain) for chain in chains):
                fitting.append((len(bundle), number, path))
    return min(fitting)[-1] if fitting else None


def _is_ca(certificate: x509.Certificate) -> bool:
    try:
        return bool(certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca)
    except (x509.ExtensionNotFound, ValueError):
        return False


def _files(member: DeclaredMember) -> Iterator[Path]:
    """Yield the certificate files in the directories of the declared ones, and in ``--etcd-pki-dir``."""
    directories = [here.absolute().parent for name in FILES if (here := member.file(name))]
    if member.paths.pki_dir is not None:
        directories.append(member.paths.pki_dir.absolute())
    left = MOST_FILES
    for directory in dict.fromkeys(directories):
        for file in (directory / name for name in names_in(directory)):
            if left and file.suffix in _SUFFIXES and exists(file):
                left -= 1
                yield file


def _matches(leaf: x509.Certificate, key: Path) -> bool:
    try:
        return load_key(key, consistent=False).public_key() == public_key(leaf)
    except UsageError:
        return False
