"""Whether every member was found by what it advertises, where the cluster was asked for its members."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from pytest_etcdtls.observations.attempt import Protocol
from pytest_etcdtls.observations.discovery import (
    JUDGED,
    DiscoveredMember,
    Discovery,
    Fate,
    Means,
    MemberURL,
    Question,
)
from pytest_etcdtls.registry import check
from pytest_etcdtls.reproduce import curl, etcdctl
from pytest_etcdtls.results import Finding, Note, Outcome, Statement, Verdict
from pytest_etcdtls.role import Role

_FILES = ("client.crt", "client.key")
_OPTIONS = {Role.CLIENT: "--etcd-endpoint", Role.PEER: "--etcd-peer-endpoint"}


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
    for member in discovery.members:
        for role in (Role.CLIENT, Role.PEER):
            yield from _found(discovery, member, role)
    if discovery.beyond:
        reason = f"{discovery.beyond} more members are listed and not looked at: name their listeners"
        yield from _unjudged(Outcome.INCONCLUSIVE, reason)
    for rule in discovery.unused_rules:
        yield Note(f"--etcd-connect-to {rule!r} fits no listener")
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


def _found(discovery: Discovery, member: DiscoveredMember, role: Role) -> Iterator[Statement]:
    """Yield what there is to say of a member's URLs for clients, or for peers."""
    urls = member.of_role(role)
    others = [found for found in urls if found.fate not in JUDGED]
    if not urls:
        yield from _unjudged(Outcome.INCONCLUSIVE, _without(member, role))
    elif left_out := [found for found in others if found.fate is Fate.LEFT_OUT]:
        advice = f"pass {_OPTIONS[role]} or --etcd-connect-to for it"
        yield from _unjudged(Outcome.INCONCLUSIVE, f"{member.title}: {_shown(left_out)}; {advice}")
    elif len(others) < len(urls):
        for found in others:
            yield Note(f"{member.title}: {_shown([found])}")
    elif _is_private(discovery, others, role):
        advice = f"pass {_OPTIONS[role]} on its machine, or with --etcd-connect-to"
        yield from _unjudged(Outcome.NOT_VERIFIED, f"{member.title}: {_shown(others)}; {advice}")
    else:
        yield Finding(
            message=f"{member.title} cannot be found by the {role} URLs that it advertises",
            expected="a URL that leads to this member alone",
            observed=_shown(others),
            evidence={"member": member.id},
            reproduce=(_reproduce(discovery.questions[-1]),),
        )


def _without(member: DiscoveredMember, role: Role) -> str:
    if member.started:
        return f"member {member.title} advertises no {role} URL, so that listener is not judged: name it"
    return f"member {member.title} has not been started and advertises no {role} URL yet: start or remove it"


def _reproduce(question: Question) -> str:
    if question.means is Means.MEMBERS:
        return curl(question.url, role=Role.PEER, path="/members", files=("peer.crt", "peer.key"))
    if question.means is Means.GATEWAY:
        path = "/v3/cluster/member/list"
        return curl(question.url, role=Role.CLIENT, path=path, files=_FILES, protocol=Protocol.GATEWAY)
    return etcdctl(question.url, _FILES, "member list")


def _is_private(discovery: Discovery, urls: list[MemberURL], role: Role) -> bool:
    """Whether it is the peer port of an only member, which nobody needs to find."""
    sole = len(discovery.members) == 1 and not discovery.beyond
    return role is Role.PEER and sole and all(found.fate is Fate.LOCAL for found in urls)


def _unjudged(outcome: Outcome, reason: str) -> Iterator[Statement]:
    """Yield a verdict, and the same as a remark, which is shown also where something is found elsewhere."""
    yield Verdict(outcome, reason)
    yield Note(reason)


def _shown(urls: list[MemberURL]) -> str:
    return ", ".join(f"{found.url} ({found.why})" for found in urls)
