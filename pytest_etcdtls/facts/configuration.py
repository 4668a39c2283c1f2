"""What is declared about a listener, and what the wire shows of it.

A declaration is what etcd is meant to be started with: a manifest, a unit, a configuration file or a command
line (:mod:`pytest_etcdtls.declared.reading`). Its effect depends on etcd's version, so it is that in the
version that runs (:mod:`pytest_etcdtls.declared.effective`, :mod:`pytest_etcdtls.declared.traps`). Each
listener that is judged is matched with a declared one.

Whether a setting is in force is seen on the wire: by the announced CAs, or by an identity that the setting
excludes. It is not where etcd ignores the setting, or has not read it again: files of trusted CAs are read
only at start (``ServerConfig`` in client/pkg/transport/listener.go).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Self

from cryptography import x509
from msgspec import Struct
from msgspec.structs import replace

from pytest_etcdtls.declared.declaration import (
    DeclaredMember,
    Setting,
    Via,
    is_address,
    meant_by,
)
from pytest_etcdtls.declared.effective import (
    Effective,
    EffectiveListener,
    TLSSide,
    effective_of,
    prefix,
)
from pytest_etcdtls.declared.files import why_absent
from pytest_etcdtls.declared.traps import traps_of
from pytest_etcdtls.declared.traps.trap import FoundTrap
from pytest_etcdtls.errors import NotApplicableError, NotVerifiedError, UnreadableFileError, missing
from pytest_etcdtls.facts.access import AcceptedClient, Access, Candidate
from pytest_etcdtls.facts.access_matrix import (
    UNTRUSTED_IDENTITIES,
    AccessMatrix,
    served_instead,
)
from pytest_etcdtls.facts.fact import Each, Lazy, Planned, fact
from pytest_etcdtls.facts.good_identities import (
    ISSUED,
    credentials_at,
    describe,
    meets_name_rules,
)
from pytest_etcdtls.facts.listener import BAD_CERTIFICATE, TLSContact
from pytest_etcdtls.facts.process_comparison import written_since
from pytest_etcdtls.facts.release import EtcdRelease
from pytest_etcdtls.pki.certificate import MAXIMUM_SIZE, read_pool
from pytest_etcdtls.pki.go_verify import CLIENT_AUTH, ca_faults, find_path, verified_path
from pytest_etcdtls.role import Role, Side
from pytest_etcdtls.target import Listener, PortCredentials, SigningKey, Target
from pytest_etcdtls.untrusted.printable import plural
from pytest_etcdtls.untrusted.regular_files import read_regular


class MemberDeclaration(Struct, frozen=True, kw_only=True):
    """The declaration of one member, and its effect in the etcd version that runs.

    Attributes:
        declared: the declaration and its files.
        version: observed version of the running etcd; ``None`` if it reports none.
        effective: the effective settings in that version; in the latest known etcd if neither the wire nor
            the declaration names a version.
        traps: settings without their apparent effect in that version.
        replayed: etcd was started with the declaration for this run, whether or not it runs now.
    """

    label: str
    declared: DeclaredMember
    version: str | None
    effective: Effective
    traps: tuple[FoundTrap, ...]
    replayed: bool = False

    @classmethod
    def of(cls, label: str, declared: DeclaredMember, version: str | None, *, replayed: bool = False) -> Self:
        """Return a member's declaration with its effect in that version of etcd."""
        effective, traps = effective_of(declared, version), traps_of(declared, version)
        return cls(
            label=label,
            declared=declared,
            version=version,
            effective=effective,
            traps=traps,
            replayed=replayed,
        )

    def as_read(self, name: str) -> Setting | None:
        """Return the setting that a reader expects to be in force; ``None`` if it is not given.

        Where a configuration file hides flags and variables, this is the hidden setting.
        """
        hidden = [setting for setting in self.declared.declaration.hidden if setting.name == name]
        return hidden[-1] if hidden else self.declared.declaration.settings.get(name)

    def misspelt(self, name: str) -> Setting | None:
        """Return an unknown flag, or key of the configuration file, that resembles it; ``None`` for none."""
        unknown = (each for each in self.declared.declaration.unknown if each.via is not Via.VARIABLE)
        return next((each for each in unknown if (right := meant_by(each)) and right.name == name), None)

    @property
    def starts(self) -> bool:
        """Whether etcd starts with it, as far as is certain."""
        return all(trap.starts or not trap.certain for trap in self.traps)


class ListenerDeclaration(Struct, frozen=True, kw_only=True):
    """The declaration for one listener that is judged.

    Attributes:
        here: the listener.
        member: the declaration of its member.
        listener: the matching declared listener; ``None`` if none is declared there.
    """

    here: Listener
    member: MemberDeclaration
    listener: EffectiveListener | None

    @property
    def side(self) -> Side:
        """The side whose settings apply: peer on peer listeners, else client."""
        return self.here.role.side

    @property
    def tls(self) -> TLSSide:
        """The TLS settings that apply, also where the declared listener does not serve TLS."""
        return self.member.effective.sides[self.side]

    def traps(self, id_: str | None = None) -> Iterator[FoundTrap]:
        """Yield the traps of that id, by default of any, that concern this listener."""
        declared = None if self.listener is None else str(self.listener.url)
        for trap in self.member.traps:
            if id_ in (None, trap.id) and (not trap.listeners or declared in trap.listeners):
                yield trap

    def traps_of(self, setting: Setting) -> Iterator[FoundTrap]:
        """Yield the traps of a setting that concern this listener and with which etcd starts."""
        for trap in self.traps():
            if trap.starts and any(other.name == setting.name for other in trap.settings):
                yield trap


def listeners_of_side(member: str, side: Side) -> tuple[str, ...]:
    """Return the listeners of a member to which the settings of a side apply, for ``Finding.concerns``."""
    return tuple(f"{role}-{member}" for role in Role if role.side == side)


class Declarations(Struct, frozen=True):
    """The declarations of the target's members, one each, in the order of their labels; never empty."""

    members: tuple[MemberDeclaration, ...]


class DeclaredBundle(Struct, frozen=True, kw_only=True):
    """The CA bundle declared for a listener's clients, as its file is now.

    Attributes:
        setting: the setting that declares it, as a reader expects.
        certificates: in the file; empty if they could not be read.
        source: path of the file here.
        accepted: name of the good identity that is accepted on the listener; ``None`` if none is.
        signed: one of the certificates issued that identity's certificate, directly or through the
            intermediates that it sends.
        flaw: why etcd, started again with this file, refuses that identity; empty if it does not.
        absent: why the certificates could not be read, and what to do; empty if they were.
        untrusted: names of bad identities that are served although no bundle can hold their CA.
        written: when the file was written after the process of etcd was started; empty if it was not, or no
            process is known.
    """

    setting: Setting
    certificates: tuple[x509.Certificate, ...]
    source: str
    accepted: str | None = None
    signed: bool = False
    flaw: str = ""
    absent: str = ""
    untrusted: tuple[str, ...] = ()
    written: str = ""


class NameRule(Struct, frozen=True, kw_only=True):
    """A declared rule about names in client certificates, and the attempts of an identity that breaks it.

    Attributes:
        setting: the setting that declares it, as a reader expects.
        matrix: the attempts with a certificate that the rule excludes.
    """

    setting: Setting
    matrix: AccessMatrix


class DeclaredNames(Struct, frozen=True):
    """The rules about names that are declared for a listener, and who shows that others are in force.

    Attributes:
        rules: empty if none is declared, and one is in force.
        refused: the client issued with the CA's key, if the rules allow its names and etcd refuses it for
            them; else ``None``.
    """

    rules: tuple[NameRule, ...]
    refused: Candidate | None = None


def _not_declared(what: str) -> NotApplicableError:
    passing = "its manifest or configuration with --etcd-config"
    text = f"the declaration of {what} is not known"
    return NotApplicableError(missing(text, "--etcd-config", passing=passing))


@fact(reported=False)
def declaration_here(here: Listener, target: Target, releases: Each[EtcdRelease]) -> ListenerDeclaration:
    """Return the declaration of the listener's member, with its effect in the version that runs."""
    declared = target.declared.get(here.member)
    if declared is None:
        raise _not_declared(here.url)
    return listener_declaration(target, here, _member_declaration(here.member, declared, target, releases))


@fact(reported=False)
def declarations(target: Target, releases: Each[EtcdRelease]) -> Declarations:
    """Return the declarations of all members that have one, each with its effect in the version that runs."""
    if not target.declared:
        raise _not_declared("the cluster")
    return Declarations(
        tuple(
            _member_declaration(label, declared, target, releases)
            for label, declared in sorted(target.declared.items())
        )
    )


def listener_declaration(
    target: Target, listener: Listener, member: MemberDeclaration
) -> ListenerDeclaration:
    """Return the declaration of a listener, from the declaration of its member."""
    elsewhere = target.origin == "container" or listener.is_forwarded
    declared = _declared_as(listener, member.effective.at(listener.role), elsewhere=elsewhere)
    return ListenerDeclaration(here=listener, member=member, listener=declared)


def _member_declaration(
    label: str, declared: DeclaredMember, target: Target, releases: Each[EtcdRelease]
) -> MemberDeclaration:
    version = target.etcd_version
    if target.runs:
        version = next(_reported_versions(label, target, releases), version)
    return MemberDeclaration.of(label, declared, version, replayed=target.replay is not None)


def _reported_versions(label: str, target: Target, releases: Each[EtcdRelease]) -> Iterator[str]:
    for listener in target.listeners:
        if listener.member == label and (reported := releases.known(listener)) is not None:
            yield str(reported.release)


def _declared_as(
    listener: Listener, declared: tuple[EffectiveListener, ...], *, elsewhere: bool
) -> EffectiveListener | None:
    """Return the declared listener that matches a judged one.

    A match of host and port comes first; a wildcard address matches by port only. Names are not resolved: a
    name may stand for any address, but for loopback only if nothing else is declared. Behind a published port
    or a tunnel (``elsewhere``) host and port may differ, and the only declared listener of that role and
    scheme matches.
    """
    https = listener.scheme == "https"
    same_scheme = [other for other in declared if (other.tls if https else other.plaintext)]

    def named(other: EffectiveListener) -> bool:
        names = not (is_address(other.url.host) and is_address(listener.host))
        return names and other.url.port == listener.port

    rules: tuple[Callable[[EffectiveListener], bool], ...] = (
        lambda other: (other.url.host, other.url.port) == (listener.host, listener.port),
        lambda other: other.url.port == listener.port and other.url.is_wildcard,
        lambda other: named(other) and other.url.is_loopback is (listener.host == "localhost"),
        named,
        lambda _: elsewhere and len(same_scheme) == 1,
    )
    return next((other for matches in rules for other in same_scheme if matches(other)), None)


def _untrusted(_planned: Planned) -> tuple[str, ...]:
    return UNTRUSTED_IDENTITIES


@fact(reported=False)
def declared_bundle(
    target: Target,
    declaration: ListenerDeclaration,
    _contact: TLSContact,  # without TLS, nothing shows whether the setting is in force
    client: Lazy[AcceptedClient],
    untrusted: Lazy[Annotated[AccessMatrix, _untrusted]],
) -> DeclaredBundle:
    """Read the bundle that is declared for the listener, and compare it with who is accepted there."""
    name = f"{prefix(declaration.side)}trusted-ca-file"
    setting = declaration.member.as_read(name)
    if setting is None or not setting.value:
        raise NotApplicableError(f"no --{name} is declared for {declaration.here.url}")
    declared = declaration.member.declared
    path = declared.paths.find(setting.value)
    absent = target.generated or (why_absent(declared, setting) if path is None else "")
    certificates, absent = ((), absent) if absent or path is None else _read_bundle(setting, path)
    accepted, now = client.get().accepted, datetime.now(UTC)
    issued = accepted and find_path(accepted.chain[0], accepted.chain[1:], certificates, now, CLIENT_AUTH)
    flaws = dict.fromkeys(map(str, ca_faults(issued or (), now, CLIENT_AUTH)))
    running = target.running.get(declaration.member.label)
    return DeclaredBundle(
        setting=setting,
        certificates=certificates,
        source=str(path or setting.value),
        absent=absent,
        accepted=accepted.identity if accepted else None,
        signed=bool(issued),
        flaw=", and ".join(flaws),
        untrusted=tuple(name for name in UNTRUSTED_IDENTITIES if untrusted.get(name).cases.accepted),
        written=written_since(running, (str(path),)) if running and path else "",
    )


def _read_bundle(setting: Setting, path: Path) -> tuple[tuple[x509.Certificate, ...], str]:
    """Return the certificates of a bundle, and why not all could be read; empty if they were."""
    try:
        pool = read_pool(read_regular(path, MAXIMUM_SIZE))
    except UnreadableFileError as error:
        return (), f"{setting.spelled} ({setting.place.named}): {path} {error}"
    unparsed = f"{path} holds {plural(pool.unknown, 'certificate')} that this client cannot parse"
    return pool.certificates, unparsed if pool.unknown else ""


def _excluded_or_untrusted(_planned: Planned) -> tuple[str, ...]:
    return ("wrong-hostname", "wrong-cn", *UNTRUSTED_IDENTITIES)


@fact(reported=False)
def declared_names(
    here: Listener,
    target: Target,
    declaration: ListenerDeclaration,
    _contact: TLSContact,  # without TLS, nothing shows whether the setting is in force
    client: Lazy[AcceptedClient],
    matrices: Lazy[Annotated[AccessMatrix, _excluded_or_untrusted]],
    issued: Lazy[Annotated[Candidate, ISSUED]],
) -> DeclaredNames:
    """Return for each rule the attempts of an identity that it excludes: good, issued for that, or served."""
    rules: list[NameRule] = []
    credentials = credentials_at(here, target)
    for kind, known in (("hostname", credentials.allowed_hostname), ("cn", credentials.allowed_cn)):
        setting = declaration.member.as_read(f"{declaration.side}-cert-allowed-{kind}")
        if setting is None or not setting.value:
            continue
        name = f"wrong-{kind}"
        matrix = _good_that_breaks(setting, client.get())
        if matrix is None and known:
            matrix = matrices.get(name)
        elif matrix is None:
            # No identity was issued that breaks the rule: members differ in it, or etcd ignores it.
            matrix = served_instead(here, target, name, matrices.known)
        if matrix is None:
            raise NotVerifiedError(f"{setting} is declared, and no identity that breaks it is known here")
        rules.append(NameRule(setting=setting, matrix=matrix))
    # A listener for HTTP has the flags of the client port, where the issued client is tried.
    refused = None if here.role is Role.CLIENT_HTTP else issued.known()
    if not (
        refused is not None
        and _is_refused_for_names(refused, client.get().accepted, credentials.signing_key)
        and _is_allowed(refused, rules, declaration.tls)
    ):
        refused = None
    if not rules and refused is None:
        raise NotApplicableError("no rule about the names of certificates is declared here")
    return DeclaredNames(tuple(rules), refused)


def _as_rule(setting: Setting) -> PortCredentials:
    """Return the rule about names that a reader expects of a setting."""
    names, is_cn = tuple(setting.value.split(",")), setting.name.endswith("-cn")
    return PortCredentials(allowed_cn=names if is_cn else (), allowed_hostname=() if is_cn else names)


def _is_allowed(client: Candidate, rules: Sequence[NameRule], tls: TLSSide) -> bool:
    """Return whether the rules allow the client's names, as they are read and as they are in effect."""
    in_effect = PortCredentials(allowed_cn=tls.allowed_cn, allowed_hostname=tls.allowed_hostname)
    every = (in_effect, *(_as_rule(rule.setting) for rule in rules))
    return all(meets_name_rules(client.chain, rule) for rule in every)


def _is_refused_for_names(issued: Candidate, accepted: Candidate | None, signing: SigningKey | None) -> bool:
    """Return whether etcd refuses the issued client and accepts another of its CA, which it announces."""
    if (
        accepted is None
        or signing is None
        or {attempt.alert for attempt in issued.attempts} != {BAD_CERTIFICATE}
    ):
        return False
    name, now = signing.certificate.subject.public_bytes(), datetime.now(UTC)
    return all(name in attempt.announced_ca for attempt in issued.attempts) and all(
        verified_path(presented.chain[0], presented.chain[1:], (signing.certificate,), now, CLIENT_AUTH)
        for presented in (issued, accepted)
    )


def _good_that_breaks(setting: Setting, client: AcceptedClient) -> AccessMatrix | None:
    accepted = client.accepted
    if accepted is None or meets_name_rules(accepted.chain, _as_rule(setting)):
        return None
    cases = Access(replace(case, good=False) for case in accepted.cases.accepted)
    return AccessMatrix(identity=accepted.identity, certificate=describe(accepted.chain), cases=cases)
