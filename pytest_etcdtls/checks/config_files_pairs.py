"""The declared certificates, keys and CAs belong together."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from shlex import quote
from typing import Any

from cryptography import x509

from pytest_etcdtls.declared.file_facts import BundleFact, DeclaredFiles, FileFact, MemberFiles, PairFact
from pytest_etcdtls.pki.path import find_path, is_self_signed, issuers_among
from pytest_etcdtls.pki.reading import shown
from pytest_etcdtls.registry import check
from pytest_etcdtls.reproduce import look_for
from pytest_etcdtls.results import Finding, Outcome, Statement, Verdict


def _not_its_key(files: DeclaredFiles) -> Mapping[str, Any]:
    member, *others = files.members
    pair, *rest = member.pairs
    changed = replace(member, pairs=(replace(pair, matches=False), *rest))
    return {"files": replace(files, members=(changed, *others))}


@check("config.key-matches-certificate", on=set(), counterexample=_not_its_key)
def keys_match_their_certificates(files: DeclaredFiles) -> Iterator[Statement]:
    """Each declared key file holds the key of the declared certificate.

    With half a renewed pair etcd does not start, or answers every handshake with an internal error until the
    other half follows. What could be read and is no certificate or no key counts as well.

    Spec: RFC 8446 section 4.4.3
    Spec: etcd --cert-file, --key-file, --peer-cert-file, --peer-key-file
    Severity: high
    Level: MUST
    Remediation: put certificate and key of one issue there, both; etcd reads them at the next handshake.
    """
    pairs = [(member, pair) for member in files.members for pair in member.pairs]
    if not pairs:
        yield Verdict(Outcome.NOT_APPLICABLE, "no pair of certificate and key is declared")
    for member, pair in pairs:
        certificate, key = pair.certificate, pair.key
        for file in (certificate, key):
            if file.absent:
                yield Verdict(Outcome.NOT_VERIFIED, f"{member.label}: {file.absent}")
            elif file.problem:
                yield _unusable(member, file)
        if pair.matches is False:
            yield Finding(
                message=f"{member.label}: the declared key is not that of the declared certificate",
                expected=f"the key of {shown(pair.chain[0])} ({certificate.path})",
                observed=f"another key ({key.path})",
                evidence={"certificate": certificate.said, "key": key.said},
                reproduce=(
                    f"openssl x509 -in {quote(str(certificate.path))} -noout -pubkey | openssl sha256",
                    look_for(
                        f"openssl pkey -in {quote(str(key.path))} -pubout | openssl sha256",
                        "the same hash from both",
                    ),
                ),
            )


def _unusable(member: MemberFiles, file: FileFact) -> Finding:
    return Finding(
        message=f"{member.label}: a declared file is not what it should be",
        expected="a certificate and its key, in PEM, as etcd reads them",
        observed=file.problem,
        evidence={"declared": file.said},
        reproduce=(
            look_for(
                f"cat {quote(str(file.path))} | grep -e -----BEGIN -e -----END",
                '"BEGIN" and "END" of each PEM block',
            ),
        ),
    )


def _another_ca(files: DeclaredFiles) -> Mapping[str, Any]:
    member, *others = files.members
    leaf = member.pairs[0].chain[0]
    bundles = {
        side: replace(bundle, certificates=(leaf,)) if side == "peer" else bundle
        for side, bundle in member.bundles.items()
    }
    return {"files": replace(files, members=(replace(member, bundles=bundles), *others))}


@check("config.chain-closes", on=set(), counterexample=_another_ca)
def chains_lead_to_their_cas(files: DeclaredFiles) -> Iterator[Statement]:
    """Each declared certificate leads, by what is in its file, to the CAs that must accept it.

    Members show each other the peers' certificate and look for its CA in the peers' bundle; what etcd dials
    clients' ports with must come from the clients' CA. What client ports serve may come from any CA; where
    one of that name is at hand, it must have signed it: a CA that was made anew under its old name has not.

    Spec: RFC 5280 section 6.1
    Spec: RFC 8446 section 4.4.2
    Spec: etcd --peer-trusted-ca-file, --trusted-ca-file
    Severity: high
    Level: MUST
    Remediation: put the intermediate CAs behind the certificate in its file, and the CA that has signed it
        into the bundle; a bundle is read at start only.
    """
    judged = False
    for member in files.members:
        for pair in member.pairs:
            if pair.side == "client" and not pair.dials:
                at_hand = [one for found in member.bundles.values() for one in found.certificates]
                judged |= bool(pair.chain)
                yield from _signed_by_its_name(member, pair, (*at_hand, *files.anchors), files.observed_at)
            elif bundle := member.bundles.get(pair.side):
                judged = True
                yield from _leads(member, pair, bundle, files.observed_at)
    if not judged:
        yield Verdict(Outcome.NOT_APPLICABLE, "no certificate is declared that a declared CA must accept")


def _leads(member: MemberFiles, pair: PairFact, bundle: BundleFact, when: datetime) -> Iterator[Statement]:
    missing = [file.absent for file in (pair.certificate, bundle.file) if file.absent]
    for reason in missing:
        yield Verdict(Outcome.NOT_VERIFIED, f"{member.label}: {reason}")
    if missing or not pair.chain:
        return
    leaf, *sent = pair.chain
    if find_path(leaf, sent, bundle.certificates, when) is None:
        anchors = ", ".join(shown(one) for one in bundle.certificates)
        yield _open(member, pair, bundle.file, anchors or bundle.file.problem, sent, when)


def _signed_by_its_name(
    member: MemberFiles, pair: PairFact, at_hand: tuple[x509.Certificate, ...], when: datetime
) -> Iterator[Statement]:
    if not pair.chain:
        if pair.certificate.absent:
            yield Verdict(Outcome.NOT_VERIFIED, f"{member.label}: {pair.certificate.absent}")
        return
    leaf, *sent = pair.chain
    top = (leaf, *issuers_among(leaf, sent, when))[-1]
    if is_self_signed(top) or find_path(leaf, sent, at_hand, when) is not None:
        return
    namesakes = [one for one in at_hand if one.subject == top.issuer]
    bundle = next((one.file for one in member.bundles.values() if namesakes and one.file.path), None)
    if namesakes:
        words = f"{shown(namesakes[0])}, which has that name and has not signed it"
        yield _open(member, pair, bundle, words, sent, when)


def _open(
    member: MemberFiles,
    pair: PairFact,
    bundle: FileFact | None,
    anchors: str,
    sent: list[x509.Certificate],
    when: datetime,
) -> Finding:
    leaf = pair.chain[0]
    top = (leaf, *issuers_among(leaf, sent, when))[-1]
    path, trusted = quote(str(pair.certificate.path)), quote(str(bundle.path if bundle else "ca.crt"))
    return Finding(
        message=f"{member.label}: the declared certificate does not lead to the declared CA",
        expected=f"a chain from {shown(leaf)} ({pair.certificate.path}) to {anchors}",
        observed=f"it ends at {shown(top)}, issued by {top.issuer.rfc4514_string() or '(empty)'}",
        evidence={"certificate": pair.certificate.said, **({"CAs": bundle.said} if bundle else {})},
        reproduce=(
            look_for(
                f"openssl verify -partial_chain -CAfile {trusted} -untrusted {path} {path}", '"OK" or "error"'
            ),
        ),
    )
