"""Whether every member was found by what it advertises, where the cluster was asked for its members."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pytest_etcdtls.observations.attempt import Protocol
from pytest_etcdtls.observations.discovery import (
    JUDGED,
    Discovery,
    Fate,
    Means,
    MemberURL,
    Question,
)
from pytest_etcdtls.registry import check
from pytest_etcdtls.reproduce import GOOD_CLIENT, GOOD_PEER, curl, etcdctl
from pytest_etcdtls.results import Finding, Note, Outcome, Statement, Verdict
from pytest_etcdtls.role import Role

_LISTED = "the URLs of each member"
_AT_HAND = JUDGED | {Fate.LEFT_OUT}
_SHOWN = 9
"""Members or URLs that are named in one sentence."""


def _wildcard(discovery: Discovery) -> Mapping[str, Any]:
    first, *others = discovery.members
    nowhere = tuple(
        replace(found, url="https://0.0.0.0:2379", fate=Fate.NOWHERE, listener="", why="it is every address")
        for found in first.urls
    )
    return {"discovery": replace(discovery, members=(replace(first, urls=nowhere), *others))}


@check("cluster.discovered", on=frozenset(), counterexample=_wildcard)
def every_member_is_found(discovery: Discovery) -> Iterator[Statement]:
    """Every member that the cluster lists is found by the URLs that it advertises.

    With `--etcd-discover` alone. Clients and members go by these URLs as well: one that leads to every
    address, to whoever connects or to another member leads nobody to the member that advertises it.
    Inconclusive if nobody gives the list, or a member on it cannot be judged: one that has not been started,
    or beyond a limit. Whether what was found answers is judged there, by `listener.answers`.

    Spec: etcd --advertise-client-urls, --initial-advertise-peer-urls
    Spec: etcd Documentation, runtime reconfiguration
    Severity: medium
    Level: MUST
    Remediation: advertise for each member what leads to it and to no other, with --advertise-client-urls, and
        with etcdctl member update ID --peer-urls=... for its peers.
    """
    if discovery.source is None:
        yield Verdict(Outcome.INCONCLUSIVE, _nobody(discovery))
        return
    for role in (Role.CLIENT, Role.PEER):
        yield from _astray(discovery, role)
        yield from _without(discovery, role)
    yield from _left_out(discovery)
    yield from _told_besides(discovery)
    yield Note(discovery.describe())


def _nobody(discovery: Discovery) -> str:
    if not discovery.questions:
        return "none of the listeners given tells the members: pass --etcd-endpoint or --etcd-peer-endpoint"
    ways: dict[str, list[str]] = {}
    for question in discovery.questions:
        ways.setdefault(question.why_not, []).append(f"{question.means} of {question.url}")
    said = "; ".join(f"{reason} (asked by {', '.join(asked)})" for reason, asked in ways.items())
    return (
        f"nobody gave the member list, so only what was named is judged: {said}. Pass an endpoint that "
        "answers and credentials that it accepts, or name every listener and leave --etcd-discover away"
    )


def _astray(discovery: Discovery, role: Role) -> Iterator[Statement]:
    """Yield the members none of whose URLs leads to them, limits and settings of this run apart."""
    astray = [
        (member, member.of_role(role))
        for member in discovery.members
        if member.of_role(role) and not any(found.fate in _AT_HAND for found in member.of_role(role))
    ]
    observed = _some(f"{member.title}: {_shown(urls)}" for member, urls in astray)
    if not astray:
        return
    if role is Role.PEER and _is_private(discovery, astray[0][1]):
        reason = f"{observed}: pass {role.option} on its machine, or with --etcd-connect-to"
        yield from _unjudged(Outcome.NOT_VERIFIED, reason)
        return
    who = _some(member.title for member, _ in astray)
    whose = "they advertise" if len(astray) > 1 else "it advertises"
    yield Finding(
        message=f"{who} cannot be found by the {role} URLs that {whose}",
        expected="a URL that leads to this member alone",
        observed=observed,
        reproduce=(_reproduce(discovery.questions[-1]),),
    )


def _without(discovery: Discovery, role: Role) -> Iterator[Statement]:
    """Yield the members that advertise no URL of that role."""
    without = [member for member in discovery.members if not member.of_role(role)]
    for started, why in (
        (True, "so that these listeners are not judged: name them"),
        (False, "since these members have not been started: start or remove them"),
    ):
        names = [member.title for member in without if member.started is started]
        if names:
            yield from _unjudged(
                Outcome.INCONCLUSIVE, f"no {role} URL is advertised by {_some(names)}, {why}"
            )


def _left_out(discovery: Discovery) -> Iterator[Statement]:
    """Yield what a limit or a setting of this run keeps from being judged."""
    reasons: dict[str, list[str]] = {}
    for member in discovery.members:
        for found in member.urls:
            if found.fate is Fate.LEFT_OUT:
                reasons.setdefault(found.why, []).append(f"{found.url} of {member.title}")
    for why, places in reasons.items():
        advice = f"pass {Role.CLIENT.option} or {Role.PEER.option}, or --etcd-connect-to"
        yield from _unjudged(Outcome.INCONCLUSIVE, f"not judged, since {why}: {_some(places)}; {advice}")
    if discovery.beyond:
        reason = f"{discovery.beyond} more members are listed and not looked at: name their listeners"
        yield from _unjudged(Outcome.INCONCLUSIVE, reason)


def _told_besides(discovery: Discovery) -> Iterator[Statement]:
    """Yield URLs that lead nowhere beside others of the member that lead to it, and rules for nothing."""
    for role in (Role.CLIENT, Role.PEER):
        for member in discovery.members:
            urls = member.of_role(role)
            others = [found for found in urls if found.fate not in _AT_HAND]
            if 0 < len(others) < len(urls):
                yield Note(f"{member.title}: {_shown(others)}")
    for rule in discovery.unused_rules:
        yield Note(f"--etcd-connect-to {rule!r} fits no listener")


def _reproduce(question: Question) -> str:
    if question.means is Means.MEMBERS:
        return curl(question.url, role=Role.PEER, path="/members", files=GOOD_PEER, look=_LISTED)
    if question.means is Means.GATEWAY:
        path = "/v3/cluster/member/list"
        return curl(
            question.url,
            role=Role.CLIENT,
            path=path,
            files=GOOD_CLIENT,
            protocol=Protocol.GATEWAY,
            look=_LISTED,
        )
    return etcdctl(question.url, GOOD_CLIENT, "member list", _LISTED)


def _is_private(discovery: Discovery, urls: Sequence[MemberURL]) -> bool:
    """Whether it is the peer port of an only member, which nobody needs to find."""
    sole = len(discovery.members) == 1 and not discovery.beyond
    return sole and all(found.fate is Fate.LOCAL for found in urls)


def _unjudged(outcome: Outcome, reason: str) -> Iterator[Statement]:
    """Yield a verdict, and the same as a remark, which is shown also where something is found elsewhere."""
    yield Verdict(outcome, reason)
    yield Note(reason)


def _shown(urls: Sequence[MemberURL]) -> str:
    return _some(f"{found.url or '(empty)'} ({found.why})" for found in urls)


def _some(texts: Iterable[str]) -> str:
    first = list(texts)
    more = [f"and {len(first) - _SHOWN} more"] if len(first) > _SHOWN else []
    return ", ".join([*first[:_SHOWN], *more])
