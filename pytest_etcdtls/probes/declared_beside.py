"""Parts of a declaration beside what is seen of them. Reads the declared CA bundles; connects to nothing.

Connections to listeners are other observations'; so are those of :mod:`.other_addresses`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from cryptography import x509

from pytest_etcdtls.declared.beside import (
    DeclaredBundle,
    DeclaredNames,
    ListenersSeen,
    LoopbackElsewhere,
    NameRule,
    SeenListener,
    UnseenListener,
)
from pytest_etcdtls.declared.declaration import Setting
from pytest_etcdtls.declared.effective_listener import EffectiveListener
from pytest_etcdtls.declared.sides import prefix
from pytest_etcdtls.declared.standing import Declarations, ListenerDeclaration, MemberDeclaration
from pytest_etcdtls.errors import NotApplicableError, NotVerifiedError, UnobservedError, UsageError
from pytest_etcdtls.observations.admission import Acceptance, Admission, Cell, Control
from pytest_etcdtls.observations.attempt import Attempt, Ending, Way
from pytest_etcdtls.observations.listener import Answer, Plaintext
from pytest_etcdtls.pki.loading import load_trust
from pytest_etcdtls.pki.path import find_path
from pytest_etcdtls.probes.admission import WITNESSES, describe, served_instead
from pytest_etcdtls.probes.contact import listener_of, tls_answer
from pytest_etcdtls.probes.credentials import GoodIdentities, is_admitted
from pytest_etcdtls.probes.registry import Context, probe
from pytest_etcdtls.target import PortCredentials

_TLS_ALERT = b"\x15\x03"


@probe(
    DeclaredBundle,
    cost=0,
    needs=[
        *((ListenerDeclaration, None), (Answer, None), (Acceptance, None)),
        *((Admission, name) for name in WITNESSES),
    ],
)
def _bundle(context: Context, key: str | None) -> DeclaredBundle:
    declaration = context.get(ListenerDeclaration)
    tls_answer(context)
    name = f"{prefix(declaration.side)}trusted-ca-file"
    setting = declaration.member.as_read(name)
    if setting is None or not setting.value:
        raise NotApplicableError(f"no --{name} is declared for {declaration.url}")
    path = declaration.member.told.where.find(setting.value)
    certificates: tuple[x509.Certificate, ...] = ()
    absent = f"{setting} is not here: name a directory with copies by --etcd-pki-dir"
    if path is not None:
        try:
            certificates, absent = load_trust(path, option=f"{setting.spelled} ({setting.place})"), ""
        except UsageError as error:
            absent = str(error)
    accepted = context.get(Acceptance).accepted
    return DeclaredBundle(
        setting=setting,
        certificates=certificates,
        source=str(path or setting.value),
        absent=absent,
        accepted=accepted.identity if accepted else None,
        signed=accepted is not None and _signed(context, accepted.identity, certificates),
        strangers=tuple(
            name
            for name in WITNESSES
            if any(cell.attempt.way is Way.SERVED for cell in context.get(Admission, name).cells)
        ),
    )


def _signed(context: Context, name: str, bundle: tuple[x509.Certificate, ...]) -> bool:
    identity = next(one for one in context.get(GoodIdentities).identities if one.name == name)
    leaf, *sent = identity.chain
    return find_path(leaf, sent, bundle, datetime.now(UTC)) is not None


@probe(
    DeclaredNames,
    cost=0,
    needs=[(ListenerDeclaration, None), (Admission, "wrong-hostname"), (Admission, "wrong-cn")],
)
def _names(context: Context, key: str | None) -> DeclaredNames:
    declaration = context.get(ListenerDeclaration)
    tls_answer(context)
    rules = tuple(
        NameRule(setting=setting, admission=_excluded(context, setting, word))
        for word in ("hostname", "cn")
        if (setting := declaration.member.as_read(f"{declaration.side}-cert-allowed-{word}")) is not None
        and setting.value
    )
    if not rules:
        raise NotApplicableError(f"no rule about the names of certificates is declared for {declaration.url}")
    return DeclaredNames(rules)


def _excluded(context: Context, setting: Setting, word: str) -> Admission:
    """Return what was seen of an identity that a declared rule about hostnames or common names excludes.

    Raises:
        NotVerifiedError: if there is none.
    """
    credentials, name = context.target.credentials(listener_of(context).role), f"wrong-{word}"
    if credentials.allowed_hostname if word == "hostname" else credentials.allowed_cn:
        return context.get(Admission, name)
    # What makes identities that break it does not know the rule: members differ in it, or etcd drops it.
    found = served_instead(context, name) or _good_that_breaks(context, setting, word)
    if found is None:
        raise NotVerifiedError(f"{setting} is declared, and no identity that breaks it is known here")
    return found


def _good_that_breaks(context: Context, setting: Setting, word: str) -> Admission | None:
    acceptance = context.get(Acceptance)
    accepted = acceptance.accepted
    if accepted is None:
        return None
    names = tuple(setting.value.split(","))
    rule = PortCredentials(
        allowed_cn=names if word == "cn" else (), allowed_hostname=names if word == "hostname" else ()
    )
    good = next(one for one in context.get(GoodIdentities).identities if one.name == accepted.identity)
    if is_admitted(good, rule):
        return None
    cells = tuple(
        Cell(version=version, protocol=protocol, tries=tries, control=Control())
        for version, protocol, tries in accepted.tries
        if tries[-1].way is Way.SERVED
    )
    return Admission(
        url=acceptance.url,
        role=acceptance.role,
        identity=good.name,
        certificate=describe(good),
        files=accepted.files,
        cells=cells,
    )


@probe(
    ListenersSeen,
    cost=0,
    needs=[
        (Declarations, None),
        (ListenerDeclaration, None),
        (Answer, None),
        (Plaintext, None),
        (LoopbackElsewhere, None),
    ],
    across=True,
)
def _listeners(context: Context, key: str | None) -> ListenersSeen:
    members = context.get(Declarations).members
    seen = tuple(_seen(context))
    unseen = tuple(one for member in members for one in _unseen(context, member, seen))
    return ListenersSeen(seen=seen, unseen=unseen, elsewhere=context.get(LoopbackElsewhere))


def _seen(context: Context) -> Iterator[SeenListener]:
    for listener in context.target.listeners:
        if listener.member not in context.target.declared:
            continue
        declaration = context.get(ListenerDeclaration, listener=listener)
        try:
            answer = context.get(Answer, listener=listener)
            plain = context.get(Plaintext, listener=listener).tries[-1]
        except UnobservedError as unobserved:
            yield SeenListener(declaration=declaration, tls=False, plaintext=False, said=unobserved.reason)
            continue
        yield SeenListener(
            declaration=declaration,
            tls=answer.speaks_tls or answer.needs_tls,
            plaintext=bool(plain.first_bytes) and not plain.first_bytes.startswith(_TLS_ALERT),
            said="; ".join(
                [
                    *(f"{one.asked or 'plain HTTP'}: {one.describe()}" for one in (*answer.tls, plain)),
                    *([f"TLS: {answer.tls_instead.describe()}"] if answer.tls_instead else []),
                ]
            ),
            refused=listener.connect_to is None and _refuses((*answer.tls, plain)),
        )


def _refuses(attempts: Sequence[Attempt]) -> bool:
    return all(attempt.ending is Ending.CONNECTION_REFUSED for attempt in attempts)


def _unseen(
    context: Context, member: MemberDeclaration, seen: tuple[SeenListener, ...]
) -> Iterator[UnseenListener]:
    judged = [
        one.declaration.listener
        for one in seen
        if one.declaration.member.label == member.label and one.declaration.listener is not None
    ]
    reasons = {one.url: one.reason for one in context.target.unreached if one.member == member.label}
    for declared in member.effective.listeners:
        if not any(_is_same_port(declared, other) for other in judged):
            url = str(declared.url)
            reason = reasons.get(url, f"{url} is not among the endpoints: pass {declared.role.option}")
            yield UnseenListener(member=member.label, url=url, reason=reason)


def _is_same_port(one: EffectiveListener, other: EffectiveListener) -> bool:
    return (one.role, one.url.address) == (other.role, other.url.address)
