"""``python -m pytest_etcdtls``: ``merge`` reports of parts of a list of clusters, ``clean`` up."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.report import write_file
from pytest_etcdtls.report.cluster_reports import RENDERERS
from pytest_etcdtls.report.cluster_verdicts import (
    ClusterVerdict,
    FleetReport,
    fleet_summary,
    read_documents,
    verdict_of,
)
from pytest_etcdtls.untrusted import printable, some


def main(arguments: Sequence[str] | None = None) -> int:
    """Merge reports, print the summary over all clusters, and return the exit code of a run."""
    parser = argparse.ArgumentParser(prog="python -m pytest_etcdtls", allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True)
    merging = commands.add_parser(
        "merge",
        help="join the reports of the parts of --etcd-clusters",
        description="Join the reports that the parts of --etcd-clusters wrote, and print one summary. The "
        "exit code is that of a run: 0 if no cluster fails or is missing, else 1; 4 for a report that "
        "cannot be used.",
    )
    merging.add_argument(
        "reports", nargs="+", type=Path, metavar="REPORT", help="report of a part: .jsonl or .json"
    )
    merging.add_argument(
        "--output",
        action="append",
        default=[],
        type=Path,
        metavar="PATH",
        help=f"write one report, in the suffix's format: {', '.join(RENDERERS)}; .xml is JUnit. Repeatable.",
    )
    commands.add_parser(
        "clean",
        help="remove what killed runs have left on this host",
        description="Remove the etcds, directories with keys, containers and networks of runs that were "
        "killed together with their watchdog. The next run that starts an etcd does the same. What belongs "
        "to a running process, to another user or host, or to --etcd-keep is left.",
    )
    try:
        options = parser.parse_args(arguments)
    except SystemExit as ended:
        return 4 if ended.code else 0
    try:
        return clean() if options.command == "clean" else merge(options.reports, options.output)
    except UsageError as error:
        sys.stderr.write(f"ERROR: {error}\n")
        return 4


def clean() -> int:
    """Remove what dead owners have left, print it, and return the exit code."""
    from pytest_etcdtls.cluster.leftovers import remove_containers, remove_what_is_here

    said = [*remove_what_is_here(), *remove_containers()]
    for line in said:
        sys.stdout.write(f"{printable(line)}\n")
    if not said:
        sys.stdout.write("no killed run has left anything here\n")
    return 0


def merge(reports: Sequence[Path], outputs: Sequence[Path]) -> int:
    """Merge these reports and return the exit code.

    Raises:
        UsageError: if a report cannot be read or is no such report, two have the same cluster or are of
            different lists, or an output cannot be written.
    """
    for path in outputs:
        if path.suffix not in RENDERERS:
            raise UsageError(f"--output {path}: the suffix chooses the format: {', '.join(RENDERERS)}")
        if path in reports:
            raise UsageError(f"--output {path} is one of the reports that are merged: name another file")
    verdicts: dict[str, tuple[ClusterVerdict, Path]] = {}
    started = datetime.now(UTC)
    for path in reports:
        for cluster in read_documents(path):
            verdict = verdict_of(cluster)
            label, (_, before) = verdict.label, verdicts.get(verdict.label, (verdict, path))
            if label in verdicts:
                raise UsageError(
                    f"cluster {label!r} is in {before} and in {path}: pass one report of each part"
                )
            verdicts[label] = verdict, path
            started = min(started, datetime.fromisoformat(cluster.started_at))
    judged = [verdict for verdict, _ in verdicts.values()]
    known = {(verdict.place.clusters, verdict.place.shard.partition("/")[2]) for verdict in judged}
    if len(known) > 1:
        lists = ", ".join(f"{clusters} clusters in {of} parts" for clusters, of in sorted(known))
        raise UsageError(f"these are parts of different lists: {lists}. Pass the reports of one list")
    if not verdicts:
        raise UsageError("the reports have no cluster: pass those of the parts that have some")
    ((total, parts),) = known
    report = FleetReport(
        verdicts=judged,
        expected=max(len(judged), total),
        shard="",
        started_at=started,
        seconds=0.0,
        problems=[*_missing(judged, total, int(parts or 1))],
        documents=lambda: (cluster for path in reports for cluster in read_documents(path)),
    )
    for path in outputs:
        try:
            write_file(path, RENDERERS[path.suffix](report))
        except OSError as error:
            reason = printable(error.strerror or str(error))
            raise UsageError(f"--output {path} cannot be written ({reason}): check the path") from error
    width = min(shutil.get_terminal_size().columns, 120)
    for line in fleet_summary(
        report, width=width, written=[f"report: {path}" for path in outputs], status=int(report.fails)
    ):
        sys.stdout.write(f"{line.text}\n")
    return int(report.fails)


def _missing(verdicts: Sequence[ClusterVerdict], total: int, parts: int) -> Iterator[str]:
    """Yield how many clusters are in no report, and the parts without a report."""
    if len(verdicts) < total:
        covered = {verdict.place.shard.partition("/")[0] for verdict in verdicts}
        numbers = (str(number) for number in range(1, min(parts, 10_000) + 1))
        without = [f"{number}/{parts}" for number in numbers if number not in covered]
        none = f" no report has a cluster of part {some(without, 5)}, which may have none;" if without else ""
        yield (
            f"{total - len(verdicts)} of {total} clusters are in no report:{none} a part that was killed has "
            "fewer than it should. Run it again."
        )


if __name__ == "__main__":
    sys.exit(main())
