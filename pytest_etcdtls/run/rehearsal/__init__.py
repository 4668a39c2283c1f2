"""The next restart of etcd, rehearsed: ``--etcd-rehearse``.

etcd reads its settings, its CA bundles and its program when it starts. What was changed since waits for the
next restart, which nobody plans. So the program of the running etcd is started once more, as it would be
started now (``planning.py``), where nothing is written and nothing gets out (``stage.py``). Every fact that
was observed of the running etcd and that a client could notice is observed again, with the same identities at
the same addresses, and the behaviour of both (``facts/behaviour.py``) is compared.

A rehearsal must not blame etcd for what it does itself. "Does not start" is said only if etcd itself ended,
with a status of its own, and its log has no error of a file system that is read-only or full. If it does not
start with another declaration (``--etcd-config``), the process's own settings are started as a control.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path, PurePosixPath
from typing import Final

from msgspec import structs

from pytest_etcdtls.checks.registry import catalogue
from pytest_etcdtls.children import child_environment
from pytest_etcdtls.declared.declaration import (
    FILES,
    NOT_SHOWN,
    Declaration,
    declared_listeners,
    masked,
)
from pytest_etcdtls.declared.effective import effective_of
from pytest_etcdtls.declared.flags import FLAG_OF, flag_known
from pytest_etcdtls.declared.running import RunningMember, differences, listening
from pytest_etcdtls.errors import NotVerifiedError, Reason, UnobservedError, UnreadableFileError
from pytest_etcdtls.etcd.launch import ReadinessLog, Served, why_not_started
from pytest_etcdtls.facts.access import AcceptedClient
from pytest_etcdtls.facts.behaviour import GATEWAY, Behaviour, BehaviourChange, changes
from pytest_etcdtls.facts.listener import ServedChain
from pytest_etcdtls.facts.observed import observed_behaviour, texts
from pytest_etcdtls.facts.process_comparison import changed_since
from pytest_etcdtls.facts.recording import Recording
from pytest_etcdtls.facts.rehearsal import LISTENER, Rehearsal, Rehearsals
from pytest_etcdtls.facts.release import EtcdReleases
from pytest_etcdtls.pki.certificate import fingerprint, shown
from pytest_etcdtls.role import Protocol, Role
from pytest_etcdtls.run.judge import Judge
from pytest_etcdtls.run.observer import Observer
from pytest_etcdtls.run.rehearsal import stage
from pytest_etcdtls.run.rehearsal.planning import plan_of, unknown_of
from pytest_etcdtls.run.rehearsal.stage import Plan
from pytest_etcdtls.run.workers import in_threads
from pytest_etcdtls.settings.declarations import FoundFiles, dialling_pair
from pytest_etcdtls.target import Listener, PortCredentials, StartFailure, Target
from pytest_etcdtls.tls.attempt import Ending
from pytest_etcdtls.tls.held_ports import held_by_another, opened_by
from pytest_etcdtls.untrusted.printable import some
from pytest_etcdtls.untrusted.process_user import OVERRIDES, STARTED, label_of, state_of
from pytest_etcdtls.versions import Release, version_key

COMPARED: Final = ("access", "versions", "suites", "groups", "alpn", "announced", GATEWAY, "certificate")
"""The topics that are compared, those that matter most first. What depends on data, as the API, is not."""
SECONDS: Final = 30.0
"""Time that etcd may take to listen."""

_NOT_OURS: Final = (
    *("read-only file system", "no space left on device", "out of memory", "cannot allocate memory"),
    *("pthread_create failed", "failed to create new os thread"),
)
"""Errors that a rehearsal may have caused itself."""
_AT_EACH_HANDSHAKE: Final = ("cert-file", "key-file", "crl-file")
"""What etcd reads again for each connection: a change is in force now."""
_PAUSE: Final = 0.02
_SETTLES: Final = 0.3
"""Seconds to wait after etcd logs that it serves: it starts its gateway last, and may exit then."""
_QUIET: Final = 3.0
"""Seconds in which an etcd listens whose log does not say that it serves."""
_BY_CHANCE: Final = "works or not by chance"
"""The state of a gateway that dials one of several listeners."""
_NAMED: Final = 4
"""Maximum number of observations that are named of a topic."""
_SYS_ADMIN: Final = 1 << 21
"""The capability ``CAP_SYS_ADMIN``."""
_FIRST_NAMESPACE: Final = 0xEFFFFFFD
"""The inode of the first user namespace (linux/proc_ns.h, ``PROC_USER_INIT_INO``)."""
_LIMITS: Final = {
    "": ("sys/fs/cgroup", "memory.max", "memory.current"),
    "memory": ("sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
}
"""Where control groups of version 2 and 1 say how much memory their processes may take, and have taken."""


def rehearse(observer: Observer) -> Rehearsals:
    """Start each etcd of a target once more, and return what differs from what was observed.

    Raises:
        NotVerifiedError: if none can be rehearsed.
    """
    members: list[Rehearsal] = []
    refused: list[Reason] = []
    for member, running in observer.target.running.items():
        try:
            members.append(_rehearse(observer, running, member))
        except NotVerifiedError as error:
            refused.append(error.why)
    if not members:
        raise NotVerifiedError(Reason.together(refused))
    return Rehearsals(members=tuple(members), refused=tuple(refused))


def _rehearse(observer: Observer, running: RunningMember, member: str) -> Rehearsal:
    """Start one etcd once more.

    Raises:
        NotVerifiedError: if it cannot be rehearsed.
    """
    own, written = running.declared.declaration, running.written
    if written is not None:
        written = replace(written, settings={**unknown_of(written, own), **written.settings})
    try:
        plan = plan_of(running, own)
        declared = plan if written is None else plan_of(running, written)
        made = _rehearsed(observer, member, running, written or own, declared)
        if made.failure is None or _start_of(declared) == _start_of(plan):
            return made
        if why := _another_program(observer, member, written or own):
            raise NotVerifiedError(f"{made.source} declares another image, and {why}")
        control = _rehearsed(observer, member, running, own, plan, compares=False)
        return control if control.failure else made
    except (NotVerifiedError, UnreadableFileError, OSError) as error:
        why = error.strerror or str(error) if isinstance(error, OSError) else str(error)
        advice = _advice(why)
        raise NotVerifiedError(
            f"the restart of {running.process.name} is not rehearsed: {why}{advice}"
        ) from error


def _advice(why: str) -> str:
    """Return, in parentheses, what may have refused a step to this run, and what to do."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    able = int(status.partition("CapEff:")[2].split()[0], 16) & _SYS_ADMIN
    denied = re.search("not permitted|Permission denied", why)
    if denied and not (able and os.stat("/proc/self/ns/user").st_ino == _FIRST_NAMESPACE):
        return " (run as root of the machine with CAP_SYS_ADMIN)"
    causes = []
    if re.search("not permitted|not implemented|Bad system call", why) and "Seccomp:\t0" not in status:
        causes.append("filter of system calls (SystemCallFilter=, RestrictNamespaces=, seccomp)")
    if denied and (label := label_of(Path("/proc/self"))):
        causes.append(f"security label {label.removeprefix('exec ')}")
    of = " or ".join(causes)
    return f" (this run's {of} may forbid it: run outside of its unit or container)" if of else ""


def _start_of(plan: Plan) -> Plan:
    """Return a plan in which the order of the arguments does not count."""
    return replace(plan, argv=tuple(sorted(plan.argv)))


def _rehearsed(
    observer: Observer,
    member: str,
    running: RunningMember,
    declaration: Declaration,
    plan: Plan,
    *,
    compares: bool = True,
) -> Rehearsal:
    """Rehearse a start; a second time if it is denied files of other users that the running etcd can read."""
    overrides = plan.capabilities & OVERRIDES
    try:
        made = _rehearsed_once(observer, member, running, declaration, plan, compares=compares)
        denied = made.failure is not None and _is_denied("\n".join((made.failure.reason, *made.failure.log)))
    except (NotVerifiedError, OSError) as error:
        denied = _is_denied(str(error)) or str(error) == stage.DATA_NOT_WRITABLE
        if not (overrides and denied):
            raise
    if overrides and denied:
        again = replace(plan, reads_all=True)
        return _rehearsed_once(observer, member, running, declaration, again, compares=compares)
    return made


def _is_denied(text: str) -> bool:
    return "permission denied" in text.lower()


def _rehearsed_once(
    observer: Observer,
    member: str,
    running: RunningMember,
    declaration: Declaration,
    plan: Plan,
    *,
    compares: bool,
) -> Rehearsal:
    began = time.monotonic()
    with started(plan, running.process.name) as etcd:
        failure = etcd.await_served(declaration)
        served = time.monotonic()
        made = Rehearsal(member=member, source=declaration.source, seconds=round(served - began, 3))
        if compares and failure is None:
            made = _compared(made, observer, etcd.child, running, declaration)
        failure = failure or etcd.ended(max(0.0, served + _SETTLES - time.monotonic()))
        if compares and failure is None:
            failure = _not_bound(running, declaration)
    differs = failure is not None or made.changes
    causes = tuple(_causes(running, declaration, failed=failure is not None)) if differs else ()
    causes = (made.upgrade, *causes) if made.upgrade and differs else causes
    return structs.replace(made, failure=failure, causes=causes)


def _not_bound(running: RunningMember, declaration: Declaration) -> StartFailure | None:
    """Return that another process holds a port, which is free on the stage; ``None`` if none does."""
    for listener in declared_listeners(declaration) if not declaration.on("socket-reuse-port") else ():
        url = listener.url
        if not url.is_socket and (held := held_by_another(running.process, url.host, url.port)):
            reason = f"it cannot listen on {url}, since {held} (address already in use)"
            return StartFailure(member=running.process.name, reason=reason)
    return None


class RehearsedEtcd:
    """An etcd on the stage.

    Args:
        plan: what it was started with.
        member: the running etcd in messages.
        stage: the connection to ``stage.py``.
        keeper: the process of ``stage.py``.

    Attributes:
        pid: process 1 of its namespaces.
    """

    def __init__(
        self, plan: Plan, member: str, stage: socket.socket, keeper: subprocess.Popen[bytes]
    ) -> None:
        self._plan = plan
        self._member = member
        self._stage = stage
        self._keeper = keeper
        self._unread = b""
        self._log = ""
        self._status: object = None
        self.pid = int(self._told("pid"))
        self._told("started")
        _, STARTED[self.pid] = state_of(self.pid)

    def _told(self, name: str) -> str:
        told = self._next(SECONDS)
        if name not in told:
            raise NotVerifiedError(f"it is not started within {SECONDS:g} s")
        return str(told[name])

    def _next(self, seconds: float) -> Mapping[str, object]:
        """Return the next message of the stage; an empty one if there is none in time."""
        self._stage.settimeout(seconds)
        while b"\n" not in self._unread:
            try:
                received = self._stage.recv(65536)
            except (BlockingIOError, TimeoutError):
                return {}
            except ConnectionResetError:  # it ended before it read what was sent (unix_release_sock)
                received = b""
            if not received:
                raise NotVerifiedError(f"the process that starts it ended with status {self._keeper.wait()}")
            self._unread += received
        line, _, self._unread = self._unread.partition(b"\n")
        told: Mapping[str, object] = json.loads(line)
        if "failed" in told:
            raise NotVerifiedError(str(told["failed"]))
        return told

    @property
    def child(self) -> int:
        """The process of etcd itself, the child of process 1 (proc_pid_task(5)); process 1 if it ended."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text(encoding="ascii").split()
        pid = int(children[0]) if children else self.pid
        _, STARTED[pid] = state_of(pid)
        return pid

    def _ports(self) -> set[int]:
        """Return the ports on which it listens."""
        return {int(fields[1].rpartition(b":")[2], 16) for fields in listening(self.pid)}

    def ended(self, seconds: float = 0.0) -> StartFailure | None:
        """Return why it does not start if it has ended, or does within so many seconds.

        Raises:
            NotVerifiedError: if the rehearsal itself may be the reason.
        """
        if self._status is None:
            self._status = self._next(seconds).get("ended")
        if self._status is None:
            return None
        log = self.log()
        if (number := int(str(self._status))) < 0:
            raise NotVerifiedError(f"it was ended by signal {-number}")
        if doubt := next((text for text in _NOT_OURS if text in log.lower()), ""):
            raise NotVerifiedError(doubt)
        if self._plan.capabilities and "operation not permitted" in log.lower():
            raise NotVerifiedError("it is denied what it may do by a capability of the running etcd")
        if self._plan.label and _is_denied(log):
            raise NotVerifiedError(f"it is denied access, with the security label {self._plan.label}")
        return why_not_started(self._member, f"it ends with status {number}", log)

    def await_served(self, declaration: Declaration) -> StartFailure | None:
        """Wait until it serves what a declaration lists, and return why it does not start if it has ended.

        Its log says when, since it fails with some files after it has opened its ports. Of a log without
        that, a while counts in which it listens.

        Raises:
            NotVerifiedError: if it does not listen in time, or the rehearsal itself may be the reason.
        """
        urls = [one for one in declared_listeners(declaration) if not one.url.is_socket]
        clients = (str(one.url) for one in urls if one.role in (Role.CLIENT, Role.CLIENT_HTTP))
        log = ReadinessLog(Served.from_urls(clients))
        deadline, listens = time.monotonic() + SECONDS, 0.0
        while (failure := self.ended(_PAUSE)) is None:
            closed = {one.url.port for one in urls} - self._ports()
            if not closed:
                listens = listens or time.monotonic()
                log.read(self._new_log())
                if log.ready or time.monotonic() > listens + _QUIET:
                    return self.ended()
            elif time.monotonic() > deadline:
                ports = ", ".join(map(str, sorted(closed)))
                raise NotVerifiedError(f"it does not listen on port {ports} within {SECONDS:g} s")
        return failure

    def _new_log(self) -> bytes:
        """Read its log further, and return what is new."""
        self._stage.sendall(b"\n")
        while "log" not in (told := self._next(SECONDS)):
            if not told:
                raise NotVerifiedError(f"the process that starts it does not answer within {SECONDS:g} s")
            self._status = told.get("ended", self._status)
        self._log += str(told["log"])
        return str(told["log"]).encode("utf-8", "surrogatepass")

    def log(self) -> str:
        """Return its log, without secrets."""
        self._new_log()
        text = self._log
        for name, value in self._plan.environment.items():
            if len(value) > 3 and masked(FLAG_OF.get(name, name), value) == NOT_SHOWN:
                text = text.replace(value, NOT_SHOWN)
        return text


@contextmanager
def started(plan: Plan, member: str) -> Iterator[RehearsedEtcd]:
    """Start an etcd; it ends with the context, and with this process.

    Raises:
        NotVerifiedError, OSError: if it cannot be started.
    """
    needed = plan.size + plan.memory
    if (available := available_memory()) < needed:
        raise NotVerifiedError(
            f"{max(available, 0) >> 20} MiB of memory are available, and it takes up to {needed >> 20}"
        )
    ours, theirs = socket.socketpair()
    with (
        ours,
        theirs,
        subprocess.Popen(
            [sys.executable, "-I", "-S", str(Path(stage.__file__))],
            stdin=theirs.fileno(),
            stdout=theirs.fileno(),
            stderr=subprocess.DEVNULL,
            env=child_environment(),
        ) as keeper,
    ):
        theirs.close()
        try:
            ours.sendall(json.dumps(asdict(plan)).encode() + b"\n")
            yield RehearsedEtcd(plan, member, ours, keeper)
        finally:
            ours.close()  # with which it ends


def available_memory(root: Path = Path("/")) -> int:
    """Return how many bytes of memory are left for this run, on the machine and in its control groups."""
    lines = (root / "proc/meminfo").read_text(encoding="ascii").splitlines()
    available = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    for line in (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers in _LIMITS:
            below, limit, used = _LIMITS[controllers]
            groups = PurePosixPath(path.strip("/"))
            for group in (groups, *groups.parents):
                here = root / below / group
                with suppress(OSError, ValueError):  # no limit there
                    values = dict(line.split() for line in (here / "memory.stat").read_text().splitlines())
                    cached = sum(int(values[name]) for name in ("inactive_file", "active_file"))
                    taken = int((here / used).read_text()) - cached
                    available.append(int((here / limit).read_text()) - taken)
    return min(available)


def _compared(
    made: Rehearsal, observer: Observer, process: int, running: RunningMember, declaration: Declaration
) -> Rehearsal:
    """Return a rehearsal with what differs from the running etcd, and what of that was not observed again."""
    listeners = _listeners_of(observer.target, made.member)
    found: list[BehaviourChange] = []
    now, then = (_by_place(one) for one in (running.declared.declaration, declaration))
    if opened := opened_by(running.process):
        now = {place: now[place] for place in map(_place, opened) if place in now}
        for one in listeners:
            here = {each.url for each in listeners if each.place == one.place}
            declared = now.get(place := _place(one.place), set())
            if one.process == running.process.pid and {*map(_scheme, here)} != {*map(_scheme, declared)}:
                now[place] = here
    for place in sorted(now.keys() | then.keys()):
        urls = [", ".join(sorted(one.get(place, ()))) or "not open" for one in (now, then)]
        labels = tuple(one.label for one in listeners if _place(one.place) == place)
        if urls[0] != urls[1]:
            found.append(_change(LISTENER, place, labels, *urls))
    same = tuple(
        replace(one, process=process, in_its_network=True)
        for one in listeners
        if not one.discovered and _scheme(one.url) in map(_scheme, then.get(_place(one.place), ()))
    )
    again, reasons = _observe_again(observer, same)
    old, new = (_observed(seen.recording, listeners) for seen in (observer, again))
    states = [one for one in old if one.topic == GATEWAY and again.target.labelled(one.listener)]
    chances = _gateways_by_chance(again, made.member, running, declaration) if states else {}
    new = [one for one in new if one.topic != GATEWAY or one.listener not in chances]
    new += [structs.replace(one, value=text) for one in states if (text := chances.get(one.listener))]
    found += sorted(changes(old, new), key=lambda one: (COMPARED.index(one.topic), one.after != "refused"))
    if declaration is running.declared.declaration:
        found = [one if chances.keys() & one.listeners else _explained(one, again) for one in found]
    has_tls = any(one.scheme == "https" for one in listeners)
    topics = {one.topic for one in old} if has_tls else COMPARED
    unknown = (*_unknown(old, new, reasons), *_unasked(observer, made.member, running, declaration))
    made = structs.replace(made, upgrade=_upgrade(observer, again, made.member, running.process.argv[0]))
    return structs.replace(made, changes=tuple(found), unknown=unknown, compared=tuple(sorted(topics)))


def _explained(change: BehaviourChange, again: Observer) -> BehaviourChange:
    """Return a change with why the gateway does not work then, as its check says."""
    if change.topic != GATEWAY or not change.listeners:
        return change
    judged = Judge(again).result(catalogue()["api.gateway-works"], again.target.labelled(change.listeners[0]))
    return structs.replace(change, why=judged.findings[0].why if judged.findings else "")


def _gateways_by_chance(
    again: Observer, member: str, running: RunningMember, declaration: Declaration
) -> dict[str, str]:
    """Return where the gateway works or not by chance, and why: by the label of the listener.

    Releases with --listen-client-http-urls dial the client listener that comes first in a map of Go, over TLS
    or in plain text (``embed.pickGRPCGatewayServeContext``): at each start another one. Older ones dial the
    listener that is asked. What the gateway presents to a listener of TLS is presented here, too. Of two
    listeners at one address, older ones may serve gRPC in plain text with the server of the other: the
    goroutine of the first in ``embed.serveCtx.serve`` reads a variable that is set again for the second.
    """
    version = str(_release(again, member) or declaration.version or "") or None
    etcd = effective_of(structs.replace(running.declared, declaration=declaration), version)
    listeners = [one for one in again.target.listeners if one.role is Role.CLIENT]
    tls = [one for one in listeners if one.scheme == "https"]
    if not etcd.gateway or not tls:
        return {}
    if not flag_known("listen-client-http-urls", version):
        why = f"{_BY_CHANCE}: beside TLS at one address, etcd {version} serves gRPC in plain text by chance"
        places = {one.place for one in tls}
        return {one.label: why for one in listeners if one not in tls and one.place in places}
    pair = dialling_pair(etcd.member, "client", "gateway", FoundFiles())
    if len({one.tls for one in etcd.at(Role.CLIENT)}) == 1 or pair is None:
        return {}
    dials = Observer(replace(again.target, client=PortCredentials(identities=(pair,))), again.bounds)
    with suppress(UnobservedError):
        [tried] = dials.get(AcceptedClient, None, tls[0]).candidates
        cases = tried.cases.over(Protocol.GRPC)
        if cases and cases.endings <= {Ending.REFUSED, Ending.CLOSED}:
            why = (
                f"{_BY_CHANCE}: at each start etcd picks a client listener that its gateway dials, and "
                f"{tls[0].url} refuses the gateway's certificate"
            )
            return {one.label: why for one in again.target.listeners}
    return {}


def _listeners_of(target: Target, member: str) -> tuple[Listener, ...]:
    """Return the listeners of a member; of a single one those of others too, which are not opened again."""
    return tuple(one for one in target.listeners if one.member == member or len(target.running) == 1)


def _release(observer: Observer, member: str) -> Release | None:
    """Return the release of a member, as far as it is known."""
    with suppress(UnobservedError):
        for one in observer.get(EtcdReleases).members:
            if one.listener in _listeners_of(observer.target, member):
                return one.release
    return None


def _upgrade(observer: Observer, again: Observer, member: str, program: str) -> str:
    """Return that another release of etcd is started than the one that runs; empty if it is the same."""
    runs, starts = (_release(one, member) for one in (observer, again))
    differ = runs is not None and starts is not None and runs != starts
    return f"etcd {runs} runs, and etcd {starts} is started next, from {program}" if differ else ""


def _unasked(
    observer: Observer, member: str, running: RunningMember, declaration: Declaration
) -> Iterator[BehaviourChange]:
    """Yield each bundle that was changed and of which no client is known, and the image of another etcd.

    A CA that was made again under its name is announced as before.
    """
    for name, of_peers in (("trusted-ca-file", False), ("peer-trusted-ca-file", True)):
        labels = tuple(
            one.label
            for one in _listeners_of(observer.target, member)
            if one.scheme == "https" and (one.role is Role.PEER) is of_peers
            if not ((client := observer.recording.known(AcceptedClient, label=one.label)) and client.accepted)
        )
        path = running.declared.paths.of_process(declaration.text(name) or "")
        for _, changed in changed_since(running, (str(path),)) if labels and declaration.text(name) else ():
            before = f"changed at {changed:%Y-%m-%d %H:%M:%S} UTC, after etcd was started"
            why = "no client certificate is accepted now"
            yield _change("access", f"clients of {declaration.text(name)}", labels, before, why=why)
    if why := _another_program(observer, member, declaration):
        yield _change("versions", f"image {declaration.image}", (), declaration.source, why=why)


def _change(
    topic: str, about: str, at: tuple[str, ...], before: str, after: str = "not observed", why: str = ""
) -> BehaviourChange:
    return BehaviourChange(topic=topic, subjects=(about,), listeners=at, before=before, after=after, why=why)


def _another_program(observer: Observer, member: str, declaration: Declaration) -> str:
    """Return that a manifest's image has another etcd than the one that runs, and it is not here; else ""."""
    version = str(_release(observer, member) or declaration.version)
    if declaration.version and version_key(declaration.version) != version_key(version):
        return f"its etcd {declaration.version} is not on this machine, where etcd {version} runs"
    return ""


def _unknown(
    old: Iterable[Behaviour], new: Iterable[Behaviour], reasons: Mapping[tuple[str, str], str]
) -> Iterator[BehaviourChange]:
    """Yield what was observed of the running etcd and not of the rehearsed one, by listener and topic."""
    seen = {one.place for one in new}
    missing: dict[tuple[str, str], list[str]] = {}
    for one in old:
        if one.place not in seen:
            missing.setdefault((one.listener, one.topic), []).append(f"{one.subject} {one.detail}".strip())
    for (label, topic), subjects in missing.items():
        why = reasons.get((label, topic), "no answer is clear")
        yield _change(topic, some(subjects, _NAMED), (label,), "observed", why=why)


def _by_place(declaration: Declaration) -> dict[str, set[str]]:
    urls: dict[str, set[str]] = {}
    for listener in declared_listeners(declaration):
        urls.setdefault(_place(listener.url.place), set()).add(str(listener.url))
    return urls


def _place(place: int | str) -> str:
    return f"port {place}" if isinstance(place, int) else f"socket {place}"


def _scheme(url: str) -> str:
    return url.partition(":")[0]


def _observe_again(
    observer: Observer, listeners: tuple[Listener, ...]
) -> tuple[Observer, dict[tuple[str, str], str]]:
    """Observe what was observed of listeners with these labels, and why that was not possible, by topic."""
    target = replace(observer.target, listeners=listeners, logs={}, discover=False)
    again = Observer(target, replace(observer.bounds, pause=0.0))
    by_label = {one.label: one for one in listeners}
    wanted = [
        (label or "", type(fact), key, topics)
        for label, key, fact in observer.recording.facts
        if (topics := {one.topic for one in texts(fact, label or "", key)}.intersection(COMPARED))
    ]

    def observe(place: tuple[str, type[object], str | None, set[str]]) -> str:
        label, type_, key, _ = place
        if label not in by_label:
            return "the restarted etcd has no such listener"
        try:
            again.get(type_, key, by_label[label])
        except UnobservedError as unobserved:
            return str(unobserved)
        return ""

    reasons: dict[tuple[str, str], str] = {}
    whys = in_threads(observe, wanted, observer.bounds.concurrency)
    for (label, _, _, topics), why in zip(wanted, whys, strict=True):
        for topic in topics if why else ():
            reasons.setdefault((label, topic), why)
    return again, reasons


def _observed(seen: Recording, listeners: Collection[Listener]) -> list[Behaviour]:
    labels = [one.label for one in listeners]
    found = [one for one in observed_behaviour(seen) if one.listener in labels and one.topic in COMPARED]
    for label in labels:
        if (chain := seen.known(ServedChain, label=label)) is not None:
            leaf = chain.leaf
            value = f"{shown(leaf)} (SHA-256 {fingerprint(leaf)[:16]})"
            found.append(Behaviour(label, "certificate", "certificate", "", value))
    return found


def _causes(running: RunningMember, declaration: Declaration, *, failed: bool) -> Iterator[str]:
    """Yield what was changed since the running etcd was started, that it reads when it starts."""
    own = running.declared.declaration
    for setting in differences(declaration, own) if declaration is not own else ():
        removed = setting.running.written if setting.running else setting.name
        yield str(setting.declared) if setting.declared else f"{removed} is not in {declaration.source}"
    names = [name for name in FILES if failed or not name.endswith(_AT_EACH_HANDSHAKE)]
    paths = [declaration.text(name) or "" for name in names] + [own.config_file or ""]
    paths.append(running.process.argv[0] if running.process.argv[0].startswith("/") else "")
    files = tuple(str(running.declared.paths.of_process(path)) for path in dict.fromkeys(paths) if path)
    root = str(running.process.root)
    for file, changed in changed_since(running, files):
        path = file.removeprefix(root).replace("//", "/")
        yield f"{path} was changed at {changed:%Y-%m-%d %H:%M:%S} UTC, after etcd was started"
