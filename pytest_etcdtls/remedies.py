"""What to change in a declaration to fix a fault.

The remedy of a check is a sentence. Taken literally it may be half of a change: peers with https URLs and
nothing else do not start, and with a certificate alone accept everybody. A *cure* is the whole of it: the
settings to write and to remove, on the side of a member where the fault is. A check names its cure
(``@check(..., cure=...)``), and several faults with one cause have the same. Nothing edits a file: a cure is
printed as lines in the form of the declaration (:func:`lines`).

A cure lets nobody in who was refused. It neither replaces nor extends a trust bundle that is declared, and
names another certificate than the declared one only where that is the fault: a wrong leaf is issued again.
:func:`remedy` confirms this by the model of etcd, and that the settings bring about no new trap. Otherwise it
proposes none, and the sentence remains.

A value is known if a file at hand is right (:mod:`pytest_etcdtls.declared.files_at_hand`): a CA is right if
it has signed the clients that must be accepted. Otherwise the value is a path below :data:`PLACEHOLDER`,
where no file is. etcd does not start with it, and a remark says how to make the file. Remarks also say what
comes with the restart that every change needs: which clients at hand will be refused. A cure that changes
nothing has remarks alone: the declaration is right, and something else runs.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace as with_changes
from pathlib import Path
from types import MappingProxyType
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from msgspec import Struct
from msgspec.structs import force_setattr, replace

from pytest_etcdtls.declared.declaration import (
    TRUE,
    Change,
    Declaration,
    DeclaredMember,
    DeclaredURL,
    Form,
    Setting,
    SourceLine,
    Via,
    exists,
    parse_urls,
)
from pytest_etcdtls.declared.distributions import kubeadm_directory, who_overwrites
from pytest_etcdtls.declared.effective import SIDES, ClientAuthentication, Effective, effective_of, prefix
from pytest_etcdtls.declared.files import client_files
from pytest_etcdtls.declared.files_at_hand import accepts, bundle_for, pairs_for, trusted_by
from pytest_etcdtls.declared.flags import (
    EVERY_FLAG,
    FLAG_OF,
    LISTS,
    SECTIONS,
    flag_known,
    has_key,
    predecessors,
    successor,
    variable_of,
)
from pytest_etcdtls.declared.traps import Trap, traps_of
from pytest_etcdtls.errors import UsageError, escaped
from pytest_etcdtls.pki.certificate import load_certificates, public_key
from pytest_etcdtls.role import Role, Side
from pytest_etcdtls.target import Target, is_address
from pytest_etcdtls.tls.suites import SUITES, Weakness
from pytest_etcdtls.untrusted import file_word, pasted, shell_word

PLACEHOLDER: Final = "/REPLACE-WITH"
"""The directory of the files that do not exist yet. etcd does not start without them."""


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
        text: the sentence. It is made printable, and one line.
        warns: somebody is locked out if it is not read before.
    """

    text: str
    warns: bool = False

    def __post_init__(self) -> None:
        force_setattr(self, "text", escaped(self.text))


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
    """Yield the certificate and the key, or the half of the pair that is not declared."""
    p, other = prefix(side), prefix("client" if side == "peer" else "peer")
    declared = [case.declaration.text(f"{p}{end}") for end in ("cert-file", "key-file")]
    used = case.declaration.text(f"{other}cert-file")
    for pair in pairs_for(case.member, side, case.hosts(side)):
        both = (pair.certificate, pair.key)
        if any(declared) and all(of in (None, here) for of, here in zip(declared, both, strict=True)):
            break
        if not any(declared) and pair.certificate != used:
            break
    else:
        both = ("", "")
    name = "peer" if side == "peer" else "server"
    directory = kubeadm_directory(case.declaration) or PLACEHOLDER
    for end, of, here in zip(("cert", "key"), declared, both, strict=True):
        if of is None:
            suffix = "crt" if end == "cert" else "key"
            yield Change(f"{p}{end}-file", here or f"{directory}/{name}.{suffix}")
    if all(both):
        return
    if directory != PLACEHOLDER:
        made = _kubeadm(directory, "init", "phase", "certs", f"etcd-{name}")
        yield Remark(f"{escaped(directory)}/{name}.crt does not exist yet: {made}")
    elif any(declared):
        given = next(filter(None, declared))
        yield Remark(f"write the path of the other half of the pair of {escaped(given)}")
    else:
        hosts = escaped(", ".join(case.hosts(side))) or "the member"
        yield Remark(
            f"{directory}/{name}.crt and {name}.key stand for files that do not exist yet: issue a "
            f"certificate for {hosts} with extendedKeyUsage serverAuth, clientAuth, and write its path here, "
            "and that of its key"
        )


def _trusted_ca(case: FaultyMember, side: Side) -> Iterator[Change | Remark]:
    """Yield the bundle that has signed the clients, unless one is declared."""
    name = f"{prefix(side)}trusted-ca-file"
    if case.declaration.text(name) is not None:
        return
    chains = list(case.chains(side))
    if side == "peer" and not chains:
        pairs = list(pairs_for(case.member, side, case.hosts(side)))
        chains = _chains_of(case.member, pairs[0].certificate) if pairs else []
    path = bundle_for(case.member, chains, _known_bundles(case.target, side))
    path_of_ca = f"{PLACEHOLDER}/{'peer-' if side == 'peer' else ''}ca.crt"
    yield Change(name, path or path_of_ca)
    if path is None:
        whom = "the members' certificates" if side == "peer" else "the certificates of etcd's clients"
        yield Remark(
            f"{path_of_ca} stands for a file that is not known here: write the path of the CA that issues "
            f"{whom}"
        )


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


def swapped_pairs(case: FaultyMember) -> Iterator[Change | Remark]:
    """Exchange the pairs of the two ports, if each is of the CA of the other port."""
    bundle = case.member.file("peer-trusted-ca-file")
    client, peer = (
        _chains_of(case.member, case.declaration.text(name) or "") for name in ("cert-file", "peer-cert-file")
    )
    if bundle is None or not client or not peer:
        return
    of_peers, of_clients = trusted_by(bundle), _known_bundles(case.target, "client")
    if (
        accepts(of_peers, client[0])
        and not accepts(of_peers, peer[0])
        and any(accepts(trusted_by(path), peer[0]) for path in of_clients)
    ):
        yield from exchanged_pairs(case)


def own_pair_of_peers(case: FaultyMember) -> Iterator[Change | Remark]:
    """Serve another pair to peers, if one is at hand that they accept."""
    used, bundle = case.declaration.text("cert-file"), case.member.file("peer-trusted-ca-file")
    for pair in pairs_for(case.member, "peer", case.hosts("peer")):
        chains = _chains_of(case.member, pair.certificate)
        if pair.certificate != used and bundle and any(accepts(trusted_by(bundle), one) for one in chains):
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
            # The value of feature-gates then has what is given.
            new = name not in given or name == "feature-gates"
            if new and (setting.via is not Via.KEY or has_key(name, case.version)):
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


def one_of_two(case: FaultyMember) -> Iterator[Change | Remark]:
    """Remove the variable beside a flag that says the same."""
    for setting in case.declaration.shadowed:
        if _equal(setting.value, case.declaration.settings[setting.name].value):
            yield Change(setting.name, None, Via.VARIABLE)


def auto_tls_removed(case: FaultyMember) -> Iterator[Change | Remark]:
    """Remove --auto-tls where etcd ignores it."""
    for trap in case.traps:
        yield from (Change(one.name, None) for one in trap.settings if one.name.endswith("auto-tls"))


def hidden_into_file(case: FaultyMember) -> Iterator[Change | Remark]:
    """Write into the configuration file what it hides; without keys for all of it, give all as flags.

    What only switches something off is removed: the file decides, and may have it on.
    """
    every = [setting for trap in case.traps for setting in trap.settings]
    hidden = [one for one in every if one.on or not one.boolean]
    yield from (Change(one.name, None, one.via) for one in every if one not in hidden)
    if all(has_key(one.name, case.version) for one in hidden):
        yield from (Change(one.name, one.value, Via.KEY) for one in hidden)
        return
    yield from all_as_flags(case)
    yield from (Change(one.name, one.value, Via.FLAG) for one in hidden)


def all_as_flags(case: FaultyMember) -> Iterator[Change | Remark]:
    """Give every setting as a flag, without the configuration file."""
    if case.declaration.form is Form.YAML:
        return
    yield Change("config-file", None)
    for setting in case.declaration.settings.values():
        if setting.value and setting.name in EVERY_FLAG:
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
    for name, directory in _made_by_kubeadm(case):
        yield Remark(f"kubeadm made it: {_kubeadm(directory, 'certs', 'renew', f'etcd-{name}')}")


def reissued(case: FaultyMember) -> Iterator[Change | Remark]:
    """Issue the certificate again by the program that has made it, since a renewal keeps what is in it."""
    for name, directory in _made_by_kubeadm(case):
        remove = pasted("rm", *(file_word(f"{directory}/{name}.{end}") for end in ("crt", "key")))
        make = _kubeadm(directory, "init", "phase", "certs", f"etcd-{name}")
        yield Remark(f"kubeadm made it: {remove} && {make}")


def _made_by_kubeadm(case: FaultyMember) -> Iterator[tuple[str, str]]:
    """Yield kubeadm's name of each certificate of the sides that it has made, and their directory."""
    directory = kubeadm_directory(case.declaration)
    for side in case.sides if directory else ():
        name = "peer" if side == "peer" else "server"
        if case.declaration.text(f"{prefix(side)}cert-file") == f"{directory}/{name}.crt":
            yield name, directory


def _kubeadm(directory: str, *words: str) -> str:
    parent = str(Path(directory).parent)
    elsewhere = () if parent == "/etc/kubernetes/pki" else ("--cert-dir", parent)
    return pasted("kubeadm", *words, *elsewhere)


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
            f"after the restart {port} refuses {', '.join(refused)}: not signed by a CA in "
            f"{escaped(tls.trusted_ca)}, or not valid now. Before the restart, issue it a certificate of a "
            "CA in that file",
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
        settings: those to write and to remove, one line each.
        warnings: who is locked out if nothing is done before a restart.
        remarks: the other sentences, which add to the check's remediation as the warnings do.
    """

    settings: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


def remedy(cure: Cure, cases: Iterable[FaultyMember]) -> Remedy:
    """Return what a cure comes to on these members."""
    settings: list[str] = []
    said: list[Remark] = []
    for case in cases:
        steps = list(cure(case))
        changes = [step for step in steps if isinstance(step, Change)]
        after = replace(case.member, declaration=changed(case.declaration, changes))
        if why := _against(case, after):
            said.append(Remark(f"no setting of {escaped(case.declaration.source)} is proposed: {why}"))
            continue
        said += [step for step in steps if isinstance(step, Remark)]
        if written := list(lines(case.declaration, changes)):
            settings += written
            said += map(Remark, who_overwrites(case.declaration))
            said += _about(case, after)
    return Remedy(
        settings=tuple(dict.fromkeys(settings)),
        warnings=tuple(dict.fromkeys(one.text for one in said if one.warns)),
        remarks=tuple(dict.fromkeys(one.text for one in said if not one.warns)),
    )


def _against(case: FaultyMember, after: DeclaredMember) -> str:
    """Return why changed settings are not proposed; empty if nothing is against them."""
    known = {trap.id for trap in traps_of(case.member, case.version)}
    for trap in traps_of(after, case.version):
        if trap.id not in known and not trap.harmless and trap.certain:
            return f"with it {trap.summary}"
    before, now = (effective_of(one, case.version) for one in (case.member, after))
    for side in SIDES:
        name = f"{prefix(side)}trusted-ca-file"
        declared = case.declaration.text(name)
        if declared and after.declaration.text(name) != declared:
            return f"it would replace the bundle of --{name}"
        if _admits_more(before, now, side):
            return f"with it the {side} port would accept clients that it refuses"
    return ""


def _admits_more(before: Effective, after: Effective, side: Side) -> bool:
    """Return whether a port of a side accepts clients that it refused, as far as settings decide."""
    plain = [{one.url.address for one in of.listeners if one.plaintext} for of in (before, after)]
    was, is_now = before.sides[side], after.sides[side]
    if not was.requests_certificate:
        return not plain[1] <= plain[0]
    return (
        not plain[1] <= plain[0]
        or not is_now.requests_certificate
        or (is_now.client_auth is ClientAuthentication.SYSTEM_ROOTS and was.client_auth != is_now.client_auth)
        or any(
            bool(getattr(was, rule)) and not getattr(is_now, rule)
            for rule in ("client_cert_auth", "allowed_cn", "allowed_hostname", "crl_file")
        )
        or (is_now.skips_san_rule and not was.skips_san_rule)
    )


def _about(case: FaultyMember, member: DeclaredMember) -> Iterator[Remark]:
    """Yield whom a changed declaration refuses."""
    for side in SIDES:
        before, now = (effective_of(one, case.version).sides[side] for one in (case.member, member))
        if (before.trusted_ca, before.client_auth) != (now.trusted_ca, now.client_auth):
            yield from _clients_after_restart(case.target, member, case.version, side)


def _equal(one: str, other: str) -> bool:
    return one == other or (one in TRUE and other in TRUE)


def _given(declaration: Declaration, name: str, via: Via | None) -> list[Setting]:
    """Return every place in which a setting is given, also where it has no effect."""
    started = declaration.started_with
    every = (
        *declaration.settings.values(),
        *declaration.overridden,
        *declaration.shadowed,
        *declaration.hidden,
        *declaration.unknown,
        *(one for one in started.arguments if isinstance(one, Setting) and one.name == "config-file"),
        *(one for one in started.variables if one.name == "config-file"),
    )
    return [one for one in dict.fromkeys(every) if one.name == name and via in (None, one.via)]


def _last(changes: Iterable[Change]) -> list[Change]:
    """Return the changes; of several of one setting the last one."""
    return [*{(one.name, one.via): one for one in changes}.values()]


def _way(declaration: Declaration, change: Change) -> Via:
    """Return how the setting of a change is given: as it is now, else as others are."""
    if change.via is not None:
        return change.via
    if change.name in declaration.settings:
        return declaration.settings[change.name].via
    if declaration.config_file or declaration.form is Form.YAML:
        return Via.KEY
    flags = any(one.via is Via.FLAG for one in declaration.settings.values())
    return Via.FLAG if flags else Via.VARIABLE


def _written(declaration: Declaration, change: Change) -> Setting:
    """Return the setting that a change adds, at the line of the one that it replaces."""
    via, name = _way(declaration, change), change.name
    old = _given(declaration, name, via)
    every = (*declaration.settings.values(), *declaration.hidden)
    files = [one.place.file for one in every if one.via is via]
    own = declaration.config_file if via is Via.KEY and declaration.form is not Form.YAML else None
    place = old[-1].place if old else SourceLine(files[0] if files else own or declaration.source)
    spelled = variable_of(name) if via is Via.VARIABLE else f"--{name}" if via is Via.FLAG else name
    for section, keys in SECTIONS.items() if via is Via.KEY else ():
        spelled = next((f"{section}.{key}" for key, flag in keys.items() if flag == name), spelled)
    return Setting(name=name, value=change.value or "", spelled=spelled, via=via, place=place)


def changed(declaration: Declaration, changes: Iterable[Change]) -> Declaration:
    """Return the declaration with these changes, as far as its settings in force go."""
    wanted = _last(changes)
    gone = {one for change in wanted for one in _given(declaration, change.name, change.via)}
    settings = {name: one for name, one in declaration.settings.items() if one not in gone}
    config_file = declaration.config_file
    if any(change.name == "config-file" for change in wanted):
        settings = {one.name: one for one in declaration.hidden if one not in gone}
        config_file = None
    for change in wanted:
        if change.value is not None:
            settings[change.name] = _written(declaration, change)

    def kept(given: Iterable[Setting]) -> tuple[Setting, ...]:
        return tuple(one for one in given if one not in gone)

    hidden = declaration.hidden if config_file else ()
    return with_changes(
        declaration,
        settings=MappingProxyType(settings),
        config_file=config_file,
        hidden=kept(one for one in hidden if one.name not in settings),
        overridden=kept(declaration.overridden),
        shadowed=kept(declaration.shadowed),
        unknown=kept(declaration.unknown),
    )


def lines(declaration: Declaration, changes: Iterable[Change]) -> Iterator[str]:
    """Yield the settings to remove and to write as the declaration has them, with file and line.

    Each is ``- `` or ``+ ``, an argument, a variable or a key of etcd's configuration file, and a comment.
    """
    for change in _last(changes):
        via = change.via if change.value is None else _way(declaration, change)
        old = _given(declaration, change.name, via)
        if change.value is not None and old and _equal(old[-1].value, change.value):
            continue
        yield from (f"- {_line(one, declaration.form)}" for one in old)
        if change.value is not None:
            yield f"+ {_line(_written(declaration, change), declaration.form)}"


_PLAIN: Final = re.compile(r"[\w./:=@%+-]+", re.ASCII)
"""A scalar of YAML that needs no quotation marks."""


def _line(setting: Setting, form: Form) -> str:
    where = [str(setting.place)]
    if setting.via is Via.KEY:
        section, _, key = setting.spelled.rpartition(".")
        words = setting.shown.split(",") if key in LISTS else [setting.shown]
        words = [one if _PLAIN.fullmatch(one) else json.dumps(one) for one in words]
        text = f"{key}: [{', '.join(words)}]" if key in LISTS else f"{key}: {words[0]}"
        where = [*filter(None, [section]), *where]
    elif form is Form.MANIFEST:
        text = setting.written
    else:
        text = f"{setting.spelled}={shell_word(setting.shown)}"
    return f"{text}  # {', '.join(where)}"
