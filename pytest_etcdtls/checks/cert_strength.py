"""Keys and signatures of the served certificate and of its issuers are strong enough."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from pytest_etcdtls.observations.chain import CertificationPath, Issuers, ServedChain
from pytest_etcdtls.pki.go_verify import signature_scheme, usable_key
from pytest_etcdtls.pki.keys import STRONG, describe_key, is_strong, is_strong_issuer, is_too_long
from pytest_etcdtls.pki.path import is_self_signed
from pytest_etcdtls.pki.profile import AUTHORITY, SERVER
from pytest_etcdtls.pki.reading import key_problem, shown, signature_hash
from pytest_etcdtls.pki.specimen import specimen
from pytest_etcdtls.registry import EVERY_LISTENER, check
from pytest_etcdtls.reproduce import show_chain, show_leaf
from pytest_etcdtls.results import Finding, Outcome, Statement, Verdict

_MALFORMED = Verdict(Outcome.NOT_VERIFIED, "the key cannot be parsed, see cert.well-formed")


def _weak_key(chain: ServedChain) -> Mapping[str, Any]:
    return {"chain": replace(chain, certificates=specimen(replace(SERVER, rsa_bits=1024)))}


@check("cert.key-strength", on=EVERY_LISTENER, counterexample=_weak_key)
def the_key_is_strong(chain: ServedChain) -> Iterator[Statement]:
    """The key of the served certificate is strong, and of a kind that Go's TLS takes.

    Who computes the private key from the public one is the server. OpenSSL's default refuses RSA below 2048
    bits, Go from 1.24 on below 1024, and from 1.20.7 on above 8192.

    Spec: NIST SP 800-131A section 3
    Spec: RFC 8446 section 4.2.3
    Severity: high
    Level: MUST
    Remediation: renew the pair of --{peer}cert-file and --{peer}key-file with an ECDSA P-256 or RSA 2048 key.
    """
    key = usable_key(chain.leaf)
    if key is None and key_problem(chain.leaf):
        yield _MALFORMED
    elif not is_strong(key):
        yield Finding(
            message="the key of the certificate is weak, or of a kind that clients do not take",
            expected=STRONG,
            observed=describe_key(key),
            reproduce=(show_leaf(chain.url, '"Public-Key"'),),
        )


def _weak_issuer(issuers: Issuers, chain: ServedChain) -> Mapping[str, Any]:
    _, issuer = specimen(authority=replace(AUTHORITY, rsa_bits=1024))
    return {"issuers": replace(issuers, certificates=(issuer,))}


@check("cert.issuer-key-strength", on=EVERY_LISTENER, counterexample=_weak_issuer)
def the_issuers_keys_are_strong(issuers: Issuers, chain: ServedChain) -> Iterator[Statement]:
    """The keys of the CAs above the served certificate are strong.

    Who computes the key of a CA is every server, and every client where etcd trusts the same CA. Go's TLS
    refuses RSA above 8192 bits in whatever certificate is served.

    Spec: NIST SP 800-131A section 3
    Severity: critical
    Level: MUST
    Remediation: replace the CA: give a new one to clients and to --{peer}trusted-ca-file (read at start
        only), then renew the pair of --{peer}cert-file.
    """
    served = chain.certificates[1:]
    for issuer in dict.fromkeys((*issuers.certificates, *served)):
        key = usable_key(issuer)
        weak = issuer in issuers.certificates and not is_strong_issuer(key)
        if key is None and key_problem(issuer):
            yield _MALFORMED
        elif weak or (issuer in served and is_too_long(key)):
            yield Finding(
                message=f"the key of the CA {shown(issuer)} is weak, or of a kind that clients do not take",
                expected=STRONG,
                observed=describe_key(key),
                reproduce=(show_chain(issuers.url),),
            )


def _sha1(path: CertificationPath) -> Mapping[str, Any]:
    return {"path": replace(path, certificates=specimen(replace(SERVER, signature_hash="sha1")))}


@check("cert.signature-hash", on=EVERY_LISTENER, counterexample=_sha1)
def signatures_are_made_with_a_good_hash(path: CertificationPath) -> Iterator[Statement]:
    """The served certificate, and each CA up to the given one, is signed with a hash of the SHA-2 family.

    Collisions of SHA-1 and MD5 can be made, and with them certificates that a CA never issued. Go refuses
    SHA-1 from 1.18 on. What a certificate signed for itself says nothing and is not judged, nor who signed
    the given CA.

    Spec: RFC 8446 section 4.4.2.4
    Spec: NIST SP 800-131A section 9
    Severity: high
    Level: MUST
    Remediation: issue the certificate of --{peer}cert-file anew, signed with SHA-256.
    """
    for certificate in path.certificates:
        if certificate in path.anchors or is_self_signed(certificate):
            continue
        if signature_scheme(certificate) is None:
            name = signature_hash(certificate)
            yield Finding(
                message=f"{shown(certificate)} is signed with {name}",
                expected="SHA-256, SHA-384 or SHA-512 with RSA or ECDSA, or Ed25519",
                observed=f"{name}, by {certificate.issuer.rfc4514_string()}",
                reproduce=(show_chain(path.url),),
            )
