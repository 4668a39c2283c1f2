"""TLS parameters that a listener accepts: versions, cipher suites, groups, ALPN, unusual hellos."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pytest_etcdtls.dataclass import dataclass
from pytest_etcdtls.declared.flags import GO_SUITES
from pytest_etcdtls.errors import InconclusiveError, NotApplicableError, NotVerifiedError
from pytest_etcdtls.facts.listener import (
    PROTOCOL_VERSION,
    FirstContact,
    listener_of,
    tls_answer,
    version_path,
)
from pytest_etcdtls.facts.probe import SAMPLED_AT, Context, Planned, SampleListener, probe, sample
from pytest_etcdtls.role import Protocol, TLSVersion
from pytest_etcdtls.target import Target
from pytest_etcdtls.tls.attempt import Attempt, Ending, Phase, Request
from pytest_etcdtls.tls.hello import (
    SHA1_SIGNATURES,
    SSL3,
    TLS1_0,
    TLS1_1,
    TLS1_2,
    TLS1_3,
    ClientHello,
    HelloExchange,
    Reply,
    ServerHello,
)
from pytest_etcdtls.tls.hello import version_name as name_of
from pytest_etcdtls.tls.suites import (
    FALLBACK_SCSV,
    GROUPS,
    HYBRIDS,
    MODERN,
    OTHERS,
    SUITES,
    TLS13_NAMES,
    TLS13_SUITES,
    WEAK,
    CipherSuite,
    NamedGroup,
    Weakness,
    suite_name,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewestVersion:
    """The first contact in TLS 1.3.

    Attributes:
        offered: it was not refused for its version.
        attempt: the contact, without a certificate.
    """

    url: str
    role: str
    offered: bool
    attempt: Attempt


@dataclass(frozen=True, slots=True, kw_only=True)
class OldVersions:
    """ClientHellos of SSL 3.0, TLS 1.0 and TLS 1.1, each with every suite of its version.

    Attributes:
        exchanges: one exchange per version, oldest first. A server answers a hello of TLS 1.1 with the
            highest version up to it; if it refuses that one for its version, all are of that hello.
    """

    url: str
    role: str
    exchanges: tuple[HelloExchange, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteSupport:
    """The cipher suites that the listener accepts in TLS 1.2.

    Attributes:
        accepted: found by offering suites of one kind together and removing the chosen one each time.
        complete: no further suite is accepted; if false, only the first few of a kind were looked for.
    """

    url: str
    role: str
    accepted: tuple[CipherSuite, ...]
    complete: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class TLS13Suites:
    """The cipher suites that the listener accepts in TLS 1.3.

    Attributes:
        accepted: their names; empty if no profile lists suites of TLS 1.3, since then none is offered.
    """

    url: str
    role: str
    accepted: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSupport:
    """The key exchange groups that the listener accepts.

    Attributes:
        version: the TLS version in which they were tested, the highest offered.
        accepted: the accepted known groups, without weak ones.
        complete: no further known group is accepted.
        weak: the weak group that the listener chose (TLS 1.2 only). A server that requires the curve of its
            own certificate among the groups, as OpenSSL does, refuses an offer without it.
    """

    url: str
    role: str
    version: TLSVersion
    accepted: tuple[NamedGroup, ...]
    weak: NamedGroup | None = None
    complete: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class UnusualClientHello:
    """A ClientHello that is unusual in one point, and the same ClientHello without that point.

    Attributes:
        version: TLS version offered.
        plain: the exchange of the usual hello.
        unusual: the exchange of the unusual hello. Both are the same exchange if a hello that is unusual in
            several points got a usual answer.
    """

    url: str
    role: str
    version: TLSVersion
    plain: HelloExchange
    unusual: HelloExchange


@dataclass(frozen=True, slots=True, kw_only=True)
class AlpnChoice:
    """The listener's answer to ALPN protocol names in one TLS version (RFC 7301).

    Attributes:
        selected: the name that it selected, empty if none.
        alert: number of the alert with which it refused them, ``None`` if it did not.
    """

    version: TLSVersion
    selected: str = ""
    alert: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AlpnChoices:
    """The listener's answer to the same ALPN protocol names in each TLS version that it offers."""

    url: str
    role: str
    offered: tuple[str, ...]
    choices: tuple[AlpnChoice, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SilentConnection:
    """A connection on which nothing was sent.

    Attributes:
        patience: seconds to wait.
        exchange: the exchange: whether the listener ended the connection in that time.
    """

    url: str
    role: str
    patience: float
    exchange: HelloExchange


EVERY_SUITE = tuple(suite.code for suite in SUITES)
KNOWN_ALPN = ("h2", "http/1.1")

_NUMBERS = {TLSVersion.TLS1_2: TLS1_2, TLSVersion.TLS1_3: TLS1_3}
_SILENT_SECONDS = 20.0
"""Seconds. etcd closes a silent connection after 10 (GHSA-6vch-q96h-7gc3), grpc-go after 120 if at all."""


def plain_hello(version: TLSVersion, purpose: str) -> ClientHello:
    """Return a usual ClientHello of that version."""
    return ClientHello(
        purpose=purpose,
        version=_NUMBERS[version],
        suites=TLS13_SUITES if version is TLSVersion.TLS1_3 else EVERY_SUITE,
        alpn=KNOWN_ALPN,
    )


def need_answer(exchange: HelloExchange) -> HelloExchange:
    """Return the exchange if the server answered.

    Raises:
        InconclusiveError: if it did not.
    """
    if not exchange.answered:
        raise InconclusiveError(f"{exchange.url}: {exchange.purpose}: {exchange.describe()}")
    return exchange


@probe(NewestVersion, cost=0, needs=[FirstContact])
def _newest(context: Context) -> NewestVersion:
    listener, answer = listener_of(context), tls_answer(context)
    return NewestVersion(
        url=listener.url,
        role=listener.role,
        offered=TLSVersion.TLS1_3 in answer.offered,
        attempt=next(attempt for attempt in answer.tls if attempt.offered_version is TLSVersion.TLS1_3),
    )


@probe(OldVersions, cost=4, needs=[FirstContact])
def _old(context: Context) -> OldVersions:
    listener = listener_of(context)
    try:
        tls_answer(context)
    except NotVerifiedError:
        # A server of old versions alone offers no version that our TLS library has.
        if not context.get(FirstContact).serves_tls:
            raise
    versions = (SSL3, TLS1_0, TLS1_1)
    newest = ClientHello(purpose="hello of TLSv1.1 and older", version=TLS1_1, suites=EVERY_SUITE, once=True)
    [exchange] = context.send_hellos(newest)
    if exchange.alert == PROTOCOL_VERSION:
        exchanges = [replace(exchange, offered=name_of(version)) for version in versions]
    else:
        hellos = [
            ClientHello(purpose=f"hello of {name_of(version)} only", version=version, suites=EVERY_SUITE)
            for version in versions
        ]
        exchanges = context.send_hellos(*hellos)
    return OldVersions(url=listener.url, role=listener.role, exchanges=tuple(exchanges))


@dataclass(frozen=True, slots=True)
class CombinedHello:
    """The exchange of a ClientHello that is unusual in several points; the key is the TLS version.

    In TLS 1.2 it offers compression, in TLS 1.3 every known group and no key share, and in the highest
    version values that no server knows.

    Attributes:
        usual: the answer is that to a usual hello, so that the server tolerates each of the points.
    """

    exchange: HelloExchange
    usual: bool

    @property
    def server_hello(self) -> ServerHello | None:
        """What the server chose; ``None`` if the answer is not a usual one."""
        return self.exchange.server_hello if self.usual else None


@probe(CombinedHello, reported=False, cost=1, needs=[FirstContact])
def _combined(context: Context, key: str) -> CombinedHello:
    version, offered = TLSVersion(key), tls_answer(context).offered
    if version not in offered:
        raise NotApplicableError(f"{listener_of(context).url} does not offer {version}")
    hello = plain_hello(version, f"hello of {version} with compression, unknown values or every group")
    hello = replace(hello, grease=version is offered[-1], once=True)
    if version is TLSVersion.TLS1_2:
        hello = replace(hello, compression=_COMPRESSION)
    else:
        groups = tuple(group.code for group in (*HYBRIDS, *MODERN, *OTHERS))
        hello = replace(hello, groups=groups, key_share=False)
    exchange = context.send_hellos(hello)[0]
    chosen = exchange.server_hello
    usual = (
        chosen is not None
        and (chosen.version, chosen.compression) == (hello.version, 0)
        and chosen.suite in hello.suites
        and (chosen.group is None or chosen.group in hello.groups)
    )
    return CombinedHello(exchange, usual)


_COMPRESSION = (1, 64, 0)
"""DEFLATE (RFC 3749), LZS (RFC 3943) and null, which a ClientHello must offer (RFC 5246 section 7.4.1.2)."""


@dataclass(frozen=True, slots=True)
class PlainHello:
    """The exchange of a usual ClientHello, or of an unusual one with a usual answer; the key is the version.

    Attributes:
        exchange: the answer is a ServerHello.
    """

    exchange: HelloExchange


@probe(
    PlainHello,
    reported=False,
    cost=1,
    needs=lambda planned: [FirstContact, (CombinedHello, planned.key)],
)
def _plain(context: Context, key: str) -> PlainHello:
    version, combined = TLSVersion(key), context.get(CombinedHello, key)
    if combined.usual:
        return PlainHello(combined.exchange)
    exchange = need_answer(context.send_hellos(plain_hello(version, f"plain hello of {version}"))[0])
    if exchange.reply is not Reply.SERVER_HELLO:
        raise NotVerifiedError(f"a plain hello of {version} is refused: {exchange.describe()}")
    return PlainHello(exchange)


@probe(
    UnusualClientHello,
    cost=1,
    needs=[
        FirstContact,
        *((hello, str(version)) for hello in (PlainHello, CombinedHello) for version in TLSVersion),
    ],
)
def _variant(context: Context, key: str) -> UnusualClientHello:
    listener, offered = listener_of(context), tls_answer(context).offered
    if key == "unknown-values":
        version = offered[-1]
        hello = replace(plain_hello(version, "hello with unknown values"), grease=True)
    elif key == "compression":
        version = TLSVersion.TLS1_2
        hello = replace(plain_hello(version, "hello with compression"), compression=_COMPRESSION)
    elif key == "sha1-signatures":
        version = TLSVersion.TLS1_2
        hello = plain_hello(version, "hello with SHA-1 signatures alone")
        suites = tuple(code for code in hello.suites if "ECDHE" in suite_name(code))
        hello = replace(hello, suites=suites, signatures=SHA1_SIGNATURES, to_key_exchange=True)
    else:
        version = TLSVersion.TLS1_2
        if TLSVersion.TLS1_3 not in offered:
            raise NotApplicableError(
                f"{listener.url} offers one version only: there is nothing to fall back from"
            )
        hello = plain_hello(version, "hello that signals a fallback")
        hello = replace(hello, suites=(*hello.suites, FALLBACK_SCSV))
    plain = context.get(PlainHello, str(version)).exchange
    tolerated = key in _TOLERATED and context.get(CombinedHello, str(version)).usual
    unusual = plain if tolerated else need_answer(context.send_hellos(hello)[0])
    return UnusualClientHello(
        url=listener.url, role=listener.role, version=version, plain=plain, unusual=unusual
    )


_TOLERATED = ("unknown-values", "compression")
"""Points in which :class:`CombinedHello` is unusual. A good server refuses the other points."""


@probe(SilentConnection, cost=1, needs=[FirstContact])
def _silence(context: Context) -> SilentConnection:
    listener = listener_of(context)
    tls_answer(context)
    exchange = context.keep_silent("connection on which nothing is sent", _SILENT_SECONDS)
    return SilentConnection(url=listener.url, role=listener.role, patience=_SILENT_SECONDS, exchange=exchange)


_NOTHING_IN_COMMON = frozenset({40, 71})
"""Alerts for an offer with nothing acceptable: handshake_failure, insufficient_security."""

_SUITE_ROUNDS: Mapping[Weakness, int] = {
    Weakness.BROKEN: 3,
    Weakness.TRIPLE_DES: 3,
    Weakness.STATIC: 6,
    Weakness.CBC: 4,
    Weakness.NONE: 4,
}
"""Maximum number of hellos by weakness; suites are offered by weakness, so no strong one hides a weak one."""

_WEAKEST = (Weakness.BROKEN, Weakness.TRIPLE_DES, Weakness.STATIC)
"""Kinds that are offered together first where only verdicts count: one refusal answers for all."""

_FIRST_ROUNDS = 6
"""Maximum number of hellos that offer suites of every kind. If more are accepted, each is offered alone."""

_GROUP_ROUNDS = 8

_ECDHE = tuple(
    suite.code
    for suite in SUITES
    if suite.name.startswith("TLS_ECDHE_") and suite.weakness is not Weakness.BROKEN
)


@dataclass(slots=True)
class _Offer:
    """A set of offered values, from which each chosen value is removed.

    Attributes:
        rounds: hellos that may still be sent.
        hello: returns the ClientHello that offers the remaining values.
        chosen: returns the value that a ServerHello chose.
    """

    left: list[int]
    rounds: int
    hello: Callable[[Sequence[int]], ClientHello]
    chosen: Callable[[ServerHello], int | None]
    open: bool = True


def _accepted(context: Context, offers: Sequence[_Offer]) -> list[int]:
    """Return the accepted values of the offers, which are made concurrently."""
    accepted: list[int] = []
    while round_ := [offer for offer in offers if offer.open and offer.left and offer.rounds]:
        exchanges = context.send_hellos(*(offer.hello(tuple(offer.left)) for offer in round_))
        for offer, exchange in zip(round_, exchanges, strict=True):
            offer.rounds -= 1
            chosen = offer.chosen(exchange.server_hello) if exchange.server_hello is not None else None
            if chosen in offer.left:
                accepted.append(chosen)
                offer.left.remove(chosen)
            elif need_answer(exchange).alert in _NOTHING_IN_COMMON:
                offer.open = False
            else:
                raise InconclusiveError(f"{exchange.url}: {exchange.purpose}: {exchange.describe()}")
    return accepted


def _suite_cost(planned: Planned) -> int:
    if planned.target.sparing:
        return 3 + sum(_SUITE_ROUNDS[kind] for kind in _WEAKEST)
    return _FIRST_ROUNDS + sum(_SUITE_ROUNDS.values())


@probe(SuiteSupport, cost=_suite_cost, needs=[FirstContact, (CombinedHello, str(TLSVersion.TLS1_2))])
def _suites(context: Context) -> SuiteSupport:
    listener = listener_of(context)
    if TLSVersion.TLS1_2 not in tls_answer(context).offered:
        raise NotApplicableError(f"{listener.url} does not offer TLS 1.2, and TLS 1.3 has no weak suites")
    chosen = context.get(CombinedHello, str(TLSVersion.TLS1_2)).server_hello
    known = [suite for suite in SUITES if chosen is not None and suite.code == chosen.suite]
    accepted = [suite.code for suite in known]
    sparing = context.target.sparing
    if sparing:
        together: Sequence[Weakness] = _WEAKEST
        # One suite of these kinds decides every verdict.
        alone = [
            kind for kind in (Weakness.CBC, Weakness.NONE) if kind not in {one.weakness for one in known}
        ]
        offers = [_suite_offer(1, *together), *(_suite_offer(1, kind) for kind in alone)]
    else:
        together = tuple(_SUITE_ROUNDS)
        offers = [_suite_offer(_FIRST_ROUNDS, *together, without=accepted)]
    accepted += _accepted(context, offers)
    if offers[0].open and offers[0].left:
        offers[:1] = [_suite_offer(_SUITE_ROUNDS[kind], kind, without=accepted) for kind in together]
        accepted += _accepted(context, offers[: len(together)])
    return SuiteSupport(
        url=listener.url,
        role=listener.role,
        accepted=tuple(suite for suite in SUITES if suite.code in accepted),
        complete=not (sparing and known) and not any(offer.open and offer.left for offer in offers),
    )


def _suite_offer(rounds: int, *kinds: Weakness, without: Collection[int] = ()) -> _Offer:
    purpose = f"suites, weakness: {' or '.join(kinds)}"
    return _Offer(
        left=[suite.code for suite in SUITES if suite.weakness in kinds and suite.code not in without],
        rounds=rounds,
        hello=lambda left: ClientHello(purpose=purpose, version=TLS1_2, suites=tuple(left)),
        chosen=lambda hello: hello.suite,
    )


_TLS13_ROUNDS = len(TLS13_NAMES)


def _suites_are_listed(target: Target) -> bool:
    return any(one.tls13_cipher_suites is not None for one in target.thresholds.values())


@probe(
    TLS13Suites,
    cost=lambda planned: _TLS13_ROUNDS if _suites_are_listed(planned.target) else 0,
    needs=[FirstContact],
)
def _tls13_suites(context: Context) -> TLS13Suites:
    listener = listener_of(context)
    if TLSVersion.TLS1_3 not in tls_answer(context).offered:
        raise NotApplicableError(f"{listener.url} does not offer TLS 1.3")
    accepted: list[int] = []
    if _suites_are_listed(context.target):
        offer = _Offer(
            left=list(TLS13_NAMES),
            rounds=_TLS13_ROUNDS,
            hello=lambda left: ClientHello(purpose="suites of TLS 1.3", version=TLS1_3, suites=tuple(left)),
            chosen=lambda hello: hello.suite,
        )
        accepted = _accepted(context, [offer])
    names = tuple(TLS13_NAMES[code] for code in sorted(accepted))
    return TLS13Suites(url=listener.url, role=listener.role, accepted=names)


@probe(
    GroupSupport,
    cost=lambda planned: (3 if planned.target.sparing else _GROUP_ROUNDS) + 1,
    needs=[FirstContact, SuiteSupport, (CombinedHello, str(TLSVersion.TLS1_3))],
)
def _groups(context: Context) -> GroupSupport:
    listener, offered = listener_of(context), tls_answer(context).offered
    version = offered[-1]
    kinds = [HYBRIDS, MODERN, OTHERS] if version is TLSVersion.TLS1_3 else [MODERN, OTHERS]
    first: list[int] = []
    if version is TLSVersion.TLS1_3:
        chosen = context.get(CombinedHello, str(version)).server_hello
        first = [chosen.group] if chosen is not None and chosen.group is not None else []
    # An accepted group of the best kind decides every verdict.
    sparing = context.target.sparing
    accepted: list[int] = []
    for known in kinds if sparing else [[group for kind in kinds for group in kind]]:
        codes = [group.code for group in known]
        if sparing and set(first) & set(codes):
            accepted = first
            break
        offer = _Offer(
            left=[code for code in codes if code not in first],
            rounds=1 if sparing else _GROUP_ROUNDS,
            hello=_hello_of_13 if version is TLSVersion.TLS1_3 else _hello_of_12,
            chosen=lambda hello: hello.group,
        )
        if accepted := _accepted(context, [offer]):
            break
    if not sparing:
        accepted = [*first, *accepted]
    if not accepted and version is TLSVersion.TLS1_2 and not _accepts_ecdhe(context):
        raise NotApplicableError(f"{listener.url} accepts no suite with ECDHE: there is no group to choose")
    weak = None
    if TLSVersion.TLS1_2 in offered:
        hello = need_answer(context.send_hellos(_hello_of_12([one.code for one in WEAK]))[0]).server_hello
        weak = GROUPS.get(hello.group or 0) if hello else None
    return GroupSupport(
        url=listener.url,
        role=listener.role,
        version=version,
        accepted=tuple(GROUPS[code] for code in accepted),
        weak=weak,
        complete=not sparing,
    )


def _accepts_ecdhe(context: Context) -> bool:
    return any(suite.code in _ECDHE for suite in context.get(SuiteSupport).accepted)


def _hello_of_13(groups: Sequence[int]) -> ClientHello:
    return ClientHello(
        purpose="groups", version=TLS1_3, suites=TLS13_SUITES, groups=tuple(groups), key_share=False
    )


def _hello_of_12(groups: Sequence[int]) -> ClientHello:
    return ClientHello(
        purpose="groups", version=TLS1_2, suites=_ECDHE, groups=tuple(groups), to_key_exchange=True
    )


UNKNOWN_ALPN = ("etcdtls-unknown",)
_OFFERS = {"known": KNOWN_ALPN, "unknown": UNKNOWN_ALPN}


@probe(AlpnChoices, cost=2, needs=[FirstContact, (PlainHello, str(TLSVersion.TLS1_2))])
def _alpn(context: Context, key: str) -> AlpnChoices:
    listener, names = listener_of(context), _OFFERS[key]
    of_version = {TLSVersion.TLS1_2: _in_tls12, TLSVersion.TLS1_3: _in_tls13}
    choices = tuple(of_version[version](context, names) for version in tls_answer(context).offered)
    return AlpnChoices(url=listener.url, role=listener.role, offered=names, choices=choices)


def _in_tls12(context: Context, names: tuple[str, ...]) -> AlpnChoice:
    version = TLSVersion.TLS1_2
    if names == KNOWN_ALPN:
        exchange = context.get(PlainHello, str(version)).exchange
    else:
        hello = plain_hello(version, f"ALPN {', '.join(names)}")
        exchange = need_answer(context.send_hellos(replace(hello, alpn=names))[0])
    hello_back = exchange.server_hello
    return AlpnChoice(version=version, selected=hello_back.alpn if hello_back else "", alert=exchange.alert)


def _in_tls13(context: Context, names: tuple[str, ...]) -> AlpnChoice:
    listener = listener_of(context)
    request = Request(
        purpose=f"ALPN {', '.join(names)}",
        version=TLSVersion.TLS1_3,
        protocol=Protocol.HTTP2 if names == KNOWN_ALPN else Protocol.HTTP1,
        path=version_path(listener.role),
        alpn=names,
    )
    attempt = context.attempt(request)[0][-1]
    if attempt.version is None and attempt.alert is None:
        raise InconclusiveError(f"{listener.url}: {request.purpose}: {attempt.describe()}")
    # After the handshake, an alert is about the missing certificate.
    unfinished = attempt.phase is Phase.HANDSHAKE and attempt.ending is not Ending.SERVED
    alert = attempt.alert if unfinished else None
    return AlpnChoice(version=TLSVersion.TLS1_3, selected=attempt.alpn, alert=alert)


def _sample_reply(
    listener: SampleListener,
    offered: str,
    **changes: Any,  # noqa: ANN401 - fields of HelloExchange
) -> HelloExchange:
    facts: dict[str, Any] = {
        "url": listener.url,
        "purpose": "sample",
        "offered": offered,
        "reply": Reply.SERVER_HELLO,
        "started_at": SAMPLED_AT,
        "server_hello": ServerHello(version=TLS1_2, suite=0xC02F, group=29, extensions=frozenset({0xFF01})),
        "local_address": "127.0.0.1:50000",
    }
    return HelloExchange(**(facts | changes))


def _sample_alert(listener: SampleListener, offered: str, number: int) -> HelloExchange:
    return _sample_reply(listener, offered, reply=Reply.ALERT, server_hello=None, alert=number)


@sample(NewestVersion)
def _sample_newest(listener: SampleListener) -> NewestVersion:
    return NewestVersion(
        url=listener.url, role=listener.role, offered=True, attempt=listener.refused(identity="none")
    )


@sample(OldVersions)
def _sample_old(listener: SampleListener) -> OldVersions:
    exchanges = tuple(_sample_alert(listener, name, 70) for name in ("SSLv3", "TLSv1.0", "TLSv1.1"))
    return OldVersions(url=listener.url, role=listener.role, exchanges=exchanges)


@sample(SuiteSupport)
def _sample_suites(listener: SampleListener) -> SuiteSupport:
    strong = tuple(
        suite
        for suite in SUITES
        if suite.weakness is Weakness.NONE and suite.name in GO_SUITES and "_ECDHE_ECDSA_" in suite.name
    )
    return SuiteSupport(url=listener.url, role=listener.role, accepted=strong)


@sample(TLS13Suites)
def _sample_tls13(listener: SampleListener) -> TLS13Suites:
    names = tuple(TLS13_NAMES[code] for code in TLS13_SUITES)
    return TLS13Suites(url=listener.url, role=listener.role, accepted=names)


@sample(GroupSupport)
def _sample_groups(listener: SampleListener) -> GroupSupport:
    return GroupSupport(
        url=listener.url, role=listener.role, version=TLSVersion.TLS1_3, accepted=(HYBRIDS[0], *MODERN[:4])
    )


@sample(UnusualClientHello)
def _sample_variant(listener: SampleListener, key: str) -> UnusualClientHello:
    plain = _sample_reply(listener, "TLSv1.2")
    refused = {"fallback": 86, "sha1-signatures": 40}
    unusual = _sample_alert(listener, "TLSv1.2", refused[key]) if key in refused else plain
    return UnusualClientHello(
        url=listener.url, role=listener.role, version=TLSVersion.TLS1_2, plain=plain, unusual=unusual
    )


@sample(AlpnChoices)
def _sample_alpn(listener: SampleListener, key: str) -> AlpnChoices:
    known = key == "known"
    return AlpnChoices(
        url=listener.url,
        role=listener.role,
        offered=("h2", "http/1.1") if known else ("unknown",),
        choices=tuple(
            AlpnChoice(version=version, selected="h2") if known else AlpnChoice(version=version, alert=120)
            for version in TLSVersion
        ),
    )


@sample(SilentConnection)
def _sample_silence(listener: SampleListener) -> SilentConnection:
    ended = _sample_reply(
        listener, "", reply=Reply.ENDED, server_hello=None, detail="closed without an answer"
    )
    return SilentConnection(url=listener.url, role=listener.role, patience=20, exchange=ended)
