"""The filter of system calls with which etcd runs on the stage (seccomp(2)).

Namespaces and the lack of capabilities leave ways out that etcd does not need: sockets in the file system and
VSOCK, whose other ends are outside; user namespaces of its own; memory that no limit of a process counts. The
filter of the running etcd cannot be read without stopping it (``PTRACE_SECCOMP_GET_FILTER``), so this one
stands in for it.

It refuses processes (threads with the same descriptors are allowed), shared memory without a file, keys,
tracing, namespaces, mounts, inotify and fanotify, which would take from the number that root has, and sockets
other than those of IP and netlink. Pairs of sockets (socketpair(2)) are refused too: one for
datagrams sends to any socket of the file system. A call of another machine, such as a 32-bit one, ends the
program.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator, Mapping
from typing import Final

_NUMBERS: Final[Mapping[str, Mapping[str, int]]] = {
    "x86_64": {
        **{"audit": 0xC000003E, "mmap": 9, "clone": 56, "socket": 41, "keyctl": 250, "fork": 57, "vfork": 58},
        **{"socketpair": 53},
        **{"shmget": 29, "semget": 64, "msgget": 68, "mq_open": 240, "memfd_create": 319},
        **{"ptrace": 101, "process_vm_readv": 310, "process_vm_writev": 311, "kcmp": 312},
        **{"add_key": 248, "request_key": 249, "bpf": 321, "perf_event_open": 298, "userfaultfd": 323},
        **{"unshare": 272, "setns": 308, "chroot": 161, "pivot_root": 155, "mount": 165, "umount2": 166},
        **{"open_by_handle_at": 304, "inotify_init": 253, "inotify_init1": 294, "fanotify_init": 300},
    },
    "aarch64": {
        **{"audit": 0xC00000B7, "mmap": 222, "clone": 220, "socket": 198, "keyctl": 219},
        **{"socketpair": 199},
        **{"shmget": 194, "semget": 190, "msgget": 186, "mq_open": 180, "memfd_create": 279},
        **{"ptrace": 117, "process_vm_readv": 270, "process_vm_writev": 271, "kcmp": 272},
        **{"add_key": 217, "request_key": 218, "bpf": 280, "perf_event_open": 241, "userfaultfd": 282},
        **{"unshare": 97, "setns": 268, "chroot": 51, "pivot_root": 41, "mount": 40, "umount2": 39},
        **{"open_by_handle_at": 265, "inotify_init1": 26, "fanotify_init": 262},
    },
}
"""Numbers of system calls (asm/unistd.h), and that of the machine (linux/audit.h, ``AUDIT_ARCH_...``)."""
_JUDGED_BY_ARGUMENTS: Final = ("audit", "mmap", "clone", "socket")
_ON_EVERY_MACHINE: Final = (*range(425, 434), 438, 442, 447)
"""``io_uring_...``, ``open_tree``, ``move_mount``, ``fs...``; ``pidfd_getfd``, ``mount_setattr``,
``memfd_secret``."""
_CLONE3: Final = 435


def keyctl() -> int:
    """Return the number of the system call by which a process gets another session keyring.

    Raises:
        OSError: if this machine is not known.
    """
    return _numbers()["keyctl"]


def _numbers() -> Mapping[str, int]:
    machine = os.uname().machine
    if machine not in _NUMBERS:
        raise OSError(f"a rehearsal runs on x86_64 and arm64, and this machine is {machine}")
    return _NUMBERS[machine]


def filter_program(*, sockets: bool) -> bytes:
    """Return the filter as instructions of BPF (``struct sock_filter``, linux/filter.h).

    Args:
        sockets: etcd listens on sockets in the file system.

    Raises:
        OSError: if this machine is not known.
    """
    return b"".join(struct.pack("=HBBI", *row) for row in _rows(_numbers(), sockets))


def _rows(numbers: Mapping[str, int], sockets: bool) -> Iterator[tuple[int, int, int, int]]:
    """Yield operation, instructions to skip if it is true, and if it is false, and operand."""
    load, equal, at_least, has_bits, mask, give = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
    refuse, kill, allow = (give, 0, 0, 0x50001), (give, 0, 0, 0x80000000), (give, 0, 0, 0x7FFF0000)
    number, machine = (load, 0, 0, 0), (load, 0, 0, 4)  # struct seccomp_data (linux/seccomp.h)
    first_argument, fourth_argument = (load, 0, 0, 16), (load, 0, 0, 40)
    yield from (machine, (equal, 1, 0, numbers["audit"]), kill)
    yield from (number, (at_least, 0, 1, 0x40000000), kill)  # __X32_SYSCALL_BIT
    refused = [call for name, call in numbers.items() if name not in _JUDGED_BY_ARGUMENTS]
    for call in (*refused, *_ON_EVERY_MACHINE):
        yield from ((equal, 0, 1, call), refuse)
    # Without clone3 (ENOSYS) libc uses clone, whose flags can be read here: CLONE_THREAD and CLONE_FILES.
    yield from ((equal, 0, 1, _CLONE3), (give, 0, 0, 0x50026))
    yield from ((equal, 0, 5, numbers["clone"]), first_argument, (mask, 0, 0, 0x10400))
    yield from ((equal, 1, 0, 0x10400), refuse, allow)
    # MAP_GROWSDOWN, or MAP_SHARED with MAP_ANONYMOUS.
    yield from ((equal, 0, 6, numbers["mmap"]), fourth_argument, (has_bits, 2, 0, 0x100))
    yield from ((mask, 0, 0, 0x21), (equal, 0, 1, 0x21), refuse, allow)
    families = (socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK, *((socket.AF_UNIX,) if sockets else ()))
    yield from ((equal, 0, 3 + len(families), numbers["socket"]), first_argument)
    yield from ((equal, len(families) - place, 0, family) for place, family in enumerate(families))
    yield from ((give, 0, 0, 0x50061), allow, allow)  # EAFNOSUPPORT
