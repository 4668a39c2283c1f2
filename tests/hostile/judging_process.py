"""A process that judges one listener after the other, each in a fork of its own, and says what that took.

The memory and the time of a fork are those of one target. Run as a program it makes a PKI in the directory
that is its argument, reads URLs, a line each, and writes a line of JSON for each.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from pytest_etcdtls.checks.registry import select as select_checks
from pytest_etcdtls.pki.bundle import ClusterPKI
from pytest_etcdtls.pki.profile import MemberNames, PKIPlan
from pytest_etcdtls.role import Role
from pytest_etcdtls.run.judge import run_checks
from pytest_etcdtls.run.observer import Observer
from pytest_etcdtls.target import Bounds, Listener, PortCredentials, Target, TrustBundle

TIMEOUT = 1.0
"""Seconds, as --etcd-timeout."""

HANGS = 150
"""Seconds after which judging one listener hangs: it is killed."""

CHECKS = (
    *("listener", "cert.trusted", "cert.valid-now", "tls.version-floor", "mtls.no-certificate"),
    *("mtls.plaintext-refused", "api.version-body", "api.healthy", "api.grpc-range"),
    "api.grpc-over-http2-only",
)

_ADDRESS_SPACE = 3 << 30
"""Octets, so that a bomb kills the fork and not the machine."""


@dataclass(frozen=True)
class Judged:
    """What came of one listener.

    Attributes:
        outcomes: by check; empty if judging was killed or ended in an exception.
        reasons: of them, in words.
        status: of the process, as :func:`os.waitstatus_to_exitcode` has it.
        seconds: that it took.
        mebibytes: of resident memory at its peak.
    """

    outcomes: Mapping[str, str]
    reasons: Mapping[str, str]
    status: int
    seconds: float
    mebibytes: float

    @property
    def counts(self) -> Counter[str]:
        """How many checks have each outcome."""
        return Counter(self.outcomes.values())


class JudgingProcess:
    """The side of the tests.

    Attributes:
        pki: directory of the certificates that a server needs to be taken for the cluster's.
    """

    def __init__(self, directory: Path) -> None:
        self.pki = directory / "pki"
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(self.pki)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        )
        self._read()

    def judge(self, url: str) -> Judged:
        """Judge a listener as the client port of a live etcd."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{url}\n")
        self._process.stdin.flush()
        return Judged(**json.loads(self._read()))

    def _read(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the judging process has ended"
        return line

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


def main(directory: Path) -> None:
    """Judge until standard input ends."""
    pki = ClusterPKI.generate(PKIPlan(), [MemberNames("m0")])
    pki.write(directory)
    checks = select_checks(CHECKS)
    _say("ready")
    for line in sys.stdin:
        target = _target(pki, line.strip())
        read, write = os.pipe()
        begin = time.monotonic()
        child = os.fork()
        if child == 0:
            os.close(read)
            resource.setrlimit(resource.RLIMIT_AS, (_ADDRESS_SPACE, _ADDRESS_SPACE))
            signal.alarm(HANGS)
            results = run_checks(Observer(target, Bounds(timeout=TIMEOUT)), checks)
            found = {
                "outcomes": {result.check: result.outcome.value for result in results},
                "reasons": {result.check: _reason(result) for result in results},
            }
            with os.fdopen(write, "w", encoding="utf-8") as pipe:
                json.dump(found, pipe)
            os._exit(0)
        os.close(write)
        with os.fdopen(read, encoding="utf-8") as pipe:
            text = pipe.read()
        _, status, usage = os.wait4(child, 0)
        found = json.loads(text) if text else {"outcomes": {}, "reasons": {}}
        _say(
            json.dumps(
                {
                    **found,
                    "status": os.waitstatus_to_exitcode(status),
                    "seconds": time.monotonic() - begin,
                    "mebibytes": usage.ru_maxrss / 1024,
                }
            )
        )


def _reason(result: object) -> str:
    return f"{getattr(result, 'reason', '')} {getattr(result, 'findings', '')}"[:2000]


def _target(pki: ClusterPKI, url: str) -> Target:
    parts = urlsplit(url)
    listener = Listener(
        role=Role.CLIENT,
        scheme="https",
        host=str(parts.hostname),
        port=int(parts.port or 0),
        member="m0",
        label="client-m0",
    )
    client = PortCredentials(
        server_ca=TrustBundle((pki.server_ca.certificate,), "ca"),
        identities=(pki.client,),
        client_trust=TrustBundle((pki.client_ca.certificate,), "ca"),
    )
    peer = replace(client, identities=(pki.peer_client,))
    return Target(label="hostile", origin="live", listeners=(listener,), client=client, peer=peer)


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
