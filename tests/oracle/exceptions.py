"""Where a verdict differs from Go's on purpose, and why: the whole list."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from oracle.chains import Case
from oracle.clients import GoAnswer
from oracle.judging import Verdicts

from pytest_etcdtls.checks.results import Finding
from pytest_etcdtls.pki.certificate import load

Applies = Callable[[Case, GoAnswer, Verdicts], bool]

_WEAK = re.compile(r"RSA (\d+) bits")


def _short_rsa(verdicts: Verdicts) -> bool:
    """Return whether every finding about keys is about RSA keys of 1024 to 2047 bits."""
    checks = ("cert.key-strength", "cert.issuer-key-strength")
    found: list[Finding] = [one for check in checks for one in verdicts.violated.get(check, ())]
    sizes = [_WEAK.fullmatch(one.observed) for one in found]
    return all(size is not None and 1024 <= int(size[1]) < 2048 for size in sizes)


def loads(der: bytes) -> bool:
    """Return whether this client can load a certificate."""
    try:
        load(der)
    except ValueError:
        return False
    return True


def _unloadable(case: Case, go: GoAnswer, verdicts: Verdicts) -> bool:
    return (
        go.refused
        and go.phase not in ("parse", "roots")
        and not all(map(loads, case.chain))
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


def _found_by(check: str) -> Applies:
    """Return whether Go accepts what that check finds, and no other but those of ours."""

    def applies(case: Case, go: GoAnswer, verdicts: Verdicts) -> bool:
        found = set(verdicts.violated)
        return not go.refused and check in found and found <= _OF_OURS and _short_rsa(verdicts)

    return applies


_MAPPED_ADDRESS = bytes(10) + b"\xff\xff"


def _has(octets: bytes) -> Applies:
    """Return whether one of the certificates has these octets."""
    return lambda case, _go, _verdicts: any(octets in der for der in (*case.chain, *case.roots))


EXEMPTIONS: Mapping[str, Applies] = {
    "Go accepts a server that is a CA. With its key one can issue certificates below the same root, which "
    "breaks the secrecy of the cluster": _found_by("cert.not-a-ca"),
    "Go accepts a certificate as etcd generates it if the CA file has it. With auto-tls every client is "
    "accepted": _found_by("cert.generated"),
    "Go refuses RSA below 1024 bits only. Keys below 2048 bits can be broken, and OpenSSL refuses them by "
    "default": _found_by("cert.key-strength"),
    "The same of a CA's key": _found_by("cert.issuer-key-strength"),
    "Go accepts another address as a DNS name for the requested host. Clients that connect to that address "
    "refuse it": _found_by("cert.address-as-dns-name"),
    "Policies, name constraints on mailboxes and URIs, unusual URIs and DSA keys are not judged: a check is "
    "inconclusive, so the run is never clean": (
        lambda _case, _go, verdicts: bool(verdicts.unjudged) and not verdicts.violated
    ),
    "Go 1.26 compares an address with the range that sorts before it, and an IPv4-mapped range can hide the "
    "one that holds it. Every range is compared here": _has(_MAPPED_ADDRESS),
    "The cryptography library cannot load a served certificate that Go parses, and Go refuses the chain for "
    "another reason. Checks that need it are not verified, and `cert.parsable` warns": _unloadable,
    "The cryptography library cannot load a CA file that Go parses: a usage error before any connection": (
        lambda case, go, verdicts: bool(verdicts.unloadable) and go.phase != "roots"
    ),
}
"""Kinds of cases in which "a MUST violates" and "Go refuses" may differ."""


def is_exempt(case: Case, go: GoAnswer, verdicts: Verdicts) -> bool:
    """Return whether the verdict need not be Go's."""
    return any(applies(case, go, verdicts) for applies in EXEMPTIONS.values())


def agrees(go: GoAnswer, verdicts: Verdicts) -> bool:
    """Return whether a MUST violates if and only if Go refuses; a CA file that both refuse is no verdict."""
    if verdicts.unloadable:
        return go.phase == "roots"
    if verdicts.unjudged and not verdicts.violated:
        return False
    return bool(verdicts.violated) == go.refused
