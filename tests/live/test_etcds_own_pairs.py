"""A pair of etcd itself that is not valid now: one fault, in words about etcd; in each way of a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from kubeadm.judging import Given
from plugin.runs import Runner, run
from process.containers import process_of, targets
from starting import start_process, write_unit
from zoo.clusters import expired, restart_one_with, write_pair

from pytest_etcdtls.checks.results import CheckResult, Outcome
from pytest_etcdtls.declared import running
from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.etcd.cluster import Cluster
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.pki.profile import PEER, SERVER, Profile
from pytest_etcdtls.report.model import faults
from pytest_etcdtls.run.judge import run_checks
from pytest_etcdtls.run.observer import Observer
from pytest_etcdtls.settings.etcd_pid import read_declared
from pytest_etcdtls.settings.read import live_targets
from pytest_etcdtls.target import Target

__all__ = ["run"]

_DIALS, _SERVES = "config.dials-with-valid-certificates", "cert.valid-now"


def _not_yet(profile: Profile) -> Profile:
    return replace(profile, valid_from=timedelta(days=1))


def _dials_with_an_expired_pair(cluster: Cluster) -> None:
    write_pair(cluster, "dials-with", cluster.pki.peer_ca, member=2)
    try:
        restart_one_with(
            cluster, 2, peer_client_cert_file="dials-with.crt", peer_client_key_file="dials-with.key"
        )
    except UsageError as error:
        pytest.skip(f"not to be expressed in this version: {error}")
    write_pair(cluster, "dials-with", cluster.pki.peer_ca, expired(PEER), member=2)


def _peers_pair(change: Callable[[Profile], Profile]) -> Callable[[Cluster], None]:
    return lambda cluster: write_pair(cluster, "peer", cluster.pki.peer_ca, change(PEER), member=2)


def _clients_pair(change: Callable[[Profile], Profile]) -> Callable[[Cluster], None]:
    return lambda cluster: write_pair(cluster, "server", cluster.pki.server_ca, change(SERVER), member=2)


def _by_endpoints(cluster: Cluster, directory: Path) -> list[Target]:
    """Return the target of the endpoints of all, with the declaration of each."""
    units = [directory / f"{member.name}.service" for member in cluster.members]
    for member, unit in zip(cluster.members, units, strict=True):
        write_unit(member, unit)
    first = cluster.members[0]
    options = Given(
        etcd_endpoint=[member.client_url for member in cluster.members],
        etcd_cacert=first.file("server-ca.crt"),
        etcd_cert=first.file("client.crt"),
        etcd_key=first.file("client.key"),
        etcd_config=units,
    )
    return live_targets(options, read_declared(options))


def _by_process(cluster: Cluster, _: Path) -> list[Target]:
    return targets(etcd_pid=",".join(str(process_of(member.server).pid) for member in cluster.members))


def _by_auto(cluster: Cluster, _: Path) -> list[Target]:
    """Return the target of all processes, as on a machine on which no other test starts one."""
    with pytest.MonkeyPatch.context() as patch:
        ours = [process_of(member.server) for member in cluster.members]
        patch.setattr(running, "find_processes", lambda _: ours)
        return targets(etcd_pid="auto")


_WAYS = {"endpoints": _by_endpoints, "pid": _by_process, "auto": _by_auto}


def _judged(found: Sequence[Target]) -> list[CheckResult]:
    return [result for target in found for result in run_checks(Observer(target))]


def _assert_one_fault(results: Sequence[CheckResult], check: str, message: str) -> None:
    found = faults(results, Outcome.VIOLATES)
    assert [fault.first.check for fault in found] == [check], found
    assert message in found[0].first.message
    texts = [one.message for one in results if one.outcome in (Outcome.VIOLATES, Outcome.WARNS)]
    assert not [text for text in texts if "your client certificate" in text]
    assert "give the new pair to the client" not in found[0].first.remediation


@pytest.mark.kills(_DIALS)
@pytest.mark.parametrize("way", _WAYS)
@pytest.mark.parametrize(
    ("change", "check", "message"),
    [
        (_dials_with_an_expired_pair, _DIALS, " dials other members with --peer-client-cert-file="),
        (_peers_pair(expired), _SERVES, "the certificate expired 7 days ago"),
        (_peers_pair(_not_yet), _SERVES, "the certificate is not yet valid"),
        (_clients_pair(expired), _SERVES, "the certificate expired 7 days ago"),
        (_clients_pair(_not_yet), _SERVES, "the certificate is not yet valid"),
    ],
    ids=["dials", "peer-expired", "peer-not-yet", "client-expired", "client-not-yet"],
)
def test_one_pair_of_one_member(
    change: Callable[[Cluster], None],
    check: str,
    message: str,
    way: str,
    etcd_binary: Path,
    tmp_path: Path,
) -> None:
    with start_process(ClusterConfig(size=3), etcd_binary) as cluster:
        change(cluster)
        results = _judged(_WAYS[way](cluster, tmp_path))
    _assert_one_fault(results, check, message)
    [fault] = [one for one in results if one.check == check and one.outcome is Outcome.VIOLATES]
    last = cluster.members[2]
    assert (
        fault.message.startswith("m2") if check == _DIALS else fault.url in (last.client_url, last.peer_url)
    )


def test_valid_pairs_of_their_own(newest_etcd: Path, tmp_path: Path) -> None:
    config = ClusterConfig(
        size=3, peer_client_cert_file="peer-client.crt", peer_client_key_file="peer-client.key"
    )
    with start_process(config, newest_etcd) as cluster:
        results = _judged([*_by_endpoints(cluster, tmp_path), *_by_process(cluster, tmp_path)])
    assert not faults(results, Outcome.VIOLATES)
    assert {one.outcome for one in results if one.check == _DIALS} == {Outcome.CONFORMS}


def test_the_run_has_no_further_problem(newest_etcd: Path, run: Runner) -> None:
    """A listener that accepts no known client has a fault that says why."""
    with start_process(ClusterConfig(size=3), newest_etcd) as cluster:
        _dials_with_an_expired_pair(cluster)
        pids = ",".join(str(process_of(member.server).pid) for member in cluster.members)
        ran = run("--pyargs", "pytest_etcdtls", f"--etcd-pid={pids}")
    assert ran.exit_code == 1
    assert "exit code 1: 1 fault\n" in ran.out
