"""Facts of conforming etcds, for tests: the recorded ones, and those that no recording has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace
from unrecorded import add_unrecorded

from pytest_etcdtls.checks.registry import Check
from pytest_etcdtls.errors import UnobservedError
from pytest_etcdtls.facts.access import ServedClient
from pytest_etcdtls.facts.access_matrix import AccessMatrix
from pytest_etcdtls.facts.fact import Need
from pytest_etcdtls.role import Role
from pytest_etcdtls.run.conforming import NotRecordedError, observers
from pytest_etcdtls.target import Listener
from pytest_etcdtls.tls.attempt import Attempt


def add_to_recording() -> None:
    """Add to the recorded targets what no recording has."""
    for observer in observers():
        add_unrecorded(observer)


def roles_of(check: Check) -> Sequence[Role | None]:
    """Return the roles that a check is proved for; ``None`` for the whole target."""
    return sorted(check.roles) or (None,)


def sample_listener(role: Role) -> Listener:
    """Return the first recorded listener of that role."""
    return next(here for observer in observers() if (here := observer.target.first_of(role)) is not None)


def sample(need: Need, role: str) -> Any:
    """Return what a check asks for on a listener of that role, of the first recorded target that has it."""
    add_to_recording()
    reasons = []
    for observer in observers():
        here = observer.target.first_of(Role(role))
        if here is None:
            continue
        try:
            return observer.get(need.type, need.key, here)
        except (NotRecordedError, UnobservedError) as error:
            reasons.append(str(error))
    raise LookupError(f"no recorded target has {need.type.__name__}: {'; '.join(reasons)}")


def served(**changes: Any) -> Attempt:
    """Return the attempt of the accepted client that was served over TLS 1.3, with these fields changed."""
    client = sample(Need(ServedClient), Role.CLIENT).client
    attempt: Attempt = client.cases[-1].tries[-1]
    return replace(attempt, **changes)


def refused(**changes: Any) -> Attempt:
    """Return an attempt that was refused over TLS 1.3 with alert 42, with these fields changed."""
    cases = sample(Need(AccessMatrix, "none"), Role.CLIENT).cases
    attempt: Attempt = cases[-1].tries[-1]
    return replace(attempt, **{"alert": 42} | changes)
