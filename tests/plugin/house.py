"""Checks of a user: one for every outcome, without any observation, and one that waits."""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Iterator

from pytest_etcdtls.checks.registry import check
from pytest_etcdtls.checks.results import CannotJudge, Finding, Note, Outcome, Statement
from pytest_etcdtls.role import Role

FIRE = Finding(
    message="the house is on fire",
    expected="no fire",
    observed="fire",
    evidence={"colour": "orange"},
    reproduce=("curl https://house/fire",),
)


def _crash() -> Statement:
    return Note(str(1 // int("0")))


def _wait() -> Statement:
    """With HOUSE_STARTED in the environment, write to that pipe and wait for one that nobody writes to."""
    started = os.environ.get("HOUSE_STARTED")
    if started:
        with open(started, "w", encoding="utf-8") as pipe:
            pipe.write("started")
        forever = os.open(os.environ["HOUSE_FOREVER"], os.O_RDONLY | os.O_NONBLOCK)
        # Python handles a signal that comes just before a system call after it, so no call takes long.
        while not select.select([forever], [], [], 0.05)[0]:
            pass
        os.close(forever)
    return Note("no need to wait")


def _add(number: int, id_: str, requirement: str, says: Callable[[], Statement], **fields: str) -> None:
    def house() -> Iterator[Statement]:
        yield says()

    lines = {"Spec": f"House rules, {number}", "Severity": "low", "Level": "MUST", "Remediation": "mend it."}
    house.__doc__ = "\n\n".join(
        [requirement, "\n".join(f"{key}: {text}" for key, text in (lines | fields).items())]
    )
    check(f"house.{id_}", on={Role.CLIENT}, counterexample=dict)(house)


_add(1, "conforms", "The house stands.", lambda: Note("as ever"))
_add(
    *(2, "violates", "The house does not burn.\n\nFire destroys houses.", lambda: FIRE),
    Severity="critical",
    Remediation="put it out with --{peer}water-file.",
)
_add(
    *(3, "warns", "The house should not smoke."),
    lambda: Finding(message="there is smoke", expected="none", observed="some"),
    Level="SHOULD",
)
_add(
    *(4, "not-applicable", "The cellar is dry."),
    lambda: CannotJudge(Outcome.NOT_APPLICABLE, "there is no cellar"),
)
_add(
    *(5, "not-verified", "The attic is dry."),
    lambda: CannotJudge(Outcome.NOT_VERIFIED, "needs a ladder: pass --ladder"),
)
_add(
    *(6, "inconclusive", "The door opens."),
    lambda: CannotJudge(Outcome.INCONCLUSIVE, "nobody answered the door"),
)
_add(7, "broken", "The check works.", _crash)
_add(8, "waits", "The check comes to an end.", _wait)
