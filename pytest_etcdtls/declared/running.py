"""A running etcd as the declaration: ``--etcd-pid``.

A process has been started with exactly one command line and one environment, which Linux keeps in
``/proc/PID/cmdline`` and ``environ`` (proc(5)). They are read as the arguments and variables that they are,
so no manifest, unit, script or template has to be interpreted, however etcd was started. The files that they
name are looked up in the root directory of the process (:mod:`pytest_etcdtls.untrusted.process_root`), so
each path is that of etcd, whatever is mounted in its container.

A member is a process whose program is named ``etcd`` and that is started neither as a proxy nor to print its
version. k3s runs etcd within its own process, and overwrites its command line (``proctitle.SetProcTitle``).
It starts that etcd with the file ``config`` in the data directory of etcd (pkg/daemons/executor, ``ETCD``,
and ``ETCDConfig.ToConfigFile``), which is the directory of the database that the process has open.

A process ID is used again after a process has ended. So the time at which the process was started is compared
before and after its files are read.

Anybody can start a process named etcd, and make a read of its memory block. Such a read is given up in time.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import Final

from msgspec import Struct

from pytest_etcdtls.declared.declaration import (
    Declaration,
    DeclaredMember,
    DeclaredPaths,
    Form,
    Setting,
    exists,
    taken,
)
from pytest_etcdtls.declared.flags import EVERY_FLAG, SECTIONS, is_about_tls
from pytest_etcdtls.declared.start import PROXIES
from pytest_etcdtls.errors import UnreadableFileError, UsageError
from pytest_etcdtls.untrusted.in_time import each_in_time
from pytest_etcdtls.untrusted.process_root import names_in, status_of
from pytest_etcdtls.untrusted.process_user import STARTED, BorrowedRightsError, state_of
from pytest_etcdtls.untrusted.regular_files import open_regular, read_regular

PROC: Final = Path("/proc")
SECONDS: Final = 5.0
"""How long processes may take to be read, all together: it takes milliseconds each."""
_LARGEST: Final = 4 * 1024 * 1024
"""Octets of a command line or an environment. Linux passes a program no more than 6 MiB of both."""
_DATABASE: Final = "/member/snap/db"
"""The path of the database in etcd's data directory."""
_DELETED: Final = " (deleted)"
"""What Linux adds to the path of a program that was replaced since, as by an upgrade."""
_PRINTS: Final = frozenset({"--version", "-version", "--help", "-help", "-h", "-V"})


class Process(Struct, frozen=True, kw_only=True):
    """A process that is a member of etcd.

    Attributes:
        started: when it was started, in clock ticks since the machine was (proc_pid_stat(5), field 22).
        argv: etcd's command line: the program and its arguments; empty if reading it does not end.
        embedded: another program runs etcd within its own process.
    """

    pid: int
    started: int
    argv: tuple[str, ...]
    embedded: bool = False

    @property
    def name(self) -> str:
        """The process in messages."""
        return f"process {self.pid}"

    @property
    def user(self) -> str:
        """The ID of its real user, as the kernel has it; empty if it has ended."""
        # Its files in /proc are root's as soon as it says so (prctl(2), PR_SET_DUMPABLE).
        found = re.search(rb"^Uid:\t(\d+)", _read(self.pid, "status"), re.MULTILINE)
        return found[1].decode() if found else ""

    @property
    def owner(self) -> tuple[str, str]:
        """Its real user and its user namespace, in which that user's ID counts."""
        return self.user, _link(self.pid, "ns/user")

    @property
    def network(self) -> str:
        """Its network namespace; empty if this user may not know it."""
        return _link(self.pid, "ns/net")

    @property
    def kind_of_access(self) -> tuple[str, ...]:
        """What decides which files it sees and may read: its user, its mounts and its root directory."""
        return (*self.owner, _link(self.pid, "ns/mnt"), _link(self.pid, "root"))

    @property
    def root(self) -> Path:
        """Its root directory."""
        return PROC / str(self.pid) / "root"

    @property
    def runs(self) -> bool:
        """Whether it still runs."""
        return _start_of(self.pid) == self.started

    @property
    def started_at(self) -> datetime:
        """When it was started, aware UTC, to a second."""
        text = (PROC / "stat").read_text(encoding="ascii")
        booted = int(re.findall(r"^btime (\d+)$", text, re.MULTILINE)[0])
        ticks = os.sysconf("SC_CLK_TCK")
        return datetime.fromtimestamp(booted, UTC) + timedelta(seconds=self.started / ticks)


class MemberIDs(Struct, frozen=True):
    """The IDs of a member and of its cluster, in lower-case hexadecimal."""

    member: str
    cluster: str


class RunningMember(Struct, frozen=True, kw_only=True):
    """A member of etcd that runs on this machine, and what it was started with.

    Attributes:
        ids: those in its data directory; ``None`` if they cannot be read.
        logs: the files that it writes its log to, as far as they are files.
        written: what ``--etcd-config`` declares for it; ``None`` if that is not given.
    """

    process: Process
    declared: DeclaredMember
    ids: MemberIDs | None = None
    logs: tuple[Path, ...] = ()
    written: Declaration | None = None

    def shares_files_with(self, other: RunningMember) -> bool:
        """Return whether both processes see the same files, with the rights of the same user."""
        ours, theirs = (each.process.kind_of_access for each in (self, other))
        return "" not in ours and ours == theirs


def find_processes() -> list[Process]:
    """Return every member of etcd on this machine that this user can see, in the order of their start."""
    pids = [int(name) for name in names_in(PROC) if name.isdecimal()]
    found = zip(pids, each_in_time(_member, pids, SECONDS), strict=True)
    processes = (_silent(pid) if isinstance(member, Exception) else member for pid, member in found)
    return sorted(filter(None, processes), key=lambda process: (process.started, process.pid))


def find_process(pid: int) -> Process:
    """Return the process of that ID.

    Raises:
        UsageError: if there is none, or it is not a member of etcd.
    """
    if _start_of(pid) is None:
        raise UsageError(f"there is no process {pid} here: see pgrep -a etcd")
    [process] = each_in_time(_member, [pid], SECONDS)
    if isinstance(process, Exception):
        raise UsageError(f"process {pid} cannot be read: {process}") from process
    if process is None:
        shown = " ".join(_argv(pid)[:2])
        raise UsageError(
            f"process {pid} ({shown}) is not a member of etcd, nor k3s with an embedded etcd that this user "
            "can see: see pgrep -a etcd"
        )
    return process


def _member(pid: int) -> Process | None:
    started, argv = _start_of(pid), _argv(pid)
    if started is None or not argv:  # a thread of the kernel, or a process that has ended
        return None
    embedded = False
    program = _link(pid, "exe").removesuffix(_DELETED)
    named = {PurePosixPath(argv[0]).name, PurePosixPath(program).name}
    if "etcd" in named:
        if len(argv) > 1 and (argv[1] in PROXIES or argv[1] in _PRINTS):
            return None
    elif "k3s" in named and (directory := _data_directory(pid)):
        argv, embedded = ("etcd", f"--config-file={directory}/config"), True
    else:
        return None
    STARTED[pid] = started
    return Process(pid=pid, started=started, argv=argv, embedded=embedded)


def _silent(pid: int) -> Process | None:
    """Return a process whose command line cannot be read, if the name of its program or its own is etcd."""
    program, started = _link(pid, "exe").removesuffix(_DELETED), _start_of(pid)
    if started is None or b"etcd" not in (PurePosixPath(program).name.encode(), _read(pid, "comm").strip()):
        return None
    return Process(pid=pid, started=started, argv=())


def _read(pid: int, name: str) -> bytes:
    """Return the content of a file of a process that the kernel makes; empty if it has ended."""
    try:
        return read_regular(PROC / str(pid) / name, _LARGEST)
    except UnreadableFileError:
        return b""


def _start_of(pid: int) -> int | None:
    """Return when a process was started; ``None`` if there is none."""
    with suppress(OSError):
        state, started = state_of(pid)
        return None if state in "ZX" else started
    return None


def _argv(pid: int) -> tuple[str, ...]:
    return _texts(_read(pid, "cmdline"))


def _texts(data: bytes) -> tuple[str, ...]:
    text = data.decode("utf-8", "backslashreplace")
    return tuple(text.removesuffix("\0").split("\0")) if text else ()


def listens(process: Process) -> bool:
    """Return whether a process listens on a TCP port, as a member of etcd does from its start on."""
    of_process = PROC / str(process.pid)
    links = (_link(process.pid, f"fd/{number}") for number in names_in(of_process / "fd"))
    sockets = {link.removeprefix("socket:[").removesuffix("]").encode() for link in links}
    return any(fields[9] in sockets for fields in listening(process.pid))


def listening(pid: int) -> Iterator[list[bytes]]:
    """Yield the fields of each TCP socket that listens in the network of a process (proc_pid_net(5))."""
    for name in ("net/tcp", "net/tcp6"):
        with suppress(UnreadableFileError, OSError), open_regular(PROC / str(pid) / name) as file:
            next(file, b"")
            # Those that listen come first (tcp_seq_start in Linux); of others there may be millions.
            yield from takewhile(lambda fields: fields[3] == b"0A", map(bytes.split, file))


def _link(pid: int, name: str) -> str:
    try:
        return os.readlink(PROC / str(pid) / name)
    except OSError:
        return ""


def _data_directory(pid: int) -> str:
    """Return the data directory of an etcd whose database a process has open; empty if there is none."""
    links = (_link(pid, f"fd/{number}") for number in names_in(PROC / str(pid) / "fd"))
    return next((link.removesuffix(_DATABASE) for link in links if link.endswith(_DATABASE)), "")


def read_running(process: Process) -> RunningMember:
    """Return what a process was started with, and its files.

    Raises:
        UsageError: if this user may not read it, it ended meanwhile, or what it names cannot be read.
    """
    from pytest_etcdtls.declared.reading import declared_member, from_command_line

    if not process.argv:
        raise UsageError(f"{process.name} does not answer: its command line is not read in {SECONDS:g} s")
    try:
        environment = _texts(read_regular(PROC / str(process.pid) / "environ", _LARGEST))
        status_of(process.root)
    except (UnreadableFileError, OSError) as error:
        if not process.runs:
            raise _ended(process) from error
        if isinstance(error, BorrowedRightsError):
            raise UsageError(
                f"{process.name} ({process.argv[0]}) is not read: {error.strerror}; no etcd has more "
                "rights than the user who started it: end the process, or name others with --etcd-pid"
            ) from error
        raise UsageError(
            f"{process.name} ({process.argv[0]}) may not be read by this user: run as its user, "
            "or as root with CAP_SYS_PTRACE (kubectl debug --profile=sysadmin)"
        ) from error
    paths = DeclaredPaths(root=process.root, working=_working(process))

    def find(path: str) -> Path:
        here = paths.of_process(path)
        if not exists(here):
            raise UsageError(
                f"{process.name} was started with the configuration file {path}, and {here} is "
                "not a file that the user of the process may read: put it back, or correct its mode"
            )
        return here

    # Of equal variables the first one counts (syscall.Getenv of Go).
    variables = (
        {} if process.embedded else dict(text.split("=", 1) for text in reversed(environment) if "=" in text)
    )
    declaration = from_command_line(
        process.argv, variables, source=process.name, find=find, form=Form.PROCESS
    )
    declared = declared_member(declaration, paths=paths)
    logs = tuple(dict.fromkeys(_logs(process, declared)))
    if not process.runs:
        raise _ended(process)
    return RunningMember(process=process, declared=declared, logs=logs)


def _ended(process: Process) -> UsageError:
    return UsageError(f"{process.name} ended while it was read: run again")


_UNKNOWN: Final = "/(working directory outside the root directory)"


def _working(process: Process) -> str:
    """Return the working directory of a process as a path in its root directory."""
    root, text = _link(process.pid, "root").rstrip("/"), _link(process.pid, "cwd")
    working = text.removeprefix(root) if f"{text}/".startswith(f"{root}/") else text
    with suppress(OSError, ValueError):
        here, there = os.stat(PROC / str(process.pid) / "cwd"), status_of(Path(f"{process.root}/{working}"))
        if (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino):
            return working or "/"
    return _UNKNOWN


_STREAMS: Final = {"stdout": "1", "stderr": "2", "default": "2"}


def _logs(process: Process, declared: DeclaredMember) -> Iterator[Path]:
    """Yield the files to which a process writes its log; its standard streams are mostly none."""
    outputs = (*declared.declaration.words("log-outputs"), *declared.declaration.words("log-output"))
    for output in outputs or ("default",):
        stream = _STREAMS.get(output)
        path = PROC / str(process.pid) / "fd" / stream if stream else declared.paths.of_process(output)
        if exists(path):
            yield path


COMPARED: Final = frozenset(
    name
    for name in EVERY_FLAG.union(*(keys.values() for keys in SECTIONS.values()))
    if is_about_tls(name) and not name.startswith("discovery-")
) | {"auth-token", "enable-grpc-gateway", "enable-pprof"}
"""The settings that decide about TLS, and about who is let in by it."""


class Difference(Struct, frozen=True):
    """A setting that a declaration has and a process has not, or otherwise.

    Attributes:
        declared: ``None`` if the declaration does not have it.
        running: ``None`` if the process was started without it.
    """

    name: str
    declared: Setting | None
    running: Setting | None


def differences(declared: Declaration, running: Declaration) -> Iterator[Difference]:
    """Yield the settings of a declaration and of a process that differ.

    A value that is not in the declaration's file, such as the address of a pod, is not compared.
    """
    for name in sorted(COMPARED - declared.started_with.left_out):
        written, given = declared.settings.get(name), running.settings.get(name)
        if taken(written) != taken(given):
            yield Difference(name, written, given)
