"""Other ways to a listener than the one that is judged, and the certificate and the policy there.

etcd has one TLS configuration for each listener (client/pkg/transport, ``TLSInfo.ServerConfig``, without
``GetConfigForClient``; its ``GetCertificate`` does not read the ClientHello). So TLS version, ALPN and
server name change neither the chain that is served nor who is accepted. A proxy in front of it can choose by
each of them.

A host name may have several addresses (several records in DNS; ``localhost`` in both families), with a
server behind each. A client connects to any of them. One is judged, the same in the whole run; at the
others, the first contact shows whether clients without a certificate are refused and which CAs are
announced.

Two ways that differ are each repeated: where they do not stay different, several servers answer in turn, or
a certificate was renewed in the meantime.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

from cryptography import x509
from msgspec import Struct, structs

from pytest_etcdtls.declared.declaration import authority, is_address
from pytest_etcdtls.errors import NotApplicableError, NotVerifiedError
from pytest_etcdtls.facts.certificates import AnnouncedCAs
from pytest_etcdtls.facts.fact import Planned, Wire, Work, fact
from pytest_etcdtls.facts.listener import ServedChain, TLSContact, Tried, version_path
from pytest_etcdtls.pki.go_parser import DNS, details
from pytest_etcdtls.role import Protocol, Role, TLSVersion
from pytest_etcdtls.target import Listener
from pytest_etcdtls.tls.attempt import Attempt, Ending, Phase, Request
from pytest_etcdtls.tls.command import S_CLIENT_VERSIONS
from pytest_etcdtls.tls.connection import addresses_of, in_order, sni, why_not_contacted

UNKNOWN_NAME = "unknown.invalid"
"""A name that no server has (RFC 6761 section 6.4)."""

_MOST_NAMES = 6
"""Names of the served certificate that are tried."""
_MOST_ADDRESSES = 4
"""Other addresses of a host that are contacted."""
_REPEATS = 2
"""How often two ways are repeated each, if they differ."""


class Alternative(Tried, frozen=True, kw_only=True):
    """A client without a certificate, on one way to a listener.

    Attributes:
        way: in words: ``TLSv1.2``, ``ALPN h2``, ``SNI localhost``, ``no SNI``.
        options: options of ``openssl s_client`` for this way.
    """

    way: str
    options: str

    @property
    def chain(self) -> tuple[bytes, ...]:
        """DER of the served certificates, leaf first; empty if none were served."""
        return self.attempt.chain

    @property
    def answers(self) -> bool:
        """Whether the handshake came so far that the policy can be seen."""
        return self.attempt.certificate_requested is not None

    @property
    def request(self) -> tuple[bool | None, frozenset[bytes]]:
        """Whether a client certificate is requested, and the DER of the names of the announced CAs."""
        return self.attempt.certificate_requested, frozenset(self.attempt.announced_ca)


class HelloVariants(Struct, frozen=True, kw_only=True):
    """ClientHellos that differ in TLS version, ALPN and SNI, and their answers, the plain one first.

    Attributes:
        steady: two hellos that got different chains got the same ones again each time they were repeated.
    """

    variants: tuple[Alternative, ...]
    steady: bool = True


class ServerNames(Struct, frozen=True, kw_only=True):
    """A client without a certificate under different server names, and with different protocols by ALPN.

    Attributes:
        usual: under the name that every other attempt sends.
        others: under other names, then with other protocols.
        untried: names of the served certificate that were not tried.
        steady: two ways with different policies kept them each time they were repeated.
    """

    usual: Alternative
    others: tuple[Alternative, ...]
    untried: tuple[str, ...] = ()
    steady: bool = True


class OtherAddress(Struct, frozen=True, kw_only=True):
    """The first contact with another address of a listener's host.

    Attributes:
        address: IPv6 without brackets.
        url: of the listener, with the address in place of the host.
        tls: attempts without a certificate, one per TLS version.
        plaintext: plain HTTP, sent if TLS is not answered; ``None`` if it was not sent.
    """

    address: str
    url: str
    tls: tuple[Attempt, ...]
    plaintext: Attempt | None = None

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """All attempts."""
        return (*self.tls, *((self.plaintext,) if self.plaintext else ()))

    @property
    def connects(self) -> bool:
        """Whether something accepts connections at the address."""
        return any(attempt.phase is not Phase.CONNECT for attempt in self.tls)


class ServerAddresses(Struct, frozen=True, kw_only=True):
    """The addresses of a listener's host.

    Attributes:
        judged: the address of all other observations.
        usual: the first contact there, one attempt per TLS version.
        others: the other addresses that were contacted.
        untried: those that were not.
    """

    judged: str
    usual: tuple[Attempt, ...]
    others: tuple[OtherAddress, ...] = ()
    untried: tuple[str, ...] = ()


class _Hello(Struct, frozen=True):
    """A hello to send: in words, as options of ``openssl s_client``, and as a request."""

    text: str
    options: str
    request: Request

    def answered(self, tries: tuple[Attempt, ...]) -> Alternative:
        return Alternative(way=self.text, options=self.options, tries=tries)


@fact(connections=4 + 2 * _REPEATS)
def hello_variants(here: Listener, contact: TLSContact, served: ServedChain, wire: Wire) -> HelloVariants:
    """Send hellos with another ALPN and SNI than the first contact; two of them again where they differ."""
    plain = Request(purpose="another hello, no certificate", path=version_path(here.role))
    seen = {attempt.offered_version: attempt for attempt in contact.tls if attempt.chain}
    first = [
        _Hello(str(version), S_CLIENT_VERSIONS[version], replace(plain, version=version))
        for version in contact.offered
        if version in seen
    ]
    made: list[tuple[Attempt, ...]] = [(seen[hello.request.version],) for hello in first]
    together, *single, unknown = _others(here, served.leaf, plain)
    usual = made[-1][-1].chain
    # ALPN and SNI are tried in one hello, and separately only where that one gets another chain.
    of_together, of_unknown = wire.attempt(together.request, unknown.request)
    others, answers = [together], [of_together]
    if of_together[-1].chain != usual:
        of_single = wire.attempt(*(hello.request for hello in single))
        explained = any(tries[-1].chain != usual for tries in of_single)
        others, answers = [*others[explained:], *single], [*answers[explained:], *of_single]
    others.append(unknown)
    made += [*answers, of_unknown]
    hellos = (*first, *others)
    variants = tuple(hello.answered(tries) for hello, tries in zip(hellos, made, strict=True))
    steady = _is_steady(wire, hellos, variants, lambda attempt: attempt.chain)
    return HelloVariants(variants=variants, steady=steady)


def _others(listener: Listener, leaf: x509.Certificate, plain: Request) -> list[_Hello]:
    """Return the hellos that the first contact did not send. The first combines the next two."""
    served = details(leaf).texts(DNS)
    # A certificate may hold names that SNI cannot: with empty or long labels, NUL, octets above 127.
    own = next((name for name in served if sni(name) == name != sni(listener.name)), "localhost")
    over_http2 = replace(plain, protocol=Protocol.HTTP2)
    return [
        _Hello(f"ALPN h2 and SNI {own}", f"-alpn h2 -servername {own}", replace(over_http2, server_name=own)),
        _Hello("ALPN h2", "-alpn h2", over_http2),
        *(
            _Hello(f"SNI {name}", f"-servername {name}", replace(plain, server_name=name))
            for name in (own, UNKNOWN_NAME)
        ),
    ]


def _is_steady(
    wire: Wire, hellos: Sequence[_Hello], seen: Sequence[Tried], answer: Callable[[Attempt], object]
) -> bool:
    """Return whether the first hello, and the first that got another answer, get the same answers again.

    If not, the certificate was renewed in the meantime, or several servers answer in turn.
    """
    answers = [answer(tried.attempt) for tried in seen]
    different = next((number for number, other in enumerate(answers) if other and other != answers[0]), 0)
    return not different or all(
        answer(tries[-1]) == answers[number]
        for number in (0, different)
        for tries in wire.attempt(*[hellos[number].request] * _REPEATS)
    )


_PROTOCOLS = (("http/1.1",), ("h2", "http/1.1"))
"""Names that are offered by ALPN. The other attempts offer none, or h2 alone."""


def _way(role: Role, version: TLSVersion | None, name: str, alpn: tuple[str, ...] | None = None) -> _Hello:
    """Return the hello of a client that sends a server name and offers protocols. Etcd selects h2 of them."""
    if alpn is not None:
        text, options = f"ALPN {','.join(alpn)}", f"-alpn {','.join(alpn)}"
    elif name:
        text, options = f"SNI {name}", f"-servername {name}"
    else:
        text, options = "no SNI", "-noservername"
    over_http2 = alpn is not None and "h2" in alpn and role is not Role.PEER
    request = Request(
        purpose=f"another {'server name' if alpn is None else 'ALPN'}, no certificate",
        version=version,
        path=version_path(role),
        server_name=name,
        alpn=alpn,
        protocol=Protocol.HTTP2 if over_http2 else Protocol.HTTP1,
    )
    return _Hello(text, options, request)


def _names_cost(planned: Planned) -> int:
    if planned.listener is None or planned.listener.scheme == "http":
        return 0
    others = {"localhost", UNKNOWN_NAME, ""} - {sni(planned.listener.name) or ""}
    return len(others) + _MOST_NAMES + len(_PROTOCOLS) + 2 * _REPEATS


@fact(connections=_names_cost)
def server_names(
    here: Listener, chain: ServedChain, announced: AnnouncedCAs, contact: TLSContact, wire: Wire
) -> ServerNames:
    """Connect under the names of the served certificate, ``localhost``, an unknown name and none.

    Then offer the protocols of HTTP by ALPN. A router may send one name or one protocol elsewhere.

    The CAs that are announced show that a handshake came as far as the request for a certificate.
    """
    usual_name = sni(here.name) or ""
    certified = [name for name in _certified(chain.leaf) if name != usual_name]
    usual = next(
        attempt
        for attempt in reversed(contact.tls)
        if attempt.offered_version in contact.offered and attempt.certificate_requested is not None
    )
    names = dict.fromkeys(("", "localhost", UNKNOWN_NAME, *certified[:_MOST_NAMES]))
    names.pop(usual_name, None)
    way_of = partial(_way, here.role, usual.offered_version)
    ways = [*map(way_of, (usual_name, *names)), *(way_of(usual_name, alpn) for alpn in _PROTOCOLS)]
    made = [(usual,), *wire.attempt(*(way.request for way in ways[1:]))]
    seen = [way.answered(tries) for way, tries in zip(ways, made, strict=True)]
    return ServerNames(
        usual=seen[0],
        others=tuple(seen[1:]),
        untried=tuple(certified[_MOST_NAMES:]),
        steady=_is_steady(wire, ways, seen, _policy),
    )


def _policy(attempt: Attempt) -> tuple[Ending, frozenset[bytes], bool] | None:
    """Return how an attempt ended and what was requested; ``None`` if it did not come as far."""
    requested = attempt.certificate_requested
    return None if requested is None else (attempt.ending, frozenset(attempt.announced_ca), requested)


def _certified(leaf: x509.Certificate) -> Iterator[str]:
    """Yield the DNS names of a certificate; for a wildcard, one that it covers."""
    for name in dict.fromkeys(details(leaf).texts(DNS)):
        sent = sni(f"etcdtls{name[1:]}" if name.startswith("*.") else name)
        if sent is not None:
            yield sent.lower()


def _addresses_cost(planned: Planned) -> int:
    listener = planned.listener
    if listener is None or listener.scheme == "http" or listener.has_one_address:
        return 0
    return _MOST_ADDRESSES * (len(TLSVersion) + 1)


@fact(connections=_addresses_cost)
def server_addresses(here: Listener, contact: TLSContact, work: Work, wire: Wire) -> ServerAddresses:
    """Contact the other addresses that the host name has.

    Raises:
        NotApplicableError: if the URL has an address.
    """
    host = here.address[0]
    if here.is_socket or is_address(host):
        raise NotApplicableError(f"{here.host} is one address")
    if here.via:
        raise NotVerifiedError(
            f"the command of --etcd-via resolves {host}, with addresses that are not known here"
        )
    judged = next(attempt.server_address for attempt in contact.tls if attempt.server_address)
    others = [address for address in in_order(addresses_of(host, work.timeout)) if address != judged]
    if here.discovered:
        # An address that a member list names is contacted only where it may be that of a member.
        others = [other for other in others if not why_not_contacted(other, may_be_local=here.may_be_local)]
    return ServerAddresses(
        judged=judged,
        usual=contact.tls,
        others=tuple(_contact(wire, here, address) for address in others[:_MOST_ADDRESSES]),
        untried=tuple(others[_MOST_ADDRESSES:]),
    )


def _contact(wire: Wire, here: Listener, address: str) -> OtherAddress:
    plain = Request(
        purpose=f"{address}, no certificate", path=version_path(here.role), protocol=Protocol.HTTP1
    )
    tls = tuple(wire.attempt_at(*((address, replace(plain, version=version)) for version in TLSVersion)))
    seen = OtherAddress(address=address, url=f"https://{authority(address, here.address[1])}", tls=tls)
    if not seen.connects or any(attempt.ending is not Ending.UNCLEAR for attempt in tls):
        return seen
    [plaintext] = wire.attempt_at((address, replace(plain, plaintext=True)))
    return structs.replace(seen, plaintext=plaintext)
