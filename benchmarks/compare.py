"""Compares this tool with TLS scanners on a clean etcd and ten broken ones: ``python benchmarks/compare.py``.

A tool finds what is wrong where its output on the broken cluster has a fact that its output on the clean one
has not. Three clean clusters with keys of their own are scanned first: a field in which these differ, as a
serial number or a time, is left out everywhere. ``benchmarks/comparison.md`` has what was measured once.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import runpy
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from counting_proxy import CountingProxy
from scanners import Fact, Scanner, Subject, scanners

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from zoo.members import ZOO  # noqa: E402
from zoo.model import Misconfigured  # noqa: E402

from pytest_etcdtls.etcd.cluster import Cluster, start_cluster  # noqa: E402
from pytest_etcdtls.etcd.config import ClusterConfig  # noqa: E402
from pytest_etcdtls.etcd.sources import EtcdSource  # noqa: E402

BROKEN = (
    "client-no-auth",
    "peer-no-auth",
    "client-auto-tls",
    "client-expired",
    "client-wrong-san",
    "triple-des",
    "http-beside-https",
    "one-ca-for-both-ports",
    "crl-in-pem",
    "peer-cn-not-in-force",
)
CLEAN_RUNS = 3
GONE = "no longer there"
BEGIN, END = "<!-- measured: written by benchmarks/compare.py -->", "<!-- end of what was measured -->"


@dataclass(frozen=True)
class Scan:
    """The run of one tool on one cluster."""

    facts: list[Fact]
    seconds: float
    processor: float
    connections: int


def main(arguments: Sequence[str] | None = None) -> int:
    """Scan every cluster with every tool, print the tables and write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--etcd", metavar="VERSION", help="which of those at hand (default: the newest 3.6)")
    parser.add_argument(
        "--peers", type=Path, help="keep the installed tools there (default: a temporary one)"
    )
    parser.add_argument("--json", type=Path, default=ROOT / "build" / "compare.json")
    parser.add_argument("--page", type=Path, help="write the tables into this page, between its markers")
    parser.add_argument("--only", action="append", help="only this tool; repeatable")
    parser.add_argument(
        "--clean-only",
        action="store_true",
        help="scan clean clusters once more, and keep all else of the JSON",
    )
    parser.add_argument(
        "--keep", action="store_true", help="keep what the JSON has of tools that are not run"
    )
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="compare-") as scratch:
        tools = scanners(options.peers or Path(scratch) / "peers", options.only or ())
        measured = _measure(tools, _etcd(options.etcd), Path(scratch), () if options.clean_only else BROKEN)
    if options.clean_only or options.keep:
        measured = _merged(
            json.loads(options.json.read_text(encoding="utf-8")), measured, clean_only=options.clean_only
        )
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(measured, indent=1), encoding="utf-8")
    text = "\n".join(tables(measured))
    print(text)
    if options.page:
        page = options.page.read_text(encoding="utf-8")
        before, after = page.partition(BEGIN)[0], page.partition(END)[2]
        options.page.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")
    return 0


def _merged(before: dict[str, Any], measured: dict[str, Any], *, clean_only: bool) -> dict[str, Any]:
    """Return the earlier tables with the results of this run, or of further clean clusters.

    A fact that any clean cluster has, or lacks as the broken one does, is not one about what is broken.
    """
    if not clean_only:
        return before | {"tools": before["tools"] | measured["tools"]}
    for name, tool in measured["tools"].items():
        known = before["tools"][name]
        known["clean"] = tool["clean"]
        for broken in known["broken"].values():
            broken["found"] = [
                fact
                for fact in broken["found"]
                if not any(_has(fields, fact) for fields in tool["clean_facts"])
            ]
    return before


def _has(fields: Mapping[str, Collection[str]], fact: Mapping[str, Any]) -> bool:
    if fact["value"] == GONE:
        return fact["what"] not in fields
    return fact["value"] in fields.get(fact["what"], ())


def _etcd(version: str | None) -> EtcdSource:
    binaries: dict[str, Path] = runpy.run_path(str(ROOT / "tests" / "conftest.py"))["find_binaries"]()
    found = [one for one in binaries if one.startswith(version or "3.6.")]
    if not found:
        sys.exit(f"etcd {version or '3.6'} is not at hand (there are {', '.join(binaries)}): run make etcd")
    return EtcdSource(kind="process", location=str(binaries[found[-1]]), version=found[-1], why="asked for")


def _measure(
    tools: Sequence[Scanner], source: EtcdSource, scratch: Path, broken: Sequence[str]
) -> dict[str, Any]:
    clean = Misconfigured(
        name="clean", what="mutual TLS on both ports, a CA for each", config=ClusterConfig()
    )
    members = {member.name: member for member in ZOO}
    scans: dict[str, dict[str, list[Scan]]] = defaultdict(lambda: defaultdict(list))
    for member in [clean] * CLEAN_RUNS + [members[name] for name in broken]:
        with start_cluster(member.config, source) as cluster:
            if member.after_start is not None:
                member.after_start(cluster)
            for tool in tools:
                scan = _scan(tool, cluster, scratch)
                scans[tool.name][member.name].append(scan)
                print(f"{member.name}: {tool.name}: {scan.seconds:.1f} s", file=sys.stderr, flush=True)
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "etcd": source.version,
        "clusters": {one.name: one.what for one in [clean, *(members[name] for name in broken)]},
        "tools": {
            tool.name: {
                "version": tool.version(),
                "rule": tool.rule,
                "given": tool.given,
                "clean": _costs(scans[tool.name]["clean"]),
                "clean_facts": [_by_field(scan) for scan in scans[tool.name]["clean"]],
                "broken": {
                    name: {
                        **_costs(scans[tool.name][name]),
                        "found": [asdict(fact) for fact in _new(scans[tool.name], name)],
                    }
                    for name in broken
                },
            }
            for tool in tools
        },
    }


def _scan(tool: Scanner, cluster: Cluster, scratch: Path) -> Scan:
    member = cluster.members[0]
    urls = {"client": member.client_url, "peer": member.peer_url}
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=scratch)))
        proxies = {
            role: stack.enter_context(CountingProxy(int(url.rpartition(":")[2])))
            for role, url in urls.items()
        }
        container = {"name": "etcd", "command": list(member.argv)}
        manifest = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "etcd"}}
        (directory / "etcd.yaml").write_text(
            yaml.safe_dump({**manifest, "spec": {"containers": [container]}}), encoding="utf-8"
        )
        subject = Subject(
            ports={role: proxy.port for role, proxy in proxies.items()},
            urls=urls,
            files={
                "client": {
                    "ca": member.file("server-ca.crt"),
                    "cert": member.file("client.crt"),
                    "key": member.file("client.key"),
                },
                "peer": {
                    "ca": member.file("peer-ca.crt"),
                    "cert": member.file("peer.crt"),
                    "key": member.file("peer.key"),
                },
            },
            manifest=directory / "etcd.yaml",
            directory=directory,
        )
        started, used = time.perf_counter(), _used()
        facts = tool.scan(subject)
        seconds, processor = time.perf_counter() - started, _used() - used
        return Scan(facts, seconds, processor, sum(proxy.connections for proxy in proxies.values()))


def _used() -> float:
    """Return the processor time of all programs that were run, which depends little on other load."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return children.ru_utime + children.ru_stime


def _costs(scans: Sequence[Scan]) -> dict[str, float]:
    return {
        "seconds": round(statistics.median(scan.seconds for scan in scans), 2),
        "processor": round(statistics.median(scan.processor for scan in scans), 2),
        "connections": statistics.median_low(scan.connections for scan in scans),
    }


def _new(scans: dict[str, list[Scan]], name: str) -> list[Fact]:
    """Return the facts of a broken cluster that no clean one has, in fields that do not vary among those."""
    clean = [_by_field(scan) for scan in scans["clean"]]
    stable = {
        what for what in set().union(*clean) if all(one.get(what) == clean[0].get(what) for one in clean)
    }
    unstable = set().union(*clean) - stable
    [scan] = scans[name]
    found = [
        fact
        for fact in scan.facts
        if fact.what not in unstable and fact.value not in clean[0].get(fact.what, ())
    ]
    seen = dict.fromkeys(sorted(found, key=lambda fact: not fact.rated))
    # A missing field says something too: who no longer asks for a certificate names no CA.
    present = {fact.what for fact in scan.facts}
    missing = [Fact(what, GONE, rated=False) for what in sorted(stable - present)]
    return [*seen, *missing]


def _by_field(scan: Scan) -> dict[str, list[str]]:
    fields: dict[str, set[str]] = defaultdict(set)
    for fact in scan.facts:
        fields[fact.what].add(fact.value)
    return {what: sorted(values) for what, values in fields.items()}


def tables(measured: dict[str, Any]) -> Iterator[str]:
    """Yield the tables of the page."""
    tools, clusters = measured["tools"], measured["clusters"]
    yield f"Measured on {measured['date']}: {measured['machine']}, etcd {measured['etcd']}."
    yield ""
    yield "| tool | version | inputs | what it calls bad (**rated**) |"
    yield "|---|---|---|---|"
    for name, tool in tools.items():
        yield f"| {name} | {tool['version']} | {tool['given']} | {tool['rule']} |"
    yield ""
    yield "| cluster | " + " | ".join(tools) + " |"
    yield "|---|" + "---|" * len(tools)
    for cluster in BROKEN:
        cells = [_cell(tool["broken"][cluster]["found"]) for tool in tools.values()]
        yield f"| `{cluster}`: {clusters[cluster]} | " + " | ".join(cells) + " |"
    yield ""
    yield "| a clean cluster, both ports | seconds of processor time | connections |"
    yield "|---|--:|--:|"
    for name, tool in tools.items():
        yield f"| {name} | {tool['clean'].get('processor', '')} | {tool['clean']['connections']} |"
    yield ""
    yield "What each tool reported first, in its own words:"
    for cluster in BROKEN:
        yield ""
        yield f"- `{cluster}`"
        for name, tool in tools.items():
            yield f"    - {name}: {_quote(tool['broken'][cluster]['found'])}"


def _cell(found: list[dict[str, object]]) -> str:
    rated = sum(bool(fact["rated"]) for fact in found)
    if rated:
        return f"**rated** ({rated})"
    return f"shown ({len(found)})" if found else "nothing"


def _quote(found: list[dict[str, object]]) -> str:
    if not found:
        return "the same as on a clean cluster"
    texts = [f"{fact['what']}: {fact['value']}".replace("`", "'").replace("|", "/") for fact in found[:2]]
    return "; ".join(f"`{text[:140]}`" for text in texts)


if __name__ == "__main__":
    sys.exit(main())
