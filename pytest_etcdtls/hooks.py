"""The hooks of this plugin, for a ``conftest.py`` or another plugin.

An implementation takes those of the arguments that it names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_etcdtls.checks.results import CheckResult
    from pytest_etcdtls.etcd.config import ClusterConfig
    from pytest_etcdtls.etcd.sources import EtcdSource
    from pytest_etcdtls.target import Target


@pytest.hookspec(firstresult=True)
def pytest_etcdtls_cluster_config(
    config: pytest.Config, cluster_config: ClusterConfig, source: EtcdSource
) -> ClusterConfig | None:
    """Change the configuration of an owned cluster that is about to be started.

    Called for each cluster of the suite and of the fixtures. The clusters of experiments are made from that.

    Args:
        config: pytest's configuration.
        cluster_config: the configuration, from the options or the test.
        source: the etcd that will be started, with ``version`` and ``location``.

    Returns:
        The configuration to use, with the same listeners; ``None`` to change nothing. The first one counts.
    """


@pytest.hookspec
def pytest_etcdtls_judged(
    config: pytest.Config, target: Target, results: Sequence[CheckResult], faults: Sequence[CheckResult]
) -> None:
    """Receive the results of the suite on a target, at the end of the run and before reports are written.

    An exception fails the run with one line that names it.

    Args:
        config: pytest's configuration.
        target: the target, with every listener.
        results: one result for each selected check and listener, waivers applied.
        faults: the violations that follow from no other.
    """


@pytest.hookspec
def pytest_etcdtls_report_metadata(config: pytest.Config) -> Mapping[str, str] | None:
    """Return metadata of the run for the reports of the suite: a ticket, an environment, a commit.

    Called before anything is judged, in each process that judges. A value of ``--etcd-metadata`` has
    precedence, then that of the implementation that is called first. A value that is no mapping of texts
    ends the run with exit code 4.

    Args:
        config: pytest's configuration.

    Returns:
        Values by key, as for ``--etcd-metadata``; ``None`` for none.
    """
