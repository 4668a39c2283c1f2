"""Fuzzes each reader of foreign bytes for a time: ``python -m fuzz.run``.

Needs ``tests`` on the path. With atheris, which follows the branches that an input
takes, where it is installed; else with hypothesis. What fails is written into the corpus. Exit code 1 if
anything fails.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Sequence

from fuzz.inputs import inputs
from fuzz.readers import CORPUS, READERS, ForeignReader
from fuzz.test_readers import holds
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st


def main(arguments: Sequence[str] | None = None) -> int:
    """Fuzz and return the exit code."""
    parser = argparse.ArgumentParser(prog="fuzz", description=(__doc__ or "").partition("\n")[0])
    seconds = float(os.environ.get("FUZZ_SECONDS", "120"))
    parser.add_argument(
        "--seconds", type=float, default=seconds, help="for each reader (default FUZZ_SECONDS or 120)"
    )
    parser.add_argument("--reader", action="append", choices=list(READERS), help="only this one; repeatable")
    parser.add_argument("--seed", type=int, default=None, help="of the first round (default: a new one)")
    parser.add_argument("--engine", choices=["atheris", "hypothesis"], default=None)
    options = parser.parse_args(arguments)
    engine = options.engine or ("atheris" if importlib.util.find_spec("atheris") else "hypothesis")
    first = options.seed if options.seed is not None else int.from_bytes(os.urandom(3), "big")
    _say(f"{engine}, seed {first}, {options.seconds:g} s for each reader")
    failed = 0
    for name in options.reader or READERS:
        if engine == "atheris":
            failed += _atheris(name, options.seconds, first)
        else:
            failed += _hypothesis(READERS[name], options.seconds, first)
    return 1 if failed else 0


def _hypothesis(reader: ForeignReader, seconds: float, first: int) -> int:
    end, tried, found = time.monotonic() + seconds, 0, b""

    def rounds(number: int) -> None:
        @seed(number)
        @settings(
            max_examples=500,
            deadline=None,
            database=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        )
        @given(st.data())
        def check(data: st.DataObject) -> None:
            nonlocal tried, found
            one = data.draw(inputs(reader))
            tried += 1
            try:
                holds(reader, one)
            except BaseException:
                found = one
                raise

        check()

    number = first
    while time.monotonic() < end:
        try:
            rounds(number)
        except Exception as error:
            _keep(reader.name, found)
            _say(f"{reader.name}: {tried} inputs, FAILED: {type(error).__name__}: {error} for {found[:80]!r}")
            return 1
        number += 1
    _say(f"{reader.name}: {tried} inputs, nothing found")
    return 0


def _atheris(name: str, seconds: float, first: int) -> int:
    directory = CORPUS / name
    directory.mkdir(exist_ok=True)
    program = (
        "import sys, atheris\n"
        "with atheris.instrument_imports(include=['pytest_etcdtls']):\n"
        "    from fuzz.readers import READERS\n"
        "from fuzz.test_readers import holds\n"
        f"reader = READERS[{name!r}]\n"
        "atheris.Setup(sys.argv, lambda data: holds(reader, data))\n"
        "atheris.Fuzz()\n"
    )
    done = subprocess.run(
        [
            *(sys.executable, "-c", program, f"-max_total_time={int(seconds)}", f"-seed={first or 1}"),
            *("-max_len=4096", "-timeout=60", "-rss_limit_mb=2048", f"-artifact_prefix={directory}/"),
        ],
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    tried = [line for line in done.stderr.splitlines() if line.startswith(("Done", "stat::number"))]
    _say(f"{name}: {tried[-1] if tried else ''} {'FAILED' if done.returncode else 'nothing found'}")
    if done.returncode:
        _say(done.stderr[-3000:])
    return int(done.returncode != 0)


def _keep(name: str, data: bytes) -> None:
    directory = CORPUS / name
    directory.mkdir(exist_ok=True)
    (directory / hashlib.sha256(data).hexdigest()[:12]).write_bytes(data)


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
