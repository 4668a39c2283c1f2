"""Starts an etcd with given arguments; what it logs of its settings, and what it should log."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from starting import running_etcd

from pytest_etcdtls.children import child_environment
from pytest_etcdtls.declared.effective import TLSSide
from pytest_etcdtls.etcd_log.parse import LogEntry, read_entries

DEADLINE = 60.0
_INFO = re.compile(r"(?:^|, )([a-z-]+) = ([^, ]+)")


@dataclass(frozen=True)
class Run:
    """The result of a start."""

    started: bool
    log: str

    def logged(self, message: str) -> LogEntry:
        """Return the only entry with a message that begins so; etcd 3.4 needs ``--logger=zap``."""
        [entry] = [entry for entry in read_entries(self.log) if entry.message.startswith(message)]
        return entry

    def side(self, name: str) -> dict[str, str]:
        """Return what etcd has logged of the TLS settings of ``client`` or ``peer``."""
        said = dict(_INFO.findall(self.logged(f"starting with {name} TLS").text("tls-info")))
        return {flag: value for flag, value in said.items() if flag in _READ and value != "false"}


_READ = ("cert", "key", "trusted-ca", "client-cert-auth", "crl-file")


def expected(side: TLSSide) -> dict[str, str]:
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
    variables = {**child_environment(), **environment}
    with running_etcd([binary, *arguments], directory / "of-etcd.log", variables, user=user) as etcd:
        if to_the_end:
            with suppress(subprocess.TimeoutExpired):
                etcd.process.wait(DEADLINE)
        return Run(not to_the_end and etcd.serves(DEADLINE), etcd.text)
