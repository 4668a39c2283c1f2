"""Judging one listener, or the whole target, by one check."""

from __future__ import annotations

from pytest_etcdtls.checks.registry import catalogue
from pytest_etcdtls.checks.results import CheckResult
from pytest_etcdtls.role import Role
from pytest_etcdtls.run.judge import Judge
from pytest_etcdtls.run.observer import Observer
from pytest_etcdtls.target import Listener, Target


def listener_of(target: Target, role: Role) -> Listener:
    """Return the first listener of that role."""
    return next(listener for listener in target.listeners if listener.role is role)


def judge(target: Target, check: str, role: Role | None = None) -> CheckResult:
    """Judge the first listener of that role by a check; the whole target without a role."""
    listener = None if role is None else listener_of(target, role)
    return Judge(Observer(target)).result(catalogue()[check], listener)
