"""Starts an etcd with given arguments; what it logs, if the model is right."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pytest_etcdtls.children import child_environment
from pytest_etcdtls.declared.effective import TLSSide

DEADLINE = 60.0
_SERVES = re.compile(r"serving (?:insecure )?client (?:requests on|traffic)")


@dataclass(frozen=True)
class Run:
    """The result of a start."""

    started: bool
    log: str


def logged(side: TLSSide) -> dict[str, str]:
    """Return what etcd logs of one side when it starts."""
    said = {
        "cert": side.certificate,
        "key": side.key,
        "trusted-ca": side.trusted_ca,
        "client-cert-auth": "true" if side.client_cert_auth else "",
        "crl-file": side.crl_file,
    }
    return {name: value for name, value in said.items() if value}


def run(
    binary: Path,
    arguments: Sequence[str],
    environment: Mapping[str, str],
    directory: Path,
    *,
    to_the_end: bool = False,
    user: int | None = None,
) -> Run:
    """Start etcd, wait until it serves clients or ends, and stop it.

    With ``to_the_end``, wait until it ends by itself, even if it logs that it serves. A ``user`` is its ID,
    which its group has too.
    """
    process = subprocess.Popen(
        [binary, *arguments],
        env={**child_environment(), **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        cwd=directory,
        start_new_session=True,
        user=user,
        group=user,
        extra_groups=None if user is None else (),
    )
    watchdog = threading.Timer(DEADLINE, process.kill)
    watchdog.start()
    lines: list[str] = []
    try:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if _SERVES.search(line) and not to_the_end:
                return Run(True, "".join(lines))
        return Run(False, "".join(lines))
    finally:
        watchdog.cancel()
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
