"""Compares what two versions of the code judge: ``python -m verdicts.compare OLD.json.gz NEW.json.gz``.

``tests`` must be on the path. A difference is printed once, with the number of subjects that have it and the
first of them. Exit code 1 if there is one that :data:`TOLERATED` does not explain.
"""

from __future__ import annotations

import argparse
import difflib
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from verdicts.files import read


@dataclass(frozen=True, order=True)
class Difference:
    """A value that is not the same.

    Attributes:
        rank: place of its kind, the gravest first.
        kind: ``outcome``, ``missing check`` ...
        place: where in the judgement of a subject: the listener and the check, or the part of a report.
        old: before; empty if it is new.
        new: after; empty if it is missing.
        results: the whole results of which it is a part, before and after.
    """

    rank: int
    kind: str
    place: str
    old: str
    new: str
    results: str = field(default="", compare=False)

    @classmethod
    def of(cls, kind: str, place: str, old: object, new: object) -> Difference:
        """Return the difference of a kind, which is the name of a field or one of :data:`KINDS`."""
        rank = KINDS.index(kind) if kind in KINDS else len(KINDS)
        return cls(rank, kind, place, _shown(old), _shown(new))


MOVED = "moved line"
KINDS = (
    *("missing subject", "new subject", "missing check", "new check", "outcome", "cause", "level", "reason"),
    *("findings", "remediation", "exit code", "connections", "plan"),
)
"""Kinds of differences, the gravest first; other fields follow."""


def _of_gateway(_: str, difference: Difference) -> bool:
    """Whether the gateway reports a closed connection in place of the alert that etcd sent before."""
    if difference.kind not in ("findings", "remediation"):
        return False
    is_closed = re.search(r"broken pipe|connection reset|EOF", difference.results)
    return difference.place.endswith(("api.gateway-works", *_FIELDS_OF_GATEWAY)) and is_closed is not None


_FIELDS_OF_GATEWAY = tuple(
    f"api.gateway-works / 0 / {name}" for name in ("message", "expected", "observed", "remediation")
)


def _by_few_connections(_: str, difference: Difference) -> bool:
    """Whether all that differs are numbers of connections, by a repeated attempt or two."""
    if difference.kind in ("plan", MOVED):
        return False
    if difference.kind == "connections" and {difference.old, difference.new} <= {"", "1", "2"}:
        return "once more" in difference.place
    pattern = r"\d+" if difference.kind in ("connections", "report") else r"\d+(?= connections)"
    if difference.kind == "report" and not difference.place.endswith("connections"):
        return False
    old, new = (re.findall(pattern, text) for text in (difference.old, difference.new))
    few = len(old) == len(new) and all(
        abs(int(one) - int(two)) <= 2 for one, two in zip(old, new, strict=True)
    )
    return few and re.sub(pattern, "", difference.old) == re.sub(pattern, "", difference.new)


_UNORDERED = re.compile(r"valid, \d|^\d+/\d+ |^=== .*clean")
"""Lines and values of which the order is that in which threads have ended."""


def _by_order(_: str, difference: Difference) -> bool:
    """Whether all that differs is the order of certificates, or of clusters of a list."""
    old, new = difference.old, difference.new
    return difference.kind == MOVED or (bool(_UNORDERED.search(old)) and _canonical(old) == _canonical(new))


def _canonical(text: str) -> str:
    """Return the words of a text in an order of its own."""
    return " ".join(sorted(re.findall(r"[^\s,;]+", text)))


def _of_experiment(_: str, difference: Difference) -> bool:
    """Whether an experiment that sends requests for some time has sent or lost another number of them."""
    if difference.place.endswith("connections / elsewhere"):
        return all(re.fullmatch(r"\d{3,}", number) for number in (difference.old, difference.new))
    return difference.kind == "findings" and "lifecycle.rotation-loses-no-request / 0" in difference.place


def _of_reset(subject: str, difference: Difference) -> bool:
    """Whether a server that breaks off was reset before its alert or answer was read, or the reverse.

    Linux discards what has arrived when a server closes with data unread. Go's servers, and so etcd, read on.
    """
    if not subject.startswith("broken/"):
        return False
    if difference.kind == "connections":
        return abs(int(difference.new or 0) - int(difference.old or 0)) <= 6
    if difference.kind == "outcome" and not {difference.old, difference.new} <= {"conforms", "inconclusive"}:
        return False
    ended = re.search(r"connection reset|Connection reset|end of stream", difference.results)
    return difference.kind in ("outcome", "reason") and ended is not None


TOLERATED: Mapping[str, Callable[[str, Difference], bool]] = {
    "the gateway dials etcd, and sees the alert or the end of the connection first": _of_gateway,
    "an attempt that ended unclear, or the gateway's request, was repeated": _by_few_connections,
    "threads end in any order, and certificates in the same second": _by_order,
    "an experiment sends requests until its time is over": _of_experiment,
    "a server of ours breaks off, and the kernel discards what it has sent, or not yet": _of_reset,
}
"""What differs between two runs of the same code on one cluster: why, and whether a difference is that."""


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> Differences:
    """Return every difference with the subjects that have it, by what tolerates it (empty: nothing).

    Args:
        old: the subjects of the older file, by name.
        new: those of the newer one.
    """
    found: Differences = defaultdict(lambda: defaultdict(list))
    for name in sorted({*old, *new}):
        if name not in new:
            here = [Difference.of("missing subject", "", name, "")]
        elif name not in old:
            here = [Difference.of("new subject", "", "", name)]
        else:
            here = list(_of_subject(old[name], new[name]))
        for difference in here:
            why = next((why for why, tolerates in TOLERATED.items() if tolerates(name, difference)), "")
            found[why][difference].append(name)
    return found


Differences = dict[str, dict[Difference, list[str]]]


def _of_subject(old: Mapping[str, Any], new: Mapping[str, Any], place: str = "") -> Iterator[Difference]:
    """Yield what differs in the judgements of a subject; they are nested by the way in which it is judged."""
    for part in (*old, *(part for part in new if part not in old)):
        before, after = old.get(part), new.get(part)
        where = f"{place} {part}".strip()
        if before == after:
            continue
        if part == "results" and before is not None and after is not None:
            yield from _of_results(before, after, place)
        elif isinstance(before, Mapping) and isinstance(after, Mapping):
            if part in ("connections", "observations", "report"):
                yield from _of_values(part, where, before, after)
            else:
                yield from _of_subject(before, after, where)
        elif (lines := _lines(before)) is not None and (new_lines := _lines(after)) is not None:
            yield from _of_text(part, where, lines, new_lines)
        else:
            yield from _of_values(part, where, before, after)


def _of_results(old: Mapping[str, Any], new: Mapping[str, Any], place: str) -> Iterator[Difference]:
    for key in (*old, *(key for key in new if key not in old)):
        where = f"{place} {key}".strip()
        if key not in new:
            yield Difference.of("missing check", where, old[key]["outcome"], "")
        elif key not in old:
            yield Difference.of("new check", where, "", new[key]["outcome"])
        else:
            before, after = old[key], new[key]
            for name in (*before, *(name for name in after if name not in before)):
                for difference in _of_values(name, where, before.get(name), after.get(name)):
                    yield replace(difference, results=f"{before} {after}")


def _of_values(kind: str, place: str, old: Any, new: Any) -> Iterator[Difference]:
    """Yield the innermost values that differ."""
    if old == new:
        return
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in (*old, *(key for key in new if key not in old)):
            yield from _of_values(kind, f"{place} / {key}", old.get(key), new.get(key))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for number, (before, after) in enumerate(zip(old, new, strict=True)):
            yield from _of_values(kind, f"{place} / {number}", before, after)
    else:
        yield Difference.of(kind, place, old, new)


def _lines(value: object) -> list[str] | None:
    return value if isinstance(value, list) and all(isinstance(line, str) for line in value) else None


def _of_text(kind: str, place: str, old: list[str], new: list[str]) -> Iterator[Difference]:
    """Yield the blocks of lines that differ, without lines that only stand elsewhere and may do so."""
    if kind == "report.html" and sorted(old) == sorted(new):
        # The rows of certificates that end in the same second, of several lines each.
        yield Difference.of(MOVED, place, "", "")
        return
    before, after = (
        Counter(_canonical(line) for line in lines if _UNORDERED.search(line)) for lines in (old, new)
    )
    alike = {line for line, number in before.items() if after[line] == number}
    left = [[line for line in lines if _canonical(line) not in alike] for lines in (old, new)]
    if [line for line in old if line not in left[0]] != [line for line in new if line not in left[1]]:
        yield Difference.of(MOVED, place, "", "")
    old, new = left
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
    for tag, start, end, begin, last in matcher.get_opcodes():
        if tag != "equal":
            yield Difference.of(kind, place, "\n".join(old[start:end]), "\n".join(new[begin:last]))


def _shown(value: object) -> str:
    return "" if value is None else value if isinstance(value, str) else repr(value)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as the arguments say and return the exit code."""
    options = _options(arguments)
    old, new = read(options.old), read(options.new)
    if options.common:
        old, new = ({name: one[name] for name in one if name in old and name in new} for one in (old, new))
    found = differences(old, new)
    left = found.pop("", {})
    grouped: defaultdict[Difference, list[tuple[str, str]]] = defaultdict(list)
    for difference, subjects in sorted(left.items()):
        anywhere = replace(difference, place=_LISTENER.sub("", difference.place))
        grouped[anywhere] += [(subject, difference.place) for subject in subjects]
    lines = [
        line
        for difference in sorted(grouped)[: options.most]
        for line in _lines_of(difference, grouped[difference], options.width)
    ]
    for why, explained in found.items():
        more, fewer = _counted(explained)
        shift = f" ({more} times more connections, {fewer} times fewer)" if more or fewer else ""
        lines.append(f"{sum(map(len, explained.values()))} tolerated: {why}{shift}")
    lines.append(f"{len(set(old) & set(new))} subjects compared, {len(grouped)} differences")
    kinds = Counter[str]()
    for difference in sorted(grouped):
        kinds[difference.kind] += len(grouped[difference])
    lines += [f"    {times} {kind}" for kind, times in kinds.items()]
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return 1 if left else 0


def _counted(tolerated: Mapping[Difference, Sequence[str]]) -> tuple[int, int]:
    """Return how often there are more and fewer connections than before: more nearly always is no chance."""
    changes = [
        int(difference.new or 0) - int(difference.old or 0)
        for difference, subjects in tolerated.items()
        if difference.kind == "connections"
        for _ in subjects
    ]
    return sum(change > 0 for change in changes), sum(change < 0 for change in changes)


_LISTENER = re.compile(
    r"^(api|live|declared|run|owned) |https?://\S+|\b(client-http|client|peer|metrics)(-\S+)?\b"
)
"""How a subject was judged, and the listener: a difference that is the same there is printed once."""


def _lines_of(difference: Difference, where: Sequence[tuple[str, str]], width: int) -> Iterator[str]:
    (first, place), subjects = where[0], {subject for subject, _ in where}
    yield f"{difference.kind}, {len(where)} times in {len(subjects)} subjects, first {first}: {place}"
    for sign, text in (("-", difference.old), ("+", difference.new)):
        yield from (f"    {sign} {line[:width]}" for line in text.splitlines())


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="verdicts.compare", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("old", type=Path, metavar="OLD")
    parser.add_argument("new", type=Path, metavar="NEW")
    parser.add_argument("--common", action="store_true", help="only the subjects that are in both files")
    parser.add_argument("--most", type=int, default=50, metavar="N", help="print N differences (default 50)")
    parser.add_argument("--width", type=int, default=400, metavar="N", help="characters of each line")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
