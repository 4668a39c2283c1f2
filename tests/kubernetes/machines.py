"""Machines of the cluster: namespaces on this one, which ``machine.sh`` makes and removes."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from pytest_etcdtls.children import child_environment

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Machine:
    """A host with processes, network and files of its own.

    Attributes:
        name: its host name.
        address: on the network that all machines share.
        directory: what it writes; ``directory / "etc/upper"`` is its ``/etc``.
        cgroup: of its pods, from the root of each hierarchy.
        init: the id of its first process.
        path: directories in which it looks for programs first.
    """

    name: str
    address: str
    directory: Path
    cgroup: str
    init: int
    path: tuple[Path, ...] = ()
    _started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def run(
        self,
        *words: str | Path,
        check: bool = True,
        text: str | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program on the machine and return what it wrote, standard error beside output.

        Raises:
            AssertionError: if it fails, unless ``check`` is false.
        """
        ran = subprocess.run(
            self.inside(*words),
            input=text,
            stdin=subprocess.DEVNULL if text is None else None,
            capture_output=True,
            encoding="utf-8",
            check=False,
            env=self._environment(),
            timeout=300,
        )
        if check and ran.returncode != 0:
            raise AssertionError(
                f"{self.name}: {words} ended with {ran.returncode}: {ran.stdout}{ran.stderr}"
            )
        return ran

    def write(self, path: str, text: str) -> None:
        """Write a file of the machine, and its directory."""
        self.run("mkdir", "-p", str(PurePosixPath(path).parent))
        self.run("tee", path, text=text)

    def read(self, path: str) -> str:
        """Return the text of a file of the machine."""
        return self.run("cat", path).stdout

    def start(self, *words: str | Path, log: Path) -> subprocess.Popen[bytes]:
        """Start a program, which ends with the machine, and what it has started too."""
        with log.open("ab") as file:
            process = subprocess.Popen(
                self.inside(*words),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                env=self._environment(),
                start_new_session=True,
            )
        self._started.append(process)
        return process

    def inside(self, *words: str | Path) -> list[str]:
        """Return words before a program that run it on the machine, with those after them."""
        namespaces = ["--mount", "--net", "--uts", "--pid", "--ipc", f"--wdns={self.directory}"]
        return ["nsenter", f"--target={self.init}", *namespaces, *map(str, words)]

    def _environment(self) -> dict[str, str]:
        own = child_environment()
        path = ":".join([*map(str, self.path), own["PATH"]])
        return {**own, "PATH": path, "HOME": str(self.directory), "COLUMNS": "80"}


@contextmanager
def started(name: str, address: str, directory: Path, path: Sequence[Path] = ()) -> Iterator[Machine]:
    """Make a machine, and remove it with all that runs and is mounted there.

    Args:
        name: its host name.
        address: which it will have.
        directory: a new one, which is removed too.
        path: where it looks for programs first.
    """
    directory.mkdir()
    cgroup = f"{directory.parent.name}-{name}"
    # It ends with its standard input, so it also does when this process is killed. Ctrl-C does not reach it.
    process = subprocess.Popen(
        [HERE / "machine.sh", name, directory, cgroup],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        init = process.stdout.readline()
        assert init.strip().isdigit(), f"{name}: machine.sh ended"
        machine = Machine(name, address, directory, f"/{cgroup}", int(init), tuple(path))
        try:
            yield machine
        finally:
            process.stdin.close()
            for program in machine._started:
                program.wait()
    finally:
        process.stdin.close()
        process.stdout.close()
        process.wait()


def connect(first: Machine, second: Machine) -> None:
    """Connect two machines by a cable."""
    peer = ["peer", "name", "eth0", "netns", f"/proc/{second.init}/ns/net"]
    cable = ["ip", "link", "add", "eth0", "type", "veth", *peer]
    subprocess.run(["nsenter", f"--target={first.init}", "--net", *cable], check=True)
    for machine in (first, second):
        machine.run("ip", "address", "add", f"{machine.address}/24", "dev", "eth0")
        machine.run("ip", "link", "set", "eth0", "up")
    second.run("ip", "route", "add", "default", "via", first.address)


def wait_until(condition: Callable[[], object], what: str, seconds: float = 120) -> None:
    """Ask until it is so.

    Raises:
        AssertionError: if it is not so in time.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {seconds:.0f} s"
        time.sleep(0.1)
