"""Many clusters in one run: each with its own verdict, in every format, in parts and in workers."""

from __future__ import annotations

import json
import re
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema
import pytest
from connections import counted_connections
from plugin.live_etcd import Live
from plugin.runs import Runner
from starting import start_process
from unit.test_baseline import REPORT

from pytest_etcdtls.__main__ import main
from pytest_etcdtls.cluster.config import ClusterConfig
from pytest_etcdtls.document import schema

SOME = "--etcd-check=listener,mtls,cert.trusted"
WORDS = {"prod-eu-1": "CLEAN", "prod-open": "NOT CLEAN", "prod-silent": "NO VERDICT"}


@pytest.fixture(scope="module")
def clusters(newest_etcd: Path, live: Live, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A list of three: one does not answer, one is conforming, one accepts clients without a certificate."""
    config = ClusterConfig(
        client_cert_auth=False,
        trusted_ca_file=None,
        extra_flags=("--heartbeat-interval=100", "--election-timeout=500"),
    )
    path = tmp_path_factory.mktemp("fleet") / "clusters.toml"
    with start_process(config, newest_etcd) as open_, socket.create_server(("127.0.0.1", 0)) as silent:
        member = open_.members[0]
        anybody = Live(files=open_.pki_directory, client=member.client_url, peer=member.peer_url)
        path.write_text(
            f'[[cluster]]\nlabel = "prod-silent"\ntimeout = 1.0\n'
            f'endpoints = "https://127.0.0.1:{silent.getsockname()[1]}"\n'
            + _table("prod-eu-1", live)
            + _table("prod-open", anybody),
            encoding="utf-8",
        )
        yield path


def _table(label: str, one: Live) -> str:
    options = [text.removeprefix("--etcd-").split("=", 1) for text in one.options]
    return f'[[cluster]]\nlabel = "{label}"\n' + "".join(f'{name} = "{value}"\n' for name, value in options)


def _lines(path: Path) -> dict[str, dict[str, Any]]:
    """Return the report of each cluster in JSON Lines, each of which keeps the schema."""
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        document = json.loads(line)
        jsonschema.validate(document, schema())
        (said,) = document["fleet"]["verdicts"]
        assert said["label"] not in found
        found[said["label"]] = document
    return found


def _words(documents: dict[str, dict[str, Any]]) -> dict[str, str]:
    return {
        label: one["fleet"]["verdicts"][0]["verdict"].partition(":")[0] for label, one in documents.items()
    }


def _outcomes(documents: dict[str, dict[str, Any]]) -> set[tuple[str, str, str, str]]:
    return {
        (label, result["listener"], result["check"], result["outcome"])
        for label, one in documents.items()
        for result in one["results"]
    }


@dataclass
class Merged:
    """The result of ``python -m pytest_etcdtls merge``."""

    returncode: int
    stdout: str
    stderr: str


def _merge(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> Merged:
    capsys.readouterr()
    return Merged(main(["merge", *map(str, arguments)]), *capsys.readouterr())


def test_each_cluster_has_its_verdict_in_every_format(run: Runner, clusters: Path) -> None:
    names = ["x.jsonl", "x.json", "x.html"]
    reports = [f"--etcd-report={run.directory / name}" for name in names]
    said = "--etcd-metadata=ticket=OPS-17 <b>"
    ran = run(f"--etcd-clusters={clusters}", SOME, said, *reports, "--junitxml=x.xml", report=False)
    assert ran.exit_code == 1
    shown = re.findall(r"^(\d)/3 (\S+) +(CLEAN|NOT CLEAN|NO VERDICT)", ran.out, re.MULTILINE)
    assert {label: word for _, label, word in shown} == WORDS
    assert next(label for *_, label, _ in shown) != "prod-silent", "the others do not wait for it"
    summary = ran.out[ran.out.index("3 clusters: ") :].splitlines()
    assert len(summary) < 40
    assert summary[0] == "3 clusters: 1 not clean, 1 without a verdict, 1 clean"
    assert "  mtls.no-certificate (critical) on 1 cluster: prod-open" in summary
    assert summary[-1] == "etcd TLS: NOT CLEAN: 1 of 3 clusters"
    assert max(len(line) for line in summary if not line.startswith("report: ")) <= 80

    documents = _lines(run.directory / "x.jsonl")
    assert _words(documents) == WORDS
    assert {label: one["summary"]["faults"] for label, one in documents.items()} == {
        **{"prod-eu-1": 0, "prod-open": 1, "prod-silent": 0}
    }
    whole = json.loads((run.directory / "x.json").read_text(encoding="utf-8"))
    jsonschema.validate(whole, schema())
    assert [one["label"] for one in whole["targets"]] == [*documents]
    assert len(whole["results"]) == sum(len(one["results"]) for one in documents.values())
    assert [one["metadata"] for one in (whole, *documents.values())] == [{"ticket": "OPS-17 <b>"}] * 4
    page = (run.directory / "x.html").read_text(encoding="utf-8")
    assert all(label in page for label in WORDS)
    assert "set --client-cert-auth=true" in page
    assert "<dt>ticket</dt><dd>OPS-17 &lt;b&gt;</dd>" in page
    root = ElementTree.parse(run.directory / "x.xml")  # noqa: S314 - written by pytest
    cases = {case.get("name"): case for case in root.iter("testcase")}
    assert {
        name: [child.tag for child in case if child.tag != "properties"] for name, case in cases.items()
    } == {**{"prod-eu-1": [], "prod-open": ["failure"], "prod-silent": ["error"]}}


def test_parts_have_the_verdicts_of_the_whole_list(
    run: Runner, clusters: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = run.directory / "whole.jsonl"
    run(f"--etcd-clusters={clusters}", SOME, f"--etcd-report={whole}", report=False)
    codes, parts = [], [run.directory / f"{number}.jsonl" for number in range(1, 5)]
    for number, path in enumerate(parts, 1):
        ran = run(
            f"--etcd-clusters={clusters}",
            SOME,
            f"--etcd-shard={number}/4",
            f"--etcd-report={path}",
            *("--etcd-metadata=list=prod", f"--etcd-metadata=part={number}"),
            report=False,
        )
        codes.append(ran.exit_code)
    assert sorted(codes) == [0, 0, 1, 1], "one part is empty, which is no failure"
    outputs = [run.directory / name for name in ("all.jsonl", "all.json", "all.html", "all.xml")]
    merged = _merge(capsys, *parts, *(f"--output={path}" for path in outputs))
    assert (merged.returncode, merged.stderr) == (1, "")
    assert "3 clusters: 1 not clean, 1 without a verdict, 1 clean" in merged.stdout
    assert _outcomes(_lines(outputs[0])) == _outcomes(_lines(whole))
    together = json.loads(outputs[1].read_text(encoding="utf-8"))
    jsonschema.validate(together, schema())
    assert together["metadata"] == {"list": "prod"}, "each part has a number of its own"
    cases = ElementTree.parse(outputs[3]).iter("testcase")  # noqa: S314 - written just now
    assert {case.get("name"): [child.tag for child in case] for case in cases} == {
        **{"prod-eu-1": [], "prod-open": ["failure"], "prod-silent": ["error"]}
    }
    again = _merge(capsys, outputs[1])
    assert again.stdout.splitlines()[-1] == "etcd TLS: NOT CLEAN: 1 of 3 clusters"

    judged = [path for path in parts if path.read_text(encoding="utf-8")]
    twice = _merge(capsys, *judged, judged[0])
    assert twice.returncode == 4
    assert f"is in {judged[0]} and in {judged[0]}" in twice.stderr
    fewer = _merge(capsys, *(path for path in judged if "prod-open" not in path.read_text(encoding="utf-8")))
    assert fewer.returncode == 1
    assert "1 of 3 clusters are in no report" in " ".join(fewer.stdout.split())
    assert fewer.stdout.splitlines()[-1] == "etcd TLS: NOT COMPLETE: 1 of 3 clusters not judged"


def test_one_worker_judges_all_of_a_cluster(run: Runner, clusters: Path) -> None:
    alone, spread = run.directory / "alone.jsonl", run.directory / "spread.jsonl"
    run(f"--etcd-clusters={clusters}", SOME, f"--etcd-report={alone}", report=False)
    ran = run.pytester.run(
        *(
            sys.executable,
            "-m",
            "pytest",
            "--etcd-clusters=-",
            SOME,
            f"--etcd-report={spread}",
            "-n2",
            "--pyargs",
            "pytest_etcdtls",
        ),
        stdin=clusters.read_bytes(),
        timeout=300,
    )
    assert ran.ret == 1
    assert "2 workers [3 items]" in ran.stdout.str()
    before, after = _lines(alone), _lines(spread)
    assert _outcomes(after) == _outcomes(before)
    connections = [
        {label: one["summary"]["connections"] for label, one in found.items()} for found in (before, after)
    ]
    assert connections[0] == connections[1]


def test_no_cluster_gets_more_connections_than_planned(run: Runner, clusters: Path) -> None:
    listed = f"--etcd-clusters={clusters}"
    plan = run(listed, SOME, "--etcd-plan", report=False).out
    most = {int(port): int(number) for port, number in re.findall(r"https://\S+:(\d+): at most (\d+)", plan)}
    with counted_connections() as made:
        run(listed, SOME, report=False)
    by_port = {port: made[host, port] for host, port in made}
    assert set(by_port) == set(most)
    assert all(0 < by_port[port] <= most[port] for port in most), (by_port, most)


def test_selection_and_stopping(run: Runner, clusters: Path) -> None:
    listed = f"--etcd-clusters={clusters}"
    ran = run(listed, SOME, "etcdtls::prod-eu-1", report=False)
    assert (ran.exit_code, "1 cluster: 1 clean" in ran.out) == (0, True)
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


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--etcd-clusters=none.toml"], "none.toml does not exist"),
        (["--etcd-clusters=x.toml"], "cluster 1 ('a'): unknown key 'endpoits'; did you mean 'endpoints'?"),
        (
            ["--etcd-clusters=y.toml", "--etcd-endpoint=https://10.0.0.1:2379"],
            "--etcd-endpoint is about one cluster",
        ),
        (["--etcd-clusters=y.toml", "--etcd-baseline=b.json"], "--etcd-baseline is about one cluster"),
        (
            ["--etcd-clusters=y.toml", "--etcd-report=x.md"],
            "the format: .jsonl, .json, .html, .prom for --etcd-clusters",
        ),
        (["--etcd-clusters=y.toml", "--etcd-shard=5/4"], "there is no part 5 of 4"),
        (["--etcd-clusters=y.toml", "etcdtls::b"], "has that label"),
        (["--etcd-clusters=z.toml"], "cluster 'a': --etcd-cacert"),
        (["--etcd-shard=1/4"], "--etcd-shard names a part of --etcd-clusters"),
    ],
)
def test_an_unusable_list_is_refused_before_any_connection(
    run: Runner, arguments: list[str], said: str
) -> None:
    table = '[[cluster]]\nlabel = "a"\n'
    (run.directory / "x.toml").write_text(f'{table}endpoits = "https://10.0.0.1:2379"\n', encoding="utf-8")
    (run.directory / "y.toml").write_text(f'{table}endpoints = "https://10.0.0.1:2379"\n', encoding="utf-8")
    (run.directory / "z.toml").write_text(
        f'{table}endpoints = "https://10.0.0.1:2379"\ncacert = "none.crt"\n', encoding="utf-8"
    )
    ran = run(*arguments, report=False)
    assert ran.exit_code == 4
    assert said in " ".join(ran.err.split())
    assert "Traceback" not in ran.err


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "the reports have no cluster"),
        ("{", "line 1: no JSON: "),
        ('{"a": 1}\n', "it is JSON, and no report of pytest-etcdtls"),
        ("[" * 100_000, "nested deeper"),
        ('{"tool": {"name": "pytest-etcdtls"}, "schema_version": 1}\n', "tool: the key 'version' is missing"),
        (json.dumps(REPORT), "of a run without --etcd-clusters"),
        (
            json.dumps({**REPORT, "fleet": {"clusters": 1, "shard": "1/x", "verdicts": []}}),
            "fleet.shard: a text that matches ",
        ),
    ],
)
def test_a_file_that_is_no_report_is_not_merged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, said: str
) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(content, encoding="utf-8")
    merged = _merge(capsys, path)
    assert merged.returncode == 4
    assert said in merged.stderr
    assert "Traceback" not in merged.stderr
