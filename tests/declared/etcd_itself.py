"""Starts an etcd with given arguments; what it logs, if the model is right."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from starting import running_etcd

from pytest_etcdtls.children import child_environment
from pytest_etcdtls.declared.effective import TLSSide

DEADLINE = 60.0


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
    variables = {**child_environment(), **environment}
    with running_etcd([binary, *arguments], directory / "of-etcd.log", variables, user=user) as etcd:
        if to_the_end:
            with suppress(subprocess.TimeoutExpired):
                etcd.process.wait(DEADLINE)
        return Run(not to_the_end and etcd.serves(DEADLINE), etcd.text)
