"""What a process names is read with the rights of its user, by a run as root too."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from kubeadm.judging import Given

from process.containers import Container, as_root, target
from process.hostile_program import AS_STRANGER, PYTHON, STRANGER, stranger
from pytest_etcdtls.declared.running import Process, read_running
from pytest_etcdtls.errors import UnreadableFileError, UsageError
from pytest_etcdtls.pki.authority import CertificateAuthority
from pytest_etcdtls.pki.bundle import encode_certificates, encode_key
from pytest_etcdtls.pki.profile import Identity
from pytest_etcdtls.run.credentials import Credentials
from pytest_etcdtls.run.observer import Observer
from pytest_etcdtls.settings.etcd_pid import read_declared
from pytest_etcdtls.settings.read import live_targets
from pytest_etcdtls.suite.interruptions import Interruption
from pytest_etcdtls.tls.namespace import network_of
from pytest_etcdtls.untrusted import process_root
from pytest_etcdtls.untrusted.process_root import may_read, names_in, status_of
from pytest_etcdtls.untrusted.process_user import rights_of, user_of
from pytest_etcdtls.untrusted.regular_files import read_regular

pytestmark = as_root

ADDRESS = "127.0.0.40"
URL = "https://127.0.0.1:2379"
GROUP = 54322
SECRET = "of-root-alone"
LARGEST = 1 << 20
_DROP = (
    "import ctypes, os, sys; [ctypes.CDLL(None).prctl(24, number, 0, 0, 0) for number in (1, 2)]; "
    "os.execvp(sys.argv[1], sys.argv[1:])"
)
WITHOUT_OVERRIDES = (sys.executable, "-c", _DROP)
"""Words before a program that is root without ``CAP_DAC_OVERRIDE`` and ``CAP_DAC_READ_SEARCH``."""


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A directory that everybody may enter."""
    for parent in (tmp_path, *tmp_path.parents[:-1]):
        parent.chmod(parent.stat().st_mode | 0o011)
    return tmp_path


@pytest.fixture
def of_root(shared: Path) -> Path:
    """A directory of root's alone, with a certificate, its key and a configuration file."""
    directory = shared / "of-root"
    directory.mkdir(mode=0o700)
    ca = CertificateAuthority.create("ca")
    (directory / "ca.crt").write_bytes(encode_certificates([ca.certificate]))
    (directory / "ca.key").write_bytes(encode_key(ca.key))
    (directory / "ca.key").chmod(0o600)
    (directory / "etcd.yml").write_text(f"name: {SECRET}\nlisten-client-urls: https://{SECRET}:2379\n")
    return directory


@pytest.fixture
def process(shared: Path) -> Iterator[Callable[..., Process]]:
    """Start a process of the stranger with these flags."""
    opened = []

    def start(*words: str, before: str = "") -> Process:
        context = stranger(Path("/usr/bin/etcd"), *words, before=before)
        opened.append(context)
        return context.__enter__()[0]

    yield start
    for context in opened:
        context.__exit__(None, None, None)


def below(process: Process, path: Path) -> Path:
    """Return the path of a file in the root directory of a process."""
    return Path(f"{process.root}{path}")


def test_a_key_of_root_is_not_presented(of_root: Path, process: Callable[..., Process]) -> None:
    """The process names it, and its user may not read it: it is no credential."""
    words = (
        f"--cert-file={of_root}/ca.crt",
        f"--key-file={of_root}/ca.key",
        f"--trusted-ca-file={of_root}/ca.crt",
    )
    found = process(f"--listen-client-urls={URL}", f"--advertise-client-urls={URL}", *words)
    source = Given(etcd_pid=str(found.pid))
    [live] = live_targets(source, read_declared(source))
    assert live.client.identities == ()
    for name in ("ca.crt", "ca.key"):
        path = below(found, of_root / name)
        with pytest.raises(UnreadableFileError, match=f"may not be read by the user of process {found.pid}"):
            read_regular(path, LARGEST)
        assert not may_read(path)
    with pytest.raises(PermissionError):
        status_of(below(found, of_root / "ca.key"))
    assert names_in(below(found, of_root)) == []


def test_a_configuration_file_of_root_is_not_shown(of_root: Path, process: Callable[..., Process]) -> None:
    found = process(f"--config-file={of_root}/etcd.yml")
    with pytest.raises(UsageError, match="is not a file that the user of the process may read") as refused:
        read_running(found)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    ("owner", "mode", "groups", "reads"),
    [
        ((STRANGER, 0), 0o400, (), True),
        ((0, STRANGER), 0o040, (), True),
        ((0, GROUP), 0o040, (GROUP,), True),
        ((0, GROUP), 0o040, (), False),
        ((0, 0), 0o440, (GROUP,), False),
        ((0, 0), 0o444, (), True),
    ],
)
def test_owner_group_and_mode_decide(
    owner: tuple[int, int],
    mode: int,
    groups: tuple[int, ...],
    reads: bool,
    shared: Path,
) -> None:
    file = shared / "file"
    file.write_text("content")
    os.chown(file, *owner)
    file.chmod(mode)
    code = AS_STRANGER.replace("setgroups([])", f"setgroups({list(groups)})")
    code += "import time; print(flush=True); time.sleep(600)"
    with subprocess.Popen([PYTHON, "-IS", "-c", code], stdout=subprocess.PIPE) as child:
        try:
            assert child.stdout is not None
            child.stdout.readline()
            path = Path(f"/proc/{child.pid}/root{file}")
            assert may_read(path) is reads
            if reads:
                assert read_regular(path, LARGEST) == b"content"
            else:
                with pytest.raises(UnreadableFileError, match="may not be read by the user"):
                    read_regular(path, LARGEST)
        finally:
            child.kill()


def test_an_etcd_of_root_reads_files_of_others(node: Container, shared: Path) -> None:
    """With the capabilities to override their modes, as etcd in a container has; without them it does not."""
    file = node.node.root / "of-another-user"
    file.write_text("content")
    os.chown(file, STRANGER, STRANGER)
    file.chmod(0o400)
    running = node.start()
    assert read_regular(running.root / "of-another-user", LARGEST) == b"content"
    node.stop()
    weaker = replace(node, prefix=WITHOUT_OVERRIDES, processes=[])
    try:
        with pytest.raises(UnreadableFileError, match="may not be read by the user of process"):
            read_regular(weaker.start().root / "of-another-user", LARGEST)
    finally:
        weaker.stop()


def test_what_it_has_open_is_opened_with_its_rights(of_root: Path, process: Callable[..., Process]) -> None:
    """A descriptor by which it cannot read, and a link of proc, open nothing for root."""
    before = "os.dup2(os.open('/etc/shadow', os.O_PATH), 7); os.set_inheritable(7, True)"
    found = process(before=before)
    with pytest.raises(UnreadableFileError, match="may not be read by the user"):
        read_regular(Path(f"/proc/{found.pid}/fd/7"), LARGEST)


@pytest.mark.parametrize(
    "path", ["proc/kmsg", "proc/version", "proc/self/environ", "sys/kernel/mm/transparent_hugepage/enabled"]
)
def test_nothing_of_the_kernel_is_read(path: str, node: Container, process: Callable[..., Process]) -> None:
    """Not of a process's root directory, and not where a user names it: root would drain the kernel's log."""
    found = process()
    with pytest.raises(UnreadableFileError, match=r"of the kernel|may not be read|does not exist"):
        read_regular(Path(f"/proc/{found.pid}/root/{path}"), LARGEST)
    if "self" not in path:
        with pytest.raises(UnreadableFileError, match="is a file of the kernel or of FUSE"):
            read_regular(Path(f"/{path}"), LARGEST)


def test_other_threads_keep_their_rights(process: Callable[..., Process]) -> None:
    """And this one has its own again."""
    found = process()
    inside, read = threading.Event(), threading.Event()
    seen = []

    def other() -> None:
        inside.wait(10)
        seen.append(Path("/etc/shadow").read_bytes() != b"")
        read.set()

    thread = threading.Thread(target=other)
    thread.start()
    with rights_of(user_of(found.pid)):
        with pytest.raises(PermissionError):
            Path("/etc/shadow").read_bytes()
        inside.set()
        assert read.wait(10)
    thread.join()
    assert seen == [True]
    assert Path("/etc/shadow").read_bytes()
    assert os.getgroups() == _groups()


def test_an_interruption_leaves_no_rights(
    process: Callable[..., Process], pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends the run before the next check: raised here, it may leave this thread those of another user."""
    found, interruption = process(), Interruption(pytestconfig)
    before = signal.signal(signal.SIGUSR1, interruption._on_signal)
    look_up = process_root._look_up

    def interrupted(root: str, path: str) -> list[tuple[str, int]]:
        os.kill(os.getpid(), signal.SIGUSR1)
        return look_up(root, path)

    monkeypatch.setattr(process_root, "_look_up", interrupted)
    try:
        assert status_of(below(found, Path("/etc/passwd")))
    except pytest.Session.Interrupted:
        pytest.fail("it was raised here")
    finally:
        signal.signal(signal.SIGUSR1, before)
    with pytest.raises(pytest.Session.Interrupted):
        interruption.pytest_runtest_setup()


def test_an_id_that_another_process_has_later(of_root: Path) -> None:
    """A process of root that gets it lends its rights to nobody."""
    with stranger(Path("/usr/bin/etcd")) as (found, child):
        child.kill()
        child.wait()
    path = below(found, of_root / "ca.key")
    for _ in range(20):  # others may start processes between the next two lines
        Path("/proc/sys/kernel/ns_last_pid").write_text(str(found.pid - 1), encoding="ascii")
        with subprocess.Popen(["sleep", "60"]) as later:
            try:
                if later.pid != found.pid:
                    continue
                with pytest.raises(UnreadableFileError, match="another process has its ID"):
                    read_regular(path, LARGEST)
                with pytest.raises(OSError, match="another process has its ID"), network_of(found.pid):
                    pass
                return
            finally:
                later.kill()
    pytest.fail("no process got the ID")


def test_a_key_that_was_exchanged_is_not_presented(of_root: Path, process: Callable[..., Process]) -> None:
    """A client of the user's tests is made of the files at that time, with the rights of the process."""
    found = process()
    of_root.chmod(0o711)
    source = Given(etcd_endpoint=URL)
    [live] = live_targets(source, read_declared(source))
    identity = Identity(
        name="client",
        key=CertificateAuthority.create("ca").key,
        certificate_file=str(below(found, of_root / "ca.crt")),
        key_file=str(below(found, of_root / "ca.key")),
    )
    with pytest.raises(PermissionError):
        Credentials(Observer(live)).of(identity).ssl_context()


def _groups() -> list[int]:
    text = Path("/proc/self/status").read_text(encoding="ascii")
    return [*map(int, re.findall(r"^Groups:\t(.*)$", text, re.MULTILINE)[0].split())]


_AUDITED = """
import re, sys
opened = []
def note(event, arguments):
    if event not in ("open", "os.listdir", "os.scandir"):
        return
    if re.match(r"/proc/[0-9]+/(root|cwd|fd/)", str(arguments[0])):
        frame = sys._getframe(1)
        opened.append((str(arguments[0]), frame.f_code.co_filename))
sys.addaudithook(note)
from pytest_etcdtls.__main__ import main
code = main(sys.argv[1:])
for path, file in opened:
    print("OPENED", path, file)
sys.exit(code)
"""


def test_one_module_opens_what_is_below_a_foreign_root(node: Container) -> None:
    """A run on a process, with its rehearsal, opens nothing there elsewhere."""
    found = node.start()
    made = subprocess.run(
        [sys.executable, "-c", _AUDITED, f"--pid={found.pid}", "--rehearse", "-v"],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
    )
    opened = {tuple(line.split()[1:]) for line in made.stdout.splitlines() if line.startswith("OPENED ")}
    assert "CLEAN, ALSO AFTER A RESTART" in made.stdout, made.stdout + made.stderr
    assert opened
    assert {Path(file).name for _, file in opened} == {"process_root.py"}
    assert target(found).client.identities
