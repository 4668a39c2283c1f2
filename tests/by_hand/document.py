"""Reads ``examples/by_hand/README.md``: steps, blocks of commands, the expected output, and the checks.

A page that does not keep its conventions is a ``ValueError``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

PAGE = Path(__file__).parents[2] / "examples" / "by_hand" / "README.md"

_FENCE = "```"
_NEEDS = re.compile(r"<!-- needs (\S+) -->")
_OURS = re.compile(r"^\*\*Checks:\*\*(.*?)(?=^$)", re.MULTILINE | re.DOTALL)
_CHECK = re.compile(r"`([a-z]+\.[a-z0-9-]+)`(?: \((\w[\w-]*)\))?")
_QUOTED = re.compile(r"`([^`]+)`")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Output of some releases only.

    Attributes:
        lines: the releases, ``3.4`` or a full version.
        cells: the fragments of each cell; of those joined by "or" one is enough.
    """

    lines: tuple[str, ...]
    cells: tuple[tuple[tuple[str, ...], ...], ...]

    def covers(self, version: str) -> bool:
        """Return whether the row applies to that etcd."""
        return any(version == line or version.startswith(f"{line}.") for line in self.lines)


@dataclass(slots=True, kw_only=True)
class Block:
    """Commands to paste.

    Attributes:
        line: of the page.
        needs: a program that not every machine has.
        prints: the lines of the output, ``...`` for what is left out; ``None`` if nothing is said.
        rows: what depends on the release.
    """

    line: int
    code: str
    needs: str | None = None
    prints: tuple[str, ...] | None = None
    rows: list[Row] = field(default_factory=list)

    def fragments(self, version: str) -> list[tuple[str, ...]]:
        """Return the texts that the output of that etcd contains; one of each tuple is enough."""
        return [cell for row in self.rows if row.covers(version) for cells in row.cells for cell in cells]

    def deviations(self, output: str, version: str) -> list[str]:
        """Return the differences between the output and the page, as sentences."""
        found = []
        if self.prints is not None and not _pattern(self.prints).fullmatch(output):
            found.append("\n  | ".join(["it is not what the page shows:", *self.prints]))
        if self.rows and not any(row.covers(version) for row in self.rows):
            found.append(f"the table has no row for etcd {version}")
        missing = [cell for cell in self.fragments(version) if not any(words in output for words in cell)]
        return [*found, *(f"lacks {' or '.join(map(repr, cell))}" for cell in missing)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A section of the page.

    Attributes:
        ours: the checks that judge the same, with the outcome that the page names.
    """

    title: str
    blocks: tuple[Block, ...]
    ours: dict[str, str]


def read_steps(page: Path = PAGE) -> tuple[Step, ...]:
    """Return the sections that have commands.

    Raises:
        ValueError: if the page has a block or a table of a kind that is not tested.
    """
    numbered = list(enumerate(page.read_text(encoding="utf-8").splitlines(), 1))
    starts = [place for place, (_, line) in enumerate(numbered) if line.startswith("## ")]
    sections = [numbered[a:b] for a, b in zip(starts, [*starts[1:], len(numbered)], strict=True)]
    steps = [_step(section) for section in sections]
    return tuple(step for step in steps if step.blocks)


def _step(section: Sequence[tuple[int, str]]) -> Step:
    blocks: list[Block] = []
    needs = None
    lines = iter(section[1:])
    for number, line in lines:
        if marker := _NEEDS.fullmatch(line):
            needs = marker[1]
        elif line == f"{_FENCE}sh":
            blocks.append(Block(line=number, code=_fenced(lines), needs=needs))
            needs = None
        elif line == f"{_FENCE}text" and blocks and blocks[-1].prints is None:
            blocks[-1].prints = tuple(_fenced(lines).splitlines())
        elif line.startswith(_FENCE):
            raise ValueError(f"line {number}: {line} is neither commands nor the output of some")
        elif line.startswith("| etcd |"):
            blocks[-1].rows += _rows(lines)
    text = "\n".join(line for _, line in section) + "\n\n"
    said = "".join(_OURS.findall(text))
    ours = {check: outcome or "conforms" for check, outcome in _CHECK.findall(said)}
    return Step(title=section[0][1].removeprefix("## "), blocks=tuple(blocks), ours=ours)


def _fenced(lines: Iterator[tuple[int, str]]) -> str:
    inside: list[str] = []
    for _, line in lines:
        if line == _FENCE:
            return "\n".join(inside) + "\n"
        inside.append(line)
    raise ValueError("a block does not end")


def _rows(lines: Iterator[tuple[int, str]]) -> Iterator[Row]:
    for _, line in lines:
        if not line.startswith("|"):
            return
        first, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        if not first.startswith("---"):
            yield Row(
                lines=tuple(word.strip() for word in first.split(",")),
                cells=tuple(tuple(_alternatives(cell)) for cell in cells),
            )


def _alternatives(cell: str) -> Iterator[tuple[str, ...]]:
    for part in re.split(r"(?<=`), (?=`)", cell):
        if quoted := _QUOTED.findall(part):
            yield tuple(quoted)


def _pattern(lines: Sequence[str]) -> re.Pattern[str]:
    parts = []
    for line in lines:
        if line == "...":
            parts.append(r"(?:.*\n)*?")
        else:
            parts.append(".*".join(re.escape(part.rstrip()) for part in line.split("...")) + r"[ ]*\n?")
    return re.compile("".join(parts))
