"""Under which URLs a member is known to its clients and peers. Facts only."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnURLs:
    """The URLs that the member behind a listener advertises for that port.

    Attributes:
        role: of the listener.
        member: the member's name, as etcd lists it.
        advertised: its client URLs, on a peer listener its peer URLs.
    """

    url: str
    role: str
    member: str
    advertised: tuple[str, ...]
