"""A process of a stranger that is taken for etcd, and the program that it names.

The process is a shell that waits; its argv[0] is the path of the program. That is what a rehearsal starts. It
tries to get out of the stage in many ways, and writes a line of JSON to standard error: its IDs, and of each
way ``acts`` or the name of the error.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from go_programs import built

from pytest_etcdtls.declared.running import Process, find_process
from pytest_etcdtls.etcd.clocks import until
from pytest_etcdtls.run.rehearsal import RehearsedEtcd

STRANGER: Final = 54321
"""ID of a local user without a name."""
PYTHON: Final = Path("/usr/bin/python3")
"""The Python of the system, which another user may execute."""

_TEXT = """#!/usr/bin/python3 -IS
import ctypes, errno, fcntl, json, mmap, os, resource, signal, socket, stat, struct, sys, threading, time
libc = ctypes.CDLL(None, use_errno=True)
FACTS = json.loads(os.environ["FACTS"])
def call(*arguments):
    made = libc.syscall(*arguments)
    if made < 0:
        raise OSError(ctypes.get_errno(), "")
    return made
def wrote(path):
    with open(path, "a"): return True
def became_root():
    os.setresuid(0, 0, 0)
    return os.geteuid() == 0
def connected(family, address, kind=socket.SOCK_STREAM, protocol=0):
    with socket.socket(family, kind, protocol) as tries:
        tries.settimeout(2)
        tries.connect(address)
        return True
def sent(path):
    with socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)[0] as one:
        return one.sendto(b"from the stage", path) > 0
def device():
    os.mknod(FACTS["data"] + "/device", 0o666 | stat.S_IFBLK, FACTS["device"])
    return os.open(FACTS["data"] + "/device", os.O_RDONLY) >= 0
def below(path):
    return bool(open(path, "rb").read(1))
def shared(size):
    held = mmap.mmap(-1, size)
    for place in range(0, size, 4096): held[place] = 1
    return True
def trees(word):
    pid = os.fork()
    if pid == 0: os._exit(0)
    return os.waitpid(pid, 0)[1] == 0
def traced():
    call(101 if os.uname().machine == "x86_64" else 117, 16, os.getppid(), 0, 0)
    return True
def keys():
    return call(248 if os.uname().machine == "x86_64" else 217, b"user", b"k", b"v", 1, -3) > 0
def queued(count):
    one, on_x86 = int(signal.SIGRTMIN), os.uname().machine == "x86_64"
    signal.pthread_sigmask(signal.SIG_BLOCK, {one})
    information = struct.pack("=iii", one, 0, -1) + bytes(116)
    for _ in range(count): call(129 if on_x86 else 138, os.getpid(), one, information)
    return True
def threads(count):
    end = threading.Event()
    threading.stack_size(32768)
    try:
        for _ in range(count): threading.Thread(target=end.wait, daemon=True).start()
    except RuntimeError:
        raise OSError(errno.EAGAIN, "")
    finally:
        end.set()
    return True
def raised(path):
    code = "import os; os.write(2, b'raised %d\\\\n' % os.geteuid())"
    os.execv(path, [path, "-c", code])
TRIES = {
    "become root": became_root,
    "write a file of the user": lambda: wrote(FACTS["own"]),
    "write /etc/passwd": lambda: wrote("/etc/passwd"),
    "read /etc/shadow": lambda: below("/etc/shadow"),
    "read a file that is as on the machine": lambda: open(FACTS["covered"]).read() == FACTS["content"],
    "make and read a block device": device,
    "read a device": lambda: below("/dev/zero"),
    "trace the stage": traced,
    "read memory of the stage": lambda: below("/proc/%d/environ" % os.getppid()),
    "look at the machine through the stage": lambda: bool(os.listdir("/proc/%d/root/root" % os.getppid())),
    "add a key": keys,
    "start a process": lambda: trees(""),
    "map shared memory": lambda: shared(64 << 20),
    "make a memory file": lambda: os.memfd_create("m") > 0,
    "connect to a socket of the file system": lambda: connected(socket.AF_UNIX, FACTS["socket"]),
    "send from a pair to a socket of the file system": lambda: sent(FACTS["datagrams"]),
    "connect to an abstract socket": lambda: connected(socket.AF_UNIX, "\\0" + FACTS["abstract"]),
    "connect to the machine": lambda: connected(socket.AF_INET, ("127.0.0.1", FACTS["port"])),
    "open a VSOCK": lambda: connected(40, (2, 1)),
    "open a raw socket": lambda: connected(socket.AF_INET, ("127.0.0.1", 0), socket.SOCK_RAW, 1),
    "make a user namespace": lambda: call(272 if os.uname().machine == "x86_64" else 97, 0x10000000) == 0,
    "mount": lambda: call(165 if os.uname().machine == "x86_64" else 40, b"none", b"/", b"tmpfs", 0, 0) == 0,
    "write to a pipe of the file system": lambda: os.open(FACTS["pipe"], os.O_WRONLY | os.O_NONBLOCK) >= 0,
    "watch files": lambda: call(294 if os.uname().machine == "x86_64" else 26, 0) > 0,
    "watch a file system": lambda: call(300 if os.uname().machine == "x86_64" else 262, 0x200, 0) > 0,
    "start a thread with descriptors of its own":
        lambda: call(56 if os.uname().machine == "x86_64" else 220, 0x10000, 0, 0, 0, 0) > 0,
    "queue many signals": lambda: queued(2000),
    "start many threads": lambda: threads(1000),
    "have a larger stack": lambda: call(160 if os.uname().machine == "x86_64" else 164, 3,
        struct.pack("@LL", 16 << 20, 16 << 20)) == 0,
    "open many files": lambda: [os.open("/dev/null", os.O_RDONLY) for _ in range(2000)] and True,
}
told = {"uid": os.getuid(), "euid": os.geteuid(), "gid": os.getgid(), "groups": os.getgroups()}
for name, tries in TRIES.items():
    try:
        told[name] = "acts" if tries() else "nothing"
    except Exception as error:
        number = getattr(error, "errno", None)
        told[name] = errno.errorcode.get(number, repr(error)) if number else repr(error)
    if name == "open many files":
        resource.setrlimit(resource.RLIMIT_NOFILE, resource.getrlimit(resource.RLIMIT_NOFILE))
        os.closerange(3, 4096)
os.write(2, b"TOLD " + json.dumps(told).encode() + b"\\n")
if FACTS.get("floods"):
    for _ in range(FACTS["floods"]): os.write(2, b"x" * 65536)
    os.write(2, b"\\nFLOODED\\n")
if FACTS.get("setuid"):
    raised(FACTS["setuid"])
time.sleep(600)
"""


def written_to(directory: Path, owner: int = STRANGER) -> Path:
    """Write the program to a directory, as that of a user, and return its path."""
    program = directory / "etcd"
    program.write_text(_TEXT, encoding="utf-8")
    program.chmod(0o755)
    for path in (directory, program):
        os.chown(path, owner, owner)
    return program


AS_STRANGER: Final = (
    f"import os, sys; os.setgroups([]); os.setresgid({STRANGER},{STRANGER},{STRANGER}); "
    f"os.setresuid({STRANGER},{STRANGER},{STRANGER})\n"
)
"""Code of Python that becomes the stranger."""
_WAITS: Final = "echo waits; read line"


@contextmanager
def stranger(
    program: Path,
    *words: str,
    environment: Mapping[str, str] | None = None,
    before: str = "",
    then: str = _WAITS,
    maps: str = "",
) -> Iterator[tuple[Process, subprocess.Popen[bytes]]]:
    """Have the stranger run a shell with the name of a program, and the flags of an etcd.

    Args:
        program: what argv[0] names.
        words: flags.
        environment: its variables.
        before: code of Python that the stranger executes before.
        then: what the shell does.
        maps: of its user namespace, which are written once it says that it is unmapped.
    """
    code = f"{AS_STRANGER}{before}\nos.execve({built()!r}, sys.argv[1:], dict(os.environ))"
    with subprocess.Popen(
        [PYTHON, "-IS", "-c", code, str(program), "-c", then, *words],
        env={"PATH": os.defpath, **(environment or {})},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd="/",
    ) as child:
        try:
            assert child.stdin is not None
            assert child.stdout is not None
            if maps:
                assert child.stdout.readline() == b"unmapped\n"
                for kind in ("uid", "gid"):
                    Path(f"/proc/{child.pid}/{kind}_map").write_text(maps, encoding="ascii")
                child.stdin.write(b"\n")
                child.stdin.flush()
            assert child.stdout.readline() == b"waits\n"
            yield find_process(child.pid), child
        finally:
            child.kill()


def told(etcd: RehearsedEtcd) -> dict[str, object]:
    """Return what the program on the stage has told: that it ran, and what acted."""
    lines: list[str] = []

    def ran() -> bool:
        lines[:] = [line for line in etcd.log().splitlines() if line.startswith("TOLD ")]
        return bool(lines)

    assert until(ran, 60), etcd.log()
    said: dict[str, object] = json.loads(lines[0].removeprefix("TOLD "))
    return said
