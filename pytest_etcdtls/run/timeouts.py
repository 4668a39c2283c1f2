"""When a listener that does not answer is given up.

Each silent attempt costs the whole timeout (``--etcd-timeout``), so a listener that stopped answering would
cost minutes. The rules are about time that was lost, which attempts that wait side by side lose once.
"""

from __future__ import annotations

import threading
import time
from collections import Counter

from pytest_etcdtls.errors import NotVerifiedError, Reason, silent
from pytest_etcdtls.target import Listener
from pytest_etcdtls.tls.attempt import Attempt, Ending, Phase, StreamEnd
from pytest_etcdtls.tls.hello import Connection, Reply


class TimeoutBudget:
    """Decides when a listener that does not answer is given up.

    Args:
        timeout: seconds that one attempt may take.

    Attributes:
        given_up: why, by label of the listener.
    """

    IN_A_ROW = 3
    """Attempts in a row that get no answer in time."""
    TIMEOUTS = 5
    """Time-outs that may be lost on all discovered listeners, and on one before nothing is repeated there."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._in_a_row: Counter[str] = Counter()
        self._answered: set[str] = set()
        self._lost: dict[str, _LostTime] = {}
        self._on_discovered = _LostTime()
        self._lock = threading.Lock()
        self._unreached: set[str] = set()
        self.given_up: dict[str, Reason] = {}

    @property
    def lost_on_discovered(self) -> bool:
        """Whether a discovered listener did not answer in time."""
        return self._on_discovered.seconds > 0

    def why(self, listener: Listener) -> Reason | None:
        """Return why nothing more is sent to a listener; ``None`` if it is not given up."""
        with self._lock:
            if listener.discovered and listener.label not in self.given_up:
                spent = self._on_discovered.seconds >= self.TIMEOUTS * self._timeout
                if spent and (self._in_a_row[listener.label] or listener.label not in self._answered):
                    lost = f"{self._on_discovered.seconds:.0f} s were lost on discovered listeners"
                    ending = f": {lost} that do not answer; to judge it, name it with an option"
                    self.given_up[listener.label] = silent(listener.url, "was given up", ending)
            return self.given_up.get(listener.label)

    def check(self, listener: Listener) -> None:
        """Check that a listener is not given up.

        Raises:
            NotVerifiedError: if it is.
        """
        if why := self.why(listener):
            raise NotVerifiedError(why)

    def is_spent(self, listener: Listener) -> bool:
        """Return whether so much time was lost on a listener that nothing is repeated there."""
        lost = self._lost.get(listener.label)
        return lost is not None and lost.seconds >= self.TIMEOUTS * self._timeout

    def give_up(self, listener: Listener) -> None:
        """Send nothing more to a listener that does not answer."""
        if self.is_unreached(listener):
            why = f"was given up after {self._timeout:g} s without a TCP connection"
        else:
            in_a_row = self._in_a_row[listener.label] >= self.IN_A_ROW
            number = f"{self.IN_A_ROW} attempts in a row" if in_a_row else f"{self.TIMEOUTS} attempts in all"
            why = f"stopped answering and was given up: {number} got no answer within {self._timeout:g} s"
        option = "--etcd-timeout"
        advice = f"; look at the member and the network, or raise {option}"
        self.given_up.setdefault(listener.label, silent(listener.url, why, advice, option))

    def is_unreached(self, listener: Listener) -> bool:
        """Return whether there was no TCP connection to a listener in time, and none before."""
        return listener.label in self._unreached

    def note(self, listener: Listener, connection: Connection, *, again: bool = False) -> bool:
        """Record how a connection ended, and return whether too many got no answer, in a row or in all.

        Only a connection without an answer, or without a complete one, within the timeout has lost time. One
        is enough if there is no TCP connection and was none before: TCP itself repeats what is lost.

        Args:
            listener: of the connection.
            connection: one that expected an answer.
            again: the same was sent before.
        """
        if isinstance(connection, Attempt):
            late = connection.stream_end is StreamEnd.TIMEOUT
            answered = connection.ending is not Ending.UNCLEAR
        else:
            late, answered = connection.reply is Reply.SILENCE, connection.answered
        label = listener.label
        with self._lock:
            if answered:
                self._answered.add(label)
                self._unreached.discard(label)
                self._in_a_row[label] = 0
            if not late:
                return False
            lost = self._lost.setdefault(label, _LostTime())
            for time_lost in (lost, self._on_discovered) if listener.discovered else (lost,):
                time_lost.add(connection.milliseconds / 1000)
            self._in_a_row[label] += not (answered or again)
            if isinstance(connection, Attempt) and connection.phase is Phase.CONNECT:
                self._unreached |= {label} - self._answered
            many = self._in_a_row[label] >= self.IN_A_ROW
            return many or self.is_spent(listener) or self.is_unreached(listener)


class _LostTime:
    """Seconds during which at least one connection waited for an answer that did not come."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._until = 0.0

    def add(self, seconds: float) -> None:
        """Add a wait that ends now; time that another wait covers does not count twice."""
        now = time.monotonic()
        self.seconds += max(0.0, now - max(self._until, now - seconds))
        self._until = now
