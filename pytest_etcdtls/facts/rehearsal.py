"""What the next restart of etcd changes, from a rehearsal: ``--etcd-rehearse``.

The program of the running etcd is started once more, with its settings, its user and the files of now
(:mod:`pytest_etcdtls.run.rehearsal`), and observed as the running one was. What differs is a change.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from pytest_etcdtls.errors import NotVerifiedError, Reason, missing
from pytest_etcdtls.facts.behaviour import BehaviourChange
from pytest_etcdtls.facts.fact import fact
from pytest_etcdtls.target import StartFailure, Target

LISTENER: Final = "listener"
"""The topic of a listener that is opened or closed."""


class Rehearsal(Struct, frozen=True, kw_only=True):
    """A start of a member that was rehearsed.

    Attributes:
        member: the label of the member.
        source: what it was started with: the process, or a declaration.
        failure: why it does not start; ``None`` if it does.
        changes: what differs from the running etcd.
        unknown: what was observed of the running etcd, and could not be of this one; each says why.
        causes: what was changed since that was started, as far as it is known: files and settings.
        upgrade: that another release is started than the one that runs; empty if it is the same.
        compared: the topics that were observed of the running etcd, and so could differ.
        seconds: time from the start until it served.
    """

    member: str
    source: str
    failure: StartFailure | None = None
    changes: tuple[BehaviourChange, ...] = ()
    unknown: tuple[BehaviourChange, ...] = ()
    causes: tuple[str, ...] = ()
    upgrade: str = ""
    compared: tuple[str, ...] = ()
    seconds: float = 0.0


class Rehearsals(Struct, frozen=True, kw_only=True):
    """The rehearsals of a target's members; at least one.

    Attributes:
        refused: why the start of another member was not rehearsed.
    """

    members: tuple[Rehearsal, ...]
    refused: tuple[Reason | str, ...] = ()

    def started_with(self, source: str) -> str:
        """Return a sentence that etcd started with a declaration in a rehearsal; empty if it did not."""
        started = any(each.failure is None and each.source == source for each in self.members)
        return f"a rehearsal with {source} has started" if started else ""


@fact
def rehearsals(_: Target) -> Rehearsals:
    """Say that there is none. A judge that rehearses records it, after all other facts (``judge.py``)."""
    raise NotVerifiedError(missing("no restart was rehearsed", "--etcd-pid", "--etcd-rehearse"))
