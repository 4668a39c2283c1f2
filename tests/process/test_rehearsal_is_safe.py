"""A rehearsal writes nothing, reaches nobody, leaves nothing behind, and says nothing wrong of etcd."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from discovery.learner import start_learner
from kubeadm.nodes import running
from plugin.runs import Runner, run
from starting import start_process, start_where_possible, stop

import pytest_etcdtls.run.rehearsal
from process.containers import (
    Container,
    as_root,
    assert_nothing_changes,
    await_age,
    container,
    process_of,
    rehearsed,
    target,
    tree,
    unverified,
    wrong,
)
from pytest_etcdtls.declared.declaration import Declaration
from pytest_etcdtls.declared.running import Process, RunningMember, find_processes, read_running
from pytest_etcdtls.errors import NotVerifiedError
from pytest_etcdtls.etcd.clocks import until
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.etcd.presets import PRESETS, Preset
from pytest_etcdtls.run.observer import Observer
from pytest_etcdtls.run.rehearsal import available_memory, stage, started
from pytest_etcdtls.run.rehearsal.planning import plan_of
from pytest_etcdtls.run.rehearsal.stage import Plan

__all__ = ["run"]

pytestmark = as_root

ADDRESS = "127.0.0.49"
SPACES = ("user", "mnt", "net", "ipc", "uts", "pid", "cgroup")
SECRET = "a-secret-of-the-environment"
OTHERS = [preset for preset in PRESETS.values() if preset.name != "rsa-4096"]
"""Without the preset that differs from another one in the key size alone."""


def plan(process: Process) -> Plan:
    """Return the plan of its restart."""
    running = read_running(process)
    return plan_of(running, running.declared.declaration)


def test_nothing_is_written(etcd_binary: Path, tmp_path: Path) -> None:
    """Every file of the node, with its times and attributes, is what it was."""
    with running(tmp_path, etcd_binary, ["127.0.0.50"]) as cluster:
        [node] = cluster.nodes
        process = process_of(cluster._processes[node.name])
        os.setxattr(node.root / "var/lib/etcd", "user.note", b"kept")
        live = target(process)
        stop(process.pid)  # the running etcd writes, too
        try:
            before = tree(node.root)
            [made] = pytest_etcdtls.run.rehearsal.rehearse(Observer(live)).members
            after = tree(node.root)
        finally:
            os.kill(process.pid, signal.SIGCONT)
    assert (made.failure, made.changes) == (None, ())
    assert after == before


@pytest.mark.parametrize("form", ["log", "fifo", "link", "huge"])
def test_hostile_log_files(form: str, newest_etcd: Path, tmp_path: Path) -> None:
    """The log that etcd is told to write is not written, whatever is at its path."""
    with container(tmp_path, newest_etcd, "127.0.0.51") as node:
        outside = tmp_path / "outside"
        outside.write_text("of the machine")
        log = node.node.root / "var/log/etcd.log"
        log.parent.mkdir(exist_ok=True)
        process = replace(node, added={"log-outputs": "/var/log/etcd.log,stderr"}).start()
        log.unlink()
        if form == "fifo":
            os.mkfifo(log)
        elif form == "link":
            log.symlink_to("/../../../../../../../.." + str(outside))
        elif form == "huge":
            with log.open("wb") as file:
                file.truncate(1 << 40)
        else:
            log.write_text("before")
        status = log.lstat()
        if form == "link":  # which leads nowhere in the root directory of etcd
            [message] = wrong(rehearsed(target(process)))["restart.starts"]
            assert "open /var/log/etcd.log: no such file or directory" in message
        else:
            assert_nothing_changes(target(process))
        assert outside.read_text() == "of the machine"
        assert (log.lstat().st_size, log.lstat().st_mtime_ns) == (status.st_size, status.st_mtime_ns)


@pytest.mark.parametrize("form", ["fifo", "link", "huge"])
def test_hostile_hosts_file(form: str, newest_etcd: Path, tmp_path: Path) -> None:
    """The one file that the stage reads itself, for the names in URLs, is read if it is an ordinary one."""
    with container(tmp_path, newest_etcd, "127.0.0.51") as node:
        hosts = node.node.root / "etc/hosts"
        peers = node.settings["listen-peer-urls"].replace("127.0.0.51", "localhost")
        added = {"initial-advertise-peer-urls": peers, "initial-cluster": f"cp1={peers}"}
        process = replace(node, added=added).start()
        if form == "fifo":
            os.mkfifo(hosts)
        elif form == "link":
            hosts.symlink_to("/proc/1/mem")
        else:
            with hosts.open("wb") as file:
                file.truncate(1 << 40)
        with started(replace(plan(process), hosts="127.0.0.1 etcd.example\n"), process.name) as etcd:
            assert etcd.await_served(read_running(process).declared.declaration) is None


@pytest.mark.parametrize("preset", OTHERS, ids=lambda preset: preset.name)
def test_no_preset_changes(preset: Preset, etcd_binary: Path) -> None:
    with start_where_possible(preset.config, etcd_binary) as cluster:
        assert_nothing_changes(target(process_of(cluster.members[0].server)))


def test_no_connection_leaves(etcd_binary: Path) -> None:
    """The other members of a cluster see nothing of it, and nothing changes by it."""
    with start_process(ClusterConfig(size=3, authentication=True), etcd_binary) as cluster:
        first, *others = cluster.members
        before = [member.log() for member in others]
        assert_nothing_changes(target(process_of(first.server)))
        after = [member.log() for member in others]
    for old, new in zip(before, after, strict=True):
        assert first.name not in new.removeprefix(old)
        assert not re.search(r"reject|peer|dial", new.removeprefix(old))


def test_other_members_are_not_rehearsed(newest_etcd: Path, run: Runner) -> None:
    """One that is discovered is judged and not rehearsed, so nothing is said of its restart."""
    with start_process(ClusterConfig(size=3), newest_etcd) as cluster:
        pid = process_of(cluster.members[0].server).pid
        ran = run(
            *("--pyargs", "pytest_etcdtls", f"--etcd-pid={pid}", "--etcd-discover", "--etcd-rehearse"),
        )
    assert ran.verdict.startswith("etcd TLS: CLEAN ("), ran.out
    assert "not observed: the restarted etcd has no such listener" in " ".join(ran.out.split())


def test_a_learner(etcd_binary: Path, tmp_path: Path) -> None:
    """It joins no cluster: the one that it is a learner of does not hear of its rehearsal."""
    with start_process(ClusterConfig(), etcd_binary) as cluster, start_learner(cluster, tmp_path) as learner:
        [process] = [one for one in find_processes() if learner.client_url in " ".join(one.argv)]
        before = cluster.members[0].log()
        assert_nothing_changes(target(process))
        assert "learner" not in cluster.members[0].log().removeprefix(before)


_READ_ONLY = """
import ctypes, os, sys
root, volume, *words = [word.encode() for word in sys.argv[1:]]
libc = ctypes.CDLL(None, use_errno=True)
private, bind, read_only = 0x4000 | 0x40000, 0x1000, 0x1000 | 0x20 | 0x1
results = [
    libc.unshare(0x20000),
    libc.mount(None, b"/", None, private, None),
    libc.mount(root, root, None, bind, None),
    libc.mount(volume, volume, None, bind, None),
    libc.mount(None, root, None, read_only, None),
]
if any(results):
    sys.exit(f"mount: {results}")
os.execvp(words[0], words)
"""


def test_a_read_only_root_with_a_volume(newest_etcd: Path, tmp_path: Path) -> None:
    """As of a pod with readOnlyRootFilesystem, whose data directory is a mount of its own."""
    with container(tmp_path, newest_etcd, "127.0.0.56") as node:
        root, volume = node.node.root, node.node.root / "var/lib/etcd"
        volume.mkdir(mode=0o700)
        prefix = (sys.executable, "-c", _READ_ONLY, str(root), str(volume))
        process = replace(node, prefix=prefix).start()
        with pytest.raises(OSError, match="Read-only file system"):
            (process.root / "written").touch()
        assert_nothing_changes(target(process))


def test_nobody_is_reached_at_the_address_of_a_peer(newest_etcd: Path, tmp_path: Path) -> None:
    """A process on the stage cannot connect to what listens on the machine, at any of its addresses."""
    accepted: list[object] = []
    with (
        container(tmp_path, newest_etcd, "127.0.0.52") as node,
        socket.create_server(("127.0.0.53", 0)) as peer,
    ):
        address = f"https://127.0.0.53:{peer.getsockname()[1]}"
        thread = threading.Thread(target=lambda: accepted.append(peer.accept()), daemon=True)
        thread.start()
        process = node.start()
        made = plan(process)
        words = (*made.argv, f"--initial-cluster=cp1=https://127.0.0.52:{node.node.peer},cp2={address}")
        with started(replace(made, argv=words), process.name) as etcd:
            assert until(lambda: "cp2" in etcd.log() or "127.0.0.53" in etcd.log(), 20)
    assert accepted == []


def _descendants(pid: int) -> set[int]:
    """Return the processes below a process."""
    found: set[int] = set()
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            found |= {child} | _descendants(child)
    return found


_PHASES = """
import sys
from pytest_etcdtls.run import rehearsal
from pytest_etcdtls.declared.running import find_process, read_running
from pytest_etcdtls.run.rehearsal.planning import plan_of

def stop(phase):
    if phase == sys.argv[2]:
        print(phase, flush=True)
        sys.stdin.read()

told = rehearsal.RehearsedEtcd._told
def watched(self, name):
    stop("before " + name)
    return told(self, name)
rehearsal.RehearsedEtcd._told = watched
running = read_running(find_process(int(sys.argv[1])))
with rehearsal.started(plan_of(running, running.declared.declaration), "etcd") as etcd:
    stop("started")
    etcd.await_served(running.declared.declaration)
    stop("serves")
"""


@pytest.mark.parametrize("phase", ["before pid", "before started", "started", "serves"])
@pytest.mark.parametrize("who", ["the run", "the stage"])
def test_nothing_is_left_behind(phase: str, who: str, process: Process, node: Container) -> None:
    """With SIGKILL at any moment, of the run or of the stage, every process and every mount ends."""
    with subprocess.Popen(
        [sys.executable, "-c", _PHASES, str(process.pid), phase],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline().decode().strip() == phase
        below = _descendants(child.pid)
        assert below
        os.kill(child.pid if who == "the run" else min(below), signal.SIGKILL)
        assert until(lambda: not any(map(_runs, below)), 10), below
        child.kill()
    mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8")
    assert " rehearsal " not in mounts
    assert str(node.node.root) not in mounts
    assert process.runs


def _runs(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"size": 1 << 20}, "no space left on device"),
        ({"memory": 64 << 20}, "out of memory|cannot allocate memory|pthread_create failed"),
        ({"memory": 1 << 60}, "MiB of memory are available, and it takes up to"),
    ],
    ids=["file-system", "memory", "available"],
)
def test_a_limit_of_the_rehearsal_is_no_fault_of_etcd(
    changes: dict[str, int], reason: str, newest_etcd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unlimited = plan_of

    def limited(running: RunningMember, declaration: Declaration) -> Plan:
        return replace(unlimited(running, declaration), **changes)  # type: ignore[arg-type]

    monkeypatch.setattr(pytest_etcdtls.run.rehearsal, "plan_of", limited)
    with container(tmp_path, newest_etcd, "127.0.0.57") as node:
        process = node.start()
        assert re.search(reason, unverified(rehearsed(target(process))))


@pytest.mark.parametrize(
    ("group", "limit", "used"),
    [
        ("0::/pod/etcd", "sys/fs/cgroup/pod/memory.max", "memory.current"),
        ("4:memory:/pod", "sys/fs/cgroup/memory/pod/memory.limit_in_bytes", "memory.usage_in_bytes"),
    ],
)
def test_memory_of_control_groups(group: str, limit: str, used: str, tmp_path: Path) -> None:
    """What a limit leaves, without the cache of files, which the kernel takes back."""
    files = {"proc/meminfo": "MemTotal: 9 kB\nMemAvailable:  8000 kB\n", "proc/self/cgroup": f"{group}\n"}
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert available_memory(tmp_path) == 8000 * 1024
    here = tmp_path / limit
    here.parent.mkdir(parents=True)
    here.write_text("5000000\n")
    (here.parent / used).write_text("4000000\n")
    (here.parent / "memory.stat").write_text("anon 1\ninactive_file 300000\nactive_file 200000\n")
    assert available_memory(tmp_path) == 1500000
    here.write_text("max\n")
    assert available_memory(tmp_path) == 8000 * 1024


def test_an_etcd_that_is_killed_is_no_fault_of_etcd(process: Process) -> None:
    """As by the kernel, when memory runs out: the rehearsal is killed first."""
    running = read_running(process)
    with started(plan(process), process.name) as etcd:
        [child] = _descendants(etcd.pid)
        assert Path(f"/proc/{child}/oom_score_adj").read_text(encoding="utf-8") == "1000\n"
        os.kill(child, signal.SIGKILL)
        with pytest.raises(NotVerifiedError, match="it was ended by signal 9"):
            etcd.await_served(running.declared.declaration)


def test_the_user_is_that_of_the_process_and_has_no_power(process: Process) -> None:
    with started(plan(process), process.name) as etcd:
        [child] = _descendants(etcd.pid)
        ours, theirs = (_status(pid) for pid in (child, process.pid))
        stage = _status(etcd.pid)
        spaces = {name: os.readlink(f"/proc/{child}/ns/{name}") for name in SPACES}
        outside = {name: os.readlink(f"/proc/{process.pid}/ns/{name}") for name in SPACES}
        uids = Path(f"/proc/{child}/uid_map").read_text(encoding="utf-8").split()
    for name in ("Uid", "Gid", "Groups", "Umask"):
        assert ours[name] == theirs[name], name
    assert {ours[name] for name in ("CapBnd", "CapPrm", "CapEff", "CapInh", "CapAmb")} == {"0" * 16}
    assert (ours["NoNewPrivs"], ours["Seccomp"]) == ("1", "2")
    assert {spaces[name] == outside[name] for name in SPACES} == {False}
    assert uids == ["0", "0", "1"]
    assert stage["Uid"] == theirs["Uid"]


def _status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def test_an_unprivileged_etcd(newest_etcd: Path, tmp_path: Path) -> None:
    """A key that became root's is no longer readable for the user of etcd: it does not start."""
    with container(tmp_path, newest_etcd, "127.0.0.54") as node:
        for path in (node.node.root, *node.node.root.rglob("*")):
            os.chown(path, 65533, 65533, follow_symlinks=False)
        unprivileged = replace(node, user=65533)
        for parent in (tmp_path, *tmp_path.parents):
            with contextlib.suppress(PermissionError):
                parent.chmod(parent.stat().st_mode | 0o011)
        process = unprivileged.start()
        assert _status(process.pid)["Uid"].split()[0] == "65533"
        assert_nothing_changes(target(process))
        await_age(process)
        os.chown(node.node.pki / "etcd" / "server.key", 0, 0)
        [message] = wrong(rehearsed(target(process)))["restart.starts"]
        manifest = tmp_path / "as-root.yaml"
        document = yaml.safe_load(node.node.text)
        document["spec"]["containers"][0]["securityContext"] = {"runAsUser": 0, "runAsGroup": 0}
        manifest.write_text(yaml.safe_dump(document), encoding="utf-8")
        declared = rehearsed(target(process, etcd_config=manifest))
        why = unverified(declared)  # the program may be a stranger's, who would get root's files
        unprivileged.stop()
    assert "server.key: permission denied; /etc/kubernetes/pki/etcd/server.key was changed at" in message
    assert f"{manifest} declares user 0, and it runs as user 65533: a rehearsal gives it no rights" in why


def test_a_data_directory_of_another_user(newest_etcd: Path, tmp_path: Path) -> None:
    """Root's etcd writes it by a capability, with which it is rehearsed if it cannot be without."""
    with container(tmp_path, newest_etcd, "127.0.0.58") as node:
        process = node.start()
        data = node.node.root / "var/lib/etcd"
        os.chown(data, 65533, 65533)
        data.chmod(0o700)
        before = sorted(path.name for path in data.iterdir())
        assert_nothing_changes(target(process))
        assert sorted(path.name for path in data.iterdir()) == before


_DROP = "import ctypes, os, struct, sys\n%s\nos.execv(sys.argv[1], sys.argv[1:])"


def _instructions(call: int, answer: int, argument: int | None = None) -> bytes:
    """Return a filter that has a system call (with this argument) refused, or the process ended."""
    rows = [(0x20, 0, 0, 0), (0x15, 0, 1, call), (6, 0, 0, answer), (6, 0, 0, 0x7FFF0000)]
    if argument is not None:
        rows[1:2] = [(0x15, 0, 3, call), (0x20, 0, 0, 16), (0x15, 0, 1, argument)]
    return b"".join(struct.pack("=HBBI", *row) for row in rows)


def _filtered(*rule: int) -> str:
    """Return code that installs such a filter."""
    code = _instructions(*rule)
    return f"""
code = ctypes.create_string_buffer({code!r})
program = ctypes.create_string_buffer(struct.pack("@HP", {len(code) // 8}, ctypes.addressof(code)))
assert not ctypes.CDLL(None).prctl(22, 2, program)"""


_EXECVE, _UNSHARE, _MOUNT, _MOUNT_SETATTR = 59, 272, 165, 442
_EPERM, _ENOSPC, _END = 0x50001, 0x5001C, 0x80000000
_FILTERED = "this run's filter of system calls"


@pytest.mark.parametrize(
    ("drop", "denied"),
    [
        (
            "ctypes.CDLL(None).prctl(24, 21, 0, 0, 0)  # CAP_SYS_ADMIN",
            "mount of a program: Operation not permitted (run",
        ),
        (
            _filtered(_MOUNT_SETATTR, _EPERM),
            f"read-only mounts (Linux 5.12): Operation not permitted ({_FILTERED}",
        ),
        (
            _filtered(_UNSHARE, _EPERM),
            f"a namespace (user): Operation not permitted ({_FILTERED}",
        ),
        *(
            (
                _filtered(_UNSHARE, _ENOSPC, flag),
                f"no more namespaces may be made (user.max_{kind}_namespaces)",
            )
            for kind, flag in stage._NEW_NAMESPACES.items()
        ),
        *(
            (
                _filtered(call, _END),
                f"a process that starts it was ended by signal 31, Bad system call ({_FILTERED}",
            )
            for call in (_UNSHARE, _MOUNT)
        ),
    ],
    ids=[
        *("capability", "seccomp", "no-namespaces"),
        *(f"no-more-{kind}" for kind in stage._NEW_NAMESPACES),
        *("owner-ended", "process-1-ended"),
    ],
)
def test_without_privileges_there_is_no_verdict(
    drop: str, denied: str, process: Process, tmp_path: Path
) -> None:
    """A rehearsal that was asked for and did not take place is no CLEAN, unless that is accepted."""

    def judge(*options: str) -> tuple[int, list[str]]:
        made = subprocess.run(
            [
                *(sys.executable, "-c", _DROP % drop, sys.executable, "-m", "pytest_etcdtls"),
                *(f"--pid={process.pid}", "--rehearse", *options),
            ],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "COLUMNS": "200"},
            cwd=tmp_path,
        )
        return made.returncode, made.stdout.splitlines()

    why = f"the restart of process {process.pid} is not rehearsed: {denied}"
    code, lines = judge()
    assert code == 1
    assert lines[-1].startswith(f"etcd TLS: NO VERDICT: {why}")
    code, lines = judge("--allow-unverified")
    assert code == 0
    assert lines[-1].startswith("etcd TLS: CLEAN (cp1: ")
    [line] = [line for line in lines if "is not rehearsed" in line]
    assert line.startswith(why)


def test_a_label_with_which_it_cannot_be_started(
    process: Process, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SELinux refuses it (EPERM) if its policy lets no program without new privileges get the label."""
    written = '_write("thread-self/attr/exec", plan.label, etcd.proc)'  # refused without SELinux
    code = Path(stage.__file__).read_text(encoding="utf-8")
    assert written in code
    (tmp_path / "stage.py").write_text(code.replace(written, "pass"), encoding="utf-8")
    monkeypatch.setattr(stage, "__file__", str(tmp_path / "stage.py"))
    refused = _instructions(_EXECVE, _EPERM).hex()
    labelled = replace(plan(process), label="u:r:etcd_t:s0", system_calls=refused)
    with (
        pytest.raises(NotVerifiedError, match="another security label cannot give it u:r:etcd_t:s0"),
        started(labelled, process.name),
    ):
        pass


_READ_ONLY_SETTINGS = (
    *("unshare", "--mount", "sh", "-c"),
    'mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys && exec "$@"',
    "sh",
)
"""Words before a program that make settings of the kernel read-only, as they are in a container."""


@pytest.mark.program("mount")
def test_a_run_in_a_container(process: Process, tmp_path: Path) -> None:
    """Where settings of the kernel cannot be written, an etcd with a capability for low ports uses none."""
    made = subprocess.run(
        [*_READ_ONLY_SETTINGS, sys.executable, "-m", "pytest_etcdtls", f"--pid={process.pid}", "--rehearse"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "200"},
        cwd=tmp_path,
    )
    said = made.stdout + made.stderr
    assert "etcd TLS: CLEAN, ALSO AFTER A RESTART (cp1: " in said, said
    running = read_running(process)
    own = running.declared.declaration
    assert not plan_of(running, own).low_ports
    low = replace(own.settings["listen-client-urls"], value="https://127.0.0.1:79")
    assert plan_of(running, replace(own, settings={**own.settings, low.name: low})).low_ports


def test_a_secret_of_the_environment_is_not_shown(newest_etcd: Path, tmp_path: Path) -> None:
    """etcd's log shows a variable that it does not know; a finding does not."""
    with container(tmp_path, newest_etcd, "127.0.0.55") as node:
        process = node.start()
        running = read_running(process)
        made = plan(process)
        environment = {**made.environment, "ETCD_PASSWORD": SECRET}
        words = (*made.argv, f"--no-such-flag-{SECRET}")
        with started(replace(made, environment=environment, argv=words), process.name) as etcd:
            failure = etcd.await_served(running.declared.declaration)
    assert failure is not None
    assert "(not shown)" in failure.reason
    assert SECRET not in repr(failure)


def test_nothing_of_the_machine_is_imported_in_a_container(process: Process, node: Container) -> None:
    """The root directory of a container cannot bring code into the stage."""
    for name in ("encodings", "json", "select"):
        module = node.node.root / Path(sys.prefix).relative_to("/") / "lib" / name
        module.mkdir(parents=True, exist_ok=True)
        (module / "__init__.py").write_text("raise SystemExit('imported')")
    try:
        assert_nothing_changes(target(process))
    finally:
        shutil.rmtree(node.node.root / Path(sys.prefix).relative_to("/").parts[0], ignore_errors=True)
