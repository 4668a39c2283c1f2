"""Different hellos to one listener: does what is served depend on TLS version, ALPN or SNI.

Presents no certificate.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from cryptography import x509

from pytest_etcdtls.observations.attempt import Attempt, Protocol, TLSVersion
from pytest_etcdtls.observations.chain import ServedChain
from pytest_etcdtls.observations.hello import HelloVariant, HelloVariants
from pytest_etcdtls.observations.listener import Answer
from pytest_etcdtls.pki.reading import extension
from pytest_etcdtls.probes.contact import listener_of, tls_answer, version_path
from pytest_etcdtls.probes.dial import server_name, sni
from pytest_etcdtls.probes.registry import Context, Request, probe
from pytest_etcdtls.target import Listener

UNKNOWN_NAME = "unknown.invalid"
"""Nobody's name (RFC 6761 section 6.4)."""

_AGAIN = 2
"""How often two hellos that brought different chains are each sent again."""

_OPTIONS = {TLSVersion.TLS1_2: "-tls1_2", TLSVersion.TLS1_3: "-tls1_3"}


@dataclass(frozen=True, slots=True)
class _Hello:
    """What to send: in words, as options of ``openssl s_client``, and as a request."""

    words: str
    options: str
    request: Request


@probe(HelloVariants, cost=3 + 2 * _AGAIN, needs=[(Answer, None), (ServedChain, None)])
def _variants(context: Context, key: str | None) -> HelloVariants:
    listener = listener_of(context)
    answer = tls_answer(context)
    plain = Request(purpose="another hello, no certificate", path=version_path(listener.role))
    seen = {attempt.asked: attempt for attempt in answer.tls if attempt.chain}
    first = [
        _Hello(str(version), _OPTIONS[version], replace(plain, version=version))
        for version in answer.offered
        if version in seen
    ]
    others = _others(listener, context.get(ServedChain).leaf, plain)
    made: list[tuple[Attempt, ...]] = [(seen[hello.request.version],) for hello in first]
    made += context.attempt(*(hello.request for hello in others))
    variants = tuple(
        HelloVariant(hello=hello.words, options=hello.options, tries=tries)
        for hello, tries in zip((*first, *others), made, strict=True)
    )
    steady = _is_steady(context, variants, [hello.request for hello in (*first, *others)])
    return HelloVariants(url=listener.url, variants=variants, steady=steady)


def _others(listener: Listener, leaf: x509.Certificate, plain: Request) -> list[_Hello]:
    """Return the hellos that first contact did not send; names are not sent to an address otherwise."""
    names = extension(leaf, x509.SubjectAlternativeName)
    served = names.get_values_for_type(x509.DNSName) if names else []
    # A certificate may hold names that cannot be sent: with empty or long labels, NUL, octets above 127.
    own = next((name for name in served if sni(name) == name != server_name(listener)), "localhost")
    return [
        _Hello("ALPN h2", "-alpn h2", replace(plain, speech=Protocol.HTTP2)),
        *(
            _Hello(f"SNI {name}", f"-servername {name}", replace(plain, server_name=name))
            for name in (own, UNKNOWN_NAME)
        ),
    ]


def _is_steady(context: Context, variants: tuple[HelloVariant, ...], requests: list[Request]) -> bool:
    """Return whether the first hello, and the first that brought another chain, bring the same again.

    If not, the certificate was renewed meanwhile, or several servers answer in turn.
    """
    first = variants[0].chain
    different = [number for number, found in enumerate(variants) if found.chain and found.chain != first]
    if not different:
        return True
    places = (0, different[0]) * _AGAIN
    repeated = context.attempt(*(requests[place] for place in places))
    return all(
        tries[-1].chain == variants[place].chain for tries, place in zip(repeated, places, strict=True)
    )
