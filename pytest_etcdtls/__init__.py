"""Conformance checks of TLS on a running etcd, from the wire.

All public names, by subject. Names are resolved at first use, since pytest imports this package at every
start, including runs that do not use it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from pytest_etcdtls._version import __version__

if TYPE_CHECKING:
    from pytest_etcdtls.checks.registry import EVERY_LISTENER, check
    from pytest_etcdtls.checks.results import (
        CannotJudge,
        CheckResult,
        Finding,
        Level,
        Note,
        Outcome,
        Severity,
        Statement,
    )
    from pytest_etcdtls.errors import (
        ClusterStartError,
        EtcdTLSError,
        InconclusiveError,
        NotApplicableError,
        NotVerifiedError,
        UsageError,
    )
    from pytest_etcdtls.etcd.cluster import Cluster, start_cluster
    from pytest_etcdtls.etcd.config import ClusterConfig
    from pytest_etcdtls.etcd.member import Member
    from pytest_etcdtls.etcd.presets import PRESETS
    from pytest_etcdtls.etcd.testcontainer import EtcdTLSContainer
    from pytest_etcdtls.facts.fact import Wire, fact
    from pytest_etcdtls.pki.profile import CLIENT, PEER, SERVER, KeyType, PKIPlan
    from pytest_etcdtls.role import Role
    from pytest_etcdtls.run.conforming import prove_check
    from pytest_etcdtls.run.credentials import Credentials, WriteRefusedError
    from pytest_etcdtls.run.judge import run_checks
    from pytest_etcdtls.run.observer import Observer
    from pytest_etcdtls.settings.cluster_list import live_target
    from pytest_etcdtls.suite.embedding import BoundCheck, ClusterFactory, assert_conforms
    from pytest_etcdtls.target import Bounds, Listener, Target
    from pytest_etcdtls.tls.attempt import Request

_MODULES = {
    "pki.profile": ("CLIENT", "PEER", "SERVER", "KeyType", "PKIPlan"),
    "etcd.cluster": ("Cluster", "start_cluster"),
    "etcd.config": ("ClusterConfig",),
    "etcd.member": ("Member",),
    "etcd.presets": ("PRESETS",),
    "etcd.testcontainer": ("EtcdTLSContainer",),
    "run.credentials": ("Credentials", "WriteRefusedError"),
    "target": ("Bounds", "Listener", "Target"),
    "role": ("Role",),
    "settings.cluster_list": ("live_target",),
    "run.observer": ("Observer",),
    "facts.fact": ("Wire", "fact"),
    "tls.attempt": ("Request",),
    "checks.registry": ("EVERY_LISTENER", "check"),
    "run.judge": ("run_checks",),
    "suite.embedding": ("BoundCheck", "ClusterFactory", "assert_conforms"),
    "run.conforming": ("prove_check",),
    "checks.results": (
        "CannotJudge",
        "CheckResult",
        "Finding",
        "Level",
        "Note",
        "Outcome",
        "Severity",
        "Statement",
    ),
    "errors": (
        *("ClusterStartError", "EtcdTLSError", "UsageError"),
        *("InconclusiveError", "NotApplicableError", "NotVerifiedError"),
    ),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [  # noqa: RUF022 - grouped by subject
    # owned clusters, their keys and certificates
    "CLIENT",
    "PEER",
    "PRESETS",
    "SERVER",
    "Cluster",
    "ClusterConfig",
    "ClusterFactory",
    "Credentials",
    "EtcdTLSContainer",
    "KeyType",
    "Member",
    "PKIPlan",
    "start_cluster",
    # targets, observing and judging
    "BoundCheck",
    "Bounds",
    "CheckResult",
    "Listener",
    "Observer",
    "Outcome",
    "Role",
    "Target",
    "assert_conforms",
    "live_target",
    "run_checks",
    # checks and facts of one's own
    "EVERY_LISTENER",
    "CannotJudge",
    "Finding",
    "Level",
    "Note",
    "Request",
    "Severity",
    "Statement",
    "Wire",
    "check",
    "fact",
    "prove_check",
    # what goes wrong
    "ClusterStartError",
    "EtcdTLSError",
    "InconclusiveError",
    "NotApplicableError",
    "NotVerifiedError",
    "UsageError",
    "WriteRefusedError",
    "__version__",
]

GONE = {
    "etcd_pki": "etcd_cluster.pki",
    "etcd_session_client": "etcd_client, which serves every scope",
    "CALayout": "PRESETS['one-ca'].config.pki and the like",
    "CertificateAuthority": "cluster.pki.client_ca, cluster.rotate_ca(), or trustme for CAs without an etcd",
    "Check": "ids and patterns, as for run_checks(observer, ['mtls.*'])",
    "ClusterChoices": "the keyword arguments of start_cluster() and etcd_cluster_factory()",
    "ClusterOptions": "ClusterConfig",
    "ClusterPKI": "cluster.pki",
    "Credential": "credentials['expired'] and the like",
    "Identity": "cluster.pki.client and the like",
    "PortCredentials": "live_target()",
    "Preset": "PRESETS['default'] and the like",
    "Profile": "dataclasses.replace(CLIENT, ...), of PEER or of SERVER",
    "RegistrationError": "EtcdTLSError",
    "SigningKey": "live_target(..., ca_key='ca.key')",
    "TrustBundle": "live_target(..., cacert='ca.crt')",
    "UnobservedError": "EtcdTLSError",
    "observe": "Observer(target)",
    "select": "patterns, as for run_checks(observer, ['mtls.*'])",
}
"""Fixtures and public names that were removed, and what to use instead."""

if not TYPE_CHECKING:  # a type checker reports a name that is not there

    def __getattr__(name: str) -> object:
        if name in GONE:  # an AttributeError would not be shown by "from pytest_etcdtls import ..."
            raise ImportError(f"{__name__}.{name} was removed: use {GONE[name]}")
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
