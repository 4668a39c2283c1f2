"""Judging a target, or one of its listeners by one check."""

from __future__ import annotations

from pytest_etcdtls.checks.registry import catalogue, select
from pytest_etcdtls.checks.results import CheckResult
from pytest_etcdtls.role import Role
from pytest_etcdtls.run.judge import Judge, run_checks
from pytest_etcdtls.run.observer import Observer
from pytest_etcdtls.target import Listener, Target


def judged(target: Target, *patterns: str) -> list[CheckResult]:
    """Judge with the checks that the patterns of ``--etcd-check`` name."""
    return run_checks(Observer(target), select(patterns))


def listener_of(target: Target, role: Role) -> Listener:
    """Return the first listener of that role."""
    return next(listener for listener in target.listeners if listener.role is role)


def judge(target: Target, check: str, role: Role | None = None) -> CheckResult:
    """Judge the first listener of that role by a check; the whole target without a role."""
    listener = None if role is None else listener_of(target, role)
    return Judge(Observer(target)).result(catalogue()[check], listener)
