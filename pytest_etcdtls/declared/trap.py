"""A trap: a declaration that does something else than it says.

Values only. Does not know any particular trap.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pytest_etcdtls.declared.crl_file import CRLFile
from pytest_etcdtls.declared.declaration import Declaration, Setting
from pytest_etcdtls.declared.effective_listener import Effective, EffectiveListener
from pytest_etcdtls.declared.sides import SIDES, Side, TLSSide
from pytest_etcdtls.role import Role


@dataclass(frozen=True, slots=True, kw_only=True)
class Trap:
    """Something in a declaration that does not do what it says.

    Attributes:
        id: what it is called, a slug.
        summary: what etcd does, one sentence.
        why: the explanation for people.
        remedy: what to write instead, with the names of flags.
        settings: that make it.
        listeners: URLs that it concerns; empty for the whole member.
        starts: ``False`` if etcd does not even start with it.
        certain: ``False`` if it depends on something that is not known here, such as the version.
    """

    id: str
    summary: str
    why: str
    remedy: str
    settings: tuple[Setting, ...] = ()
    listeners: tuple[str, ...] = ()
    starts: bool = True
    certain: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What a trap is looked for in.

    Attributes:
        declaration: as it was read.
        seen: without what this version ignores.
        effective: what etcd makes of it.
        crls: the CRL files that were looked at, by declared path.
    """

    declaration: Declaration
    seen: Declaration
    effective: Effective
    crls: Mapping[str, CRLFile] = field(default_factory=dict)

    @property
    def version(self) -> str | None:
        """Of etcd, ``None`` if it is not known."""
        return self.effective.version

    def settings(self, *names: str) -> tuple[Setting, ...]:
        """Return those of the settings that are given."""
        return tuple(self.seen.settings[name] for name in names if name in self.seen.settings)

    def sides(self) -> tuple[TLSSide, ...]:
        """Return both sides."""
        return tuple(self.effective.sides[side] for side in SIDES)

    def secure(self, side: Side) -> tuple[EffectiveListener, ...]:
        """Return the listeners of a side that speak TLS."""
        return tuple(
            listener
            for listener in self.effective.listeners
            if listener.tls and (listener.role is Role.PEER) == (side == "peer")
        )


def urls(listeners: tuple[EffectiveListener, ...]) -> tuple[str, ...]:
    """Return the URLs of listeners."""
    return tuple(str(listener.url) for listener in listeners)


def spellings(settings: tuple[Setting, ...]) -> str:
    """Return how settings are spelled, in one line."""
    return ", ".join(setting.spelled for setting in settings)
