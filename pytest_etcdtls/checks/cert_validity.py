"""The validity of the served certificate: now, for the next days, and its length."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509

from pytest_etcdtls.facts.certificates import ServedChain
from pytest_etcdtls.facts.listener import Policy
from pytest_etcdtls.pki.authority import specimen
from pytest_etcdtls.pki.certificate import shown, span
from pytest_etcdtls.pki.profile import SERVER
from pytest_etcdtls.registry import EVERY_LISTENER, check
from pytest_etcdtls.reproduce import show_leaf
from pytest_etcdtls.results import CannotJudge, Finding, Outcome, Statement

LONGEST = timedelta(days=825)
"""Apple's limit for server certificates of any CA, including private ones; kubeadm issues for a year."""


def when(moment: datetime) -> str:
    """Return a time as reports show it."""
    return moment.strftime("%Y-%m-%d %H:%M:%S UTC")


def state_of(certificate: x509.Certificate, now: datetime) -> str:
    """Return what is wrong with the current validity; empty if nothing is."""
    if now < certificate.not_valid_before_utc:
        return "is not yet valid"
    return "has expired" if now > certificate.not_valid_after_utc else ""


def _a_day_late(chain: ServedChain) -> Mapping[str, Any]:
    return {"chain": replace(chain, observed_at=chain.leaf.not_valid_after_utc + timedelta(days=1))}


@check("cert.valid-now", on=EVERY_LISTENER, counterexample=_a_day_late)
def the_certificate_is_valid_now(chain: ServedChain) -> Iterator[Statement]:
    """The served certificate is valid at the time of the handshake.

    Clients refuse the certificate, and so do other members and etcd's own gateway, which are clients too.

    Spec: RFC 5280 section 4.1.2.5
    Severity: critical
    Level: MUST
    Remediation: renew the pair of --{peer}cert-file and --{peer}key-file; etcd serves the new one at the next
        handshake, without a restart.
    """
    if state := state_of(chain.leaf, chain.observed_at):
        begins, ends = chain.leaf.not_valid_before_utc, chain.leaf.not_valid_after_utc
        if chain.observed_at > ends:
            state = f"expired {span(chain.observed_at - ends)} ago"
        yield Finding(
            message=f"the certificate {state}",
            expected=f"{when(begins)} to {when(ends)} includes the time of the handshake",
            observed=f"handshake at {when(chain.observed_at)}",
            reproduce=(show_leaf(chain.url),),
        )


def _an_hour_left(chain: ServedChain, policy: Policy) -> Mapping[str, Any]:
    return {"chain": replace(chain, observed_at=chain.leaf.not_valid_after_utc - timedelta(hours=1))}


@check("cert.expires-soon", on=EVERY_LISTENER, counterexample=_an_hour_left)
def the_certificate_does_not_expireends_soon(chain: ServedChain, policy: Policy) -> Iterator[Statement]:
    """The served certificate is valid for longer than --etcd-expiry-days from now.

    When the certificate expires, clients and members refuse it at once. etcd gives no warning before.

    Spec: RFC 5280 section 4.1.2.5
    Follows: cert.matches-expected-file
    Severity: medium
    Level: SHOULD
    Remediation: renew the pair of --{peer}cert-file and --{peer}key-file; etcd serves the new one at the next
        handshake, without a restart.
    """
    if state := state_of(chain.leaf, chain.observed_at):
        yield CannotJudge(Outcome.NOT_APPLICABLE, f"the certificate {state}, see cert.valid-now")
        return
    yield from ends_soon(chain.leaf, "the certificate", chain.observed_at, policy, show_leaf(chain.url))


def ends_soon(
    certificate: x509.Certificate, what: str, now: datetime, policy: Policy, reproduce: str
) -> Iterator[Finding]:
    """Yield a finding if the named certificate expires within the policy's days."""
    left = certificate.not_valid_after_utc - now
    if left <= timedelta(days=policy.expiry_days):
        yield Finding(
            message=f"{what} expires in {span(left)}",
            expected=f"more than {policy.expiry_days} days left",
            observed=f"valid until {when(certificate.not_valid_after_utc)}",
            evidence={"subject": shown(certificate), "now": when(now)},
            reproduce=(reproduce,),
        )


def _ten_years(chain: ServedChain) -> Mapping[str, Any]:
    return {"chain": replace(chain, certificates=specimen(replace(SERVER, valid_for=timedelta(days=3650))))}


@check("cert.lifetime", on=EVERY_LISTENER, counterexample=_ten_years)
def the_certificate_does_not_live_for_ever(chain: ServedChain) -> Iterator[Statement]:
    """The served certificate is valid for at most 825 days.

    A stolen key works until the certificate expires, since clients do not check revocation lists for servers.
    kubeadm issues certificates for a year; Apple's platforms accept at most 825 days from a private CA.

    Spec: Apple 103769, requirements for trusted certificates
    Spec: RFC 5280 section 4.1.2.5
    Severity: low
    Level: SHOULD
    Remediation: issue the certificate of --{peer}cert-file for a year or less and renew it in time; etcd
        serves the new one without a restart.
    """
    lifetime = chain.leaf.not_valid_after_utc - chain.leaf.not_valid_before_utc
    # notAfter is inclusive and kubeadm backdates by five minutes, so a day of grace is added.
    if lifetime > LONGEST + timedelta(days=1):
        yield Finding(
            message=f"the certificate is valid for {lifetime.days} days",
            expected=f"{LONGEST.days} days at most",
            observed=f"{when(chain.leaf.not_valid_before_utc)} to {when(chain.leaf.not_valid_after_utc)}",
            reproduce=(show_leaf(chain.url),),
        )
