"""A running etcd as the declaration: ``--etcd-pid``.

A process has been started with exactly one command line and one environment, which Linux keeps in
``/proc/PID/cmdline`` and ``environ`` (proc(5)). They are read as the arguments and variables that they are,
so no manifest, unit, script or template has to be interpreted, however etcd was started. The files that they
name are looked up in the root directory of the process (:mod:`pytest_etcdtls.untrusted.process_root`), so
each path is that of etcd, whatever is mounted in its container.

A member is a process whose program is etcd, whatever it is called, and that is started neither as a proxy nor
to print its version. The program itself says which one it is (:mod:`pytest_etcdtls.declared.go_program`). Its
name, and that of the process, count only where it does not, or may not be read. Other programs of Go run etcd
within their own process (package embed). Such a process has the database of etcd open. k3s is one, and
overwrites its command line (``proctitle.SetProcTitle``). It starts that etcd with the file ``config`` in the
data directory of etcd (pkg/daemons/executor, ``ETCD``, and ``ETCDConfig.ToConfigFile``), which is the
directory of the database. Of the others, only the program knows the settings.

A process ID is used again after a process has ended. So the time at which the process was started is compared
before and after its files are read.

Anybody can start a process named etcd, and make a read of its memory block. Such a read is given up in time.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
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
from pytest_etcdtls.declared.go_program import GoProgram, read_go_program
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
_ETCD: Final = re.compile(r"go\.etcd\.io/etcd(/server)?(/v3)?|github\.com/coreos/etcd(/cmd/etcd)?")
"""The main package of etcd: that of its server module since 3.5, of its only module in 3.4, and before."""
_SERVERS: Final = frozenset({"go.etcd.io/etcd/server/v3", "go.etcd.io/etcd/v3", "go.etcd.io/etcd"})
"""The modules that have the package embed."""
_MOST_ANCESTORS: Final = 100


class Process(Struct, frozen=True, kw_only=True):
    """A process that is a member of etcd.

    Attributes:
        started: when it was started, in clock ticks since the machine was (proc_pid_stat(5), field 22).
        argv: etcd's command line: the program and its arguments; empty if it is not known.
        embedded: another program runs etcd within its own process.
        unread: why its settings are not known, without the subject of the sentence; empty if they are.
    """

    pid: int
    started: int
    argv: tuple[str, ...]
    embedded: bool = False
    unread: str = ""

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
    def control_group(self) -> str:
        """Its control groups, one a line (cgroups(7)), which tell what has started it."""
        return _read(self.pid, "cgroup").decode("utf-8", "replace")

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


class _Other(Struct, frozen=True):
    """A process that is no member of etcd.

    Attributes:
        why: why not, in a sentence.
        is_alike: its name, or its program, is that of etcd.
    """

    why: str
    is_alike: bool


def find_processes(leave_out: Callable[[str], object] = str) -> list[Process]:
    """Return every member of etcd on this machine that this user can see, in the order of their start.

    Args:
        leave_out: is called with why a process that has etcd's name or program is none of them.
    """
    pids = process_ids()
    processes: list[Process] = []
    for pid, found in zip(pids, each_in_time(_member, pids, SECONDS), strict=True):
        process = _silent(pid) if isinstance(found, Exception) else found
        if isinstance(process, Process):
            processes.append(process)
        elif process and process.is_alike:
            leave_out(process.why)
    return sorted(processes, key=lambda process: (process.started, process.pid))


def find_process(pid: int) -> Process:
    """Return the process of that ID.

    Raises:
        UsageError: if there is none, or it is not a member of etcd.
    """
    if _start_of(pid) is None:
        raise UsageError(f"there is no process {pid} here: --etcd-pid=auto finds every etcd")
    [process] = each_in_time(_member, [pid], SECONDS)
    if isinstance(process, Exception):
        raise UsageError(f"process {pid} cannot be read: {process}") from process
    if not isinstance(process, Process):
        why = process.why if process else f"process {pid} is no member of etcd"
        below = [str(member.pid) for member in find_processes() if pid in _ancestors(member.pid)]
        advice = (
            f"pass what it started: --etcd-pid={','.join(below)}"
            if below
            else "--etcd-pid=auto finds every etcd"
        )
        raise UsageError(f"{why}; {advice}")
    return process


def _ancestors(pid: int) -> Iterator[int]:
    """Yield the processes that have started a process, the nearest first."""
    for _ in range(_MOST_ANCESTORS):
        found = re.search(rb"^PPid:\t(\d+)", _read(pid, "status"), re.MULTILINE)
        pid = int(found[1]) if found else 0
        if not pid:
            return
        yield pid


def _member(pid: int) -> Process | _Other | None:
    started, argv = _start_of(pid), _argv(pid)
    if started is None or not argv:  # a thread of the kernel, or a process that has ended
        return None
    program = _link(pid, "exe").removesuffix(_DELETED)
    names = {PurePosixPath(argv[0]).name, PurePosixPath(program).name}
    built = _built(pid, names)
    is_etcd = built is not None and _ETCD.fullmatch(built.package) is not None
    is_alike, unread, embedded = is_etcd or "etcd" in names, "", False
    why = f"process {pid} ({' '.join(argv[:2])}) is no member of etcd: "
    if is_etcd:
        if len(argv) > 1 and argv[1] in PROXIES:
            return _Other(f"{why}it is a proxy, whose ports --etcd-endpoint names", is_alike)
        if len(argv) > 1 and argv[1] in _PRINTS:
            return _Other(f"{why}it prints and ends", is_alike)
    elif built is None:
        return _Other(f"{why}its program {program} was not built by Go", is_alike)
    elif directory := _embeds(pid, built, is_alike=is_alike):
        embedded = True
        if "k3s" in built.package.split("/"):
            argv = ("etcd", f"--config-file={directory}/config")
        else:
            unread = (
                f"({argv[0]}) runs an etcd within its own process, with the data directory {directory}, and "
                "only its program knows the settings: name its listeners with --etcd-endpoint instead"
            )
    else:
        package = built.package or "not known"
        return _Other(f"{why}the main package of its program {program or 'file'} is {package}", is_alike)
    STARTED[pid] = started
    return Process(pid=pid, started=started, argv=argv, embedded=embedded, unread=unread)


def _built(pid: int, names: set[str]) -> GoProgram | None:
    """Return what the program of a process says of itself, or else what the names say of it."""
    built: GoProgram | None = GoProgram()
    with suppress(UnreadableFileError):
        built = read_go_program(PROC / str(pid) / "exe")
    if built and not built.package:
        return GoProgram(
            "go.etcd.io/etcd" if "etcd" in names else "k3s" if "k3s" in names else "", built.modules
        )
    return built


def _embeds(pid: int, built: GoProgram, *, is_alike: bool) -> str:
    """Return the data directory of an etcd that another program runs; empty if it runs none."""
    # Tools of etcd open the database too, and listen nowhere.
    if built.modules and not built.modules & _SERVERS and not is_alike:
        return ""
    directory = _data_directory(pid)
    return directory if directory and ("k3s" in built.package.split("/") or listens(pid)) else ""


def program_of(pid: int) -> str:
    """Return the path of the program of a process, or its name; empty if this user may see neither."""
    return _link(pid, "exe") or _read(pid, "comm").strip().decode("utf-8", "replace")


def process_ids() -> list[int]:
    """Return the IDs of the processes of this machine that this user can see."""
    return [int(name) for name in names_in(PROC) if name.isdecimal()]


def _silent(pid: int) -> Process | None:
    """Return a process of which no read ends, if the name of its program or its own is etcd."""
    program, started = _link(pid, "exe").removesuffix(_DELETED), _start_of(pid)
    if started is None or b"etcd" not in (PurePosixPath(program).name.encode(), _read(pid, "comm").strip()):
        return None
    unread = f"does not answer: its command line and its program are not read in {SECONDS:g} s"
    return Process(pid=pid, started=started, argv=(), unread=unread)


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


def listens(pid: int) -> bool:
    """Return whether a process listens on a TCP port, as a member of etcd does from its start on."""
    sockets = sockets_of(pid)
    return any(fields[9] in sockets for fields in listening(pid))


def sockets_of(pid: int) -> set[bytes]:
    """Return the inodes of the sockets that a process has open."""
    return {link.removeprefix("socket:[").removesuffix("]").encode() for link in _open_files(pid)}


def _open_files(pid: int) -> Iterator[str]:
    """Yield what a process has open: a path, or ``socket:[inode]``."""
    return (_link(pid, f"fd/{number}") for number in names_in(PROC / str(pid) / "fd"))


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
    return next((link.removesuffix(_DATABASE) for link in _open_files(pid) if link.endswith(_DATABASE)), "")


def read_running(process: Process) -> RunningMember:
    """Return what a process was started with, and its files.

    Raises:
        UsageError: if this user may not read it, it ended meanwhile, or what it names cannot be read.
    """
    from pytest_etcdtls.declared.reading import declared_member, from_command_line

    if process.unread:
        raise UsageError(f"{process.name} {process.unread}")
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
