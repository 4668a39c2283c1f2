"""Run by tests as a program: judges an etcd by every lifecycle check, until it is interrupted or killed."""

from __future__ import annotations

import sys
from pathlib import Path

from lifecycle.targets import of_binary
from pytest_etcdtls.checks.registry import select
from pytest_etcdtls.run.judge import run_checks
from pytest_etcdtls.run.observer import Observer

if __name__ == "__main__":
    while True:
        run_checks(Observer(of_binary(Path(sys.argv[1]))), select(["lifecycle"]))
