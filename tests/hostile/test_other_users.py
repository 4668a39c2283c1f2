"""Processes, records and files of other users, in whose environment or content our marks are written.

The second user has a numeric ID alone. Only root can become it; the rows that need no second user run always.
"""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest
from cluster.conftest import DEADLINE, gone
from cluster.test_watchdog import KILLED

from pytest_etcdtls.etcd.watchdog import MARK, PREFIX, RECORD, this_process
from pytest_etcdtls.report import write_file

OTHER = 54321
"""User ID of the second user."""

THIRD = 54322
"""User ID of a user whose processes no other run of this machine's tests asks."""

second_user = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become a second user")

DEAD = " ".join((*this_process().split(" ")[:3], "4194305", "1"))
"""An owner of this host that has certainly ended."""
SECRET = "0123456789abcdef"

Process = subprocess.Popen[bytes]
Spawn = Callable[..., Process]


BECOMES = """
import ctypes, os, sys
ready, ids, *environment = sys.argv[1:]
os.set_inheritable(int(ready), False)
os.setresuid(*map(int, ids.split()))
words = (ctypes.c_char_p * 3)(b"sleep", b"3600", None)
variables = (ctypes.c_char_p * (len(environment) + 1))(*map(os.fsencode, environment), None)
ctypes.CDLL(None).execve(b"/usr/bin/sleep", words, variables)
"""
"""Becomes a program that waits, with an environment that no shell would write."""


@pytest.fixture
def spawn() -> Iterator[Spawn]:
    """Start a process with an environment of octets, as real, effective and saved user, in a group."""
    with ExitStack() as stack:

        def start(*environment: bytes, ids: Sequence[int] = (os.geteuid(),) * 3, group: int = 0) -> Process:
            ready, begun = os.pipe()
            process = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", BECOMES, str(begun), " ".join(map(str, ids)), *environment],
                    pass_fds=[begun],
                    process_group=group,
                )
            )
            stack.callback(process.kill)
            os.close(begun)
            assert os.read(ready, 1) == b""  # the old program has ended
            os.close(ready)
            return process

        yield start


def _python(
    *words: object, environment: Mapping[str, str], prefix: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*prefix, sys.executable, *map(str, words)],
        capture_output=True,
        encoding="utf-8",
        check=False,
        env={"PATH": os.environ["PATH"], **environment},
    )


def _clean(temporary: Path) -> str:
    environment = {"TMPDIR": str(temporary), "DOCKER_HOST": "unix:///nowhere"}
    done = _python("-m", "pytest_etcdtls", "clean", environment=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _record(directory: Path, user: int | None = None, text: str = f"{DEAD}\n{SECRET}") -> Path:
    directory.mkdir(mode=0o700)
    record = directory / RECORD
    record.touch(mode=0o600)
    record.write_text(text, encoding="utf-8")
    if user is not None:
        os.chown(record, user, user)
        os.chown(directory, user, user)
    return record


UNREADABLE = (
    MARK.encode(),
    MARK.encode() + b"=",
    MARK.encode() + b"=\xff \xff\n/\xff",
    MARK.encode() + b"_PROCESS",
    MARK.encode() + b"=x /dev/zero",
    b"",
)
"""Variables that are no mark. The first has no ``=``."""


@pytest.mark.parametrize("user", [None, pytest.param(OTHER, marks=second_user)], ids=["ours", "other"])
def test_unreadable_mark_stops_no_cleaning(
    spawn: Spawn, tmp_path: Path, newest_etcd: Path, user: int | None
) -> None:
    bystanders = [spawn(variable, ids=(user or os.geteuid(),) * 3) for variable in UNREADABLE]
    run = _python("-c", KILLED, "binary", newest_etcd, environment={**os.environ, "TMPDIR": str(tmp_path)})
    assert run.returncode == -signal.SIGKILL, run.stderr
    directory, etcd = run.stdout.split()
    said = _clean(tmp_path)
    assert f"removed: directory {directory}\n" in said
    assert gone(int(etcd))
    guarded = tmp_path / "guarded"
    guarded.mkdir()
    program = (
        "import os; from pytest_etcdtls.etcd.watchdog import Watchdog;"
        f"dog = Watchdog(); dog.order(directory={str(guarded)!r});"
        "print(dog.pid, flush=True); os._exit(1)"
    )
    assert gone(int(_python("-c", program, environment=os.environ).stdout))
    assert not guarded.exists()
    assert all(bystander.poll() is None for bystander in bystanders)


def _readable(path: Path) -> str:
    _record(path).chmod(0o644)
    return f"{SECRET} {path / RECORD}"


def _linked(path: Path) -> str:
    record = _record(path)
    record.rename(path / "elsewhere")
    record.symlink_to(path / "elsewhere")
    return f"{SECRET} {record}"


FORGED: Mapping[str, Callable[[Path], str]] = {
    "of-earlier-versions": lambda _: f"x\0{MARK}_PROCESS={DEAD}",
    "without-record": lambda path: f"{SECRET} {path / RECORD}",
    "other-secret": lambda path: f"fedcba9876543210 {_record(path)}",
    "empty-secret": lambda path: " " + str(_record(path, text=f"{DEAD}\n")),
    "readable-record": _readable,
    "linked-record": _linked,
    "of-another-user": lambda path: f"{SECRET} {_record(path, OTHER)}",
}
"""Marks that somebody has written who knows what every user of this host can read, in a directory."""


@pytest.mark.parametrize("name", [*[*FORGED][:-1], pytest.param("of-another-user", marks=second_user)])
@pytest.mark.parametrize("user", [None, pytest.param(OTHER, marks=second_user)], ids=["ours", "other"])
def test_forged_mark_kills_nobody(spawn: Spawn, tmp_path: Path, name: str, user: int | None) -> None:
    mark = f"{MARK}={FORGED[name](tmp_path / f'{PREFIX}{name}')}".encode()
    master = spawn(b"A=b")
    worker = spawn(*mark.split(b"\0"), ids=(user or os.geteuid(),) * 3, group=master.pid)
    said = _clean(tmp_path)
    assert "removed: process" not in said
    assert (master.poll(), worker.poll()) == (None, None)
    unsafe = f"left: directory {tmp_path / PREFIX}{name}: its file {RECORD} is no record"
    assert (unsafe in said) == (name in ("empty-secret", "readable-record", "linked-record"))
    unproven = f"whose mark names {tmp_path / PREFIX}{name}/{RECORD}, but not the secret in that file"
    assert (unproven in said) == (user is None and name != "of-earlier-versions")


@second_user
def test_program_that_another_user_started_as_root_is_not_killed(spawn: Spawn, tmp_path: Path) -> None:
    mark = f"{MARK}={SECRET} {_record(tmp_path / f'{PREFIX}dead')}".encode()
    set_user_id = spawn(mark, ids=(OTHER, 0, 0))
    ours = spawn(mark)
    _clean(tmp_path)  # or a run of another test, which looks at all processes
    assert ours.wait(DEADLINE) == -signal.SIGKILL
    assert set_user_id.poll() is None


ASKS = """
import os, sys
from pytest_etcdtls.etcd.watchdog import is_dead
os.setgroups([])  # /proc hides nothing from group 0
os.setresgid(*[int(sys.argv[1])] * 3)
os.setresuid(*[int(sys.argv[1])] * 3)
print(is_dead(sys.argv[2]))
"""


@second_user
@pytest.mark.program("unshare", "mount")
def test_an_owner_that_proc_hides_is_not_taken_for_dead() -> None:
    hides = 'mount -t proc -o hidepid=2 proc /proc && exec "$0" "$@"'
    prefix = ("unshare", "--mount", "sh", "-c", hides)
    done = _python("-c", ASKS, OTHER, this_process(), environment=os.environ, prefix=prefix)
    assert (done.stdout, done.stderr) == ("False\n", "")


MOVES_ITS_ENVIRONMENT = """
import ctypes, mmap, struct, sys, time
size = 64 << 20
memory = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
with open("/proc/self/stat") as file:
    fields = [0, 0, 0, *map(int, file.read().rpartition(")")[2].split()[1:])]
code, stack, data, brk, arguments = fields[25:27], fields[27], fields[44:46], fields[46], fields[47:49]
area = struct.pack("11QQII", *code, *data, brk, brk, stack, *arguments, start, start + size, 0, 0, 2**32 - 1)
assert ctypes.CDLL(None).prctl(35, 14, area, ctypes.c_ulong(len(area)), 0) == 0
print("moved", flush=True)
time.sleep(3600)
"""


@pytest.fixture
def moved() -> Iterator[Process]:
    """A process without a capability, as root of a container is, that has moved its environment."""
    powerless = ("setpriv", "--bounding-set=-all", "--inh-caps=-all")
    words = [*powerless, sys.executable, "-c", MOVES_ITS_ENVIRONMENT]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"moved\n"
        yield process
        process.kill()


KILLS_NOBODY = """
import resource
from pytest_etcdtls.etcd.watchdog import kill
resource.setrlimit(resource.RLIMIT_DATA, (64 << 20,) * 2)
print(kill(lambda mark: False))
"""


@second_user
@pytest.mark.program("setpriv")
@pytest.mark.usefixtures("moved")
def test_the_environment_of_another_process_takes_no_memory() -> None:
    done = _python("-c", KILLS_NOBODY, environment=os.environ)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_no_device_that_a_mark_names_is_opened(spawn: Spawn, tmp_path: Path) -> None:
    pipe = tmp_path / "device"
    os.mkfifo(pipe)
    spawn(f"{MARK}={SECRET} {pipe}".encode())
    with subprocess.Popen([sys.executable, "-c", "import sys; open(sys.argv[1], 'w')", pipe]) as writer:
        said = _clean(tmp_path)
        waits = writer.poll() is None  # since nobody has opened the other end
        writer.kill()
    assert waits
    assert f"whose mark names {pipe}, but not the secret in that file" in said


@second_user
def test_a_report_does_not_take_the_mode_of_a_file_that_a_stranger_has_renamed(tmp_path: Path) -> None:
    os.chown(tmp_path, OTHER, OTHER)
    metrics, report = tmp_path / "metrics.prom", tmp_path / "report.json"
    write_file(metrics, ["of all"])
    metrics.rename(report)
    write_file(report, ["ours"])
    assert (report.read_text(encoding="utf-8"), stat.S_IMODE(report.stat().st_mode)) == ("ours", 0o600)


CLEANS = """
import os, sys
from pytest_etcdtls.etcd.leftovers import remove_what_is_here
os.setresuid(*[int(sys.argv[1])] * 3)
print(remove_what_is_here())
"""


@second_user
def test_a_user_cleans_nothing_of_another(spawn: Spawn, tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    for parent in tmp_path.parents[:3]:
        parent.chmod(parent.stat().st_mode | 0o011)
    record = _record(tmp_path / f"{PREFIX}dead", THIRD)
    process = spawn(f"{MARK}={SECRET} {record}".encode(), ids=(THIRD,) * 3)
    done = _python("-c", CLEANS, OTHER, environment={**os.environ, "TMPDIR": str(tmp_path)})
    assert (done.stdout, done.stderr) == ("()\n", "")
    assert process.poll() is None
    assert record.exists()


@second_user
@pytest.mark.program("unshare")
def test_a_user_without_a_home_directory_cleans_up_and_starts_an_etcd(tmp_path: Path) -> None:
    test = tmp_path / "test_user.py"
    test.write_text("def test_user(etcd_cluster): pass", encoding="utf-8")
    nobody = ("unshare", "--user", f"--map-user={OTHER}", f"--wd={tmp_path}")
    for words, says in {
        ("pytest_etcdtls", "clean"): "no killed run has left anything here",
        ("pytest", test, "-q"): "1 passed",
        ("pytest", test, "-q", "--etcd-image=no/etcd:1"): "this user has none: set HOME",
    }.items():
        done = _python("-m", *words, prefix=nobody, environment={"TMPDIR": str(tmp_path)})
        assert says in done.stdout, done.stdout + done.stderr
