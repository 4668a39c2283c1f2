"""A cluster that a run keeps for the next run: real runs, consecutive and concurrent, and real signals."""

from __future__ import annotations

import functools
import json
import os
import pickle
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from cluster.ending import DEADLINE, gone
from pytest_etcdtls.cluster import reuse
from pytest_etcdtls.cluster.config import PRESETS, ClusterConfig
from pytest_etcdtls.cluster.container import LABEL
from pytest_etcdtls.cluster.reuse import KeptClusters
from pytest_etcdtls.cluster.sources import EtcdSource, find_etcd
from pytest_etcdtls.cluster.watchdog import inherit
from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.pki.bundle import ClusterPKI
from pytest_etcdtls.pki.profile import MemberNames

"""Seconds after which something counts as hanging; it is not an expected duration."""

PROGRAM = Path(__file__).parent / "reuser.py"


@dataclass
class ReusingRun:
    """A run and its first line of output."""

    process: subprocess.Popen[str]
    state: dict[str, Any] = field(default_factory=dict)

    @property
    def token(self) -> str:
        return str(self.state["token"])

    @property
    def pids(self) -> list[int]:
        return list(self.state["pids"])

    @property
    def watchdog(self) -> int:
        return int(self.state["watchdog"])

    @property
    def directory(self) -> Path:
        return Path(self.state["directory"])

    def end(self) -> dict[str, Any]:
        """Let it leave its cluster; return its last line of output."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        printed: dict[str, Any] = json.loads(self.process.stdout.readline())
        assert self.process.wait(DEADLINE) == 0
        return printed

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(DEADLINE)


Reuse = Callable[..., ReusingRun]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The user's cache, in which nothing is left at the end of a test."""
    path = tmp_path / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(path))
    yield path / "pytest-etcdtls" / "reuse"
    KeptClusters(0).end_all()
    for one in (path / "pytest-etcdtls" / "reuse").iterdir():
        pytest.fail(f"{one} is left")


@pytest.fixture
def reusing(cache: Path) -> Iterator[Reuse]:
    """Start a run; return when its cluster is up."""
    runs: list[ReusingRun] = []
    with ExitStack() as stack:

        def run(etcd: Path | str, preset: str = "default", manner: str = "plain") -> ReusingRun:
            process = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, PROGRAM, str(etcd), preset, manner],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            stack.callback(process.kill)
            assert process.stdout is not None
            runs.append(ReusingRun(process, json.loads(process.stdout.readline())))
            return runs[-1]

        yield run
        for one in runs:
            if one.process.poll() is None:
                one.kill()
                assert gone(one.watchdog)


def test_the_next_run_takes_the_cluster_over(reusing: Reuse, newest_etcd: Path, cache: Path) -> None:
    first = reusing(newest_etcd)
    assert first.state["waiting"] == []
    printed = first.end()
    assert printed["notes"][0].startswith("etcd ")
    assert "was started and is kept until " in printed["notes"][0]
    assert len(printed["waiting"]) == 1
    for _ in range(2):
        later = reusing(newest_etcd)
        assert (later.token, later.pids, later.watchdog) == (first.token, first.pids, first.watchdog)
        assert later.state["waiting"] == []
        assert (later.state["keys"], later.state["leases"]) == ("0", 0)
        assert later.state["signs"]
        assert "was taken over and is kept until " in later.end()["notes"][0]
    assert KeptClusters(0).end_all() == 1
    assert all(gone(pid) for pid in (*first.pids, first.watchdog))
    assert list(cache.iterdir()) == []


def test_the_log_of_a_run_has_the_start_and_nothing_of_earlier_runs(
    reusing: Reuse, newest_etcd: Path
) -> None:
    first = reusing(newest_etcd)
    url = urlsplit(first.state["url"])
    with socket.create_connection((url.hostname, url.port)) as unfinished:
        unfinished.sendall(b"no TLS\n")
        unfinished.recv(100)
    first.end()
    assert "rejected connection" in (first.directory / "m0" / "etcd.log").read_text()
    second = reusing(newest_etcd)
    assert "rejected connection" not in second.state["log"]
    assert second.state["log"].startswith(first.state["log"][:200])


def test_the_directory_is_private_and_no_ca_key_is_written(
    reusing: Reuse, newest_etcd: Path, cache: Path
) -> None:
    run = reusing(newest_etcd)
    (path,) = map(Path, run.end()["waiting"])
    assert path.parent == run.directory.parent == cache
    assert {one.stat().st_mode & 0o777 for one in (cache, *cache.rglob("*")) if one.is_dir()} == {0o700}
    files = [one for one in cache.rglob("*") if one.is_file() and one.parent.name != "data"]
    keys = [one for one in files if one.suffix == ".key"]
    assert {one.stat().st_mode & 0o777 for one in keys} == {0o600}
    assert not [one for one in keys if "ca" in one.stem]


@pytest.mark.parametrize("preset", ["kubeadm", "three-members", "intermediate-ca", "crl-with-entries"])
def test_every_kind_of_cluster_is_taken_over(reusing: Reuse, newest_etcd: Path, preset: str) -> None:
    first = reusing(newest_etcd, preset)
    assert "is kept until" in first.end()["notes"][0]
    second = reusing(newest_etcd, preset)
    assert (second.token, second.state["keys"], second.state["signs"]) == (first.token, "0", True)


@pytest.mark.parametrize("layout", ["default", "kubeadm", "ca-per-role", "intermediate-ca", "ed25519"])
def test_a_pki_is_the_same_in_the_next_process(layout: str) -> None:
    pki = ClusterPKI.generate(PRESETS[layout].config.pki, [MemberNames("m0")])
    again = pickle.loads(reuse.pickled(pki))  # noqa: S301
    before, after = pki.files(with_ca_keys=True), again.files(with_ca_keys=True)
    assert before.keys() == after.keys()
    assert {path.name for path in before if before[path] != after[path]} <= {"crl.der", "crl.pem"}
    again.client_ca.issue(pki.plan.client, name="later")


def test_two_runs_at_a_time_never_share_one(reusing: Reuse, newest_etcd: Path) -> None:
    reusing(newest_etcd).end()
    first, second = reusing(newest_etcd), reusing(newest_etcd)
    assert first.token != second.token
    first.end()
    second.end()
    later = {reusing(newest_etcd).token, reusing(newest_etcd).token}
    assert later == {first.token, second.token}


def test_another_configuration_or_etcd_is_another_cluster(
    reusing: Reuse, newest_etcd: Path, tmp_path: Path
) -> None:
    run = reusing(newest_etcd)
    run.end()
    assert reusing(newest_etcd, manner="other").token != run.token
    same = tmp_path / "etcd"
    same.symlink_to(newest_etcd)
    assert reusing(same).token == run.token, "the content counts, not the path"
    wrapper = tmp_path / "wrapper"
    wrapper.write_text(f'#!/bin/sh\nexec {newest_etcd} "$@"\n')
    wrapper.chmod(0o755)
    assert reusing(wrapper).token != run.token


@pytest.mark.fault(
    "SIGKILL of a run that uses a kept cluster",
    outcome="no process and no file of it is left",
    bound="when the watchdog has seen the end of the process",
)
@pytest.mark.parametrize("taken_over", [False, True])
def test_a_killed_run_leaves_nothing(
    reusing: Reuse, newest_etcd: Path, cache: Path, taken_over: bool
) -> None:
    run = reusing(newest_etcd, "three-members")
    if taken_over:
        run.end()
        run = reusing(newest_etcd, "three-members")
    run.kill()
    assert all(gone(pid) for pid in (*run.pids, run.watchdog))
    assert list(cache.iterdir()) == []


def test_a_cluster_is_removed_when_its_time_is_over(reusing: Reuse, newest_etcd: Path, cache: Path) -> None:
    run = reusing(newest_etcd, manner="brief")
    assert "is kept until" in run.end()["notes"][0]
    assert all(gone(pid) for pid in (*run.pids, run.watchdog))
    assert list(cache.iterdir()) == []


@pytest.mark.fault(
    "SIGKILL of the watchdog of a kept cluster",
    outcome="the next run with `--etcd-reuse` removes processes and files",
    bound="at its start",
)
def test_the_next_run_removes_the_clusters_of_a_killed_watchdog(
    reusing: Reuse, newest_etcd: Path, cache: Path
) -> None:
    run = reusing(newest_etcd)
    run.end()
    os.kill(run.watchdog, signal.SIGKILL)
    assert gone(run.watchdog)
    assert len(list(cache.iterdir())) == 2
    next_run = reusing(newest_etcd)
    assert next_run.token != run.token
    assert all(gone(pid) for pid in run.pids)
    assert [one.name for one in cache.iterdir()] == [next_run.token]


def damage_process(run: ReusingRun) -> None:
    os.kill(run.pids[0], signal.SIGKILL)
    assert gone(run.pids[0])


def damage_file(run: ReusingRun) -> None:
    (run.directory / "pki" / "m0" / "server.crt").write_text("other")


@pytest.mark.fault(
    "A kept cluster is damaged: a process is killed, a file is changed",
    outcome="the next run replaces the cluster and reports why",
    bound="before a test uses it",
)
@pytest.mark.parametrize(
    ("damage", "said"), [(damage_process, ""), (damage_file, "other files: m0/server.crt")]
)
def test_a_damaged_cluster_is_replaced(
    reusing: Reuse, newest_etcd: Path, damage: Callable[[ReusingRun], None], said: str
) -> None:
    run = reusing(newest_etcd)
    run.end()
    damage(run)
    later = reusing(newest_etcd)
    assert later.token != run.token
    (note,) = later.state["notes"]
    assert "a kept one was replaced: " in note
    assert said in note
    assert all(gone(pid) for pid in (*run.pids, run.watchdog))
    assert not run.directory.exists()


def test_a_cluster_with_certificates_near_their_end_is_replaced(reusing: Reuse, newest_etcd: Path) -> None:
    run = reusing(newest_etcd)
    run.end()
    later = reusing(newest_etcd, manner="worn")
    assert later.token != run.token
    assert "more than half of the validity of server.crt is over" in later.state["notes"][0]
    assert "is not kept: more than half of the validity" in later.end()["notes"][-1]
    assert all(gone(pid) for pid in (*run.pids, *later.pids))


@pytest.mark.parametrize(("manner", "why"), [("damage", "m0 is not running"), ("users", "etcd has users")])
def test_a_cluster_that_a_test_has_changed_is_not_kept(
    reusing: Reuse, newest_etcd: Path, cache: Path, manner: str, why: str
) -> None:
    run = reusing(newest_etcd, manner=manner)
    printed = run.end()
    assert printed["notes"][0].endswith(f"was started and is not kept: {why}")
    assert printed["waiting"] == []
    assert all(gone(pid) for pid in run.pids)
    assert list(cache.iterdir()) == []


def test_a_cluster_with_users_is_not_kept(cache: Path, newest_etcd: Path) -> None:
    kept = KeptClusters(5)
    with kept.start(ClusterConfig(authentication=True), find_etcd(binary=newest_etcd)) as cluster:
        assert cluster.directory.parent != cache
        kept.leave()
    assert kept.waiting == []
    assert "is not kept: with users" in kept.notes[0]


def test_a_cluster_of_an_unreadable_binary_is_not_kept(
    cache: Path, newest_etcd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> str:
        raise PermissionError(13, "Permission denied")  # nobody forbids root anything

    monkeypatch.setattr(reuse, "_key", refused)
    kept = KeptClusters(5)
    with kept.start(ClusterConfig(), find_etcd(binary=newest_etcd)) as cluster:
        assert cluster.difference() == ""
        kept.leave()
    assert kept.notes == [
        f"etcd {cluster.version} ({newest_etcd}) is not kept: the binary cannot be read: Permission denied"
    ]


def test_a_socket_without_a_listener_is_not_inherited(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    KeptClusters(0)
    assert inherit(cache / "nothing") is None
    with socket.socket(socket.AF_UNIX) as closed:
        monkeypatch.chdir(cache)  # a temporary directory may be longer than the 107 bytes of a socket's path
        closed.bind("closed")
    assert inherit(cache / "closed") is None
    (cache / "closed").unlink()


@pytest.mark.parametrize("fault", ["link", "readable", "exposed parent", "foreign", "file"])
def test_a_directory_that_others_could_change_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    cache = tmp_path / "cache" / "pytest-etcdtls"
    cache.mkdir(parents=True)
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache.parent))
    place, elsewhere = cache / "reuse", tmp_path / "elsewhere"
    match fault:
        case "link":
            elsewhere.mkdir(mode=0o700)
            place.symlink_to(elsewhere)
        case "readable":
            place.mkdir()
            place.chmod(0o750)
        case "exposed parent":
            cache.parent.chmod(0o777)
        case "foreign":
            monkeypatch.setattr(os, "geteuid", functools.partial(int, os.geteuid() + 1))
        case "file":
            place.touch()
    with pytest.raises(UsageError, match=r"--etcd-reuse"):
        KeptClusters(5)
    with suppress(FileNotFoundError):
        assert list(elsewhere.iterdir()) == []


@pytest.mark.container
def test_a_container_is_taken_over_and_removed(
    reusing: Reuse, etcd_images: dict[str, str], cache: Path
) -> None:
    image = list(etcd_images.values())[-1]
    first = reusing(image)
    assert "was started and is kept until" in first.end()["notes"][0]
    second = reusing(image)
    assert (second.token, second.state["keys"], second.state["signs"]) == (first.token, "0", True)
    assert containers(first.token)
    second.kill()
    assert gone(second.watchdog)
    assert not containers(first.token)
    assert list(cache.iterdir()) == []


def containers(token: str) -> list[str]:
    command = ["docker", "ps", "-aq", "--filter", f"label={LABEL}={token}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def test_the_key_of_a_cluster_does_not_depend_on_the_process(newest_etcd: Path) -> None:
    program = (
        "from pytest_etcdtls.cluster import reuse, config, sources;"
        f"etcd = sources.find_etcd(binary={str(newest_etcd)!r});"
        "print(reuse._key(config.PRESETS['hardened'].config, etcd))"
    )
    keys = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(keys) == 1
    source = EtcdSource(kind="process", location=str(newest_etcd), version="3.6.16", why="a test")
    assert len({reuse._key(preset.config, source) for preset in PRESETS.values()}) == len(PRESETS)
