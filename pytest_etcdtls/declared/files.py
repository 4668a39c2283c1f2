"""The files that a declaration names: where they are here and what is in them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Final

from cryptography import x509

from pytest_etcdtls.declared.declaration import (
    CRLFile,
    Declaration,
    DeclaredMember,
    Encoding,
    Setting,
    Whereabouts,
    exists,
)
from pytest_etcdtls.declared.effective import SIDES, Side, effective_of, prefix
from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.pki.certificate import public_key
from pytest_etcdtls.pki.loading import load_certificates, load_key, load_trust


def is_directory(path: Path) -> bool:
    """Return whether there is such a directory; one below a directory that may not be entered is not."""
    try:
        return path.is_dir()
    except OSError:
        return False


def whereabouts(declaration: Declaration, pki_dir: Path | None) -> Whereabouts:
    """Return where the files of a declaration are here."""
    return Whereabouts(pki_dir=pki_dir, mounts=declaration.mounts)


def read_crl(setting: Setting, where: Whereabouts) -> CRLFile:
    """Return what a CRL file is, whatever is wrong with it."""
    path = where.find(setting.value)
    if path is None:
        return CRLFile(declared=setting.value)
    try:
        data = path.read_bytes()
    except OSError:
        return CRLFile(declared=setting.value, found=str(path))
    for encoding, load in (
        (Encoding.PEM, x509.load_pem_x509_crl),
        (Encoding.DER, x509.load_der_x509_crl),
    ):
        try:
            crl = load(data)
            return CRLFile(
                declared=setting.value,
                found=str(path),
                encoding=encoding,
                issuer=crl.issuer.rfc4514_string(),
                next_update=crl.next_update_utc,
                serial_numbers=frozenset(one.serial_number for one in crl),
            )
        except ValueError:
            continue
    return CRLFile(declared=setting.value, found=str(path), encoding=Encoding.NEITHER)


HEALTHCHECK: Final = "healthcheck-client"
APISERVER: Final = "apiserver-etcd-client"
ETCDCTL: Final = "etcdctl"
_BESIDE: Final = ("trusted-ca-file", "cert-file", "peer-trusted-ca-file", "peer-cert-file")
"""The declared files beside which kubeadm's clients are looked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientFiles:
    """The files of one client.

    Attributes:
        name: of the client.
        said: what led to certificate and key, in words.
        certificate: it is there.
        key: it need not be.
    """

    name: str
    said: tuple[str, str]
    certificate: Path
    key: Path


def client_files(told: DeclaredMember) -> Iterator[ClientFiles]:
    """Yield the clients whose certificate is here, the one that etcd lets in at most places first."""
    for name in (HEALTHCHECK, APISERVER):
        for directory in _directories(told):
            certificate = directory / f"{name}.crt"
            if exists(certificate):
                words = f"kubeadm's {name}"
                yield ClientFiles(
                    name=name, said=(words, words), certificate=certificate, key=directory / f"{name}.key"
                )
                break
    variables = told.declaration.etcdctl
    paths = [variables.get("ETCDCTL_CERT"), variables.get("ETCDCTL_KEY")]
    certificate_file, key_file = (told.where.find(path) if path else None for path in paths)
    if certificate_file is not None and key_file is not None:
        said = ("ETCDCTL_CERT", "ETCDCTL_KEY")
        yield ClientFiles(name=ETCDCTL, said=said, certificate=certificate_file, key=key_file)


def _directories(told: DeclaredMember) -> Iterator[Path]:
    """Yield where kubeadm's files may be: beside the declared ones, and for one of them a directory above."""
    beside = [found.parent for name in _BESIDE if (found := told.file(name))]
    if told.where.pki_dir is not None:
        beside.append(told.where.pki_dir)
    yield from dict.fromkeys([*beside, *(directory.parent for directory in beside)])


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key."""

    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class PKIDirectory:
    """What kubeadm keeps for etcd on a control plane; what is not there is ``None``.

    Attributes:
        ca: the certificate of the CA that signs everything.
        ca_key: its key.
        server: ``server.crt``, what client ports serve.
        peer: ``peer.crt``, what peer ports serve and members dial with.
        healthcheck_client: a client without subjectAltName, so that peer ports take it from any address.
        apiserver_etcd_client: the API server's client; it lies beside etcd's directory.
    """

    ca: Path
    ca_key: Path | None
    server: Pair | None
    peer: Pair | None
    healthcheck_client: Pair | None
    apiserver_etcd_client: Pair | None


def read_pki_directory(directory: Path, *, option: str = "--etcd-pki-dir") -> PKIDirectory:
    """Return what is in kubeadm's directory: ``/etc/kubernetes/pki/etcd``, or the one above it.

    Args:
        directory: it, or a copy.
        option: the option that named it, for messages.

    Raises:
        UsageError: if there is no ``ca.crt``, or a certificate has no key beside it.
    """
    require_directory(directory, option)
    # The one above has a ca.crt as well, and that is the cluster's own, not etcd's.
    etcd = directory / "etcd" if exists(directory / "etcd" / "ca.crt") else directory
    authority = etcd / "ca.crt"
    if not exists(authority):
        raise UsageError(
            f"{option} {directory} holds no ca.crt: without a declaration (--etcd-config) kubeadm's names of "
            "files are looked for, as in /etc/kubernetes/pki/etcd"
        )
    key = etcd / "ca.key"
    client = "apiserver-etcd-client"
    return PKIDirectory(
        ca=authority,
        ca_key=key if exists(key) else None,
        server=_pair_in(etcd, "server", option),
        peer=_pair_in(etcd, "peer", option),
        healthcheck_client=_pair_in(etcd, "healthcheck-client", option),
        apiserver_etcd_client=_pair_in(etcd.parent, client, option) or _pair_in(etcd, client, option),
    )


def require_directory(directory: Path, option: str) -> None:
    """Refuse what is no directory, or may not be entered by this user.

    Raises:
        UsageError: if so.
    """
    try:
        if directory.is_dir():
            return
        what = "is a file, not a directory" if directory.exists() else "does not exist"
    except PermissionError:
        what = "is in a directory that may not be entered by this user: run as one who may, or pass a copy"
    except OSError as error:
        what = f"cannot be looked into ({error.strerror})"
    raise UsageError(f"{option} {directory} {what}")


def _pair_in(directory: Path, name: str, option: str) -> Pair | None:
    pair = Pair(directory / f"{name}.crt", directory / f"{name}.key")
    if not exists(pair.certificate):
        return None
    if not exists(pair.key):
        raise UsageError(f"{option}: {pair.certificate} has no {pair.key.name} beside it: copy both")
    return pair


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFact:
    """One file.

    Attributes:
        said: what led to it, for people: the setting as it is written, with its place.
        path: of it here; ``None`` if it is not here.
        absent: why it is not here, or may not be read by us, and what to do; empty if it was read.
        problem: why it is not what it should be; empty if it is.
        mode: its permission bits; ``None`` where the system has none.
        owner: the user who owns it, likewise.
        original: it is the very file that etcd reads, not a copy.
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
        side: whose settings they are.
        dials: etcd presents it where it is a client, and serves another one.
        chain: certificates of the file, leaf first; empty if they could not be read.
        matches: the key is that of the leaf; ``None`` if one of them could not be read.
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
        certificates: in it; empty if they could not be read.
        keys: files beside it that are called as a CA's key is; they were not opened.
    """

    side: Side
    file: FileFact
    certificates: tuple[x509.Certificate, ...] = ()
    keys: tuple[FileFact, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientFact:
    """A client's pair that lies beside the member's files, and that nobody declared for etcd.

    Attributes:
        name: of the client.
        chain: certificates of the file, leaf first; empty if they could not be read.
    """

    name: str
    certificate: FileFact
    key: FileFact
    chain: tuple[x509.Certificate, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberFiles:
    """The files of one member.

    Attributes:
        label: of the member.
        bundles: those that are in force, by side.
        crls: the files of revoked certificates, with the setting that declares each.
        data_owner: the user who owns etcd's data directory, so probably the one etcd runs as; ``None`` if
            that is not to be seen here.
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
        anchors: CAs of servers that the user named.
        reader: the user as whom we read, ``None`` where the system has none.
        observed_at: aware UTC; checks use it as their clock.
    """

    members: tuple[MemberFiles, ...]
    anchors: tuple[x509.Certificate, ...] = ()
    reader: int | None = None
    observed_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredLeaf:
    """The certificate in the file that a listener was told to serve.

    Attributes:
        said: the setting as it is written, with its place.
        source: the file's path here.
    """

    certificate: x509.Certificate
    said: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldCertificate:
    """A certificate that we hold.

    Attributes:
        what: it is, for people.
        source: where it comes from: a file's path, or words.
    """

    what: str
    source: str
    certificate: x509.Certificate


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldCertificates:
    """Certificates of one kind, each once, without those that a listener was seen to serve.

    The kinds are what clients present (key ``clients``), the CAs that etcd is told to trust for them
    (``client-cas``), and without a key all others that are declared.

    Attributes:
        observed_at: aware UTC; checks use it as their clock.
    """

    certificates: tuple[HeldCertificate, ...]
    observed_at: datetime


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
