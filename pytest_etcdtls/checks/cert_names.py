"""The names in the served certificate: the endpoint's, of the right type, and no wildcards."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from cryptography import x509

from pytest_etcdtls.checks.cert_usage import GENERATED
from pytest_etcdtls.checks.judgement import changed, serving
from pytest_etcdtls.checks.registry import CLIENT_AND_PEER, EVERY_LISTENER, check
from pytest_etcdtls.checks.results import CannotJudge, Finding, Level, Statement, not_applicable, not_verified
from pytest_etcdtls.declared.cures import reissued
from pytest_etcdtls.declared.declaration import is_address, is_loopback
from pytest_etcdtls.facts.listener import ServedChain
from pytest_etcdtls.facts.member_list import OwnURLs
from pytest_etcdtls.pki.certificate import is_generated, name_text
from pytest_etcdtls.pki.go_parser import DNS, details
from pytest_etcdtls.pki.go_verify import names_host, subject_alt_names
from pytest_etcdtls.role import Role
from pytest_etcdtls.target import Listener, Target
from pytest_etcdtls.tls.command import NAMES, show_leaf
from pytest_etcdtls.untrusted.printable import listed


def _dns_names(certificate: x509.Certificate) -> list[str]:
    return details(certificate).texts(DNS)


def named(certificate: x509.Certificate) -> str:
    """Return the names for reports."""
    return listed(subject_alt_names(certificate), ", ") or "no subjectAltName"


def _elsewhere(here: Listener, **_: object) -> Mapping[str, Any]:
    return {"here": dataclasses.replace(here, host="elsewhere.invalid")}


@check("cert.covers-endpoint", on=EVERY_LISTENER, counterexample=_elsewhere, cure=reissued)
def the_certificate_covers_the_endpoint(
    here: Listener, target: Target, chain: ServedChain, own: OwnURLs | None
) -> Iterator[Statement]:
    """The subjectAltName covers the host of the endpoint.

    Clients that verify names refuse the server. The common name does not count, nor does an address in a
    dNSName. An address that a declaration only listens on is not judged: clients are told the advertised
    URLs. On a Unix domain socket, etcdctl verifies the name of the socket's file, and other clients can be
    told another name. The remedy names every host that the certificate must cover and does not: those of the
    member's endpoints, and those that it advertises.

    Spec: RFC 5280 section 4.2.1.6
    Spec: RFC 6125 section 6.4
    Spec: etcd client/v3/internal/endpoint/endpoint.go, translateEndpoint
    Severity: high
    Level: MUST, SHOULD for a Unix domain socket
    Remediation: issue the certificate of --{peer}cert-file with this name or address in its subjectAltName.
    """
    advertised = _hosts(own) if own else set()
    if names_host(chain.leaf, here.name):
        return
    if not subject_alt_names(chain.leaf):
        yield not_verified("there are no names, see cert.has-subject-alternative-name")
    elif here.unannounced and here.name not in advertised:
        yield _not_told(here)
    elif here.name in _misplaced(chain.leaf):
        yield not_verified("the address is a dNSName, see cert.address-as-dns-name")
    else:
        told = {listener.name for listener in _listeners(here, target) if not listener.unannounced}
        needed = {here.name, *told, *advertised}
        missing = sorted(host for host in needed if not names_host(chain.leaf, host))
        on_socket = ", the name that etcd's clients verify on this socket" if here.is_socket else ""
        yield Finding(
            message=f"the certificate does not cover {here.name}{on_socket}, but {named(chain.leaf)}",
            expected=f"{here.name} in the subjectAltName",
            observed=named(chain.leaf),
            remediation=f"issue the certificate of --{{peer}}cert-file with {', '.join(missing)} in its "
            "subjectAltName"
            if len(missing) > 1
            else "",
            level=Level.SHOULD if here.is_socket else None,
            reproduce=(show_leaf(here.url, NAMES),),
        )


def _not_told(here: Listener) -> CannotJudge:
    """Return why the host of a listen URL is not judged as a name."""
    if here.role in CLIENT_AND_PEER:
        return not_applicable(
            f"the certificate does not cover {here.host}, where etcd only listens: clients are told the "
            "advertised URLs, see cert.covers-advertised-url"
        )
    return not_verified(
        f"the certificate does not cover {here.host}, where etcd listens, and the URL of its clients "
        f"is not known: pass it with {here.role.option}"
    )


def _listeners(here: Listener, target: Target) -> list[Listener]:
    """Return the member's TLS listeners of this side."""
    return [
        listener
        for listener in target.listeners
        if (listener.member, listener.role.side, listener.scheme) == (here.member, here.role.side, "https")
    ]


def _hosts(own: OwnURLs) -> set[str]:
    """Return the hosts of the https URLs that a member advertises."""
    return {parts.hostname or "" for url in own.advertised if (parts := urlsplit(url)).scheme == "https"}


_nameless = serving("chain", subject_alt_names=())


@check("cert.has-subject-alternative-name", on=EVERY_LISTENER, counterexample=_nameless, cure=reissued)
def the_certificate_has_names(here: Listener, chain: ServedChain) -> Iterator[Statement]:
    """The served certificate has a subjectAltName.

    Go has ignored the common name since 1.15, so its clients refuse a certificate that has its names only
    there.

    Spec: RFC 5280 section 4.2.1.6
    Spec: RFC 6125 section 6.4.4
    Severity: high
    Level: MUST
    Remediation: issue the certificate of --{peer}cert-file with the member's names and addresses in its
        subjectAltName.
    """
    if not subject_alt_names(chain.leaf):
        yield Finding(
            message="the certificate has no subjectAltName",
            expected="a subjectAltName with the member's names and addresses",
            observed=f"no subjectAltName; subject {name_text(chain.leaf.subject) or '(empty)'}",
            reproduce=(show_leaf(here.url, NAMES),),
        )


_address_as_name = serving("chain", subject_alt_names=("localhost",), dns_names=("10.0.0.1",))


@check("cert.address-as-dns-name", on=EVERY_LISTENER, counterexample=_address_as_name, cure=reissued)
def addresses_are_no_dns_names(here: Listener, chain: ServedChain) -> Iterator[Statement]:
    """No address appears only as a dNSName.

    Clients compare addresses only with iPAddress entries, so an address in a dNSName never matches. If it is
    the endpoint's address, clients refuse the certificate. An address that is present as both does no harm.

    Spec: RFC 5280 section 4.2.1.6
    Spec: RFC 6125 section 6.4
    Severity: high
    Level: MUST, SHOULD for an address that is not the endpoint's
    Remediation: issue the certificate of --{peer}cert-file with the address as an IP entry (IP:10.0.0.1, not
        DNS:10.0.0.1).
    """
    for address in _misplaced(chain.leaf):
        yield Finding(
            message=f"the address {address} is present as a DNS name, which never matches",
            expected=f"IP:{address}",
            observed=named(chain.leaf),
            reproduce=(show_leaf(here.url, NAMES),),
            level=None if address == here.host and not here.unannounced else Level.SHOULD,
        )


def _misplaced(certificate: x509.Certificate) -> list[str]:
    """Return the addresses that appear in a dNSName and in no iPAddress."""
    return [
        name for name in _dns_names(certificate) if is_address(name) and not names_host(certificate, name)
    ]


_wildcard = serving("chain", subject_alt_names=("localhost", "*.example"))


@check("cert.wildcard", on=EVERY_LISTENER, counterexample=_wildcard)
def no_name_is_a_wildcard(here: Listener, chain: ServedChain) -> Iterator[Statement]:
    """The certificate contains no wildcard name.

    The key of a wildcard certificate can impersonate every member, and every other host in that domain.

    Spec: RFC 6125 section 7.2
    Spec: etcd Documentation, transport security model
    Severity: low
    Level: SHOULD
    Remediation: issue the certificate of --{peer}cert-file with the member's own names.
    """
    wide = [name for name in _dns_names(chain.leaf) if name.startswith("*")]
    if wide:
        yield Finding(
            message="the certificate is valid for a whole domain",
            expected="the member's own names",
            observed=", ".join(wide),
            reproduce=(show_leaf(here.url, NAMES),),
        )


_not_here = serving("chain", subject_alt_names=("127.0.0.1",))


@check("cert.covers-loopback", on={Role.CLIENT}, counterexample=_not_here, cure=reissued)
def the_certificate_covers_loopback(here: Listener, chain: ServedChain) -> Iterator[Statement]:
    """For a loopback listener the certificate covers localhost and the address.

    etcdctl without --endpoints connects to 127.0.0.1:2379, and scripts on the node often to localhost. They
    refuse the certificate.

    Spec: etcd etcdctl --endpoints
    Spec: RFC 6125 section 6.4
    Severity: low
    Level: SHOULD
    Remediation: issue the certificate of --{peer}cert-file with localhost and 127.0.0.1 in its subjectAltName
        as well.
    """
    if here.host != "localhost" and not (is_address(here.host) and is_loopback(here.host)):
        yield not_applicable(f"{here.host} is not loopback; --etcd-endpoint names what is")
        return
    if is_generated(chain.leaf):
        yield GENERATED
        return
    if not here.unannounced and not names_host(chain.leaf, here.host):
        yield not_verified(f"{here.host} itself is not covered, see cert.covers-endpoint")
        return
    address = "::1" if here.host == "::1" else "127.0.0.1"
    missing = [name for name in ("localhost", address) if not names_host(chain.leaf, name)]
    if missing:
        yield Finding(
            message=f"the certificate does not cover {' and '.join(missing)}",
            expected=f"localhost and {address} in the subjectAltName",
            observed=named(chain.leaf),
            reproduce=(show_leaf(here.url, NAMES),),
        )


_advertised_elsewhere = changed("own", advertised=("https://elsewhere.invalid:2379",))


@check("cert.covers-advertised-url", on=CLIENT_AND_PEER, counterexample=_advertised_elsewhere, cure=reissued)
def the_certificate_covers_advertised_hosts(
    here: Listener, target: Target, own: OwnURLs, chain: ServedChain
) -> Iterator[Statement]:
    """The certificate covers the host of every advertised URL of this port.

    Clients that get the members from the cluster, and the members themselves, connect to the advertised URLs.
    They refuse the certificate, even if the endpoint used here works.

    Spec: etcd --advertise-client-urls, --initial-advertise-peer-urls
    Spec: RFC 6125 section 6.4
    Follows: cert.covers-endpoint
    Severity: high
    Level: MUST
    Remediation: issue the certificate of --{peer}cert-file with every host of --advertise-client-urls (client
        port) or --initial-advertise-peer-urls (peer port) in its subjectAltName.
    """
    hosts = _hosts(own)
    if not hosts:
        yield not_applicable(f"member {own.member} advertises no https URL for this port")
    # The hosts of listeners are judged by cert.covers-endpoint.
    others = hosts - {here.name, *(listener.name for listener in _listeners(here, target))}
    missing = sorted(host for host in others if not names_host(chain.leaf, host))
    if missing and not subject_alt_names(chain.leaf):
        yield not_verified("there are no names, see cert.has-subject-alternative-name")
    elif missing:
        yield Finding(
            message=f"the certificate does not cover {', '.join(missing)}, which the member advertises",
            expected=f"the hosts of {', '.join(own.advertised)} in the subjectAltName",
            observed=named(chain.leaf),
            evidence={"member": own.member},
            reproduce=(show_leaf(here.url, NAMES),),
        )
