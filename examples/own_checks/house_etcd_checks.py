"""Checks of our own, which `pip install .` adds to those of pytest-etcdtls."""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

from msgspec.structs import replace

from pytest_etcdtls.facts.certificates import ServedChain
from pytest_etcdtls.registry import check
from pytest_etcdtls.results import Finding, Note, Statement
from pytest_etcdtls.role import Role
from pytest_etcdtls.target import Listener

LONGEST = timedelta(days=398)


def _long_ago(chain: ServedChain, **_: object) -> Mapping[str, Any]:
    """Return what the check is to find: the sample, observed long after its certificate was issued."""
    return {"chain": replace(chain, observed_at=chain.leaf.not_valid_before_utc + 2 * LONGEST)}


@check("house.certificate-age", on={Role.CLIENT, Role.PEER}, counterexample=_long_ago)
def certificates_are_renewed(here: Listener, chain: ServedChain) -> Iterator[Statement]:
    """The served certificate was issued within 398 days.

    An older one shows that the renewal does not run.

    Spec: House rules, 4
    Severity: medium
    Level: MUST
    Remediation: run the renewal, which writes --{peer}cert-file.
    """
    age = chain.observed_at - chain.leaf.not_valid_before_utc
    if age > LONGEST:
        yield Finding(
            message=f"the certificate of {here.url} is {age.days} days old",
            expected=f"at most {LONGEST.days} days",
            observed=f"{age.days} days",
        )
    else:
        yield Note(f"{age.days} days old")
