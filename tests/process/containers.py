"""A node of kubeadm whose etcd has a root directory, and perhaps a network, of its own, as in a container.

And what a rehearsal of its restart finds, judged as a run does.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from kubeadm.judging import Given, judged
from kubeadm.nodes import DEADLINE, Cluster, Node, running

from pytest_etcdtls.checks.results import CheckResult, Outcome
from pytest_etcdtls.declared.running import Process, find_process, find_processes
from pytest_etcdtls.etcd.home import Server, Start, stop_all
from pytest_etcdtls.etcd.launch import Launch, Served
from pytest_etcdtls.etcd.process import EtcdProcess
from pytest_etcdtls.etcd.watchdog import Watchdog
from pytest_etcdtls.settings.etcd_pid import read_declared
from pytest_etcdtls.settings.read import live_targets
from pytest_etcdtls.target import Target

_KEYS = frozenset({"name", "data-dir", "initial-cluster"})
OF_ITS_OWN = ("unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh")
"""Words before a program that give it a network namespace."""


@pytest.fixture(scope="module", params=[(), OF_ITS_OWN], ids=["root", "root-and-network"])
def in_each_network(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """The words for the network of the machine and for one of its own; a module imports it as ``prefix``."""
    words: tuple[str, ...] = request.param
    return words


@dataclass(frozen=True, kw_only=True)
class Container:
    """A node, the words before etcd, flags that are added to those of the manifest, and its user."""

    cluster: Cluster
    node: Node
    watchdog: Watchdog
    prefix: tuple[str, ...] = ()
    added: Mapping[str, str] = field(default_factory=dict)
    user: int = 0
    processes: list[EtcdProcess] = field(default_factory=list)

    @property
    def settings(self) -> dict[str, str]:
        """What the manifest declares, by the names of flags."""
        command = yaml.safe_load(self.node.text)["spec"]["containers"][0]["command"]
        declared = {word[2:].partition("=")[0]: word.partition("=")[2] for word in command[1:]}
        return {**declared, **self.added}

    @property
    def variables(self) -> dict[str, str]:
        """The same as environment variables."""
        return {f"ETCD_{name.upper().replace('-', '_')}": value for name, value in self.settings.items()}

    @property
    def configuration(self) -> str:
        """The same as a configuration file."""
        names = ("cert-file", "key-file", "client-cert-auth", "trusted-ca-file")
        keys: dict[str, object] = {
            name: value for name, value in self.settings.items() if name.endswith("-urls") or name in _KEYS
        }
        for section, prefix in (("client-transport-security", ""), ("peer-transport-security", "peer-")):
            values = {name: self.settings[f"{prefix}{name}"] for name in names}
            keys[section] = values | {"client-cert-auth": values["client-cert-auth"] == "true"}
        return yaml.safe_dump(keys)

    def start(self, *, by_variables: bool = False, by_file: bool = False) -> Process:
        """Start etcd with the paths of the manifest, and return its process."""
        flags = [f"--{name}={value}" for name, value in self.settings.items()]
        if by_file:
            (self.node.root / "etcd.yml").write_text(self.configuration)
            flags = ["--config-file=/etcd.yml"]
        chroot = ("chroot", f"--userspec={self.user}:{self.user}", str(self.node.root))
        argv = [*self.prefix, *chroot, "/etcd", *([] if by_variables else flags)]
        launch = Launch(
            name=self.node.name,
            label=self.node.name,
            arguments=tuple(argv[1:]),
            environment=self.variables if by_variables else {},
            serves=Served.from_urls(
                url for url in self.settings["listen-client-urls"].split(",") if not url.startswith("unix")
            ),
        )
        etcd = EtcdProcess(argv[0], launch, self.node.root / "etcd.log", self.watchdog)
        self.processes.append(etcd)
        Start(f"etcd {self.cluster.version}", DEADLINE).run([etcd])
        return self.process()

    def process(self) -> Process:
        """Return the process whose root directory is that of the node."""
        [found] = [one for one in find_processes() if _root(one) == self.node.root.resolve()]
        return found

    def stop(self) -> None:
        """Stop etcd."""
        stop_all(self.processes)
        self.processes.clear()


@contextmanager
def container(
    directory: Path, binary: Path, address: str, prefix: tuple[str, ...] = ()
) -> Iterator[Container]:
    """Make a node with etcd's program in its root directory; etcd is not started."""
    with running(directory, binary, [address]) as cluster:
        cluster.stop()
        [node] = cluster.nodes
        shutil.rmtree(node.root / "var" / "lib" / "etcd")
        shutil.copy(binary, node.root / "etcd")
        made = Container(cluster=cluster, node=node, watchdog=cluster._watchdog, prefix=prefix)
        try:
            yield made
        finally:
            made.stop()


def await_age(process: Process) -> None:
    """Wait until a change of now is later than the start, by more than the two clocks differ."""
    while datetime.now(UTC) < process.started_at + timedelta(seconds=4):
        threading.Event().wait(0.05)


def address_of_worker(last: int) -> str:
    """Return a loopback address of this worker of pytest-xdist, which may have a part of a module's tests."""
    return f"127.0.{os.environ.get('PYTEST_XDIST_WORKER', 'gw0').removeprefix('gw')}.{last}"


def targets(**values: str | Path) -> list[Target]:
    """Return the targets of ``--etcd-pid`` and other options."""
    options = Given(**values)
    return live_targets(options, read_declared(options))


def _root(process: Process) -> Path | None:
    """Return its root directory; ``None`` for an etcd of others that has ended meanwhile."""
    try:
        return process.root.resolve()
    except FileNotFoundError:
        return None


def target(process: Process, **values: str | Path) -> Target:
    """Return the target of a process."""
    [found] = targets(etcd_pid=str(process.pid), **values)
    return found


def line_of(file: Path, text: str) -> int:
    """Return the number of the only line with a text."""
    [number] = [
        n for n, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1) if re.search(text, line)
    ]
    return number


as_root = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: root directories and namespaces of their own"),
    pytest.mark.program("chroot", "unshare", "ip"),
]
"""What the tests of containers need."""


SELECTED = ("listener", "mtls", "tls", "cert", "api.gateway-works", "restart")
"""Checks that observe what a rehearsal compares."""


def rehearsed(live: Target, *patterns: str) -> dict[str, CheckResult]:
    """Judge a target and rehearse its restart, and return the results of the family ``restart``."""
    results = judged(replace(live, rehearses=True), *(patterns or SELECTED))
    return {result.check: result for result in results if result.check.startswith("restart.")}


def process_of(server: Server) -> Process:
    """Return the process of an etcd that a test has started."""
    assert isinstance(server, EtcdProcess)
    assert server.pid is not None
    return find_process(server.pid)


def wrong(results: Mapping[str, CheckResult]) -> dict[str, list[str]]:
    """Return the messages of the checks that find something."""
    return {
        check: [finding.message for finding in result.findings]
        for check, result in results.items()
        if result.findings
    }


def assert_nothing_changes(live: Target) -> None:
    """Assert that the restart is rehearsed, and changes nothing."""
    results = rehearsed(live)
    assert {result.outcome for result in results.values()} == {Outcome.CONFORMS}, results


def unverified(results: Mapping[str, CheckResult]) -> str:
    """Return why nothing was rehearsed, which every check says."""
    assert {result.outcome for result in results.values()} == {Outcome.NOT_VERIFIED}
    [reason] = {result.reason for result in results.values()}
    return reason


def tree(directory: Path) -> dict[str, tuple[object, ...]]:
    """Return everything about every file of a tree: owner, mode, times, attributes and content."""
    found: dict[str, tuple[object, ...]] = {}
    for path in (directory, *sorted(directory.rglob("*"))):
        status = path.lstat()
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        attributes = {name: os.getxattr(path, name) for name in os.listxattr(path)}
        found[str(path)] = (
            *(status.st_mode, status.st_uid, status.st_gid, status.st_size, status.st_mtime_ns),
            *(status.st_ctime_ns, attributes, content),
        )
    return found
