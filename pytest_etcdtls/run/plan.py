"""The plan of a run: how many connections it makes at most, without making any.

Every fact with a connection says how many it makes at most. So the plan is a sum over the facts that the
selected checks may need.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pytest_etcdtls.checks.registry import GATES, Check, catalogue
from pytest_etcdtls.facts.discovery import (
    MOST_LISTENERS,
    MOST_MEMBERS,
    Discovered,
    NamedMembers,
    has_unclear_members,
)
from pytest_etcdtls.facts.fact import ListenerObservation, Observation, Planned, Reading
from pytest_etcdtls.lifecycle.changes import settings_for
from pytest_etcdtls.pki.bundle import ClusterPKI
from pytest_etcdtls.pki.profile import MemberNames
from pytest_etcdtls.role import CLUSTER, Role
from pytest_etcdtls.run.collector import AT_ONCE
from pytest_etcdtls.run.judge import subjects
from pytest_etcdtls.run.observer import Observer, find_fact, with_needs
from pytest_etcdtls.run.runner import Run, TargetRun
from pytest_etcdtls.target import Listener, Target
from pytest_etcdtls.untrusted.printable import plural

ADVERTISED = "advertised"
"""Label of the connections to each client URL that a member advertises and that is no listener."""

DISCOVERED: Mapping[Role, str] = {role: f"each-discovered-{role}" for role in (Role.CLIENT, Role.PEER)}
"""Labels of the connections to each listener of a role that ``--etcd-discover`` finds."""

FURTHER_HOST = "each-further-host"
"""Label of the connections to each discovered host, to addresses that are no listeners."""

_OTHER_ADDRESSES = "addresses that are no listeners, once each and without a credential"
_EXAMPLE = 3
"""Members of the cluster for which the plan of a discovery adds up the connections."""


def _found(role: Role, label: str) -> Listener:
    """Return a listener that is not known yet. Its host has a name, which may have several addresses."""
    return Listener(role=role, scheme="https", host="found", port=0, member="found", label=label)


def planned(target: Target, checks: Sequence[Check]) -> dict[str, int]:
    """Return the maximum number of connections of the checks by listener label, without retries.

    Each observation is counted once per listener, with all observations that it may need. Addresses that are
    not listeners are counted together, under the label of the whole target; client URLs that members
    advertise and that are no listeners, each under :data:`ADVERTISED`.

    Discovery adds listeners, whose number is not known. Each is counted under :data:`DISCOVERED`, and each
    host of them under :data:`FURTHER_HOST`. A listener that is found also adds connections to the named ones.
    """
    discovered = tuple(_found(role, label) for role, label in DISCOVERED.items()) if target.discover else ()
    whole = replace(target, listeners=(*target.listeners, *discovered))
    counted: Counter[str] = Counter({listener.label: 0 for listener in whole.listeners})
    elsewhere: dict[Observation, Callable[[Target], int]] = {}
    advertised: dict[type[Any], None] = {}
    wanted = list(_requested(whole, checks))
    if target.discover:
        wanted.append((None, Discovered, None))
    elif has_unclear_members(target):
        wanted.append((None, NamedMembers, None))
    for listener, type_, key in with_needs(whole, wanted):
        fact = find_fact(type_)
        here = Planned(whole, listener, key)
        if listener is not None:
            counted[listener.label] += fact.connections(here)
        if fact.elsewhere is not None:
            elsewhere[type_, key] = fact.elsewhere
        advertised |= {need.type: None for need, _ in fact.reads(here) if need.reading is Reading.ELSEWHERE}
    if others := sum(most(target) for most in elsewhere.values()):
        counted[CLUSTER] = others
    if further := sum(most(whole) for most in elsewhere.values()) - others:
        counted[FURTHER_HOST] = further
    if advertised and not target.discover:
        there = Planned(target, _found(Role.CLIENT, ADVERTISED))
        counted[ADVERTISED] = sum(find_fact(type_).connections(there) for type_ in advertised)
    return dict(counted)


def plan_of(target: TargetRun, checks: Sequence[Check]) -> dict[str, int]:
    """Return the maximum number of connections to a target of a run, which need not have started."""
    return planned(_with_credentials(target), checks)


def plan_lines(run: Run) -> Iterator[str]:
    """Yield the plan as text."""
    bounds = run.settings.bounds
    cap = bounds.max_connections
    for target in run.targets:
        name = target.outline.label
        plan = plan_of(target, run.checks)
        for label, number in plan.items():
            place, each = _subject(target, label)
            yield f"{name}{place}: at most {plural(min(number, cap), 'connection')}{each}"
            if number > cap:
                flag = f"--etcd-max-connections={number}"
                yield f"  {number} at worst, with {flag}; a check that the cap of {cap} stops is inconclusive"
        if target.outline.rehearses:
            yield (
                f"{name}, its next restart, rehearsed: its program is started once more, with every mount "
                "read-only; it has at most 320 MiB of memory, and 192 MiB more take what it writes; its "
                "network has a loopback interface alone; at most as many connections again, to that etcd, "
                "which ends with the run"
            )
        if target.outline.discover:
            yield from _discovered_lines(name, plan, cap)
        needs = ((need.type, need.key) for check in run.checks for need in check.needs.values())
        own = 0 if target.outline.live else len(settings_for(target.outline, needs))
        if own:
            at_once = f"at most {AT_ONCE} at a time" if bounds.concurrency > 1 else "one after the other"
            yield f"{name}, lifecycle checks: {own} further clusters, {at_once}"
    yield (
        f"{plural(len(run.checks), 'check')}, {plural(bounds.concurrency, 'connection')} at a time per "
        "listener. Which are made depends on the answers. Unclear attempts are repeated at most "
        f"{Observer.RETRIES} times, {plural(cap, 'connection')} per listener in total."
    )


def _subject(target: TargetRun, label: str) -> tuple[str, str]:
    """Return to what the connections of a label are made, and to how many of it."""
    if label == ADVERTISED:
        hosts = _hosts(target.outline)
        place = f", client URLs that members advertise and that are no listeners above, on {hosts}"
        return place, f" each, {MOST_LISTENERS} URLs at most"
    if label == CLUSTER:
        return f", {_OTHER_ADDRESSES}", ""
    if label == FURTHER_HOST:
        return ", such addresses of each further host", " in plain HTTP"
    for role, discovered in DISCOVERED.items():
        if label == discovered:
            return f", each {role} listener that --etcd-discover finds", ""
    [listener] = (listener for listener in target.outline.listeners if listener.label == label)
    return f" {label}, {listener.url if target.outline.live else 'a port chosen at start'}", ""


def _discovered_lines(name: str, plan: Mapping[str, int], cap: int) -> Iterator[str]:
    """Yield the limits of a discovery, and the sum for a cluster."""
    of_member = sum(min(plan[label], cap) for label in DISCOVERED.values())
    others = min(plan.get(CLUSTER, 0) + (_EXAMPLE - 1) * plan.get(FURTHER_HOST, 0), cap)
    yield (
        f"{name}, {_EXAMPLE} members with a client and a peer listener each, named and discovered: at most "
        f"{_EXAMPLE * of_member + others} connections; {MOST_LISTENERS} listeners of {MOST_MEMBERS} members "
        "are added at most"
    )
    yield (
        "  A discovered server gets the first contact, without a credential, and the others of these after "
        "it has proved who it is. A list is followed only from a trusted member."
    )


def _hosts(target: Target) -> str:
    """Return the hosts that an advertised URL may have to be contacted."""
    hosts = sorted({listener.host for listener in target.listeners if listener.connect_to is None})
    return "this machine" if target.origin != "live" else ", ".join(hosts) or "no host"


def _with_credentials(run: TargetRun) -> Target:
    """Return a target with what an owned cluster will have and what determines the attempts."""
    if run.outline.configured_by_user:
        return run.outline
    # Imported here: a live run starts no cluster.
    from pytest_etcdtls.etcd.member import owned_credentials

    config = run.settings.owned.config
    names = [f"m{number}" for number in range(config.size)]
    pki = ClusterPKI.generate(replace(config.pki, key_type=None), list(map(MemberNames, names)))
    client, peer = owned_credentials(config, pki, names, lambda *_: Path(os.devnull) / "not written")
    return replace(
        run.outline,
        # A started member has a declaration, in which the revocation lists are looked for.
        client=replace(client, revoked=pki.revoked),
        peer=replace(peer, revoked=pki.revoked),
        user=("root", "") if config.authentication else None,
    )


def _requested(target: Target, checks: Sequence[Check]) -> Iterator[ListenerObservation]:
    """Yield the observations that the checks request directly, on every judged listener, gates first."""
    for check in checks:
        for listener in subjects(check, target):
            gates = [
                catalogue()[gate] for gate in GATES if listener and listener.role in catalogue()[gate].roles
            ]
            for each in (*gates, check):
                yield from each.reads(target, listener)
