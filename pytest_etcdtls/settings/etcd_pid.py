"""What is declared: by the processes of ``--etcd-pid``, or by the files of ``--etcd-config`` alone.

Processes are members of one cluster if the IDs in their data directories say so, or if each lists the other
in ``--initial-cluster`` and both are in one network. The processes of one user alone are joined, unless they
are named: anybody can write the ID of a cluster into a data directory.

Anybody can start a process named etcd, with any arguments. So with ``auto`` a process that cannot be judged
stops no other: it is a target without listeners, with the reason. Of each user, only a few are judged. A
declared listener is contacted only at an address of the process's own network namespace, where alone etcd can
listen (``embed.StartEtcd`` binds it): any other URL may be that of somebody else.
"""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from msgspec import Struct, structs

from pytest_etcdtls.declared.declaration import (
    Declaration,
    advertised,
    declared_listeners,
    is_address,
    is_loopback,
)
from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.role import Role
from pytest_etcdtls.settings import Source, option
from pytest_etcdtls.settings.data_directory import ids_of
from pytest_etcdtls.settings.declarations import (
    CONFIG,
    PKI_DIR,
    LabelledDeclaration,
    Members,
    labels_of,
    read_members,
)
from pytest_etcdtls.settings.endpoints import ROLES, is_own, listeners_from_here
from pytest_etcdtls.target import Listener, Target, Unreached, no_machine, safe, unique
from pytest_etcdtls.tls.connection import addresses_of, in_order
from pytest_etcdtls.tls.namespace import is_own_network, network_of
from pytest_etcdtls.untrusted.in_time import each_in_time
from pytest_etcdtls.untrusted.printable import error_text, some
from pytest_etcdtls.untrusted.process_root import inside

if TYPE_CHECKING:
    from pytest_etcdtls.declared.running import MemberIDs, Process, RunningMember

PID: Final = "etcd_pid"
AUTO: Final = "auto"

_OF_ONE: Final = (*ROLES, "etcd_connect_to", "etcd_label")
"""Options that are about the listeners of one cluster."""
_ELSEWHERE: Final = (PKI_DIR, "etcd_via")
"""Options for an etcd on another machine."""


_MOST: Final = 100
"""Maximum number of processes that ``auto`` judges."""
_MOST_OF_A_STRANGER: Final = 8
"""Maximum number of processes that ``auto`` judges of one user other than root and the user of the run."""
_AHEAD: Final = 0.1
"""Seconds that a process has to be read before the next one; it takes some milliseconds."""
_LONGEST: Final = 80
"""Characters of a member's label in that of a cluster of several."""
_SHOWN: Final = 5
"""Maximum number of processes that are named in a sentence."""


class Declared(Struct, frozen=True):
    """What is declared of live clusters.

    Attributes:
        clusters: the members of each: of ``--etcd-pid`` in the order of their first start, else those of
            ``--etcd-config``, which are one cluster.
        unjudged: the targets of processes about which ``--etcd-pid=auto`` can determine nothing.
        left_out: why it leaves out processes that look like an etcd, a sentence each.
    """

    clusters: tuple[Members, ...] = ()
    unjudged: tuple[Target, ...] = ()
    left_out: tuple[str, ...] = ()


def read_declared(source: Source) -> Declared:
    """Return what processes or files declare; one cluster without members if the options name neither.

    Raises:
        UsageError: if there is no such process, this user may not read it, or another option does not fit;
            as :func:`read_members`.
    """
    texts = source.texts(PID, commas=True)
    if not texts:
        return Declared((read_members(source),))
    for name in _ELSEWHERE:
        if source.text(name):
            raise UsageError(
                f"{option(name)} is for an etcd elsewhere, and --etcd-pid names one of this machine, whose "
                f"files and listeners are reached as the process itself reaches them: omit {option(name)}"
            )
    try:
        processes, left_out = _named(texts)
        named, beyond = _of_each_user(processes) if searches(source) else (processes, [])
        running, unread = _read(named, every=not searches(source))
    except UsageError as error:
        raise UsageError(f"{option(PID)}: {error}") from error
    running = _with_files(source, running)
    labels = labels_of([etcd.declared.declaration for etcd in running])
    read = [
        LabelledDeclaration(
            label=label,
            declared=etcd.declared,
            here=True,
            listeners=tuple(_listeners(label, etcd)),
            running=etcd,
        )
        for label, etcd in zip(labels, running, strict=True)
    ]
    clusters = _clusters(read, named=not searches(source))
    if len(clusters) + len(unread) > 1:
        for name in _OF_ONE:
            if source.texts(name) or source.text(name):
                pids = some([str(process.pid) for process in processes], _MOST)
                raise UsageError(
                    f"{option(name)} is about one cluster, and --etcd-pid names {len(processes)} processes "
                    f"of several ({pids}): pass the --etcd-pid of the members of one"
                )
    unjudged = [unjudged_target(f"process-{process.pid}", why, labels) for process, why in unread]
    if beyond:
        names = some([str(process.pid) for process in beyond], _SHOWN)
        why = (
            f"{len(beyond)} more run etcd (process {names}): at most {_MOST_OF_A_STRANGER} of a user other "
            f"than root, and {_MOST} in all, are judged: pass --etcd-pid=PID of each that is yours"
        )
        unjudged.append(unjudged_target("more-processes", why, labels))
    return Declared(tuple(clusters), tuple(unjudged), left_out)


def searches(source: Source) -> bool:
    """Return whether the processes are searched for, so that the user did not choose them."""
    return AUTO in source.texts(PID, commas=True)


def label_of(members: Members) -> str:
    """Return the name of a cluster: its member's, or that of the first and how many more there are."""
    others = f"-and-{len(members) - 1}-more" if len(members) > 1 else ""
    return f"{members[0].label[:_LONGEST]}{others}"


def unjudged_target(label: str, why: str, taken: Sequence[str] = ()) -> Target:
    """Return the target of a process about which nothing can be determined."""
    label = unique(label, taken)
    there = Unreached(member=label, role=Role.CLIENT, url="", reason=why)
    return Target(label=label, origin="live", listeners=(), unreached=(there,))


def _read(
    processes: Sequence[Process], *, every: bool
) -> tuple[list[RunningMember], list[tuple[Process, str]]]:
    """Return the members that can be read, and the other processes, each with the reason.

    Raises:
        UsageError: if one cannot be read, and ``every`` one must be.
    """
    # The readers, and YAML, are imported where there is something to read.
    from pytest_etcdtls.declared.running import SECONDS, read_running
    from pytest_etcdtls.tls.held_ports import held_by_another, opened_by

    def read(process: Process) -> RunningMember:
        member = read_running(process)
        if not every and not opened_by(process):
            urls = (listener.url for listener in declared_listeners(member.declared.declaration))
            held = (held_by_another(process, url.host, url.port) for url in urls if not url.is_socket)
            where = next((f", and {text}" for text in held if text), "")
            raise UsageError(
                f"{process.name} ({process.argv[0]}) listens on no TCP port, as a running etcd does{where}: "
                "end it, or pass --etcd-pid=PID of the others"
            )
        return structs.replace(member, ids=ids_of(member.declared))

    # Subordinate users, of which one user has thousands, come after the users of the machine (subuid(5)).
    ordered = sorted(processes, key=lambda process: int(process.user or 0))
    members = dict(zip(ordered, each_in_time(read, ordered, SECONDS, ahead=_AHEAD), strict=True))
    running: list[RunningMember] = []
    unread: list[tuple[Process, str]] = []
    for process in processes:
        member = members[process]
        if not isinstance(member, Exception):
            running.append(member)
            continue
        why = str(member) if isinstance(member, UsageError | TimeoutError) else error_text(member)
        why = why if process.name in why else f"{process.name} ({process.argv[0]}) cannot be read: {why}"
        if every:
            raise UsageError(why) from member
        unread.append((process, why))
    return running, unread


def _of_each_user(processes: Sequence[Process]) -> tuple[list[Process], list[Process]]:
    """Return the processes that are judged, and those beyond the limits.

    Those of root and of our own user come first, then the first one of each other user, then the second ones.
    """
    ours, before = {"0", str(os.getuid())}, Counter[str]()
    ranks: dict[int, int] = {}
    for process in processes:
        user = process.user
        ranks[process.pid] = -1 if user in ours else before[user]
        before[user] += 1
    first = sorted(processes, key=lambda process: ranks[process.pid])[:_MOST]
    within = {process.pid for process in first if ranks[process.pid] < _MOST_OF_A_STRANGER}
    return (
        [process for process in processes if process.pid in within],
        [process for process in processes if process.pid not in within],
    )


def _named(texts: Sequence[str]) -> tuple[list[Process], tuple[str, ...]]:
    """Return the processes, each once, and why ``auto`` leaves out others."""
    from pytest_etcdtls.declared.running import find_process, find_processes

    named: list[Process] = []
    others: list[str] = []
    for text in texts:
        if text == AUTO:
            processes = find_processes(others.append)
            if not processes:
                none = (
                    "no process of this machine that this user can see is a member of etcd: run it on the "
                    "node as root; in a container, with the process IDs of the node (hostPID)"
                )
                raise UsageError("; ".join([none, *others[:_SHOWN]]))
            named += processes
        elif text.isdecimal():
            named.append(find_process(int(text)))
        else:
            raise UsageError(f"{text!r} is neither the ID of a process nor auto")
    return list({process.pid: process for process in named}.values()), tuple(others)


def _with_files(source: Source, running: Sequence[RunningMember]) -> list[RunningMember]:
    """Return the processes with the declarations of ``--etcd-config``, each with that of its member.

    Raises:
        UsageError: if a declaration is that of none of them, or of several that the user named.
    """
    from pytest_etcdtls.declared.reading import read_declarations

    files = [source.resolve(CONFIG, text) for text in source.texts(CONFIG)]
    written = [declaration for file in files for declaration in read_declarations(file)]
    matched = list(running)
    for declaration in written:
        fitting = [
            number for number, etcd in enumerate(running) if _is_of(declaration, etcd.declared.declaration)
        ]
        if len(written) == len(running) == 1:
            fitting = [0]
        # A stranger's process may say that it is that member: each that does is compared.
        is_clear = len(fitting) == 1 or (fitting and searches(source))
        if not is_clear or any(matched[number].written for number in fitting):
            names = ", ".join(f"{etcd.process.name} ({etcd.declared.declaration.name})" for etcd in running)
            raise UsageError(
                f"--etcd-config {declaration.source} declares {declaration.name}, and "
                f"{'several' if fitting else 'none'} of the processes of --etcd-pid are that member: {names}"
            )
        for number in fitting:
            matched[number] = structs.replace(matched[number], written=declaration)
    return matched


def _is_of(declaration: Declaration, running: Declaration) -> bool:
    """Return whether a declaration and a process are of one member, by their URLs for peers or names."""
    peers = [{*advertised(each, Role.PEER)} for each in (declaration, running)]
    if peers[0] and peers[1]:
        return bool(peers[0] & peers[1])
    return declaration.name == running.name


def _clusters(members: Sequence[LabelledDeclaration], *, named: bool) -> list[Members]:
    """Return the members by cluster, each with why another process is not joined with it.

    Args:
        members: the processes.
        named: the user named each of them.
    """
    clusters: list[Members] = []
    for member in members:
        of_it = [each for each in clusters if any(_are_joined(member, one, named) for one in each)]
        clusters = [each for each in clusters if each not in of_it]
        clusters.append((*itertools.chain(*of_it), member))
    # Two clusters that were created alike have equal IDs, and so have their members.
    unclear = [
        each for each in clusters if max(Counter(filter(None, map(_ids_of, each))).values(), default=1) > 1
    ]
    clusters = [each for each in clusters if each not in unclear]
    clusters += [(member,) for each in unclear for member in each]
    return [
        tuple(structs.replace(member, apart=_why_apart(cluster, members)) for member in cluster)
        for cluster in sorted(clusters, key=lambda cluster: members.index(cluster[0]))
    ]


def _ids_of(member: LabelledDeclaration) -> MemberIDs | None:
    return member.running.ids if member.running else None


def _are_joined(one: LabelledDeclaration, other: LabelledDeclaration, named: bool) -> bool:
    """Return whether two processes are members of one cluster, or declared to be."""
    here, there = one.running, other.running
    if here is None or there is None or not (named or here.process.owner == there.process.owner):
        return False
    if here.ids and there.ids and here.ids.cluster == there.ids.cluster:
        return True
    declarations = here.declared.declaration, there.declared.declaration
    listed = all(_lists(*pair) for pair in (declarations, declarations[::-1]))
    return listed and here.process.network == there.process.network != ""


def _lists(declaration: Declaration, other: Declaration) -> bool:
    """Return whether a member lists a URL of another one in ``--initial-cluster``."""
    urls = {entry.partition("=")[2] for entry in declaration.words("initial-cluster")}
    return bool(urls.intersection(map(str, advertised(other, Role.PEER))))


def _why_apart(cluster: Members, members: Sequence[LabelledDeclaration]) -> str:
    """Return why another process may be a member of a cluster, and is not joined; empty if none may be."""
    others = [member for member in members if member not in cluster]
    ids = {known.cluster for member in cluster if (known := _ids_of(member))}
    if others and not ids:
        return "the ID of its cluster cannot be read in its data directory"
    alike = [one.label for one in others if (known := _ids_of(one)) and known.cluster in ids]
    return f"{some(alike, _SHOWN)} has the same cluster ID" if alike else ""


def _listeners(label: str, running: RunningMember) -> Iterator[Listener | Unreached]:
    """Yield the listeners of a process, as they are reached in its network namespace."""
    process, declaration = running.process, running.declared.declaration
    own, why_not = _network(process)
    opened, moved, seen = _opened_before(running), list[Role](), list[Listener]()
    declared = declared_listeners(declaration)
    wildcards = {
        (listener.role, listener.url.port): listener.url.host
        for listener in declared
        if listener.url.is_wildcard
    }
    for listener in listeners_from_here(label, declaration, here=True, process=process):
        if isinstance(listener, Unreached):
            yield listener
            continue
        address, why, host, place = "", "", listener.host, listener.place
        if not listener.is_socket:
            unspecified = wildcards.get((listener.role, listener.port))
            address, why = ("", why_not) if why_not else _address(process, listener, unspecified)
        if why:
            yield Unreached(member=label, role=listener.role, url=listener.url, reason=why)
            continue
        if listener.is_socket:
            file = inside(str(running.declared.paths.of_process(host)))
            reached = replace(listener, connect_to=(file, 0), process=process.pid)
        else:
            # The address that was checked, not the name again, which may lead elsewhere the next time.
            connect_to = None if address == host else (address, listener.port)
            reached = replace(listener, connect_to=connect_to, process=process.pid, in_its_network=not own)
        found = (reached,) if not opened else _as_it_answers(reached) if place in opened else ()
        if reached not in found:
            why = (
                f"{listener.url} is in the configuration file of {process.name}, which was changed after the "
                "process was started: it is opened at the next start"
            )
            yield Unreached(member=label, role=listener.role, url=listener.url, reason=why, next_start=True)
        if not found:
            moved.append(listener.role)
        yield from (one for one in found if one not in seen)
        seen += found if opened else ()
    places = {listener.url.place for listener in declared}
    for place, address in opened.items() if moved and not why_not else ():
        if isinstance(place, int) and place not in places:
            yield from _moved(label, process, (address, place), moved, own=own)


def _as_it_answers(listener: Listener) -> tuple[Listener, ...]:
    """Return a listener with each scheme in which it answers; as it is if it answers in none.

    The configuration file has the scheme of the next start, and a socket has none.
    """
    from pytest_etcdtls.declared.running import SECONDS
    from pytest_etcdtls.tls.attempt import Request
    from pytest_etcdtls.tls.connection import make_attempt
    from pytest_etcdtls.tls.hello import TLS1_3, ClientHello, exchange_hello
    from pytest_etcdtls.tls.suites import TLS13_SUITES

    purpose = "the scheme of a listener whose file was changed"
    hello = ClientHello(purpose=purpose, version=TLS1_3, suites=TLS13_SUITES)
    plain = make_attempt(listener, Request(purpose=purpose, plaintext=True), SECONDS)
    tls = exchange_hello(listener, hello, SECONDS)
    found = [replace(listener, scheme="https")] if tls.answered else []
    found += [replace(listener, scheme="http")] if plain.answers_plaintext else []
    return tuple(found) or (listener,)


def _address(process: Process, listener: Listener, unspecified: str | None) -> tuple[str, str]:
    """Return the address at which a listener of a process is reached, and why it is not, if so.

    Args:
        process: the process.
        listener: with a port.
        unspecified: the unspecified address on which it is declared; ``None`` if it is declared on another.
    """
    from pytest_etcdtls.tls.held_ports import held_by_another

    address = _own_address(process, listener.host)
    if not address and unspecified is not None:
        # An advertised name or address may be that of a load balancer, with any etcd behind it.
        address = "::1" if unspecified == "::" else "127.0.0.1"
    if not address:
        return "", (
            f"{process.name} declares {listener.url}, and {listener.host} is not an address of its network, "
            f"where alone etcd can listen: correct that, or pass {listener.role.option}"
        )
    if held := held_by_another(process, address, listener.port):
        return "", (
            f"{process.name} declares {listener.url}, and does not listen there: {held}; correct the URL, or "
            "end the other process and restart etcd"
        )
    return address, ""


def _opened_before(running: RunningMember) -> dict[int | str, str]:
    """Return where a process listens whose configuration file was changed since its start; empty for others.

    They are those that it read in the file then.
    """
    from pytest_etcdtls.facts.process_comparison import configuration_changed
    from pytest_etcdtls.tls.held_ports import opened_by

    return opened_by(running.process) if configuration_changed(running) else {}


def _moved(
    label: str, process: Process, address: tuple[str, int], moved: Sequence[Role], *, own: bool
) -> Iterator[Listener | Unreached]:
    """Yield what listens where the configuration file does not have a listener any more.

    Its role is that of the listeners which the file has instead, if they are of one role.
    """
    host, port = address
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared
    listener = Listener(
        role=moved[0],
        scheme="https",
        host=host,
        port=port,
        member=label,
        label=f"{moved[0]}-{safe(host)}-{port}",
        process=process.pid,
        in_its_network=not own,
    )
    if len(set(moved)) == 1:
        yield from _as_it_answers(listener)
        return
    url, ways = listener.url, " or ".join(sorted({role.option for role in moved}))
    why = f"{process.name} listens on {url}, which its configuration file does not have now: pass {ways}"
    yield Unreached(member=label, role=moved[0], url=url, reason=why)


def _network(process: Process) -> tuple[bool, str]:
    """Return whether a process is in our network namespace, and why its listeners are not reached, if so."""
    try:
        if is_own_network(process.pid):
            return True, ""
        with network_of(process.pid):
            return False, ""
    except OSError as error:
        return False, (
            f"{process.name} has a network namespace of its own, which this user may not enter "
            f"({error.strerror}): run pytest as root of the machine (CAP_SYS_ADMIN), or in the pod of etcd "
            "(kubectl debug --target)"
        )


def _own_address(process: Process, host: str) -> str:
    """Return an address of a host that has only addresses of the process's network; empty if there is none.

    Of names etcd listens on ``localhost`` alone (:func:`~pytest_etcdtls.declared.declaration.bind_problem`).
    """
    from pytest_etcdtls.declared.running import SECONDS

    named = host == "localhost"
    addresses = in_order(addresses_of(host, SECONDS)) if named else [host] if is_address(host) else []
    with suppress(OSError), network_of(process.pid):
        if addresses and all(is_loopback(one) or (not no_machine(one) and is_own(one)) for one in addresses):
            return addresses[0]
    return ""
