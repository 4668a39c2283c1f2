"""What the user decided and told us: no connection shows it."""

from __future__ import annotations

from pytest_etcdtls.observations.chain import Dialling
from pytest_etcdtls.observations.policy import Policy
from pytest_etcdtls.probes.contact import listener_of
from pytest_etcdtls.probes.registry import Context, probe


@probe(Policy, cost=0)
def _policy(context: Context, key: str | None) -> Policy:
    return Policy(expiry_days=context.target.expiry_days)


@probe(Dialling, cost=0)
def _dialling(context: Context, key: str | None) -> Dialling:
    return Dialling(with_another=listener_of(context).role in context.target.dials_with_another)
