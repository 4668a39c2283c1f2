"""Whether listeners answer where, and as, they are declared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from pytest_etcdtls.checks.registry import check
from pytest_etcdtls.checks.results import Finding, Note, Statement, inconclusive, not_verified
from pytest_etcdtls.declared.declaration import FLAGS, DeclaredListener
from pytest_etcdtls.errors import Reason, UnobservedError, missing, silent
from pytest_etcdtls.facts.configuration import (
    Declarations,
    ListenerDeclaration,
    MemberDeclaration,
    listener_declaration,
)
from pytest_etcdtls.facts.discovery import LoopbackAttempt, LoopbackElsewhere
from pytest_etcdtls.facts.fact import Each
from pytest_etcdtls.facts.listener import FirstContact, Plaintext, refuses_connections
from pytest_etcdtls.facts.stopping import SecondLook, why_stopping
from pytest_etcdtls.role import Role
from pytest_etcdtls.target import Listener, Target
from pytest_etcdtls.tls.command import GOOD_CLIENT, STATUS, Command, curl, in_plaintext, s_client


class _SeenListener(Struct, frozen=True, kw_only=True):
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
    def member(self) -> str:
        """The label of its member."""
        return self.declaration.here.member

    @property
    def answers(self) -> bool:
        """Whether the server sent anything."""
        return self.tls or self.plaintext


def _peers_alone(declarations: Declarations, **_: object) -> Mapping[str, Any]:
    member = declarations.members[0]
    listeners = tuple(listener for listener in member.effective.listeners if listener.role is Role.PEER)
    effective = replace(member.effective, listeners=listeners)
    return {"declarations": Declarations((replace(member, effective=effective),))}


@check("config.listeners-as-declared", on=set(), counterexample=_peers_alone)
def listeners_are_as_declared(
    target: Target,
    declarations: Declarations,
    contacts: Each[FirstContact],
    plaintexts: Each[Plaintext],
    elsewhere: LoopbackElsewhere,
    looks: Each[SecondLook],
) -> Iterator[Statement]:
    """Every listener is declared, answers as declared, and on no other address.

    An undeclared listener belongs to another program, or etcd was started with another declaration. The
    latter also holds where a declared listener refuses connections while others of the member answer. An etcd
    that is stopping closes its client listeners first and its peer listeners last: where it looks like that,
    the check is inconclusive. A listener that is declared on loopback is tried once, in plain HTTP, at the
    addresses that its member advertises: on all addresses it would be open to the network. Declared listeners
    that cannot be reached from here are not verified.

    Spec: etcd --listen-client-urls, --listen-peer-urls, --listen-metrics-urls, --listen-client-http-urls
    Spec: etcd THREAT_MODEL.md, Client-to-Server Boundary
    Follows: restart.starts, restart.listeners, config.http-listener-beside-tls
    Follows: config.*flags, config.does-not-start, config.*flag*, config.unknown-*
    Severity: high
    Level: MUST
    Remediation: restart etcd with the declaration, or declare what runs; name endpoints by etcd's listen
        addresses, and use --etcd-connect-to for how they are reached.
    """
    members = {member.label: member for member in declarations.members}
    judged = [
        _seen(
            listener, listener_declaration(target, listener, members[listener.member]), contacts, plaintexts
        )
        for listener in target.listeners
        if listener.member in members
    ]
    for seen in judged:
        here, declared = seen.declaration.here, seen.declaration.listener
        others = [other for other in judged if other.answers and other.member == seen.member]
        if seen.refused and declared is not None and others:
            if why := why_stopping(here, target, looks):
                yield inconclusive(why)
                continue
            answering = ", ".join(other.declaration.here.url for other in others)
            yield _of_listener(
                seen,
                f"{declared.url} is declared, and {here.url} refuses TCP connections, while the "
                f"same member answers at {answering}: etcd was started with other settings, or a firewall "
                "refuses in its place",
                curl(here.url),
                observed=seen.said.rpartition("; ")[2],
            )
        elif not seen.answers:
            yield not_verified(silent(here.url, "does not answer", f": {seen.said}"))
        elif declared is None:
            yield _nowhere_declared(seen)
        elif seen.plaintext and not declared.plaintext:
            # transport.newListener opens a socket without TLS, which embed.serveCtx.serve adds for clients.
            why = _WITHOUT_TLS if here.is_socket and here.role is not Role.CLIENT else _SOMETHING_ELSE
            message = f"{declared.url} is declared for TLS and answers plaintext: {why}"
            yield _of_listener(seen, message, curl(in_plaintext(here.url)))
        elif not seen.plaintext and not declared.tls:
            yield _of_listener(
                seen,
                f"{declared.url} is declared as http and answers TLS only: {_SOMETHING_ELSE}",
                s_client(here.url),
                remediation=_KEEP_TLS,
            )
    for attempt in elsewhere.attempts:
        if attempt.answers:
            yield _beyond_loopback(attempt)
    for reason in elsewhere.not_tried:
        yield Note(reason)
    for member in members.values():
        yield from map(not_verified, _unseen(target, member, judged))


def _seen(
    listener: Listener,
    declaration: ListenerDeclaration,
    contacts: Each[FirstContact],
    plaintexts: Each[Plaintext],
) -> _SeenListener:
    try:
        contact, plain = contacts.at(listener), plaintexts.at(listener).attempt
    except UnobservedError as unobserved:
        return _SeenListener(declaration=declaration, tls=False, plaintext=False, said=str(unobserved))
    attempts = (*contact.tls, plain)
    said = [f"{attempt.offered_version or 'plain HTTP'}: {attempt.describe()}" for attempt in attempts]
    if contact.tls_instead is not None:
        said.append(f"TLS: {contact.tls_instead.describe()}")
    return _SeenListener(
        declaration=declaration,
        tls=contact.serves_tls or contact.needs_tls,
        plaintext=plain.answers_plaintext,
        said="; ".join(said),
        refused=not listener.is_forwarded and refuses_connections(contact),
    )


def _unseen(
    target: Target, member: MemberDeclaration, judged: Sequence[_SeenListener]
) -> Iterator[Reason | str]:
    """Yield for each listener that is only declared why it is not judged, and what to do."""
    seen = {
        (declared.role, declared.url.address)
        for listener in judged
        if listener.member == member.label and (declared := listener.declaration.listener)
    }
    reasons = {
        unreached.url: unreached.reason for unreached in target.unreached if unreached.member == member.label
    }
    for declared in member.effective.listeners:
        if (declared.role, declared.url.address) not in seen:
            url = str(declared.url)
            option = declared.role.option
            unnamed = missing(f"{url} is not among the endpoints", option, passing=f"{option} for it")
            yield reasons.get(url, unnamed)


def _nowhere_declared(seen: _SeenListener) -> Finding:
    here, member = seen.declaration.here, seen.declaration.member
    same = member.effective.at(here.role)
    opens = here.scheme == "https" and any(one.plaintext and one.url.place == here.place for one in same)
    return Finding(
        message=f"{here.url} answers, and nothing in {member.declared.declaration.source} declares such a "
        f"{here.role} listener",
        expected="; ".join(_declared(other.declared) for other in same)
        or f"no --{FLAGS[here.role]} is declared",
        concerns=(f"{here.role}-{here.member}",),
        observed=seen.said,
        reproduce=(curl(here.url, client=GOOD_CLIENT, look=STATUS),),
        remediation=_KEEP_TLS if opens else "",
    )


_SOMETHING_ELSE = "etcd was started with something else, or something else answers here"
_WITHOUT_TLS = "etcd 3.5 and newer has no TLS on a Unix domain socket for peers or metrics: use https://"
_KEEP_TLS = "write https:// in the declaration: with http://, a restarted etcd accepts every client there"


def _of_listener(
    seen: _SeenListener, message: str, reproduce: Command, observed: str = "", remediation: str = ""
) -> Finding:
    here, declared = seen.declaration.here, seen.declaration.listener
    return Finding(
        message=message,
        expected=_declared(declared.declared) if declared else "",
        concerns=(f"{here.role}-{here.member}",),
        observed=observed or seen.said,
        reproduce=(reproduce,),
        remediation=remediation,
    )


def _beyond_loopback(elsewhere: LoopbackAttempt) -> Finding:
    attempt, declared = elsewhere.attempt, elsewhere.declared
    body = attempt.response.excerpt(60) if attempt.response else ""
    return Finding(
        message=f"{declared.url} is declared, on loopback only, and {attempt.url} answers: etcd was started "
        "with something else, or something else answers there",
        expected=f"{_declared(declared)}: no answer at another address",
        concerns=(str(declared.role),),
        observed=attempt.describe() + (f" '{body}'" if body else ""),
        reproduce=(curl(attempt.url, role=declared.role),),
    )


def _declared(listener: DeclaredListener) -> str:
    """Return the listener's declaration, with file and line."""
    setting = listener.setting
    return str(setting) if setting is not None else f"{listener.url}, which is etcd's default"
