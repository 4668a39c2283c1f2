"""Checks of our own, which `pip install .` adds to those of pytest-etcdtls."""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Annotated, Any

from msgspec.structs import replace

from pytest_etcdtls import Finding, Listener, Note, Request, Role, Statement, Wire, check, fact
from pytest_etcdtls.facts import ClientExchange, PresentedClient, ServedChain, Tried

LONGEST = timedelta(days=398)


def _long_ago(chain: ServedChain, **_: object) -> Mapping[str, Any]:
    """Return what the check is to find: the sample, observed long after its certificate was issued."""
    return {"chain": replace(chain, observed_at=chain.leaf.not_valid_before_utc + 2 * LONGEST)}


@check("house.certificate-age", on={Role.CLIENT, Role.PEER}, counterexample=_long_ago)
def certificates_are_renewed(here: Listener, chain: ServedChain) -> Iterator[Statement]:
    """The served certificate was issued within 398 days.

    An older one shows that the renewal does not run.

    Spec: House rules, 4
    Severity: medium
    Level: MUST
    Remediation: run the renewal, which writes --{peer}cert-file.
    """
    age = chain.observed_at - chain.leaf.not_valid_before_utc
    if age > LONGEST:
        yield Finding(
            message=f"the certificate of {here.url} is {age.days} days old",
            expected=f"at most {LONGEST.days} days",
            observed=f"{age.days} days",
        )
    else:
        yield Note(f"{age.days} days old")


class WithoutALPN(Tried, frozen=True, kw_only=True):
    """One GET by the accepted client on a connection for which it offered no protocol by ALPN."""


@fact(connections=1)
def without_alpn(presented: PresentedClient, wire: Wire) -> WithoutALPN:
    """Send a GET without ALPN."""
    request = Request(
        purpose="GET /version without ALPN", identity=presented.identity, path="/version", alpn=()
    )
    return WithoutALPN(tries=wire.attempt(request)[0])


def _answered(usual: ClientExchange, **_: object) -> Mapping[str, Any]:
    return {"without": WithoutALPN(tries=usual.tries)}


def _unanswered(usual: ClientExchange, **_: object) -> Mapping[str, Any]:
    return {"without": WithoutALPN(tries=(replace(usual.attempt, response=None),))}


@check("house.clients-without-alpn", on={Role.CLIENT}, counterexample=_unanswered, conforming=_answered)
def clients_without_alpn_are_answered(
    here: Listener, usual: Annotated[ClientExchange, "/version"], without: WithoutALPN
) -> Iterator[Statement]:
    """A client that offers no protocol by ALPN is answered like every other.

    The clients of our backups offer none.

    Spec: House rules, 7
    Severity: medium
    Level: MUST
    Remediation: let clients reach etcd without a proxy that needs ALPN.
    """
    if usual.attempt.response is not None and without.attempt.response is None:
        yield Finding(
            message=f"{here.url} does not answer a client without ALPN",
            expected="an answer, as with ALPN",
            observed=without.attempt.describe(),
        )
