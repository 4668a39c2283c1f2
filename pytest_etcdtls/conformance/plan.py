"""The plan of a run: how many connections the selected checks make at most, from what their probes declare.

Touches no network: nothing is observed, and no owned cluster is started.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from pytest_etcdtls.catalog import catalogue, subjects
from pytest_etcdtls.experiments.facts import clusters_for
from pytest_etcdtls.observer import Observer
from pytest_etcdtls.pki.bundle import ClusterPKI, MemberNames
from pytest_etcdtls.probes.discovery import Discovered
from pytest_etcdtls.probes.placing import MOST_LISTENERS
from pytest_etcdtls.probes.registry import probe_for
from pytest_etcdtls.registry import CLUSTER, Check
from pytest_etcdtls.run import Run, TargetRun
from pytest_etcdtls.runner import GATES
from pytest_etcdtls.target import Listener, PortCredentials, Role, SigningKey, Target

_ELSEWHERE = "addresses that are no listeners, once each and without a credential"

_Place = tuple[Listener | None, type[Any], str | None]


def planned(target: Target, checks: Sequence[Check]) -> dict[str, int]:
    """Return how many connections the checks make at most, by listener label, retries apart.

    Each observation is counted once per listener, with all that it may need. Addresses that are no listeners
    are counted together, under the word for the whole target, if there are any.
    """
    counted: Counter[str] = Counter({listener.label: 0 for listener in target.listeners})
    elsewhere: dict[tuple[type[Any], str | None], int] = {}
    known: set[_Place] = set()
    open_: list[_Place] = list(_first(target, checks))
    if target.discover:
        open_.append((None, Discovered, None))
    while open_:
        place = open_.pop()
        if place in known:
            continue
        known.add(place)
        listener, type_, key = place
        probe = probe_for(type_)
        if listener is not None:
            counted[listener.label] += probe.cost(target, listener, key)
        if probe.elsewhere is not None:
            elsewhere[type_, key] = probe.elsewhere(target)
        around: Sequence[Listener | None] = (
            target.listeners if probe.across or listener is None else [listener]
        )
        open_ += [(there, needed, of) for needed, of in probe.needs(key) for there in (*around, listener)]
    if more := sum(elsewhere.values()):
        counted[CLUSTER] = more
    return dict(counted)


def plan_lines(run: Run) -> Iterator[str]:
    """Yield the plan in words."""
    bounds = run.settings.bounds
    for target in run.targets:
        listeners = {listener.label: listener for listener in target.outline.listeners}
        for label, number in planned(_foreseen(target), run.checks).items():
            most = min(number, bounds.max_connections)
            if label == CLUSTER:
                yield f"{target.outline.label}, {_ELSEWHERE}: at most {most} connections"
            else:
                where = listeners[label].url if target.source is None else "a port chosen at start"
                yield f"{target.outline.label} {label}, {where}: at most {most} connections"
            if number > bounds.max_connections:
                yield f"  {number} may be wanted: what the cap of {most} forbids is inconclusive"
        if target.outline.discover:
            yield from _of_whoever_is_found(target.outline, run)
        own = 0 if target.source is None else clusters_for(_needs(run.checks))
        if own:
            yield f"{target.outline.label}, lifecycle checks: {own} further clusters, one after the other"
    yield (
        f"{len(run.checks)} checks, {bounds.concurrency} connections at a time per listener. Which are made "
        f"depends on what is found. One that ends unclear is made again, {Observer.RETRIES} times at most; "
        f"with these the cap is {bounds.max_connections} per listener."
    )


def _of_whoever_is_found(named: Target, run: Run) -> Iterator[str]:
    """Yield what each listener adds that is found."""
    cap = run.settings.bounds.max_connections
    found = tuple(
        Listener(role=role, scheme="https", host=role, port=0, member="found", label=f"found {role}")
        for role in (Role.CLIENT, Role.PEER)
    )
    named_alone = planned(named, run.checks).get(CLUSTER, 0)
    counted = planned(replace(named, listeners=(*named.listeners, *found)), run.checks)
    ports = (counted.get(CLUSTER, 0) - named_alone) // len(found)
    each = ", ".join(
        f"each {listener.role} listener at most {min(counted[listener.label], cap)}" for listener in found
    )
    yield (
        f"{named.label}, what --etcd-discover finds, {MOST_LISTENERS} listeners at most: {each} connections"
        + (f", each further host at most {ports} in plain HTTP" if ports else "")
    )


def _needs(checks: Sequence[Check]) -> Iterator[tuple[type[Any], str | None]]:
    yield from ((need.type, need.key) for check in checks for need in check.needs.values())


def _foreseen(run: TargetRun) -> Target:
    """Return a target with the credentials that an owned cluster would have: they decide what is tried."""
    if run.source is None:
        return run.outline
    config = run.settings.owned.config
    members = [MemberNames(f"m{number}") for number in range(config.size)]
    pki = ClusterPKI.generate(replace(config.pki, key_type=None), members)
    client, peer = (SigningKey(ca.certificate, ca.key) for ca in (pki.client_ca, pki.peer_ca))
    return replace(
        run.outline,
        client=PortCredentials(identities=(pki.client,), signing_key=client),
        peer=PortCredentials(identities=(pki.peer_client, pki.peers["m0"]), signing_key=peer),
    )


def _first(target: Target, checks: Sequence[Check]) -> Iterator[_Place]:
    """Yield what the checks ask for themselves, on every listener that they judge, gates first."""
    for check in checks:
        for listener in subjects(check, target):
            gates = [
                catalogue()[gate] for gate in GATES if listener and listener.role in catalogue()[gate].roles
            ]
            for asking in (*gates, check):
                yield from ((listener, need.type, need.key) for need in asking.needs.values())
