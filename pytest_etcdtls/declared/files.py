"""The files that a declaration names: their paths on this machine and their content."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import field, replace
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Final

from cryptography import x509

from pytest_etcdtls.dataclass import dataclass
from pytest_etcdtls.declared.declaration import (
    CRLFile,
    DeclaredMember,
    DeclaredPaths,
    Encoding,
    Setting,
    exists,
)
from pytest_etcdtls.declared.effective import SIDES, Side, effective_of, prefix
from pytest_etcdtls.errors import UnreadableFileError, UsageError
from pytest_etcdtls.pki.certificate import (
    MAXIMUM_SIZE,
    load_certificates,
    load_key,
    load_trust,
    pem_blocks,
    public_key,
)
from pytest_etcdtls.untrusted import read_regular


def is_directory(path: Path) -> bool:
    """Return whether a directory exists; ``False`` if its parent is not accessible."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def read_crl(setting: Setting, paths: DeclaredPaths) -> CRLFile:
    """Read a declared CRL file. A missing or invalid file is reported in the result, not raised."""
    path = paths.find(setting.value)
    if path is None:
        return CRLFile(declared=setting.value)
    try:
        data = read_regular(path, MAXIMUM_SIZE)
    except UnreadableFileError:
        return CRLFile(declared=setting.value, found=str(path))
    for encoding, load in (
        (Encoding.PEM, x509.load_pem_x509_crl),
        (Encoding.DER, x509.load_der_x509_crl),
    ):
        with suppress(ValueError):
            crl = load(data)
            return CRLFile(
                declared=setting.value,
                found=str(path),
                encoding=encoding,
                issuer=crl.issuer.rfc4514_string(),
                next_update=crl.next_update_utc,
                serial_numbers=frozenset(one.serial_number for one in crl),
            )
    return CRLFile(declared=setting.value, found=str(path), encoding=Encoding.NEITHER)


HEALTHCHECK: Final = "healthcheck-client"
APISERVER: Final = "apiserver-etcd-client"
ETCDCTL: Final = "etcdctl"
_FILES_NEAR_CLIENTS: Final = ("trusted-ca-file", "cert-file", "peer-trusted-ca-file", "peer-cert-file")
"""The settings in whose files' directories kubeadm's client certificates are searched for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientFiles:
    """The files of one client.

    Attributes:
        name: the name of the client.
        named_by: what names the certificate and the key, for messages.
        certificate: the certificate file, which exists.
        key: the key file, which may be missing.
    """

    name: str
    named_by: tuple[str, str]
    certificate: Path
    key: Path


def client_files(declared: DeclaredMember) -> Iterator[ClientFiles]:
    """Yield the clients whose certificate is on this machine; the most widely accepted one comes first."""
    for name in (HEALTHCHECK, APISERVER):
        for directory in _directories(declared):
            certificate = directory / f"{name}.crt"
            if exists(certificate):
                named_by = (f"kubeadm's {name}",) * 2
                key = directory / f"{name}.key"
                yield ClientFiles(name=name, named_by=named_by, certificate=certificate, key=key)
                break
    variables = declared.declaration.etcdctl
    paths = [variables.get("ETCDCTL_CERT"), variables.get("ETCDCTL_KEY")]
    certificate_file, key_file = (declared.paths.find(path) if path else None for path in paths)
    if certificate_file is not None and key_file is not None:
        named_by = ("ETCDCTL_CERT", "ETCDCTL_KEY")
        yield ClientFiles(name=ETCDCTL, named_by=named_by, certificate=certificate_file, key=key_file)


def _directories(declared: DeclaredMember) -> Iterator[Path]:
    """Yield the directories that may hold kubeadm's files: those of the declared files and their parents."""
    directories = [found.parent for name in _FILES_NEAR_CLIENTS if (found := declared.file(name))]
    if declared.paths.pki_dir is not None:
        directories.append(declared.paths.pki_dir)
    yield from dict.fromkeys([*directories, *(directory.parent for directory in directories)])


def require_directory(directory: Path, option: str) -> None:
    """Check that a path is a directory that this user may access.

    Raises:
        UsageError: if it is not.
    """
    try:
        if directory.is_dir():
            if os.access(directory, os.R_OK | os.X_OK):
                return
            raise PermissionError
        what = "is a file, not a directory" if directory.exists() else "does not exist"
    except PermissionError:
        what = "may not be listed by this user: run as a user who may read it, or pass a copy"
    except OSError as error:
        what = f"cannot be looked into ({error.strerror})"
    raise UsageError(f"{option} {directory} {what}")


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFact:
    """One file of a member.

    Attributes:
        said: how it was found, for messages: the setting as it is written, with file and line.
        path: its path on this machine; ``None`` if it is missing.
        absent: why it is missing or not readable, and what to do; empty if it was read.
        problem: why its content is not valid; empty if it is valid.
        mode: its permission bits; ``None`` on a system without them.
        owner: the user ID of its owner; ``None`` on a system without one.
        original: whether it is the file that etcd reads, not a copy.
    """

    said: str
    path: str | None = None
    absent: str = ""
    problem: str = ""
    mode: int | None = None
    owner: int | None = None
    original: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PairFact:
    """A certificate file and its key file.

    Attributes:
        side: the side whose settings name them.
        dials: whether etcd presents it as a client and serves another certificate.
        chain: the certificates of the file, leaf first; empty if they could not be read.
        matches: whether the key matches the leaf; ``None`` if one of them could not be read.
    """

    side: Side
    dials: bool
    certificate: FileFact
    key: FileFact
    chain: tuple[x509.Certificate, ...] = ()
    matches: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleFact:
    """A file of trusted CAs.

    Attributes:
        certificates: the certificates in it; empty if they could not be read.
        keys: files in the same directory that are named as the CA's key would be; they were not opened.
    """

    side: Side
    file: FileFact
    certificates: tuple[x509.Certificate, ...] = ()
    keys: tuple[FileFact, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientFact:
    """A client's certificate and key, found with a member's files but not declared for etcd.

    Attributes:
        name: the name of the client.
        chain: the certificates of the file, leaf first; empty if they could not be read.
    """

    name: str
    certificate: FileFact
    key: FileFact
    chain: tuple[x509.Certificate, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberFiles:
    """The files of one member.

    Attributes:
        label: the label of the member.
        bundles: the CA bundles that are in force, by side.
        crls: the CRL files, with the setting that declares each.
        data_owner: the user ID that owns etcd's data directory, which is probably the one that etcd runs as;
            ``None`` if it cannot be determined on this machine.
    """

    label: str
    pairs: tuple[PairFact, ...] = ()
    bundles: Mapping[Side, BundleFact] = field(default_factory=dict)
    clients: tuple[ClientFact, ...] = ()
    crls: tuple[tuple[Setting, CRLFile], ...] = ()
    data_owner: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredFiles:
    """The files of all declared members, in the order of their labels.

    Attributes:
        anchors: the server CAs that the user named.
        reader: the user ID that pytest runs as; ``None`` on a system without one.
        observed_at: the time of the observation, aware UTC; checks use it as their clock.
    """

    members: tuple[MemberFiles, ...]
    anchors: tuple[x509.Certificate, ...] = ()
    reader: int | None = None
    observed_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredLeaf:
    """The certificate in the file that is declared for a listener.

    Attributes:
        said: the setting as it is written, with file and line.
        source: the path of the file on this machine.
    """

    certificate: x509.Certificate
    said: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldCertificate:
    """A certificate from a declared or given file.

    Attributes:
        what: a description for messages.
        source: where it comes from: the path of a file, or a description.
    """

    what: str
    source: str
    certificate: x509.Certificate


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldCertificates:
    """Certificates of one kind, each once, without those that a listener serves.

    The kinds are client certificates (key ``clients``), the CAs that etcd trusts for them
    (``client-cas``), and without a key all other declared certificates.

    Attributes:
        observed_at: the time of the observation, aware UTC; checks use it as their clock.
    """

    certificates: tuple[HeldCertificate, ...]
    observed_at: datetime


_HAS_OWNERS = os.name == "posix"


def read_member_files(label: str, declared: DeclaredMember) -> MemberFiles:
    """Return the declared files of a member that are on this machine, with their content."""
    settings = [declared.declaration.settings.get(f"{side}-crl-file") for side in SIDES]
    return MemberFiles(
        label=label,
        pairs=tuple(_pairs(declared)),
        bundles=MappingProxyType({side: found for side in SIDES if (found := _bundle(declared, side))}),
        clients=tuple(_clients(declared)),
        crls=tuple((one, declared.crls[one.value]) for one in settings if one and one.value in declared.crls),
        data_owner=_data_owner(declared),
    )


def read_served(declared: DeclaredMember, side: Side) -> tuple[FileFact, tuple[x509.Certificate, ...]] | None:
    """Return the certificate file declared for a side, and its certificates; ``None`` if none is declared."""
    if effective_of(declared).sides[side].certificate is None:
        return None
    return _certificates(_declared(declared, f"{prefix(side)}cert-file"))


def _pairs(declared: DeclaredMember) -> Iterator[PairFact]:
    for side, tls in effective_of(declared).sides.items():
        p = prefix(side)
        if tls.certificate is not None:
            yield _pair(declared, side, f"{p}cert-file", f"{p}key-file", dials=False)
        if tls.dials_with not in (None, tls.certificate):
            yield _pair(declared, side, f"{p}client-cert-file", f"{p}client-key-file", dials=True)


def _pair(
    declared: DeclaredMember, side: Side, certificate_name: str, key_name: str, *, dials: bool
) -> PairFact:
    certificate, chain = _certificates(_declared(declared, certificate_name))
    key, matches = _key(_declared(declared, key_name), chain)
    return PairFact(side=side, dials=dials, certificate=certificate, key=key, chain=chain, matches=matches)


def _bundle(declared: DeclaredMember, side: Side) -> BundleFact | None:
    name = f"{prefix(side)}trusted-ca-file"
    if effective_of(declared).sides[side].trusted_ca is None:
        return None
    file, certificates = _certificates(_declared(declared, name), trust=True)
    keys = tuple(_possible_keys(Path(file.path), file.original)) if file.path else ()
    return BundleFact(side=side, file=file, certificates=certificates, keys=keys)


def _possible_keys(bundle: Path, original: bool) -> Iterator[FileFact]:
    """Yield files in a bundle's directory that are named as its key would be; they are not opened."""
    for name in dict.fromkeys((f"{bundle.stem}.key", f"{bundle.stem}-key.pem", "ca.key", "ca-key.pem")):
        path = bundle.with_name(name)
        if exists(path):
            yield _with_rights(FileFact(said=f"beside {bundle.name}", path=str(path), original=original))


def _clients(declared: DeclaredMember) -> Iterator[ClientFact]:
    for client in client_files(declared):
        certificate, chain = _certificates(_found(FileFact(said=client.named_by[0]), client.certificate))
        key, _ = _key(_found(FileFact(said=client.named_by[1]), client.key), chain)
        yield ClientFact(name=client.name, certificate=certificate, key=key, chain=chain)


def _declared(declared: DeclaredMember, name: str) -> FileFact:
    """Return the file of a setting without its content."""
    setting = declared.declaration.settings.get(name)
    if setting is None or not setting.value:
        return FileFact(said=f"--{name}", absent=f"--{name} is not declared")
    path = declared.file(name)
    if path is None:
        return FileFact(said=str(setting), absent=_absent(declared, setting))
    fact = _found(FileFact(said=str(setting)), path)
    return replace(fact, original=declared.paths.is_original(setting.value, path))


def _absent(declared: DeclaredMember, setting: Setting) -> str:
    if setting.name in declared.others:
        return f"the file of {setting} is not here: what lies there is another member's"
    if declared.paths.pki_dir is None:
        return f"the file of {setting} is not here: run on the member, or name copies by --etcd-pki-dir"
    return f"the file of {setting} is not under --etcd-pki-dir {declared.paths.pki_dir}"


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
    path = Path(fact.path)
    try:
        certificates = load(path, option=fact.said)
        if not pem_blocks(read_regular(path, MAXIMUM_SIZE)):
            convert = f"openssl x509 -in {path} -inform DER -out {path.stem}.pem"
            return replace(
                fact, problem=f"{path} is DER, and etcd reads PEM alone: convert it: {convert}"
            ), ()
        return fact, certificates
    except (UsageError, UnreadableFileError) as error:
        return replace(fact, problem=str(error)), ()


def _key(fact: FileFact, chain: tuple[x509.Certificate, ...]) -> tuple[FileFact, bool | None]:
    if fact.absent or fact.path is None:
        return fact, None
    try:
        # Only the public key is used.
        key = load_key(Path(fact.path), option=fact.said, consistent=False)
    except UsageError as error:
        return replace(fact, problem=str(error)), None
    return fact, (key.public_key() == public_key(chain[0])) if chain else None


def _data_owner(declared: DeclaredMember) -> int | None:
    directory = declared.declaration.text("data-dir")
    if not _HAS_OWNERS or directory is None or not os.path.isabs(directory):
        return None
    try:
        return os.stat(directory).st_uid
    except OSError:
        return None
