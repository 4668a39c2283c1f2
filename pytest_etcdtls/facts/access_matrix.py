"""Who is accepted: each identity in each TLS version and protocol, beside a good one.

An identity that cannot be presented may still be decided: where a client without a certificate is served, or
one with a certificate of an unknown CA, a narrower rule refuses nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Annotated

from msgspec import Struct
from msgspec.structs import replace

from pytest_etcdtls.errors import NotApplicableError, NotVerifiedError, needs
from pytest_etcdtls.facts.access import (
    PROTOCOLS,
    AcceptedClient,
    Access,
    Candidate,
    Combination,
    ServedClient,
    Trial,
    san_rule_of,
    served_protocols,
)
from pytest_etcdtls.facts.bad_identities import ClientIdentity
from pytest_etcdtls.facts.fact import Each, Lazy, Planned, Wire, fact, same_key
from pytest_etcdtls.facts.good_identities import (
    GoodIdentities,
    IssuedIdentities,
    Revocation,
    credentials_at,
    describe,
    revocation_of,
)
from pytest_etcdtls.facts.listener import FirstContact, TLSContact
from pytest_etcdtls.facts.refusal import CLOSED_BY_ETCD, SANRule, is_of_etcd
from pytest_etcdtls.pki import identities
from pytest_etcdtls.pki.profile import NO_CERTIFICATE, Identity
from pytest_etcdtls.role import Protocol, Role, TLSVersion
from pytest_etcdtls.target import Listener, Target
from pytest_etcdtls.tls.attempt import Attempt, Ending


class AccessMatrix(Struct, frozen=True, kw_only=True):
    """The attempts of one identity on one listener, in each TLS version and protocol.

    Attributes:
        san_rule: whether etcd's SAN rule explains that connections were closed.
        certificate: its subject and issuer in words, empty for ``none``.
        cases: one per TLS version and protocol that the listener serves. That of the gateway has the attempts
            over HTTP/1.1 if TLS refused them, since the handshake is the same.
        instead_of: name of an identity that could not be presented, if this identity was served and so
            decides the result for it. The cases are then those that were served. Empty otherwise.
    """

    identity: str
    san_rule: SANRule = SANRule.ACCEPTS
    certificate: str = ""
    cases: Access = Access()
    instead_of: str = ""


class IdentityAttempts(Struct, frozen=True, kw_only=True):
    """Every identity that was tried on a listener, in every TLS version and protocol.

    Attributes:
        here: the cases on the listener.
        split: those on the member's separate HTTP listener, empty if there is none.
    """

    here: Access
    split: Access = Access()


class SplitRevocation(Struct, frozen=True, kw_only=True):
    """The attempts of a revoked identity where HTTP has a listener separate from the gRPC port.

    Attributes:
        grpc: what was seen of it on the gRPC port.
        http: what was seen of it on the HTTP port.
    """

    grpc: AccessMatrix
    http: AccessMatrix


OTHER_ROLES = frozenset({"client-certificate", "peer-certificate", "server-certificate"})
"""Good identities of other roles, tried on listeners that they are not meant for."""

UNTRUSTED_IDENTITIES = ("none", "self-signed", "foreign-ca")
"""Bad identities that need nothing but the listener. Where one of them is served, a narrower rule refuses no
client: a client that the rule excludes can present this identity instead."""


def _protocols(key: str | None, known: tuple[Protocol, ...]) -> tuple[Protocol, ...]:
    """Return the protocols to try with an identity: for one of another role, one protocol is enough."""
    return known[:1] if key in OTHER_ROLES else known


def _matrix_cost(planned: Planned) -> int:
    listener = planned.listener
    if listener is None or listener.scheme == "http":
        return 0
    credentials = credentials_at(listener, planned.target)
    known = {
        "wrong-cn": bool(credentials.allowed_cn),
        "wrong-hostname": bool(credentials.allowed_hostname),
        "revoked": bool(planned.target.configured_by_user or credentials.revoked or planned.target.declared),
    }
    if not known.get(str(planned.key), True):
        return 0
    # After a close that decides the result, the control is repeated.
    tries = 2 if planned.key in CLOSED_BY_ETCD or planned.key in OTHER_ROLES else 1
    return tries * len(TLSVersion) * len(_protocols(planned.key, PROTOCOLS[listener.role]))


def _counterpart(planned: Planned) -> Iterable[str]:
    counterpart = identities.VALID_COUNTERPARTS.get(str(planned.key))
    return () if counterpart is None else (counterpart,)


def _untrusted(planned: Planned) -> Iterable[str]:
    return [name for name in UNTRUSTED_IDENTITIES if name != planned.key]


class TriedIdentity(Struct, frozen=True):
    """The attempts of an identity itself, as opposed to those of one that decides for it."""

    matrix: AccessMatrix


@fact
def access_matrix(
    here: Listener,
    target: Target,
    key: str,
    tried: Lazy[Annotated[TriedIdentity, same_key]],
    untrusted: Lazy[Annotated[AccessMatrix, _untrusted]],
) -> AccessMatrix:
    """Return the attempts of an identity; if it cannot be presented, those that decide the result for it."""
    try:
        return tried.get().matrix
    except NotVerifiedError as missing:
        served = served_instead(here, target, key, untrusted.known)
        if served is None:
            raise NotVerifiedError(missing.why) from missing
        return served


def served_instead(
    here: Listener, target: Target, key: str, known: Callable[[str], AccessMatrix | None]
) -> AccessMatrix | None:
    """Return a served identity that decides the result for one that cannot be presented.

    Args:
        here: the listener.
        target: its target.
        key: name of the identity that cannot be presented.
        known: returns the attempts of an untrusted identity, if they can be obtained.
    """
    if key in UNTRUSTED_IDENTITIES:
        return None  # one untrusted identity decides nothing for another, and two would need each other
    if key == "revoked" and here.member not in target.declared:
        return None  # whether a CRL is declared is not known
    for name in ("none",) if key in OTHER_ROLES else UNTRUSTED_IDENTITIES:
        matrix = known(name)
        if matrix is not None and matrix.cases.accepted:
            return replace(matrix, cases=matrix.cases.accepted, instead_of=key)
    return None


def _decides(matrix: AccessMatrix) -> bool:
    """Return whether an identity that we hold, not issued for this run, decides the result for its kind.

    It does if it is served, or if TLS refuses it and serves a good client. A close may be due to its names.
    """
    controls = {case.control.attempt.ending for case in matrix.cases if case.control}
    endings = matrix.cases.endings
    return Ending.SERVED in endings or (endings == {Ending.REFUSED} and controls == {Ending.SERVED})


@fact(connections=_matrix_cost, reported=False)
def tried_identity(
    here: Listener,
    target: Target,
    key: str,
    client: Annotated[ClientIdentity, same_key],
    good: AcceptedClient,
    counterpart: Lazy[Annotated[Candidate, _counterpart]],
    contact: TLSContact,
    known: GoodIdentities,
    issued: IssuedIdentities | None,
    wire: Wire,
) -> TriedIdentity:
    """Present an identity in each TLS version and protocol in which a good client is answered.

    Raises:
        NotVerifiedError: if it is one that we hold, and the attempts do not decide the result for its kind.
    """
    identity = client.identity
    # Where every good client waits in vain, another one would too, each time until the time-out.
    compared = client.valid_counterpart is not None and not good.hangs
    reference = counterpart.get() if compared else good.reference
    purpose = f"identity {key}" if key in OTHER_ROLES else f"bad identity {identity.name}"
    protocols = _protocols(key, served_protocols(here, good))
    cases = _known_cases(identity, protocols, good, known)
    if not cases:
        trial = Trial(wire, here, identity, purpose)
        seen = _first_contact(here, contact) if identity is NO_CERTIFICATE else {}
        direct = [protocol for protocol in protocols if protocol is not Protocol.GATEWAY]
        cases = trial.cases(good.versions, direct, seen)
        seen = {case.combination: case.tries for case in cases} | _gateway_refusals(cases)
        cases = trial.cases(good.versions, protocols, seen)
    # A certificate of another role is refused by TLS, or by a revocation list.
    listed = key in OTHER_ROLES and revocation_of(here, target, identity) is Revocation.LISTED
    closes = key in CLOSED_BY_ETCD or listed
    controls = reference.cases if reference is not None else Access()
    if reference is not None and closes:
        ours = (issued.issued if issued else {}) | {given.name: given for given in known.identities}
        trial = Trial(wire, here, ours[reference.identity], f"control {reference.identity}", good=True)
        controls = trial.again(controls, cases.ended(Ending.CLOSED))
    control_of = {control.combination: control for control in controls}
    matrix = AccessMatrix(
        identity=identity.name,
        san_rule=san_rule_of(here, target, identity, cases),
        certificate=describe(identity.chain),
        cases=Access(
            replace(case, closes=closes, control=control_of.get(case.combination)) for case in cases
        ),
    )
    if client.held and not _decides(matrix):
        raise NotVerifiedError(client.held)
    return TriedIdentity(matrix)


def _first_contact(here: Listener, contact: FirstContact) -> dict[Combination, tuple[Attempt, ...]]:
    """Return the attempts of the first contact that count as tries without a certificate over HTTP/1.1."""
    # Before the server at a discovered address has proved who it is, an attempt may end for another reason.
    if here.discovered:
        return {}
    return {
        (attempt.offered_version, Protocol.HTTP1): (attempt,)
        for attempt in contact.tls
        if attempt.offered_version and attempt.ending in (Ending.SERVED, Ending.REFUSED)
    }


def _gateway_refusals(cases: Access) -> dict[Combination, tuple[Attempt, ...]]:
    """Return the tries over HTTP/1.1 that TLS refused, as tries of the gateway."""
    # Both begin with the same ClientHello, and a server refuses a certificate before it reads a request.
    refused = cases.over(Protocol.HTTP1).ended(Ending.REFUSED)
    return {(case.version, Protocol.GATEWAY): case.tries for case in refused}


def _known_cases(
    identity: Identity, protocols: Sequence[Protocol], good: AcceptedClient, known: GoodIdentities
) -> Access:
    """Return the cases of the identity where it was tried as a good one."""
    if not any(candidate is identity for candidate in known.identities):
        return Access()
    tried = (candidate for candidate in good.candidates if candidate.identity == identity.name)
    return Access(
        replace(case, good=False) for candidate in tried for case in candidate.cases.over(*protocols)
    )


_DENIALS = frozenset({400, 401, 403})
"""Status codes with which a proxy denies a client without a certificate; nginx sends 400."""


@fact
def served_client(
    contact: FirstContact,
    good: Lazy[AcceptedClient],
    unauthenticated: Lazy[Annotated[AccessMatrix, "none"]],
) -> ServedClient:
    """Return the accepted good identity, else the client without a certificate if it is served."""
    plain = contact.plaintext
    if plain and plain.answers_plaintext and plain.response and not is_of_etcd(plain.response):
        return ServedClient(client=None, stranger=plain)
    client = good.get().accepted
    if client is None:
        nobody = Candidate(
            identity=NO_CERTIFICATE.name,
            origin=NO_CERTIFICATE.origin,
            issued=False,
            has_names=False,
            cases=Access(replace(case, good=True, control=None) for case in unauthenticated.get().cases),
        )
        statuses = {attempt.response.status for attempt in nobody.served if attempt.response is not None}
        client = nobody if nobody.served and (nobody.of_etcd or not statuses <= _DENIALS) else None
    return ServedClient(client=client)


_EVERYWHERE = ("none", "self-signed", "foreign-ca", "lookalike-ca")
_CLIENT_AND_PEER = ("expired", "not-yet-valid", "server-auth-only", "intermediate-missing")
_BY_ROLE: dict[Role, tuple[str, ...]] = {
    Role.CLIENT: (*_CLIENT_AND_PEER, "wrong-hostname", "revoked", "peer-certificate", "server-certificate"),
    Role.PEER: (
        *_CLIENT_AND_PEER,
        "wrong-hostname",
        "wrong-cn",
        "revoked",
        "wrong-san",
        "client-certificate",
    ),
    Role.METRICS: ("wrong-san", "revoked"),
    Role.CLIENT_HTTP: ("revoked",),
}
"""Identities that the checks about single identities try, by role; no other is tried for comparison."""


def _tried_on(listener: Listener | None) -> tuple[str, ...]:
    return (*_EVERYWHERE, *(_BY_ROLE[listener.role] if listener else ()))


def _compared(planned: Planned) -> Iterable[str]:
    return _tried_on(planned.listener)


Compared = Each[Annotated[AccessMatrix, _compared]]


@fact
def identity_attempts(
    here: Listener, target: Target, contact: TLSContact, good: Each[AcceptedClient], matrices: Compared
) -> IdentityAttempts:
    """Return the attempts of every identity that some check about a single one tries here."""
    split = split_off(target, here)
    return IdentityAttempts(
        here=_cases_at(here, good, matrices),
        split=_cases_at(split, good, matrices) if split else Access(),
    )


def split_off(target: Target, listener: Listener) -> Listener | None:
    """Return the member's https listener for HTTP, separate from its gRPC port, if there is one."""
    if listener.role is not Role.CLIENT:
        return None
    others = target.siblings(listener, Role.CLIENT_HTTP)
    return next((other for other in others if other.scheme == "https"), None)


def _cases_at(listener: Listener, good: Each[AcceptedClient], matrices: Compared) -> Access:
    clients = good.known(listener)
    accepted = clients.accepted if clients else None
    tried = (matrices.known(listener, name) for name in _tried_on(listener))
    return Access(
        (
            *(accepted.cases if accepted else ()),
            *(case for matrix in tried if matrix and not matrix.instead_of for case in matrix.cases),
        )
    )


@fact
def split_revocation(
    here: Listener,
    target: Target,
    contact: TLSContact,
    good: Lazy[AcceptedClient],
    revoked: Each[Annotated[AccessMatrix, "revoked"]],
) -> SplitRevocation:
    """Return the attempts of a revoked identity on the gRPC port and on the member's separate HTTP port.

    Raises:
        NotApplicableError: if HTTP is not split off the gRPC port, or without TLS.
        NotVerifiedError: if it is, and its listener is not known.
    """
    split = split_off(target, here)
    if split is None:
        if here.role is Role.CLIENT and target.siblings(here, Role.CLIENT_HTTP):
            raise NotApplicableError("HTTP is split off without TLS: nothing to compare the gRPC port with")
        accepted = good.get().accepted
        if accepted is not None and Protocol.HTTP1 not in accepted.served_protocols:
            raise NotVerifiedError(needs("the HTTP listener as well", Role.CLIENT_HTTP.option))
        raise NotApplicableError("HTTP is not split off the gRPC port")
    return SplitRevocation(grpc=revoked.at(here), http=revoked.at(split))
