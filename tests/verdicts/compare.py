"""Compares what two versions of the code judge: ``python -m verdicts.compare OLD.json.gz NEW.json.gz``.

``tests`` must be on the path. Subjects of both files are compared. A difference is printed once, with the
number of subjects that have it and the first of them. Exit code 1 if there is one that two runs of the same
code do not have.
"""

from __future__ import annotations

import argparse
import difflib
import re
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from verdicts.record import read


class Difference(NamedTuple):
    """A value that is not the same.

    Attributes:
        place: where in the judgement of a subject, without the listener.
        old: before; empty if it is new.
        new: after; empty if it is missing.
    """

    place: str
    old: str
    new: str


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[Difference, list[str]]:
    """Return every difference with the subjects that have it."""
    found: defaultdict[Difference, list[str]] = defaultdict(list)
    for subject in sorted({*old, *new}):
        before, after = (dict(_flat(values.get(subject, {}))) for values in (old, new))
        for place in sorted({*before, *after}):
            for was, becomes in _changes(before.get(place, ""), after.get(place, "")):
                found[Difference(_LISTENER.sub("", place), was, becomes)].append(subject)
    return found


_LISTENER = re.compile(r"https?://\S+|\b(client-http|client|peer|metrics)(-\S+)?\b ?")


def _flat(value: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """Yield the innermost values with their places. Of a list of lines that is the text."""
    if isinstance(value, list) and all(isinstance(line, str) for line in value):
        yield place, "\n".join(value)
    elif isinstance(value, Mapping | list):
        items = value.items() if isinstance(value, Mapping) else enumerate(value)
        for key, item in items:
            yield from _flat(item, f"{place} / {key}" if place else str(key))
    else:
        yield place, "" if value is None else str(value)


def _changes(old: str, new: str) -> Iterator[tuple[str, str]]:
    """Yield the blocks of lines that differ."""
    before, after = old.splitlines(), new.splitlines()
    matcher = difflib.SequenceMatcher(None, before, after, autojunk=False)
    for tag, start, end, begin, last in matcher.get_opcodes():
        if tag != "equal":
            yield "\n".join(before[start:end]), "\n".join(after[begin:last])


def is_tolerated(difference: Difference) -> bool:
    """Return whether two runs of the same code differ so.

    An attempt that ended unclear is repeated. The gateway sees the alert or the end of its connection first.
    An experiment sends requests until its time is over.
    """
    place, old, new = difference
    if "api.gateway-works" in place or "lifecycle.rotation-loses-no-request" in place:
        return bool(old and new) and not place.endswith("outcome")
    was, now = (re.split(r"(\d+)", text) for text in (old, new))
    few = all(abs(int(one) - int(other)) <= 2 for one, other in zip(was[1::2], now[1::2], strict=False))
    return "connections" in place + old and was[::2] == now[::2] and few


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as the arguments say and return the exit code."""
    parser = argparse.ArgumentParser(prog="verdicts.compare", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("old", type=Path, metavar="OLD")
    parser.add_argument("new", type=Path, metavar="NEW")
    parser.add_argument("--most", type=int, default=50, metavar="N", help="print N differences (default 50)")
    options = parser.parse_args(arguments)
    old, new = read(options.old), read(options.new)
    common = old.keys() & new.keys()
    found = differences(*({name: values[name] for name in common} for values in (old, new)))
    left = [difference for difference in found if not is_tolerated(difference)]
    for difference in left[: options.most]:
        subjects = found[difference]
        print(f"{difference.place}, {len(subjects)} times, first {subjects[0]}")
        for sign, text in (("-", difference.old), ("+", difference.new)):
            print("".join(f"    {sign} {line[:400]}\n" for line in text.splitlines()), end="")
    print(f"{len(common)} subjects compared, {len(left)} differences, {len(found) - len(left)} of chance")
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
