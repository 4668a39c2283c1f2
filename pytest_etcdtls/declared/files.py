"""The files that a declaration names: their paths on this machine and their content."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final

from cryptography import x509
from msgspec import Struct
from msgspec.structs import replace

from pytest_etcdtls.declared.declaration import (
    CRLFile,
    CRLReading,
    DeclaredMember,
    DeclaredPaths,
    RunAs,
    Setting,
    SourceLine,
    exists,
)
from pytest_etcdtls.declared.effective import SIDES, effective_of, prefix
from pytest_etcdtls.errors import UnreadableFileError, UsageError
from pytest_etcdtls.pki.certificate import (
    KEY_LABELS,
    MAXIMUM_SIZE,
    Block,
    load_certificates,
    load_key,
    pem_blocks,
    public_key,
    read_pool,
)
from pytest_etcdtls.pki.go_crl import RevocationList, is_pem, lists_in, parse_crl, parse_revocation_list
from pytest_etcdtls.pki.go_parser import MalformedError
from pytest_etcdtls.role import Side
from pytest_etcdtls.untrusted.printable import file_word, pasted
from pytest_etcdtls.untrusted.process_root import (
    RefusedError,
    looked_up,
    may_read,
    not_readable,
    status_of,
    way_to,
)
from pytest_etcdtls.untrusted.process_user import OVERRIDES, user_of
from pytest_etcdtls.untrusted.regular_files import read_regular


def is_directory(path: Path) -> bool:
    """Return whether a directory exists; ``False`` if its parent is not accessible."""
    try:
        return stat.S_ISDIR(status_of(path).st_mode)
    except (OSError, ValueError):
        return False


def read_crl(setting: Setting, paths: DeclaredPaths) -> CRLFile:
    """Read a declared CRL file. A missing or invalid file is reported in the result, not raised."""
    path = paths.find(setting.value)
    if path is None:
        return CRLFile(declared=setting.value)
    try:
        data = read_regular(path, MAXIMUM_SIZE)
    except UnreadableFileError as error:
        return CRLFile(declared=setting.value, path=str(path), unread=error.happened)
    return crl_file(setting.value, str(path), data)


def crl_file(declared: str, path: str, data: bytes) -> CRLFile:
    """Return a CRL file with that content."""
    lists = lists_in(data)
    ends = [crl.next_update for crl in lists if crl.next_update is not None]
    return CRLFile(
        declared=declared,
        path=path,
        empty=not data,
        pem=is_pem(data),
        version_2=bool(lists) and not _reading(parse_revocation_list, lists[0].der).error,
        up_to_3_5=_reading(parse_crl, data),
        since_3_6=_reading(parse_revocation_list, data),
        lists=len(lists),
        serial_numbers=frozenset().union(*(crl.serial_numbers for crl in lists)),
        issuer=_issuer(lists[0].der) if lists else None,
        next_update=min(ends, default=None),
    )


def _reading(parse: Callable[[bytes], RevocationList], data: bytes) -> CRLReading:
    try:
        return CRLReading(serial_numbers=parse(data).serial_numbers)
    except MalformedError as error:
        return CRLReading(error=str(error))


def _issuer(der: bytes) -> x509.Name | None:
    try:
        return x509.load_der_x509_crl(der).issuer
    except (ValueError, x509.InvalidVersion):
        return None


HEALTHCHECK: Final = "healthcheck-client"
APISERVER: Final = "apiserver-etcd-client"
ETCDCTL: Final = "etcdctl"
OF_DISTRIBUTIONS: Final = ("client", "admin")
"""Clients beside etcd's own files: ``client.crt`` of k3s and RKE2, ``admin.crt`` of Talos."""
_FILES_NEAR_CLIENTS: Final = ("trusted-ca-file", "cert-file", "peer-trusted-ca-file", "peer-cert-file")
"""The settings in whose files' directories kubeadm's client certificates are searched for."""


class ClientFiles(Struct, frozen=True, kw_only=True):
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
    """Yield the clients whose certificate is on this machine."""
    files = (declared.file("cert-file"), declared.file("trusted-ca-file"))
    beside = tuple(path.parent for path in files if path)
    of_kubeadm = dict.fromkeys((HEALTHCHECK, APISERVER), tuple(_directories(declared)))
    for name, directories in (of_kubeadm | dict.fromkeys(OF_DISTRIBUTIONS, beside)).items():
        for directory in directories:
            certificate, key = (directory / f"{name}.{suffix}" for suffix in ("crt", "key"))
            if exists(certificate) and (name in of_kubeadm or exists(key)):
                named_by = (f"kubeadm's {name}",) * 2 if name in of_kubeadm else (str(certificate), str(key))
                yield ClientFiles(name=name, named_by=named_by, certificate=certificate, key=key)
                break
    variables = ("ETCDCTL_CERT", "ETCDCTL_KEY")
    paths = map(declared.declaration.etcdctl.get, variables)
    of_etcdctl = [file for path in paths if path and (file := declared.paths.find(path))]
    if len(of_etcdctl) == len(variables):
        yield ClientFiles(name=ETCDCTL, named_by=variables, certificate=of_etcdctl[0], key=of_etcdctl[1])


def _directories(declared: DeclaredMember) -> Iterator[Path]:
    """Yield the directories that may hold kubeadm's files: those of the declared files and their parents."""
    directories = [path.parent for name in _FILES_NEAR_CLIENTS if (path := declared.file(name))]
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
        problem = "is a file, not a directory" if directory.exists() else "does not exist"
    except PermissionError:
        problem = "may not be listed by this user: run as a user who may read it, or pass a copy"
    except OSError as error:
        problem = f"cannot be read ({error.strerror})"
    raise UsageError(f"{option} {directory} {problem}")


class FileFact(Struct, frozen=True, kw_only=True):
    """One file of a member.

    Attributes:
        said: how it was found, for messages: the setting as it is written, with file and line.
        place: where that setting is written; ``None`` if it was found otherwise.
        path: its path on this machine; ``None`` if it is missing, unless etcd looks for it there.
        absent: why it is missing or not readable, and what to do; empty if it was read.
        problem: why etcd cannot use it: its content is not valid, or etcd does not find it; else empty.
        remedy: what to do about that, if the check does not know it.
        mode: its permission bits; ``None`` on a system without them.
        has_key: it has a private key that is not encrypted, in a file for certificates.
        shut_by: the directory above it that does not let others through; empty if all of them do.
        lets_group: every directory above it lets others or a group through.
        owner: the user ID of its owner; ``None`` on a system without one.
        original: whether it is the file that etcd reads, not a copy.
    """

    said: str
    place: SourceLine | None = None
    path: str | None = None
    absent: str = ""
    problem: str = ""
    remedy: str = ""
    mode: int | None = None
    owner: int | None = None
    original: bool = False
    has_key: bool = False
    shut_by: str = ""
    lets_group: bool = True

    @property
    def reach(self) -> int | None:
        """The permission bits that are left behind the directories above it.

        Others whom a directory shuts out cannot use their bits. Its group can, if it lets the group through.
        """
        if self.mode is None or not self.shut_by:
            return self.mode
        group = (self.mode >> 3 | self.mode) & stat.S_IRWXO if self.lets_group else 0
        return self.mode & ~(stat.S_IRWXG | stat.S_IRWXO) | group << 3


class PairFact(Struct, frozen=True, kw_only=True):
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
        read_at_start: etcd reads it at its start: to serve TLS on that side, and that of peers to dial them.
        content: the content of the file; ``None`` if it could not be read.
        certificates: the certificates that etcd reads from it, each once.
        keys: the file itself, if it has a key; and files in the same directory that are named as the CA's key
            would be, which were not opened.
    """

    side: Side
    file: FileFact
    read_at_start: bool = False
    content: bytes | None = field(default=None, repr=False)
    certificates: tuple[x509.Certificate, ...] = ()
    keys: tuple[FileFact, ...] = ()


class MemberFiles(Struct, frozen=True, kw_only=True):
    """The files of one member.

    Attributes:
        label: the label of the member.
        bundles: the CA bundles that are in force, by side.
        clients: pairs of clients, found with the member's files but not declared for etcd.
        crls: the CRL files, with the setting that declares each.
        data_owner: the user ID that owns etcd's data directory, which is probably the one that etcd runs as;
            ``None`` if it cannot be determined on this machine.
    """

    label: str
    pairs: tuple[PairFact, ...] = ()
    bundles: Mapping[Side, BundleFact] = {}
    clients: tuple[PairFact, ...] = ()
    crls: tuple[tuple[Setting, CRLFile], ...] = ()
    data_owner: int | None = None


_HAS_OWNERS = os.name == "posix"


def read_member_files(label: str, declared: DeclaredMember, *, own: bool = False) -> MemberFiles:
    """Return the declared files of a member that are on this machine, with their content.

    Args:
        label: the label of the member.
        declared: the member.
        own: the member runs on this machine, so a file that is not here is missing for etcd too.
    """
    bundles = {side: bundle for side in SIDES if (bundle := _bundle(declared, side, own=own))}
    return MemberFiles(
        label=label,
        pairs=tuple(_pairs(declared, own=own)),
        bundles=MappingProxyType(bundles),
        clients=tuple(_clients(declared)),
        crls=tuple(_crls(declared, own=own)),
        data_owner=_data_owner(declared),
    )


def lie_beside(files: MemberFiles, served: Container[x509.Certificate]) -> bool:
    """Return whether the files are on the machine of the etcd that serves one of these certificates.

    A certificate may have been copied to its own path elsewhere, but hardly with its key or the data
    directory.
    """
    return any(
        pair.certificate.original
        and pair.chain[0] in served
        and (pair.key.original or files.data_owner is not None)
        for pair in files.pairs
        if pair.chain
    )


def _crls(declared: DeclaredMember, *, own: bool) -> Iterator[tuple[Setting, CRLFile]]:
    for side in SIDES:
        setting = declared.declaration.settings.get(f"{side}-crl-file")
        if setting is not None and (crl := declared.crls.get(setting.value)):
            missing = declared.paths.missing(setting.value) if own and crl.path is None else None
            yield setting, replace(crl, missing=missing[1]) if missing else crl


def read_served(declared: DeclaredMember, side: Side) -> tuple[FileFact, tuple[x509.Certificate, ...]] | None:
    """Return the certificate file declared for a side, and its certificates; ``None`` if none is declared."""
    if effective_of(declared).sides[side].certificate is None:
        return None
    return _certificates(_declared(declared, f"{prefix(side)}cert-file"))


def _is_read(declared: DeclaredMember, side: Side) -> bool:
    """Return whether etcd reads the pairs and the bundle of a side at its start.

    Of clients, only the listeners read them (transport.TLSInfo.ServerConfig, baseConfig).
    rafthttp.NewRoundTripper reads those of peers in any case (ClientConfig).
    """
    etcd = effective_of(declared)
    return side == "peer" or bool(etcd.secure(etcd.sides[side]))


def _pairs(declared: DeclaredMember, *, own: bool) -> Iterator[PairFact]:
    for side, tls in effective_of(declared).sides.items():
        p = prefix(side)
        if tls.certificate is not None:
            yield _pair(declared, side, f"{p}cert-file", f"{p}key-file", dials=False, own=own)
        if tls.dials_with not in (None, tls.certificate):
            yield _pair(declared, side, f"{p}client-cert-file", f"{p}client-key-file", dials=True, own=own)


def _pair(
    declared: DeclaredMember, side: Side, certificate_name: str, key_name: str, *, dials: bool, own: bool
) -> PairFact:
    own = own and _is_read(declared, side)
    certificate, chain = _certificates(_declared(declared, certificate_name, own=own))
    key, matches = _key(_declared(declared, key_name, own=own), chain)
    return PairFact(side=side, dials=dials, certificate=certificate, key=key, chain=chain, matches=matches)


def _bundle(declared: DeclaredMember, side: Side, *, own: bool) -> BundleFact | None:
    name = f"{prefix(side)}trusted-ca-file"
    if effective_of(declared).sides[side].trusted_ca is None:
        return None
    read_at_start = _is_read(declared, side)
    file = _declared(declared, name, own=own and read_at_start)
    content: bytes | None = None
    if not file.absent and not file.problem and file.path is not None:
        try:
            content = read_regular(Path(file.path), MAXIMUM_SIZE)
        except UnreadableFileError as error:
            file = replace(file, absent=f"{file.path} {error}")
    keys = [*_possible_keys(Path(file.path), file.original)] if file.path else []
    if content is not None and _has_key(pem_blocks(content)):
        keys.insert(0, replace(file, said=f"in {file.said}", has_key=True))
    return BundleFact(
        side=side,
        file=file,
        read_at_start=read_at_start,
        content=content,
        certificates=read_pool(content).certificates if content is not None else (),
        keys=tuple(keys),
    )


def _possible_keys(bundle: Path, original: bool) -> Iterator[FileFact]:
    """Yield files in a bundle's directory that are named as its key would be; they are not opened."""
    for name in dict.fromkeys((f"{bundle.stem}.key", f"{bundle.stem}-key.pem", "ca.key", "ca-key.pem")):
        path = bundle.with_name(name)
        if exists(path):
            yield _with_rights(FileFact(said=f"beside {bundle.name}", path=str(path), original=original))


def _clients(declared: DeclaredMember) -> Iterator[PairFact]:
    for client in client_files(declared):
        certificate, chain = _certificates(_found(FileFact(said=client.named_by[0]), client.certificate))
        key, _ = _key(_found(FileFact(said=client.named_by[1]), client.key), chain)
        yield PairFact(side="client", dials=True, certificate=certificate, key=key, chain=chain)


def _declared(declared: DeclaredMember, name: str, *, own: bool = False) -> FileFact:
    """Return the file of a setting without its content."""
    setting = declared.declaration.settings.get(name)
    if setting is None or not setting.value:
        return FileFact(said=f"--{name}", absent=f"--{name} is not declared")
    path = declared.file(name)
    whole = declared.paths.of_process(setting.value) if declared.paths.working else path
    is_original = path is None or declared.paths.is_original(setting.value, path)
    if own and whole and is_original and (refused := _refused(declared, whole)):
        problem, remedy = refused
        fact = _with_rights(FileFact(said=str(setting), place=setting.place, path=str(whole), original=True))
        return replace(fact, problem=problem, remedy=remedy)
    if (
        own
        and path is None
        and name not in declared.others
        and (gone := declared.paths.missing(setting.value))
    ):
        where, problem = gone
        several = f", and --{name} names one file, not a list" if "," in setting.value else ""
        return FileFact(said=str(setting), place=setting.place, path=str(where), problem=problem + several)
    if path is None:
        return FileFact(said=str(setting), place=setting.place, absent=why_absent(declared, setting))
    fact = _found(FileFact(said=str(setting), place=setting.place), path)
    return replace(fact, original=is_original)


def _refused(declared: DeclaredMember, path: Path) -> tuple[str, str] | None:
    """Return that etcd's user cannot read a file of this machine, and what to do; else ``None``."""
    try:
        return _refused_process(declared, path) if declared.paths.working else _refused_user(declared, path)
    except (OSError, ValueError, KeyError):
        return None


def _refused_process(declared: DeclaredMember, path: Path) -> tuple[str, str] | None:
    """Return it of a process, with whose rights the file is opened, so the kernel decides."""
    try:
        with looked_up(path, reads=True):
            return None
    except RefusedError as error:
        refused = error
    user = user_of(int(path.parts[2]))
    groups = {user.gid, *user.groups}
    # Capabilities that this run lacks are not lent, and a run that is not root lends nothing.
    if user.capabilities & OVERRIDES or (os.geteuid() and not groups <= {os.getegid(), *os.getgroups()}):
        return None
    who = f"user {user.uid} ({declared.declaration.source})"
    return _refusal(who, user.uid, user.gid, groups, (refused.place, refused.status), path)


def _refused_user(declared: DeclaredMember, path: Path) -> tuple[str, str] | None:
    """Return it of a declared user, as modes and owners decide.

    In a container, only the directories below the mount are passed.
    """
    run_as = declared.declaration.run_as
    if not run_as or not _HAS_OWNERS:
        return None
    user, group, others = ids_of(run_as)
    groups = {other for other in (group, *others) if other is not None}
    way = way_to(path)
    here, _ = way[0]
    mounts = [Path(os.path.realpath(mount.outside)) for mount in declared.paths.mounts]
    above = max(
        (mount for mount in mounts if here.is_relative_to(mount)),
        key=lambda mount: len(mount.parts),
        default=Path("/"),
    )
    for place, status in way:
        bit = stat.S_IROTH if place == here else stat.S_IXOTH
        if not place.is_relative_to(above):
            break
        with looked_up(place) as there:
            if sys.platform == "linux" and "system.posix_acl_access" in os.listxattr(there):
                return None
        shift = 6 if status.st_uid == user else 3 if status.st_gid in groups else 0
        if user and not status.st_mode >> shift & bit:
            who = f"user {run_as.user} ({run_as.place}: {run_as.setting})"
            return _refusal(who, user, group, groups, (place, status), here)
    return None


def _refusal(
    who: str,
    user: int,
    group: int | None,
    groups: set[int],
    refused: tuple[Path, os.stat_result],
    file: Path,
) -> tuple[str, str]:
    """Return that a user may not read a file, or pass a directory above it, and what to do.

    What to do lets no other user in: it gives the file to etcd's user, or the group of the file one right.
    """
    place, status = refused
    is_file = not stat.S_ISDIR(status.st_mode)
    mode = f"mode {status.st_mode & 0o7777:04o}, owner {status.st_uid}, group {status.st_gid}"
    right = "r" if is_file else "x"
    if status.st_uid == user:
        commands = [("chmod", f"u+{right}")]
    elif status.st_gid in groups:
        commands = [("chmod", f"g+{right}")]
    elif is_file or group is None:
        commands = [("chown", str(user))]
    else:
        commands = [("chown", f":{group}"), ("chmod", f"g+{right}")]
    pasted_commands = " && ".join(pasted(*words, file_word(place)) for words in commands)
    below = "" if is_file else f", above {file.name}"
    return (
        f"{who} may not {'read' if is_file else 'pass'} {place}{below}: {mode}",
        f"let that user or its group {'read it' if is_file else 'pass'}, not others: {pasted_commands}",
    )


def ids_of(run_as: RunAs) -> tuple[int, int | None, set[int]]:
    """Return the IDs of the user, of its group if that is known, and of further groups.

    An ID need not have an entry on this machine.

    Raises:
        KeyError: if this machine does not have a user or a group of that name.
    """
    import grp
    import pwd

    user = int(run_as.user) if run_as.user.isdecimal() else pwd.getpwnam(run_as.user).pw_uid
    group, *others = (
        None if not text else int(text) if text.isdecimal() else grp.getgrnam(text).gr_gid
        for text in (run_as.group, *filter(None, run_as.others))
    )
    groups = {other for other in others if other is not None}
    with suppress(KeyError):
        if run_as.of_unit:
            entry = pwd.getpwuid(user)
            groups |= {*os.getgrouplist(entry.pw_name, entry.pw_gid)} - {entry.pw_gid}
            group = entry.pw_gid if group is None else group
    return user, group, groups


def why_absent(declared: DeclaredMember, setting: Setting) -> str:
    """Return why the file of a setting is not here, and what to do."""
    if setting.name in declared.others:
        return f"the file of {setting} is not here: the file at that path is another member's"
    if declared.paths.working:
        return f"the file of {setting} is not there: {declared.paths.of_process(setting.value)}"
    if declared.paths.pki_dir is None:
        return f"the file of {setting} is not here: run on the member, or name copies by --etcd-pki-dir"
    return f"the file of {setting} is not under --etcd-pki-dir {declared.paths.pki_dir}"


def _found(fact: FileFact, path: Path) -> FileFact:
    fact = _with_rights(replace(fact, path=str(path)))
    if not exists(path):
        return replace(fact, absent=f"{path} is not there")
    if not may_read(path):
        return replace(fact, absent=f"{path} {': '.join(not_readable(path))}")
    return fact


def _with_rights(fact: FileFact) -> FileFact:
    if not _HAS_OWNERS or fact.path is None:
        return fact
    try:
        (_, status), *above = way_to(Path(fact.path))
    except OSError:
        return fact
    shut = [(place, each.st_mode) for place, each in above if not each.st_mode & stat.S_IXOTH]
    return replace(
        fact,
        mode=status.st_mode & 0o7777,
        owner=status.st_uid,
        shut_by=str(shut[0][0]) if shut else "",
        lets_group=all(mode & stat.S_IXGRP for _, mode in shut),
    )


def _certificates(fact: FileFact) -> tuple[FileFact, tuple[x509.Certificate, ...]]:
    if fact.absent or fact.problem or fact.path is None:
        return fact, ()
    path = Path(fact.path)
    try:
        blocks = pem_blocks(read_regular(path, MAXIMUM_SIZE))
        fact = replace(fact, has_key=_has_key(blocks))
        certificates = load_certificates(path, option=fact.said)
        if not blocks:
            files = ("-in", file_word(path), "-inform", "DER", "-out", file_word(f"{path.stem}.pem"))
            convert = pasted("openssl", "x509", *files)
            return replace(
                fact, problem=f"{path} is DER, and etcd reads PEM alone: convert it: {convert}"
            ), ()
        return fact, certificates
    except (UsageError, UnreadableFileError) as error:
        return replace(fact, problem=str(error)), ()


def _has_key(blocks: Iterable[Block]) -> bool:
    return any(block.label in KEY_LABELS and not block.encrypted for block in blocks)


def _key(fact: FileFact, chain: tuple[x509.Certificate, ...]) -> tuple[FileFact, bool | None]:
    if fact.absent or fact.problem or fact.path is None:
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
    paths = declared.paths
    try:
        return status_of(paths.of_process(directory) if paths.working else Path(directory)).st_uid
    except (OSError, ValueError):
        return None
