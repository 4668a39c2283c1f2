"""A few of the draws of ``python -m model.run``, on every available etcd."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from model.comparing import Place, compare
from model.drawing import draw

SEED = 12
DRAWS = 16


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Where the etcds run."""
    with Place.within(tmp_path_factory.mktemp("model")) as place:
        yield place


def test_the_model_agrees_with_etcd(etcd_binary: Path, place: Place) -> None:
    done = [compare(draw(SEED, number), etcd_binary, place, SEED) for number in range(DRAWS)]
    assert not [one.describe() for one in done if one.differences]
    started = [one for one in done if one.started]
    assert 0 < len(started) < DRAWS
    assert sum(one.attempts for one in started) > len(started)


def test_a_seed_draws_the_same_configuration_again() -> None:
    assert [draw(SEED, number) for number in range(50)] == [draw(SEED, number) for number in range(50)]
    assert draw(SEED, 1) != draw(SEED + 1, 1)


def test_a_wrong_model_is_found(newest_etcd: Path, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison finds a model without the reasons why etcd does not start."""
    monkeypatch.setattr("model.comparing.traps_of", lambda *_: ())
    monkeypatch.setattr("model.comparing._stopped_by_files", lambda *_: [])
    done = (compare(draw(SEED, number), newest_etcd, place, SEED) for number in range(DRAWS))
    first = next(one for one in done if one.differences)
    assert first.differences == ("it does not start, and the model says that it does",)
