"""Declared revocation lists that etcd does not apply, or with which it refuses every client."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Final

from pytest_etcdtls.declared.cures import client_certificates
from pytest_etcdtls.declared.declaration import CRLFile
from pytest_etcdtls.declared.effective import CRLEffect, Effective, TLSSide, prefix
from pytest_etcdtls.declared.traps.trap import FoundTrap, trap, urls
from pytest_etcdtls.untrusted.printable import file_word, pasted, shell_word
from pytest_etcdtls.versions import version_key


def _in_use(etcd: Effective, side: TLSSide) -> Iterator[CRLFile]:
    """Yield the file of the list that is declared for a side, if etcd reads one."""
    if side.crl_file is not None and side.requests_certificate and etcd.secure(side):
        yield etcd.member.crls.get(side.crl_file) or CRLFile(declared=side.crl_file)


@trap("crl-without-client-auth", cure=client_certificates)
def a_revocation_list_has_client_authentication(etcd: Effective, side: TLSSide) -> Iterator[FoundTrap]:
    """A revocation list is declared together with client authentication.

    etcd checks revocation only for certificates that clients send. Without client authentication a revoked
    client connects without a certificate and is accepted.

    Spec: etcd --client-crl-file, --peer-crl-file
    Follows: config.unknown-*
    Severity: critical
    Level: MUST
    Remediation: give --client-cert-auth=true and --trusted-ca-file, for peers --peer-client-cert-auth=true
        and --peer-trusted-ca-file.
    """
    if side.crl_file is not None and not side.requests_certificate and etcd.secure(side):
        p = prefix(side.side)
        yield FoundTrap(
            summary=f"--{side.side}-crl-file refuses no client: no certificate is requested",
            remedy=f"give --{p}client-cert-auth=true and --{p}trusted-ca-file",
            settings=etcd.settings(f"{side.side}-crl-file"),
            listeners=etcd.secure_urls(side),
        )


@trap("crl-missing", on_the_wire=True)
def the_revocation_list_exists(etcd: Effective, side: TLSSide) -> Iterator[FoundTrap]:
    """The declared revocation list exists at its path.

    etcd reads it at every connection. If the file is missing, etcd closes the connection of every client that
    presents a certificate. On the member's own machine that is a fault, whoever is accepted: an etcd that
    accepts clients was started without the list. Elsewhere a good client whose connection etcd closes shows
    it.

    Spec: etcd --{side}-crl-file
    Severity: critical
    Level: MUST
    Remediation: put a DER encoded list at the path of --{side}-crl-file; etcd needs no restart.
    """
    for crl in _in_use(etcd, side):
        if not crl.known:
            where = f"{crl.path} {crl.unread}" if crl.path else f"{side.crl_file} is not here"
            yield FoundTrap(
                summary=f"{where}; where etcd does not find it or cannot read it, every client with a "
                "certificate is refused",
                remedy="put the CRL there, in DER",
                settings=etcd.settings(f"{side.side}-crl-file"),
                listeners=etcd.secure_urls(side),
                certain=False,
            )


@trap("crl-encoding")
def the_revocation_list_can_be_read(etcd: Effective, side: TLSSide) -> Iterator[FoundTrap]:
    """The declared revocation list has an encoding that this etcd can read.

    etcd 3.6 and newer reads DER in version 2 only (Go's x509.ParseRevocationList). etcd up to 3.5 reads DER
    in any version without data after the list, and PEM if the file begins with it (x509.ParseCRL). With a
    list that it cannot read, etcd refuses every client that presents a certificate, after the handshake and
    without an alert.

    Spec: etcd --client-crl-file, --peer-crl-file
    Spec: RFC 5280 section 5.1
    Severity: critical
    Level: MUST
    Remediation: convert it with `openssl crl -in crl.pem -outform DER -out crl.der`; a list of version 1 has
        to be issued again, with extensions (`openssl ca -gencrl -crlexts SECTION`). etcd reads it at every
        connection and needs no restart.
    """
    for crl in _in_use(etcd, side):
        if crl.known and crl.read_by(etcd.version).error:
            summary, remedy = _crl_problem(crl, f"--{side.side}-crl-file", etcd.version)
            yield FoundTrap(
                summary=summary,
                remedy=remedy,
                settings=etcd.settings(f"{side.side}-crl-file"),
                listeners=etcd.secure_urls(side),
                certain=etcd.version is not None or bool(crl.up_to_3_5.error and crl.since_3_6.error),
                remediation=remedy,
            )


@trap("crl-one-list")
def the_revocation_list_is_the_only_one(etcd: Effective, side: TLSSide) -> Iterator[FoundTrap]:
    """Every revocation list in the declared file is in force.

    etcd up to 3.5 reads the first PEM block of the file and ignores the others without a message, so clients
    that a later list revokes are accepted. etcd 3.6 and newer reads no PEM at all.

    Spec: etcd --client-crl-file, --peer-crl-file
    Severity: critical
    Level: MUST
    Remediation: have one list issued with the serial numbers of all, in DER; etcd compares serial numbers
        only, so the issuer does not matter. etcd reads it at every connection and needs no restart.
    """
    for crl in _in_use(etcd, side):
        reading = crl.read_by(etcd.version)
        unread = crl.serial_numbers - reading.serial_numbers
        if crl.known and not reading.error and unread:
            yield FoundTrap(
                summary=f"{side.crl_file} has {crl.lists} lists, and etcd reads only the first: "
                f"{len(unread)} revoked {'certificate is' if len(unread) == 1 else 'certificates are'} "
                "accepted",
                remedy=_ONE_LIST,
                settings=etcd.settings(f"{side.side}-crl-file"),
                listeners=etcd.secure_urls(side),
            )


@trap("crl-ignored-on-grpc")
def the_revocation_list_applies_to_grpc(etcd: Effective, side: TLSSide) -> Iterator[FoundTrap]:
    """The declared revocation list also applies to the gRPC port.

    With --listen-client-http-urls, etcd before 3.5.32, 3.6.13 and 3.7.0 does not check the list on the gRPC
    port, so revoked clients can read and write keys.

    Spec: GHSA-3wh4-j44w-pg92
    Spec: etcd --client-crl-file, --listen-client-http-urls
    Severity: critical
    Level: MUST
    Remediation: upgrade to etcd 3.5.32, 3.6.13 or 3.7.0, or drop --listen-client-http-urls.
    """
    ignoring = tuple(
        listener
        for listener in etcd.secure(side)
        if listener.crl is CRLEffect.IGNORED and side.crl is not CRLEffect.IGNORED
    )
    if ignoring:
        yield FoundTrap(
            summary=f"revoked clients are served by gRPC on {', '.join(urls(ignoring))}: etcd "
            f"{etcd.version} does not read the CRL there",
            remedy="upgrade etcd, or remove --listen-client-http-urls",
            settings=etcd.settings("client-crl-file", "listen-client-http-urls"),
            listeners=urls(ignoring),
        )


_ONE_LIST: Final = "have one list issued with all serial numbers, in DER: etcd compares only those"


def _crl_problem(crl: CRLFile, flag: str, version: str | None) -> tuple[str, str]:
    """Return why a version of etcd cannot read a file, and what to do (``pki/go_crl.py`` has the rules)."""
    refused = "every client with a certificate is refused"
    error = "it is empty" if crl.empty else crl.read_by(version).error
    if not crl.lists:
        unreadable = f"{crl.declared} is not a CRL that etcd can read ({error})"
        return f"{unreadable}: {refused}", "replace it with a CRL in DER"
    form = "PEM" if crl.pem else "DER"
    other = str(PurePosixPath(crl.declared).with_suffix(".der"))
    other = f"{other}.new" if other == crl.declared else other
    # The declared path: on the member is what counts, and a replay's copy is gone when this is read.
    files = ("-in", file_word(crl.declared), "-outform", "DER", "-out", file_word(other))
    convert = f"convert it: {pasted('openssl', 'crl', '-inform', form, *files)}"
    convert += f", and give {flag}={shell_word(other)}: every version reads that"
    if version_key(version) < (3, 6):
        return (
            f"etcd up to 3.5 cannot read {crl.declared} ({error}): {refused}",
            _ONE_LIST if crl.lists > 1 else convert,
        )
    kind = "PEM" if crl.pem else "a list of version 1" if crl.up_to_3_5.error == "" else f"no list ({error})"
    reissue = (
        "have the CA issue it in version 2, with extensions: `openssl ca -gencrl -crlexts SECTION`; in DER"
    )
    return (
        f"{crl.declared} is {kind}, which etcd reads up to 3.5 only: from 3.6 on {refused}",
        _ONE_LIST if crl.lists > 1 else convert if crl.version_2 else reissue,
    )
