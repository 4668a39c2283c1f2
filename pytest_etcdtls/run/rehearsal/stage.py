"""The stage of a rehearsal: a program is started again, with no more power than its user has.

This file is a program of its own, with the standard library alone: ``python -I -S stage.py``. It reads a
:class:`Plan`, one line of JSON, from standard input, and reports with lines of JSON on standard output:
``pid``, ``started``, ``ended``, ``failed``. For each further octet that it reads it reports ``log``: what the
program has written since.

The program may be a stranger's, and this one is started by root. Five processes follow one another, each the
child of the one before and with less power:

1. The *keeper* stays root and outside. It refuses a process that is not the one that was planned, bounds
   the memory of the others by a control group, waits, and removes the group.
2. The *mapper* enters the network, the mounts and the user namespace of the running etcd, each by a
   descriptor. It writes which users the next one has (user_namespaces(7), ``uid_map``).
3. The *owner* makes namespaces of its own (namespaces(7)). Its user namespace has etcd's user and group
   alone, and owns the others, so no capability reaches outside them. A process of etcd's user outside can
   enter it at most if etcd has a user namespace of that user's own, and gets nothing there that it lacks.
   Then it becomes that user: from here on each path is looked up by somebody who
   can do what etcd's user can, and a link leads where that user could go.
4. *Process 1* of the PID namespace mounts, on mounts that only this stage sees. It starts etcd, reads its
   log, and ends with its standard input. When it ends, the kernel ends whatever it started, and mounts and
   network end with the last process in them (pid_namespaces(7)). So nothing outlives the run.
5. *etcd* has no capability, cannot gain one (``PR_SET_NO_NEW_PRIVS``), and has limits and a filter of system
   calls. It cannot trace or read process 1, which has capabilities that it lacks and is not dumpable.

What etcd finds on the stage:

- The network has the addresses of etcd's on its loopback interface, and no route.
- Every mount is read-only, without set-user-ID programs and devices, but ``/dev/null``.
- What it writes goes to one tmpfs. A directory in which it writes becomes a directory of that tmpfs, in which
  each entry of the old one is mounted again, read-only; sockets and named pipes are left out. In the data
  directory ``member`` is left out, so etcd starts as a new member. An overlay would lose the flags of what is
  below it, and does not work over another overlay.

The mapper is in the file system of a container, so nothing is imported from there on. Where the kernel or a
container refuses a step, the stage fails: nothing weaker is tried.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import resource
import select
import signal
import socket
import stat
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice

_LIBC = ctypes.CDLL(None, use_errno=True)

_NEW_NAMESPACES = {
    **{"user": 0x10000000, "mnt": 0x20000, "net": 0x40000000, "ipc": 0x8000000, "uts": 0x4000000},
    **{"pid": 0x20000000, "cgroup": 0x2000000},
}
"""``CLONE_NEW...`` (linux/sched.h), in order: the first one owns the others."""
_OPEN_TREE, _MOVE_MOUNT, _FSOPEN, _FSCONFIG, _FSMOUNT, _MOUNT_SETATTR = 428, 429, 430, 431, 432, 442
"""System calls with one number on every machine. ``mount_setattr`` came with Linux 5.12."""
_HERE, _EMPTY_PATH, _RECURSIVE, _NOFOLLOW = -100, 0x1000, 0x8000, 0x100
"""``AT_FDCWD``, ``AT_EMPTY_PATH``, ``AT_RECURSIVE``, ``AT_SYMLINK_NOFOLLOW`` (linux/fcntl.h)."""
_READ_ONLY, _NOSUID, _NODEV, _NOEXEC = 1, 2, 4, 8
"""``MOUNT_ATTR_...`` (linux/mount.h)."""
_PRIVATE = 0x4000 | 0x40000
"""``MS_REC`` and ``MS_PRIVATE`` (linux/mount.h)."""
_DEATH_SIGNAL, _DUMPABLE, _SECCOMP, _DROP_BOUNDING, _NO_NEW_PRIVILEGES, _AMBIENT = 1, 4, 22, 24, 38, 47
"""``PR_...`` (linux/prctl.h)."""
_OVERRIDES = 1 << 1 | 1 << 2
"""``CAP_DAC_OVERRIDE`` and ``CAP_DAC_READ_SEARCH`` (linux/capability.h)."""
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY
_LARGEST = 1 << 20
"""Octets of its log that are kept, and of a file that is read."""
_ENTRIES = 4096
"""Most entries of a directory in which it writes."""
DATA_NOT_WRITABLE = "its data directory cannot be written by its user"
_GROUP = "pytest-etcdtls-rehearsal-"
_ENDS_WITHIN = 5000
"""Milliseconds after the end of the run in which the stage ends by itself."""
_THREADS = 512
_LIMITS = {
    **{"AS": 16 << 30, "STACK": 8 << 20, "NOFILE": 1024, "NPROC": _THREADS, "SIGPENDING": 256},
    **{"CPU": 300, "RTPRIO": 0, "NICE": 0},
}
"""Limits of etcd (setrlimit(2)), beside that of its memory, which does not count a stack. Its address space
bounds page tables: of bbolt's file it maps 10 GiB (server/storage/backend, InitialMmapSize). Its signals are
counted as root's, who made its user namespace."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is started, and where.

    Attributes:
        pid: the running etcd.
        seen: what identifies it: ``ProcessUser.seen``.
        program: the path of the program in its root directory; empty for the one that runs.
        groups: further groups.
        capabilities: what the running etcd can do. Two of them are kept with ``reads_all``.
        low_ports: it listens on ports below 1024, and the running one may.
        reads_all: it reads files of other users, as the running one can: all users of its user namespace are
            those of this one.
        label: that of a security module; empty if it has none.
        working: the working directory.
        written: directories in which it writes logs and sockets.
        logs: the files of its log.
        system_calls: the filter of system calls, as hexadecimal text (``system_calls.py``).
        keyctl: the number of that system call.
        configuration: the text that it gets instead of its file; ``None`` for that on disk.
        hosts: lines to add to ``/etc/hosts``.
        size: octets of the file system to which it writes. It allocates two segments of its log, 64 MiB each.
        memory: octets of its own that it may have (``RLIMIT_DATA``). What it maps of the database is a file.
        whole: octets of memory that the whole stage may have, where a control group can be made.
    """

    pid: int
    seen: str
    program: str
    argv: tuple[str, ...]
    environment: dict[str, str]
    user: int
    group: int
    groups: tuple[int, ...]
    capabilities: int
    umask: int
    label: str
    working: str
    data: str
    system_calls: str
    keyctl: int
    written: tuple[str, ...] = ()
    logs: tuple[str, ...] = ()
    config_file: str = ""
    configuration: str | None = None
    hosts: str = ""
    low_ports: bool = False
    reads_all: bool = False
    size: int = 192 << 20
    memory: int = 320 << 20
    whole: int = 640 << 20


class _Running:
    """Descriptors of the running etcd."""

    def __init__(self, pid: int) -> None:
        self.proc = os.open("/proc", _DIRECTORY)
        self.here = here = os.open(str(pid), _DIRECTORY, dir_fd=self.proc)
        self.user, self.network, self.mounts = (
            os.open(f"ns/{name}", os.O_RDONLY, dir_fd=here) for name in ("user", "net", "mnt")
        )
        self.root, self.working, self.program = (
            os.open(name, os.O_PATH, dir_fd=here) for name in ("root", "cwd", "exe")
        )


def _call(action: str, result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{action}: {os.strerror(number)}")
    return result


def _tell(**values: object) -> None:
    with suppress(BrokenPipeError):  # nobody listens any more
        os.write(1, json.dumps(values).encode() + b"\n")


def _text(error: BaseException) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _read(path: str, directory: int | None = None) -> bytes:
    with open(os.open(path, os.O_RDONLY, dir_fd=directory), "rb") as file:
        return file.read(_LARGEST)


def _write(path: str, text: str, directory: int) -> None:
    with open(os.open(path, os.O_WRONLY, dir_fd=directory), "wb", buffering=0) as file:
        file.write(os.fsencode(text))


def _limit(name: str, most: int) -> None:
    limit = getattr(resource, f"RLIMIT_{name}")
    _, hard = resource.getrlimit(limit)
    most = most if hard == resource.RLIM_INFINITY else min(hard, most)
    resource.setrlimit(limit, (most, most))


def _end_with_parent() -> None:
    """Have the kernel end this process with its parent. A change of its IDs or capabilities resets this."""
    _LIBC.prctl(_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)


def _child(work: Callable[[], None]) -> tuple[int, int]:
    """Start a process that waits for an octet before it works; return it and the end to write that to.

    It ends at once if its parent ended before the end of that was a signal.
    """
    waits, starts = os.pipe()
    if child := os.fork():
        os.close(waits)
        return child, starts
    try:
        os.close(starts)
        _end_with_parent()
        if os.read(waits, 1):
            work()
    except BaseException as error:
        _tell(failed=_text(error))
    os._exit(0)


def _ended(child: int, options: int = 0) -> None:
    """Wait for a child.

    Raises:
        OSError: if a signal ended it, such as that of a filter of system calls.
    """
    if number := os.WTERMSIG(os.waitpid(child, options)[1]):
        raise OSError(f"a process that starts it was ended by signal {number}, {signal.strsignal(number)}")


# 1. The keeper.


def main() -> None:
    """Be the keeper: check what is started, bound its memory, start the others, and wait."""
    groups, name = -1, f"{_GROUP}{os.getpid()}"
    try:
        # No core of etcd or of this program, which has etcd's variables. With 0 a program that core_pattern
        # names would be started all the same (core(5)).
        _limit("CORE", 1)
        if not os.statvfs("/proc/self/exe").f_flag & os.ST_RDONLY:
            # A program that etcd names by that path is this Python: root of a container could change it.
            python = _read_only(_clone(os.open("/proc/self/exe", os.O_PATH)))
            os.execve(python, sys.orig_argv, os.environ)  # noqa: S606 - this program again
        plan = Plan(**json.loads(sys.stdin.buffer.readline()))
        etcd = _Running(plan.pid)
        if plan.seen != _seen(etcd.here):
            raise OSError("it executed another program meanwhile")
        mapper, starts = _child(lambda: _map(plan, etcd))
        groups = _bound_memory(mapper, plan.whole, name)
        os.write(starts, b"\n")
        _await(mapper)
    except BaseException as error:
        _tell(failed=_text(error))
    if groups >= 0:
        _remove(name, groups)


def _seen(here: int) -> str:
    """Return what identifies a process and its program, as ``process_user.user_of`` does."""
    return (_read("auxv", here) + _read("stat", here).rpartition(b")")[2].split()[19]).hex()


def _bound_memory(process: int, most: int, name: str) -> int:
    """Put a process into a control group with a limit, and return the directory that has it; -1 if none can.

    In a namespace of control groups the kernel makes a group outside of it, and lets no process into it.
    """
    for line in _read("/proc/self/cgroup").decode().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "memory":  # version 1
            above, limit = f"/sys/fs/cgroup/memory{path}", "memory.limit_in_bytes"
        elif not controllers:  # version 2: beside ours; one with processes has no limits below it
            above, limit = f"/sys/fs/cgroup{os.path.dirname(path)}", "memory.max"
        else:
            continue
        with suppress(OSError):
            directory = os.open(above, _DIRECTORY)
            for old in os.listdir(directory):
                if old.startswith(_GROUP) and not os.path.exists(f"/proc/{old.removeprefix(_GROUP)}"):
                    with suppress(OSError):  # its keeper was killed
                        os.rmdir(old, dir_fd=directory)
            os.mkdir(name, dir_fd=directory)
            try:
                _write(f"{name}/{limit}", str(most), directory)
                _write(f"{name}/cgroup.procs", str(process), directory)
            except OSError:
                os.rmdir(name, dir_fd=directory)
                continue
            more = {"memory.oom.group": 1, "memory.swap.max": 0, "pids.max": _THREADS}  # of version 2
            for limit, value in more.items():
                with suppress(OSError):
                    _write(f"{name}/{limit}", str(value), directory)
            return directory
    return -1


def _await(mapper: int) -> None:
    """Wait until the others end, which they do with the run; end them if they do not, and wait no longer."""
    poll = select.poll()
    poll.register(os.pidfd_open(mapper), select.POLLIN)
    poll.register(0, select.POLLRDHUP)
    if {descriptor for descriptor, _ in poll.poll()} == {0}:
        poll.unregister(0)
        if not poll.poll(_ENDS_WITHIN):
            os.kill(mapper, signal.SIGKILL)
            poll.poll(_ENDS_WITHIN)  # a file system that does not answer holds even a killed process
    _ended(mapper, os.WNOHANG)


def _remove(name: str, groups: int) -> None:
    for _ in range(100):  # processes that were killed leave it late
        try:
            os.rmdir(name, dir_fd=groups)
            break
        except OSError:
            select.poll().poll(10)


# 2. The mapper.


def _map(plan: Plan, etcd: _Running) -> None:
    """Enter the namespaces of the running etcd, start the owner and write its maps."""
    _write("self/oom_score_adj", "1000", etcd.proc)
    os.nice(10)
    if os.getgroups() != list(plan.groups):
        try:
            os.setgroups(plan.groups)
        except OSError as error:
            raise OSError(f"its groups: {error.strerror} (CAP_SETGID)") from error
    _call("its network", _LIBC.setns(etcd.network, 0))
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as netlink:
        addresses = _addresses(netlink)
    # This process has their root directory then.
    _call("its mounts (CAP_SYS_CHROOT too)", _LIBC.setns(etcd.mounts, 0))
    sys.path.clear()
    sys.meta_path.clear()
    if not plan.program:
        etcd.program = _read_only(_clone(etcd.program))  # as /proc/self/exe leads to it
    chrooted = os.readlink("root", dir_fd=etcd.here) != "/"
    os.fchdir(etcd.root if chrooted else etcd.working)  # unshare(2) takes it along into a copy of the mounts
    ids = {"gid": plan.group, "uid": plan.user}
    within = os.fstat(etcd.user).st_ino != os.stat("self/ns/user", dir_fd=etcd.proc).st_ino
    if within:
        ids = {kind: _inside(_read(f"{kind}_map", etcd.here), number) for kind, number in ids.items()}
        _call("its user namespace", _LIBC.setns(etcd.user, 0))
        _end_with_parent()

    asks, asked = os.pipe()
    mapped = os.pipe()

    def own() -> None:
        os.close(mapped[1])
        if within:  # user_namespaces(7): who makes one needs an ID in the one above
            os.setresgid(0, 0, 0)
            os.setresuid(0, 0, 0)
        for kind, flag in _NEW_NAMESPACES.items():
            if made := _LIBC.unshare(flag):
                if ctypes.get_errno() == 28:  # ENOSPC
                    raise OSError(f"no more namespaces may be made (user.max_{kind}_namespaces)")
                _call(f"a namespace ({kind})", made)
        _end_with_parent()
        os.write(asked, b"\n")
        if os.read(mapped[0], 1):
            _own(ids["uid"], ids["gid"], lambda: _stage(plan, etcd, addresses, chrooted))

    owner, starts = _child(own)
    os.write(starts, b"\n")
    os.close(asked)
    os.close(mapped[0])
    os.close(0)
    if os.read(asks, 1):
        _write(f"{owner}/setgroups", "deny", etcd.proc)
        for kind, number in ids.items():
            ranges = [line.split() for line in _read(f"self/{kind}_map", etcd.proc).decode().splitlines()]
            every = "".join(f"{first} {first} {count}\n" for first, _, count in ranges)
            _write(f"{owner}/{kind}_map", every if plan.reads_all else f"{number} {number} 1\n", etcd.proc)
        os.write(mapped[1], b"\n")
    _ended(owner)


def _inside(maps: bytes, number: int) -> int:
    """Return an ID as the user namespace with these maps has it."""
    for first, outside, count in (map(int, line.split()) for line in maps.splitlines()):
        if outside <= number < outside + count:
            return first + number - outside
    raise OSError("its user is not one of its user namespace")


def _addresses(netlink: socket.socket) -> set[tuple[int, bytes]]:
    """Return family and address of each address of a network namespace (rtnetlink(7), RTM_GETADDR)."""
    netlink.send(struct.pack("=IHHIIB", 17, 22, 0x301, 1, 0, 0))
    addresses: set[tuple[int, bytes]] = set()
    while True:
        answer = netlink.recv(1 << 16)
        while answer:
            length, kind = struct.unpack_from("=IH", answer)
            if kind == 3:  # NLMSG_DONE
                return addresses
            values, place = {}, 24
            while place + 4 <= length:
                size, name = struct.unpack_from("=HH", answer, place)
                values[name] = answer[place + 4 : place + size]
                place += (size + 3) & ~3
            address = values.get(2) or values.get(1)  # IFA_LOCAL, IFA_ADDRESS
            if address and address[:2] != b"\xfe\x80":
                addresses.add((answer[16], address))
            answer = answer[(length + 3) & ~3 :]


# 3. The owner.


def _own(user: int, group: int, work: Callable[[], None]) -> None:
    """Become a user of the new namespaces, start process 1 of them and wait for it."""
    os.setresgid(group, group, group)
    os.setresuid(user, user, user)
    _LIBC.prctl(_DUMPABLE, 0, 0, 0, 0)  # so that no process of that user traces this one
    _end_with_parent()
    first, starts = _child(work)
    _tell(pid=first)
    os.write(starts, b"\n")
    os.close(0)
    _ended(first)


# 4. Process 1: what etcd finds on the stage.


def _stage(plan: Plan, etcd: _Running, addresses: set[tuple[int, bytes]], chrooted: bool) -> None:
    _LIBC.syscall(plan.keyctl, 1, None)  # KEYCTL_JOIN_SESSION_KEYRING: an empty one
    _set_up_network(addresses)
    if plan.low_ports:
        try:
            _write("sys/net/ipv4/ip_unprivileged_port_start", "0", etcd.proc)  # of this network
        except OSError as error:  # read-only in a container
            raise OSError(f"its ports below 1024 cannot be opened here: {error.strerror}") from error
    _call("private mounts", _LIBC.mount(None, b"/", None, ctypes.c_ulong(_PRIVATE), None))
    if plan.label:  # that of what is executed next, also by a child
        _write("thread-self/attr/exec", plan.label, etcd.proc)
    _enter_root(etcd, chrooted)
    for name, descriptor in vars(etcd).items():  # /proc/self/fd leads whatever looks up a path to the machine
        if name != "program" or plan.program:
            os.close(descriptor)
    try:
        os.chdir(plan.working)
    except OSError:  # its user cannot enter it by name, and is in it: the mapper took it along
        if chrooted:
            raise
        os.fchdir(_read_only(_clone(_HERE, ".")))  # it may be on a mount that is not below the root
    _watch(plan, etcd, _cover(plan))


def _set_up_network(addresses: set[tuple[int, bytes]]) -> None:
    """Give the loopback interface the addresses (RTM_NEWADDR)."""
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh22x", b"lo", 0x41))  # SIOCSIFFLAGS: up
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as netlink:
        there = _addresses(netlink)
        for family, address in sorted(addresses - there):
            values = b"".join(struct.pack("=HH", 4 + len(address), name) + address for name in (2, 1))
            body = struct.pack("=BBBBI", family, 8 * len(address), 2, 0, 1) + values  # IFA_F_NODAD, lo
            netlink.send(struct.pack("=IHHII", 16 + len(body), 20, 0x605, 2, 0) + body)
            (error,) = struct.unpack_from("=i", netlink.recv(4096), 16)
            if error:
                raise OSError(-error, f"an address of etcd's network: {os.strerror(-error)}")


def _enter_root(etcd: _Running, chrooted: bool) -> None:
    if chrooted:  # the mapper stands in it: it becomes the root of the mounts, so nothing is above it
        tree = _clone(_HERE, ".")
        _attach(os.dup(tree), _HERE, "/")
        os.fchdir(tree)
        os.chroot(".")
        os.close(tree)
    here, there = os.stat("/"), os.fstat(etcd.root)
    if (here.st_dev, here.st_ino) != (there.st_dev, there.st_ino):
        raise OSError("the root directory of etcd cannot be reached")


def _clone(directory: int, name: str = "") -> int:
    """Return a mount of a file or directory, with the mounts below it, that is nowhere yet (open_tree(2))."""
    flags = 1 | _RECURSIVE | _NOFOLLOW | os.O_CLOEXEC | (0 if name else _EMPTY_PATH)
    tree = _LIBC.syscall(_OPEN_TREE, directory, os.fsencode(name), flags)
    return _call(f"mount of {name or 'a program'}", tree)


def _read_only(directory: int, name: bytes = b"") -> int:
    """Make a mount and those below it read-only, without set-user-ID programs and devices, and return it."""
    attributes = struct.pack("=QQQQ", _READ_ONLY | _NOSUID | _NODEV, 0, 0, 0)
    flags = _RECURSIVE | (0 if name else _EMPTY_PATH)
    made = _LIBC.syscall(_MOUNT_SETATTR, directory, name, flags, attributes, len(attributes))
    _call("read-only mounts (Linux 5.12)", made)
    return directory


def _attach(mount: int, directory: int, name: str = "") -> None:
    """Mount over a file or directory, by its name or by its descriptor (move_mount(2))."""
    flags = 0x04 | (0 if name else 0x40)
    _call(f"move_mount {name}", _LIBC.syscall(_MOVE_MOUNT, mount, b"", directory, os.fsencode(name), flags))
    os.close(mount)


def _cover(plan: Plan) -> list[tuple[int, str]]:
    """Make every mount read-only and mount over what etcd writes; return directory and name of its logs."""
    logs, data = [os.path.realpath(log) for log in plan.logs], os.path.realpath(plan.data)
    left_out = {data: {"member"}}
    for directory in (*map(os.path.dirname, logs), *map(os.path.realpath, plan.written)):
        names = {os.path.basename(log) for log in logs if os.path.dirname(log) == directory}
        left_out.setdefault(directory, set()).update(names)
    writable = {path for path in (*left_out, *logs) if os.access(path, os.W_OK)}
    if data not in writable:
        raise OSError(DATA_NOT_WRITABLE)
    _make_read_only()
    tmpfs = _tmpfs(plan.size)
    covered = os.open(data, _DIRECTORY)
    _attach(os.dup(tmpfs), covered)  # a mount is used once it is somewhere: another one will cover it
    scratch = os.open(".", _DIRECTORY, dir_fd=tmpfs)
    places: list[tuple[int, str]] = []
    for path in sorted(writable & left_out.keys()):
        target = covered if path == data else os.open(path, _DIRECTORY)
        name = str(len(os.listdir(scratch)))
        made = _copy(scratch, name, target, left_out[path], depth=2 if path == data else 0)
        _attach(_clone(scratch, name), target)
        for log in logs:
            if os.path.dirname(log) == path:
                places.append((made, os.path.basename(log)))
                if log in writable:  # one that is there is there again, empty
                    os.close(os.open(places[-1][1], os.O_CREAT | os.O_WRONLY, 0o600, dir_fd=made))
    alone = [log for log in logs if log in writable and os.path.dirname(log) not in writable]
    places += [(scratch, _replace(scratch, log, b"")) for log in alone]
    if plan.configuration is not None and _content(plan.config_file) is not None:
        _replace(scratch, plan.config_file, os.fsencode(plan.configuration))
    if plan.hosts and (hosts := _content("/etc/hosts")) is not None:
        _replace(scratch, "/etc/hosts", hosts + os.fsencode(plan.hosts))
    if os.stat(data).st_dev != os.fstat(scratch).st_dev:
        raise OSError("the data directory is not covered")
    return places


def _make_read_only() -> None:
    """Make every mount read-only, without set-user-ID programs and devices, except the null device."""
    device = -1
    with suppress(OSError):
        null = os.open("/dev/null", os.O_PATH | os.O_NOFOLLOW)  # once: it may be swapped at any moment
        if stat.S_ISCHR(os.fstat(null).st_mode) and os.fstat(null).st_rdev == os.makedev(1, 3):
            device = _clone(null)
    _read_only(_HERE, b"/")
    if device >= 0:
        _attach(device, _HERE, "/dev/null")


def _tmpfs(size: int) -> int:
    """Return the mount of an empty tmpfs that is nowhere yet (fsopen(2))."""
    kind = _call("tmpfs", _LIBC.syscall(_FSOPEN, b"tmpfs", 1))
    for name, value in ((b"size", size), (b"nr_inodes", 2 * _ENTRIES), (b"mode", 700)):
        _call("tmpfs", _LIBC.syscall(_FSCONFIG, kind, 1, name, str(value).encode(), 0))  # FSCONFIG_SET_STRING
    _call("tmpfs", _LIBC.syscall(_FSCONFIG, kind, 6, None, None, 0))  # FSCONFIG_CMD_CREATE
    return _call("tmpfs", _LIBC.syscall(_FSMOUNT, kind, 1, _NOSUID | _NODEV | _NOEXEC))


def _copy(above: int, name: str, source: int, left_out: set[str], depth: int) -> int:
    """Make a directory with the entries of another one, each mounted again, and return it.

    Directories down to a depth are made anew, so that etcd can write in them, as it tries to.
    """
    os.mkdir(name, 0o700, dir_fd=above)
    made = os.open(name, _DIRECTORY, dir_fd=above)
    with os.scandir(source) as scanned:
        entries = [entry.name for entry in islice(scanned, _ENTRIES + 1)]
    if len(entries) > _ENTRIES:
        raise OSError(f"a directory in which etcd writes has more than {_ENTRIES} entries")
    for entry in set(entries) - left_out:
        mode = os.stat(entry, dir_fd=source, follow_symlinks=False).st_mode
        if stat.S_ISLNK(mode):
            os.symlink(os.readlink(entry, dir_fd=source), entry, dir_fd=made)
        elif stat.S_ISDIR(mode) and depth:
            inner = os.open(entry, _DIRECTORY | os.O_NOFOLLOW, dir_fd=source)
            os.close(_copy(made, entry, inner, set(), depth - 1))
            os.close(inner)
        elif stat.S_ISDIR(mode):
            os.mkdir(entry, dir_fd=made)
            _attach(_clone(source, entry), made, entry)
        elif stat.S_ISREG(mode):
            os.close(os.open(entry, os.O_CREAT, dir_fd=made))
            _attach(_clone(source, entry), made, entry)
    os.fchmod(made, stat.S_IMODE(os.fstat(source).st_mode))
    return made


def _replace(scratch: int, path: str, content: bytes) -> str:
    """Mount a file with another content over a file, and return its name in the tmpfs."""
    target, name = os.open(path, os.O_PATH), str(len(os.listdir(scratch)))
    with open(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600, dir_fd=scratch), "wb") as file:
        file.write(content)
    _attach(_clone(scratch, name), target)
    return name


def _content(path: str, directory: int | None = None, begin: int = 0, most: int = _LARGEST) -> bytes | None:
    """Return the content of a regular file from an octet on, in a directory no link; ``None`` for others."""
    flags = os.O_RDONLY | os.O_NONBLOCK | (os.O_NOFOLLOW if directory is not None else 0)
    with suppress(OSError), open(os.open(path, flags, dir_fd=directory), "rb") as file:
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            file.seek(begin)
            return file.read(most)
    return None


def _watch(plan: Plan, etcd: _Running, logs: list[tuple[int, str]]) -> None:
    """Start etcd, report its end and its log, and return when nobody listens any more."""
    (failed, failing), (error, erring) = os.pipe(), os.pipe()
    if not (child := os.fork()):
        try:
            _become_etcd(plan, etcd, erring)
        except BaseException as problem:
            os.write(failing, _text(problem).encode("utf-8", "backslashreplace"))
        os._exit(127)
    os.close(failing)
    os.close(erring)
    if why := os.read(failed, 4096):
        raise OSError(why.decode("utf-8", "replace"))
    _tell(started=True)
    log, ends, poll = _Log(error, logs), os.pidfd_open(child), select.poll()
    for descriptor in (0, ends, error):
        poll.register(descriptor, select.POLLIN)
    while ready := {descriptor for descriptor, _ in poll.poll()}:
        if error in ready:
            if not log.drain():
                poll.unregister(error)
        elif ends in ready:  # after the last of its output
            poll.unregister(ends)
            _tell(ended=os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        if 0 in ready:
            if not os.read(0, 1):
                return
            _tell(log=log.news().decode("utf-8", "replace"))


class _Log:
    """The log of etcd: its standard error, and its files. Of all together a bounded part is kept."""

    def __init__(self, error: int, files: list[tuple[int, str]]) -> None:
        self._error = error
        self._read = dict.fromkeys(files, 0)
        self._news = b""
        self._left = _LARGEST

    def _keep(self, data: bytes) -> None:
        self._news += data[: self._left]
        self._left = max(0, self._left - len(data))

    def drain(self) -> bool:
        """Read standard error, so that etcd does not wait; return whether it is open."""
        data = os.read(self._error, 65536)
        self._keep(data)
        return bool(data)

    def news(self) -> bytes:
        """Return what was written since."""
        for directory, name in self._read:
            data = _content(name, directory, self._read[directory, name], self._left) or b""
            self._read[directory, name] += len(data)
            self._keep(data)
        news, self._news = self._news, b""
        return news


# 5. etcd.


def _become_etcd(plan: Plan, etcd: _Running, output: int) -> None:
    """Give up everything that etcd's user does not have, and execute etcd."""
    os.setsid()
    os.umask(plan.umask)
    with suppress(OSError):
        os.chdir(plan.working)  # with what covers it
    for name, most in {**_LIMITS, "DATA": plan.memory}.items():
        _limit(name, most)
    kept = plan.capabilities & _OVERRIDES if plan.reads_all else 0
    for capability in range(64):
        if not kept >> capability & 1:
            _LIBC.prctl(_DROP_BOUNDING, capability, 0, 0, 0)
    _LIBC.prctl(_AMBIENT, 4, 0, 0, 0)  # PR_CAP_AMBIENT_CLEAR_ALL
    sets = struct.pack("=6I", kept, kept, 0, 0, 0, 0)  # effective, permitted, inheritable: low, then high
    _call("capset", _LIBC.capset(struct.pack("=Ii", 0x20080522, 0), sets))  # _LINUX_CAPABILITY_VERSION_3
    _call("no_new_privs", _LIBC.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0))
    nothing, closed = os.pipe()
    os.close(closed)
    for descriptor, standard in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(descriptor, standard)
    rows = ctypes.create_string_buffer(bytes.fromhex(plan.system_calls))
    program = struct.pack("@HP", (len(rows) - 1) // 8, ctypes.addressof(rows))  # struct sock_fprog
    _call("seccomp", _LIBC.prctl(_SECCOMP, 2, program, 0, 0))  # SECCOMP_MODE_FILTER
    try:
        os.execve(plan.program or etcd.program, plan.argv, plan.environment)  # noqa: S606 - etcd, without a shell
    except OSError as error:
        if plan.label and error.errno == 1:  # EPERM: no nnp_transition in SELinux's policy
            raise OSError(f"a run with another security label cannot give it {plan.label}") from error
        why = f"{plan.program or 'its program'} cannot be executed: {error.strerror}\n"
        os.write(1, why.encode("utf-8", "backslashreplace"))


if __name__ == "__main__":
    main()
