"""The watchdog removes everything, however its owner ends: real owners, real etcds, real signals."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cluster.conftest import DEADLINE, gone, left_behind
from pytest_etcdtls.errors import ClusterStartError
from pytest_etcdtls.etcd.cluster import start_cluster
from pytest_etcdtls.etcd.engine import LABEL, WORK_SECONDS, engine, owner_labels, remove_all
from pytest_etcdtls.etcd.leftovers import remove_containers
from pytest_etcdtls.etcd.request import ClusterChoices
from pytest_etcdtls.etcd.watchdog import MARK, PREFIX, RECORD, Watchdog, is_dead, this_process, watch

OWNER = Path(__file__).parent / "owner.py"


@dataclass
class Owned:
    """An owner and its output."""

    owner: subprocess.Popen[str]
    etcds: list[int]
    directory: Path
    token: str
    watchdog: int | None
    child: int | None

    @property
    def processes(self) -> list[int]:
        """All that must not survive the owner."""
        assert self.watchdog is not None
        return [*self.etcds, self.watchdog]

    def end(self, number: signal.Signals) -> None:
        """End the owner with a signal, and wait for its end."""
        self.owner.send_signal(number)
        self.owner.wait(DEADLINE)


Own = Callable[..., Owned]


@pytest.fixture
def own(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Own]:
    """Run an owner in a new process."""
    with ExitStack() as stack:

        def run(manner: str = "plain", size: int = 1, backend: str = "binary") -> Owned:
            etcd = request.getfixturevalue("newest_image" if backend == "image" else "newest_etcd")
            owner = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, OWNER, backend, etcd, str(size), tmp_path, manner],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                    encoding="utf-8",
                )
            )
            stack.callback(owner.kill)
            assert owner.stdout is not None
            state: dict[str, Any] = json.loads(owner.stdout.readline())
            state["directory"] = Path(state["directory"])
            return Owned(owner, **state)

        yield run


def _python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )


def alive(pid: int) -> bool:
    """Return whether a process exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("backend", ["binary", pytest.param("image", marks=pytest.mark.container)])
def test_a_killed_owner_leaves_nothing(own: Own, backend: str, number: signal.Signals) -> None:
    owned = own(size=3, backend=backend)
    if backend == "binary":
        assert len(owned.etcds) == 3
        sessions = {os.getsid(pid) for pid in owned.processes}
        assert os.getsid(owned.owner.pid) not in sessions, "Ctrl-C in the terminal reaches them"
    else:
        assert len(left_behind(owned.token)) == 4
    owned.end(number)
    assert owned.owner.stdout is not None
    readable, _, _ = select.select([owned.owner.stdout], [], [], DEADLINE)
    assert readable, "somebody still holds the owner's standard output"
    assert all(gone(pid) for pid in owned.processes)
    assert left_behind(owned.token) == []
    assert not owned.directory.exists()


def test_a_forked_child_that_lives_on_does_not_delay_the_watchdog(own: Own) -> None:
    owned = own("fork")
    assert owned.child is not None
    try:
        owned.end(signal.SIGKILL)
        assert all(gone(pid) for pid in owned.processes)
        assert alive(owned.child)
        assert not owned.directory.exists()
    finally:
        os.kill(owned.child, signal.SIGKILL)


def test_a_kept_cluster_survives_its_owner(own: Own) -> None:
    owned = own("keep")
    try:
        assert owned.watchdog is None
        owned.end(signal.SIGKILL)
        assert all(alive(pid) for pid in owned.etcds)
        assert (owned.directory / "pki" / "client-ca.key").exists()
    finally:
        for pid in owned.etcds:
            os.kill(pid, signal.SIGKILL)
    assert all(gone(pid) for pid in owned.etcds)


@pytest.mark.parametrize("end", ["interrupt", "close"])
def test_an_owner_that_ends_by_itself_leaves_nothing(own: Own, end: str) -> None:
    owned = own()
    if end == "interrupt":
        owned.owner.send_signal(signal.SIGINT)
    assert owned.owner.stdin is not None
    owned.owner.stdin.close()
    owned.owner.wait(DEADLINE)
    # Not even for a moment: who has ended by itself has cleaned up before.
    assert not any(alive(pid) for pid in owned.processes)
    assert not owned.directory.exists()


def test_a_killed_watchdog_does_not_fail_the_owner(tmp_path: Path) -> None:
    watchdog = Watchdog()
    assert watchdog.pid is not None
    os.kill(watchdog.pid, signal.SIGKILL)
    assert gone(watchdog.pid)
    watchdog.order(directory=str(tmp_path))
    watchdog.dismiss()
    assert tmp_path.exists()


MAKES_A_DIRECTORY = """
import os, signal, sys
from pathlib import Path
from pytest_etcdtls.etcd import watchdog

make = Path.mkdir

def made_and_killed(path, **options):
    make(path, **options)
    (path / "key").touch()
    print(started[-1].pid, path, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

class Noted(watchdog.Watchdog):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        started.append(self)

started = []
watchdog.Watchdog = Noted
Path.mkdir = made_and_killed
watchdog.GuardedDirectory(Path(sys.argv[1]))
"""


def test_an_owner_that_is_killed_right_after_it_made_its_directory_leaves_nothing(tmp_path: Path) -> None:
    run = _python("-c", MAKES_A_DIRECTORY, str(tmp_path))
    pid, path = run.stdout.split()
    assert run.returncode == -signal.SIGKILL
    assert Path(path).parent == tmp_path
    assert gone(int(pid))
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_cannot_be_made_is_a_start_error(newest_etcd: Path, tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    with pytest.raises(ClusterStartError, match=rf"directory of the cluster cannot be created: .*{missing}"):
        start_cluster(binary=newest_etcd, directory=missing)


@pytest.fixture
def orders() -> Iterator[tuple[int, int]]:
    """A pipe for orders to a watchdog that is run in this process, where coverage sees it."""
    read, write = os.pipe()
    yield read, write
    os.close(read)


def _order(pipe: int, *orders: dict[str, object]) -> None:
    os.write(pipe, b"".join(json.dumps(order).encode() + b"\n" for order in orders))


def test_the_watchdog_cleans_up_at_the_end_of_the_pipe(orders: tuple[int, int], tmp_path: Path) -> None:
    doomed, trace, kept = tmp_path / "doomed", tmp_path / "trace", tmp_path / "kept"
    doomed.mkdir()
    kept.mkdir()
    marked, other = _sleeper({MARK: "in-process"}), _sleeper({MARK: "somebody else"})
    command = [sys.executable, "-c", f"open({str(trace)!r}, 'wb').close()"]
    _order(
        orders[1],
        {"mark": "in-process"},  # and the process itself is not reported
        {"directory": str(doomed)},
        {"command": command},
    )
    os.write(orders[1], json.dumps({"directory": str(kept)}).encode())  # an incomplete order
    os.close(orders[1])
    watch(orders[0], os.getppid())
    assert marked.wait(DEADLINE) == -signal.SIGKILL
    assert other.poll() is None
    assert not doomed.exists()
    assert trace.exists()
    assert kept.exists()
    other.kill()
    other.wait()


def test_the_watchdog_does_not_wait_for_an_owner_that_died_before_it_started(
    orders: tuple[int, int], tmp_path: Path
) -> None:
    """The pipe is still open, as in a child that the owner forked."""
    owner = subprocess.Popen([sys.executable, "-c", ""])
    owner.wait(DEADLINE)
    doomed = tmp_path / "doomed"
    doomed.mkdir()
    _order(orders[1], {"directory": str(doomed)})
    watch(orders[0], owner.pid)
    os.close(orders[1])
    assert not doomed.exists()


def test_the_watchdog_waits_for_a_process_that_is_being_started(
    orders: tuple[int, int], tmp_path: Path
) -> None:
    """The kernel has no environment for it yet, so that the mark is missing."""
    becoming = subprocess.Popen(["sleep", "0.4"], env={}, start_new_session=True)
    doomed = tmp_path / "doomed"
    doomed.mkdir()
    _order(orders[1], {"mark": "x"}, {"process": becoming.pid}, {"directory": str(doomed)})
    os.close(orders[1])
    watch(orders[0], os.getppid())
    assert becoming.poll() == 0
    assert not doomed.exists()


def _sleeper(environment: dict[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(["sleep", "3600"], env=environment, start_new_session=True)


SUITE = """
import sys
from pathlib import Path
import pytest
from pytest_etcdtls import start_cluster

BINARY, HOME, MODE = Path({binary!r}), Path({home!r}), {mode!r}

@pytest.fixture(scope="session")
def cluster():
    with start_cluster(binary=BINARY, directory=HOME) as cluster:
        if MODE == "failing-fixture":
            raise RuntimeError("a fixture that fails after the start")
        yield cluster

def test_one(cluster):
    (HOME / "pid").write_text(str(cluster.members[0].server.pid), encoding="utf-8")
    print("\\nrunning", flush=True)
    if MODE in ("SIGINT", "SIGKILL"):
        sys.stdin.read()
"""


@pytest.mark.parametrize("mode", ["SIGINT", "SIGKILL", "failing-fixture"])
def test_a_pytest_that_is_stopped_leaves_nothing(tmp_path: Path, newest_etcd: Path, mode: str) -> None:
    home, suite = tmp_path / "home", tmp_path / "test_suite.py"
    home.mkdir()
    suite.write_text(SUITE.format(binary=str(newest_etcd), home=str(home), mode=mode), encoding="utf-8")
    options = ["-q", "-s", "-p", "no:cacheprovider", "--rootdir", str(tmp_path)]
    command = [sys.executable, "-m", "pytest", *options, str(suite)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8", cwd=tmp_path
    ) as run:
        assert run.stdin is not None
        assert run.stdout is not None
        if mode != "failing-fixture":
            assert "running\n" in run.stdout, "the program does not say that it runs"
            run.send_signal(getattr(signal, mode))
        with suppress(BrokenPipeError):
            run.stdin.close()
        output = run.stdout.read()
        run.wait(DEADLINE)
    if mode == "failing-fixture":
        assert "a fixture that fails after the start" in output
    else:
        assert gone(int((home / "pid").read_text(encoding="utf-8")))
    if mode == "SIGKILL":
        _wait_for_watchdogs()
    assert [path.name for path in home.iterdir() if path.name != "pid"] == []


def _wait_for_watchdogs() -> None:
    """Wait for those of owners that have ended."""
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            arguments = (entry / "cmdline").read_bytes().split(b"\0")
            if len(arguments) > 2 and arguments[-3].endswith(b"/watchdog.py"):
                assert alive(int(arguments[-2])) or gone(int(entry.name))


def test_files_of_credentials_go_with_a_killed_process(newest_etcd: Path, tmp_path: Path) -> None:
    program = f"""
import os, signal
from pytest_etcdtls import Credentials, Observer, start_cluster
with start_cluster(binary={str(newest_etcd)!r}) as cluster:
    print(Credentials(Observer(cluster.target()))["foreign-ca"].files()[1], flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    run = _python("-c", program, TMPDIR=str(tmp_path))
    assert run.returncode == -signal.SIGKILL, run.stderr
    assert tmp_path in Path(run.stdout).parents
    _wait_for_watchdogs()
    assert list(tmp_path.iterdir()) == []


KILLED = """
import os, signal, sys
from pytest_etcdtls import start_cluster
cluster = start_cluster(**{sys.argv[1]: sys.argv[2]})
print(cluster.directory, getattr(cluster.members[0].server, "pid", 0), flush=True)
os.kill(cluster._home.watchdog.pid, signal.SIGKILL)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("backend", ["binary", pytest.param("image", marks=pytest.mark.container)])
@pytest.mark.parametrize("remover", ["clean", "the next run"])
def test_what_is_left_without_a_watchdog_is_removed_later(
    tmp_path: Path, newest_etcd: Path, request: pytest.FixtureRequest, backend: str, remover: str
) -> None:
    etcd = str(newest_etcd)
    if backend == "image":
        etcd = [*request.getfixturevalue("etcd_images").values()][-1]

    def run(*arguments: str) -> str:
        done = _python(*arguments, TMPDIR=str(tmp_path))
        assert done.returncode == (-signal.SIGKILL if KILLED in arguments else 0), done.stderr
        return done.stdout

    choice: ClusterChoices = {"image": etcd} if backend == "image" else {"binary": etcd}
    with start_cluster(directory=tmp_path, **choice) as living:
        left, pid = run("-c", KILLED, backend, etcd).split()
        assert Path(left).is_dir()
        if remover == "clean":
            assert f"directory {left}" in run("-m", "pytest_etcdtls", "clean")
        else:
            program = (
                f"from pytest_etcdtls import start_cluster\nwith start_cluster({backend}={etcd!r}): pass"
            )
            run("-c", program)
        assert [path.name for path in tmp_path.iterdir()] == [living.directory.name]
        assert pid == "0" or gone(int(pid))
        assert living.difference() == ""
    if backend == "image":
        assert remove_all(Path(left).name) == 0


@pytest.mark.container
def test_only_containers_whose_own_labels_name_a_dead_owner_are_removed(etcd_images: dict[str, str]) -> None:
    """Not one that has the value of theirs and lives, and not one of an image that was made of theirs."""
    image, token = [*etcd_images.values()][-1], f"{PREFIX}{os.urandom(8).hex()}"
    host, _, *rest = this_process().split(" ")
    dead = " ".join((host, "of-another-boot", *rest))
    with ExitStack() as stack:
        client = stack.enter_context(engine(WORK_SECONDS))

        def make(image: str, labels: dict[str, str]) -> str:
            made = client.containers.create(image, network_mode="none", labels=labels)
            stack.callback(_remove_container, made)
            return str(made.id)

        abandoned = make(image, owner_labels(token, dead))
        living, kept = make(image, owner_labels(token, this_process())), make(image, owner_labels(token, ""))
        committed = client.containers.get(abandoned).commit(f"{PREFIX}committed", token)
        stack.callback(client.images.remove, str(committed.id), force=True)
        of_image = make(str(committed.id), {})
        said = remove_containers.__wrapped__()
        left = {one.id for one in client.containers.list(all=True, filters={"label": f"{LABEL}={token}"})}
    assert f"removed: containers and networks of {token}" in said
    assert left == {living, kept, of_image}


def _remove_container(container: Any) -> None:
    import docker.errors

    with suppress(docker.errors.NotFound):
        container.remove(force=True)


def test_what_is_left_is_named_in_an_ascii_locale(tmp_path: Path) -> None:
    temporary = tmp_path / os.fsdecode("größe".encode()) / ("x" * 200) / ("x" * 200)
    record = temporary / f"{PREFIX}left" / RECORD
    record.parent.mkdir(parents=True)
    record.touch(0o644)
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    places = {"TMPDIR": str(temporary), "DOCKER_HOST": "unix:///nonexistent"}
    done = _python("-m", "pytest_etcdtls", "clean", **locale, **places)
    assert done.returncode == 0, done.stderr
    assert f"{temporary.name}/{PREFIX}left: its file {RECORD} is no record" in done.stdout


def test_an_owner_elsewhere_is_not_taken_for_dead() -> None:
    host, boot, namespace, pid, started = this_process().split(" ")
    assert not is_dead(this_process())
    assert is_dead(
        f"{host} {boot} {namespace} {pid} {int(started) - 1}"
    )  # the id was given to another process
    assert is_dead(f"{host} {boot} {namespace} {2**22 + 1} {started}")
    assert is_dead(f"{host} an-earlier-boot {namespace} {pid} {started}")
    assert not is_dead(f"another {boot} {namespace} {2**22 + 1} {started}")
    assert not is_dead(f"{host} {boot} pid:[1] {2**22 + 1} {started}")
    for nonsense in (
        "",
        " ",
        "a b c d e",
        f"{host} {boot} {namespace} x y",
        f"{host} {boot} {namespace} {10**30} 1",
    ):
        assert not is_dead(nonsense)
