"""Forwards on this machine that end and are started again, such as ``kubectl port-forward`` in a loop.

kubectl ends its forward, for all ports, at the first reset that a server sends on any connection. etcd resets
the connections of clients that it refuses, so every run ends the forward. A listener may be such a forward if
its address is of loopback and no process carries its connections. The sign that it is one: it answered
before, and now it refuses a connection. If a listener refuses its first connection, another one that answered
is contacted, to see whether the forward of both has ended. From the sign on,

- a refused connection is attempted again until the time limit, also to listeners that have not answered yet;
- one connection is open at a time, since every other would be lost with the forward;
- a connection that is cut is made again, a few times, since the one before may be about to end the forward.

An etcd on this machine that restarts is waited for in the same way. Once a listener that answered before does
not return within the time limit, nothing is waited for any more: an etcd that stopped costs one time limit.
So does each listener that never answered. Without the sign nothing is waited for: a listener that is closed
from the start is judged at once, after one connection to another one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Final, TypeVar

from pytest_etcdtls.target import Listener, is_loopback
from pytest_etcdtls.tls.attempt import Attempt, Ending, StreamEnd
from pytest_etcdtls.tls.hello import HelloExchange, Reply
from pytest_etcdtls.workers import is_abandoned

C = TypeVar("C", Attempt, HelloExchange)

_EVERY_SECONDS: Final = 0.1
_AGAIN: Final = 3
"""How often a connection that is cut is made again. kubectl accepts some more while it ends."""


class Forwards:
    """Makes connections, and waits for forwards that ended.

    Args:
        lost: is called with each connection that was cut and made again, or that was made to see whether a
            forward ended.
    """

    def __init__(self, lost: Callable[[Attempt | HelloExchange], object]) -> None:
        self._lost = lost
        self._answered: dict[str, Callable[[], Attempt | HelloExchange]] = {}
        """What makes the first connection that was answered, by the label of the listener."""
        self._tried: set[str] = set()
        """The labels of those whose first connection was refused, so that another listener was tried."""
        self._gone: set[str] = set()
        """The labels of those that did not return."""
        self._one_ended = self._ended_for_good = False
        self._turn = threading.Lock()

    def connect(
        self, listener: Listener, timeout: float, make: Callable[[], C], *, silent: bool = False
    ) -> C:
        """Make a connection; while it is refused and the listener may return, make it again.

        Args:
            listener: to which the connection is made.
            timeout: seconds to wait for the listener.
            make: makes the connection.
            silent: nothing is sent on it, so that it is its end that is observed.
        """
        if listener.via or not is_loopback(listener.address[0]):
            return make()
        with self._turn if self._one_ended else nullcontext():
            connection = self._until_accepted(listener, timeout, make)
        for _ in range(_AGAIN):
            if silent or not (self._one_ended and _is_cut(connection)) or is_abandoned():
                break
            self._lost(connection)
            # Also what was begun before the sign is made again alone: it would be cut by the others.
            with self._turn:
                time.sleep(_EVERY_SECONDS)
                connection = self._until_accepted(listener, timeout, make)
        if self._answered and not self._one_ended and not silent and _is_cut(connection):
            # It may be the end of the forward, which accepts and cuts some more connections. The caller tries
            # again: only then does it find whether it is refused.
            time.sleep(_EVERY_SECONDS)
        if _is_answered(connection):
            self._answered.setdefault(listener.label, make)
        return connection

    def _until_accepted(self, listener: Listener, timeout: float, make: Callable[[], C]) -> C:
        connection = make()
        if _is_refused(connection) and self._another_was_tried(listener):
            connection = make()
        deadline = time.monotonic() + timeout
        while _is_refused(connection) and self._may_return(listener) and not is_abandoned():
            if time.monotonic() > deadline:
                self._gone.add(listener.label)
                self._ended_for_good |= listener.label in self._answered
                break
            time.sleep(_EVERY_SECONDS)
            connection = make()
        return connection

    def _another_was_tried(self, listener: Listener) -> bool:
        """Contact a listener that answered, since this one refused its first connection.

        Return whether that was done. If the other one accepts, the forward of both may be there again.
        """
        known = self._one_ended or listener.label in self._tried or listener.label in self._answered
        if known or not self._answered:
            return False
        self._tried.add(listener.label)
        other = next(iter(self._answered.values()))()
        self._lost(other)
        self._one_ended |= _is_refused(other)
        return True

    def _may_return(self, listener: Listener) -> bool:
        self._one_ended |= listener.label in self._answered
        return self._one_ended and not (self._ended_for_good or listener.label in self._gone)


def _is_answered(connection: Attempt | HelloExchange) -> bool:
    if isinstance(connection, Attempt):
        return connection.ending is not Ending.UNCLEAR
    return connection.answered


def _is_cut(connection: Attempt | HelloExchange) -> bool:
    """Return whether a connection ended without a whole answer, before the time limit."""
    if isinstance(connection, Attempt):
        ended = connection.stream_end in (StreamEnd.EOF, StreamEnd.RESET)
        # Over HTTP/2 the server's settings are application data, and come before the response.
        in_response = connection.ending is Ending.SERVED and connection.response is None
        return ended and (connection.ending is Ending.UNCLEAR or in_response)
    return connection.reply is Reply.ENDED and not connection.refused


def _is_refused(connection: Attempt | HelloExchange) -> bool:
    if isinstance(connection, Attempt):
        return connection.stream_end is StreamEnd.CONNECTION_REFUSED
    return connection.refused
