"""Every block of ``examples/by_hand/README.md`` does what the page says, and our checks agree with it."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import pytest

from by_hand.document import PAGE, Block, Step, read_steps
from pytest_etcdtls.etcd.sources import binary_version

RELEASES = ("3.4.23", "3.5.33", "3.6.16", "3.7.3")
"""Those that the page is about."""
STEPS = read_steps()

pytestmark = pytest.mark.program("curl", "diff", "grep", "openssl", "sed")

_INTERFERING = ("PYTEST", "ETCD", "CURL_", "OPENSSL_", "SSL_")
_END = "<<end of block {} with status {}>>"


@pytest.mark.etcd_version(*RELEASES)
def test_the_page_on_each_release(
    etcd_binary: Path, tmp_path: Path, program: Callable[..., str | None]
) -> None:
    if not etcd_binary.with_name("etcdctl").exists():
        pytest.skip(f"needs etcdctl beside {etcd_binary}")
    version = binary_version(etcd_binary)
    steps = [
        (step, [block for block in step.blocks if not block.needs or program(block.needs, optional=True)])
        for step in STEPS
    ]
    try:
        printed = _paste(_script(steps, version), etcd_binary, tmp_path)
    finally:
        _clean_up(tmp_path / "reader" / "practice.sh")
    problems = [
        f"line {block.line}: {problem}\n{block.code}{printed.get(block.line)}"
        for _, blocks in steps
        for block in blocks
        for problem in _problems(block, printed, version)
    ]
    assert not problems, "\n\n".join(problems)
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert list(_disagreements(report)) == []
    assert list(tmp_path.glob("work/*")) == []


def test_every_step_names_its_checks() -> None:
    without = [step.title for step in STEPS if re.match(r"\d+\. ", step.title) and not step.ours]
    assert without == ["18. All of this, and the other checks, in one run"]
    assert all(release in PAGE.read_text(encoding="utf-8") for release in RELEASES)


def _script(steps: list[tuple[Step, list[Block]]], version: str) -> Iterator[str]:
    """Yield all blocks as a reader pastes them into one shell, with a line after each."""
    for step, blocks in steps:
        if (step, blocks) == steps[-1]:
            yield 'cp "$WORK/report.json" ../report.json'
        for block in blocks:
            if block.code.startswith("grep") and '"$LOG"' in block.code:
                # etcd writes a line after it has sent its alert.
                awaited = [*((line,) for line in block.prints or ()), *block.fragments(version)]
                for words in awaited:
                    patterns = " ".join(f"-e {shlex.quote(word)}" for word in words)
                    if words != ("nothing",):
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
    """Yield the checks of steps that have another outcome on an https listener, or on the whole target."""
    for step in STEPS:
        for check, outcome in step.ours.items():
            outcomes = {
                result["outcome"]
                for result in report["results"]
                if result["check"] == check
                and (result["role"] != "metrics" or result["url"].startswith("https:"))
            }
            if outcomes != {outcome}:
                yield f"{step.title}: {check}: {sorted(outcomes)}, not {outcome}"


def _clean_up(script: Path) -> None:
    """End the cluster if the page's last step did not run."""
    if script.exists():
        values = dict(re.findall(r"^(\w+)=(.*)$", script.read_text(encoding="utf-8"), re.MULTILINE))
        with suppress(ProcessLookupError):
            os.kill(int(values["PID"]), signal.SIGKILL)
        shutil.rmtree(values["DIR"], ignore_errors=True)
