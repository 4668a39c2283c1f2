"""Many clusters in one run: each with its own verdict, in every format, in parts and in workers."""

from __future__ import annotations

import json
import re
import select
import signal
import socket
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema
import pytest
from accounting import counted_connections
from hostile.child_run import ChildRun
from plugin.live_etcd import Live
from plugin.runs import Runner

from pytest_etcdtls.report.document import schema

SOME = "--etcd-check=listener,mtls,cert.trusted"
WORDS = {"prod-eu-1": "CLEAN", "prod-open": "NOT CLEAN", "prod-silent": "NO VERDICT"}


@pytest.fixture
def clusters(live: Live, open_etcd: Live, tmp_path: Path) -> Iterator[Path]:
    """A list of three: one does not answer, one is conforming, one accepts clients without a certificate."""
    path = tmp_path / "clusters.toml"
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"https://127.0.0.1:{silent.getsockname()[1]}"
        path.write_text(
            f'[[cluster]]\nlabel = "prod-silent"\ntimeout = 1.0\nendpoints = "{endpoint}"\n'
            + live.table("prod-eu-1")
            + open_etcd.table("prod-open"),
            encoding="utf-8",
        )
        yield path


def _reports(directory: Path) -> dict[str, dict[str, Any]]:
    """Return the report of each cluster in a directory, each of which keeps the schema."""
    found = {}
    for path in directory.iterdir():
        document = json.loads(path.read_text(encoding="utf-8"))
        jsonschema.validate(document, schema())
        [target] = document["targets"]
        assert path.name == f"{target['label']}.json"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        found[target["label"]] = document
    return found


def _outcomes(documents: dict[str, dict[str, Any]]) -> set[tuple[str, str, str, str]]:
    return {
        (label, result["listener"], result["check"], result["outcome"])
        for label, one in documents.items()
        for result in one["results"]
    }


@pytest.fixture
def whole(run: Runner, clusters: Path) -> dict[str, dict[str, Any]]:
    """The reports of a run in one process, with those of all clusters beside them."""
    reports = [f"--etcd-report={run.directory}/{name}" for name in ("whole/", "x.html", "x.md")]
    said = "--etcd-metadata=ticket=OPS-17 <b>"
    ran = run(f"--etcd-clusters={clusters}", SOME, said, *reports, "--junitxml=x.xml", report=False)
    assert ran.exit_code == 1
    (run.directory / "out").write_text(ran.out, encoding="utf-8")
    return _reports(run.directory / "whole")


def test_each_cluster_has_its_verdict_in_every_format(
    run: Runner, whole: dict[str, dict[str, Any]], live: Live
) -> None:
    out, page, text = map(run.read, ("out", "x.html", "x.md"))
    shown = re.findall(r"^\d/3 (\S+) +(?:\d+ OF \d+ CHECKS )?(CLEAN|NOT CLEAN|NO VERDICT)", out, re.MULTILINE)
    assert dict(shown) == WORDS
    summary = out[out.index("\nfaults\n") + 1 :].splitlines()
    assert "  mtls.no-certificate (critical) on 1 cluster: prod-open" in summary
    assert "  listener.answers on 1 cluster: prod-silent: " in "\n".join(summary)
    verdict = "NOT CLEAN: 3 clusters: 1 not clean, 1 without a verdict, 1 clean in some checks"
    assert summary[-1] == f"etcd TLS: {verdict}"
    assert {
        label: re.sub(r"\d+ OF \d+ CHECKS (CLEAN) .*|:.*", r"\1", document["verdict"])
        for label, document in whole.items()
    } == WORDS
    assert "<dt>ticket</dt><dd>OPS-17 &lt;b&gt;</dd>" in page
    assert not re.search(r" (?:src|href)=\"(?!#main\")", page), "it links to nothing"
    for label, document in whole.items():
        connections, is_open = document["summary"]["connections"], label == "prod-open"
        assert document["summary"]["faults"] == is_open
        assert document["connections"]
        assert document["observations"]
        assert document["metadata"] == {"ticket": "OPS-17 <b>"}
        [row] = [line for line in page.splitlines() if f'<th scope="row">{label}</th>' in line]
        assert row.endswith(f"<td>{connections}</td></tr>")
        [line] = [line for line in text.splitlines() if line.startswith(f"| `{label}` |")]
        assert line.endswith(f"| {connections} |")
        ends = _ends(document)
        assert f"<td>{ends}</td>" in row
        assert f"| {ends} |" in line
        assert ("mtls.no-certificate" in row, "mtls.no-certificate" in line) == (is_open, is_open)
    root = ElementTree.parse(run.directory / "x.xml")  # noqa: S314 - written by pytest
    cases = {case.get("name"): case for case in root.iter("testcase")}
    assert {
        name: [child.tag for child in case if child.tag != "properties"] for name, case in cases.items()
    } == {"prod-eu-1": [], "prod-open": ["failure"], "prod-silent": ["error"]}
    assert "remedy: set --client-cert-auth=true" in "".join(cases["prod-open"].itertext())

    listed = whole["prod-eu-1"]
    alone = run(*live.options, "--etcd-label=prod-eu-1", SOME).report
    assert _outcomes({"": listed}) == _outcomes({"": alone})
    assert (listed["summary"], listed["targets"]) == (alone["summary"], alone["targets"])


def _ends(document: dict[str, Any]) -> str:
    """Return the date on which the first of the served certificates expires, if some were seen."""
    served = [fact for fact in document["observations"] if fact["kind"] == "served-chain"]
    ends = [certificate["not_after"] for fact in served for certificate in fact["certificates"]]
    return str(min(ends, default=""))[:10]


def test_parts_have_the_reports_of_the_whole_list(
    run: Runner, clusters: Path, whole: dict[str, dict[str, Any]]
) -> None:
    codes, last = [], []
    for number in range(1, 5):
        ran = run(
            f"--etcd-clusters={clusters}",
            SOME,
            f"--etcd-shard={number}/4",
            f"--etcd-report={run.directory}/parts/",
            report=False,
        )
        codes.append(ran.exit_code)
        last.append(ran.out.splitlines()[-1])
    assert sorted(codes) == [0, 0, 1, 1], "one part is empty, which is no failure"
    [empty] = [line for line in last if "nothing to judge" in line]
    assert re.fullmatch(r"etcd TLS: CLEAN: the list has no cluster in part ./4, .*", empty)
    parts = _reports(run.directory / "parts")
    assert _outcomes(parts) == _outcomes(whole)


def test_one_worker_judges_all_of_a_cluster(
    run: Runner, clusters: Path, whole: dict[str, dict[str, Any]]
) -> None:
    reports = [f"--etcd-report={run.directory}/{name}" for name in ("spread/", "y.html")]
    ran = run.pytester.run(
        *(sys.executable, "-m", "pytest", "--pyargs", "pytest_etcdtls"),
        *("--etcd-clusters=-", SOME, "-n2", *reports),
        stdin=clusters.read_bytes(),
        timeout=300,
    )
    assert ran.ret == 1
    assert "2 workers [3 items]" in ran.stdout.str()
    assert all(label in run.read("y.html") for label in WORDS)
    spread = _reports(run.directory / "spread")
    assert _outcomes(spread) == _outcomes(whole)
    assert [spread[label]["summary"]["connections"] for label in WORDS] == [
        whole[label]["summary"]["connections"] for label in WORDS
    ]


def test_a_report_that_cannot_be_written_fails_the_run(run: Runner, clusters: Path) -> None:
    directory = run.directory / "x"
    (directory / "prod-eu-1.json").mkdir(parents=True)
    ran = run(
        f"--etcd-clusters={clusters}",
        SOME,
        "etcdtls::prod-eu-1",
        f"--etcd-report={directory}/",
        report=False,
    )
    assert ran.exit_code == 1
    assert "1/1 prod-eu-1" in ran.out
    assert f"{directory}/prod-eu-1.json could not be written: " in " ".join(ran.out.split())


def test_a_waiver_of_a_list_is_stale_if_no_cluster_needs_it(run: Runner, clusters: Path) -> None:
    options = (
        f"--etcd-clusters={clusters}",
        SOME,
        run.waive("mtls.no-certificate", "cert.trusted", "tls.alpn-h2"),
    )
    whole = run(*options, report=False)
    stale = (
        f"Stale waiver: cert.trusted on *: the check conforms now ({run.directory}/waivers.toml, waiver 2)"
    )
    assert stale in " ".join(whole.out.split())
    assert "waiver 1" not in whole.out
    assert "waiver 3: its check has no verdict on a listener that it matches" in " ".join(whole.out.split())
    assert re.search(
        r"prod-open +\d+ OF \d+ CHECKS CLEAN \(cert.trusted, listener, mtls\) BUT",
        whole.out,
    )
    part = run(*options, "etcdtls::prod-eu-1", report=False)
    assert (part.exit_code, "Stale waiver" in part.out) == (0, False)


def test_no_cluster_gets_more_connections_than_planned(run: Runner, clusters: Path) -> None:
    listed = f"--etcd-clusters={clusters}"
    plan = run(listed, SOME, "--etcd-plan", report=False).out
    most = {int(port): int(number) for port, number in re.findall(r"https://\S+:(\d+): at most (\d+)", plan)}
    with counted_connections() as made:
        # pytest-socket puts the method of sockets that is counted back after the first item.
        run(listed, SOME, "-p", "no:socket", report=False)
    by_port = {port: made[host, port] for host, port in made}
    assert set(by_port) == set(most)
    assert all(0 < by_port[port] <= most[port] for port in most), (by_port, most)


def test_an_interrupted_list_shows_what_is_known(run: Runner, live: Live) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=64) as silent:
        endpoint = f"https://127.0.0.1:{silent.getsockname()[1]}"
        listed = "".join(
            f'[[cluster]]\nlabel = "{label}"\ntimeout = 600.0\nendpoints = "{endpoint}"\n'
            for label in ("hangs", "last")
        )
        (run.directory / "list.toml").write_text(live.table("judged") + listed, encoding="utf-8")
        reports = [f"--etcd-report={name}" for name in ("x.prom", "x.md", "each/")]
        child = ChildRun(run.directory, ["--etcd-clusters=list.toml", "--no-header", SOME, *reports])
        child.wait_until(lambda: bool(select.select([silent], [], [], 0)[0]))  # it is contacted
        child.send(signal.SIGINT)
        ended = child.end()
    out = ended.output
    assert (ended.exit_code, "KeyboardInterrupt" in out) == (2, False)
    assert re.search(r"^2/3 hangs +NO VERDICT: interrupted, \d+ checks not run$", out, re.MULTILINE)
    assert "  1 cluster: last: not judged: the run was interrupted" in out
    counted = "3 clusters: 1 without a verdict, 1 clean in some checks, 1 not judged, interrupted"
    assert out.splitlines()[-1] == f"etcd TLS: NOT COMPLETE: {counted}"
    assert "NOT COMPLETE" in run.read("x.md").splitlines()[0]
    assert "interrupted" in run.read("x.md").splitlines()[0]
    documents = _reports(run.directory / "each")
    assert {label: document["partial"] for label, document in documents.items()} == {
        "judged": False,
        "hangs": True,
    }
    made = sum(document["summary"]["connections"] for document in documents.values())
    assert f"\n{made} connections in " in out
    assert "| `last` | NO VERDICT: not judged: the run was interrupted |" in run.read("x.md")
    assert {
        label: f'etcdtls_verdict{{target="{label}",verdict="NO VERDICT"}} 1' in run.read("x.prom")
        for label in ("judged", "hangs", "last")
    } == {"judged": False, "hangs": True, "last": True}


def test_selection_and_stopping(run: Runner, clusters: Path) -> None:
    listed = f"--etcd-clusters={clusters}"
    ran = run(listed, SOME, "etcdtls::prod-eu-1", report=False)
    assert (ran.exit_code, ": 1 of 3 clusters: 1 clean in some checks" in ran.out) == (0, True)
    ran = run(listed, SOME, "-x", "-k", "not silent", report=False)
    assert ran.exit_code in (1, 2)
    ran = run(listed, SOME, "-k", "nothing", report=False)
    assert ran.exit_code == 1
    assert "no cluster was judged" in ran.out
    ran = run(listed, "--collect-only", "-q", report=False)
    planned = run(listed, SOME, "--etcd-plan", report=False).out
    assert {label for label in WORDS if f"{label} client-127.0.0.1-" in planned} == {*WORDS}
    ids = {line for line in ran.out.splitlines() if "::" in line}
    assert ids == {f"etcdtls::{label}" for label in WORDS}
