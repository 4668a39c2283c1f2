"""Where a verdict differs from Go's on purpose, and why: the whole list."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from oracle.chains import Case
from oracle.clients import GoAnswer
from oracle.judging import Verdicts

from pytest_etcdtls.pki.certificate import load
from pytest_etcdtls.results import Finding


@dataclass(frozen=True)
class Exemption:
    """A kind of case in which "a MUST violates" and "Go refuses" may differ.

    Attributes:
        name: in the table.
        reason: why it is so.
        applies: whether a case is of the kind.
    """

    name: str
    reason: str
    applies: Callable[[Case, GoAnswer, Verdicts], bool]


_WEAK = re.compile(r"RSA (\d+) bits")


def _short_rsa(verdicts: Verdicts) -> bool:
    """Return whether every finding about keys is about RSA keys of 1024 to 2047 bits."""
    checks = ("cert.key-strength", "cert.issuer-key-strength")
    found: list[Finding] = [one for check in checks for one in verdicts.violated.get(check, ())]
    sizes = [_WEAK.fullmatch(one.observed) for one in found]
    return all(size is not None and 1024 <= int(size[1]) < 2048 for size in sizes)


def _loads(der: bytes) -> bool:
    try:
        load(der)
    except ValueError:
        return False
    return True


def _unloadable(case: Case, go: GoAnswer, verdicts: Verdicts) -> bool:
    return (
        go.refused
        and go.phase not in ("parse", "roots")
        and not all(map(_loads, case.chain))
        and "cert.parsable" in verdicts.warned
    )


_OF_OURS = frozenset(
    {
        "cert.not-a-ca",
        "cert.generated",
        "cert.address-as-dns-name",
        "cert.key-strength",
        "cert.issuer-key-strength",
    }
)
"""MUST checks that find more than Go refuses."""


def _found_by(check: str) -> Callable[[Case, GoAnswer, Verdicts], bool]:
    """Return whether Go accepts what that check finds, and no other but those of ours."""

    def applies(case: Case, go: GoAnswer, verdicts: Verdicts) -> bool:
        found = set(verdicts.violated)
        return not go.refused and check in found and found <= _OF_OURS and _short_rsa(verdicts)

    return applies


_MAPPED_ADDRESS = bytes(10) + b"\xff\xff"


def _has(octets: bytes) -> Callable[[Case, GoAnswer, Verdicts], bool]:
    """Return whether one of the certificates has these octets."""
    return lambda case, _go, _verdicts: any(octets in der for der in (*case.chain, *case.roots))


EXEMPTIONS = (
    Exemption(
        "a server that is a CA",
        "Go accepts it. With the server's key one can issue certificates below the same root, which breaks "
        "the secrecy of the cluster, so the check is MUST (`cert.not-a-ca`)",
        _found_by("cert.not-a-ca"),
    ),
    Exemption(
        "a certificate as etcd generates it",
        "Go accepts it if the CA file has it. With auto-tls every client is accepted (`cert.generated`)",
        _found_by("cert.generated"),
    ),
    Exemption(
        "the server's RSA key has 1024 to 2047 bits",
        "Go refuses RSA below 1024 bits only. Such keys can be broken, and OpenSSL refuses them by default "
        "(`cert.key-strength`)",
        _found_by("cert.key-strength"),
    ),
    Exemption(
        "a CA's RSA key has 1024 to 2047 bits",
        "The same (`cert.issuer-key-strength`)",
        _found_by("cert.issuer-key-strength"),
    ),
    Exemption(
        "another address as a DNS name",
        "Go accepts it for the requested host. Clients that connect to the address in the DNS name refuse it "
        "(`cert.address-as-dns-name`)",
        _found_by("cert.address-as-dns-name"),
    ),
    Exemption(
        "what is not judged",
        "requirements of certificate policies, name constraints on mailboxes and URIs, unusual URIs, DSA "
        "keys: `cert.well-formed` or `cert.ca-constraints` is inconclusive, so the run is never clean",
        lambda _case, _go, verdicts: bool(verdicts.unjudged) and not verdicts.violated,
    ),
    Exemption(
        "a range of IPv4-mapped addresses among other ranges",
        "Go 1.26 compares an address with the range that sorts before it, and an IPv4-mapped range can hide "
        "the one that holds it. Every range is compared here",
        _has(_MAPPED_ADDRESS),
    ),
    Exemption(
        "a served certificate that this client cannot load",
        "The cryptography library refuses a certificate that Go parses, and Go refuses the chain for another "
        "reason. Checks that need that certificate are not verified, and `cert.parsable` warns",
        _unloadable,
    ),
    Exemption(
        "a CA file that this client cannot load",
        "The cryptography library refuses a certificate in it that Go parses. The option is a usage error "
        "before any connection, and nothing is judged",
        lambda case, go, verdicts: bool(verdicts.unloadable) and go.phase != "roots",
    ),
)


def exemption(case: Case, go: GoAnswer, verdicts: Verdicts) -> Exemption | None:
    """Return the exemption that a case falls under, ``None`` if the verdict must be Go's."""
    return next((one for one in EXEMPTIONS if one.applies(case, go, verdicts)), None)


def agrees(go: GoAnswer, verdicts: Verdicts) -> bool:
    """Return whether a MUST violates if and only if Go refuses; a CA file that both refuse is no verdict."""
    if verdicts.unloadable:
        return go.phase == "roots"
    if verdicts.unjudged and not verdicts.violated:
        return False
    return bool(verdicts.violated) == go.refused
