"""What the user decided about judging, as an observation that checks can ask for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The user's own bounds.

    Attributes:
        expiry_days: certificates that end within so many days are warned about (``--etcd-expiry-days``).
    """

    expiry_days: int
