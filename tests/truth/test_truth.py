"""Drawn clusters are judged as a Go client finds them, on every available etcd, and a wrong verdict is found.

``TRUTH_DRAWS=1000 TRUTH_SEED=7`` draws more of them, and others.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from truth import comparing
from truth.asking import GoClient
from truth.comparing import Comparer
from truth.drawing import PROPERTIES, Scenario, draw
from truth.judging import Verdict, judge
from truth.setting_up import Options, Place

SEED, DRAWS = (int(os.environ.get(f"TRUTH_{name}") or 4) for name in ("SEED", "DRAWS"))


@pytest.fixture(scope="module")
def comparer(tmp_path_factory: pytest.TempPathFactory, program: Callable[[str], str]) -> Iterator[Comparer]:
    """What compares; skipped with a message without Go."""
    program("go")
    directory = tmp_path_factory.mktemp("truth")
    with Place.within(directory) as place:
        yield Comparer(place, GoClient(directory))


def test_verdicts_are_the_truth(etcd_binary: Path, comparer: Comparer) -> None:
    done = [comparer.compare(draw(SEED, number), etcd_binary) for number in range(DRAWS)]
    different = [one.describe() for one in done if one.differences]
    assert not different, "\n".join(different)
    assert any(one.started for one in done)


@pytest.mark.parametrize(
    "scenario",
    [
        Scenario({"http-url": "http"}),
        Scenario({"peer": "code-usage", "told-ca": "other"}),
        Scenario({"client": "critical", "told-ca": "none"}),
        Scenario({"client": "sub-ca-server-usage", "told-ca": "other"}),
        Scenario({"client": "sub-ca-excluded", "told-ca": "none"}),
        Scenario({"client": "sub-ca-expired", "told-ca": "none"}),
        Scenario({"client-url": "https+http", "http-url": "https"}),
        Scenario({"client-url": "same-address", "http-url": "https", "told-declaration": "manifest"}),
        Scenario({"served-kind": "encipherment-only"}),
        Scenario({"peer-hostname": "wildcard", "told-ca-key": "yes"}),
        Scenario({"client": "negative-serial", "told-ca-key": "yes"}),
        Scenario({"peer-crl": "pem-crlf", "peer": "other-address+localhost"}),
        Scenario({"members": "one-host", "m1:peer-dials": "foreign"}),
        Scenario({"members": "one-host", "m1:peer-ca": "server-usage"}),
        Scenario({"members": "one-host", "told-client": "none"}),
        Scenario({"members": "three-hosts", "m1:client-ca": "ca+other"}),
        Scenario({"members": "one-host", "m1:client-hostname": "right", "told-declaration": "manifest"}),
        Scenario({"peer-ca": "not-yet-valid"}),
    ],
    ids=str,
)
def test_verdicts_that_were_wrong(etcd_binary: Path, comparer: Comparer, scenario: Scenario) -> None:
    compared = comparer.compare(scenario, etcd_binary, checks=())
    assert not compared.differences, compared.describe()


@pytest.mark.parametrize("members", PROPERTIES["members"])
def test_the_good_cluster_is_clean_by_every_check(
    etcd_binary: Path, comparer: Comparer, members: str
) -> None:
    compared = comparer.compare(Scenario({"members": members}), etcd_binary, checks=())
    assert compared.started
    assert compared.verdict.clean
    assert not compared.differences
    assert compared.connections > 0


@pytest.mark.parametrize(
    ("scenario", "rule"),
    [
        (Scenario({"client-auth": "off"}), "open"),
        (Scenario({"client-url": "http"}), "open"),
        (Scenario({"client": "expired"}), "good"),
        (Scenario({"served-times": "expired"}), "served"),
        (Scenario({"members": "three-hosts", "m1:client-ca": "ca+other"}), "same"),
    ],
    ids=str,
)
def test_a_clean_run_on_a_broken_cluster_is_found(
    newest_etcd: Path, comparer: Comparer, monkeypatch: pytest.MonkeyPatch, scenario: Scenario, rule: str
) -> None:
    def always_clean(options: Options, checks: object) -> Verdict:
        verdict = judge(options)
        kept = tuple(result for result in verdict.results if result.check.startswith("listener."))
        return replace(verdict, line="CLEAN", results=kept)

    assert not comparer.compare(scenario, newest_etcd).differences
    monkeypatch.setattr(comparing, "judge", always_clean)
    found = comparer.compare(scenario, newest_etcd).differences
    assert rule in {one.rule for one in found}
