"""What a process was started with, compared with what is declared for it (``--etcd-pid``, ``--etcd-config``).

The command line and the environment of a process never change. Its configuration file may: what etcd read at
its start is known as long as the file is not written again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from msgspec import Struct

from pytest_etcdtls.declared.declaration import Declaration
from pytest_etcdtls.declared.running import Difference, RunningMember, differences
from pytest_etcdtls.errors import InconclusiveError, NotApplicableError, missing
from pytest_etcdtls.facts.fact import fact
from pytest_etcdtls.target import Target
from pytest_etcdtls.untrusted.process_root import status_of


class ProcessComparison(Struct, frozen=True, kw_only=True):
    """The process of a member, compared with the declaration that ``--etcd-config`` names.

    Attributes:
        pid: the ID of the process.
        source: the declaration.
        differences: the settings that differ.
        changed: when the process was started, and a file was changed after that; empty if none was.
        unknown: why it is not known what the process was started with; empty if it is.
        not_compared: settings whose value is not in the declaration.
    """

    pid: int
    source: str
    differences: tuple[Difference, ...] = ()
    changed: str = ""
    unknown: str = ""
    not_compared: tuple[str, ...] = ()


class ProcessComparisons(Struct, frozen=True):
    """The processes of a target, compared with their declarations; at least one."""

    members: tuple[ProcessComparison, ...]


_CLOCK: Final = timedelta(seconds=2)
"""By which the time of a process and that of a file may differ: it is counted from when the machine was."""


@fact(reported=False)
def process_comparisons(target: Target) -> ProcessComparisons:
    """Compare what the processes of the target were started with with what is declared for them."""
    compared = tuple(
        _compared(running, running.written)
        for running in target.running.values()
        if running.written is not None
    )
    if not compared:
        raise NotApplicableError(
            missing("compares a declaration with a process", "--etcd-pid", "--etcd-config")
        )
    return ProcessComparisons(compared)


def _compared(running: RunningMember, written: Declaration) -> ProcessComparison:
    if not running.process.runs:
        raise InconclusiveError(f"{running.process.name} ended during the run: run again")
    return ProcessComparison(
        pid=running.process.pid,
        source=written.source,
        differences=tuple(differences(written, running.declared.declaration)),
        changed=written_since(running, written.files),
        unknown=_unknown(running),
        not_compared=tuple(sorted(written.started_with.left_out)),
    )


def configuration_changed(running: RunningMember) -> str:
    """Return when the configuration file of a process was changed after its start; empty if it was not."""
    config = running.declared.declaration.config_file
    if config is None or running.process.embedded:  # which writes the file when it starts
        return ""
    return written_since(running, (str(running.declared.paths.of_process(config)),))


def _unknown(running: RunningMember) -> str:
    if not (changed := configuration_changed(running)):
        return ""
    return f"what {running.process.name} read in its configuration file is not known: {changed}"


def written_since(running: RunningMember, files: tuple[str, ...]) -> str:
    """Return a sentence that a file changed after the process was started; empty if none did."""
    started = running.process.started_at
    for file, changed in changed_since(running, files):
        return (
            f"it was started at {started:%Y-%m-%d %H:%M:%S} UTC, and {file} was changed at "
            f"{changed:%Y-%m-%d %H:%M:%S} UTC"
        )
    return ""


def changed_since(running: RunningMember, files: Iterable[str]) -> Iterator[tuple[str, datetime]]:
    """Yield each file that was changed after the process was started, and when."""
    for file in files:
        with suppress(OSError, ValueError):
            changed = datetime.fromtimestamp(status_of(Path(file)).st_ctime, UTC)
            if changed > running.process.started_at + _CLOCK:
                yield file, changed
