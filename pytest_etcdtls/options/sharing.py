"""What an xdist controller tells its workers: the listeners that it found, so that no worker asks for them.

Plain values in both directions; xdist sends nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pytest

from pytest_etcdtls.target import Listener, Role

_TOLD = "etcdtls_listeners"


def is_worker(config: pytest.Config) -> bool:
    """Return whether this process is an xdist worker."""
    return hasattr(config, "workerinput")


def tell(workerinput: dict[str, Any], listeners: Sequence[Listener]) -> None:
    """Put the listeners into what a worker is told."""
    workerinput[_TOLD] = [asdict(listener) | {"role": str(listener.role)} for listener in listeners]


def told(config: pytest.Config) -> tuple[Listener, ...]:
    """Return the listeners that the controller told us; none if it told none, or we are no worker."""
    workerinput: Mapping[str, Any] = getattr(config, "workerinput", {})
    return tuple(_listener(values) for values in workerinput.get(_TOLD, ()))


def _listener(values: Mapping[str, Any]) -> Listener:
    there = values["connect_to"]
    return Listener(**{**values, "role": Role(values["role"]), "connect_to": tuple(there) if there else None})
