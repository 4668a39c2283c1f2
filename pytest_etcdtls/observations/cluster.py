"""The members of a cluster side by side: what they serve, announce, list and advertise. Facts only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from cryptography import x509

from pytest_etcdtls.observations.api import MemberRecord
from pytest_etcdtls.observations.attempt import Attempt


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerProfile:
    """What can be seen of a listener by anybody, with no certificate.

    Attributes:
        label: of the listener.
        member: label of its member.
        versions: TLS versions that it offers.
        asked: the TLS versions in which it asks for a certificate.
        announced: the names of the CAs that it announces, in any TLS version.
        expires_at: notAfter of the certificate that it serves, aware UTC.
    """

    url: str
    role: str
    label: str
    member: str
    versions: tuple[str, ...]
    asked: tuple[str, ...]
    announced: frozenset[x509.Name]
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class SideBySide:
    """The TLS listeners of at least two members, those of one role in a row."""

    rows: tuple[tuple[ListenerProfile, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberCount:
    """How many members the target has, and how many the cluster.

    Attributes:
        given: members whose listeners were given.
        listed: members in the longest list that a listener gave; ``None`` if none did.
    """

    given: int
    listed: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterClaim:
    """Which cluster a listener says that it belongs to.

    Attributes:
        cluster_id: in lower-case hexadecimal.
        member_id: likewise; ``None`` from a peer listener, which does not tell it.
    """

    url: str
    cluster_id: str
    member_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterClaims:
    """The claims of at least two listeners."""

    claims: tuple[ClusterClaim, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberListing:
    """The member list as one listener gives it, a client listener by gRPC unless the gateway was asked.

    Attributes:
        member: label of the listener's member.
        cluster_id: of the cluster that the listener belongs to, ``None`` if it did not tell.
    """

    url: str
    member: str
    members: tuple[MemberRecord, ...]
    cluster_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberListings:
    """The member lists of every listener that gave one, at least one."""

    listings: tuple[MemberListing, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AdvertisedURL:
    """A client URL that a member advertises, and what came of contacting it.

    Attributes:
        member: the member's name, as etcd lists it.
        attempts: the contacts, one per TLS version, or one in plaintext; empty if none was made.
        why_not: why no contact was made, empty if one was.
    """

    url: str
    member: str
    attempts: tuple[Attempt, ...] = ()
    why_not: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdvertisedURLs:
    """Every client URL that the members advertise."""

    urls: tuple[AdvertisedURL, ...]
