"""A trap: settings whose effect differs from what they appear to declare.

A trap is not a wrong setting but a misunderstood one: the operator reads one thing in it and etcd does
another. So its rule compares what is written (:class:`Declaration`) with what comes of it
(:class:`Effective`).

A trap is one object: a rule, whose docstring is that of the check ``config.ID`` (requirement, reason,
references, severity, level, remediation), and a cure. Its check is made of it (``checks/config_traps.py``).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator

from msgspec import Struct
from msgspec.structs import replace

from pytest_etcdtls.declared.cures import Cure
from pytest_etcdtls.declared.declaration import Setting
from pytest_etcdtls.declared.effective import Effective, EffectiveListener


class FoundTrap(Struct, frozen=True, kw_only=True):
    """A trap that was found in a declaration.

    Attributes:
        id: that of the trap, which sets it.
        summary: what etcd does, in one sentence.
        remedy: what to write instead, with the names of flags.
        settings: the settings that cause it.
        listeners: the URLs that it concerns; empty for the whole member.
        starts: ``False`` if etcd does not start.
        certain: ``False`` if it depends on something unknown, such as the version.
        of_tls: ``False`` if no listener is affected.
        harmless: ``True`` if nobody is accepted or refused because of it: the check then warns.
        remediation: the whole of what to do; empty where the trap's own remediation is needed too.
    """

    id: str = ""
    summary: str
    remedy: str
    settings: tuple[Setting, ...] = ()
    listeners: tuple[str, ...] = ()
    starts: bool = True
    certain: bool = True
    of_tls: bool = True
    harmless: bool = False
    remediation: str = ""


Rule = Callable[..., Iterator[FoundTrap]]


class Trap(Struct, frozen=True, kw_only=True):
    """One trap.

    Attributes:
        id: a slug; its check is ``config.ID``.
        rule: yields what is found. Its docstring is that of the check.
        cure: what to change in the declaration.
        on_the_wire: only the wire shows whether it is real, so its check is a function of its own.
        of_side: the rule has a second parameter, a ``TLSSide``, and is applied to each side.
    """

    id: str
    rule: Rule
    cure: Cure | None = None
    on_the_wire: bool = False
    of_side: bool = False

    def find(self, etcd: Effective) -> Iterator[FoundTrap]:
        """Yield this trap as often as the declaration has it."""
        for side in etcd.sides.values() if self.of_side else (None,):
            for match in self.rule(etcd, side) if side else self.rule(etcd):
                yield replace(match, id=self.id)


def trap(id_: str, *, cure: Cure | None = None, on_the_wire: bool = False) -> Callable[[Rule], Trap]:
    """Make a trap of its rule; the arguments are the attributes of :class:`Trap`."""

    def make(rule: Rule) -> Trap:
        of_side = len(inspect.signature(rule).parameters) == 2
        return Trap(id=id_, rule=rule, cure=cure, on_the_wire=on_the_wire, of_side=of_side)

    return make


def urls(listeners: tuple[EffectiveListener, ...]) -> tuple[str, ...]:
    """Return the URLs of listeners."""
    return tuple(str(listener.url) for listener in listeners)


def spellings(settings: tuple[Setting, ...]) -> str:
    """Return how settings are spelled, in one line."""
    return ", ".join(setting.spelled for setting in settings)
