"""What was observed of one target: the facts, and the connections by which they were got.

Facts are collected into a recording, and judged from it: results, reports, the comparison with etcd's log and
baselines read it, and connect to nothing. It only grows. Where a fact could not be obtained, the recording
has the reason, so that everybody who asks gets the same one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

from pytest_etcdtls.errors import UnobservedError

if TYPE_CHECKING:
    from pytest_etcdtls.target import Listener, Target
    from pytest_etcdtls.tls.hello import Connection

Place = tuple[str | None, type[Any], str | None]
"""Label of a listener, ``None`` for the whole target; the type of a fact; its key, if there are several."""

T = TypeVar("T")


class Recording:
    """The facts and connections of one target.

    Args:
        target: the target.
        facts: label of the listener (``None`` for the whole target), key and fact.
        connections: made to the target, for any purpose.

    Attributes:
        connections: all, in order, with the further requests on some of them.
    """

    def __init__(
        self,
        target: Target,
        facts: Iterable[tuple[str | None, str | None, Any]] = (),
        connections: Iterable[Connection] = (),
    ) -> None:
        self.target = target
        self.connections: list[Connection] = list(connections)
        self._facts: dict[Place, Any] = {(label, type(fact), key): fact for label, key, fact in facts}
        self._withheld: set[type[Any]] = set()
        self._by_label: dict[str | None, list[tuple[str | None, Any]]] = {}
        self._indexed = 0
        """The number of facts when the index was made; none is removed."""

    def __contains__(self, place: Place) -> bool:
        """Return whether the fact was got, or the reason is known why it cannot be obtained."""
        return place in self._facts

    def __getitem__(self, place: Place) -> Any:  # noqa: ANN401 - a fact of any type
        """Return a fact.

        Raises:
            UnobservedError: if it could not be obtained, with the same reason each time.
            KeyError: if nobody tried.
        """
        fact = self._facts[place]
        if isinstance(fact, UnobservedError):
            raise fact.again()
        return fact

    def add(self, place: Place, fact: Any, *, reported: bool = True) -> None:  # noqa: ANN401 - of any type
        """Add a fact, or the error that says why it cannot be obtained.

        Args:
            place: of the fact.
            fact: the fact or the error.
            reported: reports may show it; false if it holds keys or tokens, or has another form there.
        """
        if not reported:
            self._withheld.add(place[1])
        # Not the error itself: its traceback would keep every frame, with connections in them.
        self._facts[place] = fact.again() if isinstance(fact, UnobservedError) else fact

    def known(self, type_: type[T], key: str | None = None, label: str | None = None) -> T | None:
        """Return a fact if it was got, else ``None``."""
        fact = self._facts.get((label, type_, key))
        return None if isinstance(fact, UnobservedError) else cast("T | None", fact)

    def known_of(self, type_: type[T], label: str) -> list[T]:
        """Return all facts of a type on a listener that were got, whatever their keys."""
        return [
            fact
            for (where, _, _), fact in self._facts.copy().items()
            if where == label and isinstance(fact, type_)
        ]

    @property
    def facts(self) -> list[tuple[str | None, str | None, Any]]:
        """Label, key and fact of everything that reports may show."""
        return [
            (label, key, fact)
            # A copy, since an abandoned thread may add one at the same time.
            for (label, type_, key), fact in self._facts.copy().items()
            if not isinstance(fact, UnobservedError) and type_ not in self._withheld
        ]

    @property
    def facts_of(self) -> Mapping[str | None, Sequence[tuple[str | None, Any]]]:
        """Key and fact of what reports may show, by label of the listener."""
        if self._indexed != len(self._facts):
            self._by_label, self._indexed = {}, len(self._facts)
            for label, key, fact in self.facts:
                self._by_label.setdefault(label, []).append((key, fact))
        return self._by_label

    def observations(self) -> Iterator[tuple[Listener | None, str | None, Any]]:
        """Yield listener, key and fact of what reports may show."""
        by_label = {listener.label: listener for listener in self.target.listeners}
        for label, key, fact in self.facts:
            yield by_label.get(label or ""), key, fact

    def with_target(self, target: Target, kept: Callable[[type[Any]], bool]) -> Self:
        """Return a recording of the target with other listeners, with the facts of the types that are kept.

        Both have the same list of connections.
        """
        changed = type(self)(target)
        changed.connections = self.connections
        changed._facts = {place: fact for place, fact in self._facts.copy().items() if kept(place[1])}
        changed._withheld = self._withheld
        return changed

    def until_now(self) -> Self:
        """Return a copy that does not grow, for reports."""
        copy = self.with_target(self.target, kept=lambda _: True)
        copy.connections = list(self.connections)
        return copy
