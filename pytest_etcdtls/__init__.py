"""Conformance checks of TLS on a running etcd, from the wire.

All public names, by subject. Names are resolved at first use, since pytest imports this package at every
start, including runs that do not use it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from pytest_etcdtls._version import __version__

if TYPE_CHECKING:
    from pytest_etcdtls.checks.registry import EVERY_LISTENER, Check, check, select
    from pytest_etcdtls.errors import (
        ClusterStartError,
        EtcdTLSError,
        InconclusiveError,
        NotApplicableError,
        NotVerifiedError,
        RegistrationError,
        UnobservedError,
        UsageError,
    )
    from pytest_etcdtls.etcd.cluster import Cluster, start_cluster
    from pytest_etcdtls.etcd.config import ClusterConfig, ClusterOptions
    from pytest_etcdtls.etcd.member import Member
    from pytest_etcdtls.etcd.presets import PRESETS, Preset
    from pytest_etcdtls.etcd.request import ClusterChoices
    from pytest_etcdtls.etcd.testcontainer import EtcdTLSContainer
    from pytest_etcdtls.facts.fact import Wire, fact
    from pytest_etcdtls.pki.authority import CertificateAuthority
    from pytest_etcdtls.pki.bundle import ClusterPKI
    from pytest_etcdtls.pki.profile import CLIENT, PEER, SERVER, CALayout, Identity, KeyType, PKIPlan, Profile
    from pytest_etcdtls.results import (
        CannotJudge,
        CheckResult,
        Finding,
        Level,
        Note,
        Outcome,
        Severity,
        Statement,
    )
    from pytest_etcdtls.role import Role
    from pytest_etcdtls.run.conforming import prove_check
    from pytest_etcdtls.run.credentials import Credential, Credentials, WriteRefusedError
    from pytest_etcdtls.run.judge import run_checks
    from pytest_etcdtls.run.observer import Observer
    from pytest_etcdtls.settings.cluster_list import live_target
    from pytest_etcdtls.suite.embedding import BoundCheck, ClusterFactory, assert_conforms
    from pytest_etcdtls.target import Bounds, Listener, PortCredentials, SigningKey, Target, TrustBundle
    from pytest_etcdtls.tls.attempt import Request

_MODULES = {
    "pki.authority": ("CertificateAuthority",),
    "pki.profile": ("CLIENT", "CALayout", "Identity", "PEER", "PKIPlan", "SERVER", "KeyType", "Profile"),
    "pki.bundle": ("ClusterPKI",),
    "etcd.cluster": ("Cluster", "start_cluster"),
    "etcd.config": ("ClusterConfig", "ClusterOptions"),
    "etcd.request": ("ClusterChoices",),
    "etcd.member": ("Member",),
    "etcd.presets": ("PRESETS", "Preset"),
    "etcd.testcontainer": ("EtcdTLSContainer",),
    "target": ("Bounds", "Listener", "PortCredentials", "Role", "SigningKey", "Target", "TrustBundle"),
    "run.observer": ("Observer",),
    "facts.fact": ("Wire", "fact"),
    "tls.attempt": ("Request",),
    "checks.registry": ("EVERY_LISTENER", "Check", "check", "select"),
    "run.judge": ("run_checks",),
    "suite.embedding": ("BoundCheck", "ClusterFactory", "assert_conforms"),
    "results": ("CheckResult", "Finding", "Level", "Note", "Outcome", "Severity", "CannotJudge", "Statement"),
    "errors": (
        "ClusterStartError",
        "EtcdTLSError",
        "InconclusiveError",
        "NotApplicableError",
        "NotVerifiedError",
        "RegistrationError",
        "UnobservedError",
        "UsageError",
    ),
    "settings.cluster_list": ("live_target",),
    "run.conforming": ("prove_check",),
    "run.credentials": ("Credential", "Credentials", "WriteRefusedError"),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [  # noqa: RUF022 - grouped by subject
    # keys and certificates
    "CLIENT",
    "PEER",
    "SERVER",
    "CALayout",
    "CertificateAuthority",
    "ClusterPKI",
    "Identity",
    "KeyType",
    "PKIPlan",
    "Profile",
    # owned clusters
    "PRESETS",
    "Cluster",
    "ClusterChoices",
    "ClusterConfig",
    "ClusterFactory",
    "ClusterOptions",
    "EtcdTLSContainer",
    "Member",
    "Preset",
    "start_cluster",
    # credentials by name
    "Credential",
    "Credentials",
    # targets
    "Listener",
    "PortCredentials",
    "Role",
    "SigningKey",
    "Target",
    "TrustBundle",
    "live_target",
    # observing and judging
    "EVERY_LISTENER",
    "BoundCheck",
    "Bounds",
    "Check",
    "CheckResult",
    "Finding",
    "Level",
    "Note",
    "Observer",
    "Outcome",
    "Request",
    "Severity",
    "CannotJudge",
    "Statement",
    "Wire",
    "assert_conforms",
    "check",
    "fact",
    "observe",
    "prove_check",
    "run_checks",
    "select",
    # what goes wrong
    "ClusterStartError",
    "EtcdTLSError",
    "InconclusiveError",
    "NotApplicableError",
    "NotVerifiedError",
    "RegistrationError",
    "UnobservedError",
    "UsageError",
    "WriteRefusedError",
    "__version__",
]


def observe(target: Target, bounds: Bounds | None = None) -> Observer:
    """Return an observer of a target. It connects when an observation is first requested.

    Args:
        target: the target to observe.
        bounds: timeout, concurrency and maximum number of connections (default: those of the options).
    """
    from pytest_etcdtls.run.observer import Observer

    return Observer(target, bounds)


if not TYPE_CHECKING:  # a type checker reports a name that is not there

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
