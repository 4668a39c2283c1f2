"""Without a client certificate no refusal has a control, and the verdict is not CLEAN, in every report."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from plugin.live_etcd import Live
from plugin.runs import Runner

from pytest_etcdtls.checks.registry import select
from pytest_etcdtls.report.overview import FROM_OUTSIDE

ENDING = "no client certificate was given"
SOME = "--etcd-check=cert.trusted,mtls.no-certificate,mtls.trusted-client,mtls.expired"


@pytest.fixture(autouse=True)
def _without_etcdctl(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ETCDCTL_CACERT", "ETCDCTL_CERT", "ETCDCTL_KEY"):
        monkeypatch.delenv(name, raising=False)


OF = f"OF {len(select())} CHECKS"


def said(text: str) -> str:
    """Return the last line of a run on one line, without what it is about."""
    return re.sub(
        r" \(http\S+, etcd \S+\)$| \(http\S+\)$", "", " ".join(text.rpartition("etcd TLS: ")[2].split())
    )


def test_every_report_says_so(run: Runner, live: Live) -> None:
    formats = [f"--etcd-report=r.{suffix}" for suffix in ("md", "html", "sarif")]
    ran = run(f"--etcd-endpoint={live.client}", f"--etcd-peer-endpoint={live.peer}", *formats)
    assert ran.exit_code == 0, ran.out
    number = ran.counts["not-verified"]
    assert number > 1
    verdict = f"{FROM_OUTSIDE}: {ENDING}, {number} results not verified"
    assert said(ran.out) == verdict
    assert "accepts no good client" not in ran.out
    assert ran.report["verdict"] == verdict
    assert f"# etcd TLS: ⚠️ {verdict} (`{live.client}`" in (run.directory / "r.md").read_text(encoding="utf-8")
    assert f"<title>{verdict} · etcd TLS of {live.client}" in (run.directory / "r.html").read_text(
        encoding="utf-8"
    )
    sarif = json.loads((run.directory / "r.sarif").read_text(encoding="utf-8"))
    assert sarif["runs"][0]["properties"]["conclusion"] == verdict
    assert ran.result_of("mtls.no-certificate", live.client_label)["outcome"] == "conforms"


@pytest.mark.parametrize(
    ("check", "ending"),
    [
        ("mtls.no-certificate", f"{ENDING}, 1 {OF.lower()} (mtls.no-certificate)"),
        (
            "mtls.no-certificate,mtls.expired",
            f"{ENDING}, 1 {OF.lower()} (mtls.no-certificate), 1 result not verified",
        ),
    ],
)
def test_the_number_agrees(run: Runner, live: Live, check: str, ending: str) -> None:
    ran = run(f"--etcd-endpoint={live.client}", f"--etcd-check={check}")
    assert (ran.exit_code, said(ran.out)) == (0, f"{FROM_OUTSIDE}: {ending}")


def test_with_a_certificate_it_is_clean(run: Runner, live: Live) -> None:
    ran = run(*live.options, SOME)
    assert (ran.exit_code, said(ran.out)) == (
        0,
        f"3 {OF} CLEAN (cert.trusted, mtls.no-certificate, mtls.trusted-client)",
    )


def test_a_fault_or_no_verdict_comes_first(run: Runner, live: Live) -> None:
    """The CA file is the peers', and of the first checks one finds that. The others are not verified."""
    wrong = f"--etcd-cacert={live.files / 'peer-ca.crt'}"
    ran = run(f"--etcd-endpoint={live.client}", wrong, SOME)
    assert (ran.exit_code, said(ran.out)[:9]) == (1, "NOT CLEAN")
    ran = run(f"--etcd-endpoint={live.client}", "--etcd-check=mtls.trusted-client,mtls.expired")
    assert (ran.exit_code, said(ran.out)[:10]) == (1, "NO VERDICT")


def test_a_cluster_without_a_judged_check_fails(run: Runner, live: Live) -> None:
    """Checks of the whole cluster alone, none with a verdict."""
    ran = run(f"--etcd-endpoint={live.client}", "--etcd-check=advisory.go-runtime")
    assert set(ran.counts) <= {"not-verified"}
    assert ran.exit_code == 1
    assert "the whole cluster of live: no check has a verdict" in " ".join(ran.out.split())


def test_lists_of_clusters_say_the_same(run: Runner, live: Live, tmp_path: Path) -> None:
    named = f'endpoint = "{live.client}"\ncacert = "{live.files / "server-ca.crt"}"\n'
    certificate = f'cert = "{live.files / "client.crt"}"\nkey = "{live.files / "client.key"}"\n'
    clusters = tmp_path / "clusters.toml"
    clusters.write_text(
        f'[[cluster]]\nlabel = "outside"\n{named}\n[[cluster]]\nlabel = "inside"\n{named}{certificate}',
        encoding="utf-8",
    )
    page = tmp_path / "r.html"
    ran = run(f"--etcd-clusters={clusters}", SOME, f"--etcd-report={page}", report=False)
    verdict = f"{FROM_OUTSIDE}: 2 clusters: 1 without a client certificate, 1 clean in some checks"
    assert (ran.exit_code, said(ran.out)) == (0, verdict)
    assert re.search(rf"outside +{FROM_OUTSIDE}: {ENDING}", ran.out)
    assert re.search(r"inside +\d OF \d+ CHECKS CLEAN", ran.out)
    assert verdict in page.read_text(encoding="utf-8")
