"""The processes that ``--etcd-pid`` names, each a target, and the files of ``--etcd-config`` beside them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from msgspec import structs

from pytest_etcdtls.declared.declaration import Declaration, advertised, declared_listeners
from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.role import Role
from pytest_etcdtls.settings import Source, option
from pytest_etcdtls.settings.declarations import (
    CONFIG,
    PKI_DIR,
    LabelledDeclaration,
    labels_of,
)
from pytest_etcdtls.settings.endpoints import ROLES, is_own, listeners_from_here
from pytest_etcdtls.target import Listener, Unreached
from pytest_etcdtls.tls.namespace import is_own_network, network_of

if TYPE_CHECKING:
    from pytest_etcdtls.declared.running import Process, RunningMember

PID: Final = "etcd_pid"
AUTO: Final = "auto"

_OF_ONE: Final = (*ROLES, "etcd_connect_to", "etcd_label")
"""Options that are about the listeners of one cluster."""
_ELSEWHERE: Final = (PKI_DIR, "etcd_via")
"""Options for an etcd on another machine."""


def read_processes(source: Source) -> tuple[LabelledDeclaration, ...]:
    """Return the members of ``--etcd-pid``, in the order of their start; none if it is not given.

    Raises:
        UsageError: if there is no such process, this user may not read it, or another option does not fit.
    """
    texts = source.texts(PID, commas=True)
    if not texts:
        return ()
    for name in _ELSEWHERE:
        if source.text(name):
            raise UsageError(
                f"{option(name)} is for an etcd elsewhere, and --etcd-pid names one of this machine, whose "
                f"files and listeners are reached as the process itself reaches them: omit {option(name)}"
            )
    # The readers, and YAML, are imported where there is something to read.
    from pytest_etcdtls.declared.running import read_running

    try:
        running = [read_running(process) for process in _named(texts)]
    except UsageError as error:
        raise UsageError(f"{option(PID)}: {error}") from error
    if len(running) > 1:
        for name in _OF_ONE:
            if source.texts(name) or source.text(name):
                pids = " ".join(str(etcd.process.pid) for etcd in running)
                raise UsageError(
                    f"{option(name)} is about one etcd, and --etcd-pid names {len(running)} ({pids}): pass "
                    "the --etcd-pid of one of them"
                )
    running = _with_files(source, running)
    labels = labels_of([etcd.declared.declaration for etcd in running])
    return tuple(
        LabelledDeclaration(
            label=label,
            declared=etcd.declared,
            here=True,
            listeners=tuple(_listeners(label, etcd)),
            running=etcd,
        )
        for label, etcd in zip(labels, running, strict=True)
    )


def _named(texts: Sequence[str]) -> list[Process]:
    """Return the processes, each once."""
    from pytest_etcdtls.declared.running import find_process, find_processes

    named: list[Process] = []
    for text in texts:
        if text == AUTO:
            processes = find_processes()
            if not processes:
                raise UsageError(
                    "no process of this machine that this user can see is a member of etcd: run it on the "
                    "node as root; in a container, with the process IDs of the node (hostPID)"
                )
            named += processes
        elif text.isdecimal():
            named.append(find_process(int(text)))
        else:
            raise UsageError(f"{text!r} is neither the ID of a process nor auto")
    return list({process.pid: process for process in named}.values())


def _with_files(source: Source, running: Sequence[RunningMember]) -> list[RunningMember]:
    """Return the processes with the declarations of ``--etcd-config``, each with that of its member.

    Raises:
        UsageError: if a declaration is that of none of them.
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
        if len(fitting) != 1 or matched[fitting[0]].written is not None:
            names = ", ".join(f"{etcd.process.name} ({etcd.declared.declaration.name})" for etcd in running)
            raise UsageError(
                f"--etcd-config {declaration.source} declares {declaration.name}, and "
                f"{'several' if fitting else 'none'} of the processes of --etcd-pid are that member: {names}"
            )
        matched[fitting[0]] = structs.replace(matched[fitting[0]], written=declaration)
    return matched


def _is_of(declaration: Declaration, running: Declaration) -> bool:
    """Return whether a declaration and a process are of one member, by their URLs for peers or names."""
    peers = [{*advertised(each, Role.PEER)} for each in (declaration, running)]
    if peers[0] and peers[1]:
        return bool(peers[0] & peers[1])
    return declaration.name == running.name


def _listeners(label: str, running: RunningMember) -> Iterator[Listener | Unreached]:
    """Yield the listeners of a process, as they are reached in its network namespace."""
    process, declaration = running.process, running.declared.declaration
    own, why_not = _network(process)
    wildcards = {
        (listener.role, listener.url.port): listener.url.host
        for listener in declared_listeners(declaration)
        if listener.url.is_wildcard
    }
    for listener in listeners_from_here(label, declaration, here=True):
        if isinstance(listener, Unreached):
            yield listener
            continue
        if why_not:
            yield Unreached(member=label, role=listener.role, url=listener.url, reason=why_not)
            continue
        connect_to = None
        unspecified = wildcards.get((listener.role, listener.port))
        if unspecified is not None and not _reaches(process, listener.host):
            # An advertised name or address may be that of a load balancer, with any etcd behind it.
            connect_to = ("::1" if unspecified == "::" else "127.0.0.1", listener.port)
        yield replace(listener, connect_to=connect_to, process=process.pid, in_its_network=not own)


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


def _reaches(process: Process, host: str) -> bool:
    """Return whether an address is one of the process's network namespace."""
    with suppress(OSError), network_of(process.pid):
        return is_own(host)
    return False
