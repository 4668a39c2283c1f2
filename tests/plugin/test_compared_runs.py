"""Runs that are compared: with an earlier one, and several etcds of one run."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from plugin.live_etcd import Live
from plugin.runs import Ran, Runner

SOME = "--etcd-check=cert.trusted,cert.complete,cert.expires-soon"
MOST = "--etcd-check=mtls,tls,cert,api"


@pytest.fixture
def judged(run: Runner, live: Live, tmp_path: Path) -> str:
    """The option for the baseline of a conforming etcd."""
    baseline = tmp_path / "baseline.json"
    ran = run(*live.options, SOME)
    assert ran.exit_code == 0
    shutil.copy(ran.path, baseline)
    return f"--etcd-baseline={baseline}"


def differences(ran: Ran) -> list[tuple[str, str, str]]:
    return [
        (difference["judgement"], difference["subject"], difference["after"])
        for difference in ran.report["differences"]
        if not difference["follows"]
    ]


@pytest.mark.parametrize("checks", [SOME, pytest.param(MOST, marks=pytest.mark.whole)])
def test_the_same_etcd_has_no_difference(run: Runner, live: Live, tmp_path: Path, checks: str) -> None:
    judged = shutil.copy(run(*live.options, checks).path, tmp_path / "baseline.json")
    ran = run(*live.options, checks, f"--etcd-baseline={judged}", "--etcd-fail-on-difference")
    assert ran.exit_code == 0
    assert ran.report["differences"] == []
    assert re.search(r"live.* of the baseline -> live.*: no difference", ran.out)


def test_a_worse_result_fails_the_run(run: Runner, live: Live, judged: str, tmp_path: Path) -> None:
    ran = run(*live.wrong_anchor, SOME, judged)
    assert ran.exit_code == 1
    assert ("worse", "cert.trusted", "violates") in differences(ran)
    assert "  worse: " in ran.out
    assert "Worse than the baseline: " in ran.out
    worse = tmp_path / "worse.json"
    shutil.copy(ran.path, worse)
    ran = run(*live.options, SOME, f"--etcd-baseline={worse}")
    assert ran.exit_code == 0
    assert ("better", "cert.trusted", "conforms") in differences(ran)
    ran = run(*live.options, SOME, f"--etcd-baseline={worse}", "--etcd-fail-on-difference")
    assert ran.exit_code == 1
    assert "--etcd-fail-on-difference: " in ran.out
    assert "NOT AS BEFORE: no fault, " in ran.out


def test_without_a_fault_no_waivers_are_proposed(run: Runner, live: Live, tmp_path: Path) -> None:
    path = tmp_path / "waivers.toml"
    ran = run(*live.options, "--etcd-check=cert.trusted", f"--etcd-write-waivers={path}")
    assert ran.exit_code == 0
    assert not path.exists()
    assert "there is no fault" in ran.out


@pytest.mark.whole
@pytest.mark.two_etcds
def test_a_version_bump_shows_the_differences(run: Runner, etcd_binaries: dict[str, Path]) -> None:
    versions = [version for version in ("3.4.23", "3.5.33", "3.7.3") if version in etcd_binaries]
    if len(versions) < 3:
        pytest.skip("needs etcd 3.4.23, 3.5.33 and 3.7.3; run make etcd")
    binaries = [f"--etcd-binary={etcd_binaries[version]}" for version in versions]
    ran = run("--pyargs", "pytest_etcdtls", *binaries, "--etcd-check=mtls,tls,api,lifecycle.crl-encoding")
    assert ran.exit_code == 0
    first, second = (
        {
            difference["subject"]: difference
            for difference in ran.report["differences"]
            if difference["between"][1] == f"etcd-{version}"
        }
        for version in versions[1:]
    )
    assert first["alert for none (TLS 1.3)"]["after"] == "116 certificate_required"
    assert first["key exchange groups (TLS 1.3)"]["after"].startswith("X25519MLKEM768")
    assert first["GET /livez, GET /readyz"]["after"] == "HTTP 200"
    cliff = second["crl-encoding, pem (good client)"]
    assert (cliff["before"], cliff["after"], cliff["listeners"]) == (
        "accepted",
        "refused",
        ["client", "peer"],
    )
    assert "convert it to DER" in cliff["meaning"]
    assert "storage" in second["fields of /version"]["after"]
    assert not [one for one in second.values() if one["judgement"] == "worse"]


@pytest.mark.whole
@pytest.mark.container
@pytest.mark.etcd_version("3.5.1", "3.7")
def test_a_container_gives_the_results_of_a_process(
    run: Runner, etcd_image: str, etcd_binaries: dict[str, Path], tmp_path: Path
) -> None:
    version = etcd_image.rpartition(":")[2]
    if version not in etcd_binaries:
        pytest.skip(f"needs etcd {version}; run make etcd")
    ran = run("--pyargs", "pytest_etcdtls", f"--etcd-binary={etcd_binaries[version]}", MOST)
    baseline = tmp_path / "process.json"
    shutil.copy(ran.path, baseline)
    ran = run("--pyargs", "pytest_etcdtls", f"--etcd-image={etcd_image}", MOST, f"--etcd-baseline={baseline}")
    assert ran.report["differences"] == []
