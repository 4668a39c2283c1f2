"""What etcd answers to an accepted client: version, health, members."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_etcdtls.observations.attempt import Attempt


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One GET by the accepted good identity.

    Attributes:
        path: of the URL.
        tries: attempts, the last one counts.
    """

    url: str
    role: str
    path: str
    tries: tuple[Attempt, ...]

    @property
    def attempt(self) -> Attempt:
        """The attempt that counts."""
        return self.tries[-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberRecord:
    """One member as etcd lists it.

    Attributes:
        id: the member ID, in lower-case hexadecimal without leading zeros.
    """

    id: str
    name: str
    peer_urls: tuple[str, ...]
    client_urls: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberLists:
    """The member list by two ways.

    Attributes:
        by_peer: what the peer listener's ``/members`` says.
        by_client: what ``MemberList`` on a client listener says.
    """

    url: str
    by_peer: tuple[MemberRecord, ...]
    by_client: tuple[MemberRecord, ...]
    client_url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionAnswers:
    """``/version`` of a member's listeners: pairs of URL and parsed body, the peer listener first."""

    answers: tuple[tuple[str, dict[str, str]], ...]
