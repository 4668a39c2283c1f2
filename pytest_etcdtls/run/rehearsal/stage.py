"""The stage of a rehearsal: a program is started where nothing is written and nothing gets out.

This file is a program of its own, with the standard library alone: ``python -I -S stage.py``. It reads a
:class:`Plan`, one line of JSON, from standard input, and reports with lines of JSON on standard output.

The first process enters the network and the mount namespace of the running etcd, and makes namespaces of its
own: mount, network, IPC and PID (namespaces(7)). The second is process 1 of that PID namespace, so the kernel
ends whatever it started when it ends (pid_namespaces(7)). It ends when its standard input does, so nothing
outlives the run, however that ends: mounts, network and processes are the namespaces', and these end with the
last process in them. The third one becomes etcd.

- The network has the addresses of etcd's on its loopback interface, and no route.
- Every mount is read-only, recursively (mount_setattr(2)), before anything else is mounted.
- What etcd writes goes to a tmpfs: its data directory, and the directories of its log files and sockets, are
  overlays, and in that of the data ``member`` is hidden, so etcd starts as a new member of its own.

After the change of the root directory nothing is imported: a container's files are not ours.
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
from dataclasses import dataclass

_LIBC = ctypes.CDLL(None, use_errno=True)

_NEW_NAMESPACES = 0x00020000 | 0x40000000 | 0x08000000 | 0x20000000
"""``CLONE_NEWNS``, ``CLONE_NEWNET``, ``CLONE_NEWIPC`` and ``CLONE_NEWPID``."""
_BIND, _RECURSIVE, _PRIVATE, _NOSUID_NODEV = 0x1000, 0x4000, 0x40000, 0x6
_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442
"""Numbers of system calls, the same on every machine."""
_HERE, _EMPTY_PATH, _AT_RECURSIVE, _CLONE = -100, 0x1000, 0x8000, 1
_SET_DEATH_SIGNAL, _DROP_BOUNDING, _KEEP_CAPABILITIES, _NO_NEW_PRIVILEGES, _AMBIENT = 1, 24, 8, 38, 47
_CAPABILITIES = 64
_TMPFS = "rehearsal"
_JOURNAL = "/run/systemd/journal"
_LARGEST = 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is started, and where.

    Attributes:
        pid: the running etcd.
        root: device and inode of its root directory.
        program: the path of the program in that root; empty for the one that runs.
        groups: further groups.
        bounding: the capabilities that it may have.
        ambient: the capabilities that it keeps without being root.
        label: that of a security module; empty if it has none.
        working: the working directory.
        written: directories in which it writes logs and sockets.
        logs: the files of its log.
        configuration: the text that it gets instead of its file; ``None`` for that on disk.
        hosts: lines to add to ``/etc/hosts``.
        output: the descriptor of the file that gets its standard output and error.
        size: octets of the file system to which it writes. It allocates two segments of its log, 64 MiB each.
        memory: octets of its own that it may have (``RLIMIT_DATA``). What it maps of the database is a file.
    """

    pid: int
    root: tuple[int, int]
    program: str
    argv: tuple[str, ...]
    environment: dict[str, str]
    user: int
    group: int
    groups: tuple[int, ...]
    bounding: int
    ambient: int
    no_new_privileges: bool
    umask: int
    label: str
    working: str
    data: str
    written: tuple[str, ...] = ()
    logs: tuple[str, ...] = ()
    config_file: str = ""
    configuration: str | None = None
    hosts: str = ""
    output: int = -1
    size: int = 192 * 1024 * 1024
    memory: int = 320 * 1024 * 1024


def _call(action: str, result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{action}: {os.strerror(number)}")
    return result


def _mount(source: str | None, target: str, kind: str | None = None, flags: int = 0, data: str = "") -> None:
    words = [os.fsencode(word) if word is not None else None for word in (source, target, kind)]
    action = f"{kind or 'mount'} on {target}"
    _call(action, _LIBC.mount(*words, ctypes.c_ulong(flags), os.fsencode(data) if data else None))


def _enter(namespace: int) -> None:
    _call("setns", _LIBC.setns(namespace, 0))


def _tell(**values: object) -> None:
    os.write(1, json.dumps(values).encode() + b"\n")


def main() -> None:
    """Enter the namespaces of the running etcd, make others, and wait for the process in them."""
    plan = Plan(**json.loads(sys.stdin.buffer.readline()))
    try:
        proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
        network, mounts = (
            os.open(f"{plan.pid}/ns/{name}", os.O_RDONLY, dir_fd=proc) for name in ("net", "mnt")
        )
        own = os.stat("self/ns/mnt", dir_fd=proc)
        _write("self/oom_score_adj", "1000", proc)
        os.nice(10)
        _enter(network)
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as netlink:
            addresses = _addresses(netlink)
        if os.fstat(mounts).st_ino != own.st_ino:
            _enter(mounts)
        _call("unshare", _LIBC.unshare(_NEW_NAMESPACES))
        told, telling = os.pipe()
        child = os.fork()
        os.close(told if child else telling)
        if child:
            _tell(pid=child)
            os.write(telling, b"\n")
            os.waitpid(child, 0)
            return
        _LIBC.prctl(_SET_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
        os.read(told, 1)  # its process ID is told before whatever it tells
        if select.select([told], [], [], 0)[0]:
            os._exit(0)  # the parent ended before its end was a signal
        sys.path.clear()
        sys.meta_path.clear()
        _set_up_network(addresses)
        _change_root(plan, proc)
        _cover(plan)
        _watch(plan, proc)
    except BaseException as error:
        _tell(failed=_text(error))
    os._exit(0)


def _text(error: BaseException) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _write(path: str, text: str, directory: int) -> None:
    descriptor = os.open(path, os.O_WRONLY, dir_fd=directory)
    try:
        os.write(descriptor, os.fsencode(text))
    finally:
        os.close(descriptor)


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


def _change_root(plan: Plan, proc: int) -> None:
    """Make the root directory of etcd ours, with every mount private and read-only."""
    _mount(None, "/", flags=_RECURSIVE | _PRIVATE)
    root = os.readlink(f"{plan.pid}/root", dir_fd=proc)
    if root != "/":
        os.chroot(root)
        os.chdir("/")
        _mount("/", "/", flags=_BIND | _RECURSIVE)
        os.chdir("/..")
        os.chroot(".")
        _mount(None, "/", flags=_RECURSIVE | _PRIVATE)
    os.chdir("/")
    here = os.stat("/")
    if (here.st_dev, here.st_ino) != tuple(plan.root):
        raise OSError("the root directory of etcd cannot be reached")
    read_only = ctypes.create_string_buffer(struct.pack("=QQQQ", 1, 0, 0, 0))
    _call("read-only", _LIBC.syscall(_MOUNT_SETATTR, _HERE, b"/", _AT_RECURSIVE, read_only, 32))


def _cover(plan: Plan) -> None:
    """Mount over everything that etcd writes."""
    os.chdir(plan.working)
    data = os.path.realpath(plan.data)
    below = _call("open_tree", _LIBC.syscall(_OPEN_TREE, _HERE, os.fsencode(data), _CLONE))
    like = os.stat(data)
    _mount(_TMPFS, data, "tmpfs", _NOSUID_NODEV, f"size={plan.size},mode=755")
    os.chdir(data)
    scratch = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
    for name in ("data", "upper", "work", "files"):
        os.mkdir(name)
    _call("move_mount", _LIBC.syscall(_MOVE_MOUNT, below, b"", _HERE, b"data", 4))  # from an empty path
    os.chdir(plan.working)
    logs = [os.path.abspath(log) for log in plan.logs]
    written = {os.path.realpath(directory) for directory in plan.written}
    os.fchdir(scratch)
    for directory in sorted(written):
        if os.path.isdir(directory) and not f"{directory}/".startswith(f"{data}/"):
            _overlay(directory, directory, os.stat(directory))
    upper = _overlay("data", data, like, hides="member")
    for log in logs:
        if os.path.lexists(log):
            _replace(log, b"")
    if plan.configuration is not None:
        os.chdir(plan.working)
        config = os.path.realpath(plan.config_file)
        os.fchdir(scratch)
        _replace(config, os.fsencode(plan.configuration))
    if plan.hosts and (hosts := _content("/etc/hosts")) is not None:
        _replace("/etc/hosts", hosts + plan.hosts.encode())
    if os.path.isdir(_JOURNAL):
        _mount(_TMPFS, _JOURNAL, "tmpfs", _NOSUID_NODEV, "size=1m")
    if os.stat(data).st_dev == like.st_dev or not os.path.isdir(upper):
        raise OSError("the data directory is not covered")
    os.close(scratch)
    os.chdir("/")


def _overlay(lower: str, target: str, like: os.stat_result, *, hides: str = "") -> str:
    """Mount an overlay that takes what is written, and return the directory that gets it."""
    if set(",:\\") & set(lower):
        raise OSError(f"overlay: {lower} has a comma, a colon or a backslash")
    number = len(os.listdir("upper"))
    upper, work = f"upper/{number}", f"work/{number}"
    os.mkdir(work)
    os.mkdir(upper)
    os.chown(upper, like.st_uid, like.st_gid)
    os.chmod(upper, stat.S_IMODE(like.st_mode))
    if hides:
        os.mknod(f"{upper}/{hides}", stat.S_IFCHR, os.makedev(0, 0))  # a whiteout
    _mount("overlay", target, "overlay", 0, f"lowerdir={lower},upperdir={upper},workdir={work}")
    return upper


def _replace(target: str, content: bytes) -> None:
    """Mount a file with another content over a file, with its owner and mode."""
    like, name = os.stat(target), f"files/{len(os.listdir('files'))}"
    descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "wb") as file:
        file.write(content)
    os.chown(name, like.st_uid, like.st_gid)
    os.chmod(name, stat.S_IMODE(like.st_mode))
    _mount(name, target, flags=_BIND)


def _content(path: str) -> bytes | None:
    """Return the content of a small regular file; ``None`` for anything else."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return None
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        return file.read() if stat.S_ISREG(status.st_mode) and status.st_size < _LARGEST else None


def _watch(plan: Plan, proc: int) -> None:
    """Start etcd, report its end, and return when nobody listens any more."""
    failed, failing = os.pipe()
    child = os.fork()
    if not child:
        try:
            _become_etcd(plan, proc)
        except BaseException as error:
            os.write(failing, _text(error).encode("utf-8", "backslashreplace"))
        os._exit(127)
    os.close(failing)
    if why := os.read(failed, 4096):
        raise OSError(why.decode("utf-8", "replace"))
    _tell(started=True)
    ends = os.pidfd_open(child)
    poll = select.poll()
    poll.register(0, select.POLLIN | select.POLLHUP)
    poll.register(ends, select.POLLIN)
    while ready := {descriptor for descriptor, _ in poll.poll()}:
        if ends in ready:
            poll.unregister(ends)
            _tell(ended=os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        if 0 in ready:
            return


def _become_etcd(plan: Plan, proc: int) -> None:
    """Take the user, the capabilities and the label of etcd, and execute it."""
    os.chdir(plan.working)
    os.setsid()
    os.umask(plan.umask)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    most = plan.memory if most == resource.RLIM_INFINITY else min(most, plan.memory)
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    program = plan.program or os.readlink(f"{plan.pid}/exe", dir_fd=proc).removesuffix(" (deleted)")
    label = os.open("thread-self/attr/exec", os.O_WRONLY, dir_fd=proc) if plan.label else -1
    nothing, closed = os.pipe()
    os.close(closed)
    for capability in range(_CAPABILITIES):
        if not plan.bounding >> capability & 1:
            _LIBC.prctl(_DROP_BOUNDING, capability, 0, 0, 0)
    _LIBC.prctl(_KEEP_CAPABILITIES, 1, 0, 0, 0)
    os.setgroups(plan.groups)
    os.setresgid(plan.group, plan.group, plan.group)
    os.setresuid(plan.user, plan.user, plan.user)
    if plan.user:
        low, high = plan.ambient & 0xFFFFFFFF, plan.ambient >> 32
        header = ctypes.create_string_buffer(struct.pack("=Ii", 0x20080522, 0))
        sets = ctypes.create_string_buffer(struct.pack("=6I", low, low, low, high, high, high))
        _call("capset", _LIBC.capset(header, sets))
        for capability in range(_CAPABILITIES):
            if plan.ambient >> capability & 1:
                _call("ambient capability", _LIBC.prctl(_AMBIENT, 2, capability, 0, 0))
    if plan.no_new_privileges:
        _LIBC.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    if plan.label:
        os.write(label, os.fsencode(plan.label))
    os.dup2(nothing, 0)
    os.dup2(plan.output, 1)
    os.dup2(plan.output, 2)
    os.set_inheritable(plan.output, plan.output <= 2)
    try:
        os.execve(program, plan.argv, plan.environment)  # noqa: S606 - etcd, without a shell
    except OSError as error:
        os.write(1, f"{program} cannot be executed: {error.strerror}\n".encode("utf-8", "backslashreplace"))


if __name__ == "__main__":
    main()
