"""Listeners, files, credentials and identities from the user's declarations.

A declaration names paths on the member's machine, which need not be this one. With several declarations, one
path is named by several members, and the file here is that of one of them. It counts for a member only if the
member runs here, it alone declares the copy, or the certificate names its host (:func:`settings_of_others`).
A file that is missing or unusable is no error: what needs it is not verified, and the reason is kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from cryptography import x509
from msgspec import Struct, structs

from pytest_etcdtls.declared.declaration import (
    FILES,
    Declaration,
    DeclaredMember,
    advertised,
    exists,
    hosts_of,
)
from pytest_etcdtls.declared.effective import SIDES, TLSSide, effective_of, prefix
from pytest_etcdtls.declared.files import (
    APISERVER,
    ETCDCTL,
    HEALTHCHECK,
    OF_DISTRIBUTIONS,
    client_files,
    is_directory,
    require_directory,
)
from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.pki.certificate import (
    load_certificates,
    load_identity,
    load_trusted_file,
)
from pytest_etcdtls.pki.go_parser import details
from pytest_etcdtls.pki.go_verify import CLIENT_AUTH, allows, is_current, names_host
from pytest_etcdtls.pki.profile import Identity
from pytest_etcdtls.role import Role, Side
from pytest_etcdtls.settings import Source, option
from pytest_etcdtls.settings.endpoints import listeners_from_here, runs_here
from pytest_etcdtls.settings.port_credentials import CredentialSource, chains_to
from pytest_etcdtls.target import Listener, PortCredentials, TrustBundle, Unreached, safe, unique

if TYPE_CHECKING:
    from pytest_etcdtls.declared.running import RunningMember

_PAIRS = (("cert-file", "key-file"), ("peer-cert-file", "peer-key-file"))
"""The settings of a member's own certificates and keys, certificate first."""


def settings_of_others(
    declared: DeclaredMember, here: bool, everybody: Sequence[DeclaredMember]
) -> frozenset[str]:
    """Return the settings whose file on this machine belongs to another member.

    A file at exactly the declared path belongs to the member that runs on this machine. A copy belongs to
    the member that declares it, unless several members do. In all other cases, a certificate belongs to the
    members whose host it names.
    """
    others: set[str] = set()
    for certificate, key in _PAIRS:
        file = declared.file(certificate)
        if file is None:
            continue
        if declared.paths.is_original(declared.declaration.settings[certificate].value, file):
            its_own = here
        else:
            its_own = sum(member.file(certificate) == file for member in everybody) == 1
        if its_own:
            continue
        with suppress(UsageError):
            leaf = load_certificates(file)[0]
            if not any(names_host(leaf, host) for host in hosts_of(declared.declaration)):
                others.update((certificate, key))
    return frozenset(others)


T = TypeVar("T")


class FoundFiles(Struct):
    """Loads files and records why files could not be used."""

    _problems: dict[str, None] = {}
    _pairs: dict[tuple[Path, Path], Identity | None] = {}

    @property
    def problems(self) -> tuple[str, ...]:
        """Why files were not used, one sentence each, in the order in which they were loaded."""
        return tuple(self._problems)

    def pair(
        self, certificate: Path | None, key: Path | None, name: str, named_by: tuple[str, str]
    ) -> Identity | None:
        """Return an identity; ``None`` if one of its files is missing or the key does not match.

        For messages, ``named_by`` says how the certificate and the key were found.
        """
        if certificate is None or key is None or not exists(key):
            return None
        files = (certificate, key)
        if files not in self._pairs:
            self._pairs[files] = self._loaded(
                certificate, lambda file: load_identity(file, key, name, options=named_by)
            )
        pair = self._pairs[files]
        return pair and replace(pair, name=name)

    def chain(self, path: Path | None, named_by: str) -> tuple[x509.Certificate, ...]:
        """Return the certificates of a file, leaf first; empty if it is missing or contains none."""
        return self._loaded(path, lambda file: load_certificates(file, option=named_by)) or ()

    def bundle(self, path: Path | None, named_by: str) -> TrustBundle | None:
        """Return the certificates that etcd has of a CA bundle; ``None`` if it is missing or has none."""
        return self._loaded(
            path, lambda file: TrustBundle(load_trusted_file(file, option=named_by)[0], str(file))
        )

    def _loaded(self, path: Path | None, load: Callable[[Path], T]) -> T | None:
        if path is None or not exists(path):
            return None
        try:
            return load(path)
        except UsageError as error:
            self._problems[str(error)] = None
            return None


def named_by(declared: DeclaredMember, name: str) -> str:
    """Return the file, line and spelling of a declared setting."""
    setting = declared.declaration.settings.get(name)
    return name if setting is None else f"{setting.place.named}: {setting.spelled}"


CONFIG = "etcd_config"
PKI_DIR = "etcd_pki_dir"


class LabelledDeclaration(Struct, frozen=True, kw_only=True):
    """One declared member.

    Attributes:
        label: its label, unique among the members and valid in node ids.
        declared: the declared member with its files on this machine.
        here: whether the member runs on this machine.
        listeners: its declared listeners that etcd serves, as they are reached from this machine.
        running: its process, if that is its declaration (``--etcd-pid``).
        apart: why another process may be a member of its cluster, and is not joined; empty if none may be.
    """

    label: str
    declared: DeclaredMember
    here: bool
    listeners: tuple[Listener | Unreached, ...]
    running: RunningMember | None = None
    apart: str = ""


Members = tuple[LabelledDeclaration, ...]
"""The declared members of one cluster; none if nothing declares it."""


def read_members(source: Source) -> Members:
    """Return the members of ``--etcd-config`` in the order of the files, and of the pods in each.

    Raises:
        UsageError: if a declaration cannot be read, two declare the same member, or ``--etcd-pki-dir``
            contains none of the declared files.
    """
    directory = pki_directory(source)
    texts = source.texts(CONFIG)
    if not texts:
        return ()
    # The readers, and YAML, are imported where there is something to read.
    from pytest_etcdtls.declared.reading import declared_member, read_declarations

    files = [source.resolve(CONFIG, text) for text in texts]
    declarations = [pod for file in files for pod in read_declarations(file, pki_dir=directory)]
    _refuse_duplicates(declarations)
    declared = [declared_member(each, _own_directory(directory, each)) for each in declarations]
    _refuse_unrelated_directory(directory, declared)
    here = [runs_here(declaration) for declaration in declarations]
    # The command of --etcd-via connects where the one member runs.
    reaches_loopback = bool(source.text("etcd_via")) and len(declarations) == 1
    return tuple(
        LabelledDeclaration(
            label=label,
            declared=structs.replace(member, others=settings_of_others(member, is_here, declared)),
            here=is_here,
            listeners=tuple(listeners_from_here(label, member.declaration, here=is_here or reaches_loopback)),
        )
        for label, member, is_here in zip(labels_of(declarations), declared, here, strict=True)
    )


def pki_directory(source: Source) -> Path | None:
    """Return ``--etcd-pki-dir``.

    Raises:
        UsageError: if it is not a directory.
    """
    directory = source.path(PKI_DIR)
    if directory is not None:
        require_directory(directory, option(PKI_DIR))
    return directory


def _own_directory(directory: Path | None, declaration: Declaration) -> Path | None:
    """Return the directory of a member's files: the subdirectory with its name, if it exists."""
    name = declaration.text("name")
    if directory is None or name is None or safe(name) != name or name.strip(".") == "":
        return directory
    return directory / name if is_directory(directory / name) else directory


def _refuse_unrelated_directory(directory: Path | None, declared: Sequence[DeclaredMember]) -> None:
    if directory is None:
        return
    named = [path for member in declared for name in FILES if (path := member.declaration.text(name))]
    if named and not any(member.file(name) for member in declared for name in FILES):
        files = ", ".join(dict.fromkeys(named))
        raise UsageError(
            f"--etcd-pki-dir {directory} holds none of the declared files: {files} were looked for under it, "
            "each by its whole path, then by every suffix of the path, then by its name"
        )


def _refuse_duplicates(declarations: Sequence[Declaration]) -> None:
    """Refuse two declarations of one member. Members can share a URL for clients, such as a Service's."""
    for number, declaration in enumerate(declarations):
        for first in declarations[:number]:
            urls = [{role: {*advertised(each, role)} for role in Role} for each in (first, declaration)]
            for role in Role:
                mine, others = (of_both[role] for of_both in urls)
                if not mine & others or (mine - others and others - mine):
                    continue
                url = min(map(str, mine & others))
                pods = first.source == declaration.source
                names = [each.pod if pods else each.source for each in (first, declaration)]
                raise UsageError(
                    f"--etcd-config {f'{first.source}: ' * pods}{' and '.join(names)} both "
                    f"advertise {url}, so they are of one member: name one {'pod' if pods else 'file'} for "
                    "each member"
                )


def labels_of(declarations: Sequence[Declaration]) -> list[str]:
    """Return a label for each declaration: the member's name, with its host if names are equal."""
    names = [safe(declaration.name) for declaration in declarations]
    often = Counter(names)
    longer = [
        name if often[name] == 1 else f"{name}-{safe(next(iter(hosts_of(declaration)), 'nowhere'))}"
        for name, declaration in zip(names, declarations, strict=True)
    ]
    labels: list[str] = []
    for label in longer:
        labels.append(unique(label, labels))
    return labels


def add_declared(named: Sequence[Listener], members: Members) -> tuple[list[Listener], tuple[Unreached, ...]]:
    """Return the named listeners, the declared listeners of all other roles, and those not reachable.

    An option that names listeners of a role replaces the declared listeners of that role only. A named
    listener is assigned to the declared member that it matches.

    Raises:
        UsageError: if there are declarations but no listener to judge.
    """
    decided = {listener.role for listener in named}
    listeners = [_attach(listener, named, members) for listener in named]
    others = [other for member in members for other in member.listeners if other.role not in decided]
    listeners += [other for other in others if isinstance(other, Listener)]
    unreached = tuple(other for other in others if isinstance(other, Unreached))
    if members and not listeners:
        reasons = "; ".join(dict.fromkeys(other.reason for other in unreached))
        given = "--etcd-pid" if members[0].running else option(CONFIG)
        raise UsageError(f"{given}: none of the declared listeners can be judged from here: {reasons}")
    return listeners, unreached


def _attach(listener: Listener, named: Sequence[Listener], members: Members) -> Listener:
    """Return a named listener, assigned to the declared member that it matches, if any.

    The URL is compared first, then the host. A host may run several members: where another named listener of
    the role and host has a member's URL, this one is not that member's. A single declaration matches a
    single host of any name, since the host may be a load balancer or a tunnel.
    """
    by_url = [member for member in members if _declares(member, listener)]
    beside = [other for other in named if (other.role, other.host) == (listener.role, listener.host)]
    free = [member for member in members if not any(_declares(member, other) for other in beside)]
    by_host = [member for member in free if listener.host in hosts_of(member.declared.declaration)]
    matching = next((fit for fit in (by_url, by_host) if len(fit) == 1), [])
    if not matching and len(free) == len(members) == 1 and len({other.host for other in named}) == 1:
        matching = free
    return replace(listener, member=matching[0].label) if matching else listener


def _declares(member: LabelledDeclaration, listener: Listener) -> bool:
    return any(
        (declared.role, declared.host, declared.port) == (listener.role, listener.host, listener.port)
        for declared in member.listeners
        if isinstance(declared, Listener)
    )


Bundles = Sequence[TrustBundle]


_CLIENTS: Final[dict[Side, tuple[str, ...]]] = {
    "client": (HEALTHCHECK, APISERVER, ETCDCTL, *OF_DISTRIBUTIONS),
    # kubeadm's health check client has no subjectAltName and is accepted from any address.
    "peer": (HEALTHCHECK,),
}
"""The clients that may be good ones on a side, in the order in which they are tried."""


def _clients(members: Members, side: Side, files: FoundFiles) -> Iterator[Identity | None]:
    found = [{client.name: client for client in client_files(member.declared)} for member in members]
    for name in _CLIENTS[side]:
        for client in filter(None, (of_member.get(name) for of_member in found)):
            yield files.pair(client.certificate, client.key, name, client.named_by)


def _dialing(member: LabelledDeclaration, side: Side, trusted: Bundles, files: FoundFiles) -> Identity | None:
    """Return the identity that a member presents as a client.

    On client ports that is the gateway's identity, by default the served certificate. It counts as a client
    identity only if it is issued by a CA trusted for clients.
    """
    pair = dialling_pair(member.declared, side, f"{side}-{member.label}", files)
    if pair is not None and side == "client" and not (trusted and _chains_to_one(pair, trusted)):
        return None
    return pair


def dialling_pair(declared: DeclaredMember, side: Side, name: str, files: FoundFiles) -> Identity | None:
    """Return what etcd presents as a client: its gateway to a client port, a member to its peers."""
    p, dials_with = prefix(side), _side(declared, side).dials_with
    if dials_with is None:
        return None
    own = f"{p}client-" if declared.declaration.text(f"{p}client-cert-file") == dials_with else p
    return _declared_pair(declared, own, name, files)


def _declared_pair(declared: DeclaredMember, own: str, name: str, files: FoundFiles) -> Identity | None:
    """Return the identity in the two files that settings with a common prefix name."""
    settings = f"{own}cert-file", f"{own}key-file"
    certificate, key = map(declared.file, settings)
    return files.pair(
        certificate, key, name, (named_by(declared, settings[0]), named_by(declared, settings[1]))
    )


def _chosen(identities: Sequence[Identity | None], trusted: Bundles) -> tuple[Identity, ...]:
    """Return the identities that may be clients, each once.

    If some are valid now and issued by a trusted CA, the others are left out, because etcd refuses them
    correctly. If there are none, the others are kept, because a refused attempt is evidence too.
    """
    clients = [client for client in identities if client is not None and allows(client.chain[0], CLIENT_AUTH)]
    now = datetime.now(UTC)
    valid = [client for client in clients if is_current(client.chain[0], now)]
    good = [identity for identity in valid if _chains_to_one(identity, trusted)]
    return _distinct(good or valid or clients)


def _chains_to_one(identity: Identity, trusted: Bundles) -> bool:
    """Return whether the identity chains to one of the bundles; ``True`` if no bundle is known."""
    return not trusted or any(chains_to(identity.chain, bundle.certificates) for bundle in trusted)


def _distinct(identities: Sequence[Identity]) -> tuple[Identity, ...]:
    """Return one identity for each name and issuer, with unique names."""
    kinds: set[tuple[str, bytes, bytes]] = set()
    named: dict[str, Identity] = {}
    for identity in identities:
        leaf = identity.chain[0]
        kind = (identity.name, leaf.issuer.public_bytes(), details(leaf).authority_key)
        if kind in kinds or leaf in [identity.chain[0] for identity in named.values()]:
            continue
        kinds.add(kind)
        name = unique(identity.name, named)
        named[name] = replace(identity, name=name)
    return tuple(named.values())


def declared_credentials(members: Members) -> CredentialSource:
    """Return the credentials that declarations name, as far as the files are here."""
    files = FoundFiles()
    client, peer = (_credentials_of_side(members, side, files) for side in SIDES)
    return CredentialSource(
        origin=", ".join(member.declared.declaration.source for member in members),
        client=replace(client, server_ca=client.server_ca or _etcdctls_ca(members, files)),
        peer=peer,
        kubernetes_ca=_kubernetes_ca(members, files),
        remarks=files.problems,
    )


def _credentials_of_side(members: Members, side: Side, files: FoundFiles) -> PortCredentials:
    trusted = [bundle for member in members if (bundle := _bundle(member.declared, side, files))]
    # Their certificates have our address.
    here_first = tuple(sorted(members, key=lambda member: not member.here))
    clients = _clients(here_first, side, files)
    dialing = [_dialing(member, side, trusted, files) for member in here_first]
    return PortCredentials(
        server_ca=_server_ca(members, side, files),
        # If it is not the same for every member, what is trusted is not known.
        client_trust=trusted[0] if len({frozenset(bundle.certificates) for bundle in trusted}) == 1 else None,
        identities=_chosen([*clients, *dialing], trusted),
        served=_served(members, side, files),
        allowed_cn=_shared(_side(each.declared, side).allowed_cn for each in members),
        allowed_hostname=_shared(_side(each.declared, side).allowed_hostname for each in members),
    )


def roles_that_dial_with_another(members: Members) -> frozenset[Role]:
    """Return the roles of the ports where a member serves one certificate and dials with another."""
    return frozenset(
        role
        for role in Role
        for tls in (_side(member.declared, role.side) for member in members)
        if tls.certificate is not None and tls.dials_with != tls.certificate
    )


def _kubernetes_ca(members: Members, files: FoundFiles) -> TrustBundle | None:
    """Return the CA of the Kubernetes cluster in the parent of etcd's directory, or in kubeadm's own.

    kubeadm's is ``ca.crt``; the one for clients of k3s and RKE2 is ``client-ca.crt``.
    """
    for member in members:
        file = member.declared.file("trusted-ca-file") or member.declared.file("cert-file")
        if file is None or (file.parent.name != "etcd" and file.parent.parts[-2:] != ("kubernetes", "pki")):
            continue
        directory = file.parent.parent if file.parent.name == "etcd" else file.parent
        for name in ("ca.crt", "client-ca.crt"):
            bundle = files.bundle(directory / name, "the CA of Kubernetes")
            if bundle is not None:
                return bundle
    return None


def _side(declared: DeclaredMember, side: Side) -> TLSSide:
    """Return the TLS configuration of a side for the declaration's version, or the newest if it has none."""
    return effective_of(declared).sides[side]


def _bundle(declared: DeclaredMember, side: Side, files: FoundFiles) -> TrustBundle | None:
    """Return the bundle that a member trusts on a side, if its file is on this machine."""
    name = f"{prefix(side)}trusted-ca-file"
    if _side(declared, side).trusted_ca is None:
        return None
    return files.bundle(declared.file(name), named_by(declared, name))


def _server_ca(members: Members, side: Side, files: FoundFiles) -> TrustBundle | None:
    """Return the bundles that a member's own certificate chains to.

    The CA that a member trusts may differ from the CA that issued its own certificate, or not be declared.
    Then it is looked for beside that certificate.
    """
    bundles: dict[TrustBundle, None] = {}
    for member in members:
        bundle = _bundle(member.declared, side, files)
        name = f"{prefix(side)}cert-file"
        chain = files.chain(member.declared.file(name), named_by(member.declared, name))
        if chain and not (bundle and chains_to(chain, bundle.certificates)):
            bundle = _issuer_beside(member.declared, name, chain, files)
        if bundle and chain:
            bundles[bundle] = None
    certificates = dict.fromkeys(found for bundle in bundles for found in bundle.certificates)
    sources = dict.fromkeys(bundle.source for bundle in bundles)
    return TrustBundle(tuple(certificates), ", ".join(sources)) if bundles else None


def _issuer_beside(
    declared: DeclaredMember, name: str, chain: tuple[x509.Certificate, ...], files: FoundFiles
) -> TrustBundle | None:
    """Return the bundle beside a declared certificate, or in ``--etcd-pki-dir``, that it chains to."""
    file = declared.file(name)
    directories = [file.parent, file.parent.parent] if file else []
    directories += [declared.paths.pki_dir] if declared.paths.pki_dir else []
    names = ("peer-ca.crt", "ca.crt", "ca.pem") if name.startswith("peer-") else ("ca.crt", "ca.pem")
    for path in dict.fromkeys(directory / file for directory in directories for file in names):
        bundle = files.bundle(path, str(path))
        if bundle and chains_to(chain, bundle.certificates):
            return bundle
    return None


def _etcdctls_ca(members: Members, files: FoundFiles) -> TrustBundle | None:
    for member in members:
        path = member.declared.declaration.etcdctl.get("ETCDCTL_CACERT")
        file = member.declared.paths.find(path) if path else None
        if bundle := files.bundle(file, "ETCDCTL_CACERT"):
            return bundle
    return None


def _served(members: Members, side: Side, files: FoundFiles) -> tuple[Identity, ...]:
    p = prefix(side)
    pairs = (
        _declared_pair(member.declared, p, f"{p}server-{member.label}", files)
        for member in members
        if _side(member.declared, side).certificate is not None
    )
    return tuple(pair for pair in pairs if pair is not None)


def _shared(values: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    """Return the value that all members share; empty if they differ."""
    different = set(values)
    return different.pop() if len(different) == 1 else ()
