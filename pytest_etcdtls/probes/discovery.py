"""Asking the cluster for its members, and what to judge of them. Asks listeners that were named, no others.

By gRPC first, which works with authentication on; by the JSON gateway; by a peer port's ``/members``. The
first list counts: whether all members give the same one is for others to judge.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pytest_etcdtls.errors import NotApplicableError, UnobservedError
from pytest_etcdtls.observations.admission import Acceptance
from pytest_etcdtls.observations.api import MemberRecord
from pytest_etcdtls.observations.cluster import MemberListing
from pytest_etcdtls.observations.discovery import Discovery, Means, MemberURL, Question
from pytest_etcdtls.probes.advertised import member_id
from pytest_etcdtls.probes.belonging import labelled, owners
from pytest_etcdtls.probes.dial import addresses_of
from pytest_etcdtls.probes.members import BY_GATEWAY
from pytest_etcdtls.probes.placing import MOST_LISTENERS, Addresses, Placing
from pytest_etcdtls.probes.registry import Context, probe
from pytest_etcdtls.target import Listener, Role, Target

MOST_MEMBERS = 128
"""Members of a list that are looked at."""

_WAYS: tuple[tuple[Means, str | None, frozenset[Role]], ...] = (
    (Means.GRPC, None, frozenset({Role.CLIENT})),
    (Means.GATEWAY, BY_GATEWAY, frozenset({Role.CLIENT, Role.CLIENT_HTTP})),
    (Means.MEMBERS, None, frozenset({Role.PEER})),
)
"""The ways to ask in the order in which they are tried: by what, the key of the list, on which listeners."""


@dataclass(frozen=True, slots=True)
class Discovered:
    """What the cluster was asked, and what is judged because of it.

    Attributes:
        listeners: those that were named, then those that were found.
        client_urls: what became of each, by the text that the members advertise.
    """

    discovery: Discovery
    listeners: tuple[Listener, ...]
    client_urls: Mapping[str, MemberURL]


def judged_for(context: Context, url: str) -> Listener | None:
    """Return the listener that is judged for a client URL, ``None`` if none is."""
    found = context.get(Discovered).client_urls.get(url)
    label = found.listener if found else None
    return next((listener for listener in context.target.listeners if listener.label == label), None)


def why_left_out(context: Context, url: str) -> str:
    """Return why no listener is judged for a client URL."""
    found = context.get(Discovered).client_urls.get(url)
    return found.why if found else "the members were asked for, and the list that came does not have it"


@probe(Discovery, cost=0, needs=[(Discovered, None)])
def _discovery(context: Context, key: str | None) -> Discovery:
    return context.get(Discovered).discovery


@probe(Discovered, cost=0, needs=[(MemberListing, None), (MemberListing, BY_GATEWAY), (Acceptance, None)])
def _discovered(context: Context, key: str | None) -> Discovered:
    target = context.target
    if not target.discover:
        raise NotApplicableError("the members are asked for with --etcd-discover alone")
    questions, records = _ask(context)
    looked_at = sorted(records, key=lambda record: (not record.name, record.name, record.id))[:MOST_MEMBERS]
    owner = owners(target, looked_at, lambda listener: member_id(context, listener)) if looked_at else {}
    listeners, labels = labelled(target, looked_at, owner)
    placing = Placing(listeners, target.connect_to, owner, _lookup(context.timeout))
    members = tuple(placing.member(record, labels[record.id]) for record in looked_at)
    discovery = Discovery(
        questions=tuple(questions),
        members=members,
        beyond=len(records) - len(looked_at),
        unused_rules=tuple(placing.unused_rules) if members else (),
    )
    return Discovered(discovery, tuple(placing.listeners), placing.client_urls)


def _ask(context: Context) -> tuple[list[Question], tuple[MemberRecord, ...]]:
    """Ask until somebody gives a list, and return what was asked and the list."""
    questions: list[Question] = []
    for means, key, listener in _whom(context.target):
        try:
            members = context.get(MemberListing, key, listener).members
        except UnobservedError as unobserved:
            questions.append(Question(url=listener.url, means=means, why_not=unobserved.reason))
            continue
        why_not = "" if members else "its list is empty"
        questions.append(Question(url=listener.url, means=means, why_not=why_not))
        if members:
            return questions, members
    return questions, ()


def _whom(target: Target) -> Iterator[tuple[Means, str | None, Listener]]:
    for means, key, roles in _WAYS:
        yield from ((means, key, listener) for listener in target.listeners if listener.role in roles)


def _lookup(seconds: float) -> Addresses:
    """Return a function that looks names up: each once, not for long, and no more than are ever judged."""
    known: dict[str, frozenset[str]] = {}

    def addresses(host: str) -> frozenset[str]:
        if host not in known:
            known[host] = addresses_of(host, seconds) if len(known) < 2 * MOST_LISTENERS else frozenset()
        return known[host]

    return addresses
