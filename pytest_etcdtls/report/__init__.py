"""The report of a run, for the terminal and as files. It does not depend on pytest.

The suffix of a file chooses its format, and a reader never finds a partial file.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path

from pytest_etcdtls.report.model import Report

FORMATS: Mapping[str, str] = {
    ".json": "json",
    ".html": "html",
    ".md": "markdown",
    ".sarif": "sarif",
    ".prom": "openmetrics",
    ".baseline": "baseline_file",
}
"""The module of each format by suffix: its ``render`` returns the text, and appends to a list
the parts that are not in it.
Jinja2 is imported for a format that needs it only."""


def render(report: Report, suffix: str, lost: list[str] | None = None) -> str:
    """Return the report in the format of a suffix.

    Args:
        report: the report.
        suffix: one of :data:`FORMATS`.
        lost: the parts that could not be written are appended.
    """
    module = import_module(f"pytest_etcdtls.report.{FORMATS[suffix]}")
    text: str = module.render(report, [] if lost is None else lost)
    return text


def write_document(report: Report, path: Path) -> list[str]:
    """Write the report to a file, replace an existing one, and return which parts are not in it.

    Raises:
        OSError: if it cannot be written. An existing file is not changed.
    """
    lost: list[str] = []
    write_file(path, [render(report, path.suffix, lost)])
    return lost


def write_file(path: Path, parts: Iterable[str], mode: int = 0o600) -> None:
    """Write a file of these parts and replace an existing one, whose mode it keeps if it is this user's.

    A link is replaced too, and its target not changed. A new file is readable by its owner alone, like every
    file of a run: a report has names and addresses. Metrics are readable by all, since node_exporter, which
    reads them, is another user.

    Raises:
        OSError: if it cannot be written. An existing file is not changed.
    """
    if path.suffix == ".prom":
        mode = 0o644
    with suppress(OSError):
        there = path.lstat()
        # A stranger may give our readable file the name of another one, in a directory of theirs.
        is_ours = there.st_uid == os.geteuid() and path.parent.stat().st_uid in (0, os.geteuid())
        if is_ours and stat.S_ISREG(there.st_mode):
            mode = stat.S_IMODE(there.st_mode)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            os.fchmod(descriptor, mode)  # not by its name, which may be another file's by now
            file.writelines(parts)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
