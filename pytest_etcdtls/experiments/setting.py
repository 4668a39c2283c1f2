"""A setting: one kind of cluster, started once per target, and the experiments that are made on it in a row.

Starts it from the very etcd of the target, and only if that is a cluster of ours: what is done here restarts
etcd and changes its files. Knows no particular experiment.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pytest_etcdtls.cluster.backend import EtcdSource, start_cluster
from pytest_etcdtls.cluster.config import ClusterConfig
from pytest_etcdtls.cluster.flags import UnknownFlagError
from pytest_etcdtls.cluster.interface import Cluster
from pytest_etcdtls.errors import (
    ClusterStartError,
    InconclusiveError,
    NotApplicableError,
    RegistrationError,
    UnobservedError,
    UsageError,
)
from pytest_etcdtls.experiments.bench import Bench
from pytest_etcdtls.probes.registry import Context, probe
from pytest_etcdtls.target import Target

T = TypeVar("T")

Conduct = Callable[[Bench], Any]
"""Makes one experiment and returns its observation; leaves the files as it found them."""


@dataclass(frozen=True, slots=True)
class Setting:
    """A cluster, and the experiments on it by name, in order."""

    config: ClusterConfig
    experiments: Mapping[str, Conduct]


@dataclass(frozen=True, slots=True)
class Conducted:
    """What came of the experiments of a setting, by name: an observation, or why there is none."""

    outcomes: Mapping[str, Any]


_SETTINGS: dict[str, Setting] = {}
_SETTING_OF: dict[str, str] = {}


def setting(name: str, config: ClusterConfig, experiments: Mapping[str, Conduct]) -> Setting:
    """Register a setting.

    Args:
        name: of the setting.
        config: of its cluster.
        experiments: by their names, made in this order.

    Raises:
        RegistrationError: if a name is taken.
    """
    if name in _SETTINGS or set(experiments) & set(_SETTING_OF):
        raise RegistrationError(f"the setting {name!r}, or one of its experiments, is registered already")
    _SETTINGS[name] = Setting(config, experiments)
    _SETTING_OF.update(dict.fromkeys(experiments, name))
    return _SETTINGS[name]


def setting_of(experiment: str) -> str | None:
    """Return the name of the setting of an experiment, ``None`` if there is no such experiment."""
    return _SETTING_OF.get(experiment)


def outcome(context: Context, type_: type[T], experiment: str) -> T:
    """Return what came of an experiment of the target; its setting is set up now if it was not.

    Raises:
        UnobservedError: if nothing came of it.
    """
    found = context.get(Conducted, _SETTING_OF[experiment]).outcomes[experiment]
    if isinstance(found, UnobservedError):
        raise type(found)(found.reason)
    if not isinstance(found, type_):
        raise TypeError(f"the experiment {experiment} gives {type(found).__name__}, not {type_.__name__}")
    return found


@probe(Conducted, cost=0)
def _conducted(context: Context, key: str | None) -> Conducted:
    chosen = _SETTINGS[str(key)]
    with start_like(context.target, chosen.config) as cluster:
        bench = Bench(cluster, context.timeout)
        return Conducted({name: _made(conduct, bench) for name, conduct in chosen.experiments.items()})


def start_like(target: Target, config: ClusterConfig) -> Cluster:
    """Start another cluster from the etcd of a target.

    Raises:
        NotApplicableError: if the target is live, or its etcd has no flag for something in the configuration.
        InconclusiveError: if the cluster does not start.
    """
    if target.origin == "live" or target.source is None or target.etcd_version is None:
        raise NotApplicableError("only on a cluster of our own: it restarts etcd and changes its files")
    source = EtcdSource(
        kind=target.origin, location=target.source, version=target.etcd_version, why="as the one judged"
    )
    try:
        return start_cluster(config, source)
    except UnknownFlagError as error:
        raise NotApplicableError(str(error)) from error
    except (ClusterStartError, UsageError) as error:
        raise InconclusiveError(f"the cluster for the experiment did not start: {error}") from error


def _made(conduct: Conduct, bench: Bench) -> Any:  # noqa: ANN401 - an observation of any type
    try:
        return conduct(bench)
    except UnobservedError as unobserved:
        return unobserved
    except (ClusterStartError, OSError) as error:
        return InconclusiveError(f"the experiment could not be made: {error}")
