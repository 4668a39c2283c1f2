"""The verdicts on certificates are those of a Go client, on generated chains; exceptions are listed."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from oracle.chains import cases
from oracle.clients import GoClient
from oracle.exceptions import agrees, is_exempt
from oracle.judging import judge
from shares import TURN

NOW = datetime.now(UTC)
PER_SEED = 250
SEEDS = range(1000 + TURN % 4 * 6, 1006 + TURN % 4 * 6)
"""A quarter of 6,000 cases, in turn."""


@pytest.mark.parametrize("seed", SEEDS)
def test_a_must_violates_if_and_only_if_go_refuses(go: GoClient, seed: int) -> None:
    generated = list(cases(PER_SEED, seed, NOW))
    answers = go.ask(generated)
    assert len({answer.refused for answer in answers}) == 2
    different, broken = [], []
    for case, answer in zip(generated, answers, strict=True):
        verdicts = judge(case)
        where = f"seed {seed}, case {case.number}: {', '.join(case.mutations)}"
        broken += [f"{where}: {check}: {reason}" for check, reason in verdicts.broken.items()]
        if not agrees(answer, verdicts) and not is_exempt(case, answer, verdicts):
            different.append(f"{where}: Go says {answer}, violated are {sorted(verdicts.violated)}")
    assert broken == []
    assert different == []


def test_a_conforming_chain_has_no_finding() -> None:
    """Every fiftieth case has no mutation."""
    for case in (found for found in cases(51, 0, NOW) if not found.mutations):
        verdicts = judge(case)
        assert (dict(verdicts.violated), verdicts.broken, verdicts.unloadable) == ({}, {}, "")


def test_the_go_release_is_that_of_etcds_client() -> None:
    """etcd 3.6 and 3.7 have a go line of 1.26: it decides GODEBUG defaults."""
    assert "\ngo 1.26\n" in Path(__file__).with_name("verify").joinpath("go.mod").read_text(encoding="utf-8")
