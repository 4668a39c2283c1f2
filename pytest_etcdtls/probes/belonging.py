"""Which of the listed members the named listeners belong to, and how all members are labelled.

By evidence alone: a URL that one member advertises, the ID that an etcd tells, the only member there is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from pytest_etcdtls.observations.api import MemberRecord
from pytest_etcdtls.probes.member_urls import canonical, parse
from pytest_etcdtls.target import Listener, Role, Target, safe

TellID = Callable[[Listener], str | None]
"""From a client listener to the ID that the member behind it tells, ``None`` if it tells none."""


_LONGEST = 63
"""Characters of a name that is a label."""


def owners(target: Target, records: Sequence[MemberRecord], tell_id: TellID) -> dict[str, str]:
    """Return the IDs of the members that named listeners belong to, by label, as far as that is known.

    Args:
        target: as it was named.
        records: of the member list.
        tell_id: is asked about client listeners whose URL no member advertises.
    """
    if len(records) == 1:
        return {listener.label: records[0].id for listener in target.listeners}
    advertised = _advertised(records)
    known = {record.id for record in records}
    found: dict[str, str] = {}
    for listener in target.listeners:
        claimed = advertised.get((listener.scheme, canonical(listener.host), listener.port), set())
        if len(claimed) == 1:
            found[listener.label] = next(iter(claimed))
        elif listener.role is Role.CLIENT and (told := tell_id(listener)) in known and told is not None:
            found[listener.label] = told
    return found


def labelled(
    target: Target, records: Sequence[MemberRecord], owner: Mapping[str, str]
) -> tuple[tuple[Listener, ...], dict[str, str]]:
    """Return the named listeners, each with the label of its member, and the label of each member by ID.

    Listeners that were named keep the label of their member, unless one label stands for several members,
    as on a machine that runs them all. A member without a named listener is labelled by its name, or by its
    ID where it has none or shares it.

    Args:
        target: as it was named.
        records: of the member list.
        owner: from :func:`owners`.
    """
    groups: dict[str, set[str]] = defaultdict(set)
    for listener in target.listeners:
        groups[listener.member] |= {owner[listener.label]} if listener.label in owner else set()
    labels: dict[str, str] = {}
    for label, owned in groups.items():
        if len(owned) == 1:
            labels.setdefault(next(iter(owned)), label)
    _label_the_rest(records, labels, set(groups))
    return tuple(_moved(listener, groups, owner, labels, target) for listener in target.listeners), labels


def _moved(
    listener: Listener,
    groups: Mapping[str, set[str]],
    owner: Mapping[str, str],
    labels: Mapping[str, str],
    target: Target,
) -> Listener:
    """Return the listener with the label of the member that it is known to belong to.

    What was declared is known by the label, which therefore stays.
    """
    owned = groups[listener.member]
    identifier = owner.get(listener.label) or (next(iter(owned)) if len(owned) == 1 else None)
    if identifier is None or listener.member in target.declared:
        return listener
    return replace(listener, member=labels[identifier])


def _label_the_rest(records: Sequence[MemberRecord], labels: dict[str, str], taken: set[str]) -> None:
    names = [safe(record.name) for record in records]
    for record, name in zip(records, names, strict=True):
        if record.id not in labels:
            usable = name and names.count(name) == 1 and name not in taken and len(name) <= _LONGEST
            labels[record.id] = name if usable else record.id


def _advertised(records: Sequence[MemberRecord]) -> dict[tuple[str, str, int], set[str]]:
    """Return by scheme, host and port the IDs of the members that advertise such a URL."""
    found: dict[tuple[str, str, int], set[str]] = defaultdict(set)
    for record in records:
        for url in (*record.client_urls, *record.peer_urls):
            try:
                place = parse(url)
            except ValueError:
                continue
            found[place.scheme, place.host, place.port].add(record.id)
    return found
