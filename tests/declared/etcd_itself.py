"""Starts an etcd with given arguments; how clients fare at it and what it logs, if the model is right."""

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

from etcd_log.startup import LoggedTLS

from pytest_etcdtls.children import child_environment
from pytest_etcdtls.declared.effective import ClientAuthentication, CRLEffect, EffectiveListener, TLSSide
from pytest_etcdtls.pki.profile import Identity
from pytest_etcdtls.role import Protocol, Role, TLSVersion
from pytest_etcdtls.tls.attempt import Attempt, Ending, Request

DEADLINE = 60.0
_SERVES = re.compile(r"serving (?:insecure )?client (?:requests on|traffic)")


@dataclass(frozen=True)
class Run:
    """The result of a start."""

    started: bool
    log: str


def endings(declared: EffectiveListener, name: str) -> set[Ending]:
    """Return how an attempt of that identity ends, if the model is right."""
    side = declared.side
    assert side is not None
    if side.client_auth is ClientAuthentication.ANYBODY:
        return {Ending.SERVED}
    if name in ("none", "foreign") or side.client_auth is ClientAuthentication.SYSTEM_ROOTS:
        return {Ending.REFUSED}
    if Path(side.trusted_ca or "").name != f"{side.side}-ca.crt":
        return {Ending.REFUSED}  # what Go finds no CA in is a bundle without any
    common_name = "etcd-peer" if declared.role is Role.PEER and name == "good" else name
    if (side.allowed_cn and common_name not in side.allowed_cn) or side.allowed_hostname:
        return {Ending.REFUSED}
    if name == "wrong-san" and declared.san_rule:
        return {Ending.CLOSED}
    closed = {Ending.CLOSED} if "http" in declared.protocols else {Ending.REFUSED}
    if declared.crl in (CRLEffect.REFUSES_ALL, CRLEffect.UNKNOWN):
        return closed  # what is not here is nowhere: etcd runs on this very machine
    if name == "revoked" and declared.crl is CRLEffect.ENFORCED:
        return closed
    return {Ending.SERVED}


def request(declared: EffectiveListener, name: str, identity: Identity, version: TLSVersion) -> Request:
    """Return a request that the listener answers whom it accepts."""
    protocol = Protocol.HTTP1 if "http" in declared.protocols else Protocol.GRPC
    path = "/version" if protocol is Protocol.HTTP1 else "/grpc.health.v1.Health/Check"
    return Request(
        purpose=name,
        identity=identity,
        version=version,
        protocol=protocol,
        path="/health" if declared.role is Role.METRICS else path,
    )


def difference(declared: EffectiveListener, attempt: Attempt, what: str, ways: set[Ending]) -> str | None:
    """Return how an attempt ended, if it is in no expected way."""
    if attempt.ending in ways:
        return None
    expected = " or ".join(sorted(ways))
    where = f"{declared.role} {declared.url} ({declared.describe()})"
    return f"{where}: {what}: {attempt.describe()}, not {expected}"


def logged(side: TLSSide) -> LoggedTLS:
    """Return what etcd logs of one side when it starts."""
    return LoggedTLS(
        cert=side.certificate or "",
        key=side.key or "",
        trusted_ca=side.trusted_ca or "",
        client_cert_auth=side.client_cert_auth,
        crl_file=side.crl_file or "",
    )


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
