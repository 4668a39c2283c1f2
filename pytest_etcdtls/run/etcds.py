"""The etcds of a run: from which program or image each is started, and when it is stopped."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING

from pytest_etcdtls.errors import NoEtcdError
from pytest_etcdtls.settings.read import Owned, owned_sources
from pytest_etcdtls.target import safe, unique

if TYPE_CHECKING:
    # A run on a live cluster starts none.
    from pytest_etcdtls.etcd.cluster import Cluster
    from pytest_etcdtls.etcd.config import ClusterConfig
    from pytest_etcdtls.etcd.replay import ReplayedEtcd, ReplayPlan
    from pytest_etcdtls.etcd.request import ClusterRequest
    from pytest_etcdtls.etcd.sources import Announce, EtcdSource


class Etcds:
    """The etcds that a run starts, for its targets and for tests. None is started before it is asked for.

    Args:
        owned: what the user set about them.
        announce: called with a message before a download that takes long.
        pulls: a missing image may be pulled.
        prepare: returns the configuration that a cluster is started with.
    """

    def __init__(
        self,
        owned: Owned,
        announce: Announce | None = None,
        *,
        pulls: bool = True,
        prepare: Callable[[ClusterConfig, EtcdSource], ClusterConfig] = lambda config, _: config,
    ) -> None:
        self._owned = owned
        self._announce = announce
        self._pulls = pulls
        self._prepare = prepare
        self._no_etcd: NoEtcdError | None = None
        self._started: list[Cluster | ReplayedEtcd] = []

    @cached_property
    def sources(self) -> Mapping[str, EtcdSource]:
        """The etcds to start, each with the label of its target.

        Raises:
            UsageError: if there is no etcd to start an owned cluster from.
        """
        if self._no_etcd is not None:
            raise self._no_etcd
        try:
            sources = owned_sources(self._owned, self._announce, pulls=self._pulls)
        except NoEtcdError as error:
            self._no_etcd = error  # searched for once
            raise
        labelled: dict[str, EtcdSource] = {}
        for source in sources:
            labelled[unique(f"etcd-{safe(source.version)}", labelled)] = source
        return labelled

    def requested(self, request: ClusterRequest, label: str | None) -> tuple[ClusterConfig, EtcdSource]:
        """Return the configuration and the etcd of a test's request, by default those of its target.

        Raises:
            UsageError: if the request cannot be met.
        """
        owned = self._owned
        source = request.source(
            lambda: self.sources.get(label or "") or next(iter(self.sources.values())),
            lambda: [*self.sources.values()] if owned.binaries or owned.images else [],
        )
        return request.config(owned.config), source

    def start(self, config: ClusterConfig, source: EtcdSource) -> Cluster:
        """Start a cluster that is stopped at the end of the run at the latest.

        Raises:
            UsageError: if that etcd does not support the configuration.
            ClusterStartError: if it does not start.
        """
        from pytest_etcdtls.etcd.cluster import start_cluster

        prepared = self._prepare(config, source)
        cluster = start_cluster(prepared, source, keep=self._owned.keep, seconds=self._owned.start_seconds)
        self._started.append(cluster)
        return cluster

    def start_replay(self, plan: ReplayPlan, source: EtcdSource) -> ReplayedEtcd:
        """Start an etcd with the user's declaration. It is stopped at the end of the run at the latest.

        Raises:
            ClusterStartError: if it cannot be tried.
        """
        from pytest_etcdtls.etcd.replay import ReplayedEtcd

        etcd = ReplayedEtcd(plan, source, keep=self._owned.keep, seconds=self._owned.start_seconds)
        self._started.append(etcd)
        return etcd

    def keep_messages(self) -> list[str]:
        """Return for each cluster that is kept the message how to connect to it."""
        from pytest_etcdtls.etcd.cluster import Cluster, keep_message

        kept = [cluster for cluster in self._started if cluster.is_kept]
        return [keep_message(made) if isinstance(made, Cluster) else made.keep_message() for made in kept]

    def stop(self) -> None:
        """Stop all of them, the last one first."""
        for etcd in reversed(self._started):
            etcd.stop()
