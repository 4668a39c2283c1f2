"""Owned clusters in the suite: started once, always stopped, with the same labels in each run."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path

import pytest
from plugin.runs import Runner
from unruly.programs import recorded as recorded_in

SOME = "--etcd-check=cert.trusted,mtls.no-certificate"


@pytest.fixture
def recorded(tmp_path: Path, newest_etcd: Path) -> Path:
    """An etcd that records its process id when it starts a member."""
    return recorded_in(tmp_path / "pids")(newest_etcd, tmp_path)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def started(recorded: Path) -> list[int]:
    pids = recorded.with_name("pids")
    return [int(pid) for pid in pids.read_text(encoding="utf-8").split()] if pids.exists() else []


def test_the_package_alone_judges_an_owned_cluster(run: Runner, recorded: Path) -> None:
    ran = run("--pyargs", "pytest_etcdtls", f"--etcd-binary={recorded}")
    assert ran.exit_code == 0
    assert not {"violates", "inconclusive", "broken", "not-run", "not-verified"} & set(ran.counts)
    (target,) = ran.report["targets"]
    assert (target["origin"], target["source"]) == ("process", str(recorded))
    assert target["label"] == f"etcd-{target['etcd_version']}"
    assert [listener["label"] for listener in target["listeners"]] == ["client-m0", "peer-m0"]
    assert str(recorded) in ran.out.partition("collected")[0]
    assert started(recorded)
    assert not any(is_running(pid) for pid in started(recorded))


def test_node_ids_are_known_without_a_started_cluster(run: Runner, recorded: Path) -> None:
    ran = run(
        "--pyargs", "pytest_etcdtls", f"--etcd-binary={recorded}", "--collect-only", "-q", "-p", "no:randomly"
    )
    ids = [line for line in ran.out.splitlines() if line.startswith("etcdtls::")]
    assert any(re.fullmatch(r"etcdtls::etcd-[\d.]+::peer-m0::cert\.trusted", id_) for id_ in ids)
    for option in ("--setup-plan", "--etcd-plan", "--etcd-list-checks"):
        assert run("--etcd-conformance", f"--etcd-binary={recorded}", option).exit_code == 0
    assert not started(recorded)
    ran = run(f"--etcd-binary={recorded}", next(id_ for id_ in ids if id_.endswith("cert.trusted")))
    assert ran.exit_code == 0
    assert len(ran.outcomes) == 1


@pytest.mark.parametrize("workers", [[], ["-n2"]], ids=["serial", "xdist"])
def test_suite_and_fixtures_share_one_cluster(run: Runner, recorded: Path, workers: list[str]) -> None:
    """Workers start their own; none is started for deselected checks."""
    run.write(
        test_user="""
        def test_cluster(etcd_cluster, etcd_target, etcd_observer):
            assert etcd_cluster.members[0].client_url == etcd_target.listeners[0].url
        def test_plain(): pass
        """
    )
    owned = ("--etcd-conformance", f"--etcd-binary={recorded}")
    assert run(*owned, "-k", "test_plain", *workers).exit_code == 1
    assert not started(recorded)
    assert run(*owned, SOME, *workers).exit_code == 0
    assert len(started(recorded)) == (2 if workers else 1)


def test_each_binary_is_a_target_with_a_label_of_its_own(
    run: Runner, recorded: Path, etcd_binaries: dict[str, Path]
) -> None:
    *others, newest = etcd_binaries
    versions = [*others[:1], newest]
    binaries = [*(etcd_binaries[version] for version in versions), recorded]
    ran = run("--etcd-conformance", SOME, *(f"--etcd-binary={path}" for path in binaries))
    assert ran.exit_code == 0
    labels = [target["label"] for target in ran.report["targets"]]
    assert labels == [*(f"etcd-{version}" for version in versions), f"etcd-{newest}-2"]
    judged = {result["target"] for result in ran.report["results"]}
    assert judged == set(labels)


def test_size_and_key_type_are_those_of_the_options(run: Runner, recorded: Path) -> None:
    ran = run(
        "--etcd-conformance",
        f"--etcd-binary={recorded}",
        SOME,
        "--etcd-size=3",
        "--etcd-key-type=ed25519",
        "-v",
    )
    assert ran.exit_code == 0
    assert len(started(recorded)) == 3
    (target,) = ran.report["targets"]
    assert len(target["listeners"]) == 6
    assert "Ed25519" in ran.out


def test_a_kept_cluster_runs_on_and_its_message_has_the_command_to_stop_it(
    run: Runner, recorded: Path
) -> None:
    ran = run("--etcd-conformance", f"--etcd-binary={recorded}", SOME, "--etcd-keep")
    (pid,) = started(recorded)
    try:
        assert ran.exit_code == 0
        assert is_running(pid)
        [stop] = [line.strip() for line in ran.out.splitlines() if line.strip().startswith(f"kill {pid}; ")]
    except BaseException:
        os.kill(pid, signal.SIGTERM)
        raise
    subprocess.run(stop, shell=True, check=True)  # noqa: S602
    assert not Path(stop.rpartition("rm -rf ")[2]).exists()
