"""The report as metrics, for the textfile collector of Prometheus' node_exporter.

The text is both OpenMetrics 1.0 and the older text format of Prometheus, which node_exporter reads: every
metric is a gauge. ``examples/prometheus`` has alert rules and a dashboard for these names.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Final

from pytest_etcdtls.checks.results import Outcome
from pytest_etcdtls.facts.recording import Recording
from pytest_etcdtls.pki.certificate import fingerprint
from pytest_etcdtls.report.document import Document
from pytest_etcdtls.report.json import document
from pytest_etcdtls.report.model import Report
from pytest_etcdtls.report.overview import CLEAN, KINDS, access, certificates, conclusion
from pytest_etcdtls.tls.attempt import Ending
from pytest_etcdtls.untrusted.printable import printable

HELP: Final[Mapping[str, str]] = {
    "etcdtls_clean": "1 if the verdict is CLEAN, else 0.",
    "etcdtls_verdict": "1 for the verdict of the run, 0 for the other ones.",
    "etcdtls_faults": "1 for each fault on a listener: a violation that follows from no other one.",
    "etcdtls_warnings": "1 for each fault on a listener that only warns.",
    "etcdtls_results": "Number of results by outcome.",
    "etcdtls_certificate_not_after_timestamp_seconds": "End of validity of a certificate that is served, "
    "held or trusted.",
    "etcdtls_client_accepted": "1 if a listener accepts the client in that TLS version, 0 if it refuses it.",
    "etcdtls_connections": "Number of connections that the run made.",
    "etcdtls_run_seconds": "Duration of the run.",
    "etcdtls_run_timestamp_seconds": "Time when the run started.",
    "etcdtls_build_info": "1. Versions of the tool and of etcd.",
}
"""The metrics, and what each is."""

Sample = tuple[str, dict[str, str], float]
"""A metric, its labels and its value."""


def render(report: Report, lost: list[str]) -> str:
    """Return the report as the text of a file, and append to ``lost`` the parts that are not in it."""
    return "".join(lines(samples(report, lost)))


def samples(report: Report, lost: list[str]) -> Iterator[Sample]:
    """Yield the samples of a report, and append to ``lost`` the parts that are not in it."""
    yield from _of_run(document(report, lost, evidence=False), conclusion(report).kind)
    for seen in report.seen:
        yield from _certificates(seen)
        yield from _clients(report, seen)


def lines(samples: Iterable[Sample]) -> Iterator[str]:
    """Yield the text of samples, those of a metric together."""
    by_metric: dict[str, dict[str, float]] = {name: {} for name in HELP}
    for name, labels, value in samples:
        by_metric[name][",".join(f'{label}="{_escaped(text)}"' for label, text in labels.items())] = value
    for name, values in by_metric.items():
        if values:
            yield f"# HELP {name} {HELP[name]}\n# TYPE {name} gauge\n"
        for text, value in values.items():
            yield f"{name}{{{text}}} {value:.15g}\n"
    yield "# EOF\n"


def _escaped(text: str) -> str:
    return printable(text).replace("\\", r"\\").replace('"', r"\"")


def _of_run(run: Document, verdict: str) -> Iterator[Sample]:
    """Yield what the JSON report of a run has, and the kind of its verdict."""
    labels = [target.label for target in run.targets]
    for target in run.targets:
        where = {"target": target.label, "version": run.tool.version, "etcd": target.etcd_version or ""}
        yield "etcdtls_build_info", where, 1
    outcomes = {(label, outcome): 0 for label in labels for outcome in Outcome}
    for result in run.results:
        outcomes[result.target, result.outcome] = outcomes.get((result.target, result.outcome), 0) + 1
    for (label, outcome), number in outcomes.items():
        yield "etcdtls_results", {"target": label, "outcome": outcome}, number
    for fault in run.faults:
        metric = "etcdtls_faults" if fault.outcome is Outcome.VIOLATES else "etcdtls_warnings"
        for listener in fault.listeners:
            where = {"target": fault.target, "listener": listener}
            yield metric, {**where, "check": fault.check, "severity": fault.severity}, 1
    of_run = {"target": "+".join(labels)}
    yield "etcdtls_clean", of_run, float(verdict == CLEAN)
    for kind in KINDS:
        yield "etcdtls_verdict", {**of_run, "verdict": kind}, float(verdict == kind)
    yield "etcdtls_connections", of_run, run.summary.connections
    yield "etcdtls_run_seconds", of_run, run.seconds
    yield "etcdtls_run_timestamp_seconds", of_run, datetime.fromisoformat(run.started_at).timestamp()


def _certificates(seen: Recording) -> Iterator[Sample]:
    for entry in certificates([seen]):
        for where in entry.where:
            labels = {
                "target": seen.target.label,
                "where": where,
                "subject": entry.subject,
                "fingerprint": fingerprint(entry.certificate),
            }
            end = entry.certificate.not_valid_after_utc.timestamp()
            yield "etcdtls_certificate_not_after_timestamp_seconds", labels, end


def _clients(report: Report, seen: Recording) -> Iterator[Sample]:
    table = access(report, seen)
    for row in table.rows:
        where = {"target": seen.target.label, "listener": row.listener.label}
        for identity, cells in zip(table.identities, row.cells, strict=True):
            for version, cell in cells.items():
                if cell.ending is not Ending.UNCLEAR:
                    labels = {**where, "client": identity, "tls": version, "judged": cell.mark}
                    yield "etcdtls_client_accepted", labels, float(cell.ending is Ending.SERVED)
