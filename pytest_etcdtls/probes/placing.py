"""What every advertised URL leads to: a listener that was named, one that was found, or none, and why.

Pure but for the names that it has looked up. A URL is taken for a named listener only where both lead to
the same address for certain.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from pytest_etcdtls.observations.api import MemberRecord
from pytest_etcdtls.observations.discovery import DiscoveredMember, Fate, MemberURL
from pytest_etcdtls.pki.names import is_address, is_loopback
from pytest_etcdtls.probes.member_urls import LocalURLError, Place, canonical, parse, shown
from pytest_etcdtls.target import ConnectTo, Listener, Role, safe

MOST_LISTENERS = 64
"""Listeners that are added at most, so that a list of thousands cannot make a run endless."""

Addresses = Callable[[str], frozenset[str]]
"""From a host to its addresses, empty if they are not known."""


class Placing:
    """Places the URLs of a member list, member by member.

    Args:
        named: the listeners that were named, their members known.
        rules: of ``--etcd-connect-to``.
        owner: IDs of the members that named listeners belong to, by label.
        addresses: looks names up.

    Attributes:
        listeners: those that were named, then those that were found.
        client_urls: what became of each, by the text that the members advertise.
    """

    def __init__(
        self,
        named: Sequence[Listener],
        rules: Sequence[ConnectTo],
        owner: Mapping[str, str],
        addresses: Addresses,
    ) -> None:
        self.listeners: list[Listener] = list(named)
        self.client_urls: dict[str, MemberURL] = {}
        self._rules = rules
        self._named = frozenset(listener.label for listener in named)
        self._addresses = addresses
        self._exactly = {Place(one.scheme, canonical(one.host), one.port): one for one in named}
        self._first: dict[Place, tuple[str, Role]] = {}
        self._judged_for = dict(owner)
        self._on_loopback = any(is_loopback(listener.host) for listener in named)

    @property
    def unused_rules(self) -> Iterator[str]:
        """The rules that are for none of the listeners, in the words of the user."""
        for rule in self._rules:
            if not any(rule.there(listener.host, listener.port) for listener in self.listeners):
                yield rule.text

    def member(self, record: MemberRecord, label: str) -> DiscoveredMember:
        """Return what became of a member's URLs.

        Args:
            record: of the member list.
            label: of the member.
        """
        clients = {url: self._place(record.id, label, Role.CLIENT, url) for url in record.client_urls}
        peers = {url: self._place(record.id, label, Role.PEER, url) for url in record.peer_urls}
        self.client_urls |= clients | self.client_urls
        return DiscoveredMember(
            id=record.id,
            name=shown(record.name),
            learner=record.learner,
            started=bool(record.name or record.client_urls),
            urls=(*clients.values(), *peers.values()),
        )

    def _place(self, identifier: str, member: str, role: Role, url: str) -> MemberURL:
        try:
            place = parse(url)
        except LocalURLError as error:
            return _left(url, role, Fate.LOCAL, str(error))
        except ValueError as error:
            return _left(url, role, Fate.NOWHERE, str(error))
        first, its_role = self._first.setdefault(place, (identifier, role))
        if first != identifier:
            return _left(url, role, Fate.SHARED, f"member {first} advertises it as well")
        if its_role is not role:
            why = "it is advertised to clients and to peers, and judged as the former"
            return _left(url, role, Fate.LEFT_OUT, why)
        candidate = self._candidate(role, place, member)
        if is_loopback(place.host) and not (self._on_loopback or candidate.connect_to):
            why = "it leads to whoever connects, and the endpoints given are elsewhere"
            return _left(url, role, Fate.LOCAL, why)
        return self._follow(identifier, url, place, candidate)

    def _follow(self, identifier: str, url: str, place: Place, candidate: Listener) -> MemberURL:
        """Judge where a URL leads to, unless that is judged already for somebody else."""
        role = candidate.role
        listener = self._exactly.get(place) or next(
            (known for known in self.listeners if self._leads_to(known, candidate)), candidate
        )
        if listener is candidate:
            if len(self.listeners) - len(self._named) >= MOST_LISTENERS:
                return _left(url, role, Fate.LEFT_OUT, f"{MOST_LISTENERS} listeners are added at most")
            self.listeners.append(candidate)
            self._exactly[place] = candidate
        for_whom = self._judged_for.setdefault(listener.label, identifier)
        if for_whom != identifier:
            why = f"from here it leads to {listener.url} of member {for_whom}"
            return _left(url, role, Fate.LEFT_OUT, why)
        fate = Fate.NAMED if listener.label in self._named else Fate.FOUND
        same = (canonical(listener.host), listener.port) == (place.host, place.port)
        why = "" if same else f"judged as {listener.url}"
        return MemberURL(url=shown(url), role=role, fate=fate, listener=listener.label, why=why)

    def _candidate(self, role: Role, place: Place, member: str) -> Listener:
        rules = (rule.there(place.host, place.port) for rule in self._rules)
        label = f"{role}-{safe(place.host)}-{place.port}"
        return Listener(
            role=role,
            scheme=place.scheme,
            host=place.host,
            port=place.port,
            member=member,
            label=next(self._free(label, place.scheme)),
            connect_to=next((there for there in rules if there), None),
        )

    def _free(self, label: str, scheme: str) -> Iterator[str]:
        """Yield labels that no listener has, the one first that it would have had if it had been named."""
        taken = {listener.label for listener in self.listeners}
        names = [label, f"{label}-http"] if scheme == "http" else [label]
        names += [f"{label}-{number}" for number in range(2, len(taken) + 3)]
        yield from (name for name in names if name not in taken)

    def _leads_to(self, known: Listener, candidate: Listener) -> bool:
        """Whether a candidate with another URL leads to a listener that is known, for certain."""
        (here, port), (there, its_port) = known.address, candidate.address
        if (known.role, known.scheme, port) != (candidate.role, candidate.scheme, its_port):
            return False
        if known.label not in self._named and not (known.connect_to or candidate.connect_to):
            return False
        return canonical(here) == canonical(there) or (
            known.label in self._named
            and not (is_address(here) and is_address(there))
            and _meet(self._addresses(here), self._addresses(there))
        )


def _left(url: str, role: Role, fate: Fate, why: str) -> MemberURL:
    """Return a URL for which no listener is judged."""
    return MemberURL(url=shown(url), role=role, fate=fate, why=why)


def _meet(here: frozenset[str], there: frozenset[str]) -> bool:
    """Whether two hosts are one address for certain; several addresses are one machine on loopback alone."""
    if len(here) == len(there) == 1:
        return here == there
    return bool(here & there) and all(is_loopback(address) for address in here | there)
