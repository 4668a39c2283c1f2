"""The report as metrics: read by the parsers of Prometheus, and alerted on by the shipped rules."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from plugin.runs import Runner
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from starting import start_process

from pytest_etcdtls.cluster.cluster import Cluster
from pytest_etcdtls.cluster.config import ClusterConfig
from pytest_etcdtls.pki.profile import SERVER, PKIPlan
from pytest_etcdtls.report.openmetrics import HELP

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "prometheus"
RULES = EXAMPLES / "etcdtls.rules.yml"
BROKEN = ClusterConfig(
    client_cert_auth=False,
    trusted_ca_file=None,
    pki=PKIPlan(server=replace(SERVER, valid_for=timedelta(days=9))),
)


@pytest.fixture(scope="module")
def broken(newest_etcd: Path) -> Iterator[Cluster]:
    with start_process(BROKEN, newest_etcd) as cluster:
        yield cluster


@pytest.fixture
def text(run: Runner, broken: Cluster, tmp_path: Path) -> str:
    path = tmp_path / "etcd.prom"
    run(*_options(broken), "--etcd-label=prod", f"--etcd-report={path}", report=False)
    return path.read_text()


def _options(cluster: Cluster) -> Iterator[str]:
    files, [member] = cluster.pki_directory, cluster.members
    yield from ("--pyargs", "pytest_etcdtls", f"--etcd-endpoint={member.client_url}")
    for name in ("cacert=client-ca.crt", "cert=client.crt", "key=client.key"):
        option, file = name.split("=")
        yield f"--etcd-{option}={files / file}"


def _samples(text: str) -> dict[str, list[tuple[dict[str, str], float]]]:
    return {
        family.name: [(sample.labels, sample.value) for sample in family.samples]
        for family in text_string_to_metric_families(text)  # type: ignore[no-untyped-call]
    }


def test_metrics_say_what_the_verdict_says(text: str, broken: Cluster) -> None:
    found = _samples(text)
    assert set(found) == set(HELP)
    assert found["etcdtls_clean"] == [({"target": "prod"}, 0)]
    label = f"client-{broken.members[0].client_url.removeprefix('https://').replace(':', '-')}"
    faults = {(labels["listener"], labels["check"]) for labels, _ in found["etcdtls_faults"]}
    assert faults == {(label, "mtls.no-certificate")}
    accepted = {
        (labels["client"], labels["judged"]): value for labels, value in found["etcdtls_client_accepted"]
    }
    assert accepted["client", "as expected"] == 1
    assert accepted["none", "not as expected"] == 1
    ends = {labels["where"]: value for labels, value in found[next(n for n in HELP if "not_after" in n)]}
    [run_at] = [value for _, value in found["etcdtls_run_timestamp_seconds"]]
    assert 8 < (ends[f"served by {label}"] - run_at) / 86400 < 9


def test_a_list_of_clusters_has_the_metrics_of_each(run: Runner, broken: Cluster, tmp_path: Path) -> None:
    files, [member] = broken.pki_directory, broken.members
    entry = "".join(
        f"{name} = {json.dumps(str(value))}\n"
        for name, value in {
            "endpoints": member.client_url,
            "cacert": files / "client-ca.crt",
            "cert": files / "client.crt",
            "key": files / "client.key",
        }.items()
    )
    clusters, path = tmp_path / "clusters.toml", tmp_path / "etcd.prom"
    clusters.write_text("".join(f'[[cluster]]\nlabel = "{label}"\n{entry}' for label in ("one", "two")))
    check = "--etcd-check=mtls.no-certificate"
    run(
        "--pyargs",
        "pytest_etcdtls",
        f"--etcd-clusters={clusters}",
        check,
        f"--etcd-report={path}",
        report=False,
    )
    found = _samples(path.read_text())
    assert {labels["target"] for labels, _ in found["etcdtls_faults"]} == {"one", "two"}
    assert {(labels["target"], value) for labels, value in found["etcdtls_clean"]} == {("one", 0), ("two", 0)}


@pytest.mark.program("promtool")
def test_promtool_accepts_the_metrics(text: str) -> None:
    ended = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.program("promtool")
def test_the_rules_fire_on_the_metrics_of_a_broken_etcd(text: str, tmp_path: Path) -> None:
    """Evaluated by Prometheus' own engine, at the time of the run and half a day later."""
    [(_, run_at)] = _samples(text)["etcdtls_run_timestamp_seconds"]
    # A unit test of rules begins at the epoch: times are moved there.
    moved = re.sub(
        r"^(etcdtls_\w*timestamp_seconds\S*.*\}) (\S+)$",
        lambda match: f"{match[1]} {float(match[2]) - run_at:.0f}",
        text,
        flags=re.MULTILINE,
    )
    series = [line.rpartition(" ") for line in moved.splitlines() if not line.startswith("#")]
    written = [{"series": name, "values": f"{value}+0x720"} for name, _, value in series]
    names = {
        "EtcdTLSFault": (1, True),
        "EtcdTLSCertificateExpiresSoon": (1, True),
        "EtcdTLSNotJudged": (1, False),
    }
    firing = {name for name, (minutes, _) in names.items() if _fires(name, minutes, written, tmp_path)}
    assert firing == {name for name, (_, expected) in names.items() if expected}
    assert _fires("EtcdTLSNotJudged", 240, written, tmp_path)


def _fires(alert: str, minutes: int, series: list[dict[str, str]], directory: Path) -> bool:
    """Return whether an alert fires: promtool finds a difference from the expectation that it does not."""
    tested = {
        "rule_files": [str(RULES)],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": series,
                "alert_rule_test": [{"eval_time": f"{minutes}m", "alertname": alert, "exp_alerts": []}],
            }
        ],
    }
    path = directory / "test.yml"
    path.write_text(json.dumps(tested))
    ended = subprocess.run(
        ["promtool", "test", "rules", str(path)], capture_output=True, text=True, check=False
    )
    assert "parse error" not in ended.stderr + ended.stdout, ended.stderr
    return ended.returncode != 0


def test_the_dashboard_asks_for_metrics_that_are_written() -> None:
    board = json.loads((EXAMPLES / "dashboard.json").read_text())
    asked = {
        name
        for panel in board["panels"]
        for query in panel["targets"]
        for name in re.findall(r"etcdtls_\w+", query["expr"])
    }
    assert asked
    assert asked | set(re.findall(r"etcdtls_\w+", RULES.read_text())) <= set(HELP)
