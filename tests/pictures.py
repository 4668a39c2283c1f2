"""Writes ``docs/images/verdict.svg``, a real run as a terminal shows it: ``python -m pictures``."""

from __future__ import annotations

import os
import re
import runpy
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from html import escape
from pathlib import Path

from starting import start_process
from zoo.client_access import ZOO

IMAGE = Path(__file__).parents[1] / "docs" / "images" / "verdict.svg"
COMMAND = """\
$ pytest-etcdtls https://10.0.0.11:2379 \\
    --cacert=ca.crt --cert=client.crt --key=client.key"""
COLUMNS = 80
FONT = "ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace"
COLOURS = {"31": "#f47067", "32": "#8ddb8c", "33": "#e0b15e", "36": "#76d9e6"}
CHARACTER, LINE, MARGIN = 8.4, 19, 16
"""Pixels of text of 14 pixels."""

_SGR = re.compile(r"\x1b\[([\d;]*)m")


def main() -> None:
    """Judge an etcd that asks no client for a certificate, and draw the verdict."""
    [member] = [one for one in ZOO if one.name == "client-no-auth"]
    binaries: dict[str, Path] = runpy.run_path(str(Path(__file__).with_name("conftest.py")))[
        "find_binaries"
    ]()
    etcd = [*binaries.values()][-1]
    with start_process(member.config, etcd) as cluster, tempfile.TemporaryDirectory() as name:
        url = cluster.members[0].client_url
        for file in ("client.crt", "client.key"):
            shutil.copy(cluster.members[0].file(file), name)
        shutil.copy(cluster.members[0].file("server-ca.crt"), Path(name) / "ca.crt")
        words = COMMAND.replace("\\\n", " ").replace("https://10.0.0.11:2379", url).split()[2:]
        ended = subprocess.run(
            [sys.executable, "-m", "pytest_etcdtls", *words, "--", "--color=yes"],
            cwd=name,
            env={"PATH": os.environ["PATH"], "COLUMNS": str(COLUMNS), "PYTHONPATH": ":".join(sys.path)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
    port = url.rpartition(":")[2]
    shown = ended.stdout.replace(f"127.0.0.1-{port}", "10.0.0.11-2379").replace(
        f"127.0.0.1:{port}", "10.0.0.11:2379"
    )
    IMAGE.parent.mkdir(exist_ok=True)
    IMAGE.write_text("\n".join(picture([*COMMAND.splitlines(), *terminal(shown)])) + "\n", encoding="utf-8")


def terminal(output: str) -> Iterator[str]:
    """Yield the lines of a run as a terminal breaks them; only a line without a colour is too long."""
    for line in output.strip().splitlines():
        if "\x1b" in line:
            yield line
        else:
            yield from (line[start : start + COLUMNS] for start in range(0, max(len(line), 1), COLUMNS))


def picture(lines: list[str]) -> Iterator[str]:
    """Yield the lines of an SVG."""
    width = round(2 * MARGIN + COLUMNS * CHARACTER)
    height = 2 * MARGIN + len(lines) * LINE
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    yield f'<svg xmlns="http://www.w3.org/2000/svg" {size}>'
    yield f'<rect width="{width}" height="{height}" rx="8" fill="#22272e"/>'
    yield f'<g font-family="{FONT}" font-size="14" fill="#cdd9e5">'
    for number, line in enumerate(lines):
        yield f'<text x="{MARGIN}" y="{MARGIN + number * LINE + 14}">{"".join(_spans(line))}</text>'
    yield "</g>"
    yield "</svg>"


def _spans(line: str) -> Iterator[str]:
    style: list[str] = []
    for number, part in enumerate(_SGR.split(line)):
        if number % 2:
            codes = part.split(";")
            style = [] if codes in ([""], ["0"]) else [*style, *codes]
        elif part:
            colours = [COLOURS[code] for code in style if code in COLOURS]
            colour = f' fill="{colours[-1]}"' if colours else ""
            weight = ' font-weight="bold"' if "1" in style else ""
            length = f'textLength="{len(part) * CHARACTER:.1f}" lengthAdjust="spacingAndGlyphs"'
            yield f"<tspan {length}{colour}{weight}>{_spaced(part)}</tspan>"


def _spaced(text: str) -> str:
    """Return the text with spaces that no viewer folds."""
    return escape(text).replace(" ", "\N{NO-BREAK SPACE}")


if __name__ == "__main__":
    main()
