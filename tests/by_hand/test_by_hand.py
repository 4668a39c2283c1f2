"""Every block of ``examples/by_hand/README.md`` does what the page says, and our checks agree with it.

The output of a block is the text after it, ``...`` for what is left out, and has what the table after it
quotes in the row of the release; of quotations joined by "or" one is enough.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from pytest_etcdtls.etcd.sources import binary_version

PAGE = (Path(__file__).parents[2] / "examples" / "by_hand" / "README.md").read_text(encoding="utf-8")
RELEASES = ("3.4.23", "3.5.33", "3.6.16", "3.7.3")
"""Those that the page is about."""

pytestmark = pytest.mark.program("curl", "diff", "grep", "openssl", "sed")

_BLOCK = re.compile(
    r"(?:<!-- needs (?P<needs>\S+) -->\n)?^```sh\n(?P<code>.*?)^```\n(?P<after>.*?)"
    r"(?=^```sh\n|^<!-- needs|^## |\Z)",
    re.MULTILINE | re.DOTALL,
)
_ROW = re.compile(r"^\| (3[\d., ]*) \|(.*)\|$", re.MULTILINE)
_INTERFERING = ("PYTEST", "ETCD", "CURL_", "OPENSSL_", "SSL_")
_END = "<<end of block {} with status {}>>"


class Block(NamedTuple):
    """Commands to paste, and the text of the page after them."""

    line: int
    needs: str | None
    code: str
    after: str

    @property
    def prints(self) -> str | None:
        """What the page shows as output."""
        shown = re.findall(r"^```text\n(.*?)^```$", self.after, re.MULTILINE | re.DOTALL)
        assert len(shown) < 2, f"line {self.line}: its output is shown twice"
        return shown[0] if shown else None

    def quoted(self, version: str) -> list[list[str]]:
        """Return what the output of that etcd contains; one of each list is enough."""
        rows = _ROW.findall(self.after)
        cells = [
            cell for lines, cell in rows if any(f"{version}.".startswith(f"{x}.") for x in lines.split(", "))
        ]
        assert bool(cells) is bool(rows), f"line {self.line}: the table has no row for etcd {version}"
        parts = [part for cell in cells for part in re.split(r" \| |(?<=`), (?=`)", cell)]
        return [found for part in parts if (found := re.findall(r"`([^`]+)`", part))]

    def deviations(self, output: str, version: str) -> list[str]:
        """Return the differences between the output and the page, as sentences."""
        found = []
        if self.prints is not None and not _pattern(self.prints.splitlines()).fullmatch(output):
            found.append(f"it is not what the page shows:\n{self.prints}")
        missing = [words for words in self.quoted(version) if not any(word in output for word in words)]
        return [*found, *(f"lacks {' or '.join(map(repr, words))}" for words in missing)]


BLOCKS = [
    Block(PAGE[: match.start("code")].count("\n"), *match.group("needs", "code", "after"))
    for match in _BLOCK.finditer(PAGE)
]


def _pattern(lines: Sequence[str]) -> re.Pattern[str]:
    parts = []
    for line in lines:
        if line == "...":
            parts.append(r"(?:.*\n)*?")
        else:
            parts.append(".*".join(re.escape(part.rstrip()) for part in line.split("...")) + r"[ ]*\n?")
    return re.compile("".join(parts))


@pytest.mark.etcd_version(*RELEASES)
def test_the_page_on_each_release(
    etcd_binary: Path, tmp_path: Path, program: Callable[..., str | None]
) -> None:
    if not etcd_binary.with_name("etcdctl").exists():
        pytest.skip(f"needs etcdctl beside {etcd_binary}")
    assert len(BLOCKS) == PAGE.count("\n```sh\n")
    assert all(release in PAGE for release in RELEASES)
    version = binary_version(etcd_binary)
    blocks = [block for block in BLOCKS if not block.needs or program(block.needs, optional=True)]
    try:
        printed = _paste(_script(blocks, version), etcd_binary, tmp_path)
    finally:
        _clean_up(tmp_path / "reader" / "practice.sh")
    problems = [
        f"line {block.line}: {problem}\n{block.code}{printed.get(block.line)}"
        for block in blocks
        for problem in _problems(block, printed, version)
    ]
    assert not problems, "\n\n".join(problems)
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert list(_disagreements(report)) == []
    assert list(tmp_path.glob("work/*")) == []


def _script(blocks: Sequence[Block], version: str) -> Iterator[str]:
    """Yield all blocks as a reader pastes them into one shell, with a line after each."""
    for block in blocks:
        if 'rm -rf "$DIR" "$WORK"' in block.code:
            yield 'cp "$WORK/report.json" ../report.json'
        if block.code.startswith("grep") and '"$LOG"' in block.code:
            # etcd writes a line after it has sent its alert.
            for words in [*([line] for line in (block.prints or "").splitlines()), *block.quoted(version)]:
                patterns = " ".join(f"-e {shlex.quote(word)}" for word in words)
                if words != ["nothing"]:
                    yield f'timeout 10 sh -c \'until grep -qF "$@"; do :; done <"$0"\' "$LOG" {patterns}'
        yield block.code
        yield f'printf "\\n{_END.format(block.line, "%s")}\\n" "$?"'


def _paste(lines: Iterator[str], binary: Path, home: Path) -> Mapping[int, tuple[str, int]]:
    """Return what each block prints, and the status of its last command, by its line in the page."""
    programs, directory, script = home / "bin", home / "reader", home / "script.sh"
    programs.mkdir()
    directory.mkdir()
    for name in ("etcd", "etcdctl"):
        (programs / name).symlink_to(binary.with_name(name))
    script.write_text("\n".join(lines) + "\n", encoding="utf-8")
    (home / "work").mkdir()
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(_INTERFERING) and not name.lower().endswith("_proxy")
    }
    path = os.pathsep.join([str(programs), str(Path(sys.executable).parent), environment["PATH"]])
    # A terminal: standard input neither ends nor has anything to read.
    silent, terminal = os.pipe()
    try:
        output = subprocess.run(
            ["sh", script],
            env={
                **environment,
                "PATH": path,
                "LC_ALL": "C",
                "CURL_HOME": str(home),
                "TMPDIR": f"{home}/work",
            },
            cwd=directory,
            stdin=silent,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            timeout=240,
            check=False,
        ).stdout
    finally:
        os.close(silent)
        os.close(terminal)
    parts = re.split(_END.format(r"(\d+)", r"(\d+)") + "\n", output)
    return {
        int(line): (text.removesuffix("\n"), int(status))
        for text, line, status in zip(parts[::3], parts[1::3], parts[2::3], strict=False)
    }


def _problems(block: Block, printed: Mapping[int, tuple[str, int]], version: str) -> list[str]:
    if block.line not in printed:
        return ["it does not end"]
    output, status = printed[block.line]
    return [*block.deviations(output, version), *([f"exit code {status}"] if status else [])]


def _disagreements(report: Mapping[str, list[Mapping[str, str]]]) -> Iterator[str]:
    """Yield the checks that the page names with another outcome, on https listeners or the whole target."""
    for step in re.findall(r"^## \d+\. .*?(?=^## )", PAGE, re.MULTILINE | re.DOTALL):
        said = re.findall(r"^\*\*Checks:\*\*(.*?)(?=^$)", step, re.MULTILINE | re.DOTALL)
        named = re.findall(r"`([a-z]+\.[a-z0-9-]+)`(?: \((\w[\w-]*)\))?", "".join(said))
        if not named and "--etcd-report" not in step and "--etcd-log" not in step:
            yield f"names no check: {step.splitlines()[0]}"
        for check, outcome in named:
            outcomes = {
                result["outcome"]
                for result in report["results"]
                if result["check"] == check
                and (result["role"] != "metrics" or result["url"].startswith("https:"))
            }
            if outcomes != {outcome or "conforms"}:
                yield f"{check}: {sorted(outcomes)}, not {outcome or 'conforms'}"


def _clean_up(script: Path) -> None:
    """End the cluster if the page's last step did not run."""
    if script.exists():
        values = dict(re.findall(r"^(\w+)=(.*)$", script.read_text(encoding="utf-8"), re.MULTILINE))
        with suppress(ProcessLookupError):
            os.kill(int(values["PID"]), signal.SIGKILL)
        shutil.rmtree(values["DIR"], ignore_errors=True)
