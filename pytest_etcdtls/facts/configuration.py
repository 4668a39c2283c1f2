"""What is declared about a listener, and the declared files."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Self

from cryptography import x509

from pytest_etcdtls.dataclass import dataclass
from pytest_etcdtls.declared.declaration import (
    CRLFile,
    DeclaredListener,
    DeclaredMember,
    Encoding,
    Setting,
    SourceLine,
    Via,
)
from pytest_etcdtls.declared.effective import (
    Effective,
    EffectiveListener,
    Side,
    TLSSide,
    effective_of,
    prefix,
)
from pytest_etcdtls.declared.files import (
    BundleFact,
    ClientFact,
    DeclaredFiles,
    DeclaredLeaf,
    FileFact,
    HeldCertificate,
    HeldCertificates,
    MemberFiles,
    PairFact,
    read_member_files,
    read_served,
)
from pytest_etcdtls.declared.flags import GO_SUITES
from pytest_etcdtls.declared.traps import Trap, traps_of
from pytest_etcdtls.errors import NotApplicableError, NotVerifiedError, UnobservedError, UsageError
from pytest_etcdtls.facts.access import (
    UNTRUSTED_IDENTITIES,
    AcceptedClient,
    AccessCase,
    AccessMatrix,
    Control,
    GoodIdentities,
    describe,
    meets_name_rules,
    sample_matrix,
    served_instead,
)
from pytest_etcdtls.facts.certificates import AnnouncedCAs, ExpectedCertificate, Issuers, ServedChain
from pytest_etcdtls.facts.listener import FirstContact, Plaintext, listener_of, tls_answer, tls_listener
from pytest_etcdtls.facts.probe import (
    SAMPLED_AT,
    Context,
    SampleListener,
    observed,
    probe,
    sample,
    sample_pki,
)
from pytest_etcdtls.facts.release import EtcdRelease
from pytest_etcdtls.pki.certificate import load_trust, shown
from pytest_etcdtls.pki.go_verify import find_path
from pytest_etcdtls.role import Role
from pytest_etcdtls.target import Listener, PortCredentials, Target, is_address
from pytest_etcdtls.tls.attempt import Attempt, Ending, StreamEnd
from pytest_etcdtls.tls.suites import SUITES


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberDeclaration:
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
    traps: tuple[Trap, ...]
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

    @property
    def starts(self) -> bool:
        """Whether etcd starts with it, as far as is certain."""
        return all(trap.starts or not trap.certain for trap in self.traps)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerDeclaration:
    """The declaration for one listener that is judged.

    Attributes:
        url: of the listener, as it is judged.
        member: the declaration of its member.
        listener: the matching declared listener; ``None`` if none is declared there.
    """

    url: str
    role: Role
    member: MemberDeclaration
    listener: EffectiveListener | None

    @property
    def side(self) -> Side:
        """The side whose settings apply: peer on peer listeners, else client."""
        return "peer" if self.role is Role.PEER else "client"

    @property
    def tls(self) -> TLSSide:
        """The TLS settings that apply, also where the declared listener does not serve TLS."""
        return self.member.effective.sides[self.side]

    def setting(self, name: str) -> Setting | None:
        """Return the setting in the declaration, ``None`` if it is not given."""
        return self.member.declared.declaration.settings.get(name)

    def traps(self, id_: str | None = None) -> Iterator[Trap]:
        """Yield the traps of that id, by default of any, that concern this listener."""
        declared = None if self.listener is None else str(self.listener.url)
        for trap in self.member.traps:
            if id_ in (None, trap.id) and (not trap.listeners or declared in trap.listeners):
                yield trap

    def traps_of(self, setting: Setting) -> Iterator[Trap]:
        """Yield the traps of a setting that concern this listener and with which etcd starts."""
        for trap in self.traps():
            if trap.starts and any(other.name == setting.name for other in trap.settings):
                yield trap


_ROLES: Mapping[Side, tuple[Role, ...]] = {
    "peer": (Role.PEER,),
    "client": tuple(role for role in Role if role is not Role.PEER),
}


def listeners_of_side(member: str, side: Side) -> tuple[str, ...]:
    """Return the listeners of a member to which the settings of a side apply, for ``Finding.concerns``."""
    return tuple(f"{role}-{member}" for role in _ROLES[side])


@dataclass(frozen=True, slots=True)
class Declarations:
    """The declarations of the target's members, one each, in the order of their labels; never empty."""

    members: tuple[MemberDeclaration, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredStart:
    """The start of an etcd with the user's declaration.

    Attributes:
        member: label of the member.
        source: the declaration's file.
        etcd: the version and the binary or image.
        failure: why it does not run; empty if it runs.
        log: the lines of its log with the reason.
        remarks: what was otherwise than declared.
    """

    member: str
    source: str
    etcd: str
    failure: str = ""
    log: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredBundle:
    """The CA bundle declared for a listener's clients, as its file is now.

    Attributes:
        setting: the setting that declares it, as a reader expects.
        certificates: in the file; empty if they could not be read.
        source: path of the file here.
        accepted: name of the good identity that is accepted on the listener; ``None`` if none is.
        signed: one of the certificates issued that identity's certificate, directly or through the
            intermediates that it sends.
        absent: why the certificates could not be read, and what to do; empty if they were.
        untrusted: names of bad identities that are served although no bundle can hold their CA.
    """

    setting: Setting
    certificates: tuple[x509.Certificate, ...]
    source: str
    accepted: str | None = None
    signed: bool = False
    absent: str = ""
    untrusted: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NameRule:
    """A declared rule about names in client certificates, and the attempts of an identity that breaks it.

    Attributes:
        setting: the setting that declares it, as a reader expects.
        matrix: the attempts with a certificate that the rule excludes.
    """

    setting: Setting
    matrix: AccessMatrix


@dataclass(frozen=True, slots=True)
class DeclaredNames:
    """The rules about names that are declared for a listener; never empty."""

    rules: tuple[NameRule, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenListener:
    """A listener that is judged, its declaration, and the protocols that it was seen to serve.

    Attributes:
        tls: the server sent a TLS message.
        plaintext: plain HTTP was answered.
        said: what the server sent, in words.
        refused: the listener's own address refused every TCP connection.
    """

    declaration: ListenerDeclaration
    tls: bool
    plaintext: bool
    said: str
    refused: bool = False

    @property
    def answers(self) -> bool:
        """Whether the server sent anything."""
        return self.tls or self.plaintext


@dataclass(frozen=True, slots=True, kw_only=True)
class UnseenListener:
    """A declared listener that is not judged.

    Attributes:
        member: label of the member.
        url: as declared.
        reason: why it is not judged, and what to do.
    """

    member: str
    url: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopbackAttempt:
    """One connection to an address that a member advertises, at the port of a listener declared on loopback.

    Attributes:
        member: label of the member.
        declared: the listener.
        address: IP address and port of the connection.
        attempt: without a certificate; plain HTTP where http is declared.
    """

    member: str
    declared: DeclaredListener
    address: tuple[str, int]
    attempt: Attempt

    @property
    def answers(self) -> bool:
        """Whether the listener that is declared only on loopback answers at this address."""
        if not self.declared.url.secure:
            return self.attempt.answers_plaintext
        return self.attempt.ending is not Ending.UNCLEAR


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopbackElsewhere:
    """Attempts at other addresses of listeners that are declared on loopback.

    Attributes:
        attempts: one for each address.
        not_tried: why other addresses were not tried, one sentence each.
    """

    attempts: tuple[LoopbackAttempt, ...] = ()
    not_tried: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenersSeen:
    """The listeners of every declared member.

    Attributes:
        seen: those that are judged, in the target's order.
        unseen: those that are only declared.
        elsewhere: attempts at other addresses of listeners declared on loopback.
    """

    seen: tuple[SeenListener, ...]
    unseen: tuple[UnseenListener, ...] = ()
    elsewhere: LoopbackElsewhere = LoopbackElsewhere()

    def answering_siblings(self, refusing: SeenListener) -> tuple[SeenListener, ...]:
        """Return the other listeners of the same member that answer."""
        label = refusing.declaration.member.label
        return tuple(one for one in self.seen if one.answers and one.declaration.member.label == label)


_NOTHING = "the declaration of {} is not known: pass its manifest or configuration with --etcd-config"


@probe(ListenerDeclaration, reported=False, cost=0, needs=[EtcdRelease], across=True)
def _of_listener(context: Context) -> ListenerDeclaration:
    listener = listener_of(context)
    declared = context.target.declared.get(listener.member)
    if declared is None:
        raise NotApplicableError(_NOTHING.format(listener.url))
    return listener_declaration(
        context.target, listener, _member_declaration(context, listener.member, declared)
    )


@probe(Declarations, reported=False, cost=0, needs=[EtcdRelease], across=True)
def _of_members(context: Context) -> Declarations:
    if not context.target.declared:
        raise NotApplicableError(_NOTHING.format("the cluster"))
    declared = sorted(context.target.declared.items())
    return Declarations(tuple(_member_declaration(context, label, member) for label, member in declared))


@probe(DeclaredStart, cost=0)
def _start(context: Context) -> DeclaredStart:
    target = context.target
    if target.replay is None:
        raise NotApplicableError(
            "no declaration is replayed: pass --etcd-binary or --etcd-image with --etcd-config"
        )
    return DeclaredStart(
        member=next(iter(target.declared)),
        source=target.replay.source,
        etcd=f"etcd {target.etcd_version} ({target.source})",
        failure=target.replay.failure,
        log=target.replay.log,
        remarks=target.remarks,
    )


def listener_declaration(
    target: Target, listener: Listener, member: MemberDeclaration
) -> ListenerDeclaration:
    """Return the declaration of a listener, from the declaration of its member."""
    elsewhere = target.origin == "container" or listener.connect_to is not None
    declared = _declared_as(listener, member.effective.at(listener.role), elsewhere=elsewhere)
    return ListenerDeclaration(url=listener.url, role=listener.role, member=member, listener=declared)


def _member_declaration(context: Context, label: str, declared: DeclaredMember) -> MemberDeclaration:
    target = context.target
    version = next(_versions(context, label), None) if target.runs else target.etcd_version
    return MemberDeclaration.of(label, declared, version, replayed=target.replay is not None)


def _versions(context: Context, label: str) -> Iterator[str]:
    """Yield the versions that the member's listeners report."""
    for listener in context.target.listeners:
        if listener.member == label and (found := observed(context, EtcdRelease, listener=listener)):
            yield str(found.release)
    if context.target.etcd_version is not None:
        yield context.target.etcd_version


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
    same_scheme = [one for one in declared if (one.tls if https else one.plaintext)]

    def named(one: EffectiveListener) -> bool:
        names = not (is_address(one.url.host) and is_address(listener.host))
        return names and one.url.port == listener.port

    rules: tuple[Callable[[EffectiveListener], bool], ...] = (
        lambda one: (one.url.host, one.url.port) == (listener.host, listener.port),
        lambda one: one.url.port == listener.port and one.url.is_wildcard,
        lambda one: named(one) and one.url.is_loopback is (listener.host == "localhost"),
        named,
        lambda _: elsewhere and len(same_scheme) == 1,
    )
    return next((one for matches in rules for one in same_scheme if matches(one)), None)


@probe(
    DeclaredBundle,
    reported=False,
    cost=0,
    needs=[
        *(ListenerDeclaration, FirstContact, AcceptedClient),
        *((AccessMatrix, name) for name in UNTRUSTED_IDENTITIES),
    ],
)
def _bundle(context: Context) -> DeclaredBundle:
    declaration = context.get(ListenerDeclaration)
    tls_answer(context)
    name = f"{prefix(declaration.side)}trusted-ca-file"
    setting = declaration.member.as_read(name)
    if setting is None or not setting.value:
        raise NotApplicableError(f"no --{name} is declared for {declaration.url}")
    path = declaration.member.declared.paths.find(setting.value)
    certificates: tuple[x509.Certificate, ...] = ()
    absent = f"{setting} is not here: name a directory with copies by --etcd-pki-dir"
    if path is not None:
        try:
            certificates, absent = load_trust(path, option=f"{setting.spelled} ({setting.place})"), ""
        except UsageError as error:
            absent = str(error)
    accepted = context.get(AcceptedClient).accepted
    return DeclaredBundle(
        setting=setting,
        certificates=certificates,
        source=str(path or setting.value),
        absent=absent,
        accepted=accepted.identity if accepted else None,
        signed=accepted is not None and _has_signed(certificates, context, accepted.identity),
        untrusted=tuple(
            name
            for name in UNTRUSTED_IDENTITIES
            if any(case.attempt.ending is Ending.SERVED for case in context.get(AccessMatrix, name).cases)
        ),
    )


def _has_signed(bundle: tuple[x509.Certificate, ...], context: Context, name: str) -> bool:
    leaf, *sent = context.get(GoodIdentities).named(name).chain
    return find_path(leaf, sent, bundle, datetime.now(UTC)) is not None


@probe(
    DeclaredNames,
    reported=False,
    cost=0,
    needs=[ListenerDeclaration, (AccessMatrix, "wrong-hostname"), (AccessMatrix, "wrong-cn")],
)
def _names(context: Context) -> DeclaredNames:
    declaration = context.get(ListenerDeclaration)
    tls_answer(context)
    rules = tuple(
        NameRule(setting=setting, matrix=_excluded(context, setting, kind))
        for kind in ("hostname", "cn")
        if (setting := declaration.member.as_read(f"{declaration.side}-cert-allowed-{kind}")) is not None
        and setting.value
    )
    if not rules:
        raise NotApplicableError(f"no rule about the names of certificates is declared for {declaration.url}")
    return DeclaredNames(rules)


def _excluded(context: Context, setting: Setting, kind: str) -> AccessMatrix:
    """Return the attempts of an identity that a declared rule about hostnames or common names excludes.

    Raises:
        NotVerifiedError: if there is none.
    """
    credentials, name = context.target.credentials(listener_of(context).role), f"wrong-{kind}"
    if credentials.allowed_hostname if kind == "hostname" else credentials.allowed_cn:
        return context.get(AccessMatrix, name)
    # No identity was issued that breaks the rule: members differ in it, or etcd ignores it.
    found = served_instead(context, name) or _good_that_breaks(context, setting, kind)
    if found is None:
        raise NotVerifiedError(f"{setting} is declared, and no identity that breaks it is known here")
    return found


def _good_that_breaks(context: Context, setting: Setting, kind: str) -> AccessMatrix | None:
    clients = context.get(AcceptedClient)
    accepted = clients.accepted
    if accepted is None:
        return None
    names = tuple(setting.value.split(","))
    rule = PortCredentials(
        allowed_cn=names if kind == "cn" else (), allowed_hostname=names if kind == "hostname" else ()
    )
    good = context.get(GoodIdentities).named(accepted.identity)
    if meets_name_rules(good, rule):
        return None
    cases = tuple(
        AccessCase(version=version, protocol=protocol, tries=tries, control=Control())
        for version, protocol, tries in accepted.tries
        if tries[-1].ending is Ending.SERVED
    )
    return AccessMatrix(
        url=clients.url,
        role=clients.role,
        identity=good.name,
        certificate=describe(good),
        files=accepted.files,
        cases=cases,
    )


@probe(
    ListenersSeen,
    reported=False,
    cost=0,
    needs=[
        Declarations,
        ListenerDeclaration,
        FirstContact,
        Plaintext,
        LoopbackElsewhere,
    ],
    across=True,
)
def _listeners(context: Context) -> ListenersSeen:
    members = context.get(Declarations).members
    seen = tuple(_seen_listeners(context))
    unseen = tuple(one for member in members for one in _unseen(context, member, seen))
    return ListenersSeen(seen=seen, unseen=unseen, elsewhere=context.get(LoopbackElsewhere))


def _seen_listeners(context: Context) -> Iterator[SeenListener]:
    for listener in context.target.listeners:
        if listener.member not in context.target.declared:
            continue
        declaration = context.get(ListenerDeclaration, listener=listener)
        try:
            answer = context.get(FirstContact, listener=listener)
            plain = context.get(Plaintext, listener=listener).attempt
        except UnobservedError as unobserved:
            yield SeenListener(declaration=declaration, tls=False, plaintext=False, said=unobserved.reason)
            continue
        yield SeenListener(
            declaration=declaration,
            tls=answer.serves_tls or answer.needs_tls,
            plaintext=plain.is_http,
            said="; ".join(
                [
                    *(
                        f"{one.offered_version or 'plain HTTP'}: {one.describe()}"
                        for one in (*answer.tls, plain)
                    ),
                    *([f"TLS: {answer.tls_instead.describe()}"] if answer.tls_instead else []),
                ]
            ),
            refused=listener.connect_to is None
            and all(one.stream_end is StreamEnd.CONNECTION_REFUSED for one in (*answer.tls, plain)),
        )


def _unseen(
    context: Context, member: MemberDeclaration, seen: tuple[SeenListener, ...]
) -> Iterator[UnseenListener]:
    judged = {
        (one.declaration.listener.role, one.declaration.listener.url.address)
        for one in seen
        if one.declaration.member.label == member.label and one.declaration.listener is not None
    }
    reasons = {one.url: one.reason for one in context.target.unreached if one.member == member.label}
    for declared in member.effective.listeners:
        if (declared.role, declared.url.address) not in judged:
            url = str(declared.url)
            reason = reasons.get(url, f"{url} is not among the endpoints: pass {declared.role.option}")
            yield UnseenListener(member=member.label, url=url, reason=reason)


@probe(DeclaredFiles, reported=False, cost=0)
def _files(context: Context) -> DeclaredFiles:
    target = context.target
    if not target.declared:
        raise NotApplicableError(
            "the declared files of the members are not known: pass a member's manifest or configuration with "
            "--etcd-config"
        )
    given = target.client.server_ca
    return DeclaredFiles(
        members=tuple(
            read_member_files(label, declared) for label, declared in sorted(target.declared.items())
        ),
        anchors=given.certificates if given else (),
        reader=os.geteuid() if os.name == "posix" else None,
        observed_at=datetime.now(UTC),
    )


@probe(DeclaredLeaf, reported=False, cost=0, needs=[ListenerDeclaration, ExpectedCertificate])
def _leaf(context: Context) -> DeclaredLeaf:
    listener = tls_listener(context)
    declaration = context.get(ListenerDeclaration)
    served = read_served(declaration.member.declared, declaration.side)
    if served is None or declaration.tls.certificate is None:
        raise NotApplicableError(f"no file is declared with a certificate for {listener.url}")
    file, chain = served
    if not chain:
        raise NotVerifiedError(file.absent or file.problem)
    expected = observed(context, ExpectedCertificate)
    if expected is not None and expected.certificate == chain[0]:
        raise NotApplicableError("same file as --etcd-expect-cert; see cert.matches-expected-file")
    return DeclaredLeaf(certificate=chain[0], said=file.said, source=str(file.path))


@probe(
    HeldCertificates,
    reported=False,
    cost=0,
    needs=[ServedChain, Issuers, DeclaredFiles, AnnouncedCAs],
    across=True,
)
def _held(context: Context, key: str | None) -> HeldCertificates:
    kinds = {"clients": _clients, "client-cas": _client_cas, None: _declared_pairs}
    texts = {"clients": "of a client ", "client-cas": "of a CA of clients ", None: ""}
    others = () if key is not None else (*_clients(context), *_client_cas(context))
    # The checks of the family cert judge the served certificates and their issuers.
    judged = {one.certificate for one in others}
    for listener in context.target.listeners:
        if served := observed(context, ServedChain, listener=listener):
            judged.add(served.leaf)
            issuers = observed(context, Issuers, listener=listener)
            judged.update(issuers.certificates if issuers else ())
    held: dict[x509.Certificate, HeldCertificate] = {}
    for one in kinds[key](context):
        if one.certificate not in judged:
            held.setdefault(one.certificate, one)
    if not held:
        raise NotApplicableError(
            f"no certificate {texts[key]}is available besides those that other checks judge"
        )
    return HeldCertificates(certificates=tuple(held.values()), observed_at=datetime.now(UTC))


def _clients(context: Context) -> Iterator[HeldCertificate]:
    """Yield the certificates of good identities, of etcd as a client, and of client files of a member."""
    served = {pair.chain[0] for member in _members(context) for pair in _pairs(member, dials=False)}
    for identity in (*context.target.client.identities, *context.target.peer.identities):
        for certificate in () if served.intersection(identity.chain[:1]) else identity.chain:
            what = "the certificate of" if certificate == identity.chain[0] else "a CA certificate sent by"
            yield HeldCertificate(
                what=f"{what} {identity.name}", source=identity.origin, certificate=certificate
            )
    for member in _members(context):
        yield from (_leaf_of(member, pair) for pair in _pairs(member, dials=True))
        yield from (_leaf_of(member, client) for client in member.clients if client.chain)


def _client_cas(context: Context) -> Iterator[HeldCertificate]:
    """Yield the CAs that etcd is declared to trust, and issuers of served certificates that it announces."""
    target = context.target
    for credentials, side in ((target.client, "clients"), (target.peer, "peers")):
        bundle = credentials.client_trust
        for certificate in bundle.certificates if bundle else ():
            what = f"the trusted CA of {side} {shown(certificate)}"
            yield HeldCertificate(what=what, source=bundle.source if bundle else "", certificate=certificate)
    for member in _members(context):
        for declared in member.bundles.values():
            for certificate in declared.certificates:
                what = f"{member.label}: the CA {shown(certificate)} in {declared.file.said}"
                yield HeldCertificate(what=what, source=str(declared.file.path), certificate=certificate)
    announced = {
        name.public_bytes()
        for listener in target.listeners
        if (seen := observed(context, AnnouncedCAs, listener=listener))
        for _, names in seen.names
        for name in names
    }
    for credentials in (target.client, target.peer):
        bundle = credentials.server_ca
        for certificate in bundle.certificates if bundle else ():
            if bundle is not None and certificate.subject.public_bytes() in announced:
                what = f"the announced CA {shown(certificate)}"
                yield HeldCertificate(what=what, source=bundle.source, certificate=certificate)


def _members(context: Context) -> tuple[MemberFiles, ...]:
    files = observed(context, DeclaredFiles)
    return files.members if files else ()


def _declared_pairs(context: Context) -> Iterator[HeldCertificate]:
    for member in _members(context):
        yield from (_leaf_of(member, pair) for pair in _pairs(member, dials=False))


def _pairs(member: MemberFiles, *, dials: bool) -> Iterator[PairFact]:
    yield from (pair for pair in member.pairs if pair.chain and pair.dials is dials)


def _leaf_of(member: MemberFiles, one: PairFact | ClientFact) -> HeldCertificate:
    file = one.certificate
    return HeldCertificate(
        what=f"{member.label}: {file.said}", source=str(file.path), certificate=one.chain[0]
    )


_SAMPLE_SUITES = [one.name for one in SUITES if one.name in GO_SUITES and "_ECDHE_ECDSA_" in one.name]
_SAMPLE_ARGUMENTS = (
    *("--listen-client-urls=https://127.0.0.1:2379", "--advertise-client-urls=https://127.0.0.1:2379"),
    *("--listen-peer-urls=https://127.0.0.1:2380", "--initial-advertise-peer-urls=https://127.0.0.1:2380"),
    "--listen-metrics-urls=https://127.0.0.1:2381",
    *("--cert-file=/pki/server.crt", "--key-file=/pki/server.key"),
    *("--client-cert-auth=true", "--trusted-ca-file=/pki/ca.crt", "--client-cert-allowed-hostname=a.example"),
    *("--peer-cert-file=/pki/peer.crt", "--peer-key-file=/pki/peer.key"),
    *(
        "--peer-client-cert-auth=true",
        "--peer-trusted-ca-file=/pki/ca.crt",
        "--peer-cert-allowed-cn=etcd-peer",
    ),
    *("--tls-min-version=TLS1.2", "--tls-max-version=TLS1.3", f"--cipher-suites={','.join(_SAMPLE_SUITES)}"),
)


@functools.cache
def _sample_member(label: str = "m0") -> MemberDeclaration:
    from pytest_etcdtls.declared.reading import declared_member, from_command_line

    declaration = from_command_line(("etcd", *_SAMPLE_ARGUMENTS))
    return MemberDeclaration.of(label, declared_member(declaration), "3.6.16")


@sample(ListenerDeclaration)
def _sample_of_listener(listener: SampleListener) -> ListenerDeclaration:
    role, member = Role(listener.role), _sample_member()
    declared = member.effective.at(Role.CLIENT if role is Role.CLIENT_HTTP else role)
    return ListenerDeclaration(url=listener.url, role=role, member=member, listener=declared[0])


def _sample_setting(listener: SampleListener, name: str) -> Setting:
    return _sample_of_listener(listener).member.declared.declaration.settings[name]


@sample(DeclaredBundle)
def _sample_bundle(listener: SampleListener) -> DeclaredBundle:
    setting = _sample_setting(listener, f"{Role(listener.role).prefix}trusted-ca-file")
    return DeclaredBundle(
        setting=setting, certificates=(listener.trusted,), source="ca.crt", accepted="client", signed=True
    )


@sample(DeclaredNames)
def _sample_names(listener: SampleListener) -> DeclaredNames:
    on_peer = listener.role is Role.PEER
    setting = _sample_setting(listener, "peer-cert-allowed-cn" if on_peer else "client-cert-allowed-hostname")
    matrix = sample_matrix(listener, "wrong-cn" if on_peer else "wrong-hostname")
    return DeclaredNames((NameRule(setting=setting, matrix=matrix),))


@sample(ListenersSeen)
def _sample_seen(listener: SampleListener) -> ListenersSeen:
    declaration = _sample_of_listener(listener)
    seen = SeenListener(declaration=declaration, tls=True, plaintext=False, said="refused")
    return ListenersSeen(seen=(seen,))


@sample(Declarations)
def _sample_declarations(_: SampleListener) -> Declarations:
    return Declarations((_sample_member(), _sample_member("m1")))


@sample(DeclaredStart)
def _sample_start(_: SampleListener) -> DeclaredStart:
    return DeclaredStart(member="m0", source="etcd.yaml", etcd="etcd 3.6.16 (/usr/bin/etcd)")


def _sample_file(name: str, mode: int) -> FileFact:
    return FileFact(said=f"--{name} (etcd.yaml)", path=f"/pki/{name}", mode=mode, owner=0, original=True)


@sample(DeclaredFiles)
@functools.cache
def _sample_files(_: SampleListener) -> DeclaredFiles:
    pki = sample_pki()
    server = PairFact(
        side="client",
        dials=False,
        certificate=_sample_file("server.crt", 0o644),
        key=_sample_file("server.key", 0o600),
        chain=pki.servers["m0"].chain,
        matches=True,
    )
    peer = PairFact(
        side="peer",
        dials=False,
        certificate=_sample_file("peer.crt", 0o644),
        key=_sample_file("peer.key", 0o600),
        chain=pki.peers["m0"].chain,
        matches=True,
    )
    ca, peer_ca = pki.client_ca.certificate, pki.peer_ca.certificate
    setting = Setting(
        name="client-crl-file",
        value="/pki/crl.der",
        spelled="--client-crl-file",
        via=Via.FLAG,
        place=SourceLine("etcd.yaml", 9),
    )
    crl = CRLFile(
        declared="/pki/crl.der",
        found="/pki/crl.der",
        encoding=Encoding.DER,
        next_update=SAMPLED_AT + timedelta(days=7),
    )
    member = MemberFiles(
        label="m0",
        pairs=(server, peer),
        bundles={
            "client": BundleFact(side="client", file=_sample_file("ca.crt", 0o644), certificates=(ca,)),
            "peer": BundleFact(side="peer", file=_sample_file("peer-ca.crt", 0o644), certificates=(peer_ca,)),
        },
        crls=((setting, crl),),
        data_owner=0,
    )
    return DeclaredFiles(members=(member,), reader=0, observed_at=SAMPLED_AT)


@sample(HeldCertificates)
def _sample_held(_: SampleListener, key: str | None) -> HeldCertificates:
    certificate = sample_pki().client_ca.certificate if key == "client-cas" else sample_pki().client.chain[0]
    one = HeldCertificate(what="the certificate of client", source="/pki/client.crt", certificate=certificate)
    return HeldCertificates(certificates=(one,), observed_at=SAMPLED_AT)


@sample(DeclaredLeaf)
def _sample_leaf(listener: SampleListener) -> DeclaredLeaf:
    return DeclaredLeaf(
        certificate=listener.chain[0], said="--cert-file=/pki/server.crt (etcd.yaml:7)", source="server.crt"
    )
