"""The probe contract: one function per observation type, and the context that it uses.

A probe makes its connections through its :class:`Context`, which bounds and records every one. A probe
that cannot make its observation raises an :class:`~pytest_etcdtls.errors.UnobservedError`.
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
    """The context of a probe. ``listener`` is ``None`` for an observation of the whole target."""

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
        """Every connection that was made to the target so far, for any purpose.

        The connections depend on earlier observations, so a fact that a check judges must not depend on them.
        """
        ...

    def get(self, type_: type[T], key: str | None = None, listener: Listener | None = None) -> T:
        """Return another observation, of this listener unless another is named.

        Raises:
            UnobservedError: if it cannot be made.
        """
        ...

    def attempt(self, *requests: Request) -> list[tuple[Attempt, ...]]:
        """Make the connections concurrently and return the tries of each, in the order of the requests.

        An unclear attempt is repeated at most twice.

        Raises:
            InconclusiveError: if the cap on connections would be exceeded.
            NotVerifiedError: if the listener stopped answering, or is a discovered one whose server has not
                proved who it is.
        """
        ...

    def greet(self, *hellos: ClientHello) -> list[HelloExchange]:
        """Send each ClientHello on a connection of its own, concurrently, and return the replies in order.

        A hello without an answer is sent again at most twice; the last reply counts.

        Raises:
            InconclusiveError: if the cap on connections would be exceeded.
            NotVerifiedError: as for :meth:`attempt`.
        """
        ...

    def attempt_elsewhere(self, *asked: tuple[Listener, Request]) -> list[Attempt]:
        """Connect once to each of these addresses, none of which is a listener of the target.

        The attempts present no credentials and are not repeated. They share one cap on connections, and the
        plan counts them separately: see :attr:`Probe.elsewhere`.

        Raises:
            InconclusiveError: if the cap on connections would be exceeded.
        """
        ...

    def keep_silent(self, purpose: str, patience: float) -> HelloExchange:
        """Connect once, send nothing for ``patience`` seconds; return whether the server closed.

        Raises:
            InconclusiveError: if the cap on connections would be exceeded.
        """
        ...


ProbeFunction = Callable[[Context, str | None], Any]
Cost = Callable[[Target, Listener | None, str | None], int]


@dataclass(frozen=True, slots=True)
class Probe:
    """The function that makes observations of a type, and its bounds.

    Attributes:
        function: makes the observation.
        cost: maximum number of connections that it makes itself, without retries.
        needs: the other observations (type, key) that it may request, on the same listener.
        across: it requests them of other listeners of the target too.
        elsewhere: maximum number of connections to addresses that are no listeners of the target.
        reported: the observation may be in the report; false if it holds keys or tokens, or is reported in
            another form.
        before_proof: it may connect to a discovered listener whose server has not proved who it is. Its
            requests hold no credential.
    """

    function: ProbeFunction
    cost: Cost
    needs: Callable[[str | None], Sequence[tuple[type[Any], str | None]]]
    across: bool = False
    elsewhere: Callable[[Target], int] | None = None
    reported: bool = True
    before_proof: bool = False


_PROBES: dict[type[Any], Probe] = {}


def probe(
    type_: type[Any],
    *,
    cost: Cost | int,
    needs: Sequence[tuple[type[Any], str | None]] = (),
    across: bool = False,
    elsewhere: Callable[[Target], int] | None = None,
    reported: bool = True,
    before_proof: bool = False,
) -> Callable[[ProbeFunction], ProbeFunction]:
    """Register the function that makes observations of a type.

    Args:
        type_: the observation's class.
        cost: maximum number of connections without retries; a number or a function of target, listener and
            key.
        needs: other observations that it may request.
        across: they are requested of every listener of the target.
        elsewhere: maximum number of connections to addresses that are no listeners of the target.
        reported: it may be in the report: it holds neither keys nor tokens.
        before_proof: it may connect to a discovered listener whose server has not proved who it is.

    Raises:
        RegistrationError: if the type has a probe already.
    """

    def register(function: ProbeFunction) -> ProbeFunction:
        if type_ in _PROBES:
            raise RegistrationError(f"observation type {type_.__name__} has a probe already")
        price: Cost = cost if callable(cost) else lambda _target, _listener, _key: cost
        _PROBES[type_] = Probe(
            function, price, lambda _key: tuple(needs), across, elsewhere, reported, before_proof
        )
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
