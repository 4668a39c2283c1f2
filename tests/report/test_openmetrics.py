"""The report as metrics: read by the parser of Prometheus, and alerted on by the shipped rules."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from plugin.live_etcd import Live
from plugin.runs import Runner
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from starting import start_process

from pytest_etcdtls.etcd.cluster import Cluster
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.pki.profile import SERVER, PKIPlan
from pytest_etcdtls.report.openmetrics import HELP, lines
from pytest_etcdtls.report.overview import KINDS
from pytest_etcdtls.untrusted.printable import printable

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
    run(*Live.of(broken).options, "--etcd-label=prod", f"--etcd-report={path}", report=False)
    return path.read_text(encoding="utf-8")


def _samples(text: str) -> dict[str, list[tuple[dict[str, str], float]]]:
    return {
        family.name: [(sample.labels, sample.value) for sample in family.samples]
        for family in text_string_to_metric_families(text)  # type: ignore[no-untyped-call]
    }


def test_metrics_say_what_the_verdict_says(text: str, broken: Cluster) -> None:
    found = _samples(text)
    assert set(found) == set(HELP)
    assert found["etcdtls_clean"] == [({"target": "prod"}, 0)]
    verdicts = {labels["verdict"]: value for labels, value in found["etcdtls_verdict"]}
    assert (sorted(verdicts), [verdict for verdict in verdicts if verdicts[verdict]]) == (
        sorted(KINDS),
        ["NOT CLEAN"],
    )
    label = Live.of(broken).client_label
    faults = {(labels["listener"], labels["check"]) for labels, _ in found["etcdtls_faults"]}
    assert faults == {(label, "mtls.no-certificate")}
    accepted = {
        (labels["client"], labels["judged"]): value
        for labels, value in found["etcdtls_client_accepted"]
        if labels["listener"] == label
    }
    assert accepted["client", "as expected"] == 1
    assert accepted["none", "not as expected"] == 1
    ends = {labels["where"]: value for labels, value in found[next(n for n in HELP if "not_after" in n)]}
    [run_at] = [value for _, value in found["etcdtls_run_timestamp_seconds"]]
    assert 8 < (ends[f"served by {label}"] - run_at) / 86400 < 9


@pytest.mark.program("promtool")
def test_promtool_accepts_the_metrics(text: str) -> None:
    ended = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, encoding="utf-8", check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")


HOURS = 60
"""Minutes, the interval of the tests of rules."""
FAULT = 'etcdtls_faults{target="prod",listener="client",check="mtls.no-certificate",severity="critical"}'
END = 'etcdtls_certificate_not_after_timestamp_seconds{target="prod",where="served",subject="CN=a"}'
RUN = 'etcdtls_run_timestamp_seconds{target="prod"}'


def _verdict(kind: str) -> str:
    return f'etcdtls_verdict{{target="prod",verdict="{kind}"}}'


@pytest.mark.program("promtool")
@pytest.mark.parametrize(
    ("alert", "series", "minute", "fires"),
    [
        ("EtcdTLSFault", {FAULT: "1x9"}, 1, True),
        ("EtcdTLSFault", {_verdict("CLEAN"): "1x9"}, 1, False),
        ("EtcdTLSFault", {FAULT: "1x9 stale", _verdict("NO VERDICT"): "0x9 1x99"}, 30, True),
        ("EtcdTLSFault", {FAULT: "1x9 stale", _verdict("NO VERDICT"): "0x9 1x999"}, 4 * HOURS, False),
        ("EtcdTLSCertificateExpiresSoon", {END: f"{29 * 86400}x9"}, 1, True),
        ("EtcdTLSCertificateExpiresSoon", {END: f"{31 * 86400}x9"}, 1, False),
        ("EtcdTLSNoVerdict", {_verdict("NO VERDICT"): "1x999"}, 2 * HOURS, False),
        ("EtcdTLSNoVerdict", {_verdict("NO VERDICT"): "1x999"}, 3 * HOURS, True),
        ("EtcdTLSNoVerdict", {_verdict("NO VERDICT"): "1x60 0x60 1x999"}, 4 * HOURS, False),
        ("EtcdTLSNoVerdict", {_verdict("NO FAULT FOUND FROM OUTSIDE"): "1x999"}, 4 * HOURS, False),
        ("EtcdTLSNotJudged", {RUN: "0x999"}, 3 * HOURS, False),
        ("EtcdTLSNotJudged", {RUN: "0x999"}, 3 * HOURS + 1, True),
        ("EtcdTLSNotJudged", {RUN: "0x9 stale"}, 9 * HOURS, True),
        ("EtcdTLSNotJudged", {RUN: "0x60 3600x60 7200x60 10800x60"}, 4 * HOURS, False),
    ],
)
def test_when_a_rule_fires(
    alert: str, series: dict[str, str], minute: int, fires: bool, tmp_path: Path
) -> None:
    """Evaluated by Prometheus' own engine: promtool finds a difference from no alert."""
    tested = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "alert_rule_test": [{"eval_time": f"{minute}m", "alertname": alert, "exp_alerts": []}],
    }
    path = tmp_path / "test.yml"
    document = {"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": [tested]}
    path.write_text(json.dumps(document), encoding="utf-8")
    ended = subprocess.run(
        ["promtool", "test", "rules", str(path)], capture_output=True, encoding="utf-8", check=False
    )
    assert "parse error" not in ended.stderr + ended.stdout, ended.stderr
    assert (ended.returncode != 0) is fires


def test_the_dashboard_asks_for_metrics_that_are_written() -> None:
    board = json.loads((EXAMPLES / "dashboard.json").read_text(encoding="utf-8"))
    asked = {
        name
        for panel in board["panels"]
        for query in panel["targets"]
        for name in re.findall(r"etcdtls_\w+", query["expr"])
    }
    assert asked
    assert asked | set(re.findall(r"etcdtls_\w+", RULES.read_text(encoding="utf-8"))) <= set(HELP)


@pytest.mark.parametrize(
    "hostile",
    ['"', "\\", "\n", "\r", 'a",check="b', "} 1\netcdtls_clean 1", "\x1b[31m", "\ud800", "# EOF", "\\n"],
)
def test_a_label_is_data(hostile: str) -> None:
    text = "".join(lines([("etcdtls_clean", {"target": hostile}, 1)]))
    assert text.encode().count(b"\n") == 4
    [(labels, _)] = _samples(text)["etcdtls_clean"]
    assert labels == {"target": printable(hostile)}
