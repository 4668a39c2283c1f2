"""The served chain: complete, nothing else in it, and the same for everybody who says hello."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from hashlib import sha256
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from pytest_etcdtls.observations.chain import PathToTrust, ServedChain
from pytest_etcdtls.observations.hello import HelloVariant, HelloVariants
from pytest_etcdtls.pki.identities import self_signed
from pytest_etcdtls.pki.path import ancestors, is_self_signed, signed_by
from pytest_etcdtls.pki.reading import load, serial_number, shown
from pytest_etcdtls.registry import EVERY_LISTENER, check
from pytest_etcdtls.reproduce import s_client, show_chain
from pytest_etcdtls.results import Finding, Outcome, Statement, Verdict


def subjects(certificates: tuple[x509.Certificate, ...]) -> str:
    """Return the subjects, in order."""
    return ", ".join(shown(certificate) for certificate in certificates)


def _one_missing(path: PathToTrust, chain: ServedChain) -> Mapping[str, Any]:
    return {"path": replace(path, missing=path.path[1:])}


@check("cert.complete", on=EVERY_LISTENER, counterexample=_one_missing)
def the_chain_is_complete(path: PathToTrust, chain: ServedChain) -> Iterator[Statement]:
    """Every intermediate CA between the served certificate and the given CA is served.

    Clients hold the root alone and are not supposed to look for what lies between. One that is left out is
    noticed here if we were given it elsewhere: in the chain of a client certificate, or in another bundle.

    Spec: RFC 8446 section 4.4.2
    Spec: RFC 5246 section 7.4.2
    Severity: high
    Level: MUST
    Remediation: append the intermediates, the issuer of the leaf first, to the file of --{peer}cert-file;
        etcd serves them at the next handshake.
    """
    if path.missing:
        yield Finding(
            message="an intermediate CA is not served",
            expected=subjects(path.path[:-1]),
            observed=subjects(chain.certificates),
            evidence={"missing": subjects(path.missing)},
            reproduce=(show_chain(chain.url),),
        )
    elif path.unknown_issuer:
        yield Verdict(
            Outcome.NOT_VERIFIED,
            f"the issuer {path.unknown_issuer} is not known, nor what lies beyond: see cert.trusted",
        )


def _a_stranger_too(chain: ServedChain) -> Mapping[str, Any]:
    return {"chain": replace(chain, certificates=(*chain.certificates, *self_signed().chain))}


@check("cert.no-stray-certificates", on=EVERY_LISTENER, counterexample=_a_stranger_too)
def nothing_else_is_served(chain: ServedChain) -> Iterator[Statement]:
    """Nothing but the certificate and its issuers is served, each issuer behind what it signed.

    What does not belong to the path is left over from another certificate. Some clients do not look for the
    issuer further on than in the next certificate.

    Spec: RFC 8446 section 4.4.2
    Spec: RFC 5246 section 7.4.2
    Severity: low
    Level: SHOULD
    Remediation: leave the certificate and its intermediates, in order, in the file of --{peer}cert-file.
    """
    leaf, *others = chain.certificates
    issuers = ancestors(leaf, others)
    strays = tuple(
        found
        for number, found in enumerate(others)
        if found not in issuers or found in chain.certificates[: number + 1]
    )
    if strays:
        message, observed = "certificates are served that do not belong to the chain", subjects(strays)
    elif not _in_order(chain.certificates, issuers):
        message, observed = "the chain is not in order", subjects(chain.certificates)
    else:
        return
    yield Finding(
        message=message,
        expected="the certificate, then the issuer of each certificate behind it",
        observed=observed,
        reproduce=(show_chain(chain.url),),
    )


def _in_order(certificates: tuple[x509.Certificate, ...], issuers: frozenset[x509.Certificate]) -> bool:
    """Return whether each certificate has signed one before it; cross-signed twins may stand in a row."""
    return all(
        any(signed_by(before, found) for before in certificates[:number])
        for number, found in enumerate(certificates)
        if found in issuers
    )


def _another_for_h2(hellos: HelloVariants) -> Mapping[str, Any]:
    *others, last = hellos.variants
    der = self_signed().chain[0].public_bytes(Encoding.DER)
    changed = replace(last, tries=(replace(last.tries[-1], chain=(der,)),))
    return {"hellos": replace(hellos, variants=(*others, changed))}


@check("cert.same-for-every-hello", on=EVERY_LISTENER, counterexample=_another_for_h2)
def every_hello_gets_the_same_chain(hellos: HelloVariants) -> Iterator[Statement]:
    """TLS version, ALPN and SNI do not change what is served.

    etcd has one certificate per port. Where it depends on the hello, something else terminates TLS, and what
    was found out with one hello does not hold for another.

    Spec: etcd --{peer}cert-file
    Spec: RFC 6066 section 3
    Severity: high
    Level: MUST
    Remediation: let clients reach etcd's own --listen-{side}-urls, not what chooses certificates before it.
    """
    first, *others = [found for found in hellos.variants if found.chain]
    different = [found for found in others if found.chain != first.chain]
    if different and not hellos.steady:
        yield Verdict(
            Outcome.NOT_VERIFIED,
            "the same hello gets another certificate each time: it was being renewed, or several servers "
            "answer in turn. Run it again, or name each member by its own address",
        )
    elif different:
        yield Finding(
            message="what is served depends on the hello",
            expected=f"{first.hello}: {_leaf(first)} for every hello",
            observed="; ".join(f"{found.hello}: {_leaf(found)}" for found in different),
            reproduce=tuple(
                s_client(hellos.url, options=found.options, look='"s:" and "i:": the certificate served')
                for found in (first, *different)
            ),
        )


def _leaf(variant: HelloVariant) -> str:
    try:
        leaf = load(variant.chain[0])
    except ValueError:
        return f"a certificate that cannot be parsed, SHA-256 {sha256(variant.chain[0]).hexdigest()}"
    self_made = ", signed by itself" if is_self_signed(leaf) else ""
    return f"{shown(leaf)}, serial {serial_number(leaf):x}{self_made}, {len(variant.chain)} certificates"
