"""Whether a member is stopping or restarting, of which some listeners refuse connections and others answer.

After SIGTERM etcd closes its listeners in an order (``Etcd.Close`` in server/embed/etcd.go): those of
clients, one after the other, then those of metrics, then those of peers. ``http.Server.Shutdown`` closes a
listener at once and then waits for the streams on it. With a watch of an API server that takes the whole time
of a request, five seconds and two election timeouts (``ServerConfig.ReqTimeout`` in server/config/config.go),
and meanwhile the other listeners answer. Without open streams all close together; in 3.4.23 and 3.5.1 always.

So a member that is stopping looks as one that was started without its client listener. They differ later: the
first refuses connections on all ports, or answers on all again. A connection is held open meanwhile, on which
nothing is sent. It ends with the process, so the wait is long only where etcd goes on. A peer port ends it
sooner, and is then connected to again. Listeners that are closed in another order are no stop, and need no
wait.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from pytest_etcdtls.errors import NotApplicableError
from pytest_etcdtls.facts.fact import Each, Planned, Wire, fact
from pytest_etcdtls.facts.listener import FirstContact, refuses_connections, send_plain_http
from pytest_etcdtls.role import Role
from pytest_etcdtls.target import Listener, Target
from pytest_etcdtls.tls.attempt import StreamEnd

_ORDER: Final = {Role.CLIENT: 0, Role.CLIENT_HTTP: 0, Role.METRICS: 1, Role.PEER: 2}
"""The order in which etcd closes its listeners."""

_REQUEST_SECONDS: Final = 5.0
_ELECTION_SECONDS: Final = 1.0
"""The default of ``--election-timeout``."""
_LONGEST_ELECTION: Final = 50.0
"""``maxElectionMs`` in server/embed/config.go."""
_MARGIN_SECONDS: Final = 2.0
"""For the rest of ``Etcd.Close``: the end of the raft loop, and up to a second for the streams of peers."""
_SILENT_SECONDS: Final = 5.0
"""After which etcd closes a silent connection to a peer port (``rafthttp.ConnReadTimeout``)."""


class HeldConnection(Struct, frozen=True, kw_only=True):
    """Connections on which nothing was sent, one after the other.

    Attributes:
        refused: the last one was refused.
    """

    refused: bool


class SecondLook(Struct, frozen=True, kw_only=True):
    """Whether a listener refuses connections, once more, where the listeners of its member did not agree.

    Attributes:
        refused_before: it refused them at the first contact.
        refuses: it refuses them now.
    """

    refused_before: bool
    refuses: bool


class MemberChange(Struct, frozen=True, kw_only=True):
    """What a second look at the listeners of a member showed.

    Attributes:
        why: that it is stopping or restarting, and how that was seen; empty if its listeners stayed as they
            were.
    """

    why: str = ""


def _of_member(here: Listener, target: Target) -> list[Listener]:
    return [listener for listener in target.listeners if listener.member == here.member]


def _once(planned: Planned) -> int:
    here = planned.listener
    return int(here is not None and len(_of_member(here, planned.target)) > 1)


def _held(planned: Planned) -> int:
    here = planned.listener
    return _once(planned) and math.ceil(_seconds(here, planned.target) / _SILENT_SECONDS) if here else 0


@fact(connections=_held, reported=False)
def held_connection(here: Listener, target: Target, wire: Wire) -> HeldConnection:
    """Hold a connection until etcd ends, at most as long as a stop of etcd takes."""
    seconds = _seconds(here, target)
    end = time.monotonic() + seconds
    for _ in range(math.ceil(seconds / _SILENT_SECONDS)):
        if (left := end - time.monotonic()) <= 0:
            break
        if wire.keep_silent("whether etcd is stopping", left).refused:
            return HeldConnection(refused=True)
    threading.Event().wait(max(0.0, end - time.monotonic()))  # something closes connections sooner
    return HeldConnection(refused=False)


def _seconds(here: Listener, target: Target) -> float:
    """Return how long a stop of a member's etcd takes at most."""
    declared = target.declared.get(here.member)
    setting = declared.declaration.settings.get("election-timeout") if declared else None
    value = setting.value if setting else ""
    election = int(value) / 1000 if value.isdecimal() and len(value) < 10 else _ELECTION_SECONDS
    return _REQUEST_SECONDS + 2 * min(election, _LONGEST_ELECTION) + _MARGIN_SECONDS


@fact(connections=_once, before_proof=True, reported=False)
def second_look(
    here: Listener, target: Target, contacts: Each[FirstContact], held: Each[HeldConnection], wire: Wire
) -> SecondLook:
    """Connect again, where some listeners of the member refuse and others answer.

    Raises:
        NotApplicableError: if they agree.
    """
    refused: list[Listener] = []
    answering: list[Listener] = []
    for listener in _of_member(here, target):
        if (contact := contacts.known(listener)) is not None:
            (refused if refuses_connections(contact) else answering).append(listener)
    if not refused or not answering:
        raise NotApplicableError("all listeners of the member refuse connections, or none does")
    if _may_be_stopping(refused, answering):
        held.known(max(answering, key=lambda listener: _ORDER[listener.role]))
    attempt = send_plain_http(wire, here, purpose="whether it refuses connections", may_end=True)[-1]
    return SecondLook(
        refused_before=here in refused, refuses=attempt.stream_end is StreamEnd.CONNECTION_REFUSED
    )


def _may_be_stopping(refused: Sequence[Listener], answering: Sequence[Listener]) -> bool:
    """Return whether etcd closes the first before the others when it stops."""
    last_closed = max(_ORDER[listener.role] for listener in refused)
    return last_closed <= min(_ORDER[listener.role] for listener in answering)


@fact(reported=False)
def member_change(here: Listener, target: Target, looks: Each[SecondLook]) -> MemberChange:
    """Return whether the listeners of the member are still as at the first contact."""
    looked = {
        listener.url: look
        for listener in _of_member(here, target)
        if (look := looks.known(listener)) is not None  # else they agree, or it was given up
    }
    first = [url for url, look in looked.items() if look.refused_before]
    opened = [url for url in first if not looked[url].refuses]
    closed = [url for url, look in looked.items() if look.refuses and url not in first]
    if opened:
        seen = f"{', '.join(opened)} refused TCP connections and accepts them now"
        return MemberChange(why=f"etcd was restarting, run again: {seen}")
    if closed:
        seen = f"{', '.join(first)} refused TCP connections, and {', '.join(closed)} closed during the run"
        return MemberChange(why=f"etcd is stopping or restarting, run again: {seen}")
    return MemberChange()
