"""What to change in a declaration to fix a fault.

The remedy of a check is a sentence. Taken literally it may be half of a change: peers with https URLs and
nothing else do not start, and with a certificate alone accept everybody. A *cure* is the whole of it: the
settings to write and to remove, on the side of a member where the fault is. A check names its cure
(``@check(..., cure=...)``), and several faults with one cause have the same. Nothing edits a file: a cure is
printed as lines in the form of the declaration (:func:`lines`).

A cure lets nobody in who was refused. It replaces neither a declared trust bundle nor a declared certificate:
a wrong leaf is issued again.
:func:`remedy` confirms this by the model of etcd, and that the settings bring about no new trap. Otherwise it
proposes none, and the sentence remains.

A certificate or CA that is not declared has the name that kubeadm gives it, elsewhere a path below
:data:`PLACEHOLDER`, where no file is. etcd does not start with it, and a remark says what belongs there.
Remarks also say what comes with the restart that every change needs: which clients at hand will be refused. A
cure that changes nothing has remarks alone: the declaration is right, and something else runs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace as with_changes
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Final

from cryptography import x509
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
    parse_urls,
)
from pytest_etcdtls.declared.distributions import kubeadm_directory, who_overwrites
from pytest_etcdtls.declared.effective import SIDES, ClientAuthentication, Effective, effective_of, prefix
from pytest_etcdtls.declared.files import client_files
from pytest_etcdtls.declared.flags import LISTS, SECTIONS, has_key, variable_of
from pytest_etcdtls.declared.traps import Trap, traps_of
from pytest_etcdtls.errors import UnreadableFileError, UsageError, escaped
from pytest_etcdtls.pki.certificate import load_certificates, read_pool
from pytest_etcdtls.pki.go_verify import CLIENT_AUTH, verified_path
from pytest_etcdtls.role import Role, Side
from pytest_etcdtls.target import Target, is_address
from pytest_etcdtls.untrusted import file_word, pasted, read_regular, shell_word

PLACEHOLDER: Final = "/REPLACE-WITH"
"""The directory of files that only the operator knows. etcd does not start without them."""


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
    p = prefix(side)
    yield from without(f"{p}auto-tls")(case)
    yield from _pair(case, side)
    yield Change(f"{p}client-cert-auth", "true")
    yield from _trusted_ca(case, side)


def _pair(case: FaultyMember, side: Side) -> Iterator[Change | Remark]:
    """Yield the certificate and the key, or the half of the pair that is not declared."""
    declared = {end: case.declaration.text(f"{prefix(side)}{end}-file") for end in ("cert", "key")}
    if all(declared.values()):
        return
    name = "peer" if side == "peer" else "server"
    kubeadm = kubeadm_directory(case.declaration)
    path = f"{kubeadm or PLACEHOLDER}/{name}"
    for end, suffix in (("cert", "crt"), ("key", "key")):
        if declared[end] is None:
            yield Change(f"{prefix(side)}{end}-file", f"{path}.{suffix}")
    if given := next(filter(None, declared.values()), None):
        yield Remark(f"write the path of the other half of the pair of {escaped(given)}")
    elif kubeadm:
        made = _kubeadm(kubeadm, "init", "phase", "certs", f"etcd-{name}")
        yield Remark(f"if {escaped(path)}.crt does not exist yet: {made}")
    else:
        hosts = escaped(", ".join(case.hosts(side))) or "the member"
        yield Remark(
            f"{path}.crt and {name}.key stand for files that are not declared: issue a certificate for "
            f"{hosts} with extendedKeyUsage serverAuth, clientAuth, and write its path here, and its key's"
        )


def _trusted_ca(case: FaultyMember, side: Side) -> Iterator[Change | Remark]:
    """Yield the bundle of the clients' CA, unless one is declared."""
    name = f"{prefix(side)}trusted-ca-file"
    if case.declaration.text(name) is not None:
        return
    kubeadm = kubeadm_directory(case.declaration)
    path = f"{kubeadm or PLACEHOLDER}/{'peer-' if side == 'peer' and not kubeadm else ''}ca.crt"
    yield Change(name, path)
    if not kubeadm:
        whom = "the members' certificates" if side == "peer" else "the certificates of etcd's clients"
        yield Remark(f"{path} stands for the file of the CA that issues {whom}: write its path here")


def trusted_ca(case: FaultyMember) -> Iterator[Change | Remark]:
    """Trust the CA of the clients where no bundle is declared."""
    for side in case.sides:
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
    yield Remark(
        "scrapers of metrics then need a client certificate, and probes of the kubelet have none: keep a URL "
        "http://127.0.0.1:2381 for them"
    )


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


_SUITES: Final = tuple(
    f"TLS_ECDHE_{key}_WITH_AES_{rest}"
    for rest in ("128_GCM_SHA256", "256_GCM_SHA384")
    for key in ("ECDSA", "RSA")
)
"""With ECDHE and AEAD, for any served key. HTTP/2 requires the first two, each for its keys."""


def suites(case: FaultyMember) -> Iterator[Change | Remark]:
    """Name suites with ECDHE and AEAD instead of the declared ones."""
    if not case.declaration.words("cipher-suites"):
        return
    # With TLS 1.3 alone suites decide nothing, and keep etcd from starting.
    only_1_3 = case.declaration.text("tls-min-version") == "TLS1.3"
    yield Change("cipher-suites", None if only_1_3 else ",".join(_SUITES))


def handshakes(case: FaultyMember) -> Iterator[Change | Remark]:
    """Declare suites for each type of key, and allow TLS 1.3."""
    yield from suites(case)
    if case.declaration.text("tls-max-version") == "TLS1.2":
        yield Change("tls-max-version", None)


def hidden_into_file(case: FaultyMember) -> Iterator[Change | Remark]:
    """Write into the configuration file what it hides, if it has keys for all of it.

    What only switches something off is removed: the file decides, and may have it on.
    """
    every = [setting for trap in case.traps for setting in trap.settings]
    written = [one for one in every if one.on or not one.boolean]
    if all(has_key(one.name, case.version) for one in written):
        yield from (Change(one.name, None, one.via) for one in every if one not in written)
        yield from (Change(one.name, one.value, Via.KEY) for one in written)


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


_SIZE: Final = 256 * 1024
"""The largest bundle that is read, in octets."""


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
    try:
        bundle = read_pool(read_regular(file, _SIZE)).certificates
    except UnreadableFileError:
        return
    clients, now = dict(_clients(target, member, side)), datetime.now(UTC)
    accepted = [
        name
        for name, chain in clients.items()
        if verified_path(chain[0], chain[1:], bundle, now, CLIENT_AUTH) is not None
    ]
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
    every = (
        *declaration.settings.values(),
        *declaration.overridden,
        *declaration.shadowed,
        *declaration.hidden,
        *declaration.unknown,
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
    for change in wanted:
        if change.value is not None:
            settings[change.name] = _written(declaration, change)

    def kept(given: Iterable[Setting]) -> tuple[Setting, ...]:
        return tuple(one for one in given if one not in gone)

    return with_changes(
        declaration,
        settings=MappingProxyType(settings),
        hidden=kept(declaration.hidden),
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
