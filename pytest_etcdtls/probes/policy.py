"""What the user decided and told us, which no connection shows."""

from __future__ import annotations

from pytest_etcdtls.errors import UnobservedError
from pytest_etcdtls.observations.chain import Dialling
from pytest_etcdtls.observations.cluster import MemberListing
from pytest_etcdtls.observations.policy import Policy
from pytest_etcdtls.probes.contact import listener_of
from pytest_etcdtls.probes.registry import Context, probe
from pytest_etcdtls.target import Role


@probe(Policy, cost=0)
def _policy(context: Context, key: str | None) -> Policy:
    return Policy(expiry_days=context.target.expiry_days)


@probe(Dialling, cost=0, needs=[(MemberListing, None)])
def _dialling(context: Context, key: str | None) -> Dialling:
    role, known = listener_of(context).role, context.target.dials_with_another
    if known is not None:
        return Dialling(with_another=role in known)
    return Dialling(with_another=None, members=_members(context) if role is Role.PEER else None)


def _members(context: Context) -> int | None:
    try:
        return len(context.get(MemberListing).members)
    except UnobservedError:
        return None
