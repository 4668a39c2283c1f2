"""A fact is a function: its parameters say what it reads, and its return type is the fact.

As a pytest fixture names other fixtures, a fact names other facts, by their types. The annotation of a
parameter says how the fact is read:

=========================  ==========================================================================
``T``                      needed: without it this fact cannot be obtained either, for the same reason
``T | None``               read if it can be obtained
``Annotated[T, "key"]``    one of several of the type; a function (:data:`Keys`) may say which
``Lazy[T]``                read when the function asks for it, since it costs connections that not
                           every case needs
``Each[T]``                of every listener of the target, read when the function asks for it
``Elsewhere[T]``           of addresses that are no listeners of the target
=========================  ==========================================================================

A check reads facts in the same ways, without ``Lazy`` and ``Elsewhere``, and may take ``Listener`` and
``Target``.

Other parameters are ``Listener`` (the one that is observed), ``Target``, ``Recording`` (what was made
before), ``Work`` (how long the fact may take, and whether anybody waits for it), ``str`` (the key, if there
are several facts of the type), and ``Wire``. Only a function with a ``Wire`` connects, and it says how many
connections it makes at most. So the plan (``--etcd-plan``) is a sum over the parameters, and there is no
second list of needs.

A function that cannot have its fact raises an :class:`~pytest_etcdtls.errors.UnobservedError`. The observer
calls each function at most once for a listener and key, and keeps the fact or the error.
"""

from __future__ import annotations

import functools
import types
import typing
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from enum import Enum, auto
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Generic, Literal, Self, TypeVar, get_args, get_origin

from msgspec import Struct

from pytest_etcdtls.errors import RegistrationError, UnobservedError
from pytest_etcdtls.facts.recording import Recording
from pytest_etcdtls.target import Listener, Target
from pytest_etcdtls.tls.attempt import Attempt, Request

if TYPE_CHECKING:
    from pytest_etcdtls.tls.hello import ClientHello, HelloExchange

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

Observation = tuple[type[Any], str | None]
"""A fact of a listener: its type, with the key if there are several of that type."""

ListenerObservation = tuple[Listener | None, type[Any], str | None]
"""A listener, ``None`` for the whole target; the type of a fact of it; its key."""


class Work(typing.Protocol):
    """A fact that takes long, on clusters of its own."""

    @property
    def timeout(self) -> float:
        """Seconds that one attempt may take."""
        ...

    def is_abandoned(self) -> bool:
        """Return whether nobody waits for this observation any more."""
        ...

    def alone(self) -> AbstractContextManager[None]:
        """Return a context that waits until nothing else is observed or experimented with."""
        ...

    def on_finish(self, work: Callable[[], object]) -> None:
        """Call a function after the observation has been handed over, also after an error."""
        ...


class Wire(typing.Protocol):
    """The network, within the bounds of the run. Every connection is recorded."""

    def attempt(self, *requests: Request) -> list[tuple[Attempt, ...]]:
        """Make the connections concurrently and return the tries of each, in the order of the requests.

        An unclear attempt is repeated at most twice.

        Raises:
            InconclusiveError: if the cap on connections would be exceeded.
            NotVerifiedError: if the listener stopped answering, or is a discovered one whose server has not
                proved who it is.
        """
        ...

    def send_hellos(self, *hellos: ClientHello) -> list[HelloExchange]:
        """Send each ClientHello on a connection of its own, concurrently, and return the replies in order.

        A hello without an answer is sent again at most twice, unless it is for once; the last reply counts.

        Raises:
            InconclusiveError: if the cap on connections would be exceeded.
            NotVerifiedError: as for :meth:`attempt`.
        """
        ...

    def attempt_elsewhere(self, *requests: tuple[Listener, Request]) -> list[Attempt]:
        """Connect once to each of these addresses, none of which is a listener of the target.

        The attempts present no credentials and are not repeated. They share one cap on connections, and the
        plan counts them separately: see :attr:`Fact.elsewhere`.

        Raises:
            InconclusiveError: if the cap on connections would be exceeded.
        """
        ...

    def attempt_at(self, *requests: tuple[str, Request]) -> list[Attempt]:
        """Connect once to each of these other addresses of the listener's host, for its own URL.

        The attempts present no credentials and are not repeated. They are within the listener's cap.

        Raises:
            InconclusiveError: if the cap on connections would be exceeded.
        """
        ...

    def keep_silent(self, purpose: str, seconds: float) -> HelloExchange:
        """Connect once, send nothing for so many seconds, and return whether the server closed.

        Raises:
            InconclusiveError: if the cap on connections would be exceeded.
        """
        ...


class Facts(typing.Protocol):
    """Where facts of a target are read. ``listener`` is ``None`` for a fact of the whole target."""

    @property
    def target(self) -> Target:
        """The target."""
        ...

    @property
    def listener(self) -> Listener | None:
        """The listener to observe."""
        ...

    def get(self, type_: type[T], key: str | None = None, listener: Listener | None = None) -> T:
        """Return another observation, of this listener unless another is named.

        Raises:
            UnobservedError: if it cannot be made.
        """
        ...


class Context(Facts, Work, Wire, typing.Protocol):
    """An observer, bound to one listener, gets facts."""

    @property
    def recording(self) -> Recording:
        """What was observed so far.

        It depends on the order of observations, so a fact that a check judges must not depend on it.
        """
        ...

    def finish(self) -> None:
        """Call the functions that were passed to :meth:`on_finish`. The observer calls it."""
        ...


class Planned(Struct, frozen=True):
    """An observation that may be made: of which target, on which listener, with which key.

    Attributes:
        listener: ``None`` for an observation of the whole target.
        key: ``None`` if there is only one of its type.
    """

    target: Target
    listener: Listener | None = None
    key: str | None = None


Keys = Callable[[Planned], Iterable[str | None]]
"""Returns the keys of the facts that a function may read, given its own listener and key."""


def same_key(planned: Planned) -> tuple[str | None]:
    """Return the key of the fact that reads: ``Annotated[T, same_key]``."""
    return (planned.key,)


class _Later(Generic[T]):
    """Facts of one type that are read when the function asks for them."""

    __slots__ = ("_facts", "_keys", "_type")

    def __init__(self, facts: Facts, type_: type[Any], keys: tuple[str | None, ...]) -> None:
        self._facts, self._type, self._keys = facts, type_, keys

    def _read(self, key: str | None, listener: Listener | None) -> T:
        if key is None and len(self._keys) == 1:
            (key,) = self._keys
        if key not in self._keys:
            raise RegistrationError(f"{self._type.__name__} {key!r} is not in the annotation: {self._keys}")
        return typing.cast("T", self._facts.get(self._type, key, listener))


class Lazy(_Later[T]):
    """A fact of this listener, or several of one type, read when the function asks for it."""

    __slots__ = ()

    def get(self, key: str | None = None) -> T:
        """Return the fact; the key may be left out if the annotation names one.

        Raises:
            UnobservedError: if it cannot be obtained.
            RegistrationError: if the annotation does not name the key.
        """
        return self._read(key, self._facts.listener)

    def known(self, key: str | None = None) -> T | None:
        """Return the fact as :meth:`get` does, ``None`` if it cannot be obtained."""
        try:
            return self.get(key)
        except UnobservedError:
            return None


class Each(_Later[T]):
    """The fact of every listener, each read when the function asks for it."""

    __slots__ = ("_labels",)

    def __init__(self, facts: Facts, type_: type[Any], keys: tuple[str | None, ...]) -> None:
        super().__init__(facts, type_, keys)
        self._labels = {listener.label for listener in facts.target.listeners}

    @classmethod
    def of(cls, facts: Mapping[Listener, T | UnobservedError]) -> Self:
        """Return facts that are known, or the errors why they cannot be obtained, for tests of a check."""
        return cls(_KnownFacts(facts), object, (None,))

    def at(self, listener: Listener, key: str | None = None) -> T:
        """Return the fact of a listener of the target.

        Raises:
            UnobservedError: if it cannot be obtained.
            RegistrationError: if it is no listener of the target, or the annotation does not name the key.
        """
        if listener.label not in self._labels:
            raise RegistrationError(f"{listener.url} is no listener of the target: use Elsewhere[...]")
        return self._read(key, listener)

    def known(self, listener: Listener, key: str | None = None) -> T | None:
        """Return the fact as :meth:`at` does, ``None`` if it cannot be obtained."""
        try:
            return self.at(listener, key)
        except UnobservedError:
            return None

    def __iter__(self) -> Iterator[tuple[Listener, T]]:
        """Yield each listener that has the fact, together with the fact, in the order of the target."""
        for listener in self._facts.target.listeners:
            fact_there = self.known(listener)
            if fact_there is not None:
                yield listener, fact_there


class _KnownFacts:
    """Facts of one type that are known."""

    listener = None

    def __init__(self, facts: Mapping[Listener, Any]) -> None:
        self._facts = {listener.label: fact_there for listener, fact_there in facts.items()}
        self.target = Target(label="known", origin="live", listeners=tuple(facts))

    def get(self, _type: type[T], _key: str | None = None, listener: Listener | None = None) -> T:
        fact_there = self._facts[listener.label if listener else ""]
        if isinstance(fact_there, UnobservedError):
            raise fact_there
        return typing.cast("T", fact_there)


class Elsewhere(_Later[T]):
    """The fact of addresses that are no listeners of the target."""

    __slots__ = ()

    def at(self, address: Listener) -> T:
        """Return the fact of an address.

        Raises:
            UnobservedError: if it cannot be obtained.
        """
        return self._read(None, address)


class Reading(Enum):
    """How a parameter reads a fact."""

    NEEDED = auto()
    OPTIONAL = auto()
    LAZY = auto()
    EACH = auto()
    ELSEWHERE = auto()


_LATER: Mapping[Reading, type[_Later[Any]]] = {
    Reading.LAZY: Lazy,
    Reading.EACH: Each,
    Reading.ELSEWHERE: Elsewhere,
}


class Need(Struct, frozen=True):
    """A fact that a function reads.

    Attributes:
        type: of the fact.
        of: which of the type: the key, ``None`` if there is only one; or a function that returns the keys.
        reading: how it is read.
    """

    type: type[Any]
    of: str | Keys | None = None
    reading: Reading = Reading.NEEDED

    @property
    def key(self) -> str | None:
        """The key, if it does not depend on the target."""
        return None if callable(self.of) else self.of

    def keys(self, planned: Planned) -> tuple[str | None, ...]:
        """Return the keys of the facts that may be read."""
        return tuple(self.of(planned)) if callable(self.of) else (self.of,)

    def read(self, context: Facts, planned: Planned) -> Any:  # noqa: ANN401 - of that type
        """Return the argument for the parameter.

        Raises:
            UnobservedError: if the fact is needed and cannot be obtained.
        """
        if self.reading in _LATER:
            return _LATER[self.reading](context, self.type, self.keys(planned))
        (key,) = self.keys(planned)
        try:
            return context.get(self.type, key, context.listener)
        except UnobservedError:
            if self.reading is Reading.OPTIONAL:
                return None
            raise


def need_of(annotation: Any) -> Need:  # noqa: ANN401 - any annotation
    """Return the need that an evaluated annotation expresses.

    Raises:
        RegistrationError: if it is not one of those in the head of this module.
    """
    reading, inner = Reading.NEEDED, annotation
    for later, kind in _LATER.items():
        if get_origin(annotation) is kind:
            reading, (inner,) = later, get_args(annotation)
    if get_origin(annotation) in (typing.Union, types.UnionType):
        alternatives = [kind for kind in get_args(annotation) if kind is not type(None)]
        reading, inner = Reading.OPTIONAL, alternatives[0] if len(alternatives) == 1 else annotation
    of: Any = None
    if get_origin(inner) is Annotated:
        inner, of, *_ = get_args(inner)
    if not isinstance(inner, type) or get_origin(inner) is not None:
        raise RegistrationError(f"{annotation} is no type of fact")
    return Need(typing.cast("type[Any]", inner), of, reading)


_Reader = Callable[[Context, Planned], Any]


def _listener(context: Context, _planned: Planned) -> Listener:
    if context.listener is None:
        raise TypeError("this fact is of a listener, and the check judges the whole target")
    return context.listener


_GIVEN: Mapping[Any, _Reader] = {
    Listener: _listener,
    Listener | None: lambda context, _: context.listener,
    Target: lambda context, _: context.target,
    Recording: lambda context, _: context.recording,
    Wire: lambda context, _: context,
    Work: lambda context, _: context,
    str: lambda _, planned: planned.key,
    str | None: lambda _, planned: planned.key,
}
"""The parameters that are no facts."""


Keyed = Literal["none", "optional", "needed"]
"""Whether there are several facts of a type, and whether a key is needed."""


class Fact:
    """A type of fact, and the function that gets it.

    The parameters are evaluated at their first use, since most runs need a part of the facts.

    Attributes:
        type: of the fact.
        function: the function.
        keys: whether there are several facts of the type: ``none``, ``optional`` or ``needed``.
        connections: maximum number of connections that it makes itself, without retries.
        elsewhere: the same to addresses that are no listeners of the target.
        reported: reports may show the fact; false if it holds keys or tokens, or has another form there.
        before_proof: it may connect to a discovered listener whose server has not proved who it is. Its
            requests hold no credential.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        connections: Callable[[Planned], int] | int | None,
        elsewhere: Callable[[Target], int] | None,
        *,
        reported: bool,
        before_proof: bool,
    ) -> None:
        self.type: type[Any] = _returned(function)
        self.function = function
        self.keys = _keys(function)
        self.connections = connections if callable(connections) else lambda _: connections or 0
        self._connects = connections is not None
        self.elsewhere = elsewhere
        self.reported = reported
        self.before_proof = before_proof

    @property
    def module(self) -> str:
        """Name of the module with the function."""
        return self.function.__module__

    @property
    def is_computed(self) -> bool:
        """Whether it is got from other facts, the options and files, without connections and experiments."""
        return {Wire, Work}.isdisjoint(self._hints.values())

    @property
    def reads_no_listener(self) -> bool:
        """Whether it is given no listener, and each of its needs has one key for all listeners."""
        given = {Listener, Listener | None, Recording, Wire, Work}
        return given.isdisjoint(self._hints.values()) and not any(
            callable(need.of) and need.reading is not Reading.EACH for need in self.needs
        )

    def arguments(self, context: Context, key: str | None) -> dict[str, Any]:
        """Return what the function is called with.

        Raises:
            UnobservedError: if a fact that it needs cannot be obtained.
            RegistrationError: if a parameter is not one of those in the head of this module.
        """
        planned = Planned(context.target, context.listener, key)
        return {name: read(context, planned) for name, read in self._readers.items()}

    @property
    def needs(self) -> Collection[Need]:
        """What it reads of other facts."""
        return self._needs.values()

    @property
    def readings(self) -> frozenset[Reading]:
        """How it reads other facts."""
        return frozenset(need.reading for need in self.needs)

    def reads(self, planned: Planned) -> Iterator[tuple[Need, str | None]]:
        """Yield what it may read, with the keys."""
        for need in self.needs:
            for key in need.keys(planned):
                yield need, key

    def check_key(self, key: str | None) -> None:
        """Check that the fact has the key, or has none.

        Raises:
            RegistrationError: if there is a key and the fact has none, or none and it needs one.
        """
        name = self.type.__name__
        if key is None and self.keys == "needed":
            raise RegistrationError(f'{name} needs a key: write Annotated[{name}, "..."], see {self.module}')
        if key is not None and self.keys == "none":
            raise RegistrationError(f"{name} has no key, and {key!r} is one: write {name} alone")

    @functools.cached_property
    def _hints(self) -> dict[str, Any]:
        hints = typing.get_type_hints(self.function, include_extras=True)
        hints.pop("return", None)
        if (Wire in hints.values()) is not self._connects:
            raise RegistrationError(
                f"{self.module}.{self.function.__name__}: a function with a Wire says "
                "@fact(connections=...), and no other does"
            )
        return hints

    @functools.cached_property
    def _needs(self) -> dict[str, Need]:
        try:
            return {name: need_of(hint) for name, hint in self._hints.items() if hint not in _GIVEN}
        except RegistrationError as error:
            raise RegistrationError(f"{self.module}.{self.function.__name__}: {error}") from None

    @functools.cached_property
    def _readers(self) -> dict[str, _Reader]:
        return {
            name: self._needs[name].read if name in self._needs else _GIVEN[hint]
            for name, hint in self._hints.items()
        }


_FACTS: dict[type[Any], Fact] = {}


@typing.overload
def fact(function: F, /) -> F: ...
@typing.overload
def fact(
    *,
    connections: Callable[[Planned], int] | int | None = ...,
    elsewhere: Callable[[Target], int] | None = ...,
    reported: bool = ...,
    before_proof: bool = ...,
) -> Callable[[F], F]: ...
def fact(
    function: F | None = None,
    /,
    *,
    connections: Callable[[Planned], int] | int | None = None,
    elsewhere: Callable[[Target], int] | None = None,
    reported: bool = True,
    before_proof: bool = False,
) -> F | Callable[[F], F]:
    """Register the function that makes a fact, the type that it returns.

    Args:
        function: the function; see the head of this module for its parameters.
        connections: how many connections it makes at most, without retries; for a function with a ``Wire``.
        elsewhere: how many connections to addresses that are no listeners of the target.
        reported: the fact may be in the report: it holds neither keys nor tokens.
        before_proof: it may connect to a discovered listener whose server has not proved who it is.

    Raises:
        RegistrationError: if the type has a function already.
    """

    def decorate(function: F) -> F:
        made = Fact(
            function,
            connections,
            elsewhere,
            reported=reported,
            before_proof=before_proof,
        )
        if made.type in _FACTS:
            raise RegistrationError(f"the fact {made.type.__name__} has a function already")
        _FACTS[made.type] = made
        return function

    return decorate if function is None else decorate(function)


def _keys(function: Callable[..., Any]) -> Keyed:
    """Return whether a function takes a key, by its annotations, which need not be evaluated yet."""
    annotations = [hint for name, hint in function.__annotations__.items() if name != "return"]
    if "str" in annotations or str in annotations:
        return "needed"
    return "optional" if "str | None" in annotations or (str | None) in annotations else "none"


def _returned(function: Callable[..., Any]) -> type[Any]:
    """Return the type that a function returns, without an evaluation of its other annotations.

    Raises:
        RegistrationError: if it is annotated with none.
    """
    returned = function.__annotations__.get("return")
    if isinstance(returned, str):
        returned = function.__globals__.get(returned)
    if not isinstance(returned, type):
        raise RegistrationError(
            f"{function.__module__}.{function.__qualname__}: a function that makes a fact is annotated with "
            "the type that it returns, which is defined above it"
        )
    return returned


def facts() -> Mapping[type[Any], Fact]:
    """Return the facts by type."""
    return MappingProxyType(_FACTS)


def fact_of(type_: type[Any]) -> Fact:
    """Return the fact of a type.

    Raises:
        RegistrationError: if no function returns that type.
    """
    try:
        return _FACTS[type_]
    except KeyError:
        raise RegistrationError(
            f"no fact is of type {type_.__name__}: add a function that returns it, with @fact, in "
            f"{type_.__module__}"
        ) from None
