"""Two machines: network namespaces of the test, connected by a veth pair."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest


@dataclass(frozen=True)
class Machine:
    """A network namespace.

    Attributes:
        name: of the namespace.
        address: on the cable.
    """

    name: str
    address: str

    @property
    def prefix(self) -> tuple[str, ...]:
        """The arguments before a program that run it there."""
        return ("ip", "netns", "exec", self.name)


@contextmanager
def two_machines() -> Iterator[tuple[Machine, Machine]]:
    """Create two machines that reach only each other; skip the test if this user, or this system, cannot."""
    token = f"etcdtls-{os.getpid()}"
    first = Machine(f"{token}-a", "10.111.0.1")
    second = Machine(f"{token}-b", "10.111.0.2")
    try:
        for machine in (first, second):
            _ip("netns", "add", machine.name)
        # The interfaces are made inside: the machine that the tests run on never sees them.
        _ip(
            *_in(first), "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", second.name
        )
        for machine in (first, second):
            _ip(*_in(machine), "address", "add", f"{machine.address}/30", "dev", "cable")
            for device in ("cable", "lo"):
                _ip(*_in(machine), "link", "set", device, "up")
        yield first, second
    finally:
        for machine in (first, second):
            subprocess.run(["ip", "netns", "delete", machine.name], capture_output=True, check=False)


def _in(machine: Machine) -> tuple[str, str]:
    return ("-netns", machine.name)


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, encoding="utf-8", check=False)
    if done.returncode != 0:
        pytest.skip(f"needs network namespaces (root): ip {' '.join(arguments)}: {done.stderr.strip()}")
