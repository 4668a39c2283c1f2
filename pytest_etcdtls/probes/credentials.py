"""Which good identities can be presented on a listener, and what is minted with its CA's key.

Presents none. What it returns holds keys and therefore never is an
observation of a report (those live in ``pytest_etcdtls.observations``).
"""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.x509.oid import NameOID

from pytest_etcdtls.errors import NotVerifiedError
from pytest_etcdtls.observations.listener import Answer
from pytest_etcdtls.pki import identities
from pytest_etcdtls.pki.authority import CertificateAuthority
from pytest_etcdtls.pki.identity import Identity
from pytest_etcdtls.pki.names import names_host
from pytest_etcdtls.probes.contact import listener_of
from pytest_etcdtls.probes.registry import Context, probe
from pytest_etcdtls.target import PortCredentials, Role

MINTED = "minted"
"""The good identity that is made with a CA's key, and the valid twin of the bad ones made with it."""


@dataclass(frozen=True, slots=True)
class GoodIdentities:
    """The good identities of a listener, in the order in which they are tried; they hold keys."""

    identities: tuple[Identity, ...]


@dataclass(frozen=True, slots=True)
class Workshop:
    """The identities minted with the CA's key of a listener, made once; they hold keys."""

    minted: dict[str, Identity]


@probe(Workshop, cost=0, needs=[(Answer, None)])
def _workshop(context: Context, key: str | None) -> Workshop:
    listener = listener_of(context)
    credentials = context.target.credentials(listener.role)
    signing = credentials.signing_key
    if signing is None:
        side = "peer-" if listener.role is Role.PEER else ""
        raise NotVerifiedError(f"needs the key of the CA that signs its clients: pass --etcd-{side}ca-key")
    authority = CertificateAuthority.from_key(signing.certificate, signing.key)
    files = (signing.certificate_file or "ca.crt", signing.key_file or "ca.key")
    common_name = credentials.allowed_cn[0] if credentials.allowed_cn else identities.COMMON_NAME
    names = _admitted_names(context, credentials)
    return Workshop(
        identities.mint_all(authority, common_name=common_name, subject_alt_names=names, ca_files=files)
    )


def _admitted_names(context: Context, credentials: PortCredentials) -> tuple[str, ...]:
    """Return the names that a good certificate must have, none if no rule about hostnames is known.

    Once it has names, etcd's SAN rule wants our address among them.
    """
    if not credentials.allowed_hostname:
        return ()
    addresses = {attempt.local_address for attempt in context.get(Answer).tls if attempt.local_address}
    return (credentials.allowed_hostname[0], *sorted(_host(address) for address in addresses))


def _host(address: str) -> str:
    return address.rpartition(":")[0].strip("[]").partition("%")[0]


def is_admitted(identity: Identity, credentials: PortCredentials) -> bool:
    """Return whether the rules about names that etcd was told of, if any, let the identity in."""
    if not identity.chain:
        return True
    leaf, hostnames = identity.chain[0], credentials.allowed_hostname
    common_names = {str(name.value) for name in leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)}
    return (not credentials.allowed_cn or bool(common_names & set(credentials.allowed_cn))) and (
        not hostnames or any(names_host(leaf, hostname) for hostname in hostnames)
    )


@probe(GoodIdentities, cost=0, needs=[(Workshop, None)])
def _good(context: Context, key: str | None) -> GoodIdentities:
    credentials = context.target.credentials(listener_of(context).role)
    # One that the declared rules exclude is rightly refused, and no control.
    good = tuple(one for one in credentials.identities if is_admitted(one, credentials))
    good = good or credentials.identities
    if credentials.signing_key is not None:
        good += (context.get(Workshop).minted[MINTED],)
    return GoodIdentities(good)
