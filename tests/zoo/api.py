"""Clusters whose API is too open, or does not work."""

from __future__ import annotations

from dataclasses import replace

from zoo.client_access import GOOD
from zoo.model import Misconfigured

from pytest_etcdtls.etcd.cluster import Cluster
from pytest_etcdtls.role import Protocol
from pytest_etcdtls.tls.attempt import Request
from pytest_etcdtls.tls.connection import make_attempt
from pytest_etcdtls.tls.http import encode

_ACTIVATE, _NOSPACE = 1, 1
"""AlarmRequest's action and alarm (etcdserverpb)."""


def _raise_alarm(cluster: Cluster) -> None:
    target = cluster.target()
    request = Request(
        purpose="raise an alarm",
        identity=target.client.identities[0],
        protocol=Protocol.GRPC,
        path="/etcdserverpb.Maintenance/Alarm",
        body=encode({1: _ACTIVATE, 3: _NOSPACE}),
    )
    response = make_attempt(target.listeners[0], request, timeout=10).response
    assert response is not None
    assert response.headers["grpc-status"] == "0"


ZOO = [
    Misconfigured(
        name="no-space",
        what="the alarm NOSPACE is raised: the database has reached its quota",
        config=GOOD,
        after_start=_raise_alarm,
        warned={"client": ["api.healthy"]},
    ),
    Misconfigured(
        name="v2-enabled",
        what="the v2 API is enabled",
        config=replace(GOOD, extra_flags=("--enable-v2=true",)),
        warned={"client": ["api.v2-disabled"]},
        lines=("3.4", "3.5"),
        # From 3.5.11 on there are /livez and /readyz, but not in the handler of the v2 API.
        by_version={
            "3.5": {"warns": {"client": ["api.v2-disabled", "api.health-endpoints"]}},
            "3.5.1": {"warns": {"client": ["api.v2-disabled"]}},
        },
    ),
    Misconfigured(
        name="pprof-enabled",
        what="etcd serves pprof profiles",
        config=replace(GOOD, extra_flags=("--enable-pprof",)),
        warned={"client": ["api.pprof-hidden"]},
    ),
    Misconfigured(
        name="log-level-debug",
        what="the log level is debug, with which etcd serves pprof profiles too",
        config=replace(GOOD, extra_flags=("--log-level=debug",)),
        warned={"client": ["api.pprof-hidden"]},
        lines=("3.5", "3.6", "3.7"),
    ),
]
