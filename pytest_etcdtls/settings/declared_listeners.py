"""The listeners that declarations add to those that were named, and whose the named ones are.

Addresses alone: looks up no name, connects to nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from pytest_etcdtls.declared.reach import Reach
from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.settings.declared import ToldMember
from pytest_etcdtls.target import Listener, Unreached, safe


def add_declared(
    named: Sequence[Listener], members: Sequence[ToldMember]
) -> tuple[list[Listener], tuple[Unreached, ...]]:
    """Return the named listeners and the declared ones of all other roles, and what cannot be reached.

    An option that names listeners of a role decides that role alone. Listeners that were named are those of
    the declared member that they fit.

    Raises:
        UsageError: if there are declarations and not one listener to judge.
    """
    decided = {listener.role for listener in named}
    listeners = [_attach(listener, named, members) for listener in named]
    unreached: list[Unreached] = []
    for member in members:
        for reach in member.reaches:
            role = reach.declared.role
            if role in decided:
                continue
            if reach.host is None:
                url = str(reach.declared.url)
                unreached.append(Unreached(member=member.label, role=role, url=url, reason=reach.reason))
            else:
                listeners.append(_listener(reach, reach.host, member))
    if members and not listeners:
        reasons = "; ".join(dict.fromkeys(one.reason for one in unreached))
        raise UsageError(f"--etcd-config: none of the declared listeners can be judged from here: {reasons}")
    return listeners, tuple(unreached)


def _listener(reach: Reach, host: str, member: ToldMember) -> Listener:
    scheme: Literal["https", "http"] = "https" if reach.declared.url.secure else "http"
    role, port = reach.declared.role, reach.port
    label = f"{role}-{safe(host)}-{port}"
    return Listener(role=role, scheme=scheme, host=host, port=port, member=member.label, label=label)


def _attach(listener: Listener, named: Sequence[Listener], members: Sequence[ToldMember]) -> Listener:
    """Return a named listener as that of the declared member that it fits, if it fits one.

    Its URL decides, then its host. A single declaration is that of a single host, whatever the host is
    called: it may be a load balancer's name, or a tunnel's.
    """
    by_url = [member for member in members if _declares(member, listener)]
    by_host = [member for member in members if listener.host in member.hosts]
    found = next((fit for fit in (by_url, by_host) if len(fit) == 1), [])
    if not found and len(members) == 1 and len({one.host for one in named}) == 1:
        found = list(members)
    return replace(listener, member=found[0].label) if found else listener


def _declares(member: ToldMember, listener: Listener) -> bool:
    return any(
        (reach.declared.role, reach.host, reach.port) == (listener.role, listener.host, listener.port)
        for reach in member.reaches
    )
