"""The declared files: pairs, dates, permissions, and whether they are served."""

import dataclasses
import stat
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509
from msgspec.structs import replace

from pytest_etcdtls.checks.cert_chain import self_signed_chain, shown_in_full
from pytest_etcdtls.checks.cert_form import state_of, when
from pytest_etcdtls.checks.judgement import changed
from pytest_etcdtls.checks.mtls_certificates import an_hour_left, expiring
from pytest_etcdtls.checks.registry import CLIENT_PORTS_AND_METRICS, TO_CLIENTS, TO_PEERS, check
from pytest_etcdtls.checks.results import (
    CannotJudge,
    Finding,
    Note,
    Statement,
    inconclusive,
    not_applicable,
    not_verified,
)
from pytest_etcdtls.declared.cures import Cure, certificate_of_ca, issued_again, pair_of
from pytest_etcdtls.declared.declaration import Setting
from pytest_etcdtls.declared.effective import prefix
from pytest_etcdtls.declared.files import (
    BundleFact,
    FileFact,
    MemberFiles,
    PairFact,
)
from pytest_etcdtls.facts.certificates import DeclaredLeaf
from pytest_etcdtls.facts.configuration import listeners_of_side
from pytest_etcdtls.facts.declared_files import DeclaredFiles, HeldCertificates, TrustedFile, TrustedFiles
from pytest_etcdtls.facts.listener import Policy, ServedChain
from pytest_etcdtls.facts.rehearsal import Rehearsals
from pytest_etcdtls.pki.certificate import name_text, shown
from pytest_etcdtls.pki.go_verify import (
    CLIENT_AUTH,
    SERVER_AUTH,
    Rule,
    allows,
    ca_faults,
    find_path,
    is_self_signed,
    issuers_among,
)
from pytest_etcdtls.role import Role
from pytest_etcdtls.target import Listener
from pytest_etcdtls.tls.command import (
    DIFFERENT,
    FINGERPRINT,
    Command,
    compare,
    local,
    show_file,
    show_leaf,
)
from pytest_etcdtls.untrusted.printable import file_word


def _first_member(files: DeclaredFiles, **changes: Any) -> Mapping[str, Any]:  # noqa: ANN401
    """Return a counterexample: fields of the first member changed."""
    member, *others = files.members
    return {"files": replace(files, members=(replace(member, **changes), *others))}


_mismatched = changed("files.members.0.pairs.0", matches=False)


@check("config.key-matches-certificate", on=set(), counterexample=_mismatched)
def keys_match_their_certificates(files: DeclaredFiles) -> Iterator[Statement]:
    """The key in --key-file matches the certificate in --cert-file.

    If they do not match, etcd does not start, or answers every handshake with the alert internal_error until
    they do. The same holds for the pairs of peers and those with which etcd dials, for a file that contains
    no certificate or no key, and on the member's own machine for one that is missing, or that the user of
    the process (--etcd-pid), of User= or of runAsUser may not read.

    Spec: RFC 8446 section 4.4.3
    Spec: etcd --cert-file, --key-file, --peer-cert-file, --peer-key-file
    Severity: critical
    Level: MUST
    Remediation: put a certificate and its key that the user of etcd may read into new files, name these
        with the flags, and restart etcd; leave the key that is there as it is.
    """
    pairs = [(member, pair) for member in files.members for pair in member.pairs]
    if not pairs:
        yield not_applicable("no pair of certificate and key is declared")
    for member, pair in pairs:
        certificate, key = pair.certificate, pair.key
        for file in (certificate, key):
            if file.absent:
                yield not_verified(f"{member.label}: {file.absent}")
            elif file.problem:
                yield _unusable(member, pair, file)
        if pair.matches is False:
            yield Finding(
                message=f"{member.label}: the declared key is not that of the declared certificate",
                concerns=listeners_of_side(member.label, pair.side),
                expected=f"the key of {shown(pair.chain[0])} ({certificate.path})",
                observed=f"another key ({key.path})",
                place=key.place,
                cure=pair_of(f"{_prefix(pair)}cert-file", f"{_prefix(pair)}key-file"),
                evidence={"certificate": certificate.said, "key": key.said},
                reproduce=(
                    local(
                        "openssl",
                        "x509",
                        "-in",
                        file_word(certificate.path),
                        "-noout",
                        "-pubkey",
                        then=_HASHED,
                    ),
                    local(
                        *("openssl", "pkey", "-in", file_word(key.path), "-pubout"),
                        then=_HASHED,
                        look="the same hash from both",
                    ),
                ),
            )


_HASHED = "openssl sha256"


def _prefix(pair: PairFact) -> str:
    """Return how the names of the settings of a pair begin."""
    return prefix(pair.side) + ("client-" if pair.dials else "")


def _unusable(member: MemberFiles, pair: PairFact, file: FileFact) -> Finding:
    return Finding(
        message=f"{member.label}: a declared file cannot be used: {file.problem}",
        concerns=listeners_of_side(member.label, pair.side),
        expected="a certificate and its key, in PEM, as etcd reads them",
        observed=file.problem,
        place=file.place,
        evidence={"declared": file.said},
        remediation=file.remedy and f"{file.remedy}; etcd reads it at the next handshake",
        reproduce=(
            _show_mode(file)
            if file.remedy
            else local(
                *("cat", file_word(file.path)),
                then="grep -e -----BEGIN -e -----END",
                look='"BEGIN" and "END" of each PEM block',
            ),
        ),
    )


_with_key = changed("files.files.0.pool", refused="block 2, PRIVATE KEY, is not a certificate")


@check("config.trusted-ca-usable", on=set(), counterexample=_with_key)
def files_of_trusted_cas_can_be_read(
    files: TrustedFiles, rehearsals: Rehearsals | None
) -> Iterator[Statement]:
    """Each PEM block of the files of trusted CAs is a certificate that etcd can read, and is not revoked.

    etcd parses every block as a certificate, whatever its type, and does not start with a private key, a
    revocation list or a TRUSTED CERTIFICATE in the file. It skips what is not PEM: with a file that is empty
    or in DER it starts, trusts no CA at all and refuses every client. It reads the file only at start, so one
    that runs shows neither. Nor does it start without the file, where that is missing on the member's own
    machine, or where its user may not read it. A revocation list does not revoke a CA in the file: etcd
    compares it with the certificates that clients send, and they need not send that CA.

    Spec: etcd --trusted-ca-file, --peer-trusted-ca-file
    Spec: etcd checkCRL in client/pkg/transport/listener_tls.go
    Spec: RFC 7468 section 2
    Follows: restart.starts, restart.clients
    Severity: critical
    Level: MUST
    Remediation: name a file that has CA certificates alone, each in PEM, with its BEGIN line and its END line
        on lines of their own, and restart etcd; a file with a private key stays as it is.
    """
    for trusted in files.files:
        yield from _judge_trusted(trusted, rehearsals.started_with(trusted.source) if rehearsals else "")


def _judge_trusted(trusted: TrustedFile, started: str) -> Iterator[Statement]:
    file, pool = trusted.bundle.file, trusted.pool
    unread = file.problem or (pool.refused if pool else "")
    doubt = unread or (pool.unjudged or pool.doubtful if pool else "")
    for certificate in trusted.revoked:
        yield Finding(
            message=f"{trusted.member}: etcd accepts the clients of a revoked CA that do not send it",
            concerns=listeners_of_side(trusted.member, trusted.bundle.side),
            expected=f"no CA that --{trusted.bundle.side}-crl-file revokes",
            observed=f"{file.path}: {shown(certificate)}",
            place=file.place,
            evidence={"declared": file.said},
            remediation=f"remove {shown(certificate)} from the file, and restart etcd",
        )
    if unread and not started:
        why = f": {file.problem}" if file.remedy else ""
        yield _not_usable(trusted, f"etcd will not start again with {file.said}{why}", unread)
    elif pool and pool.nothing:
        whom = "member" if trusted.bundle.side == "peer" else "client"
        yield _not_usable(
            trusted,
            f"started with {file.said}, etcd trusts no CA and refuses every {whom} that it asks for a "
            "certificate",
            f"the file {pool.nothing}",
        )
    elif pool and pool.skipped:
        yield _not_usable(
            trusted,
            f"etcd does not read every certificate of {file.said}",
            f"{pool.skipped} {'is' if pool.skipped == 1 else 'are'} skipped, since BEGIN or END does not "
            "stand on a line of its own",
        )
    elif doubt and started:
        yield Note(f"{trusted.member}: {file.said}: {doubt}; but {started}")
    elif pool is None:
        yield not_verified(f"{trusted.member}: {file.absent}")
    elif pool.unjudged:
        why = f"{pool.unjudged}, which is not judged: start an etcd with it to see whether Go reads it"
        yield inconclusive(f"{trusted.member}: {file.said}: {why}")
    elif pool.doubtful:
        yield not_verified(
            f"{trusted.member}: whether etcd will start again with {file.said} depends on the Go that it was "
            f"built with: {pool.doubtful}"
        )


def _not_usable(trusted: TrustedFile, message: str, observed: str) -> Finding:
    file = trusted.bundle.file
    return Finding(
        message=f"{trusted.member}: {message}",
        concerns=listeners_of_side(trusted.member, trusted.bundle.side),
        expected="CA certificates in PEM and nothing else",
        observed=observed if file.problem else f"{file.path}: {observed}",
        place=file.place,
        evidence={"declared": file.said},
        remediation=(file.remedy or BUNDLE_BACK) if file.problem else "",
        cure=certificate_of_ca,
        reproduce=(
            _show_mode(file)
            if file.remedy
            else local(
                *("grep", "-n", "-e", "-----BEGIN", "-e", "-----END", file_word(file.path)),
                look='"BEGIN CERTIFICATE" and "END CERTIFICATE" alone, in whole lines; no output: no PEM',
            ),
        ),
    )


def _dialing_expired(files: DeclaredFiles) -> Mapping[str, Any]:
    pair = next(pair for pair in files.members[0].pairs if pair.chain)
    late = pair.chain[0].not_valid_after_utc + timedelta(days=1)
    changed_pair = replace(pair, dials=True)
    return {"files": replace(_first_member(files, pairs=(changed_pair,))["files"], observed_at=late)}


@check("config.dials-with-valid-certificates", on=set(), counterexample=_dialing_expired)
def etcd_dials_with_valid_certificates(files: DeclaredFiles) -> Iterator[Statement]:
    """The certificate with which etcd dials, as a client, is valid now.

    With --peer-client-cert-file a member dials the others with another certificate than it serves, and with
    --client-cert-file its own JSON gateway dials the client port. Once that has expired, the other members
    refuse each new connection, and the gateway no longer works after a restart. Connections that exist stay,
    so a cluster may run until the next restart of any member.

    Spec: etcd --peer-client-cert-file, --client-cert-file
    Spec: RFC 5280 section 4.1.2.5
    Severity: critical
    Level: MUST
    Remediation: renew the pair; etcd presents the new one at its next connection, without a restart.
    """
    dialing = [(member.label, pair) for member in files.members for pair in member.pairs if pair.dials]
    if not dialing:
        yield not_applicable("etcd dials with the certificates that it serves, see cert.valid-now")
    for label, pair in dialing:
        if not pair.chain:
            yield not_verified(f"{label}: {pair.certificate.absent or pair.certificate.problem}")
        elif state := state_of(pair.chain[0], files.observed_at):
            whom = "other members" if pair.side == "peer" else "its own client port, for the gateway,"
            begin, end = pair.chain[0].not_valid_before_utc, pair.chain[0].not_valid_after_utc
            yield Finding(
                message=f"{label} dials {whom} with {pair.certificate.said}, which {state}",
                concerns=listeners_of_side(label, pair.side),
                expected=f"{when(begin)} to {when(end)} includes now",
                observed=f"it is {when(files.observed_at)}",
                place=pair.certificate.place,
                evidence={"since": f"{when(end)}, notAfter of the certificate"}
                if files.observed_at > end
                else {},
                remediation=f"renew the pair of {pair.certificate.said} and {pair.key.said}; etcd presents "
                "the new one at its next connection, without a restart",
                reproduce=(show_file(pair.certificate.path),) if pair.certificate.path else (),
            )


def _another_ca(files: DeclaredFiles) -> Mapping[str, Any]:
    member = files.members[0]
    changed = dataclasses.replace(member.bundles["peer"], certificates=member.pairs[0].chain[:1])
    return _first_member(files, bundles={**member.bundles, "peer": changed})


@check("config.chain-closes", on=set(), counterexample=_another_ca)
def chains_end_at_their_cas(files: DeclaredFiles) -> Iterator[Statement]:
    """Each declared certificate file chains to the CAs that must accept it.

    Otherwise members refuse each other, or etcd refuses its own connections to a client port. Members present
    the peer certificate to each other and verify it with the peer bundle; what etcd presents on client ports
    must come from the clients' CA. What client ports serve may come from any CA. If a CA with the issuer's
    name is available, it must have signed the certificate: a CA that was created again under its old name has
    not. The CAs of the file are judged by the rules of Go's verifier.

    Spec: RFC 5280 section 6.1
    Spec: RFC 8446 section 4.4.2
    Spec: etcd --peer-trusted-ca-file, --trusted-ca-file
    Follows: restart.clients
    Follows: cert.ports-not-swapped, cert.matches-expected-file, config.trusted-ca-usable, cert.issuer-is-ca,
        cert.ca-constraints, cert.ca-valid-now
    Severity: critical
    Level: MUST
    Remediation: append the intermediate CAs to the certificate's file, or issue a certificate from a CA of
        that bundle; if the bundle is the wrong file, put the CA of all members and no other into it, and
        restart etcd: it reads a bundle only at start.
    """
    judged = False
    for member in files.members:
        for pair in member.pairs:
            if pair.side == "client" and not pair.dials:
                at_hand = [
                    certificate for bundle in member.bundles.values() for certificate in bundle.certificates
                ]
                judged |= bool(pair.chain)
                yield from _judge_issuer(member, pair, (*at_hand, *files.anchors), files.observed_at)
                if pair.chain and (of_gateway := member.bundles.get("client")):
                    yield from _judge_cas(member, pair, of_gateway, files.observed_at)
            elif bundle := member.bundles.get(pair.side):
                judged = True
                yield from _judge_path(member, pair, bundle, files.observed_at)
    if not judged:
        yield not_applicable("no certificate is declared that a declared CA must accept")


def _judge_path(
    member: MemberFiles, pair: PairFact, bundle: BundleFact, when: datetime
) -> Iterator[Statement]:
    reasons = [file.absent or file.problem for file in (pair.certificate, bundle.file)]
    missing = [reason for reason in reasons if reason]
    for reason in missing:
        yield not_verified(f"{member.label}: {reason}")
    if missing or not pair.chain:
        return
    leaf, *sent = pair.chain
    if find_path(leaf, sent, bundle.certificates, when) is None:
        anchors = ", ".join(shown(certificate) for certificate in bundle.certificates)
        top = (leaf, *issuers_among(leaf, sent, when))[-1]
        yield _no_chain(member, pair, bundle.file, anchors or "a CA: etcd reads none from that file", top)
    else:
        yield from _judge_cas(member, pair, bundle, when)


def _judge_cas(
    member: MemberFiles, pair: PairFact, bundle: BundleFact, when: datetime
) -> Iterator[Statement]:
    """Judge the CAs of a bundle as they are in the file now, by a certificate that it must accept.

    It is a client's, of the gateway or of a member. Members that dial verify that of peers as a server's too.
    """
    leaf, *sent = pair.chain
    flaws = {
        str(flaw): (flaw, purpose)
        for purpose in (CLIENT_AUTH, SERVER_AUTH)
        if (purpose == CLIENT_AUTH or (pair.side == "peer" and not pair.dials)) and allows(leaf, purpose)
        for flaw in ca_faults(find_path(leaf, sent, bundle.certificates, when, purpose) or (), when, purpose)
    }
    if flaws:
        why = f"Go does not accept it: {', and '.join(flaws)}"
        certificates = dict.fromkeys(flaw.certificate for flaw, _ in flaws.values())
        of_usage = all(flaw.rule is Rule.PURPOSE for flaw, _ in flaws.values())
        how = "without extendedKeyUsage, or with that of clients too" if of_usage else "so that Go accepts it"
        again = f"the certificate of {' and '.join(map(shown, certificates))} again, {how}"
        is_sent = not {*certificates} & {*bundle.certificates}
        yield _refused(
            *(member, pair, bundle.file, f"a CA of {bundle.file.path}", why),
            CA_BACK,
            cure=issued_again(f"{_prefix(pair)}cert-file", again) if is_sent else None,
            usage="sslclient" if CLIENT_AUTH in {purpose for _, purpose in flaws.values()} else "sslserver",
        )


BUNDLE_BACK = (
    "put one file with the CA certificates at that path, which the user of etcd may read, before etcd is "
    "restarted: without it, etcd does not start"
)
CA_BACK = "put a CA certificate that is valid and permits these clients back into the file before a restart"


def _judge_issuer(
    member: MemberFiles, pair: PairFact, at_hand: tuple[x509.Certificate, ...], when: datetime
) -> Iterator[Statement]:
    if not pair.chain:
        if pair.certificate.absent:
            yield not_verified(f"{member.label}: {pair.certificate.absent}")
        return
    leaf, *sent = pair.chain
    top = (leaf, *issuers_among(leaf, sent, when))[-1]
    if is_self_signed(top) or find_path(leaf, sent, at_hand, when) is not None:
        return
    namesakes = [certificate for certificate in at_hand if certificate.subject == top.issuer]
    bundle = next((bundle.file for bundle in member.bundles.values() if namesakes and bundle.file.path), None)
    if namesakes:
        anchors = f"{shown(namesakes[0])}, which has that name and has not signed it"
        yield _no_chain(member, pair, bundle, anchors, top)


def _no_chain(
    member: MemberFiles, pair: PairFact, bundle: FileFact | None, anchors: str, top: x509.Certificate
) -> Finding:
    ends = f"it ends at {shown(top)}, issued by {name_text(top.issuer) or '(empty)'}"
    return _refused(member, pair, bundle, anchors, ends)


def _refused(
    member: MemberFiles,
    pair: PairFact,
    bundle: FileFact | None,
    anchors: str,
    observed: str,
    remediation: str = "",
    *,
    cure: Cure | None = None,
    usage: str = "any",
) -> Finding:
    path, trusted = str(pair.certificate.path), str(bundle.path if bundle else "ca.crt")
    return Finding(
        message=f"{member.label}: the declared certificate does not chain to the declared CA",
        concerns=listeners_of_side(member.label, pair.side),
        expected=f"a chain from {shown(pair.chain[0])} ({path}) to {anchors}",
        observed=observed,
        remediation=remediation,
        cure=cure,
        place=pair.certificate.place,
        evidence={"certificate": pair.certificate.said, **({"CAs": bundle.said} if bundle else {})},
        reproduce=(
            local(
                *("openssl", "verify", "-purpose", usage, "-partial_chain"),
                *("-CAfile", file_word(trusted)),
                *("-untrusted", file_word(path), file_word(path)),
                reads=(trusted, path),
                look='"OK" or "error"',
            ),
        ),
    )


@check("config.credentials-expire-soon", on=set(), counterexample=an_hour_left)
def credentials_do_not_expire_soon(held: HeldCertificates, policy: Policy) -> Iterator[Statement]:
    """Declared certificates that no listener serves do not expire soon.

    Such a certificate may be served after the next restart or change of files, and clients and members refuse
    it once it has expired. The limit is --etcd-expiry-days. Certificates that listeners serve or clients
    present, and their CAs, have checks of their own.

    Spec: RFC 5280 section 4.1.2.5
    Severity: medium
    Level: SHOULD
    Remediation: renew the certificate; etcd needs no restart for that.
    """
    yield from expiring(held, policy)


def _never_renewed(files: DeclaredFiles) -> Mapping[str, Any]:
    ends = [crl.next_update for member in files.members for _, crl in member.crls if crl.next_update]
    return {"files": replace(files, observed_at=ends[0] + timedelta(days=1))}


@check("config.crl-fresh", on=set(), counterexample=_never_renewed)
def revocation_lists_are_renewed(files: DeclaredFiles) -> Iterator[Statement]:
    """No declared revocation list is past its nextUpdate.

    etcd compares serial numbers only and accepts a list of any age, so certificates that were revoked since
    are accepted. It reads the file at each connection.

    Spec: RFC 5280 section 5.1.2.5
    Spec: etcd --client-crl-file, --peer-crl-file
    Severity: medium
    Level: SHOULD
    Remediation: have the CA issue a new list before each nextUpdate, and replace the file.
    """
    lists = [(member, setting, crl) for member in files.members for setting, crl in member.crls]
    if not lists:
        yield not_applicable("no revocation list is declared")
    for member, setting, crl in lists:
        if crl.path is None:
            yield _list_missing(member, setting)
        elif crl.unread:
            yield not_verified(f"{member.label}: {crl.path} {crl.unread}")
        elif not crl.lists:
            yield not_applicable(f"{member.label}: {crl.path} is not a list, see config.crl-encoding")
        elif crl.next_update is None:
            yield Note(f"{crl.path} has no nextUpdate")
        elif files.observed_at > crl.next_update:
            yield Finding(
                message=f"{member.label}: a revocation list is out of date",
                expected=f"a list with a nextUpdate after {when(files.observed_at)}",
                observed=f"{crl.path}: nextUpdate {when(crl.next_update)}",
                place=setting.place,
                evidence={"declared": str(setting), "issuer": name_text(crl.issuer) if crl.issuer else ""},
                reproduce=(
                    local(
                        "openssl",
                        "crl",
                        "-in",
                        file_word(crl.path),
                        "-noout",
                        "-nextupdate",
                        look='"nextUpdate"',
                    ),
                ),
            )


def _list_missing(member: MemberFiles, setting: Setting) -> CannotJudge:
    files = [file for pair in member.pairs for file in (pair.certificate, pair.key)]
    if any(file.original for file in files):
        reason = f"{member.label}: the file of {setting} does not exist, see config.crl-missing"
        return not_applicable(reason)
    return not_verified(f"{member.label}: the file of {setting} is not available here")


_readable_key = changed("files.members.0.pairs.0.key", mode=0o644, shut_by="")


@check("config.key-file-mode", on=set(), counterexample=_readable_key)
def keys_are_accessible_to_their_owner_only(files: DeclaredFiles) -> Iterator[Statement]:
    """A private key is accessible only to its owner, and to a group that may read.

    Any user on the machine who can read the key can act as that member or client. kubeadm writes mode 0600,
    as the CIS Kubernetes Benchmark recommends; group read permission is accepted as intended, since etcd may
    run as its own user. What counts is who reaches the file: a directory above it that lets nobody else
    through protects it as well. A key in the certificate's file needs the same mode. The file that etcd reads
    must be owned by root, the owner of etcd's data directory or the user who runs this check. Keys of clients
    in the same directories as the declared files are judged as well.

    Spec: CIS Kubernetes 1.1.21
    Spec: etcd --key-file, --peer-key-file
    Severity: medium
    Level: SHOULD
    Remediation: chmod 600 the file, and chown it to root or to the user that etcd runs as.
    """
    keys = {
        (member.label, key.path): (member, key)
        for member in files.members
        for key in _files_with_keys(member)
        if key.path is not None
    }
    for member, key in keys.values():
        mode = "" if key.mode is None else f"{key.path}: mode {key.mode:04o}"
        if key.reach is not None and key.reach & (stat.S_IRWXO | stat.S_IWGRP):
            yield Finding(
                message=f"{member.label}: a private key is accessible to others",
                expected="0600, or 0640 for a group of etcd's own",
                observed=mode + (", a certificate file with a private key in it" if key.has_key else ""),
                place=key.place,
                evidence={"declared": key.said},
                reproduce=(_show_mode(key),),
            )
            continue
        if key.reach != key.mode and key.mode is not None and key.mode & stat.S_IRWXO:
            yield Note(f"{mode}, in {key.shut_by}, which lets no others through")
        if _has_unexpected_owner(member, key, files.reader):
            yield Finding(
                message=f"{member.label}: a private key has an unexpected owner",
                expected=f"root, user {member.data_owner} of the data directory, or user {files.reader}",
                observed=f"{key.path}: owner {key.owner}",
                place=key.place,
                evidence={"declared": key.said},
                reproduce=(
                    local("ls", "-ln", file_word(key.path), look="the third column: the numeric owner"),
                ),
            )
    if not any(key.mode is not None for _, key in keys.values()):
        yield _no_mode(files)


def _files_with_keys(member: MemberFiles) -> Iterator[FileFact]:
    for pair in (*member.pairs, *member.clients):
        yield pair.key
        if pair.certificate.has_key and pair.certificate.path != pair.key.path:
            yield pair.certificate


def _has_unexpected_owner(member: MemberFiles, key: FileFact, reader: int | None) -> bool:
    """Return whether the file that etcd reads belongs to a user other than those who may own it."""
    known = {0, reader, member.data_owner}
    return key.original and member.data_owner is not None and key.owner not in known


def _no_mode(files: DeclaredFiles) -> CannotJudge:
    absent = [key.absent for member in files.members for pair in member.pairs if (key := pair.key).absent]
    if absent:
        return not_verified("; ".join(dict.fromkeys(absent)))
    return not_applicable("no key file is declared, or the system has no file permissions")


def _show_mode(key: FileFact) -> Command:
    return local("stat", "-c", "%a %U %n", file_word(key.path), look="the mode: 600, or 640")


def _readable_ca_key(files: DeclaredFiles) -> Mapping[str, Any]:
    key = FileFact(said="beside ca.crt", path="/pki/ca.key", mode=0o640, owner=0)
    bundles = files.members[0].bundles.items()
    return _first_member(
        files, bundles={side: dataclasses.replace(bundle, keys=(key,)) for side, bundle in bundles}
    )


@check("config.ca-key-beside", on=set(), counterexample=_readable_ca_key)
def no_ca_key_is_readable_by_others(files: DeclaredFiles) -> Iterator[Statement]:
    """No key of a trusted CA is readable by others in its certificate's directory.

    A user who can read it can issue client certificates that every member accepts for as long as the CA is
    trusted. kubeadm keeps the key there with mode 0600, which is reported as a note only; another machine is
    the best place for it. The file is found by its name and never opened. A key in the file of the trusted
    CAs itself counts as well.

    Spec: etcd THREAT_MODEL.md, Client-to-Server Boundary
    Spec: CIS Kubernetes 1.1.21
    Severity: medium
    Level: SHOULD
    Remediation: move the key to where certificates are issued, or at least chmod 600 it.
    """
    bundles = [(member, bundle) for member in files.members for bundle in member.bundles.values()]
    if not bundles:
        yield not_applicable("no file of trusted CAs is declared")
    at_hand = [(member, bundle) for member, bundle in bundles if bundle.file.path is not None]
    if bundles and not at_hand:
        reasons = dict.fromkeys(f"{member.label}: {bundle.file.absent}" for member, bundle in bundles)
        yield not_verified("; ".join(reasons))
    keys = {(member.label, key.path): (member, key) for member, bundle in at_hand for key in bundle.keys}
    for member, key in keys.values():
        if key.reach is not None and key.reach & (stat.S_IRWXG | stat.S_IRWXO):
            yield Finding(
                message=f"{member.label}: {_MISPLACED[key.has_key]} is readable by others",
                expected="no such file, or one with mode 0600",
                observed=f"{key.path}: mode {key.mode:04o}",
                evidence={"found": key.said},
                reproduce=(_show_mode(key),),
            )
        else:
            exists = "has a private key" if key.has_key else "exists"
            yield Note(f"{key.path} {exists} and is readable by its owner only")


_MISPLACED = {
    False: "the key in the directory of a trusted CA",
    True: "a private key in the file of trusted CAs",
}


@check(
    "config.peer-served-file",
    on={Role.PEER},
    counterexample=self_signed_chain,
    words={"to": " to peers", "cis": "2.4"} | TO_PEERS,
)
@check(
    "config.served-file",
    on=CLIENT_PORTS_AND_METRICS,
    counterexample=self_signed_chain,
    words={"to": "", "cis": "2.1"} | TO_CLIENTS,
)
def the_declared_file_is_served(
    here: Listener, chain: ServedChain, declared: DeclaredLeaf
) -> Iterator[Statement]:
    """The certificate in the declared file is the one that is served<to>.

    etcd reads the file at each handshake. Another certificate on the wire means that etcd reads another file,
    that another etcd answers, or that a proxy terminates TLS. Renewing the declared file then has no effect.

    Spec: etcd --<peer->cert-file
    Spec: CIS Kubernetes <cis>
    Follows: cert.ports-not-swapped, config.*flags, config.does-not-start, config.*flag*, config.unknown-*
    Severity: high
    Level: MUST
    Remediation: put the certificate and its key where the running etcd reads them, or restart etcd with the
        current declaration.
    """
    if chain.leaf != declared.certificate:
        yield Finding(
            message="another certificate is served than that of the declared file",
            expected=f"{shown_in_full(declared.certificate)} ({declared.source})",
            observed=shown_in_full(chain.leaf),
            place=declared.place,
            evidence={"declared": declared.said},
            reproduce=compare(
                show_file(declared.source, FINGERPRINT), show_leaf(here.url, FINGERPRINT), look=DIFFERENT
            ),
        )
