"""What a client observes of a target, as values that are compared between targets, runs and starts.

:mod:`pytest_etcdtls.facts.observed` makes them of facts.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import Annotated, Final, TypeVar

from msgspec import Meta, Struct
from msgspec.structs import replace

from pytest_etcdtls.untrusted.printable import some

_Name = Annotated[str, Meta(max_length=512)]


_SOME: Final = 4


class Behaviour(Struct, frozen=True, order=True):
    """One thing that a client can observe, in words that depend on no machine, moment or PKI.

    Attributes:
        listener: the label of the listener, the role of one that was started for an experiment, or
            ``cluster``.
        topic: the kind of behaviour: ``access``, ``alert``, ``suites`` ...
        subject: an identity, an experiment or a path; may be empty.
        detail: a TLS version or a step of an experiment; may be empty.
        value: a word or a sentence; several are sorted and joined by :data:`SEPARATOR`.
    """

    listener: _Name
    topic: _Name
    subject: _Name
    detail: _Name
    value: Annotated[str, Meta(max_length=4096)]

    @property
    def place(self) -> tuple[str, str, str, str]:
        """What has the value: listener, topic, subject and detail."""
        return self.listener, self.topic, self.subject, self.detail


SEPARATOR: Final = "; "
"""Separates the values of a :class:`Behaviour` that has several."""
BUILD: Final = "build"
"""The topic of etcd's build. A different build explains other differences, and is not counted as one."""
GATEWAY: Final = "gateway"
"""The topic of whether the JSON gateway works."""


class BehaviourChange(Struct, frozen=True, kw_only=True):
    """A behaviour that has changed, on the listeners and in the cases in which the change is the same.

    Attributes:
        topic: the kind of behaviour.
        subjects: identities, paths, properties of a certificate ...
        details: in which cases: TLS versions, steps; may be empty.
        listeners: labels in the later target.
        before: the value then; several are separated as in :class:`Behaviour`.
        after: the value now.
        why: what explains it, in words; empty if that is not known.
    """

    topic: str
    subjects: tuple[str, ...]
    details: tuple[str, ...] = ()
    listeners: tuple[str, ...]
    before: str
    after: str
    why: str = ""

    @property
    def about(self) -> str:
        """What differs, with the first of many."""
        details = f" ({some(self.details, _SOME)})" if any(self.details) else ""
        subjects = some(self.subjects, _SOME)
        of = {"alert": "alert for ", "lifecycle": "experiment: "}.get(self.topic, "")
        return f"{of}{subjects}{details}"

    @property
    def change(self) -> str:
        """Both values, ``before -> after``; if the behaviour has several, those removed and added."""
        return self.changed(str)

    def changed(self, shown: Callable[[str], str]) -> str:
        """Return the change, each value as it is shown."""
        if not self.has_several:
            return f"{shown(self.before)} -> {shown(self.after)}"
        removed, added = (some([*map(shown, values)], _SOME) for values in self.removed_and_added)
        return ", ".join([f"without {removed}"] * bool(removed) + [f"new {added}"] * bool(added))

    @property
    def has_several(self) -> bool:
        """Whether the behaviour has several values, in one of the two observations."""
        return SEPARATOR in f"{self.before}{self.after}"

    @property
    def removed_and_added(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The values that are gone, and those that are new."""
        before, after = (text.split(SEPARATOR) for text in (self.before, self.after))
        return (
            tuple(value for value in before if value not in after and value != "none"),
            tuple(value for value in after if value not in before and value != "none"),
        )

    @property
    def text(self) -> str:
        """What differs, why, and where."""
        where = f" ({', '.join(self.listeners)})" if self.listeners else ""
        return f"{self.about}: {self.change}{': ' * bool(self.why)}{self.why}{where}"


def changes(
    before: Iterable[Behaviour], after: Iterable[Behaviour], place: Callable[[str], str] = str
) -> list[BehaviourChange]:
    """Return what was observed both times, with different values. The build is left out: it explains them.

    Args:
        before: the behaviour then.
        after: the behaviour now.
        place: returns the listener now for a listener then; empty for none.
    """
    now = {one.place: one for one in after}
    pairs = ((old, now.get((place(old.listener), *old.place[1:]))) for old in before if old.topic != BUILD)
    return merged(
        BehaviourChange(
            topic=new.topic,
            subjects=(new.subject,),
            details=(new.detail,),
            listeners=(new.listener,),
            before=old.value,
            after=new.value,
        )
        for old, new in pairs
        if new is not None and new.value != old.value
    )


Change = TypeVar("Change", bound=BehaviourChange)


def merged(changes: Iterable[Change], apart: Callable[[Change], Hashable] = lambda _: ()) -> list[Change]:
    """Merge equal changes of several listeners, cases or subjects into one.

    Args:
        changes: the changes.
        apart: returns what else must be equal.
    """
    found = list(changes)
    for name in ("listeners", "details", "subjects"):
        groups: dict[Hashable, list[Change]] = {}
        for one in found:
            same = {part: getattr(one, part) for part in BehaviourChange.__struct_fields__} | {name: ()}
            groups.setdefault((*same.values(), apart(one)), []).append(one)
        found = [
            replace(alike[0], **{name: tuple(sorted({text for one in alike for text in getattr(one, name)}))})
            for alike in groups.values()
        ]
    return found
