"""Nothing of a machine is left, however the program that made it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kubernetes.machines import started, wait_until

OWNER = """
import sys
from pathlib import Path
from kubernetes.machines import started

directory = Path(sys.argv[1])
with started("m", "10.11.0.9", directory / "m") as machine:
    machine.start("sleep", "77777", log=directory / "log")
    machine.run("mkdir", "-p", "/var/lib/left", machine.directory / "made")
    print(machine.init, flush=True)
    sys.stdin.read()
"""


def _left(directory: Path, init: int) -> list[str]:
    cgroups = [str(path) for path in Path("/sys/fs/cgroup").glob(f"*/{directory.name}-*")]
    mounts = [
        line
        for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines()
        if str(directory) in line
    ]
    processes = [f"process {init}"] if Path(f"/proc/{init}").exists() else []
    sleeping = subprocess.run(
        ["pgrep", "-fx", "sleep 77777"], capture_output=True, encoding="utf-8", check=False
    )
    return [*cgroups, *mounts, *processes, *sleeping.stdout.split(), *map(str, directory.glob("m"))]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_of_a_killed_owner(number: signal.Signals, tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, tmp_path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
    ) as owner:
        assert owner.stdout is not None
        init = int(owner.stdout.readline())
        assert len(_left(tmp_path, init)) > 3
        owner.send_signal(number)
    wait_until(lambda: not _left(tmp_path, init), "the machine ends", seconds=20)
    assert not Path("/var/lib/left").exists()


def test_a_machine_has_files_and_a_network_of_its_own(tmp_path: Path) -> None:
    with started("m", "10.11.0.9", tmp_path / "m") as machine:
        machine.write("/etc/of-the-machine", "its own")
        assert machine.read("/etc/of-the-machine") == "its own"
        assert machine.run("hostname").stdout == "m\n"
        assert machine.run("ip", "-brief", "link").stdout.split()[0] == "lo"
    assert not Path("/etc/of-the-machine").exists()
