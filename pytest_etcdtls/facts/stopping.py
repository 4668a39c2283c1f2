"""Whether a member may be stopping or restarting: some of its listeners refuse connections and others answer.

After SIGTERM etcd closes its listeners in an order (``Etcd.Close`` in server/embed/etcd.go): those of
clients, one after the other, then those of metrics, then those of peers. ``http.Server.Shutdown`` closes a
listener at once and then waits for the streams on it, with a watch of an API server for seconds. Meanwhile
the other listeners answer. So a member that is stopping looks as one that was started without its client
listener. Only listeners that are closed in another order, and still at a second look, are no stop.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from pytest_etcdtls.errors import NotApplicableError, Reason, UnobservedError
from pytest_etcdtls.facts.fact import Each, Planned, Wire, fact
from pytest_etcdtls.facts.listener import FirstContact, refuses_connections, send_plain_http
from pytest_etcdtls.role import Role
from pytest_etcdtls.target import Listener, Target
from pytest_etcdtls.tls.attempt import StreamEnd

_ORDER: Final = {Role.CLIENT: 0, Role.CLIENT_HTTP: 0, Role.METRICS: 1, Role.PEER: 2}
"""The order in which etcd closes its listeners."""


class SecondLook(Struct, frozen=True, kw_only=True):
    """How another connection to a listener ends, where the listeners of its member did not agree.

    Attributes:
        refused_before: it refused connections at the first contact.
        end: of the connection now.
    """

    refused_before: bool
    end: StreamEnd


def _of_member(here: Listener, target: Target) -> list[Listener]:
    return [listener for listener in target.listeners if listener.member == here.member]


def _once(planned: Planned) -> int:
    here = planned.listener
    return int(here is not None and len(_of_member(here, planned.target)) > 1)


@fact(connections=_once, before_proof=True, reported=False)
def second_look(here: Listener, target: Target, contacts: Each[FirstContact], wire: Wire) -> SecondLook:
    """Connect again, where some listeners of the member refuse connections and others do not.

    Raises:
        NotApplicableError: if they agree.
    """
    refused = {
        listener: refuses_connections(contact)
        for listener in _of_member(here, target)
        if (contact := contacts.known(listener)) is not None
    }
    if len(set(refused.values())) < 2:
        raise NotApplicableError("all listeners of the member refuse connections, or none does")
    attempt = send_plain_http(wire, here, purpose="whether it refuses connections", may_end=True)[-1]
    return SecondLook(refused_before=refused.get(here, False), end=attempt.stream_end)


def why_stopping(here: Listener, target: Target, looks: Each[SecondLook]) -> Reason | str:
    """Return that a listener's member may be stopping or restarting, and how that was seen; empty if not."""
    looked: dict[Listener, SecondLook] = {}
    for listener in _of_member(here, target):
        try:
            looked[listener] = looks.at(listener)
        except NotApplicableError:
            return ""
        except UnobservedError as unobserved:
            return unobserved.why
    refused = [listener for listener, look in looked.items() if look.refused_before]
    answering = [listener for listener in looked if listener not in refused]
    first, others = (", ".join(listener.url for listener in listeners) for listeners in (refused, answering))
    for listener, look in looked.items():
        closed = look.end is StreamEnd.CONNECTION_REFUSED
        if look.refused_before and not closed:
            seen = f"{listener.url} refused TCP connections and accepts them now"
            return f"etcd was restarted, run again: {seen}"
        if not look.refused_before and (closed or look.end is StreamEnd.TIMEOUT):
            seen = f"{first} refused TCP connections, and {listener.url} stopped answering during the run"
            return f"etcd is stopping or restarting, run again: {seen}"
    last_closed = max(_ORDER[listener.role] for listener in refused)
    if last_closed <= min(_ORDER[listener.role] for listener in answering):
        seen = f"{first} refuses TCP connections, and {others} answers, as while etcd stops"
        return f"run again: {seen}; if it stays so, etcd was started with other settings"
    return ""
