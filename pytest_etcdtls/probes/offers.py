"""Which suites and groups a listener accepts: offer a set, leave out what was chosen, offer the rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pytest_etcdtls.errors import InconclusiveError, NotApplicableError
from pytest_etcdtls.observations.attempt import TLSVersion
from pytest_etcdtls.observations.cipher_suites import SUITES, TLS13_SUITES, Weakness
from pytest_etcdtls.observations.greeting import TLS1_2, TLS1_3, Hello, ServerHello
from pytest_etcdtls.observations.listener import Answer
from pytest_etcdtls.observations.named_groups import GROUPS, HYBRIDS, MODERN, OTHERS, WEAK
from pytest_etcdtls.observations.protocol import GroupSupport, SuiteSupport
from pytest_etcdtls.probes.contact import listener_of, tls_answer
from pytest_etcdtls.probes.registry import Context, probe
from pytest_etcdtls.probes.versions import need_answer

_NOTHING_IN_COMMON = frozenset({40, 71})
"""Alerts that answer an offer of which nothing is acceptable: handshake_failure, insufficient_security."""

_SUITE_ROUNDS: Mapping[Weakness, int] = {
    Weakness.BROKEN: 3,
    Weakness.TRIPLE_DES: 3,
    Weakness.STATIC: 6,
    Weakness.CBC: 4,
    Weakness.NONE: 4,
}
"""Suites are offered by weakness, so that no strong one hides a weak one; hellos of each kind at most."""

_GROUP_ROUNDS = 8

_ECDHE = tuple(
    suite.code
    for suite in SUITES
    if suite.name.startswith("TLS_ECDHE_") and suite.weakness is not Weakness.BROKEN
)


@dataclass(slots=True)
class _Offer:
    """A set that becomes smaller.

    Attributes:
        rounds: hellos that may still be sent.
        hello: makes the hello of what is left.
        chosen: what a server hello chose of it.
    """

    left: list[int]
    rounds: int
    hello: Callable[[Sequence[int]], Hello]
    chosen: Callable[[ServerHello], int | None]
    open: bool = True


def _accepted(context: Context, offers: Sequence[_Offer]) -> list[int]:
    """Return what is accepted of the offers, which are made side by side."""
    accepted: list[int] = []
    while round_ := [offer for offer in offers if offer.open and offer.left and offer.rounds]:
        greetings = context.greet(*(offer.hello(tuple(offer.left)) for offer in round_))
        for offer, greeting in zip(round_, greetings, strict=True):
            offer.rounds -= 1
            chosen = offer.chosen(greeting.server_hello) if greeting.server_hello is not None else None
            if chosen in offer.left:
                accepted.append(chosen)
                offer.left.remove(chosen)
            elif need_answer(greeting).alert in _NOTHING_IN_COMMON:
                offer.open = False
            else:
                raise InconclusiveError(f"{greeting.url}: {greeting.purpose}: {greeting.describe()}")
    return accepted


@probe(SuiteSupport, cost=sum(_SUITE_ROUNDS.values()), needs=[(Answer, None)])
def _suites(context: Context, key: str | None) -> SuiteSupport:
    listener = listener_of(context)
    if TLSVersion.TLS1_2 not in tls_answer(context).offered:
        raise NotApplicableError(f"{listener.url} does not offer TLS 1.2, and TLS 1.3 has no weak suites")
    offers = [_suite_offer(kind, rounds) for kind, rounds in _SUITE_ROUNDS.items()]
    accepted = _accepted(context, offers)
    return SuiteSupport(
        url=listener.url,
        role=listener.role,
        accepted=tuple(suite for suite in SUITES if suite.code in accepted),
        complete=not any(offer.open and offer.left for offer in offers),
    )


def _suite_offer(kind: Weakness, rounds: int) -> _Offer:
    return _Offer(
        left=[suite.code for suite in SUITES if suite.weakness is kind],
        rounds=rounds,
        hello=lambda left: Hello(purpose=f"suites, weakness: {kind}", version=TLS1_2, suites=tuple(left)),
        chosen=lambda hello: hello.suite,
    )


@probe(GroupSupport, cost=_GROUP_ROUNDS + 1, needs=[(Answer, None), (SuiteSupport, None)])
def _groups(context: Context, key: str | None) -> GroupSupport:
    listener, offered = listener_of(context), tls_answer(context).offered
    version = offered[-1]
    known = (*HYBRIDS, *MODERN, *OTHERS) if version is TLSVersion.TLS1_3 else (*MODERN, *OTHERS)
    offer = _Offer(
        left=[group.code for group in known],
        rounds=_GROUP_ROUNDS,
        hello=_hello_of_13 if version is TLSVersion.TLS1_3 else _hello_of_12,
        chosen=lambda hello: hello.group,
    )
    accepted = _accepted(context, [offer])
    if not accepted and version is TLSVersion.TLS1_2 and not _exchanges_keys(context):
        raise NotApplicableError(f"{listener.url} accepts no suite with ECDHE: there is no group to choose")
    return GroupSupport(
        url=listener.url,
        role=listener.role,
        version=version,
        accepted=tuple(GROUPS[code] for code in accepted),
        weak=GROUPS.get(_weak(context), None) if TLSVersion.TLS1_2 in offered else None,
    )


def _exchanges_keys(context: Context) -> bool:
    return any(suite.code in _ECDHE for suite in context.get(SuiteSupport).accepted)


def _weak(context: Context) -> int:
    greeting = need_answer(context.greet(_hello_of_12([group.code for group in WEAK]))[0])
    return (greeting.server_hello and greeting.server_hello.group) or 0


def _hello_of_13(groups: Sequence[int]) -> Hello:
    return Hello(purpose="groups", version=TLS1_3, suites=TLS13_SUITES, groups=tuple(groups), key_share=False)


def _hello_of_12(groups: Sequence[int]) -> Hello:
    return Hello(purpose="groups", version=TLS1_2, suites=_ECDHE, groups=tuple(groups), to_key_exchange=True)
