"""TLS parameters that a listener accepts: versions, cipher suites, groups, ALPN, unusual hellos.

A server never lists what it accepts: it chooses from what a ClientHello offers (RFC 5246 section 7.4.1.3,
RFC 8446 section 4.1.3), or refuses the offer with an alert. So values are offered, the chosen one is removed,
and the others are offered again, until the server refuses with ``handshake_failure``. The hellos are our own
(:mod:`pytest_etcdtls.tls.hello`), since no TLS library offers values that it does not support.

One hello per version is unusual in every point that a good server tolerates (:class:`CombinedHello`). If the
answer is a usual one, it decides all of these points, and its suite and group are the first accepted ones.
Only otherwise is a hello sent for each point, and a plain one to compare with. Go's server ignores unknown
values (``clientHelloMsg.unmarshal`` in crypto/tls) and answers with its own preference.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Annotated

from msgspec import Struct
from msgspec.structs import replace

from pytest_etcdtls.errors import InconclusiveError, NotApplicableError, NotVerifiedError
from pytest_etcdtls.facts.fact import Lazy, Planned, Wire, fact, same_key
from pytest_etcdtls.facts.listener import (
    EVERY_GROUP,
    EVERY_SUITE,
    NOTHING_IN_COMMON,
    PROTOCOL_VERSION,
    FirstContact,
    TLSContact,
    tls_contact,
    version_path,
)
from pytest_etcdtls.role import Protocol, TLSVersion
from pytest_etcdtls.target import Listener, Target
from pytest_etcdtls.tls.attempt import Ending, Phase, Request
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


class OldVersions(Struct, frozen=True, kw_only=True):
    """ClientHellos of SSL 3.0, TLS 1.0 and TLS 1.1, each with every suite of its version.

    Attributes:
        exchanges: one exchange per version, oldest first. A server answers a hello of TLS 1.1 with the
            highest version up to it; if it refuses that one for its version, all are of that hello.
    """

    exchanges: tuple[HelloExchange, ...]


class SuiteSupport(Struct, frozen=True, kw_only=True):
    """The cipher suites that the listener accepts in TLS 1.2.

    Attributes:
        accepted: found by offering suites of one kind together and removing the chosen one each time.
        complete: no further suite is accepted; if false, only the first few of a kind were looked for.
    """

    accepted: tuple[CipherSuite, ...]
    complete: bool = True


class TLS13Suites(Struct, frozen=True, kw_only=True):
    """The cipher suites that the listener accepts in TLS 1.3.

    Attributes:
        accepted: their names; empty if no profile lists suites of TLS 1.3, since then none is offered.
    """

    accepted: tuple[str, ...]


class GroupSupport(Struct, frozen=True, kw_only=True):
    """The key exchange groups that the listener accepts.

    Attributes:
        version: the TLS version in which they were tested, the highest offered.
        accepted: the accepted known groups, without weak ones.
        complete: no further known group is accepted.
        weak: the weak group that the listener chose (TLS 1.2 only). A server that requires the curve of its
            own certificate among the groups, as OpenSSL does, refuses an offer without it.
    """

    version: TLSVersion
    accepted: tuple[NamedGroup, ...]
    weak: NamedGroup | None = None
    complete: bool = True


class UnusualClientHello(Struct, frozen=True, kw_only=True):
    """A ClientHello that is unusual in one point, and the same ClientHello without that point.

    Attributes:
        version: TLS version offered.
        plain: the exchange of the usual hello.
        unusual: the exchange of the unusual hello. Both are the same exchange if a hello that is unusual in
            several points got a usual answer.
    """

    version: TLSVersion
    plain: HelloExchange
    unusual: HelloExchange


class AlpnChoice(Struct, frozen=True, kw_only=True):
    """The listener's answer to ALPN protocol names in one TLS version (RFC 7301).

    Attributes:
        selected: the name that it selected, empty if none.
        alert: number of the alert with which it refused them, ``None`` if it did not.
    """

    version: TLSVersion
    selected: str = ""
    alert: int | None = None


class AlpnChoices(Struct, frozen=True, kw_only=True):
    """The listener's answer to the same ALPN protocol names in each TLS version that it offers."""

    offered: tuple[str, ...]
    choices: tuple[AlpnChoice, ...]


class SilentConnection(Struct, frozen=True, kw_only=True):
    """A connection on which nothing was sent.

    Attributes:
        patience: seconds to wait.
        exchange: the exchange: whether the listener ended the connection in that time.
    """

    patience: float
    exchange: HelloExchange


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


@fact(connections=4)
def old_versions(here: Listener, contact: FirstContact, wire: Wire) -> OldVersions:
    """Offer TLS 1.1, and where that is not refused for its version each of the old versions alone."""
    # A server of old versions alone serves TLS, in no version that our TLS library has.
    if not contact.serves_tls:
        tls_contact(here, contact)
    versions = (SSL3, TLS1_0, TLS1_1)
    newest = ClientHello(purpose="hello of TLSv1.1 and older", version=TLS1_1, suites=EVERY_SUITE, once=True)
    [exchange] = wire.send_hellos(newest)
    if exchange.alert == PROTOCOL_VERSION:
        exchanges = [replace(exchange, offered=name_of(version)) for version in versions]
    else:
        hellos = [
            ClientHello(purpose=f"hello of {name_of(version)} only", version=version, suites=EVERY_SUITE)
            for version in versions
        ]
        exchanges = wire.send_hellos(*hellos)
    return OldVersions(exchanges=tuple(exchanges))


class CombinedHello(Struct, frozen=True):
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


@fact(connections=1, reported=False)
def combined_hello(here: Listener, key: str, contact: TLSContact, wire: Wire) -> CombinedHello:
    """Send the hello that is unusual in several points."""
    version, offered = TLSVersion(key), contact.offered
    if version not in offered:
        raise NotApplicableError(f"{here.url} does not offer {version}")
    hello = plain_hello(version, f"hello of {version} with compression, unknown values or every group")
    hello = replace(hello, grease=version is offered[-1], once=True)
    if version is TLSVersion.TLS1_2:
        hello = replace(hello, compression=_COMPRESSION)
    else:
        hello = replace(hello, groups=EVERY_GROUP, key_share=False)
    [exchange] = wire.send_hellos(hello)
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


class PlainHello(Struct, frozen=True):
    """The exchange of a usual ClientHello, or of an unusual one with a usual answer; the key is the version.

    Attributes:
        exchange: the answer is a ServerHello.
    """

    exchange: HelloExchange


@fact(connections=1, reported=False)
def usual_hello(key: str, combined: Annotated[CombinedHello, same_key], wire: Wire) -> PlainHello:
    """Send a usual hello, unless the answer to the combined one is usual."""
    version = TLSVersion(key)
    if combined.usual:
        return PlainHello(combined.exchange)
    exchange = need_answer(wire.send_hellos(plain_hello(version, f"plain hello of {version}"))[0])
    if exchange.reply is not Reply.SERVER_HELLO:
        raise NotVerifiedError(f"a plain hello of {version} is refused: {exchange.describe()}")
    return PlainHello(exchange)


def _each_version(_planned: Planned) -> Sequence[str]:
    return tuple(TLSVersion)


@fact(connections=1)
def unusual_client_hello(
    here: Listener,
    key: str,
    contact: TLSContact,
    plain: Lazy[Annotated[PlainHello, _each_version]],
    combined: Lazy[Annotated[CombinedHello, _each_version]],
    wire: Wire,
) -> UnusualClientHello:
    """Send the hello that is unusual in the point of the key, unless the combined one decides it."""
    version = TLSVersion.TLS1_2
    if key == "unknown-values":
        version = contact.offered[-1]
        hello = replace(plain_hello(version, "hello with unknown values"), grease=True)
    elif key == "compression":
        hello = replace(plain_hello(version, "hello with compression"), compression=_COMPRESSION)
    elif key == "sha1-signatures":
        hello = plain_hello(version, "hello with SHA-1 signatures alone")
        suites = tuple(code for code in hello.suites if "ECDHE" in suite_name(code))
        hello = replace(hello, suites=suites, signatures=SHA1_SIGNATURES, to_key_exchange=True)
    else:
        if TLSVersion.TLS1_3 not in contact.offered:
            raise NotApplicableError(
                f"{here.url} offers one version only: there is nothing to fall back from"
            )
        hello = plain_hello(version, "hello that signals a fallback")
        hello = replace(hello, suites=(*hello.suites, FALLBACK_SCSV))
    exchange = plain.get(version).exchange
    tolerated = key in _TOLERATED and combined.get(version).usual
    unusual = exchange if tolerated else need_answer(wire.send_hellos(hello)[0])
    return UnusualClientHello(version=version, plain=exchange, unusual=unusual)


_TOLERATED = ("unknown-values", "compression")
"""Points in which :class:`CombinedHello` is unusual. A good server refuses the other points."""


@fact(connections=1)
def silent_connection(_contact: TLSContact, wire: Wire) -> SilentConnection:
    """Connect, send nothing, and wait."""
    exchange = wire.keep_silent("connection on which nothing is sent", _SILENT_SECONDS)
    return SilentConnection(patience=_SILENT_SECONDS, exchange=exchange)


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


class _Offer(Struct):
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


def _accepted(wire: Wire, offers: Sequence[_Offer]) -> list[int]:
    """Return the accepted values of the offers, which are made concurrently."""
    accepted: list[int] = []
    while round_ := [offer for offer in offers if offer.open and offer.left and offer.rounds]:
        exchanges = wire.send_hellos(*(offer.hello(tuple(offer.left)) for offer in round_))
        for offer, exchange in zip(round_, exchanges, strict=True):
            offer.rounds -= 1
            chosen = offer.chosen(exchange.server_hello) if exchange.server_hello is not None else None
            if chosen in offer.left:
                accepted.append(chosen)
                offer.left.remove(chosen)
            elif need_answer(exchange).alert in NOTHING_IN_COMMON:
                offer.open = False
            else:
                raise InconclusiveError(f"{exchange.url}: {exchange.purpose}: {exchange.describe()}")
    return accepted


def _suite_hellos(planned: Planned) -> int:
    if planned.target.sparing:
        return 3 + sum(_SUITE_ROUNDS[kind] for kind in _WEAKEST)
    return _FIRST_ROUNDS + sum(_SUITE_ROUNDS.values())


@fact(connections=_suite_hellos)
def suite_support(
    here: Listener,
    target: Target,
    contact: TLSContact,
    combined: Lazy[Annotated[CombinedHello, TLSVersion.TLS1_2]],
    wire: Wire,
) -> SuiteSupport:
    """Offer the suites of TLS 1.2 until none of the rest is accepted; only what decides, if sparing."""
    if TLSVersion.TLS1_2 in contact.without_suite:
        return SuiteSupport(accepted=())
    if TLSVersion.TLS1_2 not in contact.offered:
        raise NotApplicableError(f"{here.url} does not offer TLS 1.2, and TLS 1.3 has no weak suites")
    chosen = combined.get().server_hello
    known = [suite for suite in SUITES if chosen is not None and suite.code == chosen.suite]
    accepted = [suite.code for suite in known]
    if target.sparing:
        together: Sequence[Weakness] = _WEAKEST
        # One suite of these kinds decides every verdict.
        decided = {suite.weakness for suite in known}
        alone = [kind for kind in (Weakness.CBC, Weakness.NONE) if kind not in decided]
        offers = [_suite_offer(1, *together), *(_suite_offer(1, kind) for kind in alone)]
    else:
        together = tuple(_SUITE_ROUNDS)
        offers = [_suite_offer(_FIRST_ROUNDS, *together, without=accepted)]
    accepted += _accepted(wire, offers)
    if offers[0].open and offers[0].left:
        offers[:1] = [_suite_offer(_SUITE_ROUNDS[kind], kind, without=accepted) for kind in together]
        accepted += _accepted(wire, offers[: len(together)])
    return SuiteSupport(
        accepted=tuple(suite for suite in SUITES if suite.code in accepted),
        complete=not (target.sparing and known) and not any(offer.open and offer.left for offer in offers),
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
    return any(profile.tls13_cipher_suites is not None for profile in target.thresholds.values())


@fact(connections=lambda planned: _TLS13_ROUNDS if _suites_are_listed(planned.target) else 0)
def tls13_suites(here: Listener, target: Target, contact: TLSContact, wire: Wire) -> TLS13Suites:
    """Offer the suites of TLS 1.3 if a profile lists some."""
    if TLSVersion.TLS1_3 not in contact.offered:
        raise NotApplicableError(f"{here.url} does not offer TLS 1.3")
    accepted: list[int] = []
    if _suites_are_listed(target):
        offer = _Offer(
            left=list(TLS13_NAMES),
            rounds=_TLS13_ROUNDS,
            hello=lambda left: ClientHello(purpose="suites of TLS 1.3", version=TLS1_3, suites=tuple(left)),
            chosen=lambda hello: hello.suite,
        )
        accepted = _accepted(wire, [offer])
    names = tuple(TLS13_NAMES[code] for code in sorted(accepted))
    return TLS13Suites(accepted=names)


@fact(connections=lambda planned: (3 if planned.target.sparing else _GROUP_ROUNDS) + 1)
def group_support(
    here: Listener,
    target: Target,
    contact: TLSContact,
    combined: Lazy[Annotated[CombinedHello, TLSVersion.TLS1_3]],
    suites: Lazy[SuiteSupport],
    wire: Wire,
) -> GroupSupport:
    """Offer the groups until none of the rest is accepted, and weak ones in TLS 1.2."""
    version = contact.offered[-1]
    kinds = [MODERN, OTHERS]
    first: list[int] = []
    if version is TLSVersion.TLS1_3:
        kinds = [HYBRIDS, *kinds]
        chosen = combined.get().server_hello
        first = [chosen.group] if chosen is not None and chosen.group is not None else []
    # An accepted group of the best kind decides every verdict.
    accepted: list[int] = []
    for groups in kinds if target.sparing else [[group for kind in kinds for group in kind]]:
        codes = [group.code for group in groups]
        if target.sparing and set(first) & set(codes):
            accepted = first
            break
        offer = _Offer(
            left=[code for code in codes if code not in first],
            rounds=1 if target.sparing else _GROUP_ROUNDS,
            hello=_hello_of_13 if version is TLSVersion.TLS1_3 else _hello_of_12,
            chosen=lambda hello: hello.group,
        )
        if accepted := _accepted(wire, [offer]):
            break
    if not target.sparing:
        accepted = [*first, *accepted]
    if version is TLSVersion.TLS1_2 and not accepted and not _accepts_ecdhe(suites.get()):
        raise NotApplicableError(f"{here.url} accepts no suite with ECDHE: there is no group to choose")
    weak = None
    if TLSVersion.TLS1_2 in contact.offered:
        exchange = need_answer(wire.send_hellos(_hello_of_12([group.code for group in WEAK]))[0])
        hello_back = exchange.server_hello
        weak = GROUPS.get(hello_back.group or 0) if hello_back else None
    return GroupSupport(
        version=version,
        accepted=tuple(GROUPS[code] for code in accepted),
        weak=weak,
        complete=not target.sparing,
    )


def _accepts_ecdhe(suites: SuiteSupport) -> bool:
    return any(suite.code in _ECDHE for suite in suites.accepted)


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


@fact(connections=2)
def alpn_choices(
    here: Listener,
    key: str,
    contact: TLSContact,
    plain: Lazy[Annotated[PlainHello, TLSVersion.TLS1_2]],
    wire: Wire,
) -> AlpnChoices:
    """Offer the protocols of the key in each version."""
    names = _OFFERS[key]
    choices = tuple(
        _in_tls12(names, plain, wire) if version is TLSVersion.TLS1_2 else _in_tls13(here, names, wire)
        for version in contact.offered
    )
    return AlpnChoices(offered=names, choices=choices)


def _in_tls12(names: tuple[str, ...], plain: Lazy[PlainHello], wire: Wire) -> AlpnChoice:
    version = TLSVersion.TLS1_2
    if names == KNOWN_ALPN:  # those of every plain hello
        exchange = plain.get().exchange
    else:
        hello = plain_hello(version, f"ALPN {', '.join(names)}")
        exchange = need_answer(wire.send_hellos(replace(hello, alpn=names))[0])
    hello_back = exchange.server_hello
    return AlpnChoice(version=version, selected=hello_back.alpn if hello_back else "", alert=exchange.alert)


def _in_tls13(here: Listener, names: tuple[str, ...], wire: Wire) -> AlpnChoice:
    # The choice is in an encrypted message, so it needs a whole handshake.
    request = Request(
        purpose=f"ALPN {', '.join(names)}",
        version=TLSVersion.TLS1_3,
        protocol=Protocol.HTTP2 if names == KNOWN_ALPN else Protocol.HTTP1,
        path=version_path(here.role),
        alpn=names,
    )
    attempt = wire.attempt(request)[0][-1]
    if attempt.version is None and attempt.alert is None:
        raise InconclusiveError(f"{here.url}: {request.purpose}: {attempt.describe()}")
    # After the handshake, an alert is about the missing certificate.
    unfinished = attempt.phase is Phase.HANDSHAKE and attempt.ending is not Ending.SERVED
    alert = attempt.alert if unfinished else None
    return AlpnChoice(version=TLSVersion.TLS1_3, selected=attempt.alpn, alert=alert)
