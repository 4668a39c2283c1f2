"""The commands that pages show: fenced blocks of a shell, and options in tables headed "to" and "pass".

A block that is not run says why in a comment above it, ``<!-- not run: ... -->``. One whose last command
fails says so, ``<!-- exit code 1 -->``; its other commands may fail as well. One that runs programs which
not every machine has names them, ``<!-- needs curl openssl -->``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]

ELSEWHERE = {
    "examples/by_hand/README.md": "tests/by_hand runs each block and compares what it prints",
    "examples/bump/README.md": "tests/ci runs each step",
}
"""Pages whose blocks have tests of their own."""

DOCUMENTS = sorted(
    path
    for pattern in (
        "*.md",
        *(f"{name}/**/*.md" for name in ("benchmarks", "docker", "docs", "examples", "tests")),
    )
    for path in ROOT.glob(pattern)
)
"""Every page of the repository."""

PAGES = [path for path in DOCUMENTS if str(path.relative_to(ROOT)) not in ELSEWHERE]

_BLOCK = re.compile(
    r"^(?P<comment>(?:<!-- [^\n]*? -->\n)*)```(?P<language>\w*)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL
)
_SHELLS = {"sh", "bash", "shell", "console"}
_REASON = re.compile(r"<!-- not run: (.+) -->")
_NEEDS = re.compile(r"<!-- needs (.+) -->")
_EXIT = re.compile(r"<!-- exit code (\d+) -->")
_ROWS = re.compile(r"^\| to \| pass \|\n\|---\|---\|\n((?:\|.*\n)+)", re.MULTILINE)
_UNFENCED = re.compile(
    r"^    (?:\$ )?"
    r"(?:pytest|pytest-etcdtls|make|python3?|pip|kubectl|docker|curl|openssl|journalctl|etcdctl"
    r"|\S+/(?:python|pytest)) .*$",
    re.MULTILINE,
)


@dataclass(frozen=True)
class Command:
    """Commands to paste.

    Attributes:
        place: the page, and the line or the option, for test ids.
        code: what a shell gets.
        reason: why it is not run; ``None`` if it is.
        exit_code: of the last one.
        slow: whether it takes more than a few seconds, or is one of many that are alike.
        needs: the programs that it runs, besides Python and those that every test has.
    """

    place: str
    code: str
    reason: str | None = None
    exit_code: int = 0
    slow: bool = False
    needs: tuple[str, ...] = ()


def commands() -> Iterator[Command]:
    """Yield those of every page."""
    for path in PAGES:
        yield from commands_of(str(path.relative_to(ROOT)))


def commands_of(page: str) -> Iterator[Command]:
    """Yield those of one page."""
    text = (ROOT / page).read_text(encoding="utf-8")
    blocks = list(_blocks(page, text))
    yield from blocks
    yield from _rows(page, text, blocks)


def unfenced() -> Iterator[str]:
    """Yield the commands outside fenced blocks, which are not run."""
    for path in PAGES:
        text = _BLOCK.sub("", path.read_text(encoding="utf-8"))
        yield from (f"{path.relative_to(ROOT)}: {line.strip()}" for line in _UNFENCED.findall(text))


def fenced(page: str, language: str) -> list[str]:
    """Return the blocks of a page in that language."""
    return [
        found["code"]
        for found in _BLOCK.finditer((ROOT / page).read_text(encoding="utf-8"))
        if found["language"] == language
    ]


def section(page: str, heading: str) -> str:
    """Return the part of a page below that heading of the second level."""
    _, _, below = (ROOT / page).read_text(encoding="utf-8").partition(f"\n## {heading}\n")
    return below.partition("\n## ")[0]


def _blocks(name: str, text: str) -> Iterator[Command]:
    for found in _BLOCK.finditer(text):
        if found["language"] not in _SHELLS:
            continue
        code = found["code"]
        if found["language"] == "console":
            code = re.sub(r"^\$ ", "", code, flags=re.MULTILINE)
        line = text.count("\n", 0, found.start("code"))
        reason, status = _REASON.search(found["comment"]), _EXIT.search(found["comment"])
        needs = _NEEDS.search(found["comment"])
        yield Command(
            f"{name}:{line}",
            code,
            reason[1] if reason else None,
            int(status[1]) if status else 0,
            slow="--etcd-binary=" in code or "--binary=" in code,
            needs=tuple(needs[1].split()) if needs else (),
        )


_FAILS = {"--etcd-strict": 1, "--etcd-profile=nist-800-52r2": 1}
"""A conforming cluster has a warning, and accepts suites that the profile does not list."""


def _rows(name: str, text: str, blocks: list[Command]) -> Iterator[Command]:
    for table in _ROWS.findall(text):
        [first, *_] = [block.code for block in blocks if " https://" in block.code]
        for row in table.splitlines():
            for options in re.findall(r"`(--[^`]*)`", row.strip("|").split(" | ")[1]):
                code = f"{first.rstrip()} {options}\n"
                yield Command(f"{name}:{options}", code, exit_code=_FAILS.get(options, 0), slow=True)
