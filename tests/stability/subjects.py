"""The subjects of repeated runs: clean clusters by preset, and the members of the zoo."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from starting import start_process
from zoo.judging import judge_member
from zoo.members import ZOO

from pytest_etcdtls.checks.registry import select
from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.etcd.presets import PRESETS
from pytest_etcdtls.results import CheckResult
from pytest_etcdtls.run.judge import run_checks
from pytest_etcdtls.run.observer import Observer

_MEMBERS = {member.name: member for member in ZOO}


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One cluster to judge, on one version of etcd. Small, so that it can be sent to another process.

    Attributes:
        kind: ``preset`` or ``zoo``.
        name: of the preset, or of the member of the zoo.
        version: of etcd.
        binary: that etcd.
        checks: patterns of ``--etcd-check``; a member of the zoo has its own.
    """

    kind: str
    name: str
    version: str
    binary: Path
    checks: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.kind} {self.name} on etcd {self.version}"

    def judge(self, directory: Path) -> list[CheckResult]:
        """Start the cluster and judge it.

        Args:
            directory: an empty one.

        Raises:
            UsageError: if that etcd cannot be started so.
            ClusterStartError: if it does not start.
        """
        if self.kind == "zoo":
            return judge_member(_MEMBERS[self.name], self.binary, directory)[1]
        with start_process(PRESETS[self.name].config, self.binary) as cluster:
            return run_checks(Observer(cluster.target()), select(self.checks))


def subjects(
    binaries: Mapping[str, Path],
    *,
    presets: Sequence[str] = (),
    zoo: Sequence[str] = (),
    checks: Sequence[str] = (),
) -> list[Subject]:
    """Return the subjects for every etcd; ``all`` stands for all presets, and for the whole zoo.

    Raises:
        UsageError: for a name that does not exist.
    """
    return [
        Subject(kind=kind, name=name, version=version, binary=binary, checks=tuple(checks))
        for version, binary in binaries.items()
        for kind, wanted, known in (("preset", presets, list(PRESETS)), ("zoo", zoo, list(_MEMBERS)))
        for name in _names(kind, wanted, known)
    ]


def _names(kind: str, wanted: Sequence[str], known: Sequence[str]) -> list[str]:
    if "all" in wanted:
        return list(known)
    for name in wanted:
        if name not in known:
            raise UsageError(f"{kind} {name!r} does not exist: there are {', '.join(known)}")
    return list(wanted)
