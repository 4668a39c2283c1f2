"""The reports of ``--etcd-clusters``: of each cluster, and of all of them in every format.

Each cluster has a report of its own, a line of JSON. Only its verdict stays in memory, so a report of all
clusters is made from a file with these lines, one at a time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from msgspec.structs import asdict, replace

from pytest_etcdtls.document import SCHEMA_VERSION, ClusterEntry, Document, Fleet, FleetPlace, Summary
from pytest_etcdtls.report.cluster_verdicts import FleetReport, fleet_of, full_text
from pytest_etcdtls.report.json import document, encoded
from pytest_etcdtls.report.model import Report, tool
from pytest_etcdtls.report.overview import conclusion, plural
from pytest_etcdtls.report.text import utc
from pytest_etcdtls.untrusted import some

if TYPE_CHECKING:
    from pytest_etcdtls.report.openmetrics import Sample


def cluster_document(report: Report, label: str, place: FleetPlace) -> Document:
    """Return the report of one cluster, without single observations and connections."""
    verdict = ClusterEntry(
        label=label,
        verdict=conclusion(report, report.problems),
        seconds=round(report.seconds, 3),
        problems=tuple(report.problems),
    )
    fleet = Fleet(clusters=place.clusters, shard=place.shard, verdicts=(verdict,))
    return replace(document(report, evidence=False), fleet=fleet)


def without_verdict(label: str, reason: str, place: FleetPlace) -> Document:
    """Return the report of a cluster that has no verdict for a reason of our own."""
    report = Report(
        started_at=datetime.now(UTC),
        seconds=0.0,
        partial=False,
        seen=(),
        results=(),
        problems=(reason,),
        status=1,
    )
    return cluster_document(report, label, place)


def as_line(cluster: Document) -> str:
    """Return the report of one cluster as a line of text."""
    return encoded(cluster, indent=None) + "\n"


def html(report: FleetReport) -> Iterator[str]:
    """Yield the parts of one HTML page, complete without scripts, other files or a network."""
    from pytest_etcdtls.report.html import environment  # Jinja2 is imported for this format only

    template = environment().get_template("clusters.html.j2")
    return template.stream(report=report, tool=tool(), plural=plural, some=some)


def junit(report: FleetReport) -> Iterator[str]:
    """Yield a JUnit report: a test case for each cluster."""
    from xml.etree import ElementTree  # for reports that are merged only

    suite = ElementTree.Element(
        "testsuite",
        name="etcdtls",
        tests=str(len(report.verdicts)),
        failures=str(sum(verdict.kind == "NOT CLEAN" for verdict in report.verdicts)),
        errors=str(sum(verdict.kind != "NOT CLEAN" for verdict in report.failing)),
        time=f"{report.seconds:.3f}",
        timestamp=utc(report.started_at),
    )
    for verdict in report.verdicts:
        attributes = {"classname": "etcdtls", "name": verdict.label, "time": f"{verdict.seconds:.3f}"}
        case = ElementTree.SubElement(suite, "testcase", attributes)
        if not verdict.passes:
            tag = "failure" if verdict.kind == "NOT CLEAN" else "error"
            ElementTree.SubElement(case, tag, message=verdict.line).text = "\n".join(full_text(verdict))
    root = ElementTree.Element("testsuites")
    root.append(suite)
    yield '<?xml version="1.0" encoding="utf-8"?>\n'
    yield ElementTree.tostring(root, encoding="unicode") + "\n"


def json_lines(report: FleetReport) -> Iterator[str]:
    """Yield the report of each cluster, a line each."""
    yield from map(as_line, report.documents())


def json_report(report: FleetReport) -> Iterator[str]:
    """Yield the parts of one JSON report of all clusters; one cluster is in memory at a time."""
    head = {
        "schema_version": SCHEMA_VERSION,
        "tool": tool(),
        "started_at": utc(report.started_at),
        "seconds": round(report.seconds, 3),
        "partial": bool(report.missing),
        "metadata": report.metadata,
        "observations": [],
        "connections": [],
    }
    yield encoded(head, indent=None)[:-1]
    summary: Counter[str] = Counter(dict.fromkeys(Summary.__struct_fields__, 0))
    verdicts: list[ClusterEntry] = []
    places: dict[tuple[int, str], None] = {}
    for cluster in report.documents():
        fleet = fleet_of(cluster)
        places[fleet.clusters, fleet.shard] = None
        summary.update(asdict(cluster.summary))
        (verdict,) = fleet.verdicts
        counted = cluster.summary
        verdicts.append(
            replace(verdict, connections=counted.connections, not_collected=counted.not_collected)
        )
    for name in ("targets", "results", "faults"):
        yield f', "{name}": ['
        entries = (entry for cluster in report.documents() for entry in getattr(cluster, name))
        for number, entry in enumerate(entries):
            yield (",\n" if number else "\n") + encoded(entry, indent=None)
        yield "]"
    clusters, shard = next(iter(places), (max(1, report.expected), report.shard or "1/1"))
    whole = Fleet(clusters=clusters, shard=shard if len(places) == 1 else "1/1", verdicts=tuple(verdicts))
    yield f', "summary": {encoded(Summary(**summary), indent=None)}'
    yield f', "fleet": {encoded(whole, indent=None)}}}\n'


def metrics(report: FleetReport) -> Iterator[str]:
    """Yield the metrics of all clusters; certificates and clients are in a run on one cluster alone."""
    from pytest_etcdtls.report.openmetrics import lines, samples_of  # for this format only

    def samples() -> Iterator[Sample]:
        for cluster in report.documents():
            (verdict,) = fleet_of(cluster).verdicts
            yield from samples_of(cluster, verdict.label)

    yield from lines(samples())


RENDERERS: Final = {
    ".jsonl": json_lines,
    ".json": json_report,
    ".html": html,
    ".xml": junit,
    ".prom": metrics,
}
"""What yields the text of a report of several clusters, by the suffix of the file."""
