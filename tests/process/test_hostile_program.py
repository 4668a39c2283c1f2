"""What a stranger's program, file or process gets by a rehearsal of root's: nothing that its user lacks."""

from __future__ import annotations

import ctypes
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from go_programs import built

from process.containers import as_root
from process.hostile_program import AS_STRANGER, PYTHON, STRANGER, stranger, told, written_to
from pytest_etcdtls.declared.running import Process, find_process, read_running
from pytest_etcdtls.errors import NotVerifiedError
from pytest_etcdtls.etcd.clocks import until
from pytest_etcdtls.run.rehearsal import stage, started, system_calls
from pytest_etcdtls.run.rehearsal.planning import plan_of
from pytest_etcdtls.run.rehearsal.stage import Plan
from pytest_etcdtls.untrusted.process_root import not_readable
from pytest_etcdtls.untrusted.process_user import user_of

pytestmark = [
    *as_root,
    pytest.mark.skipif(
        not PYTHON.exists(), reason="needs the Python of the system, which others may execute"
    ),
]

URL = "https://127.0.0.1:2379"
NO_FILTER = "060000000000ff7f"
"""A filter that allows every system call: ``BPF_RET``, ``SECCOMP_RET_ALLOW``."""

HELD_BY_NAMESPACES = {
    "become root": "EINVAL",
    "write a file of the user": "EROFS",
    "write /etc/passwd": "EACCES",
    "read /etc/shadow": "EACCES",
    "read a file that is as on the machine": "acts",
    "make and read a block device": "EPERM",
    "read a device": "EACCES",
    "trace the stage": "EPERM",
    "read memory of the stage": "EACCES",
    "look at the machine through the stage": "EACCES",
    "connect to an abstract socket": "ECONNREFUSED",
    "connect to the machine": "ECONNREFUSED",
    "open a raw socket": "EPERM",
    "mount": "EPERM",
    "queue many signals": "EAGAIN",
    "start many threads": "EAGAIN",
    "have a larger stack": "EPERM",
    "open many files": "EMFILE",
}
"""What namespaces, mounts and the lack of capabilities alone refuse, and how."""
HELD_BY_THE_FILTER = {
    "add a key": "EPERM",
    "start a process": "EPERM",
    "map shared memory": "EPERM",
    "make a memory file": "EPERM",
    "connect to a socket of the file system": "EAFNOSUPPORT",
    "send from a pair to a socket of the file system": "EPERM",
    "connect to an abstract socket": "EAFNOSUPPORT",
    "open a VSOCK": "EAFNOSUPPORT",
    "make a user namespace": "EPERM",
    "watch files": "EPERM",
    "watch a file system": "EPERM",
    "start a thread with descriptors of its own": "EPERM",
}
"""What the filter of system calls refuses."""


@dataclass
class Home:
    """A directory of the stranger, with the program, its data and what it tries."""

    directory: Path
    program: Path
    facts: dict[str, Any]
    words: list[str] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        return {"FACTS": json.dumps(self.facts)}


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    """A home of the stranger, a file of root that it may read, and sockets of the machine."""
    for parent in (tmp_path, *tmp_path.parents[:-1]):
        parent.chmod(parent.stat().st_mode | 0o011)
    directory = tmp_path / "home"
    data = directory / "data"
    data.mkdir(parents=True)
    own, readable, pipe = directory / "own", tmp_path / "of-root", directory / "pipe"
    own.write_text("")
    readable.write_text("of root")
    os.mkfifo(pipe)
    program = written_to(directory)
    for path in (data, own, pipe):
        os.chown(path, STRANGER, STRANGER)
    with ExitStack() as stack:
        listening = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        unix = stack.enter_context(socket.socket(socket.AF_UNIX))
        unix.bind(str(directory / "socket"))
        (directory / "socket").chmod(0o777)
        unix.listen()
        datagrams = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        datagrams.bind(str(directory / "datagrams"))
        (directory / "datagrams").chmod(0o777)
        abstract = stack.enter_context(socket.socket(socket.AF_UNIX))
        abstract.bind(f"\0{tmp_path}")
        abstract.listen()
        yield Home(
            directory,
            program,
            {
                "data": str(data),
                "own": str(own),
                "device": os.stat("/").st_dev,
                "covered": str(readable),
                "content": "of root",
                "socket": str(directory / "socket"),
                "datagrams": str(directory / "datagrams"),
                "abstract": str(tmp_path),
                "port": listening.getsockname()[1],
                "pipe": str(pipe),
            },
            [f"--data-dir={data}", f"--listen-client-urls={URL}", f"--advertise-client-urls={URL}"],
        )


MAPS = f"0 {STRANGER} 1\n1 100000 1000\n"


def plan(process: Process) -> Plan:
    """Return the plan of its restart."""
    running = read_running(process)
    return plan_of(running, running.declared.declaration)


def without_filter(made: Plan) -> Plan:
    """Return a plan without a filter of system calls, so that the other layers are seen alone."""
    return replace(made, system_calls=NO_FILTER)


def machine(home: Home) -> tuple[list[str], bytes]:
    """Return what of the machine an attack is about: mounts in /etc and of its home, and a file."""
    lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    places = ("/etc", str(home.directory.parent))
    return [line for line in lines if line.split()[4].startswith(places)], Path("/etc/passwd").read_bytes()


def test_it_gets_nothing_that_its_user_lacks(home: Home) -> None:
    """Of each way out, what refuses it; the program ran, as its user."""
    before = machine(home)
    with (
        stranger(home.program, *home.words, environment=home.environment) as (process, _),
        started(plan(process), process.name) as etcd,
    ):
        said = told(etcd)
    assert (said["uid"], said["euid"], said["gid"], said["groups"]) == (STRANGER, STRANGER, STRANGER, [])
    expected = HELD_BY_NAMESPACES | HELD_BY_THE_FILTER
    filtered = {"trace the stage": "EPERM", "mount": "EPERM"}
    assert {name: said[name] for name in expected} == expected | filtered
    assert machine(home) == before
    assert not (home.directory / "data/device").exists()


def test_namespaces_hold_without_the_filter(home: Home) -> None:
    """The filter stops a part of these before the others are asked, so it is left out."""
    with (
        stranger(home.program, *home.words, environment=home.environment) as (process, _),
        started(without_filter(plan(process)), process.name) as etcd,
    ):
        said = told(etcd)
    assert {name: said[name] for name in HELD_BY_NAMESPACES} == HELD_BY_NAMESPACES
    acts = {name for name in HELD_BY_THE_FILTER if said[name] == "acts"}
    assert acts >= {
        "start a process",
        "connect to a socket of the file system",
        "send from a pair to a socket of the file system",
        "make a user namespace",
    }


@pytest.mark.parametrize("filtered", [True, False])
def test_a_set_user_id_program_is_not_set(home: Home, filtered: bool) -> None:
    """The mounts of the stage take set-user-ID bits away, also of a data directory that is covered."""
    raising = home.directory / "data/python"
    shutil.copy(PYTHON, raising)
    raising.chmod(0o4755)
    home.facts["setuid"] = str(raising)
    without = home.program.read_text().replace('"make a user namespace": lambda: call(', '"": lambda: (')
    home.program.write_text(without)  # its ID would have no number in one
    with stranger(home.program, *home.words, environment=home.environment) as (process, _):
        made = plan(process)
        with started(made if filtered else without_filter(made), process.name) as etcd:
            assert until(lambda: "raised " in etcd.log(), 60), etcd.log()
            assert f"raised {STRANGER}\n" in etcd.log()


def _waiting_su(home: Home, stack: ExitStack) -> int:
    """Start su, which waits for a password with effective ID 0, as an etcd of the stranger."""
    raising = home.directory / "su"
    shutil.copy(built("/usr/bin/su"), raising)
    raising.chmod(0o4755)
    return _raised(stack, [str(raising), str(home.program), "root"], home)


def _all_root(home: Home, stack: ExitStack) -> int:
    """Start a set-user-ID program that makes all of its IDs root's, as sudo does."""
    raising = home.directory / "raising"
    shutil.copy(built(str(PYTHON)), raising)
    raising.chmod(0o4755)
    code = "import os, sys; os.setresgid(0, 0, 0); os.setresuid(0, 0, 0); sys.stdin.read()"
    return _raised(stack, [str(raising), str(home.program), "-IS", "-c", code], home)


def _group_of_root(home: Home, stack: ExitStack) -> int:
    """Start a set-group-ID program that makes all of its group IDs root's."""
    raising = home.directory / "raising"
    shutil.copy(built(str(PYTHON)), raising)
    os.chown(raising, STRANGER, 0)
    raising.chmod(0o2755)
    code = "import os, sys; os.setresgid(0, 0, 0); sys.stdin.read()"
    return _raised(stack, [str(raising), str(home.program), "-IS", "-c", code], home)


def _raised(stack: ExitStack, words: list[str], home: Home) -> int:
    code = f"{AS_STRANGER}os.execve(sys.argv[1], sys.argv[2:], dict(os.environ))"
    preload = home.directory / "preload.so"
    settings = {"ETCD_LISTEN_CLIENT_URLS": URL, "ETCD_DATA_DIR": home.facts["data"]}
    environment = home.environment | settings | {"LD_PRELOAD": str(preload)}
    child = stack.enter_context(
        subprocess.Popen(
            [PYTHON, "-IS", "-c", code, *words],
            env=environment,
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
    )
    stack.callback(child.kill)
    executed = f"{home.program}\0".encode()
    assert until(lambda: Path(f"/proc/{child.pid}/cmdline").read_bytes().startswith(executed), 20)
    if "raising" in words[0]:
        status = Path(f"/proc/{child.pid}/status")
        assert until(
            lambda: re.search(r"^[UG]id:(\s0){4}$", status.read_text(encoding="utf-8"), re.MULTILINE), 20
        )
    return child.pid


@pytest.mark.parametrize(
    ("start", "why"),
    [
        (_waiting_su, "its real, effective, saved and file-system IDs differ"),
        (_all_root, "it was started with more rights than its user has"),
        (_group_of_root, "it was started with more rights than its user has"),
    ],
    ids=["su", "sudo", "group"],
)
def test_a_set_user_id_process_is_refused(start: Any, why: str, home: Home) -> None:
    """Its IDs are root's, its arguments and variables a stranger's: nothing is read or started for it."""
    marker = Path("/root/of-the-stranger")
    home.program.write_text(f"#!/bin/sh\n/bin/mount -o remount,rw,bind /\n/usr/bin/id > {marker}\n")
    with ExitStack() as stack:
        process = find_process(start(home, stack))
        words = [sys.executable, "-m", "pytest_etcdtls", f"--pid={process.pid}", "--rehearse", "--timeout=1"]
        ran = subprocess.run(words, capture_output=True, text=True, check=False, cwd="/")
        assert ran.returncode == 4, ran.stdout + ran.stderr
        assert f"process {process.pid} ({home.program}) is not read: {why}" in ran.stdout + ran.stderr
        with pytest.raises(PermissionError, match=why):
            user_of(process.pid)
    assert not marker.exists()


def test_another_program_between_plan_and_stage(home: Home) -> None:
    """What was checked is what is started: a process that executes another program meanwhile is refused."""
    then = "echo waits; read line; exec sleep 600"
    with stranger(home.program, *home.words, environment=home.environment, then=then) as (process, child):
        made = plan(process)
        assert child.stdin is not None
        child.stdin.write(b"\n")
        child.stdin.flush()
        assert until(lambda: Path(f"/proc/{process.pid}/comm").read_bytes() == b"sleep\n", 20)
        with (
            pytest.raises(NotVerifiedError, match="it executed another program meanwhile"),
            started(made, process.name),
        ):
            pass


@pytest.mark.parametrize("form", ["configuration", "log", "data"])
def test_a_path_that_becomes_a_link(form: str, home: Home) -> None:
    """It leads to a file of the machine after the plan was made: nothing of the machine is covered."""
    before = machine(home)
    words = list(home.words)
    path = home.directory / "swapped"
    if form == "configuration":
        path.write_text(f"data-dir: {home.directory}/data\nlisten-client-urls: {URL}\n")
        words = [f"--config-file={path}"]
    elif form == "log":
        words.append(f"--log-outputs={path}")
        path.write_text("")
    else:
        path.mkdir()
        words[0] = f"--data-dir={path}"
    os.chown(path, STRANGER, STRANGER)
    with stranger(home.program, *words, environment=home.environment) as (process, _):
        made = plan(process)
        path.rmdir() if form == "data" else path.unlink()
        path.symlink_to("/etc" if form == "data" else "/etc/passwd")
        if form == "data":
            with (
                pytest.raises(NotVerifiedError, match="its data directory cannot be written by its user"),
                started(made, process.name),
            ):
                pass
        elif form == "log":
            with started(made, process.name) as etcd:
                said = told(etcd)
                assert "root:" not in etcd.log()
            assert said["write /etc/passwd"] == "EACCES"
        else:
            with started(made, process.name) as etcd:  # /etc/passwd is covered in its own sight alone
                assert machine(home) == before
                assert etcd.pid
    assert machine(home) == before


@pytest.mark.parametrize("output", ["/etc/passwd", "/etc/shadow", "/dev/null", "pipe", "/dev/zero"])
def test_no_output_of_the_log_covers_a_file_of_the_machine(output: str, home: Home) -> None:
    """A file that its user cannot write is what it is, on the stage too; none is read back by root."""
    words = [*home.words, f"--log-outputs=stderr,{home.facts['pipe'] if output == 'pipe' else output}"]
    home.facts |= {"covered": "/etc/passwd", "content": Path("/etc/passwd").read_text(encoding="utf-8")}
    with (
        stranger(home.program, *words, environment=home.environment) as (process, _),
        started(plan(process), process.name) as etcd,
    ):
        said = told(etcd)
        log = etcd.log()
    assert said["read a file that is as on the machine"] == "acts"
    assert "root:" not in log


@pytest.mark.parametrize("form", ["link", "fifo", "directory"])
def test_a_log_that_it_makes_itself_is_no_way_to_a_file(form: str, home: Home) -> None:
    """The log is read on the stage, as its user, and never through a link, and nothing waits for a pipe."""
    logs = home.directory / "logs"
    logs.mkdir()
    os.chown(logs, STRANGER, STRANGER)
    log = logs / "etcd.log"
    make = {
        "link": f"os.symlink('/etc/passwd', '{log}')",
        "fifo": f"os.mkfifo('{log}')",
        "directory": f"os.mkdir('{log}')",
    }[form]
    text = home.program.read_text().replace(
        "TRIES = {", f"os.path.lexists('{log}') and os.unlink('{log}')\n{make}\nTRIES = {{", 1
    )
    home.program.write_text(text)
    words = [*home.words, f"--log-outputs={log},stderr"]
    with (
        stranger(home.program, *words, environment=home.environment) as (process, _),
        started(plan(process), process.name) as etcd,
    ):
        told(etcd)
        assert "root:" not in etcd.log()


def test_output_without_end_is_bounded(home: Home) -> None:
    """A gigabyte of standard error is read, so that it goes on, and a bounded part of it kept."""
    home.facts["floods"] = 1024
    with (
        stranger(home.program, *home.words, environment=home.environment) as (process, _),
        started(plan(process), process.name) as etcd,
    ):
        told(etcd)
        writing = Path(f"/proc/{_child_of(etcd.pid)}/io")
        assert until(
            lambda: int(re.findall(r"wchar: (\d+)", writing.read_text(encoding="ascii"))[0]) > 1024 * 65536,
            60,
        )
        assert len(etcd.log()) <= 1 << 20


def _child_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii"))


_CHANGES_ITS_PROGRAM = """import errno, os, time
try:
    os.chmod("/proc/self/exe", os.stat("/proc/self/exe").st_mode)
    os.write(2, b"it acts")
except OSError as error:
    os.write(2, errno.errorcode[error.errno].encode())
time.sleep(600)"""


def test_the_python_of_the_machine_is_not_changed(home: Home) -> None:
    """It is ``/proc/self/exe`` until etcd is executed. In a container etcd may be root's, as it is."""
    os.chown(home.facts["data"], 0, 0)
    words = (sys.executable, "-IS", "-c", _CHANGES_ITS_PROGRAM)
    with stranger(home.program, *home.words, environment=home.environment) as (process, _):
        made = replace(plan(process), program="/proc/self/exe", argv=words, user=0, group=0)
        with started(made, process.name) as etcd:
            assert until(etcd.log, 20) == "EROFS"


def test_no_descriptor_leads_out_of_the_stage(home: Home) -> None:
    """By one, ``/proc/self/fd/3/../bin/sh`` is a program of the machine, where a container has its /proc."""
    with (
        stranger(home.program, *home.words, environment=home.environment) as (process, _),
        started(plan(process), process.name) as etcd,
    ):
        here = Path(f"/proc/{etcd.pid}")
        stages = {line.split()[0] for line in (here / "mountinfo").read_text(encoding="utf-8").splitlines()}
        directories = [one.name for one in (here / "fd").iterdir() if one.is_dir()]
        texts = [(here / "fdinfo" / name).read_text(encoding="ascii") for name in directories]
        assert {text.partition("mnt_id:\t")[2].split()[0] for text in texts} <= stages


def test_its_own_program_is_not_changed(home: Home) -> None:
    """One without an absolute path is the one that runs, on a mount of the machine."""
    program = home.directory / "bin/etcd"
    program.parent.mkdir()
    shutil.copy(built(str(PYTHON)), program)
    os.chown(program, STRANGER, STRANGER)
    then = f"""exec {program} -ISc 'print("waits", flush=True); input()' "$0" "$@" """
    with stranger(home.program, *home.words, environment=home.environment, then=then) as (process, _):
        made = replace(plan(process), program="", argv=("etcd", "-ISc", _CHANGES_ITS_PROGRAM))
        with started(made, process.name) as etcd:
            assert until(etcd.log, 20) == "EROFS"


def test_a_working_directory_on_a_mount_of_others(home: Home) -> None:
    """It was opened before the process got mounts of its own: from there all could be written."""
    before = (
        "import ctypes\n"
        "libc, working = ctypes.CDLL(None), os.open(os.path.dirname(sys.argv[1]), os.O_RDONLY)\n"
        "assert not libc.unshare(0x10000000 | 0x20000)\n"
        "os.write(1, b'unmapped\\n')\nsys.stdin.readline()\n"
        "assert not libc.mount(b'none', os.path.dirname(sys.argv[1]).encode(), b'tmpfs', 0, None)\n"
        "os.fchdir(working)"
    )
    data = home.directory.parent / "data"
    data.mkdir()
    os.chown(data, STRANGER, STRANGER)
    words = [f"--data-dir={data}", *home.words[1:]]
    with (
        stranger(home.program, *words, environment=home.environment, before=before, maps=MAPS) as found,
        pytest.raises(NotVerifiedError, match=re.escape("mount of .: Invalid argument")),
        started(plan(found[0]), found[0].name),
    ):
        pass


_SWAPS = """import ctypes, os, stat
from pytest_etcdtls.run.rehearsal import stage
assert not ctypes.CDLL(None).mount(b"none", b"/dev", b"tmpfs", 0, None)
for name, minor in (("null", 3), ("other", 5)):
    os.mknod(f"/dev/{name}", 0o666 | stat.S_IFCHR, os.makedev(1, minor))
is_device = stat.S_ISCHR
def swapped(mode):
    os.rename("/dev/null", "/dev/first")
    os.rename("/dev/other", "/dev/null")
    os.rename("/dev/first", "/dev/other")
    return is_device(mode)
stat.S_ISCHR = swapped
stage._make_read_only()
for name in ("null", "other"):
    try:
        print(name, open(f"/dev/{name}", "rb").read(1))
    except PermissionError:
        print(name, "refused")
"""


def test_the_null_device_that_was_looked_at_is_the_one_that_works() -> None:
    """Root of a container may make devices that it may not open, and swap them with it at any moment."""
    words = ["unshare", "--mount", sys.executable, "-c", _SWAPS]
    made = subprocess.run(words, capture_output=True, text=True, check=True)
    assert made.stdout.splitlines() == ["null b''", "other refused"]


def test_a_large_directory_is_not_read_whole(home: Home) -> None:
    """It may be one of FUSE, that has no end."""
    data = Path(home.facts["data"])
    for number in range(10000):
        os.mknod(data / f"{number:0200}")
    above, source = (os.open(path, os.O_RDONLY) for path in (home.directory, data))
    tracemalloc.start()
    try:
        with pytest.raises(OSError, match="more than 4096 entries"):
            stage._copy(above, "made", source, set(), depth=0)
        assert tracemalloc.get_traced_memory()[1] < 3 << 19
    finally:
        tracemalloc.stop()
        os.close(above)
        os.close(source)


def test_the_session_keyring_is_an_empty_one(home: Home) -> None:
    """A key of the run is not found by the program, also without the filter."""
    calls = system_calls._NUMBERS[os.uname().machine]
    libc = ctypes.CDLL(None, use_errno=True)
    text = home.program.read_text()
    search = f"call({calls['keyctl']}, 10, -3, b'user', b'of-the-run', 0)"  # KEYCTL_SEARCH in the session's
    home.program.write_text(text.replace("TRIES = {", f'TRIES = {{"find a key": lambda: {search} > 0,', 1))
    assert libc.syscall(calls["keyctl"], 1, None) > 0, "this machine has no session keyrings"
    assert libc.syscall(calls["add_key"], b"user", b"of-the-run", b"secret", 6, -3) > 0
    assert libc.syscall(calls["keyctl"], 10, -3, b"user", b"of-the-run", 0) > 0
    with (
        stranger(home.program, *home.words, environment=home.environment) as (process, _),
        started(without_filter(plan(process)), process.name) as etcd,
    ):
        assert told(etcd)["find a key"] == "ENOKEY"


def test_memory_of_the_whole_stage_is_bounded(home: Home) -> None:
    """Files, and shared memory where no filter refuses it, are counted by a control group."""
    groups = Path("/proc/self/cgroup").read_text(encoding="utf-8")
    if ":memory:" not in groups and not os.access("/sys/fs/cgroup/cgroup.procs", os.W_OK):
        pytest.skip("no control group can be made here")
    text = home.program.read_text().replace("shared(64 << 20)", "shared(3 << 30)")
    home.program.write_text(text)
    with stranger(home.program, *home.words, environment=home.environment) as (process, _):
        made = without_filter(plan(process))
        with started(made, process.name) as etcd:
            child = _child_of(etcd.pid)
            group = Path(f"/proc/{child}/cgroup").read_text(encoding="utf-8")
            assert "/pytest-etcdtls-rehearsal-" in group
            with pytest.raises(NotVerifiedError, match="ended by signal 9"):
                until(lambda: etcd.ended(1), 60)


def test_where_no_process_may_enter_a_control_group_none_is_left() -> None:
    """In a namespace of control groups one can be made outside of it, which no process can enter."""
    name = f"pytest-etcdtls-rehearsal-{os.getpid()}"
    assert stage._bound_memory(process=1 << 30, most=1 << 30, name=name) == -1
    assert not list(Path("/sys/fs/cgroup").rglob(name))


def test_the_control_group_is_removed(home: Home) -> None:
    with (
        stranger(home.program, *home.words, environment=home.environment) as (process, _),
        started(plan(process), process.name) as etcd,
    ):
        told(etcd)
        lines = Path(f"/proc/{_child_of(etcd.pid)}/cgroup").read_text(encoding="utf-8").splitlines()
    made = [line.split(":", 2)[2] for line in lines if "/pytest-etcdtls-rehearsal-" in line]
    assert len(made) == 1
    assert not list(Path("/sys/fs/cgroup").rglob(made[0].rpartition("/")[2]))


def test_a_user_namespace_of_another_user(home: Home) -> None:
    """As of podman without root: the maps are written from within it, and the program has its user alone."""
    before = (
        "import ctypes\nassert not ctypes.CDLL(None).unshare(0x10000000)\n"
        "os.write(1, b'unmapped\\n')\nsys.stdin.readline()"
    )
    with stranger(home.program, *home.words, environment=home.environment, before=before, maps=MAPS) as (
        process,
        _,
    ):
        assert user_of(process.pid).own_namespace
        why, advice = not_readable(process.root / "etc/shadow")
        assert why.endswith("whose capabilities in its user namespace are not taken")
        assert "pass a copy" in advice  # not: correct its owner and mode
        with started(plan(process), process.name) as etcd:
            said = told(etcd)
            uid = Path(f"/proc/{_child_of(etcd.pid)}/status").read_text(encoding="utf-8")
    assert (said["uid"], said["groups"]) == (0, [])
    assert f"\nUid:\t{STRANGER}\t{STRANGER}" in uid
    assert said["read /etc/shadow"] == "EACCES"
    assert said["make and read a block device"] == "EPERM"


def test_nobody_of_its_user_traces_or_enters_the_stage(home: Home) -> None:
    """The stage has the user of the program, and no process of that user outside gets into it."""
    tries = (
        f"import ctypes\n{AS_STRANGER}"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "for pid in map(int, sys.argv[1:]):\n"
        "    print(libc.ptrace(16, pid, 0, 0), end=' ')\n"
        "    for path in ('ns/user', 'ns/mnt', 'root', 'environ', 'mem', 'fd/0'):\n"
        "        try:\n"
        "            os.open(f'/proc/{pid}/{path}', os.O_RDONLY)\n"
        "            print(path, end=' ')\n"
        "        except OSError: pass\n"
    )
    with (
        stranger(home.program, *home.words, environment=home.environment) as (process, _),
        started(plan(process), process.name) as etcd,
    ):
        told(etcd)
        owner = int(
            re.findall(
                r"^PPid:\s(\d+)", Path(f"/proc/{etcd.pid}/status").read_text(encoding="utf-8"), re.MULTILINE
            )[0]
        )
        made = subprocess.run(
            [PYTHON, "-IS", "-c", tries, str(owner), str(etcd.pid)],
            capture_output=True,
            text=True,
            check=True,
        )
    assert made.stdout.split() == ["-1", "-1"]
