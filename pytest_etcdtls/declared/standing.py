"""A declaration as it stands against the etcd that runs: what that version makes of it, at one listener.

Values only. Does not know how the version was found out, nor what the wire says.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

from pytest_etcdtls.declared.declaration import Setting
from pytest_etcdtls.declared.effective import effective_of
from pytest_etcdtls.declared.effective_listener import Effective, EffectiveListener
from pytest_etcdtls.declared.member import DeclaredMember
from pytest_etcdtls.declared.sides import Side, TLSSide
from pytest_etcdtls.declared.trap import Trap
from pytest_etcdtls.declared.traps import traps_of
from pytest_etcdtls.role import Role


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberDeclaration:
    """What one member was told to be, and what its etcd makes of it.

    Attributes:
        label: of the member.
        told: the declaration and its files.
        version: of the etcd that runs, as it was seen; ``None`` if it does not tell.
        effective: what that version does; of today's etcd if neither the wire nor the declaration tells one.
        traps: what in the declaration does not do what it says, in that version.
    """

    label: str
    told: DeclaredMember
    version: str | None
    effective: Effective
    traps: tuple[Trap, ...]

    @classmethod
    def of(cls, label: str, told: DeclaredMember, version: str | None) -> Self:
        """Return what that version of etcd makes of what a member was told."""
        effective, traps = effective_of(told, version), traps_of(told, version)
        return cls(label=label, told=told, version=version, effective=effective, traps=traps)

    def as_read(self, name: str) -> Setting | None:
        """Return the setting that a reader of the declaration believes; ``None`` if it is not given.

        Where a configuration file hides flags and variables, that is the hidden one.
        """
        hidden = [setting for setting in self.told.declaration.hidden if setting.name == name]
        return hidden[-1] if hidden else self.told.declaration.settings.get(name)

    @property
    def starts(self) -> bool:
        """Whether etcd starts with it, by all that is certain."""
        return all(trap.starts or not trap.certain for trap in self.traps)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerDeclaration:
    """What was declared about one listener that is judged.

    Attributes:
        url: of the listener, as it is judged.
        role: of the listener.
        member: what its member was told to be.
        listener: the declared listener that it is; ``None`` if nothing declares one there.
    """

    url: str
    role: Role
    member: MemberDeclaration
    listener: EffectiveListener | None

    @property
    def side(self) -> Side:
        """Whose settings apply: the peers' on peer listeners, else the clients'."""
        return "peer" if self.role is Role.PEER else "client"

    @property
    def tls(self) -> TLSSide:
        """The TLS settings that apply, also where the declared listener does not speak TLS."""
        return self.member.effective.sides[self.side]

    def setting(self, name: str) -> Setting | None:
        """Return the setting in the declaration, ``None`` if it is not given."""
        return self.member.told.declaration.settings.get(name)

    def traps(self, id_: str | None = None) -> Iterator[Trap]:
        """Yield the traps of that id, by default of any, that concern this listener."""
        declared = None if self.listener is None else str(self.listener.url)
        for trap in self.member.traps:
            if id_ in (None, trap.id) and (not trap.listeners or declared in trap.listeners):
                yield trap

    def traps_of(self, setting: Setting) -> Iterator[Trap]:
        """Yield the traps that the setting is in and that concern this listener, etcd started with it."""
        for trap in self.traps():
            if trap.starts and any(other.name == setting.name for other in trap.settings):
                yield trap


@dataclass(frozen=True, slots=True)
class Declarations:
    """What the target's members were told to be, one each, in the order of their labels; never empty."""

    members: tuple[MemberDeclaration, ...]
