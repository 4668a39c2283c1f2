"""A root directory that belongs to somebody else: nothing outside it is read, and nothing in it blocks."""

from __future__ import annotations

import os
import signal
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kubeadm.judging import judged
from plugin.runs import Runner, run

from process.containers import Container, as_root, target
from pytest_etcdtls.checks.results import Outcome
from pytest_etcdtls.declared.declaration import exists
from pytest_etcdtls.declared.running import Process
from pytest_etcdtls.errors import UnreadableFileError
from pytest_etcdtls.untrusted.process_root import names_in, way_to
from pytest_etcdtls.untrusted.regular_files import read_regular

__all__ = ["run"]

pytestmark = as_root

ADDRESS = "127.0.0.42"
OUTSIDE = "outside the root directory"


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """``/proc/PID/root`` of a process whose root directory is the directory ``root``, beside others."""
    inside = tmp_path / "root"
    inside.mkdir()
    (tmp_path / "secret").write_text(OUTSIDE, encoding="utf-8")
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.chroot(inside)
            os.chdir("/")
            os.write(writer, b".")
            signal.pause()
        finally:
            os._exit(1)
    try:
        assert os.read(reader, 1) == b"."
        yield Path(f"/proc/{pid}/root")
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(reader)
        os.close(writer)


def test_links_are_followed_inside(root: Path, tmp_path: Path) -> None:
    inside = tmp_path / "root"
    for directory in ("etc/pki", "usr"):
        (inside / directory).mkdir(parents=True)
    (inside / "etc/pki/ca.crt").write_text("inside", encoding="utf-8")
    links = {
        "absolute": "/etc/pki/ca.crt",
        "relative": "etc/pki/ca.crt",
        "above": "../../../../etc/pki/ca.crt",
        "pki": "/etc/pki",
        "usr/pki": "../pki",
        "twice": "/usr/pki/ca.crt",
    }
    for name, to in links.items():
        (inside / name).symlink_to(to)
    for name in ("absolute", "relative", "above", "pki/ca.crt", "usr/pki/ca.crt", "twice", "usr/../twice"):
        assert read_regular(root / name, 100) == b"inside", name
        assert [place for place, _ in way_to(root / name)] == [
            root / "etc/pki/ca.crt",
            root / "etc/pki",
            root / "etc",
            root,
        ]
    assert names_in(root / "pki") == ["ca.crt"]


@pytest.mark.parametrize("above", ["", "../../../../../.."], ids=["absolute", "relative"])
def test_a_link_to_a_file_outside(root: Path, tmp_path: Path, above: str) -> None:
    secret = tmp_path / "secret"
    inside = tmp_path / "root"
    (inside / "link").symlink_to(f"{above}{secret}")
    (inside / "directory").symlink_to(f"{above}{tmp_path}")
    (inside / "of-proc").symlink_to(f"/proc/self/root{secret}")
    for path in (root / "link", root / "directory/secret", root / "of-proc", root / ".." / "secret"):
        assert not exists(path)
        with pytest.raises(UnreadableFileError, match="does not exist"):
            read_regular(path, 100)
    # What lies at the same path inside is what is meant.
    there = inside / secret.relative_to("/")
    there.parent.mkdir(parents=True)
    there.write_text("inside", encoding="utf-8")
    assert read_regular(root / "link", 100) == b"inside"


def test_a_link_of_the_proc_file_system(root: Path, tmp_path: Path) -> None:
    """Such a link leads where it says to no path, but to the file of another process."""
    inside = tmp_path / "root"
    with open(tmp_path / "secret", "rb") as held:
        (inside / "held").symlink_to(f"/proc/{os.getpid()}/fd/{held.fileno()}")
        (inside / "proc").mkdir()
        os.system(f"mount --bind /proc {inside}/proc")  # noqa: S605 - as every container has
        try:
            for name in ("held", f"proc/{os.getpid()}/root{tmp_path}/secret"):
                with pytest.raises(UnreadableFileError):
                    read_regular(root / name, 100)
        finally:
            os.system(f"umount {inside}/proc")  # noqa: S605


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1024**3)


OTHERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a named pipe": (os.mkfifo, "is no regular file but a named pipe"),
    "/dev/zero": (
        lambda path: os.mknod(path, 0o644 | stat.S_IFCHR, os.makedev(1, 5)),
        "is no regular file but a character device",
    ),
    "a gigabyte": (_sparse, "is larger than 16 MiB"),
    "a directory": (os.mkdir, "is a directory"),
    "a loop": (lambda path: path.symlink_to(path.name), "cannot be read"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_files_that_are_not_certificates(root: Path, tmp_path: Path, name: str) -> None:
    make, why = OTHERS[name]
    make(tmp_path / "root" / "ca.crt")
    started = time.monotonic()
    with pytest.raises(UnreadableFileError, match=why):
        read_regular(root / "ca.crt", 16 * 1024**2)
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("name", OTHERS)
def test_a_run_on_such_files(node: Container, process: Process, name: str, run: Runner) -> None:
    """The run says what the file is, and judges the rest."""
    make, _ = OTHERS[name]
    pki = node.node.pki / "etcd"
    kept = {one: (pki / one).read_bytes() for one in ("ca.crt", "healthcheck-client.crt")}
    for one in kept:
        (pki / one).unlink()
        make(pki / one)
    try:
        ran = run("--pyargs", "pytest_etcdtls", f"--etcd-pid={process.pid}", "--etcd-check=config,mtls", "-v")
    finally:
        for one, content in kept.items():
            (pki / one).rmdir() if (pki / one).is_dir() else (pki / one).unlink()
            (pki / one).write_bytes(content)
    assert ran.exit_code in (0, 1), ran.out + ran.err
    assert "Traceback" not in ran.out + ran.err
    assert not set(ran.counts) & {"broken", "not-run"}, ran.out
    assert ran.counts["conforms"] > 20


def test_a_process_that_ends_during_the_run(node: Container, process: Process) -> None:
    live = target(process)
    node.stop()
    results = judged(live, "listener.answers")
    assert {result.outcome for result in results} == {Outcome.INCONCLUSIVE}
    assert {"ended during the run: run again" in result.reason for result in results} == {True}
