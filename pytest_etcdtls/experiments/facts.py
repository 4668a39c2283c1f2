"""The probes of experiments by their names: what a check asks for."""

from __future__ import annotations

from pytest_etcdtls.experiments.setting import outcome
from pytest_etcdtls.observations.experiment import Experiment, ForeignMember, RenewalUnderLoad, SuiteOffers
from pytest_etcdtls.probes.registry import Context, probe


@probe(Experiment, cost=0)
def _experiment(context: Context, key: str | None) -> Experiment:
    return outcome(context, Experiment, str(key))


@probe(SuiteOffers, cost=0)
def _suite_offers(context: Context, key: str | None) -> SuiteOffers:
    return outcome(context, SuiteOffers, "cipher-suites")


@probe(RenewalUnderLoad, cost=0)
def _renewal_under_load(context: Context, key: str | None) -> RenewalUnderLoad:
    return outcome(context, RenewalUnderLoad, "rotation-loses-no-request")


@probe(ForeignMember, cost=0)
def _foreign_member(context: Context, key: str | None) -> ForeignMember:
    return outcome(context, ForeignMember, "member-with-foreign-certificate-cannot-join")
