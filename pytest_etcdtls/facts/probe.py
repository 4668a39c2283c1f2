"""The probe contract: one function per observation type, and what it may use.

Knows no particular probe. A probe gets what it needs from its :class:`Context`, which bounds and
records every connection; an observation that cannot be had is an
:class:`~pytest_etcdtls.errors.UnobservedError`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from pytest_etcdtls.errors import RegistrationError
from pytest_etcdtls.target import Listener, Target
from pytest_etcdtls.tls.attempt import Attempt, Request

if TYPE_CHECKING:
    from pytest_etcdtls.tls.hello import ClientHello, Connection, HelloExchange


T = TypeVar("T")


class Context(Protocol):
    """What a probe may use. Listener is ``None`` for an observation of the whole target."""

    @property
    def target(self) -> Target:
        """The target."""
        ...

    @property
    def listener(self) -> Listener | None:
        """The listener to observe."""
        ...

    @property
    def timeout(self) -> float:
        """Seconds that one attempt may take."""
        ...

    @property
    def connections(self) -> Sequence[Connection]:
        """Every connection that was made to the target so far, for whatever purpose.

        Which there are depends on what was asked before: no fact that a check judges may.
        """
        ...

    def get(self, type_: type[T], key: str | None = None, listener: Listener | None = None) -> T:
        """Return another observation, of this listener unless another is named.

        Raises:
            UnobservedError: if it cannot be had.
        """
        ...

    def attempt(self, *requests: Request) -> list[tuple[Attempt, ...]]:
        """Make the connections, some at a time, and return their tries in the order of the requests.

        An unclear attempt is made again, at most twice.

        Raises:
            InconclusiveError: if the cap on connections would be exceeded.
        """
        ...

    def greet(self, *hellos: ClientHello) -> list[HelloExchange]:
        """Send each hello on a connection of its own, some at a time; return what came back, in order.

        One that was not answered is sent again, at most twice; the last answer counts.

        Raises:
            InconclusiveError: if the cap on connections would be exceeded.
        """
        ...

    def attempt_elsewhere(self, *asked: tuple[Listener, Request]) -> list[Attempt]:
        """Connect once to each of these addresses, none of which is a listener of the target.

        They present nothing and are not made again. They share one cap on connections, and the plan counts
        them apart: see :attr:`Probe.elsewhere`.

        Raises:
            InconclusiveError: if the cap on connections would be exceeded.
        """
        ...

    def keep_silent(self, purpose: str, patience: float) -> HelloExchange:
        """Connect once and send nothing for so many seconds; return whether the server ended that.

        Raises:
            InconclusiveError: if the cap on connections would be exceeded.
        """
        ...


ProbeFunction = Callable[[Context, str | None], Any]
Cost = Callable[[Target, Listener | None, str | None], int]


@dataclass(frozen=True, slots=True)
class Probe:
    """How an observation type is got.

    Attributes:
        function: gets it.
        cost: the connections that it makes at most by itself, retries apart.
        needs: the other observations that it asks for at most (type, key), on the same listener.
        across: it asks other listeners of the target for them too.
        elsewhere: the connections that it makes at most to addresses that are no listeners of the target.
        reported: it may be in the report; what holds keys or tokens may not, nor what is reported otherwise.
    """

    function: ProbeFunction
    cost: Cost
    needs: Callable[[str | None], Sequence[tuple[type[Any], str | None]]]
    across: bool = False
    elsewhere: Callable[[Target], int] | None = None
    reported: bool = True


_PROBES: dict[type[Any], Probe] = {}


def probe(
    type_: type[Any],
    *,
    cost: Cost | int,
    needs: Sequence[tuple[type[Any], str | None]] = (),
    across: bool = False,
    elsewhere: Callable[[Target], int] | None = None,
    reported: bool = True,
) -> Callable[[ProbeFunction], ProbeFunction]:
    """Register the function that gets observations of a type.

    Args:
        type_: the observation's class.
        cost: connections at most, retries apart; a number or a function of target, listener and key.
        needs: other observations that it may ask for.
        across: they are asked of every listener of the target.
        elsewhere: connections at most to addresses that are no listeners of the target.
        reported: it may be in the report: it holds neither keys nor tokens.

    Raises:
        RegistrationError: if the type has a probe already.
    """

    def register(function: ProbeFunction) -> ProbeFunction:
        if type_ in _PROBES:
            raise RegistrationError(f"observation type {type_.__name__} has a probe already")
        price: Cost = cost if callable(cost) else lambda _target, _listener, _key: cost
        _PROBES[type_] = Probe(function, price, lambda _key: tuple(needs), across, elsewhere, reported)
        return function

    return register


def probe_for(type_: type[Any]) -> Probe:
    """Return the probe of an observation type.

    Raises:
        RegistrationError: if it has none.
    """
    try:
        return _PROBES[type_]
    except KeyError:
        raise RegistrationError(f"no probe gets observations of type {type_.__name__}") from None
