"""Checks of a user: one for every outcome, without any observation, and one that waits."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator

from pytest_etcdtls.checks.registry import check
from pytest_etcdtls.results import CannotJudge, Finding, Note, Outcome, Statement
from pytest_etcdtls.role import Role

CLIENT = {Role.CLIENT}
FINDING = Finding(
    message="the house is on fire",
    expected="no fire",
    observed="fire",
    evidence={"colour": "orange"},
    reproduce=("curl https://house/fire",),
)


@check("house.conforms", on=CLIENT, counterexample=dict)
def conforms() -> Iterator[Statement]:
    """The house stands.

    Spec: House rules, 1
    Severity: low
    Level: MUST
    Remediation: none needed.
    """
    yield Note("as ever")


@check("house.violates", on=CLIENT, counterexample=dict)
def violates() -> Iterator[Statement]:
    """The house does not burn.

    Fire destroys houses.

    Spec: House rules, 2
    Severity: critical
    Level: MUST
    Remediation: put it out with --{peer}water-file.
    """
    yield FINDING


@check("house.warns", on=CLIENT, counterexample=dict)
def warns() -> Iterator[Statement]:
    """The house should not smoke.

    Spec: House rules, 3
    Severity: low
    Level: SHOULD
    Remediation: sweep the chimney.
    """
    yield Finding(message="there is smoke", expected="none", observed="some")


@check("house.not-applicable", on=CLIENT, counterexample=dict)
def not_applicable() -> Iterator[Statement]:
    """The cellar is dry.

    Spec: House rules, 4
    Severity: low
    Level: MUST
    Remediation: pump.
    """
    yield CannotJudge(Outcome.NOT_APPLICABLE, "there is no cellar")


@check("house.not-verified", on=CLIENT, counterexample=dict)
def not_verified() -> Iterator[Statement]:
    """The attic is dry.

    Spec: House rules, 5
    Severity: low
    Level: MUST
    Remediation: mend the roof.
    """
    yield CannotJudge(Outcome.NOT_VERIFIED, "needs a ladder: pass --ladder")


@check("house.inconclusive", on=CLIENT, counterexample=dict)
def inconclusive() -> Iterator[Statement]:
    """The door opens.

    Spec: House rules, 6
    Severity: low
    Level: MUST
    Remediation: oil it.
    """
    yield CannotJudge(Outcome.INCONCLUSIVE, "nobody answered the door")


@check("house.broken", on=CLIENT, counterexample=dict)
def broken() -> Iterator[Statement]:
    """The check works.

    Spec: House rules, 7
    Severity: low
    Level: MUST
    Remediation: mend the check.
    """
    yield Note(str(1 // int("0")))


@check("house.waits", on=CLIENT, counterexample=dict)
def waits() -> Iterator[Statement]:
    """The check comes to an end.

    With HOUSE_STARTED in the environment it writes to that pipe, and then waits for another that nobody
    writes to.

    Spec: House rules, 8
    Severity: low
    Level: MUST
    Remediation: wait.
    """
    started = os.environ.get("HOUSE_STARTED")
    if started:
        with open(started, "w", encoding="utf-8") as pipe:
            pipe.write("started")
        forever = os.open(os.environ["HOUSE_FOREVER"], os.O_RDONLY | os.O_NONBLOCK)
        # Python handles a signal that comes just before a system call after it, so no call takes long.
        while not select.select([forever], [], [], 0.05)[0]:
            pass
        os.close(forever)
    yield Note("no need to wait")
