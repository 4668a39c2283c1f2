"""Runs that are compared: with an earlier one, and several etcds of one run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from plugin.live_etcd import Live
from plugin.runs import Ran, Runner

from pytest_etcdtls.facts.behaviour import Behaviour
from pytest_etcdtls.facts.observed import observed_behaviour
from pytest_etcdtls.facts.recording import Recording

MOST = "--etcd-check=mtls,tls,cert,api"


def test_runs_are_compared_with_a_baseline(run: Runner, live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    observed: list[Recording] = []

    def counted(seen: Recording) -> tuple[Behaviour, ...]:
        observed.append(seen)
        return observed_behaviour(seen)

    monkeypatch.setattr("pytest_etcdtls.report.json.observed_behaviour", counted)
    conforming, strict = (*live.options, MOST), "--etcd-fail-on-difference"
    run(*conforming, "--etcd-report=good.json")
    observed.clear()
    ran = run(*conforming, "--etcd-baseline=good.json", strict)
    assert ran.exit_code == 0
    assert ran.report["differences"] == []
    assert len(observed) == 1, "it is made once, to be compared and to be written"
    assert re.search(r"live.* of the baseline -> live.*: no difference", ran.out)

    ran = run(*live.wrong_anchor, MOST, "--etcd-baseline=good.json", "--etcd-report=worse.json")
    assert ran.exit_code == 1
    assert _difference(ran, "cert.trusted") == ("worse", "violates")
    assert "  worse: " in ran.out
    assert "Worse than the baseline: " in ran.out

    ran = run(*conforming, "--etcd-baseline=worse.json")
    assert ran.exit_code == 0
    assert _difference(ran, "cert.trusted") == ("better", "conforms")
    ran = run(*conforming, "--etcd-baseline=worse.json", strict)
    assert ran.exit_code == 1
    assert "--etcd-fail-on-difference: " in ran.out
    assert "NOT AS BEFORE: no fault, " in ran.out


def _difference(ran: Ran, check: str) -> tuple[str, str]:
    [found] = [
        (difference["judgement"], difference["after"])
        for difference in ran.report["differences"]
        if difference["subject"] == check and not difference["follows"]
    ]
    return found


def test_without_a_fault_no_waivers_are_proposed(run: Runner, live: Live) -> None:
    ran = run(*live.options, "--etcd-check=cert.trusted", "--etcd-write-waivers=waivers.toml")
    assert ran.exit_code == 0
    assert not (run.directory / "waivers.toml").exists()
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
    cliff = second["experiment: crl-encoding, pem (good client)"]
    assert (cliff["before"], cliff["after"], cliff["listeners"]) == (
        "accepted",
        "refused",
        ["client", "peer"],
    )
    assert "every client is now refused" in cliff["meaning"]
    assert "storage" in second["fields of /version"]["after"]
    assert not [one for one in second.values() if one["judgement"] == "worse"]


@pytest.mark.whole
@pytest.mark.container
@pytest.mark.etcd_version("3.5.1", "3.7")
def test_a_container_gives_the_results_of_a_process(
    run: Runner, etcd_image: str, etcd_binaries: dict[str, Path]
) -> None:
    version = etcd_image.rpartition(":")[2]
    if version not in etcd_binaries:
        pytest.skip(f"needs etcd {version}; run make etcd")
    alone = ("--pyargs", "pytest_etcdtls", MOST)
    run(*alone, f"--etcd-binary={etcd_binaries[version]}", "--etcd-report=process.json")
    ran = run(*alone, f"--etcd-image={etcd_image}", "--etcd-baseline=process.json")
    assert ran.report["differences"] == []
