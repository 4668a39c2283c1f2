"""The members that the cluster lists, who said so, and what became of their advertised URLs. Facts only."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Fate(StrEnum):
    """What became of an advertised URL."""

    NAMED = "named"
    """It is, or leads to, a listener that the user named."""
    FOUND = "found"
    """It is judged because it was found."""
    NOWHERE = "nowhere"
    """It leads nobody to the member: no URL of a TCP port, no address of one machine."""
    LOCAL = "local"
    """It leads to the member on the member's own machine alone."""
    SHARED = "shared"
    """Another member advertises it as well."""
    LEFT_OUT = "left out"
    """It is not judged because of a limit or a setting of this run."""


class Means(StrEnum):
    """By what a listener was asked for the member list."""

    GRPC = "gRPC"
    GATEWAY = "the JSON gateway"
    MEMBERS = "/members"


JUDGED = frozenset({Fate.NAMED, Fate.FOUND})
"""What became of URLs whose listeners are judged."""

_SHOWN = 9
"""Members that are named in a sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberURL:
    """A URL that a member advertises, and what became of it.

    Attributes:
        url: as the member advertises it, shortened and with nothing that a terminal would act upon.
        role: of the listener that it stands for: ``client`` or ``peer``.
        listener: label of the listener that is judged for it, empty if none is.
        why: why it is not judged; if it is judged under another URL, which.
    """

    url: str
    role: str
    fate: Fate
    listener: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscoveredMember:
    """A member as the cluster lists it.

    Attributes:
        id: the member ID, in lower-case hexadecimal without leading zeros.
        name: shortened; empty until the member has been started.
        learner: it has no vote yet.
        started: it has told its name or its client URLs.
        urls: what it advertises, to clients and to peers.
    """

    id: str
    name: str
    learner: bool
    started: bool
    urls: tuple[MemberURL, ...]

    @property
    def title(self) -> str:
        """Its name, else its ID."""
        return self.name or self.id

    def of_role(self, role: str) -> tuple[MemberURL, ...]:
        """Return what it advertises for that role."""
        return tuple(found for found in self.urls if found.role == role)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One listener that was asked for the member list.

    Attributes:
        why_not: why it gave none, empty if it did.
    """

    url: str
    means: Means
    why_not: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Discovery:
    """The members that the cluster lists, and what is judged of them.

    Attributes:
        questions: in the order in which they were asked; only the last one can have been answered.
        members: of the list; empty if nobody gave one.
        beyond: how many more the list has, which are not looked at.
        unused_rules: rules of ``--etcd-connect-to`` that are for none of the listeners.
    """

    questions: tuple[Question, ...]
    members: tuple[DiscoveredMember, ...] = ()
    beyond: int = 0
    unused_rules: tuple[str, ...] = ()

    @property
    def source(self) -> Question | None:
        """Who gave the list; ``None`` if nobody did."""
        return self.questions[-1] if self.members else None

    def describe(self) -> str:
        """Return who the members are and who says so: ``2 members, by gRPC of https://...: m0, m1``."""
        if self.source is None:
            return "nobody gave the member list"
        number = len(self.members) + self.beyond
        names = [
            f"{member.title}{' (learner)' if member.learner else ''}" for member in self.members[:_SHOWN]
        ]
        more = [f"and {number - _SHOWN} more"] if number > _SHOWN else []
        plural = "s" if number > 1 else ""
        listed = ", ".join([*names, *more])
        return f"{number} member{plural}, by {self.source.means} of {self.source.url}: {listed}"
