"""Which listeners are one member: members at one host, a member with two hosts, members of two clusters.

No cluster can be started with members of another one, so these targets are composed here; every etcd in them
is real.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from judged import judge, listener_of
from live.target_kinds import at_hosts, only
from starting import start_process

from pytest_etcdtls.checks.results import CheckResult, Outcome
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.pki.authority import CertificateAuthority
from pytest_etcdtls.pki.bundle import encode_certificates
from pytest_etcdtls.role import Role
from pytest_etcdtls.run.judge import run_checks
from pytest_etcdtls.run.observer import Observer
from pytest_etcdtls.target import PortCredentials, Target

GOOD = ClusterConfig()


def _run(target: Target, *checks: str) -> dict[str, CheckResult]:
    return {result.check: result for result in run_checks(Observer(target), checks)}


def test_three_members_at_one_host(etcd_binary: Path) -> None:
    checks = ("cluster.same-ca", "cluster.same-policy", "cluster.same-version", "cluster.one-cluster")
    with start_process(replace(GOOD, size=3, metrics="http"), etcd_binary) as cluster:
        named = at_hosts(cluster.target(), "127.0.0.1", "localhost", "127.0.0.1")
        good = _run(named, *checks)
        first = only(cluster.target(), lambda one: one.member == "m0").listeners
        alone = _run(replace(named, listeners=first), *checks[:3])
        bundle = cluster.members[1].file("client-ca.crt")
        another = CertificateAuthority.create("another CA").certificate
        bundle.write_bytes(bundle.read_bytes() + encode_certificates([another]))
        cluster.restart_member(1)
        forgotten = _run(named, *checks)
    assert {check: result.outcome for check, result in good.items()} == dict.fromkeys(
        checks, Outcome.CONFORMS
    )
    assert good["cluster.one-cluster"].reason.endswith(", 3 of 3 members seen")
    for result in alone.values():
        assert (result.outcome, "--etcd-endpoint" in result.reason) == (Outcome.NOT_VERIFIED, True)
    [finding] = forgotten.pop("cluster.same-ca").findings
    assert finding.message.startswith(f"https://localhost:{urlsplit(cluster.members[1].client_url).port} ")
    assert {result.outcome for result in forgotten.values()} == {Outcome.CONFORMS}


def _joined(first: Target, second: Target) -> Target:
    """Return both as one target; the second one's member is ``m1``."""
    moved = (replace(one, member="m1", label=f"{one.role}-m1") for one in second.listeners)
    return replace(
        first,
        listeners=(*first.listeners, *moved),
        client=_both(first.client, second.client),
        peer=_both(first.peer, second.peer),
    )


def _both(first: PortCredentials, second: PortCredentials) -> PortCredentials:
    renamed = tuple(replace(identity, name=f"{identity.name}-m1") for identity in second.identities)
    return replace(first, identities=(*first.identities, *renamed), signing_key=None)


@pytest.mark.kills("cluster.one-cluster")
def test_two_clusters(newest_etcd: Path) -> None:
    with start_process(GOOD, newest_etcd) as first, start_process(GOOD, newest_etcd) as second:
        result = judge(_joined(first.target(), second.target()), "cluster.one-cluster")
    assert result.outcome is Outcome.VIOLATES
    assert result.findings[0].observed.count("https://") == 4


def test_the_metrics_of_another_cluster(etcd_binary: Path) -> None:
    config = replace(GOOD, metrics="http")
    with start_process(config, etcd_binary) as first, start_process(config, etcd_binary) as second:
        target, foreign = first.target(), listener_of(second.target(), Role.METRICS)
        own = only(target, lambda one: one.role is not Role.METRICS).listeners
        good = judge(target, "cluster.one-cluster")
        result = judge(replace(target, listeners=(*own, foreign)), "cluster.one-cluster")
    assert (good.outcome, good.findings) == (Outcome.CONFORMS, ())
    assert result.outcome is Outcome.VIOLATES
    [finding] = result.findings
    assert finding.message == f"{foreign.url} is not a member of its cluster"
    assert "/metrics" in str(finding.reproduce[0])


@pytest.mark.kills("cluster.members-agree")
def test_a_stale_copy_of_a_member(newest_etcd: Path) -> None:
    # The same peer URL and token make the same cluster and member IDs.
    token = ("--initial-cluster-token=copied",)
    with start_process(replace(GOOD, extra_flags=token), newest_etcd) as first:
        url = first.members[0].peer_url
        flags = (*token, f"--initial-advertise-peer-urls={url}", f"--initial-cluster=m0={url}")
        with start_process(replace(GOOD, extra_flags=flags), newest_etcd) as second:
            joined = _joined(first.target(), second.target())
            result = judge(joined, "cluster.members-agree")
            one_cluster = judge(joined, "cluster.one-cluster")
    assert one_cluster.outcome is Outcome.CONFORMS
    assert result.outcome is Outcome.WARNS


@pytest.mark.kills("cluster.same-version")
@pytest.mark.two_etcds
def test_members_with_two_versions(etcd_binaries: dict[str, Path]) -> None:
    older, *_, newest = etcd_binaries.values()
    with start_process(GOOD, older) as first, start_process(GOOD, newest) as second:
        result = judge(_joined(first.target(), second.target()), "cluster.same-version")
        versions = {first.version, second.version}
    assert result.outcome is Outcome.WARNS
    assert all(version in result.findings[0].observed for version in versions)


@pytest.mark.kills("cluster.same-policy")
def test_a_member_that_requests_no_certificate(newest_etcd: Path) -> None:
    config = replace(GOOD, client_cert_auth=False, trusted_ca_file=None)
    with start_process(GOOD, newest_etcd) as first, start_process(config, newest_etcd) as second:
        result = judge(_joined(first.target(), second.target()), "cluster.same-policy")
    assert result.outcome is Outcome.VIOLATES
    assert "requests a certificate in none" in result.findings[0].observed


def test_a_member_that_trusts_a_second_ca_of_the_same_name(newest_etcd: Path) -> None:
    config = replace(GOOD, trusted_ca_file="two.pem", expects_health=False)
    two = encode_certificates([CertificateAuthority.create("etcd client-port CA").certificate for _ in "ab"])
    with (
        start_process(GOOD, newest_etcd) as first,
        start_process(replace(config, extra_files={"two.pem": two}), newest_etcd) as second,
    ):
        [finding] = judge(_joined(first.target(), second.target()), "cluster.same-ca").findings
    assert finding.observed.endswith(": CN=etcd client-port CA (2 certificates)")


def test_hosts_that_were_not_named_are_not_contacted(newest_etcd: Path) -> None:
    flags = ("--advertise-client-urls=https://etcd.example:2379",)
    with start_process(replace(GOOD, extra_flags=flags), newest_etcd) as cluster:
        observer = Observer(replace(cluster.target(), origin="live"))
        [result] = run_checks(observer, ["cluster.advertised-reachable"])
    assert result.outcome is Outcome.NOT_VERIFIED
    assert "--etcd-discover" in result.reason
    assert {urlsplit(attempt.url).hostname for attempt in observer.connections} == {"127.0.0.1"}
