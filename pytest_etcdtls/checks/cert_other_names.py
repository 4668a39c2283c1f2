"""Names of the member beside the endpoint's own: loopback, and what the member advertises."""

import ipaddress
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from pytest_etcdtls.checks.cert_names import named
from pytest_etcdtls.checks.cert_usage import GENERATED
from pytest_etcdtls.observations.advertised import OwnURLs
from pytest_etcdtls.observations.chain import ServedChain
from pytest_etcdtls.pki.auto_tls import is_generated
from pytest_etcdtls.pki.names import is_address, names_host, subject_alt_names
from pytest_etcdtls.pki.profile import SERVER
from pytest_etcdtls.pki.specimen import specimen
from pytest_etcdtls.registry import check
from pytest_etcdtls.reproduce import show_leaf
from pytest_etcdtls.results import Finding, Outcome, Statement, Verdict
from pytest_etcdtls.target import Role


def _not_here(chain: ServedChain) -> Mapping[str, Any]:
    leaf = specimen(replace(SERVER, subject_alt_names=("127.0.0.1",)))
    return {"chain": replace(chain, certificates=leaf, host="127.0.0.1")}


@check("cert.covers-loopback", on=frozenset({Role.CLIENT}), counterexample=_not_here)
def the_certificate_covers_loopback(chain: ServedChain) -> Iterator[Statement]:
    """Where etcd listens on loopback, the certificate covers localhost and the loopback address.

    etcdctl without --endpoints asks 127.0.0.1:2379; scripts on the node ask localhost.

    Spec: etcd etcdctl --endpoints
    Spec: RFC 6125 section 6.4
    Severity: low
    Level: SHOULD
    Remediation: issue the certificate of --{peer}cert-file with localhost and 127.0.0.1 in its subjectAltName
        as well.
    """
    if not _is_loopback(chain.host):
        yield Verdict(Outcome.NOT_APPLICABLE, f"{chain.host} is not loopback; --etcd-endpoint names what is")
        return
    if is_generated(chain.leaf):
        yield GENERATED
        return
    if not names_host(chain.leaf, chain.host):
        yield Verdict(Outcome.NOT_VERIFIED, f"{chain.host} itself is not covered, see cert.covers-endpoint")
        return
    address = "::1" if chain.host == "::1" else "127.0.0.1"
    missing = [name for name in ("localhost", address) if not names_host(chain.leaf, name)]
    if missing:
        yield Finding(
            message=f"the certificate does not cover {' and '.join(missing)}",
            expected=f"localhost and {address} in the subjectAltName",
            observed=named(chain.leaf),
            reproduce=(show_leaf(chain.url, '"Subject Alternative Name"'),),
        )


def _is_loopback(host: str) -> bool:
    return host == "localhost" or (is_address(host) and ipaddress.ip_address(host).is_loopback)


def _advertised_elsewhere(own: OwnURLs, chain: ServedChain) -> Mapping[str, Any]:
    return {"own": replace(own, advertised=("https://elsewhere.invalid:2379",))}


@check(
    "cert.covers-advertised-url", on=frozenset({Role.CLIENT, Role.PEER}), counterexample=_advertised_elsewhere
)
def the_certificate_covers_what_is_advertised(own: OwnURLs, chain: ServedChain) -> Iterator[Statement]:
    """The certificate covers the host of every URL that the member advertises for this port.

    Clients that ask the cluster for its members, and the members themselves, dial what is advertised,
    whatever name works from here.

    Spec: etcd --advertise-client-urls, --initial-advertise-peer-urls
    Spec: RFC 6125 section 6.4
    Severity: high
    Level: MUST
    Remediation: issue the certificate of --{peer}cert-file with every host of --advertise-client-urls (client
        port) or --initial-advertise-peer-urls (peer port) in its subjectAltName.
    """
    hosts = {parts.hostname or "" for url in own.advertised if (parts := urlsplit(url)).scheme == "https"}
    if not hosts:
        yield Verdict(Outcome.NOT_APPLICABLE, f"member {own.member} advertises no https URL for this port")
    # The endpoint's own host is judged by cert.covers-endpoint.
    missing = sorted(host for host in hosts - {chain.host} if not names_host(chain.leaf, host))
    if missing and not subject_alt_names(chain.leaf):
        yield Verdict(Outcome.NOT_VERIFIED, "no name is there, see cert.has-subject-alternative-name")
    elif missing:
        yield Finding(
            message=f"the certificate does not cover {', '.join(missing)}, which the member advertises",
            expected=f"the hosts of {', '.join(own.advertised)} in the subjectAltName",
            observed=named(chain.leaf),
            evidence={"member": own.member},
            reproduce=(show_leaf(chain.url, '"Subject Alternative Name"'),),
        )
