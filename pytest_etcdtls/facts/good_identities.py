"""The good identities of a port, and what the declaration says about a certificate.

A good identity is one that a listener must accept: the user's, or one issued with the key of its CA. etcd's
rules about names (``VerifyPeerCertificate`` in client/pkg/transport/listener.go) may exclude it, and a
revocation list may name it: etcd compares the serial number of every certificate that a client sends
(``checkCRL`` in client/pkg/transport/listener_tls.go).
"""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum

from cryptography.x509.oid import NameOID
from msgspec import Struct

from pytest_etcdtls.declared.declaration import CRLFile
from pytest_etcdtls.declared.effective import effective_of
from pytest_etcdtls.errors import NotApplicableError, NotVerifiedError, missing
from pytest_etcdtls.facts.fact import fact
from pytest_etcdtls.pki.certificate import name_text
from pytest_etcdtls.pki.go_parser import details
from pytest_etcdtls.pki.go_verify import Path, names_host
from pytest_etcdtls.pki.profile import Identity
from pytest_etcdtls.target import Listener, PortCredentials, Target
from pytest_etcdtls.tls.attempt import Attempt

ISSUED = "issued"
"""The good identity issued with a CA's key; the valid counterpart of the bad identities issued with it."""


class GoodIdentities(Struct, frozen=True):
    """The good identities of a listener, in the order in which they are tried; they hold keys."""

    identities: tuple[Identity, ...]


class IssuedIdentities(Struct, frozen=True):
    """The identities issued with the CA's key of a listener, made once; they hold keys."""

    issued: dict[str, Identity]


def local_host(attempt: Attempt) -> str:
    """Return our address of an attempt, without a zone; empty if it is not known."""
    return attempt.local_address.rpartition(":")[0].strip("[]").partition("%")[0]


def credentials_at(here: Listener, target: Target) -> PortCredentials:
    """Return the credentials for a listener, with the rules about names that its member alone declares."""
    credentials, declared = target.credentials(here.role), target.declared.get(here.member)
    if declared is None or credentials.allowed_cn or credentials.allowed_hostname:
        return credentials
    tls = effective_of(declared, target.etcd_version).sides[here.role.side]
    return replace(credentials, allowed_cn=tls.allowed_cn, allowed_hostname=tls.allowed_hostname)


def meets_name_rules(chain: Path, credentials: PortCredentials) -> bool:
    """Return whether the declared rules about names, if any, accept a client with this chain."""
    if not chain:
        return True
    leaf, hostnames = chain[0], credentials.allowed_hostname
    common_names = {str(name.value) for name in leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)}
    return (not credentials.allowed_cn or not common_names.isdisjoint(credentials.allowed_cn)) and (
        not hostnames or any(names_host(leaf, hostname) for hostname in hostnames)
    )


@fact(reported=False)
def good_identities(here: Listener, target: Target, issued: IssuedIdentities | None) -> GoodIdentities:
    """Return the identities that the user gave for the port, and one issued with the CA's key."""
    credentials = credentials_at(here, target)
    # A refusal of an identity that the declared rules exclude is correct, so it is no control. The one that
    # the user named is judged all the same.
    held = tuple(one for one in credentials.identities if _is_of_member(one, here, target))
    good = tuple(one for one in held if one == credentials.named or meets_name_rules(one.chain, credentials))
    good = good or held
    return GoodIdentities((*good, issued.issued[ISSUED]) if issued is not None else good)


def _is_of_member(identity: Identity, here: Listener, target: Target) -> bool:
    """Return whether a member may be presented an identity: not what only another process can read."""
    owner = target.process_of(identity.certificate_file or "")
    process = target.running.get(here.member)
    return owner is None or process is None or process.shares_files_with(owner)


def describe(chain: Path) -> str:
    """Return subject and issuer of a client's certificate in words, empty without one."""
    if not chain:
        return ""
    leaf = chain[0]
    return f"subject {name_text(leaf.subject) or '(empty)'}, issuer {name_text(leaf.issuer)}"


class Revocation(StrEnum):
    """Whether etcd closes the connection of a client because of its serial numbers, as far as is declared."""

    UNKNOWN = "unknown"
    NO_LIST = "no revocation list is declared"
    NOT_LISTED = "not on the declared revocation list"
    LISTED = "on the declared revocation list"


def declared_crl(here: Listener, target: Target) -> CRLFile:
    """Return the revocation list that is declared for the listener.

    Raises:
        NotApplicableError: if none is declared.
        NotVerifiedError: if that is not known, or the file is not here.
    """
    declared = target.declared.get(here.member)
    if declared is None:
        raise NotVerifiedError(
            missing("it is unknown whether a revocation list is in force", "--etcd-config")
        )
    setting = declared.declaration.settings.get(f"{here.role.side}-crl-file")
    if setting is None or not setting.value:
        raise NotApplicableError("no revocation list is declared here")
    crl = declared.crls.get(setting.value)
    if crl is None or crl.path is None:
        passing = "a directory with a copy by --etcd-pki-dir"
        raise NotVerifiedError(missing(f"{setting} is not here", "--etcd-pki-dir", passing=passing))
    if crl.unread:
        text, passing = f"{setting}: {crl.path} {crl.unread}", "a copy by --etcd-pki-dir"
        raise NotVerifiedError(missing(text, "--etcd-pki-dir", passing=passing))
    return crl


def listed(chain: Path, serial_numbers: frozenset[int]) -> Path:
    """Return the certificates, of those that a client sends, whose serial number is on a revocation list.

    etcd compares nothing else, and that of each certificate (``checkCRL`` in its listener_tls.go).
    """
    return tuple(sent for sent in chain if abs(details(sent).serial_number) in serial_numbers)


def revocation_of(here: Listener, target: Target, identity: Identity) -> Revocation:
    """Return whether the revocation list declared for the listener names a certificate of the identity."""
    try:
        crl = declared_crl(here, target)
    except NotApplicableError:
        return Revocation.NO_LIST
    except NotVerifiedError:
        return Revocation.UNKNOWN
    return Revocation.LISTED if listed(identity.chain, crl.serial_numbers) else Revocation.NOT_LISTED
