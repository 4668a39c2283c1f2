"""Clients that make requests one after the other, each in a thread of its own, and are counted.

Knows neither what a request is nor what happens to the cluster meanwhile.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Self

from pytest_etcdtls.observations.experiment import Tally

_EXAMPLES = 3
_SECONDS = 15.0
"""After which nobody waits for requests any more; each ends within a time-out of its own."""


class UnclearError(Exception):
    """There was no answer in time."""


class LostError(Exception):
    """A request was refused, answered with an error, or cut off."""


@dataclass
class _Count:
    """What one client has seen so far; guarded by the condition of the traffic."""

    served: int = 0
    lost: int = 0
    unclear: int = 0
    examples: list[str] = field(default_factory=list)
    leaf: bytes = b""

    @property
    def requests(self) -> int:
        return self.served + self.lost + self.unclear

    def tally(self) -> Tally:
        return Tally(served=self.served, lost=self.lost, unclear=self.unclear, examples=tuple(self.examples))


class Traffic:
    """Clients that make requests until they are told to stop."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._stop = False
        self._counts: dict[str, _Count] = {}
        self._threads: list[threading.Thread] = []

    def add(self, client: str, request: Callable[[], bytes], gate: AbstractContextManager[object]) -> None:
        """Add a client.

        Args:
            client: in words.
            request: makes a request, returns the DER of the certificate that was served if it was seen.
            gate: entered for every request.
        """
        self._counts[client] = _Count()
        # A daemon, so that an interrupt between two lines of ours leaves nothing to wait for.
        thread = threading.Thread(target=self._work, args=(client, request, gate), name=client, daemon=True)
        self._threads.append(thread)

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._stop = True
        for thread in self._threads:
            thread.join()

    def await_requests(self, number: int, leaf: bytes | None = None) -> bool:
        """Wait until every client has made so many more requests, or one has seen the certificate.

        In the latter case every other client has made one more request at least.
        """
        with self._changed:
            start = {name: count.requests for name, count in self._counts.items()}

            def made(least: int) -> bool:
                return all(count.requests - start[name] >= least for name, count in self._counts.items())

            def seen() -> bool:
                return leaf is not None and any(count.leaf == leaf for count in self._counts.values())

            self._changed.wait_for(lambda: made(number) or (seen() and made(1)), _SECONDS)
            return seen()

    def tallies(self) -> dict[str, Tally]:
        """Return what every client has seen."""
        with self._changed:
            return {name: count.tally() for name, count in self._counts.items()}

    def _work(self, client: str, request: Callable[[], bytes], gate: AbstractContextManager[object]) -> None:
        count = self._counts[client]
        while not self._stop:
            try:
                with gate:
                    leaf = request()
            except UnclearError as error:
                self._note(count, lost=False, what=str(error))
            except LostError as error:
                self._note(count, lost=True, what=str(error))
            else:
                with self._changed:
                    count.served += 1
                    count.leaf = leaf
                    self._changed.notify_all()

    def _note(self, count: _Count, *, lost: bool, what: str) -> None:
        with self._changed:
            count.lost += lost
            count.unclear += not lost
            if len(count.examples) < _EXAMPLES:
                count.examples.append(what)
            self._changed.notify_all()
