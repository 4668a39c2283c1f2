"""The probes of experiments: what a check asks for, by type and name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pytest_etcdtls.experiments.setting import outcome, setting_of
from pytest_etcdtls.observations.experiment import Experiment, ForeignMember, RenewalUnderLoad, SuiteOffers
from pytest_etcdtls.probes.registry import Context, probe

_NAMES: dict[type[Any], str] = {
    SuiteOffers: "cipher-suites",
    RenewalUnderLoad: "rotation-loses-no-request",
    ForeignMember: "member-with-foreign-certificate-cannot-join",
}
"""Experiments whose observation is of a type of its own."""


@probe(Experiment, cost=0)
def _experiment(context: Context, key: str | None) -> Experiment:
    return outcome(context, Experiment, str(key))


@probe(SuiteOffers, cost=0)
def _suite_offers(context: Context, key: str | None) -> SuiteOffers:
    return outcome(context, SuiteOffers, _NAMES[SuiteOffers])


@probe(RenewalUnderLoad, cost=0)
def _renewal_under_load(context: Context, key: str | None) -> RenewalUnderLoad:
    return outcome(context, RenewalUnderLoad, _NAMES[RenewalUnderLoad])


@probe(ForeignMember, cost=0)
def _foreign_member(context: Context, key: str | None) -> ForeignMember:
    return outcome(context, ForeignMember, _NAMES[ForeignMember])


def clusters_for(needs: Iterable[tuple[type[Any], str | None]]) -> int:
    """Return how many clusters are started for these observations, one after the other."""
    settings = {setting_of(_NAMES.get(type_, str(key))) for type_, key in needs if _is_of_experiment(type_)}
    return len(settings - {None})


def _is_of_experiment(type_: type[Any]) -> bool:
    return type_ is Experiment or type_ in _NAMES
