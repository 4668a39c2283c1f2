"""Connections that a process carries: the same verdicts, and a reason where the process fails."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from plugin.runs import Ran, Runner
from starting import start_process
from zoo.clusters import revoke_one

from pytest_etcdtls.etcd.cluster import Cluster
from pytest_etcdtls.etcd.presets import PRESETS

CARRY = Path(__file__).with_name("carry.py")
VIA = f"--etcd-via={shlex.join([sys.executable, str(CARRY), '{host}', '{port}'])}"


@pytest.fixture(scope="module", params=["right", "open"])
def cluster(request: pytest.FixtureRequest, newest_etcd: Path) -> Iterator[Cluster]:
    config = PRESETS["kubeadm"].config
    if request.param == "open":
        config = replace(config, client_cert_auth=False, trusted_ca_file=None)
    with start_process(config, newest_etcd) as started:
        yield started


def _judged(run: Runner, cluster: Cluster, *options: str) -> Ran:
    named = [f"{listener.role.option}={listener.url}" for listener in cluster.target().listeners]
    pki = cluster.members[0].file("server.crt").parent
    return run("--pyargs", "pytest_etcdtls", *named, f"--etcd-pki-dir={pki}", "--etcd-timeout=30", *options)


def test_verdicts_are_those_of_direct_connections(run: Runner, cluster: Cluster) -> None:
    direct, carried = (_judged(run, cluster, *options) for options in ((), (VIA,)))
    assert carried.outcomes == direct.outcomes
    assert carried.exit_code == direct.exit_code
    assert f"via {VIA.partition('=')[2]}" in " ".join(carried.out.split())


def test_members_that_cannot_dial_each_other(run: Runner, newest_etcd: Path) -> None:
    """Each is one of several at one host, behind a process, and is told apart by its ID."""
    with start_process(replace(PRESETS["kubeadm"].config, size=3), newest_etcd) as cluster:
        whole = _judged(run, cluster, VIA, "--etcd-check=cluster.members-connected")
        revoke_one(cluster)
        apart = _judged(run, cluster, VIA, "--etcd-check=cluster.members-connected")
    assert [one["outcome"] for one in whole.report["results"]] == ["conforms"]
    [result] = apart.report["results"]
    assert [finding["message"] for finding in result["findings"]] == ["m1 has no active connection with m0"]


def test_a_process_that_fails_is_the_reason(run: Runner, cluster: Cluster) -> None:
    failing = "--etcd-via=sh -c 'echo no pod etcd-$0-$1 >&2; exit 3' {host} {port}"
    ran = _judged(run, cluster, failing, "--etcd-check=listener,mtls.no-certificate")
    assert ran.exit_code == 1
    results = [result for result in ran.report["results"] if result["check"] == "listener.answers"]
    assert {result["outcome"] for result in results} == {"inconclusive"}
    [reason, *_] = [result["reason"] for result in results]
    assert re.search(r"the command of --etcd-via ended with status 3: no pod etcd-127\.0\.0\.1-\d+", reason)
    assert "NO VERDICT" in ran.out


def test_a_process_that_fails_once_hides_no_plain_http(
    run: Runner, newest_etcd: Path, tmp_path: Path
) -> None:
    """An end without a byte is how etcd refuses plain HTTP: it is not believed of one process alone."""
    config = replace(PRESETS["kubeadm"].config, plaintext_on_client_port=True)
    with start_process(config, newest_etcd) as cluster:
        ran = _judged(
            run, cluster, f"{VIA} {tmp_path}/failed-{{port}}", "--etcd-check=mtls.plaintext-refused"
        )
    assert len(list(tmp_path.glob("failed-*"))) == 3
    assert {result["role"]: result["outcome"] for result in ran.report["results"]}["client"] == "violates"
