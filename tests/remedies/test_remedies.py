"""The remedy of a fault, applied as printed, removes the fault: the cluster conforms in a second run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from remedies.applying import mended
from zoo import baseline
from zoo.judging import judge_member
from zoo.members import ZOO
from zoo.model import Misconfigured, explain, found

from pytest_etcdtls.checks.registry import faults
from pytest_etcdtls.checks.results import CheckResult, Outcome
from pytest_etcdtls.errors import UsageError

NOT_OF_THE_CLUSTER = {
    *("etcd-reads-files-once", "etcd-deaf-to-rules", "etcd-open-to-clients", "etcd-restarted-on-renewal"),
    *("gateway-for-everybody", "no-space"),
}
"""What is wrong with etcd itself, or no matter of TLS: no configuration mends it."""

NOT_IN_FLAGS = {"suites-without-those-of-http2"}
"""The remedy leads to the message."""


def remedies(member: Misconfigured, version: str, results: Iterable[CheckResult]) -> Iterator[str]:
    """Yield the remedy of every fault that a clean cluster does not have, most severe first."""
    own, judged = member.found_by(version), list(results)
    for outcome in (Outcome.VIOLATES, Outcome.WARNS):
        for fault in faults(judged, outcome):
            listeners = {result.listener.rpartition("-m")[0] or result.listener for result in fault.results}
            if any(fault.first.check in own.get(listener, ()) for listener in listeners):
                yield fault.first.remediation


def left(
    member: Misconfigured, version: str, results: Iterable[CheckResult]
) -> dict[str, dict[str, set[str]]]:
    """Return the remaining findings, without the warnings of a conforming cluster."""
    usual = baseline.of(member.config, version)
    seen = found(results)
    bad = {outcome: seen[outcome] for outcome in ("violates", "inconclusive", "broken") if seen[outcome]}
    warned = {where: ids - usual.get(where, set()) for where, ids in seen["warns"].items()}
    return bad | ({"warns": warned} if any(warned.values()) else {})


IMPOSSIBLE = {("misspelt-key", "3.4"), ("misspelt-key", "3.5.1"), ("no-hybrid-group", "3.5.1")}
"""The setting that is meant exists in this line of etcd, or this version, neither as a key nor as a flag."""

BROUGHT_ABOUT = {
    # A rule that is in force again, and that etcd applies to its own gateway, which cannot satisfy it.
    "client-hostname-not-in-force": {"api.gateway-works"},
    # A listener on which a handshake is possible again, but only in TLS 1.2.
    "no-suite-fits-and-tls12-only": {"tls.tls13-offered"},
}
"""What shows only once the finding is gone, by name of the member."""

ROUNDS = 2
"""Where two faults are independent, the first can hide the second, whose remedy is printed once it shows."""


@pytest.mark.parametrize(
    "member",
    [pytest.param(one, id=one.name) for one in ZOO if one.name not in NOT_OF_THE_CLUSTER | NOT_IN_FLAGS],
)
def test_every_remedy_removes_the_finding(member: Misconfigured, etcd_binary: Path, tmp_path: Path) -> None:
    try:
        version, results = judge_member(member, etcd_binary, tmp_path)
    except UsageError as error:
        pytest.skip(f"not to be expressed in this version: {error}")
    if {(member.name, version), (member.name, version.rpartition(".")[0])} & IMPOSSIBLE:
        pytest.skip("this version has no such setting")
    printed = list(remedies(member, version, results))
    for number in range(1, ROUNDS + 1):
        assert printed, explain(results)
        better = mended(member, version, printed)
        did = (better.config, better.after_start, better.etcd)
        assert did != (member.config, member.after_start, member.etcd), (
            f"no rule of tests/remedies/applying.py is about what is wrong here in these words: {printed}"
        )
        _, results = judge_member(better, etcd_binary, tmp_path)
        still = left(better, version, results)
        if not still:
            return
        new = {check for where in still.values() for ids in where.values() for check in ids}
        before = {check for ids in member.found_by(version).values() for check in ids}
        member = better
        printed = [result.remediation for result in results if result.check in new and result.findings]
        assert number < ROUNDS, f"{printed}\n{explain(results)}"
        brought = new - before - BROUGHT_ABOUT.get(member.name, set())
        assert not brought, f"{printed} brings about {brought}\n{explain(results)}"
    raise AssertionError(printed)
