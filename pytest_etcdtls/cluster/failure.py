"""The error of an etcd that did not come up, worded alike for processes and containers."""

from __future__ import annotations

from pytest_etcdtls.errors import ClusterStartError

_LINES = 40


def start_failure(attempted: str, happened: str, log: str) -> ClusterStartError:
    """Return an error that ends with the last forty lines of etcd's log.

    Args:
        attempted: what was started: ``etcd 3.6.16 (/usr/bin/etcd), member m0 at https://127.0.0.1:20000``.
        happened: ``exited with status 1``.
        log: everything that etcd has logged.
    """
    tail = log.splitlines()[-_LINES:]
    end = "its log is empty" if not tail else "\n".join(["its log ends:", *tail])
    return ClusterStartError(f"{attempted} did not come up: {happened}; {end}")
