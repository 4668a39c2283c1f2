"""CLEAN alone is for every check without a waived fault; a run in part says so, in every format."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from plugin.live_etcd import Live
from plugin.runs import Runner
from starting import start_process

from pytest_etcdtls.checks.registry import select
from pytest_etcdtls.etcd.config import ClusterConfig

EVERY = len(select())
WAIVER = '[[waiver]]\ncheck = "mtls.no-certificate"\nreason = "known"\nexpires = 2099-12-31\n'


@pytest.fixture(scope="module")
def open_etcd(etcd_binary: Path) -> Iterator[Live]:
    """An etcd that accepts every client."""
    with start_process(ClusterConfig(client_cert_auth=False, trusted_ca_file=None), etcd_binary) as cluster:
        yield Live.of(cluster)


def test_what_was_not_selected_is_not_clean(run: Runner, open_etcd: Live) -> None:
    one = f"1 OF {EVERY} CHECKS CLEAN (tls.cbc-suites)"
    for selection in (("--etcd-check=tls.cbc-suites",), ("-k", "tls.cbc-suites")):
        ran = run(*open_etcd.options, *selection)
        assert ran.exit_code == 0, ran.out
        assert ran.verdict.startswith(f"etcd TLS: {one} (https://")
        assert ran.report["verdict"] == one
        assert "exit code 0: no fault in the selected checks" in ran.out


def test_a_waived_fault_is_counted_in_every_format(run: Runner, open_etcd: Live) -> None:
    (run.directory / "w.toml").write_text(WAIVER, encoding="utf-8")
    names = ("r.md", "r.html", "r.sarif", "r.prom")
    reports = [f"--etcd-report={name}" for name in names]
    ran = run(*open_etcd.options, "--etcd-waivers=w.toml", *reports)
    assert ran.exit_code == 0, ran.out
    said = "CLEAN BUT FOR 1 WAIVED FAULT (mtls.no-certificate)"
    assert ran.verdict.startswith(f"etcd TLS: {said} (https://")
    assert ran.report["verdict"] == said
    markdown, html, sarif, metrics = ((run.directory / name).read_text(encoding="utf-8") for name in names)
    assert f"# etcd TLS: ⚠️ {said.replace('mtls.no-certificate', '`mtls.no-certificate`')} (" in markdown
    assert f"<title>{said} · etcd TLS of " in html
    assert json.loads(sarif)["runs"][0]["properties"]["conclusion"] == said
    assert 'etcdtls_clean{target="live"} 0\n' in metrics
    assert 'verdict="CLEAN BUT FOR WAIVED FAULTS"} 1\n' in metrics


def test_both_and_a_list_of_clusters(run: Runner, open_etcd: Live) -> None:
    (run.directory / "w.toml").write_text(WAIVER, encoding="utf-8")
    options = [text.removeprefix("--etcd-").split("=", 1) for text in open_etcd.options]
    (run.directory / "clusters.toml").write_text(
        '[[cluster]]\nlabel = "prod"\n' + "".join(f'{name} = "{value}"\n' for name, value in options),
        encoding="utf-8",
    )
    ran = run(
        *("--etcd-clusters=clusters.toml", "--etcd-check=mtls", "--etcd-waivers=w.toml"),
        *("--etcd-report=r.prom", "--etcd-report=r.md"),
        report=False,
    )
    assert ran.exit_code == 0, ran.out
    assert "CHECKS CLEAN (mtls) BUT FOR 1 WAIVED FAULT (mtls.no-certificate): 1 cluster: " in ran.verdict
    assert ran.verdict.endswith(": 1 clean in some checks")
    assert "CHECKS CLEAN (mtls) BUT FOR 1 WAIVED FAULT" in (run.directory / "r.md").read_text(
        encoding="utf-8"
    )
    assert 'verdict="SOME CHECKS CLEAN"} 1\n' in (run.directory / "r.prom").read_text(encoding="utf-8")


def test_a_waived_warning_is_no_fault(run: Runner, live: Live) -> None:
    """Without --etcd-strict, a warning fails nothing."""
    waiver = WAIVER.replace("mtls.no-certificate", "tls.cbc-suites")
    (run.directory / "w.toml").write_text(waiver, encoding="utf-8")
    ran = run(*live.options, "--etcd-waivers=w.toml")
    assert ran.result_of("tls.cbc-suites", live.client_label)["outcome"] == "waived"
    assert ran.report["verdict"] == "CLEAN"
    ran = run(*live.options, "--etcd-waivers=w.toml", "--etcd-check=tls.cbc-suites", "--etcd-strict")
    assert ran.report["verdict"].endswith("CLEAN (tls.cbc-suites) BUT FOR 1 WAIVED FAULT (tls.cbc-suites)")
