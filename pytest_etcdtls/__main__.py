"""The program ``pytest-etcdtls``: judge an etcd in one word, and remove what killed runs have left.

``pytest-etcdtls https://10.0.0.11:2379 --cacert ca.crt --cert client.crt --key client.key`` is
``pytest --pyargs pytest_etcdtls`` with the same options, results and exit codes. Its options are the suite's
without ``etcd-``. It runs the suite alone: no test, ``conftest.py``, configuration file, plugin or module of
the working directory and no plugin of the environment takes part, and nothing is written that no option asks
for. Without a target it judges each etcd that runs on this machine (``--etcd-pid=auto``).
"""

from __future__ import annotations

import argparse
import io
import os
import re
import sys
from collections.abc import Generator, Iterator, Sequence
from typing import Any, Final, NoReturn

from pytest_etcdtls.errors import did_you_mean, message_line

USAGE_ERROR: Final = 4
"""Exit code of a command line that is wrong, as pytest's."""

INTERRUPTED: Final = 2
"""Exit code of a run that was interrupted, as pytest's."""

_GONE: Final = {"merge": "give --etcd-report=DIR/; each cluster's report is a file of it"}
"""Commands of earlier versions, each with what to do instead."""

_PREFIX: Final = "--etcd-"
_ENDPOINT: Final = re.compile(r"(?i)https?://\S+|[^\s/\\]+:\d+")

_TARGETS: Final = (
    *("--etcd-clusters", "--etcd-conformance", "--etcd-backend", "--etcd-image", "--etcd-binary"),
    *("--etcd-list-checks", "--etcd-explain"),
)
"""Options that name another target than a live etcd, or need none."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code."""
    try:
        code = _run(list(sys.argv[1:] if arguments is None else arguments))
        if sys.stdout:
            sys.stdout.flush()
    except BrokenPipeError:  # as "Note on SIGPIPE" in the documentation of Python's signal says
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code


def _run(words: list[str]) -> int:
    if words and (instead := _GONE.get(words[0])):
        sys.stderr.write(f"ERROR: the command {words[0]} was removed: {instead}\n")
        return USAGE_ERROR
    try:
        if words[:1] == ["clean"]:
            _cleaning().parse_args(words[1:])
            return clean()
        return judge(words)
    except SystemExit as ended:
        return int(ended.code or 0)
    except KeyboardInterrupt:
        sys.stderr.write("etcd TLS: NO VERDICT: interrupted before the first check\n")
        return INTERRUPTED


class _Help(argparse.HelpFormatter):
    """Wraps the help without breaking the name of an option."""

    def _split_lines(self, text: str, width: int) -> list[str]:
        from textwrap import wrap

        return wrap(text, width, break_on_hyphens=False)


class _Parser(argparse.ArgumentParser):
    """Says which option was meant, and ends as pytest does."""

    def error(self, message: str) -> NoReturn:
        if wrong := re.match(r"unrecognized arguments: (-\S*)", message):
            known = [name for name in self._option_string_actions if name.startswith("--")]
            name = wrong[1].partition("=")[0]
            message = f"there is no option {name} (options of pytest follow --){did_you_mean(name, known)}"
        self.exit(USAGE_ERROR, f"ERROR: {message_line(message)}\n{self.prog} --help lists the options\n")


def _cleaning() -> argparse.ArgumentParser:
    return _Parser(
        prog="pytest-etcdtls clean",
        allow_abbrev=False,
        description="Remove the etcds, directories with keys, containers and networks of runs that were "
        "killed together with their watchdog. The next run that starts an etcd does the same. What belongs "
        "to a running process, to another host or to --keep is left, and so are processes and directories of "
        "another user.",
    )


def judge(words: Sequence[str]) -> int:
    """Run the suite alone and return its exit code."""
    import pytest

    ours = list(words)
    theirs: list[str] = []
    if "--" in ours:
        place = ours.index("--")
        ours, theirs = ours[:place], ours[place + 1 :]
    # Both spellings, so that options of the documentation can be pasted.
    given = _judging().parse_args([re.sub(f"^{_PREFIX}", "--", word) for word in ours])
    arguments = [*_of_pytest(given), *_of_suite(given), *theirs]
    for name in ("PYTEST_ADDOPTS", "PYTEST_PLUGINS"):
        os.environ.pop(name, None)
    # A worker of pytest-xdist is a "python -c", which would import from the working directory.
    os.environ |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONSAFEPATH": "1"}

    class Quiet:
        began = False

        @pytest.hookimpl(wrapper=True, tryfirst=True)
        def pytest_sessionstart(self) -> Generator[None, object, object]:
            """Note that pytest calls the hook that writes the verdict from here on."""
            started = yield
            self.began = True
            return started

        @pytest.hookimpl(wrapper=True)
        def pytest_report_teststatus(self) -> Generator[None, Any, Any]:
            """Print no letter for a test."""
            status = yield
            return (status[0], "", status[2]) if status else status

    try:
        os.getcwd()
    except OSError as error:
        sys.stderr.write(
            f"ERROR: the working directory cannot be read ({error.strerror}): change to one that exists\n"
        )
        return USAGE_ERROR
    quiet = Quiet()
    code = int(pytest.main(arguments, [quiet]))
    if code == INTERRUPTED and not quiet.began:
        raise KeyboardInterrupt
    return code


def _judging() -> argparse.ArgumentParser:
    from pytest_etcdtls._version import __version__
    from pytest_etcdtls.options import SECTIONS, arguments_of

    parser = _Parser(
        prog="pytest-etcdtls",
        allow_abbrev=False,
        formatter_class=_Help,
        fromfile_prefix_chars="@",
        usage="%(prog)s [URL ...] [option ...] [-- option of pytest ...]\n       %(prog)s clean",
        description="Judge the TLS of a live etcd. Without a URL and an option that names another target: of "
        "each etcd that runs on this machine.",
        epilog="Exit codes: 0 no fault, 1 faults, 2 interrupted, 4 wrong command line. "
        "%(prog)s clean removes what killed runs have left on this host.",
    )
    parser.add_argument(
        "urls", nargs="*", type=_endpoint, metavar="URL", help="client listener, as in --endpoint"
    )
    parser.add_argument("-v", "--verbose", action="count", default=0, help="show the evidence")
    parser.add_argument(
        "-n", "--numprocesses", metavar="N", help="processes, by pytest-xdist: for --clusters"
    )
    parser.add_argument("--junitxml", metavar="FILE", help="write a JUnit report")
    parser.add_argument("--version", action="version", version=f"pytest-etcdtls {__version__}")
    for title, options in SECTIONS.items():
        group = parser.add_argument_group(title)
        for option in options:
            if option.flag.startswith(_PREFIX):
                names = (f"--{name.removeprefix(_PREFIX)}" for name in option.spellings)
                text = option.help.replace(_PREFIX, "--")
                group.add_argument(*names, help=text, **arguments_of(option))
    return parser


def _endpoint(text: str) -> str:
    if not _ENDPOINT.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not an endpoint, such as https://10.0.0.11:2379")
    return text


def _of_pytest(given: argparse.Namespace) -> Iterator[str]:
    """Yield the options with which pytest runs the suite alone and prints nothing of its own."""
    from pytest_etcdtls.options import VERBOSITY

    yield from ("-p", "etcdtls", "-p", "no:cacheprovider", "--noconftest", "-c", os.devnull, "--rootdir=.")
    yield from ("--no-header", "--override-ini=console_output_style=classic", "--pyargs", "pytest_etcdtls")
    yield from ("-qq", "--tb=no", "-rN", f"--override-ini=verbosity_{VERBOSITY}={given.verbose or -1}")
    if given.numprocesses:
        yield from ("-p", "xdist", f"--numprocesses={given.numprocesses}")
    if given.junitxml:
        yield f"--junitxml={given.junitxml}"


def _of_suite(given: argparse.Namespace) -> Iterator[str]:
    """Yield the options of the suite."""
    from pytest_etcdtls.options import LIVE, OPTIONS, Kind

    for url in given.urls:
        yield f"--etcd-endpoint={url}"
    ours = (option for option in OPTIONS if option.flag.startswith(_PREFIX))
    named = [option for option in ours if getattr(given, option.dest) is not None]
    for option in named:
        values = getattr(given, option.dest)
        for value in values if option.kind is Kind.LIST else [values]:
            yield option.flag if option.kind is Kind.FLAG else f"{option.flag}={value}"
    if not given.urls and not {option.flag for option in named} & {*(one.flag for one in LIVE), *_TARGETS}:
        yield "--etcd-pid=auto"


def clean() -> int:
    """Remove what dead owners have left, print it, and return the exit code."""
    from pytest_etcdtls.etcd.leftovers import remove_containers, remove_what_is_here

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # in an ASCII locale
    said = [*remove_what_is_here(), *remove_containers()]
    for line in said:
        sys.stdout.write(f"{message_line(line)}\n")
    if not said:
        sys.stdout.write("no killed run has left anything here\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
