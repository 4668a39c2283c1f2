"""The served certificate covers the endpoint and is valid now."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from pytest_etcdtls.observations.chain import ServedChain
from pytest_etcdtls.pki.names import names_host, subject_alt_names
from pytest_etcdtls.registry import EVERY_LISTENER, check
from pytest_etcdtls.reproduce import show_leaf
from pytest_etcdtls.results import Finding, Statement


def _elsewhere(chain: ServedChain) -> Mapping[str, Any]:
    return {"chain": replace(chain, host="elsewhere.invalid")}


@check("cert.covers-endpoint", on=EVERY_LISTENER, counterexample=_elsewhere)
def the_certificate_covers_the_endpoint(chain: ServedChain) -> Iterator[Statement]:
    """The subjectAltName covers the host of the endpoint.

    Clients that verify names refuse the server otherwise. The common name does not count, and an address in
    a dNSName does not either.

    Spec: RFC 5280 section 4.2.1.6
    Spec: RFC 6125 section 6.4
    Severity: high
    Level: MUST
    Remediation: issue the certificate of --{peer}cert-file with this name or address in its subjectAltName.
    """
    if not names_host(chain.leaf, chain.host):
        yield Finding(
            message=f"the certificate does not cover {chain.host}",
            expected=f"{chain.host} in the subjectAltName",
            observed=", ".join(subject_alt_names(chain.leaf)) or "no subjectAltName",
            reproduce=(show_leaf(chain.url),),
        )


def _a_century_later(chain: ServedChain) -> Mapping[str, Any]:
    return {"chain": replace(chain, observed_at=chain.leaf.not_valid_after_utc + timedelta(days=1))}


@check("cert.valid-now", on=EVERY_LISTENER, counterexample=_a_century_later)
def the_certificate_is_valid_now(chain: ServedChain) -> Iterator[Statement]:
    """The served certificate is valid at the time of the handshake.

    Spec: RFC 5280 section 4.1.2.5
    Severity: critical
    Level: MUST
    Remediation: renew the pair of --{peer}cert-file and --{peer}key-file; etcd serves the new one at the next
        handshake, without restart.
    """
    begins, ends = chain.leaf.not_valid_before_utc, chain.leaf.not_valid_after_utc
    if not begins <= chain.observed_at <= ends:
        state = "is not yet valid" if chain.observed_at < begins else "has expired"
        yield Finding(
            message=f"the certificate {state}",
            expected=f"{_shown(begins)} to {_shown(ends)} includes the time of the handshake",
            observed=f"handshake at {_shown(chain.observed_at)}",
            reproduce=(show_leaf(chain.url),),
        )


def _shown(when: datetime) -> str:
    return when.strftime("%Y-%m-%d %H:%M:%S UTC")
