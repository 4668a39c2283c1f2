"""On one drawn cluster no mode of a run contradicts another, and a rehearsal is what the restart then does.

``TRUTH_DRAWS=1000 TRUTH_SEED=7`` draws more clusters, and others.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from msgspec.structs import replace as with_values

from pytest_etcdtls.checks.results import CheckResult, Outcome
from truth import modes
from truth.asking import GoClient
from truth.comparing import Comparer
from truth.drawing import Scenario
from truth.editing import ModeDraw, draw_modes
from truth.judging import Verdict, judge
from truth.modes import ModesComparer
from truth.setting_up import Options, Place

SEED, DRAWS = int(os.environ.get("TRUTH_SEED") or 4), int(os.environ.get("TRUTH_DRAWS") or 3)

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: a restart is rehearsed in a stage")


@pytest.fixture(scope="module")
def comparer(
    tmp_path_factory: pytest.TempPathFactory, program: Callable[[str], str]
) -> Iterator[ModesComparer]:
    """What compares; skipped with a message without Go."""
    program("go")
    directory = tmp_path_factory.mktemp("modes")
    with Place.within(directory) as place:
        yield ModesComparer(Comparer(place, GoClient(directory)))


def test_truth_is_the_same_in_each_mode(etcd_binary: Path, comparer: ModesComparer) -> None:
    done = [comparer.compare(draw_modes(SEED, number), etcd_binary) for number in range(DRAWS)]
    different = [one.describe() for one in done if one.differences]
    assert not different, "\n".join(different)
    assert any(one.pairs for one in done)


GOOD = Scenario()


@as_root
@pytest.mark.parametrize(
    ("drawn", "restart"),
    [
        (ModeDraw(GOOD, edit="pair renewed", rehearses=True), []),
        (
            ModeDraw(GOOD, edit="bundle of another CA", rehearses=True),
            ["restart.announced-ca", "restart.clients"],
        ),
        (ModeDraw(GOOD, edit="bundle removed", rehearses=True), ["restart.starts"]),
        (
            ModeDraw(GOOD, by_file=True, edit="authentication and bundle removed", rehearses=True),
            ["restart.announced-ca", "restart.clients"],
        ),
        (ModeDraw(GOOD, edit="a bundle that is missing", rehearses=True), ["restart.starts"]),
        (
            ModeDraw(Scenario({"client-url": "https+http"}), edit="bundle of another CA", rehearses=True),
            ["restart.announced-ca", "restart.clients", "restart.gateway"],
        ),
    ],
    ids=str,
)
def test_a_rehearsal_is_what_the_restart_does(
    newest_etcd: Path, comparer: ModesComparer, drawn: ModeDraw, restart: list[str]
) -> None:
    made = comparer.compare(drawn, newest_etcd)
    assert made.started
    assert not made.differences, made.describe()
    assert made.restart == f"really {restart}, said {restart}"


@pytest.mark.parametrize(
    ("drawn", "check", "only", "kind"),
    [
        (
            ModeDraw(Scenario({"client-auth": "off"})),
            "mtls.no-certificate",
            "etcd_config",
            "endpoints and files: client mtls.no-certificate",
        ),
        pytest.param(
            ModeDraw(GOOD, edit="bundle removed", rehearses=True),
            "restart.starts",
            "etcd_rehearse",
            "rehearsal: restart.starts",
            marks=as_root,
        ),
    ],
    ids=["mode", "rehearsal"],
)
def test_a_run_that_finds_nothing_in_one_mode_is_found(
    newest_etcd: Path,
    comparer: ModesComparer,
    monkeypatch: pytest.MonkeyPatch,
    drawn: ModeDraw,
    check: str,
    only: str,
    kind: str,
) -> None:
    def forgiving(options: Options, checks: Sequence[str]) -> Verdict:
        verdict = judge(options, checks)
        return replace(verdict, results=tuple(map(forgive, verdict.results))) if only in options else verdict

    def forgive(result: CheckResult) -> CheckResult:
        if result.check != check:
            return result
        return with_values(result, outcome=Outcome.CONFORMS, findings=())

    assert not comparer.compare(drawn, newest_etcd).differences
    monkeypatch.setattr(modes, "judge", forgiving)
    assert kind in {one.kind for one in comparer.compare(drawn, newest_etcd).differences}
