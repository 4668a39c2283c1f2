"""Who is let in: one identity on one listener, in every TLS version and protocol, with its control."""

from __future__ import annotations

from dataclasses import dataclass

from cryptography import x509

from pytest_etcdtls.observations.attempt import Attempt, Protocol, TLSVersion, Way


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """The same connection with a good identity.

    Attributes:
        identity: name of the good identity, ``None`` if none is known.
        tries: its attempts, the last one counts; empty if none is known.
        twin: the identity is the valid twin of a minted bad one.
    """

    identity: str | None = None
    tries: tuple[Attempt, ...] = ()
    twin: bool = False

    @property
    def attempt(self) -> Attempt | None:
        """The attempt that counts."""
        return self.tries[-1] if self.tries else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One identity in one TLS version and protocol.

    Attributes:
        tries: its attempts, the last one counts.
    """

    version: TLSVersion
    protocol: Protocol
    tries: tuple[Attempt, ...]
    control: Control

    @property
    def attempt(self) -> Attempt:
        """The attempt that counts."""
        return self.tries[-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """All that was seen of one identity on one listener.

    Attributes:
        role: of the listener.
        identity: its name.
        has_names: its certificate has SANs, so that etcd's SAN rule applies to it where it is in force.
        certificate: its subject and issuer in words, empty for ``none``.
        recipe: shell lines that make an equivalent identity, for commands to paste.
        files: paths of certificate and key, or the names that the recipe writes; ``None`` for ``none``.
        cells: one per TLS version and protocol that the listener speaks.
        instead_of: the name of the identity that could not be presented, if this one was served and so
            decides about it; the cells are then those that were served. Empty for the identity itself.
    """

    url: str
    role: str
    identity: str
    has_names: bool = False
    certificate: str = ""
    recipe: tuple[str, ...] = ()
    files: tuple[str, str] | None = None
    cells: tuple[Cell, ...] = ()
    instead_of: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A good identity and how it fared on a listener.

    Attributes:
        origin: where it comes from.
        minted: it was made here with the CA's key.
        has_names: its certificate has SANs.
        excluded: a declared rule about names excludes its certificate, so that it is rightly refused.
        tries: by TLS version and protocol; the last try of each counts.
        chain: the certificates that it sends, leaf first.
    """

    identity: str
    origin: str
    minted: bool
    has_names: bool
    files: tuple[str, str] | None
    tries: tuple[tuple[TLSVersion, Protocol, tuple[Attempt, ...]], ...]
    excluded: bool = False
    chain: tuple[x509.Certificate, ...] = ()

    def attempt(self, version: TLSVersion, protocol: Protocol) -> tuple[Attempt, ...]:
        """Return the tries in that TLS version and protocol, empty if there were none."""
        return next((tries for v, p, tries in self.tries if (v, p) == (version, protocol)), ())

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """The attempts that count."""
        return tuple(tries[-1] for _, _, tries in self.tries)

    @property
    def spoken(self) -> tuple[Protocol, ...]:
        """The protocols in which an answer could be read, in any TLS version."""
        return tuple(dict.fromkeys(p for _, p, tries in self.tries if tries[-1].response is not None))

    @property
    def served(self) -> tuple[Attempt, ...]:
        """The attempts that were served an answer that could be read."""
        return tuple(attempt for attempt in self.attempts if attempt.response is not None)

    @property
    def ways(self) -> frozenset[Way]:
        """The ways in which its attempts ended."""
        return frozenset(attempt.way for attempt in self.attempts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Acceptance:
    """The good identities tried on a listener, in order, until one was accepted.

    Attributes:
        candidates: in the order tried; the last one is the accepted one, if any was.
        accepted: the one that was served, ``None`` if none was.
        san_rule: etcd's SAN rule applies on this listener (peer, https metrics).
        versions: TLS versions that the listener offers.
    """

    url: str
    role: str
    candidates: tuple[Candidate, ...]
    accepted: Candidate | None
    san_rule: bool
    versions: tuple[TLSVersion, ...]

    @property
    def reference(self) -> Candidate | None:
        """The candidate that serves as control: the accepted one, else the one that tells most."""
        if self.accepted is not None:
            return self.accepted
        plain = [found for found in self.candidates if not self.closed_by_san_rule(found)]
        return next(iter(plain or self.candidates), None)

    def closed_by_san_rule(self, candidate: Candidate) -> bool:
        """Whether etcd's SAN rule can explain that the candidate was closed after the handshake."""
        return self.san_rule and candidate.has_names and candidate.ways == {Way.CLOSED}


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedClient:
    """A client that a listener serves, whoever that is.

    Attributes:
        role: of the listener.
        client: the accepted good identity; without one, the client without a certificate if it is served;
            ``None`` if neither is.
    """

    url: str
    role: str
    client: Candidate | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Encounter:
    """One identity at one place.

    Attributes:
        identity: its name.
        closes: etcd itself closes such a client after the handshake, so that a close is a refusal.
    """

    url: str
    identity: str
    version: TLSVersion
    protocol: Protocol
    attempt: Attempt
    closes: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Encounters:
    """Every identity that was tried on a listener, in every TLS version and protocol.

    Attributes:
        role: of the listener.
        split: what was tried on the HTTP listener that is split off it, empty if there is none.
        split_url: its URL, empty if there is none.
    """

    url: str
    role: str
    here: tuple[Encounter, ...]
    split: tuple[Encounter, ...] = ()
    split_url: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitRevocation:
    """A revoked identity where HTTP is split off the gRPC port.

    Attributes:
        grpc: what was seen of it on the gRPC port.
        http: what was seen of it on the HTTP port.
    """

    grpc: Admission
    http: Admission
