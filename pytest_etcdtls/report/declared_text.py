"""Declared, effective and observed in lines for a terminal, and where a reader of flags is wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from pytest_etcdtls.report.benchmark import Comparison
from pytest_etcdtls.report.declared import ListenerRow
from pytest_etcdtls.report.text import Line, bold, wrapped

_INDENT = "    "


def declared_lines(row: ListenerRow, width: int) -> Iterator[Line]:
    """Yield what was declared for a listener, what etcd makes of it, and what was observed."""
    settings = [setting.written for setting in row.declared]
    files = Counter(setting.place.file for setting in row.declared)
    where = f" ({', '.join(files)})" if files else ""
    for word, text in (
        ("declared", (", ".join(settings) or "nothing") + where),
        ("effective", row.effective),
        ("observed", row.observed or "not asked"),
    ):
        yield from wrapped(text, width, f"{_INDENT}{word + ':':<11}")


def benchmark_lines(comparisons: Iterable[Comparison], width: int, *, every: bool) -> Iterator[Line]:
    """Yield what a reader of flags says, and where the wire says the opposite.

    Args:
        comparisons: of one target.
        width: characters per line.
        every: show every item, not only those that differ.
    """
    judged = [comparison for comparison in comparisons if comparison.wire is not None]
    if not judged:
        return
    passed = sum(comparison.flags.passes for comparison in judged)
    differing = [comparison for comparison in judged if comparison.differs]
    yield Line()
    yield bold("CIS Kubernetes Benchmark, section 2")
    yield from wrapped(
        f"a reader of flags passes {passed} of {len(judged)} items; the wire says the opposite of "
        f"{len(differing) or 'none'}",
        width,
        "  ",
    )
    for comparison in judged if every else differing:
        yield from _comparison(comparison, width)


def _comparison(comparison: Comparison, width: int) -> Iterator[Line]:
    flags = comparison.flags
    says = f"the flags {'pass' if flags.passes else 'fail'} ({', '.join(flags.reads)})"
    yield from wrapped(
        f"{flags.item} {flags.title}, of {comparison.member}: {says}, the wire {comparison.wire} "
        f"({', '.join(comparison.checks)})",
        width,
        "  ",
        _INDENT,
    )
