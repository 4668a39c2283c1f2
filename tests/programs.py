"""The PATH of a test: Python, a shell, coreutils, and the programs that the test declares.

A test declares what else it runs, ``@pytest.mark.program("curl", "openssl")``: on itself, its class, its
module or one of its parameters. An undeclared program is missing on every machine, so the mistake shows where
it is made, not on a machine that lacks the program.

A fixture of a wider scope has the programs that its own scope declares, whichever test is the first to ask
for it: a module's fixture has those of ``pytestmark``, one of the session none. These call the fixture
``program``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

ALWAYS = (
    "sh",
    *("[", "base64", "basename", "cat", "chmod", "chown", "comm", "cp", "cut", "date", "dd", "df"),
    *("dirname", "du", "echo", "env", "expr", "false", "fold", "head", "id", "install", "join", "ln"),
    *("ls", "md5sum", "mkdir", "mkfifo", "mktemp", "mv", "nice", "nohup", "nproc", "od", "paste"),
    *("printenv", "printf", "pwd", "readlink", "realpath", "rm", "rmdir", "seq", "sha256sum", "sleep"),
    *("sort", "split", "stat", "stty", "sync", "tac", "tail", "tee", "test", "timeout", "touch"),
    *("tr", "true", "truncate", "tty", "uname", "uniq", "wc", "whoami"),
)
"""A shell of POSIX and what tests use of coreutils: on every machine."""


def run_program(
    command: Sequence[str | Path],
    directory: Path | None = None,
    environment: Mapping[str, str] | None = None,
    *,
    merged: bool = False,
    text: str | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end.

    Args:
        command: the program and its arguments.
        directory: where it runs.
        environment: variables besides those of the tests.
        merged: whether what it writes to standard error is in its output.
        text: its standard input.
    """
    return subprocess.run(
        command,
        cwd=directory,
        env={**os.environ, **(environment or {})},
        input=text or "",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if merged else subprocess.PIPE,
        encoding="utf-8",
        timeout=300,
        check=False,
    )


class Programs:
    """The programs of this machine, and a directory of links to those that every test sees.

    Args:
        path: the machine's own PATH.
        whole: whether tests see every program of the machine.
    """

    def __init__(self, path: str, *, whole: bool = False) -> None:
        self.path = path
        self._whole = whole
        self._directory = Path(tempfile.mkdtemp(prefix="programs-"))
        self._directory.chmod(0o755)  # tests start programs as other users, too
        self._always = self._directory / "always"
        for name in ALWAYS:
            self._link(self._always, name)
        for name in ("python", "python3"):  # itself, and no script of a version manager
            (self._always / name).symlink_to(Path(sys.executable).resolve())

    def close(self) -> None:
        """Remove the links and restore the machine's own PATH."""
        os.environ["PATH"] = self.path
        shutil.rmtree(self._directory, ignore_errors=True)

    def find(self, name: str) -> str | None:
        """Return where a program is on this machine, or ``None``."""
        return shutil.which(name, path=self.path)

    def lacking(self, names: Iterable[str]) -> str | None:
        """Return which of the programs this machine lacks, or ``None``."""
        lacking = sorted({name for name in names if self.find(name) is None})
        return f"{' and '.join(lacking)} on PATH" if lacking else None

    @contextmanager
    def on_path(self, names: Iterable[str]) -> Iterator[None]:
        """Have these programs on PATH, and those that every test sees; afterwards what was there before."""
        before = os.environ["PATH"]
        os.environ["PATH"] = self.path_of(names)
        try:
            yield
        finally:
            os.environ["PATH"] = before

    def path_of(self, names: Iterable[str] = ()) -> str:
        """Return a PATH with these programs and those that every test sees."""
        directories = [*(self._directory_of(name) for name in sorted(names)), self._always]
        return os.pathsep.join([*map(str, directories), *([self.path] if self._whole else [])])

    def _directory_of(self, name: str) -> Path:
        directory = self._directory / name
        if not directory.exists():
            self._link(directory, name)
        return directory

    def _link(self, directory: Path, name: str) -> None:
        directory.mkdir(exist_ok=True)
        if (program := self.find(name)) is not None:
            (directory / name).symlink_to(Path(program).absolute())
