"""Versions of two ports of one member: different ones, and one that is not decided yet."""

from __future__ import annotations

import pytest

from pytest_etcdtls.facts.api import VersionAnswers
from pytest_etcdtls.registry import catalogue
from pytest_etcdtls.results import Finding


@pytest.mark.parametrize(
    ("client", "peer", "differ"),
    [
        (("3.7.3", "3.7.0"), ("3.7.3", "3.7.0"), False),
        (("3.7.3", "3.0.0"), ("3.7.3", "3.7.0"), False),
        (("3.7.3", "not_decided"), ("3.7.3", "3.0.0"), False),
        (("3.7.3", "3.6.0"), ("3.7.3", "3.7.0"), True),
        (("3.7.3", "3.7.0"), ("3.7.2", "3.7.0"), True),
    ],
)
def test_a_cluster_version_that_is_not_decided_is_not_another_version(
    client: tuple[str, str], peer: tuple[str, str], differ: bool
) -> None:
    answers = tuple(
        (url, dict(zip(("etcdserver", "etcdcluster"), reported, strict=True)))
        for url, reported in (("https://127.0.0.1:2379", client), ("https://127.0.0.1:2380", peer))
    )
    said = list(catalogue()["api.version-agrees"].function(versions=VersionAnswers(answers=answers)))
    assert any(isinstance(one, Finding) for one in said) is differ
