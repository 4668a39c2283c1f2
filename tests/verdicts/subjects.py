"""What is judged, in groups of subjects that are judged in the same way."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_etcdtls import PRESETS
from verdicts import clusters, drawn, imitations, runs
from verdicts.files import Values
from verdicts.judging import Etcd


@dataclass(frozen=True)
class Group:
    """Subjects that are judged in the same way.

    Attributes:
        judge: judges one on an etcd, in an empty directory.
        names: of the subjects on a version of etcd.
        alone: they need no etcd, or are alike on all of them, and are judged once, on the newest.
        several: each is several, by name, that one etcd serves one after the other.
        programs: that they need on ``PATH``.
    """

    judge: Callable[[str, Etcd, Path], Values]
    names: Callable[[str], Sequence[str]]
    alone: bool = False
    several: bool = False
    programs: tuple[str, ...] = ()

    def subjects(self, version: str) -> Sequence[str]:
        """Return the names of the subjects on a version of etcd, none without the programs."""
        return self.names(version) if all(map(shutil.which, self.programs)) else ()


def _always(names: Mapping[str, object]) -> Callable[[str], Sequence[str]]:
    return lambda version: list(names)


GROUPS: Mapping[str, Group] = {
    # Those of which one takes long are first, so that no process has the last one alone.
    "owned": Group(runs.judge_owned, lambda version: ["default"]),
    "drifts": Group(clusters.judge_drifts, clusters.drifts, alone=True, several=True),
    "kubeadm": Group(clusters.judge_kubeadm, lambda version: ["conforms"]),
    "runs": Group(runs.judge_run, _always(runs.RUNS), alone=True),
    "presets": Group(clusters.judge_preset, _always(PRESETS)),
    "zoo": Group(clusters.judge_member, clusters.members_of),
    "drawn": Group(drawn.judge_draw, drawn.draws),
    "chains": Group(drawn.judge_chains, drawn.chains, alone=True, several=True),
    "proxies": Group(
        imitations.judge_proxy, _always(imitations.PROXIES), alone=True, programs=("nginx", "haproxy")
    ),
    "impostors": Group(imitations.judge_impostor, _always(imitations.IMPOSTORS), alone=True),
    "fakes": Group(imitations.judge_fake, _always(imitations.FAKES), alone=True),
    "refusers": Group(imitations.judge_refuser, _always(imitations.REFUSERS), alone=True),
    "broken": Group(imitations.judge_broken, _always(imitations.BROKEN), alone=True),
}
