"""--etcd-config together with an etcd to start: which of the two is judged, and the result of a run."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest
from plugin.runs import Runner, nobody_came, url_of

from replay.nodes import node

GATES = {"feature-gates": None, "watch-progress-notify-interval": None}


def options(kubernetes: Path, *etcds: Path) -> list[str]:
    """Return the options of a replay on these etcds."""
    config = [f"--etcd-config={kubernetes / 'etcd.yaml'}", f"--etcd-pki-dir={kubernetes / 'pki'}"]
    return [*config, *(f"--etcd-binary={etcd}" for etcd in etcds)]


@pytest.mark.two_etcds
def test_other_versions_are_judged_if_one_does_not_start(
    run: Runner, etcd_binaries: dict[str, Path], tmp_path: Path
) -> None:
    """3.5.1 and Debian's 3.4 have no ``--tls-min-version``; the newest one is judged."""
    oldest, *_, newest = etcd_binaries.values()
    kubernetes = node(tmp_path, {**GATES, "tls-min-version": "TLS1.2"})
    ran = run(*options(kubernetes, oldest, newest), "--etcd-check=config,mtls,listener")
    assert ran.exit_code == 1
    # The metrics listener, which has no clients, may come last.
    applicable = [result for result in ran.report["results"] if result["outcome"] != "not-applicable"]
    results = {(one["target"], one["check"]): one for one in applicable}
    first, last = (target["label"] for target in ran.report["targets"])
    starts = results[first, "config.starts"]
    assert (starts["outcome"], starts["cause"] is None) == ("violates", False)
    assert "tls-min-version" in starts["findings"][0]["message"]
    assert results[last, "config.starts"]["outcome"] == "conforms"
    assert results[last, "mtls.trusted-client"]["outcome"] == "conforms"
    assert {fault["target"] for fault in ran.report["faults"]} == {first}
    assert "Traceback" not in ran.out + ran.err
    assert not re.search(r"no check about mutual TLS.*came to", ran.out, re.DOTALL), "one fault says it"


@pytest.mark.etcd_version("3.6")
def test_a_clean_run_names_the_replayed_declaration(
    run: Runner, etcd_binary: Path, tmp_path: Path, listening: socket.socket
) -> None:
    """The advertised address is another machine's, which is not contacted."""
    away = {"advertise-client-urls": url_of(listening), "initial-cluster-state": "existing"}
    kubernetes = node(tmp_path, away)
    ran = run(*options(kubernetes, etcd_binary), "--etcd-check=config,cluster,mtls.trusted-client")
    assert ran.exit_code == 0, ran.out
    assert nobody_came(listening)
    shown = " ".join(ran.out.split())
    assert f"replayed on each: member cp1 as {kubernetes / 'etcd.yaml'} declares it" in shown
    assert "replayed otherwise: --initial-cluster-state: new" in shown
    assert "generated" not in ran.out
    [target] = ran.report["targets"]
    assert (target["origin"], target["declared"][0]["member"]) == ("process", "cp1")


def test_a_plan_and_a_collection_start_nothing(run: Runner, newest_etcd: Path, tmp_path: Path) -> None:
    for option in ("--etcd-plan", "--collect-only"):
        ran = run(*options(node(tmp_path / option, GATES), newest_etcd), option, report=False)
        assert ran.exit_code == 0, ran.out + ran.err
        assert "peer-cp1-10.0.0.11-2380" in ran.out
    assert not list(tmp_path.rglob("m0"))


def test_fixtures_follow_the_replay(run: Runner, newest_etcd: Path, tmp_path: Path) -> None:
    """``etcd_cluster`` is the fixtures' own cluster, as with a live one."""
    run.write(
        test_user="""
        def test_user(etcd_client, etcd_target, etcd_cluster, etcd_observer):
            assert etcd_observer.target is etcd_target
            assert etcd_target.listeners[0].label == "client-cp1-127.0.0.1-2379"
            assert "etcdserver" in etcd_client.get("/version").json()
            assert etcd_cluster.members[0].name == "m0"
        """
    )
    kubernetes = node(tmp_path, GATES)
    ran = run(*options(kubernetes, newest_etcd), "--etcd-check=config.starts", report=False)
    assert ran.exit_code == 0, ran.out
    assert "2 passed" in ran.out


def test_two_declarations_are_refused(run: Runner, newest_etcd: Path, tmp_path: Path) -> None:
    first, second = node(tmp_path / "1", GATES), node(tmp_path / "2", {**GATES, "name": "cp2"})
    other = (second / "etcd.yaml").read_text(encoding="utf-8").replace("10.0.0.11", "10.0.0.12")
    (second / "etcd.yaml").write_text(other, encoding="utf-8")
    ran = run(*options(first, newest_etcd), f"--etcd-config={second / 'etcd.yaml'}", report=False)
    assert ran.exit_code == pytest.ExitCode.USAGE_ERROR, ran.out + ran.err
    assert "--etcd-config names 2 members" in ran.err


def test_an_etcd_in_the_ini_file_replays_nothing(
    run: Runner, newest_etcd: Path, tmp_path: Path, listening: socket.socket
) -> None:
    """It is for the fixtures; the declaration names a live member."""
    run.ini(f"etcd_binary = {newest_etcd}")
    ran = run(*options(node(tmp_path, GATES)), "--collect-only", report=False)
    assert ran.exit_code == 0, ran.out + ran.err
    assert "live" in ran.out
    assert nobody_came(listening)
