"""``python -m pytest_etcdtls clean``: remove what killed runs have left."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence
from typing import Final

from pytest_etcdtls.untrusted import printable

_GONE: Final = {"merge": "give --etcd-report=DIR/; each cluster's report is a file of it"}
"""Commands of earlier versions, each with what to do instead."""

_LONGEST_LINE: Final = 5000
"""Characters of a line about a path, which has at most 4096."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    if words and (instead := _GONE.get(words[0])):
        sys.stderr.write(f"ERROR: the command {words[0]} was removed: {instead}\n")
        return 4
    parser = argparse.ArgumentParser(prog="python -m pytest_etcdtls", allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser(
        "clean",
        help="remove what killed runs have left on this host",
        description="Remove the etcds, directories with keys, containers and networks of runs that were "
        "killed together with their watchdog. The next run that starts an etcd does the same. What belongs "
        "to a running process, to another user or host, or to --etcd-keep is left.",
    )
    try:
        parser.parse_args(words)
    except SystemExit as ended:
        return 4 if ended.code else 0
    return clean()


def clean() -> int:
    """Remove what dead owners have left, print it, and return the exit code."""
    from pytest_etcdtls.cluster.leftovers import remove_containers, remove_what_is_here

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # in an ASCII locale
    said = [*remove_what_is_here(), *remove_containers()]
    for line in said:
        sys.stdout.write(f"{printable(line, _LONGEST_LINE)}\n")
    if not said:
        sys.stdout.write("no killed run has left anything here\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
