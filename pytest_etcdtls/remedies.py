"""What to change in a declaration so that a fault goes.

The remedy of a check is a sentence. Taken literally it may be half of a change: peers with https URLs and
nothing else do not start, and with a certificate alone accept everybody. A *cure* is the whole of it: the
settings to write and to remove, on the side of a member where the fault is. A check names its cure
(``@check(..., cure=...)``), and several faults with one cause have the same.

A value is known if a file at hand is right (:mod:`pytest_etcdtls.declared.files_at_hand`): a CA is right if
it has signed the clients that must be accepted. Otherwise the value is a path below :data:`PLACEHOLDER`,
where no file is. etcd does not start with it, and a remark says how to make the file. Remarks also say what
comes with the restart that every change needs: which clients at hand will be refused.

A cure that changes nothing has remarks alone: the declaration is right, and something else runs. A change is
confirmed before it is shown: the new declaration must have no trap that the old one has not.
"""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeGuard

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from msgspec import Struct
from msgspec.structs import replace

from pytest_etcdtls.declared.declaration import (
    Change,
    Declaration,
    DeclaredMember,
    DeclaredURL,
    Form,
    Setting,
    Via,
    exists,
    masked,
    parse_urls,
)
from pytest_etcdtls.declared.distributions import kubeadm_directory, who_overwrites
from pytest_etcdtls.declared.effective import SIDES, effective_of, prefix
from pytest_etcdtls.declared.files import client_files
from pytest_etcdtls.declared.files_at_hand import accepts, bundle_for, has_signed, pairs_for, trusted_by
from pytest_etcdtls.declared.flags import EVERY_FLAG, FLAG_OF, flag_known, has_key, predecessors, successor
from pytest_etcdtls.declared.look_ahead import look_ahead
from pytest_etcdtls.declared.traps import Trap, traps_of
from pytest_etcdtls.errors import NotEditableError, UsageError, escaped
from pytest_etcdtls.pki.certificate import load_certificates, public_key
from pytest_etcdtls.role import Role, Side
from pytest_etcdtls.target import Target, is_address
from pytest_etcdtls.tls.suites import SUITES, Weakness
from pytest_etcdtls.untrusted import shell_word

if TYPE_CHECKING:
    from pytest_etcdtls.declared.editing import Edited

PLACEHOLDER: Final = "/REPLACE-WITH"
"""The directory of the files that do not exist yet. etcd does not start without them."""

FILE: Final = "FILE"
"""Where a diff is, for the command that applies it, until somebody saves it."""
FIX_BEGINS: Final = "# pytest-etcdtls: "
"""How the file of ``--etcd-fix`` begins. No other file is replaced by one."""


class FaultyMember(Struct, frozen=True, kw_only=True):
    """One member, and where the fault is.

    Attributes:
        check: id of the check.
        label: label of the member.
        version: of the etcd that runs; ``None`` if it is not known.
        sides: the sides that the fault concerns.
    """

    check: str
    target: Target
    label: str
    member: DeclaredMember
    version: str | None
    sides: tuple[Side, ...] = SIDES

    @property
    def declaration(self) -> Declaration:
        """What its operator wrote."""
        return self.member.declaration

    @property
    def traps(self) -> Iterator[Trap]:
        """The traps that the check is about."""
        return (trap for trap in traps_of(self.member, self.version) if f"config.{trap.id}" == self.check)

    def hosts(self, side: Side) -> tuple[str, ...]:
        """Return the hosts at which the member is reached by others, or else those that it listens on."""
        names = (f"{'initial-' if side == 'peer' else ''}advertise-{side}-urls", f"listen-{side}-urls")
        urls = [url for name in names for url in self.declaration.urls(name) if not url.is_socket]
        urls = [url for url in urls if not (url.is_wildcard or url.is_loopback)] or urls
        return tuple(dict.fromkeys(url.host for url in urls if not url.is_wildcard))

    def chains(self, side: Side) -> tuple[Sequence[x509.Certificate], ...]:
        """Return the certificates that the side must accept: the user's, and of peers their own."""
        credentials = self.target.credentials(Role.PEER if side == "peer" else Role.CLIENT)
        if side == "client":
            named = (credentials.named,) if credentials.named else credentials.identities[:1]
            return tuple(one.chain for one in named if one.chain)
        file = self.member.file("peer-client-cert-file") or self.member.file("peer-cert-file")
        if file is None:
            return tuple(one.chain for one in credentials.identities if one is credentials.named)
        try:
            return (load_certificates(file),)
        except UsageError:
            return ()


class Remark(Struct, frozen=True):
    """A sentence that comes with the changes: how to make a file, what to do before the restart.

    Attributes:
        warns: somebody is locked out if it is not read before.
    """

    text: str
    warns: bool = False


Cure = Callable[[FaultyMember], Iterator[Change | Remark]]


def client_certificates(case: FaultyMember) -> Iterator[Change | Remark]:
    """Require certificates of clients: a pair, the trusted CA and the switch, and nothing generated."""
    for side in case.sides:
        yield from _mutual_tls(case, side)


def _mutual_tls(case: FaultyMember, side: Side) -> Iterator[Change | Remark]:
    declaration, p = case.declaration, prefix(side)
    if f"{p}auto-tls" in declaration.settings:
        yield Change(f"{p}auto-tls", None)
    if declaration.text(f"{p}cert-file") is None or declaration.text(f"{p}key-file") is None:
        yield from _pair(case, side)
    yield Change(f"{p}client-cert-auth", "true")
    yield from _trusted_ca(case, side)


def _pair(case: FaultyMember, side: Side) -> Iterator[Change | Remark]:
    p, other = prefix(side), prefix("client" if side == "peer" else "peer")
    pairs = list(pairs_for(case.member, side, case.hosts(side)))
    used = case.declaration.text(f"{other}cert-file")
    pair = next((one for one in pairs if one.certificate != used), None)
    name = "peer" if side == "peer" else "server"
    if pair is not None:
        yield Change(f"{p}cert-file", pair.certificate)
        yield Change(f"{p}key-file", pair.key)
        return
    directory = kubeadm_directory(case.declaration) or PLACEHOLDER
    for setting, end in ((f"{p}cert-file", "crt"), (f"{p}key-file", "key")):
        yield Change(setting, f"{directory}/{name}.{end}")
    hosts = ", ".join(case.hosts(side)) or "the member"
    if directory != PLACEHOLDER:
        yield Remark(f"{directory}/{name}.crt does not exist yet: kubeadm init phase certs etcd-{name}")
    else:
        yield Remark(
            f"{directory}/{name}.crt and {name}.key stand for files that do not exist yet: issue a "
            f"certificate for {hosts} with extendedKeyUsage serverAuth, clientAuth, and write its path here, "
            "and that of its key"
        )


def _trusted_ca(case: FaultyMember, side: Side) -> Iterator[Change | Remark]:
    """Yield the bundle that has signed the clients, unless the declared one has."""
    name = f"{prefix(side)}trusted-ca-file"
    declared, chains = case.member.file(name), list(case.chains(side))
    if side == "peer" and not chains:
        pairs = list(pairs_for(case.member, side, case.hosts(side)))
        chains = _chains_of(case.member, pairs[0].certificate) if pairs else []
    if declared is not None and (not chains or all(has_signed(trusted_by(declared), one) for one in chains)):
        return
    if declared is None and case.declaration.text(name) is not None:
        return  # it is not here, so nothing is known against it
    if side == "peer" and declared is not None and _are_exchanged(case, trusted_by(declared)):
        yield from exchanged_pairs(case)
        return
    path = bundle_for(case.member, chains, _known_bundles(case.target, side))
    path_of_ca = f"{PLACEHOLDER}/{'peer-' if side == 'peer' else ''}ca.crt"
    yield Change(name, path or path_of_ca)
    if path is None:
        whom = "the members' certificates" if side == "peer" else "the certificates of etcd's clients"
        yield Remark(
            f"{path_of_ca} stands for a file that is not known here: write the path of the CA that issues "
            f"{whom}"
        )


def _are_exchanged(case: FaultyMember, peers: Sequence[x509.Certificate]) -> bool:
    """Return whether the CA of peers has signed the pair that clients get."""
    path = case.declaration.text("cert-file")
    return any(has_signed(peers, chain) for chain in (_chains_of(case.member, path) if path else ()))


def _chains_of(member: DeclaredMember, path: str) -> list[Sequence[x509.Certificate]]:
    file = member.paths.find(path)
    try:
        return [load_certificates(file)] if file else []
    except UsageError:
        return []


def _known_bundles(target: Target, side: Side) -> list[Path]:
    """Return the files of the CAs that the user named."""
    credentials = target.credentials(Role.PEER if side == "peer" else Role.CLIENT)
    bundles = (credentials.client_trust, credentials.server_ca)
    paths = (Path(one) for bundle in bundles if bundle for one in bundle.source.split(", "))
    return [path for path in dict.fromkeys(paths) if exists(path)]


def trusted_ca(case: FaultyMember) -> Iterator[Change | Remark]:
    """Trust the CA that has signed the clients which must be accepted."""
    for side in case.sides:
        if case.chains(side):
            yield from _trusted_ca(case, side)


_URLS: Final[Mapping[Side, tuple[str, ...]]] = {
    "client": ("listen-client-urls", "listen-client-http-urls", "advertise-client-urls"),
    "peer": ("listen-peer-urls", "initial-advertise-peer-urls", "initial-cluster"),
}


def https(case: FaultyMember) -> Iterator[Change | Remark]:
    """Serve and advertise https alone, with all that a side needs for it."""
    for side in case.sides:
        changes = [one for name in _URLS[side] for one in _secured(case, name)]
        tls = effective_of(case.member, case.version).sides[side]
        yield from changes
        if changes and not (tls.certificate and tls.key and tls.trusted_ca and tls.client_cert_auth):
            yield from _mutual_tls(case, side)
        if changes and side == "peer":
            yield Remark(
                "etcd keeps the peer URLs of its members: in a cluster that exists, change them first with "
                "etcdctl member update ID --peer-urls=https://..."
            )


def _secured(case: FaultyMember, name: str) -> Iterator[Change]:
    setting = case.declaration.settings.get(name)
    if setting is None or not setting.value:
        return
    words = [word.strip().replace("http://", "https://") for word in setting.value.split(",")]
    words = list(dict.fromkeys(words))
    if name == "advertise-client-urls":
        words = _advertisable(case, words)
    if words != [word.strip() for word in setting.value.split(",")]:
        yield Change(name, ",".join(words))


def _advertisable(case: FaultyMember, urls: list[str]) -> list[str]:
    """Return the URLs without addresses at which the member does not listen."""
    listen = case.declaration.urls("listen-client-urls")
    if not listen or any(url.is_wildcard or url.is_socket for url in listen):
        return urls
    ports = {url.address for url in listen}
    kept = [url for url in urls if all(_is_elsewhere(one, ports) for one in parse_urls(url).urls)]
    return kept or list(dict.fromkeys(f"https://{url.address}" for url in listen))


def _is_elsewhere(url: DeclaredURL, listening: set[str]) -> bool:
    return not is_address(url.host) or url.address in listening


def https_clients(case: FaultyMember) -> Iterator[Change | Remark]:
    """Serve and advertise https alone to clients."""
    yield from https(replace(case, sides=("client",)))


def https_peers(case: FaultyMember) -> Iterator[Change | Remark]:
    """Serve and advertise https alone to peers."""
    yield from https(replace(case, sides=("peer",)))


def advertised(case: FaultyMember) -> Iterator[Change | Remark]:
    """Advertise the URLs on which the member listens."""
    yield from _secured(case, "advertise-client-urls")


def https_metrics(case: FaultyMember) -> Iterator[Change | Remark]:
    """Serve metrics by https, with the client authentication of the client port."""
    yield from _secured(case, "listen-metrics-urls")


def without(*names: str) -> Cure:
    """Return the cure that removes flags."""

    def cure(case: FaultyMember) -> Iterator[Change | Remark]:
        for name in names:
            if name in case.declaration.settings:
                yield Change(name, None)

    return cure


SAN_CHECK_OFF: Final = (
    *("peer-skip-client-san-verification", "experimental-peer-skip-client-san-verification"),
    "client-skip-client-san-verification",
)
"""The flags that switch the SAN rule off."""


def no_profiles(case: FaultyMember) -> Iterator[Change | Remark]:
    """Turn profiling off: its flags, and the log level debug, which also turns it on."""
    yield from without("enable-pprof", "debug")(case)
    if case.declaration.text("log-level") == "debug":
        yield Change("log-level", "info")


def suites(case: FaultyMember) -> Iterator[Change | Remark]:
    """Name the suites with ECDHE and AEAD that fit the served keys, those first that were named."""
    if not case.declaration.words("cipher-suites"):
        return
    if case.declaration.text("tls-min-version") == "TLS1.3":
        yield Change("cipher-suites", None)  # which decides nothing there, and keeps etcd from starting
        return
    kinds = dict.fromkeys(_key_kind(case, side) for side in SIDES)
    fitting = [
        f"TLS_ECDHE_{kind}_WITH_AES_{rest}"
        for kind in kinds
        for rest in ("128_GCM_SHA256", "256_GCM_SHA384")
        if kind
    ]
    weakness = {suite.name: suite.weakness for suite in SUITES}
    good = [
        name
        for name in case.declaration.words("cipher-suites")
        if weakness.get(name.removesuffix("_SHA256") if name.endswith("1305_SHA256") else name, Weakness.NONE)
        is Weakness.NONE
        and any(f"_ECDHE_{kind}_" in name for kind in kinds)
    ]
    if fitting:
        yield Change("cipher-suites", ",".join(dict.fromkeys([*good, *fitting])))


def handshakes(case: FaultyMember) -> Iterator[Change | Remark]:
    """Offer what clients and the served keys have in common: fitting suites, and TLS 1.3."""
    yield from suites(case)
    if case.declaration.text("tls-max-version") == "TLS1.2":
        yield Change("tls-max-version", None)


def _key_kind(case: FaultyMember, side: Side) -> str:
    """Return what the names of suites call the key of a side: RSA, or ECDSA, also for Ed25519."""
    path = case.declaration.text(f"{prefix(side)}cert-file")
    for chain in _chains_of(case.member, path) if path else []:
        return "RSA" if isinstance(public_key(chain[0]), rsa.RSAPublicKey) else "ECDSA"
    return ""


def exchanged_pairs(case: FaultyMember) -> Iterator[Change | Remark]:
    """Exchange the pairs of the two ports."""
    for end in ("cert-file", "key-file"):
        client, peer = case.declaration.text(end), case.declaration.text(f"peer-{end}")
        if client and peer:
            yield Change(end, peer)
            yield Change(f"peer-{end}", client)


def own_pair_of_peers(case: FaultyMember) -> Iterator[Change | Remark]:
    """Serve another pair to peers, if one is at hand."""
    used = case.declaration.text("cert-file")
    for pair in pairs_for(case.member, "peer", case.hosts("peer")):
        if pair.certificate != used:
            yield Change("peer-cert-file", pair.certificate)
            yield Change("peer-key-file", pair.key)
            return


def known_names(case: FaultyMember) -> Iterator[Change | Remark]:
    """Give flags, variables and keys by the names that this version has, and remove those without one."""
    given = case.declaration.settings
    for setting in dict.fromkeys(setting for trap in case.traps for setting in trap.settings):
        if "crl" in setting.spelled.lower() and setting.via is Via.KEY:
            yield from all_as_flags(case)
            return
        yield Change(setting.name, None, setting.via)
        for name, value in _names_now(setting, case):
            if name not in given or name == "feature-gates":  # whose value then has what is given
                yield Change(name, value, setting.via)


def _names_now(setting: Setting, case: FaultyMember) -> list[tuple[str, str]]:
    """Return name and value of what a setting is called in a version; empty if it has no such thing."""
    version = case.version
    if new := successor(setting, case.declaration, version):
        return [new]
    if old := predecessors(setting, version):
        return list(old)
    if setting.via is Via.VARIABLE:
        names = {one: flag for one, flag in FLAG_OF.items() if flag_known(flag, version)}
        close = difflib.get_close_matches(setting.spelled, sorted(names), 1, cutoff=0.8)
        return [(names[close[0]], setting.value)] if close else []
    name = setting.spelled.rpartition(".")[2].lstrip("-").lower()
    known = sorted(one for one in EVERY_FLAG if flag_known(one, version))
    close = difflib.get_close_matches(name, known, 1, cutoff=0.8)
    return [(close[0], setting.value)] if close else []


def names_of_next_version(case: FaultyMember) -> Iterator[Change | Remark]:
    """Give settings by the names that they keep, as far as the version that runs has these."""
    prospects = look_ahead(case.member, case.version) if case.version else ()
    for setting in dict.fromkeys(setting for one in prospects for setting in one.settings):
        if new := successor(setting, case.declaration, case.version):
            yield Change(setting.name, None, setting.via)
            yield Change(*new, setting.via)


def one_of_two(case: FaultyMember) -> Iterator[Change | Remark]:
    """Remove the variable beside a flag."""
    for setting in case.declaration.shadowed:
        yield Change(setting.name, None, Via.VARIABLE)


def hidden_into_file(case: FaultyMember) -> Iterator[Change | Remark]:
    """Write into the configuration file what it hides; without keys for all of it, give all as flags."""
    hidden = [setting for trap in case.traps for setting in trap.settings]
    if not all(has_key(one.name, case.version) for one in hidden):
        yield from all_as_flags(case)
    else:
        yield from (Change(one.name, one.value, Via.KEY) for one in hidden)


def all_as_flags(case: FaultyMember) -> Iterator[Change | Remark]:
    """Give every setting as a flag, without the configuration file."""
    declaration = case.declaration
    if declaration.form is Form.YAML:
        return
    yield Change("config-file", None)
    flags = {one.name for one in declaration.hidden}
    for setting in declaration.settings.values():
        if setting.name not in flags and setting.value and setting.name in EVERY_FLAG:
            yield Change(setting.name, setting.value, Via.FLAG)


def gateway_named(case: FaultyMember) -> Iterator[Change | Remark]:
    """Write down that the gateway is off, as it is."""
    yield Change("enable-grpc-gateway", "false")


def one_name(case: FaultyMember) -> Iterator[Change | Remark]:
    """Allow one name, that of the members' own certificates if it is among them."""
    for trap in case.traps:
        for setting in trap.settings:
            names = setting.value.split(",")
            own = [
                str(one.value)
                for chain in case.chains("peer")
                for one in chain[0].subject
                if one.oid == _COMMON_NAME
            ]
            yield Change(setting.name, next((name for name in names if name in own), names[0]))


_COMMON_NAME: Final = x509.oid.NameOID.COMMON_NAME


def renewed(case: FaultyMember) -> Iterator[Change | Remark]:
    """Renew the certificate by the program that has made it."""
    yield from _by_kubeadm(case, "kubeadm certs renew etcd-{name}")


def reissued(case: FaultyMember) -> Iterator[Change | Remark]:
    """Issue the certificate again by the program that has made it, since a renewal keeps what is in it."""
    remove = "rm {directory}/{name}.crt {directory}/{name}.key"
    yield from _by_kubeadm(case, f"{remove} && kubeadm init phase certs etcd-{{name}}")


def _by_kubeadm(case: FaultyMember, command: str) -> Iterator[Remark]:
    directory = kubeadm_directory(case.declaration)
    for side in case.sides if directory else ():
        name = "peer" if side == "peer" else "server"
        if case.declaration.text(f"{prefix(side)}cert-file") == f"{directory}/{name}.crt":
            end = "" if directory == _KUBEADM else f" --cert-dir {shlex.quote(str(Path(directory).parent))}"
            yield Remark(f"kubeadm made it: {command.format(directory=directory, name=name)}{end}")


_KUBEADM: Final = "/etc/kubernetes/pki/etcd"


def restarted(case: FaultyMember) -> Iterator[Change | Remark]:
    """Restart etcd with the declaration as it is; say first which clients it will accept and refuse."""
    for side in case.sides:
        yield from _clients_after_restart(case.target, case.member, case.version, side)


def _clients_after_restart(
    target: Target, member: DeclaredMember, version: str | None, side: Side
) -> Iterator[Remark]:
    """Yield which clients at hand the declared bundle accepts, and which it locks out."""
    tls = effective_of(member, version).sides[side]
    file = member.file(f"{prefix(side)}trusted-ca-file")
    if tls.trusted_ca is None or file is None:
        return
    bundle, clients = trusted_by(file), dict(_clients(target, member, side))
    accepted = [name for name, chain in clients.items() if accepts(bundle, chain)]
    refused = [name for name in clients if name not in accepted]
    port = f"the {side} port"
    if accepted:
        yield Remark(f"after the restart {port} accepts {', '.join(accepted)}")
    if refused:
        yield Remark(
            f"after the restart {port} refuses {', '.join(refused)}: not signed by a CA in {tls.trusted_ca}, "
            "or not valid now. Before the restart, issue it a certificate of that CA, or add its CA to the "
            "file",
            warns=True,
        )


def _clients(
    target: Target, member: DeclaredMember, side: Side
) -> Iterator[tuple[str, Sequence[x509.Certificate]]]:
    """Yield the clients whose certificates are here, with names for messages."""
    credentials = target.credentials(Role.PEER if side == "peer" else Role.CLIENT)
    # The user's client is tried on peer ports, too. That they refuse it is right.
    seen = {one.chain[0] for one in target.client.identities if side == "peer" and one.chain}
    for identity in credentials.identities:
        if identity.chain and identity.chain[0] not in seen:
            seen.add(identity.chain[0])
            yield f"{identity.name} ({escaped(identity.origin)})", identity.chain
    for files in client_files(member) if side == "client" else ():
        try:
            chain = load_certificates(files.certificate)
        except UsageError:
            continue
        if chain[0] not in seen:
            seen.add(chain[0])
            yield f"{files.name} ({escaped(str(files.certificate))})", chain


class Remedy(Struct, frozen=True, kw_only=True):
    """What to do to the declarations of a target.

    Attributes:
        diff: remarks and a unified diff; empty if no file changes.
        warnings: who is locked out if nothing is done before a restart.
        remarks: the other sentences. Without a diff they add to the check's remediation, as the warnings do.
        command: the line that applies the diff.
    """

    diff: str = ""
    warnings: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    command: str = ""


def remedy(cures: Sequence[tuple[Cure, FaultyMember]], saved_as: str = FILE) -> Remedy:
    """Return what the cures come to, all of a member's together. Of two that disagree, the last counts."""
    # Imported here: most runs need no YAML.
    from pytest_etcdtls.declared.editing import merged, patch_directory, unified_diff

    texts: dict[str, tuple[str, str]] = {}
    said: list[Remark] = []
    for member, steps in _by_member(cures):
        edited, problems = _all_that_can_be(member, [[*filter(_is_change, group)] for group in steps])
        said += [Remark(problem) for problem in problems]
        said += [step for group in steps for step in group if isinstance(step, Remark)]
        if problems or (edited is not None and edited.texts):
            said += map(Remark, who_overwrites(member.declaration))
        if edited is not None and edited.texts:
            said += _about(member, edited.declaration)
            for file, (before, after) in edited.texts.items():
                try:
                    after = merged(before, after, texts[file][1]) if file in texts else after
                    texts[file] = (before, after)
                except NotEditableError as error:
                    said.append(Remark(f"the change of {member.label} is not in the diff: {error}"))
    try:
        diff = unified_diff(texts)
    except NotEditableError as error:
        said.append(Remark(str(error)))
        diff = ""
    warnings = tuple(dict.fromkeys(one.text for one in said if one.warns))
    remarks = tuple(dict.fromkeys(one.text for one in said if not one.warns))
    if not diff:
        return Remedy(warnings=warnings, remarks=remarks)
    command = f"patch -d {patch_directory(texts)} -p1 --no-backup-if-mismatch < {shell_word(saved_as)}"
    applied = f"{'saved as FILE, ' * (saved_as == FILE)}it is applied by: {command}"
    heading = "".join(f"# {escaped(line)}\n" for line in (applied, *warnings, *remarks))
    return Remedy(diff=heading + diff, warnings=warnings, remarks=remarks, command=command)


Steps = list[Change | Remark]


def _is_change(step: Change | Remark) -> TypeGuard[Change]:
    return isinstance(step, Change)


def _by_member(cures: Sequence[tuple[Cure, FaultyMember]]) -> Iterator[tuple[FaultyMember, list[Steps]]]:
    """Yield each member with the steps of each of its cures."""
    members: dict[str, tuple[FaultyMember, list[Steps]]] = {}
    for cure, member in cures:
        members.setdefault(member.label, (member, []))[1].append(list(cure(member)))
    yield from members.values()


def _all_that_can_be(
    member: FaultyMember, groups: Sequence[Sequence[Change]]
) -> tuple[Edited | None, list[str]]:
    """Return the declaration with all changes; where that fails, without the groups that cannot be made.

    Those are returned in words.
    """
    try:
        return _edited(member, [change for group in groups for change in group]), []
    except NotEditableError as error:
        if len(groups) == 1:
            return None, list(_in_words(member, groups[0], str(error)))
    edited, made, problems = None, list[Change](), list[str]()
    for group in reversed(groups):  # the last one counts
        try:
            edited = _edited(member, [*group, *made]) or edited
            made = [*group, *made]
        except NotEditableError as error:
            problems += _in_words(member, group, str(error))
    return edited, problems


def _edited(case: FaultyMember, changes: Iterable[Change]) -> Edited | None:
    """Return the changed declaration; ``None`` if nothing is to be changed.

    Raises:
        NotEditableError: if its text cannot be changed so, or the change would bring about another trap.
    """
    from pytest_etcdtls.declared.editing import edit
    from pytest_etcdtls.declared.reading import declared_member

    declaration, wanted = case.declaration, list(changes)
    if not wanted:
        return None
    edited = edit(declaration, wanted, case.member.paths.pki_dir)
    known = {trap.id for trap in traps_of(case.member, case.version)}
    new = declared_member(edited.declaration, case.member.paths.pki_dir)
    for trap in traps_of(new, case.version):
        if trap.id not in known and not trap.harmless and trap.certain:
            raise NotEditableError(f"with that change {trap.summary}")
    return edited


def _in_words(case: FaultyMember, changes: Sequence[Change], why: str) -> Iterator[str]:
    given = [f"--{one.name}={masked(one.name, one.value)}" for one in changes if one.value is not None]
    gone = [f"--{one.name}" for one in changes if one.value is None]
    parts = [f"set {' '.join(given)}"] * bool(given) + [f"remove {' '.join(gone)}"] * bool(gone)
    if parts:
        yield f"in {case.declaration.source} {' and '.join(parts)} (no diff: {why})"


def _about(case: FaultyMember, after: Declaration) -> Iterator[Remark]:
    """Yield whom a changed declaration refuses."""
    from pytest_etcdtls.declared.reading import declared_member

    member = declared_member(after, case.member.paths.pki_dir)
    for side in SIDES:
        before, now = (effective_of(one, case.version).sides[side] for one in (case.member, member))
        if (before.trusted_ca, before.client_auth) != (now.trusted_ca, now.client_auth):
            yield from _clients_after_restart(case.target, member, case.version, side)
