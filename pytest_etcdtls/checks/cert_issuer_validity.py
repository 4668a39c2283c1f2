"""The CAs above the served certificate are valid, now and for a while."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

from pytest_etcdtls.checks.cert_validity import ends_soon, state_of, when
from pytest_etcdtls.observations.chain import Issuers, ServedChain
from pytest_etcdtls.observations.policy import Policy
from pytest_etcdtls.pki.reading import shown
from pytest_etcdtls.registry import EVERY_LISTENER, check
from pytest_etcdtls.reproduce import show_chain
from pytest_etcdtls.results import Finding, Outcome, Statement, Verdict


def _past_the_ca(issuers: Issuers, chain: ServedChain) -> Mapping[str, Any]:
    after = max(found.not_valid_after_utc for found in issuers.certificates) + timedelta(days=1)
    return {"chain": replace(chain, observed_at=after)}


@check("cert.ca-valid-now", on=EVERY_LISTENER, counterexample=_past_the_ca)
def the_issuers_are_valid_now(issuers: Issuers, chain: ServedChain) -> Iterator[Statement]:
    """Every CA above the served certificate is valid at the time of the handshake.

    Go judges the root as well: when it has expired, nothing that it ever signed is accepted any more.

    Spec: RFC 5280 section 6.1.3
    Severity: critical
    Level: MUST
    Remediation: renew the CA, give the new one to clients and to --{peer}trusted-ca-file (read at start
        only), then renew the pair of --{peer}cert-file.
    """
    for issuer in issuers.certificates:
        if state := state_of(issuer, chain.observed_at):
            begins, ends = issuer.not_valid_before_utc, issuer.not_valid_after_utc
            yield Finding(
                message=f"the CA {shown(issuer)} {state}",
                expected=f"{when(begins)} to {when(ends)} includes the time of the handshake",
                observed=f"handshake at {when(chain.observed_at)}",
                reproduce=(show_chain(chain.url),),
            )


def _ca_has_an_hour(issuers: Issuers, chain: ServedChain, policy: Policy) -> Mapping[str, Any]:
    last = issuers.certificates[-1].not_valid_after_utc
    return {"chain": replace(chain, observed_at=last - timedelta(hours=1))}


@check("cert.ca-expires-soon", on=EVERY_LISTENER, counterexample=_ca_has_an_hour)
def the_issuers_do_not_expireends_soon(
    issuers: Issuers, chain: ServedChain, policy: Policy
) -> Iterator[Statement]:
    """Every CA above the served certificate is valid for longer than --etcd-expiry-days from now.

    A new CA takes longer to spread than a new certificate: etcd reads its bundle at start only.

    Spec: RFC 5280 section 6.1.3
    Spec: etcd --{peer}trusted-ca-file
    Severity: medium
    Level: SHOULD
    Remediation: put the new CA beside the old one into --{peer}trusted-ca-file and the clients' bundles,
        restart member by member, then renew the certificates, then take the old one out.
    """
    now = chain.observed_at
    if expired := [shown(found) for found in issuers.certificates if state_of(found, now)]:
        yield Verdict(Outcome.NOT_APPLICABLE, f"{', '.join(expired)} is not valid now, see cert.ca-valid-now")
        return
    for issuer in issuers.certificates:
        yield from ends_soon(issuer, f"the CA {shown(issuer)}", now, policy, show_chain(chain.url))
