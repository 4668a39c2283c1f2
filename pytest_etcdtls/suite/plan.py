"""Options that need no session: list the catalogue, explain a check, plan the connections."""

from __future__ import annotations

import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from pytest_etcdtls.collector import AT_ONCE
from pytest_etcdtls.errors import EtcdTLSError
from pytest_etcdtls.facts.discovery import MOST_LISTENERS, MOST_MEMBERS, Discovered
from pytest_etcdtls.facts.fact import ListenerObservation, Observation, Planned, Reading
from pytest_etcdtls.judge import GATES, subjects
from pytest_etcdtls.lifecycle.experiment_table import settings_for
from pytest_etcdtls.observer import Observer, find_fact, with_needs
from pytest_etcdtls.options import Values, invocation_of
from pytest_etcdtls.pki.bundle import ClusterPKI
from pytest_etcdtls.pki.profile import MemberNames
from pytest_etcdtls.profiles import NO_PROFILES, Profiles, read_profiles, threshold_text
from pytest_etcdtls.registry import Check, catalogue, select
from pytest_etcdtls.report.text import wrapped
from pytest_etcdtls.role import CLUSTER, Role
from pytest_etcdtls.runner import Run, TargetRun
from pytest_etcdtls.suite.state import run_of
from pytest_etcdtls.target import Listener, PortCredentials, SigningKey, Target

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
            yield f"{name}{place}: at most {min(number, cap)} connections{each}"
            if number > cap:
                yield f"  {number} may be wanted: what the cap of {cap} forbids is inconclusive"
        if target.outline.discover:
            yield from _discovered_lines(name, plan, cap)
        needs = ((need.type, need.key) for check in run.checks for need in check.needs.values())
        own = 0 if target.live else len(settings_for(target.outline, needs))
        if own:
            at_once = f"at most {AT_ONCE} at a time" if bounds.concurrency > 1 else "one after the other"
            yield f"{name}, lifecycle checks: {own} further clusters, {at_once}"
    yield (
        f"{len(run.checks)} checks, {bounds.concurrency} connections at a time per listener. Which are made "
        f"depends on the answers. Unclear attempts are repeated, {Observer.RETRIES} times at most; with "
        f"these the cap is {cap} per listener."
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
    return f" {label}, {listener.url if target.live else 'a port chosen at start'}", ""


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
    if run.live or run.outline.replay is not None:
        return run.outline
    # Imported here: a live run starts no cluster.
    from pytest_etcdtls.cluster.member import allowed_names

    config = run.settings.owned.config
    members = [MemberNames(f"m{number}") for number in range(config.size)]
    pki = ClusterPKI.generate(replace(config.pki, key_type=None), members)
    client, peer = (SigningKey(ca.certificate, ca.key) for ca in (pki.client_ca, pki.peer_ca))
    return replace(
        run.outline,
        # A started member has a declaration, in which the revocation list is looked for.
        client=PortCredentials(
            identities=(pki.client,),
            signing_key=client,
            revoked=pki.revoked,
            allowed_hostname=allowed_names(config.client_cert_allowed_hostname),
        ),
        peer=PortCredentials(
            identities=(pki.peer_client, pki.peers["m0"]),
            signing_key=peer,
            revoked=pki.revoked,
            allowed_cn=allowed_names(config.peer_cert_allowed_cn),
            allowed_hostname=allowed_names(config.peer_cert_allowed_hostname),
        ),
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


def answer(config: pytest.Config) -> int:
    """Print the requested output and return the exit code.

    Raises:
        pytest.UsageError: for an unknown id or pattern, or a setting that cannot be used.
    """
    values = Values(config)
    try:
        if values.flag("etcd_list_checks"):
            patterns = values.texts("etcd_check", commas=True)
            _print(_list(select(patterns, opt_in=True), len(select(patterns)), _profiles(values)))
        for identifier in values.texts("etcd_explain"):
            _print(explain(_find(identifier), _profiles(values)))
        if values.flag("etcd_plan"):
            _print(_plans(config))
    except EtcdTLSError as error:
        raise pytest.UsageError(str(error)) from error
    return int(pytest.ExitCode.OK)


def _plans(config: pytest.Config) -> Iterator[str]:
    """Yield the plan of the run, of each cluster of a list."""
    invocation = invocation_of(config)
    if invocation.fleet is None:
        yield from plan_lines(run_of(config))
        return
    from pytest_etcdtls.suite.fleet import fleet_of

    _, clusters = fleet_of(config, invocation)
    last = f"part {clusters.shard} of {clusters.where} has no cluster"
    for cluster in clusters.clusters:
        *lines, last = plan_lines(Run(clusters.settings(cluster), discovers=False))
        yield from lines
    yield last


def _profiles(values: Values) -> Profiles:
    names = values.texts("etcd_profile", commas=True)
    return read_profiles(names, lambda name: values.resolve("etcd_profile", name))


def explain(check: Check, profiles: Profiles = NO_PROFILES) -> Iterator[str]:
    """Yield the full description of one check."""
    width = shutil.get_terminal_size().columns
    yield check.id
    yield from _lines(check.requirement, width, "  ")
    yield ""
    if check.explanation:
        for paragraph in check.explanation.split("\n\n"):
            yield from _lines(" ".join(paragraph.split()), width, "  ")
            yield ""
    yield f"  level:       {check.level_text}"
    yield f"  severity:    {check.severity}"
    roles = ", ".join(role for role in Role if role in check.roles)
    yield f"  judges:      {roles or 'the whole target'}"
    if check.opt_in:
        yield f"  runs:        only when asked for, with --etcd-check={check.id}"
    if difference := _difference(check, profiles):
        yield from _lines(difference, width, "  profile:     ")
    for reference in check.references:
        yield from _lines(reference, width, "  reference:   ")
    role = Role.PEER if check.roles == {Role.PEER} else None
    yield from _lines(check.remedy(role), width, "  remediation: ")


def _find(identifier: str) -> Check:
    try:
        return catalogue()[identifier]
    except KeyError:
        raise pytest.UsageError(
            f"--etcd-explain {identifier!r}: there is no check of that id; --etcd-list-checks shows them all"
        ) from None


def _difference(check: Check, profiles: Profiles) -> str:
    """Return what the profiles change of a check; empty if nothing."""
    roles: list[Role | None] = [*sorted(check.roles)] or [None]
    changed: dict[Role | None, str] = {}
    for role in roles:
        level, own = profiles.level(check, role), str(check.level_on(role))
        if level is not None and level != own:
            changed[role] = f"{level} instead of {own}"
    parts = [f"{text} on {role}" for role, text in changed.items()]
    if len(set(changed.values())) == 1 and len(changed) == len(roles):
        parts = [*set(changed.values())]
    thresholds = profiles.thresholds.get(check.id)
    for name, value in (thresholds.given() if thresholds else {}).items():
        parts.append(f"{name}: {threshold_text(value)}")
    if not parts:
        return ""
    sections = [reference.removeprefix("profile ") for reference in profiles.references(check.id)]
    return f"{'; '.join(parts)} ({'; '.join(sections)})"


def _list(checks: Sequence[Check], selected: int, profiles: Profiles) -> Iterator[str]:
    """Yield a line for each check, with what a profile changes in a second one, and the number of checks."""
    width = max((len(check.id) for check in checks), default=0)
    for check in checks:
        note = f" ({check.level_text})" if check.level_text != check.level else ""
        note += " (only when asked for)" if check.opt_in else ""
        yield f"{check.id:<{width}}  {check.level:<6}  {check.severity:<8}  {check.requirement}{note}"
        if difference := _difference(check, profiles):
            yield f"{'':<{width}}  -> {difference}"
    yield f"{selected} checks"
    if further := len(checks) - selected:
        yield f"{further} more, only when asked for"


def _lines(text: str, width: int, first: str) -> Iterator[str]:
    return (line.text for line in wrapped(text, width, first))


def _print(lines: Iterable[str]) -> None:
    sys.stdout.writelines(f"{line}\n" for line in lines)
