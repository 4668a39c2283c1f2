"""The identity that stands for each name that a listener must refuse.

Some need nothing but the listener. Others are issued with the key of its CA, and differ from their valid
counterpart in one point only. Without that key, a certificate that we hold is presented if it breaks the same
rule, and no other. A certificate of another role is good where it belongs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from cryptography import x509
from msgspec import Struct

from pytest_etcdtls.errors import NotApplicableError, NotVerifiedError, Reason, needs
from pytest_etcdtls.facts.access import AcceptedConnections
from pytest_etcdtls.facts.certificates import ClientTrust
from pytest_etcdtls.facts.fact import Lazy, fact
from pytest_etcdtls.facts.good_identities import (
    IssuedIdentities,
    credentials_at,
    declared_crl,
    listed,
    local_host,
    meets_name_rules,
)
from pytest_etcdtls.facts.listener import FirstContact, ServedChain, TLSContact
from pytest_etcdtls.pki import identities
from pytest_etcdtls.pki.authority import CertificateAuthority
from pytest_etcdtls.pki.certificate import name_text, purposes, read_name, shown
from pytest_etcdtls.pki.go_verify import CLIENT_AUTH, Path, allows, find_path
from pytest_etcdtls.pki.profile import NO_CERTIFICATE, Identity
from pytest_etcdtls.role import Role
from pytest_etcdtls.target import Listener, PortCredentials, SigningKey, Target, TrustBundle, key_beside
from pytest_etcdtls.untrusted.printable import comment

NOT_ISSUED = (
    "none",
    "self-signed",
    "foreign-ca",
    "lookalike-ca",
    "revoked",
    "client-certificate",
    "peer-certificate",
    "server-certificate",
)
"""The identities that need no key of a CA of etcd."""


def with_distinct_names(target: Target) -> Target:
    """Return the target with one name for each good certificate, none of which a run gives itself.

    Observations, reports and comparisons tell identities apart by their names. A user's names are free: a
    client and a peer may both be called ``client``, or a good client ``expired``.
    """
    chains: dict[str, Path | None] = dict.fromkeys((*NOT_ISSUED, *identities.ISSUED_NAMES))

    def distinct(identity: Identity) -> Identity:
        name, number = identity.name, 2
        while chains.setdefault(name, identity.chain) != identity.chain:
            name, number = f"{identity.name}-{number}", number + 1
        return identity if name == identity.name else replace(identity, name=name)

    client, peer = (
        replace(
            port,
            identities=tuple(map(distinct, port.identities)),
            named=distinct(port.named) if port.named else None,
        )
        for port in (target.client, target.peer)
    )
    # Fixtures of one test have the same target, so it is copied only to change it.
    if (client.identities, peer.identities) == (target.client.identities, target.peer.identities):
        return target
    return replace(target, client=client, peer=peer)


@fact(reported=False)
def issued_identities(here: Listener, target: Target, contact: Lazy[FirstContact]) -> IssuedIdentities:
    """Issue one certificate of each kind with the key of the CA that signs the listener's clients.

    Raises:
        NotVerifiedError: if the key is not known.
    """
    credentials = credentials_at(here, target)
    signing = credentials.signing_key
    if signing is None:
        option, beside = f"--etcd-{here.role.prefix}ca-key", key_beside(credentials.client_trust)
        raise NotVerifiedError(
            needs("the key of the CA that signs its clients", option, passing=f"{option}{beside}")
        )
    names: tuple[str, ...] = ()
    if credentials.allowed_hostname:
        # On peer and metrics listeners etcd compares the SANs, if there are any, with our address.
        hosts = {host for attempt in contact.get().tls if (host := local_host(attempt))}
        names = (_untried(credentials.allowed_hostname, credentials), *sorted(hosts))
    issued = identities.issue_identities(
        CertificateAuthority.from_key(signing.certificate, signing.key),
        common_name=_untried(credentials.allowed_cn or (identities.COMMON_NAME,), credentials, cn=True),
        subject_alt_names=names,
        ca_files=signing.files,
    )
    return IssuedIdentities({name: _made_with(signing, identity) for name, identity in issued.items()})


def _untried(names: tuple[str, ...], credentials: PortCredentials, *, cn: bool = False) -> str:
    """Return the first allowed name that none of our identities has, else the first of all."""
    rules = {
        name: PortCredentials(allowed_cn=(name,)) if cn else PortCredentials(allowed_hostname=(name,))
        for name in names
    }
    untried = (
        name
        for name, rule in rules.items()
        if not any(meets_name_rules(identity.chain, rule) for identity in credentials.identities)
    )
    return next(untried, names[0])


def _made_with(signing: SigningKey, identity: Identity) -> Identity:
    """Return the identity with a recipe that says which files it needs, if the CA is in none."""
    if signing.certificate_file and signing.key_file:
        return identity
    certificate, key = signing.files
    wanted = comment(
        f"write the CA {shown(signing.certificate)} and its key to {certificate} and {key} first"
    )
    return replace(identity, recipe=(wanted, *identity.recipe))


class ClientIdentity(Struct, frozen=True):
    """An identity ready to be presented; holds a key.

    Attributes:
        valid_counterpart: name of the good identity that differs in one point only, ``None`` if there is
            none.
        held: why no identity could be issued; given for one that we hold, and reported if it proves nothing.
            Empty for all others.
    """

    identity: Identity
    valid_counterpart: str | None = None
    held: Reason | str = ""


@fact(reported=False)
def client_identity(
    here: Listener,
    target: Target,
    key: str,
    contact: Lazy[TLSContact],
    chain: Lazy[ServedChain],
    issued: Lazy[IssuedIdentities],
    good: Lazy[AcceptedConnections],
    trust: Lazy[ClientTrust],
) -> ClientIdentity:
    """Return the identity of that name: made or issued for the run, or one that we hold.

    Raises:
        NotApplicableError: if the rule that it breaks is not in force here.
        NotVerifiedError: if it needs a key that is not known.
        UnobservedError: if what it is made from is not known.
    """
    credentials = credentials_at(here, target)

    def held() -> Iterator[Identity]:
        """Yield identities that a rule may exclude: the accepted one, then those of the same CA."""
        trusted = trust.known()
        anchors = trusted.certificates if trusted else ()
        if good.get().client.accepted is not None:
            yield good.get().identity
            path = _path(good.get().identity, anchors)
            anchors = path[-1:] if path else ()
        yield from (identity for identity in _ours(here, target) if _path(identity, anchors))

    match key:
        case "none":
            identity = NO_CERTIFICATE
        case "self-signed":
            identity = identities.self_signed()
        case "foreign-ca":
            identity = identities.foreign_ca()
        case "lookalike-ca":
            identity = _lookalike(contact.get(), credentials.client_trust)
        case "revoked":
            identity = _revoked(here, target, held)
        case "client-certificate":
            identity = _client_certificate(target)
        case "peer-certificate":
            identity = _peer_certificate(target)
        case "server-certificate":
            identity = _server_certificate(chain.get().leaf, _ours(here, target))
        case _:
            return _broken(key, credentials, issued, held, good)
    return ClientIdentity(identity)


def _broken(
    key: str,
    credentials: PortCredentials,
    issued: Lazy[IssuedIdentities],
    held: Callable[[], Iterator[Identity]],
    good: Lazy[AcceptedConnections],
) -> ClientIdentity:
    """Return an issued identity that breaks one rule; without the CA's key, one that we hold and that does.

    Raises:
        NotApplicableError: if it breaks a rule about names, and none is known.
        NotVerifiedError: if there is none.
    """
    rules = {"wrong-cn": credentials.allowed_cn, "wrong-hostname": credentials.allowed_hostname}
    if not rules.get(key, (key,)):
        name = "common name" if key == "wrong-cn" else "hostname"
        raise NotApplicableError(f"no rule about the {name} of a certificate is known to be declared here")
    try:
        identity = issued.get().issued[key]
    except NotVerifiedError as missing:
        accepted = good.get().client.accepted
        ahead = (accepted.clock_ahead if accepted else None) or timedelta()
        for identity in held():
            if _breaks_only(key, identity, credentials, ahead):
                return ClientIdentity(identity, held=missing.why)
        raise
    return ClientIdentity(identity, identities.VALID_COUNTERPARTS.get(key))


def _path(identity: Identity, anchors: Path) -> Path | None:
    return find_path(identity.chain[0], identity.chain[1:], anchors, datetime.now(UTC))


def _ours(here: Listener, target: Target) -> Iterator[Identity]:
    """Yield the key pairs that we hold, those for the port first."""
    ports = [target.client, target.peer]
    for credentials in reversed(ports) if here.role is Role.PEER else ports:
        yield from (identity for identity in (*credentials.identities, *credentials.served) if identity.chain)


def _breaks_only(name: str, identity: Identity, credentials: PortCredentials, ahead: timedelta) -> bool:
    """Return whether the rule that the named identity breaks, and it alone, excludes a certificate.

    Args:
        name: of the identity.
        identity: with the certificate.
        credentials: with the declared rules about names.
        ahead: how far the server's clock is ahead of ours. The server judges by its own, and a certificate
            that is bad by ours alone is good.
    """
    leaf, now = identity.chain[0], datetime.now(UTC)
    theirs = now + ahead
    broken = {
        "expired": min(now, theirs) > leaf.not_valid_after_utc,
        "not-yet-valid": max(now, theirs) < leaf.not_valid_before_utc,
        "server-auth-only": not allows(leaf, CLIENT_AUTH),
        "wrong-cn": not meets_name_rules(identity.chain, replace(credentials, allowed_hostname=())),
        "wrong-hostname": not meets_name_rules(identity.chain, replace(credentials, allowed_cn=())),
    }
    return [rule for rule, breaks in broken.items() if breaks] == [name]


def _revoked(here: Listener, target: Target, held: Callable[[], Iterator[Identity]]) -> Identity:
    """Return a certificate that the CRL revokes: given, ours, or issued with a serial number of the CRL."""
    credentials = target.credentials(here.role)
    if credentials.revoked is not None:
        return replace(credentials.revoked, name="revoked")
    crl = declared_crl(here, target)
    if not crl.serial_numbers:
        raise NotApplicableError(f"{crl.path} revokes nothing")
    for identity in held():
        if listed(identity.chain, crl.serial_numbers):
            return replace(identity, name="revoked")
    signing = credentials.signing_key
    if signing is None:
        issuer = f", such as {name_text(crl.issuer)}" if crl.issuer else ""
        option = f"--etcd-{here.role.prefix}ca-key"
        key = f"{key_beside(credentials.client_trust)}, the key of a CA that etcd trusts"
        raise NotVerifiedError(
            needs(f"a certificate that {crl.path} revokes", option, passing=f"{option}{key}{issuer}")
        )
    identity = identities.revoked(
        CertificateAuthority.from_key(signing.certificate, signing.key),
        serial=min(crl.up_to_3_5.serial_numbers or crl.serial_numbers),
        ca_files=signing.files,
    )
    return _made_with(signing, identity)


def _client_certificate(target: Target) -> Identity:
    if not target.client.identities:
        raise NotVerifiedError(needs("a client certificate", "--etcd-cert", "--etcd-key"))
    return target.client.identities[0]


def _peer_certificate(target: Target) -> Identity:
    """Return a certificate that only peers use: one valid for servers if there is one, else the first."""
    clients = {identity.chain[0] for identity in target.client.identities if identity.chain}
    own = [
        identity for identity in target.peer.identities if identity.chain and identity.chain[0] not in clients
    ]
    if not own:
        raise NotVerifiedError(needs("a peer certificate", "--etcd-peer-cert", "--etcd-peer-key"))
    for_servers = (identity for identity in own if "serverAuth" in (purposes(identity.chain[0]) or ()))
    return next(for_servers, own[0])


def _server_certificate(served: x509.Certificate, ours: Iterator[Identity]) -> Identity:
    for identity in ours:
        if identity.chain[0] == served:
            return identity
    key, passing = "the key of the served certificate", "--etcd-config where its files are"
    raise NotVerifiedError(needs(key, "--etcd-config", passing=passing))


def _lookalike(contact: FirstContact, trust: TrustBundle | None) -> Identity:
    announced = {der: None for attempt in contact.tls for der in attempt.announced_ca}
    # A lookalike CA needs a name that can be encoded again.
    names = tuple(name for der in announced if (name := read_name(der)).public_bytes() == der)
    return identities.lookalike_ca(names, trust.certificates if trust else ())
