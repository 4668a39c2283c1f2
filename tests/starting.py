"""Starting a given binary or image in tests."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from pytest_etcdtls.children import child_environment
from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.etcd.cluster import Cluster, start_cluster
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.etcd.member import Member
from pytest_etcdtls.etcd.sources import EtcdSource, binary_version


def source_of(etcd: Path | str) -> EtcdSource:
    """Return the etcd of a binary, or of a local image of ours, which is named by its version."""
    if isinstance(etcd, Path):
        return EtcdSource(kind="process", location=str(etcd), version=binary_version(etcd), why="a test")
    return EtcdSource(kind="container", location=etcd, version=etcd.rpartition(":")[2], why="a test")


def start_process(config: ClusterConfig, binary: Path) -> Cluster:
    """Start that binary.

    Raises:
        UsageError: if its version cannot express the configuration.
    """
    return start_cluster(config, source_of(binary))


def start_where_possible(config: ClusterConfig, binary: Path) -> Cluster:
    """Start that binary; skip the test if its version cannot express the configuration."""
    try:
        return start_process(config, binary)
    except UsageError as error:
        pytest.skip(f"not to be expressed in this version: {error}")


def stop(process: int) -> None:
    """Send SIGSTOP, and wait until every thread has seen it; SIGCONT continues the process."""
    os.kill(process, signal.SIGSTOP)
    while not all(
        ") T " in stat.read_text(encoding="utf-8", errors="replace")
        for stat in Path(f"/proc/{process}/task").glob("*/stat")
    ):
        pass


def manifest(command: Sequence[str]) -> str:
    """Return the manifest of a static pod with that command."""
    container = {"name": "etcd", "command": [*command]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "etcd"}}
    return yaml.safe_dump({**pod, "spec": {"containers": [container]}})


def write_manifest(member: Member, path: Path) -> None:
    """Write the manifest of a static pod that starts the member as it was started."""
    path.write_text(manifest(member.argv), encoding="utf-8")


def write_unit(member: Member, path: Path) -> None:
    """Write the systemd unit that starts the member as it was started."""
    words = " ".join(word.replace("%", "%%") for word in member.argv)
    path.write_text(f"[Service]\nType=notify\nExecStart={words}\n", encoding="utf-8")


def start_container(config: ClusterConfig, image: str) -> Cluster:
    """Start that image."""
    return start_cluster(config, source_of(image))


SERVES = re.compile(r"serving (?:insecure )?client (?:requests on|traffic)")
"""What etcd logs when it serves clients."""


@dataclass(frozen=True)
class RunningEtcd:
    """An etcd that no cluster of ours has, and the file that it logs to."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def text(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    @property
    def ended(self) -> bool:
        return self.process.poll() is not None

    def serves(self, seconds: float = 60.0, *, said_by: re.Pattern[str] = SERVES) -> bool:
        """Wait until it serves clients, as its log says, or ends, and return whether it has served."""
        until = time.monotonic() + seconds
        while not self.ended and time.monotonic() < until:
            if said_by.search(self.text):
                return True
            time.sleep(0.01)
        return bool(said_by.search(self.text))


@contextmanager
def running_etcd(
    command: Sequence[str | Path],
    log: Path,
    environment: Mapping[str, str] | None = None,
    *,
    user: int | None = None,
) -> Iterator[RunningEtcd]:
    """Run etcd in the directory of its log until the end of the block; ``user`` is also its group."""
    with log.open("wb") as file:
        process = subprocess.Popen(
            command,
            env=child_environment() if environment is None else environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            cwd=log.parent,
            start_new_session=True,
            user=user,
            group=user,
            extra_groups=None if user is None else (),
        )
    try:
        yield RunningEtcd(process, log)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
