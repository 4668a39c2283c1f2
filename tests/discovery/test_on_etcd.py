"""Discovery of real clusters: the listener and API that return the list, and the members found."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from discovery.discovering import everything, found, judged, live, named, observer_of, urls
from discovery.learner import add_learner, start_learner
from starting import start_process
from zoo.model import explain

from pytest_etcdtls.checks.results import Outcome
from pytest_etcdtls.etcd.cluster import Cluster
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.facts.discovery import QueriedBy
from pytest_etcdtls.report.model import faults
from pytest_etcdtls.role import CLUSTER, Role
from pytest_etcdtls.run.judge import run_checks
from pytest_etcdtls.run.observer import Observer
from pytest_etcdtls.target import Bounds, ConnectTo, PortCredentials

GOOD = ClusterConfig()


def test_a_discovered_member_is_judged_like_a_named_one(trio: Cluster) -> None:
    by_name = live(
        trio,
        *(named(member.client_url) for member in trio.members),
        *(named(member.peer_url, Role.PEER) for member in trio.members),
    )
    listed, looked_for = (
        {(one.listener, one.check): one.outcome for one in run_checks(observer) if one.listener != CLUSTER}
        for observer in (
            Observer(replace(by_name, discover=False)),
            observer_of(live(trio, named(trio.members[0].client_url))),
        )
    )
    assert looked_for == listed


def test_discovery_by_the_peer_port_if_the_first_endpoint_does_not_answer(trio: Cluster) -> None:
    dead, peer = named("https://127.0.0.1:1"), named(trio.members[1].peer_url, Role.PEER)
    observer = observer_of(live(trio, dead, peer))
    first, *_, last = found(observer).questions
    assert "Connection refused" in str(first.why_not)
    assert (last.listener.url, last.api, last.why_not) == (peer.url, QueriedBy.MEMBERS, "")
    assert urls(observer) == {dead.url} | everything(trio)
    assert judged(observer).outcome is Outcome.CONFORMS


@pytest.mark.etcd_version("3.4", "3.5.1", "3.7")
def test_discovery_by_grpc_with_authentication(etcd_binary: Path) -> None:
    with start_process(replace(GOOD, authentication=True), etcd_binary) as cluster:
        target = replace(live(cluster, named(cluster.members[0].client_url)), user=None)
        observer = observer_of(target)
        result = judged(observer)
    assert found(observer).questions[-1].api is QueriedBy.GRPC
    assert urls(observer) == everything(cluster)
    assert result.outcome is Outcome.CONFORMS


@pytest.mark.etcd_version("3.5.33", "3.7")
def test_discovery_by_the_gateway_of_a_separate_http_listener(etcd_binary: Path) -> None:
    with start_process(replace(GOOD, client_http=True), etcd_binary) as cluster:
        url = cluster.members[0].client_http_url
        assert url is not None
        observer = observer_of(live(cluster, named(url, Role.CLIENT_HTTP)))
    assert found(observer).questions[-1].api is QueriedBy.GATEWAY
    assert urls(observer) == everything(cluster) | {url}
    assert judged(observer).outcome is Outcome.CONFORMS


def test_a_member_that_only_an_http_url_leads_to_is_one_fault(newest_etcd: Path) -> None:
    config = replace(GOOD, extra_flags=("--advertise-client-urls=http://127.0.0.1:1",))
    with start_process(config, newest_etcd) as cluster:
        results = run_checks(observer_of(live(cluster, named(cluster.members[0].client_url))), ["cluster"])
    [fault] = faults(results)
    assert fault.first.check == "cluster.advertised-https"
    assert "cluster.discovered" in {result.check for result in fault.consequences}


def test_a_name_and_an_address_of_one_listener_are_judged_once(trio: Cluster) -> None:
    member = trio.members[0]
    local = [
        named(member.client_url.replace("127.0.0.1", "localhost")),
        named(member.peer_url.replace("127.0.0.1", "localhost"), Role.PEER),
    ]
    observer = observer_of(live(trio, *local))
    assert urls(observer) == {one.url for one in local} | everything(trio, lambda index: index != 0)
    reachable = judged(observer, "cluster.advertised-reachable")
    assert (judged(observer).outcome, reachable.outcome) == (Outcome.CONFORMS, Outcome.CONFORMS)


def test_rules_apply_to_discovered_listeners(newest_etcd: Path) -> None:
    advertised = "https://etcd.example:2379"
    with start_process(
        replace(GOOD, extra_flags=(f"--advertise-client-urls={advertised}",)), newest_etcd
    ) as cluster:
        member = cluster.members[0]
        port = int(member.client_url.rpartition(":")[2])
        rule = ConnectTo(text="r", host="etcd.example", port=2379, to_host="127.0.0.1", to_port=port)
        by_peer = replace(live(cluster, named(member.peer_url, Role.PEER)), connect_to=(rule,))
        observer = observer_of(by_peer)
        listener = next(one for one in observer.target.listeners if one.url == advertised)
        answers = judged(observer, "listener.answers", listener)
        covered = judged(observer, "cert.covers-endpoint", listener)
        tunnel = observer_of(replace(by_peer, listeners=(named(member.client_url),)))
    assert (answers.outcome, covered.outcome) == (Outcome.CONFORMS, Outcome.VIOLATES)
    assert urls(tunnel) == everything(cluster)
    assert judged(tunnel).outcome is Outcome.CONFORMS


def test_an_advertised_plaintext_listener_is_judged_as_plaintext(newest_etcd: Path) -> None:
    plain = "http://etcd.example:2379"
    flags = (f"--advertise-client-urls={plain}",)
    with start_process(
        replace(GOOD, plaintext_on_client_port=True, extra_flags=flags), newest_etcd
    ) as cluster:
        member = cluster.members[0]
        port = int(member.client_url.rpartition(":")[2])
        rule = ConnectTo(text="r", host="etcd.example", to_host="127.0.0.1", to_port=port)
        observer = observer_of(replace(live(cluster, named(member.client_url)), connect_to=(rule,)))
        listener = next(one for one in observer.target.listeners if one.url == plain)
        refused = judged(observer, "mtls.plaintext-refused", listener)
        advertised = judged(observer, "cluster.advertised-https")
        discovered = judged(observer)
    assert (refused.outcome, advertised.outcome) == (Outcome.VIOLATES, Outcome.VIOLATES)
    assert discovered.outcome is Outcome.CONFORMS


@pytest.mark.kills("cluster.discovered")
@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("https://0.0.0.0:2379", "every address of the client's own machine"),
        ("unix://m0:0", "on the member's machine only"),
    ],
)
def test_a_url_that_does_not_lead_to_the_member(url: str, says: str, newest_etcd: Path) -> None:
    config = replace(GOOD, extra_flags=(f"--advertise-client-urls={url}",))
    with start_process(config, newest_etcd) as cluster:
        observer = observer_of(live(cluster, named(cluster.members[0].client_url)))
        result = judged(observer)
    assert result.outcome is Outcome.VIOLATES
    assert result.findings[0].message == "m0 cannot be found by the client URLs that it advertises"
    assert says in result.findings[0].observed
    assert urls(observer) == everything(cluster)


def test_members_that_advertise_one_url_cannot_be_told_apart(newest_etcd: Path) -> None:
    config = replace(GOOD, size=3, extra_flags=("--advertise-client-urls=https://etcd.example:2379",))
    with start_process(config, newest_etcd) as cluster:
        observer = observer_of(live(cluster, named(cluster.members[0].client_url)))
        result = judged(observer)
        members = {one.member for one in observer.target.listeners if one.role is Role.PEER}
    assert result.outcome is Outcome.VIOLATES
    (finding,) = result.findings
    assert finding.observed.count("(m0 advertises it as well)") == 2
    assert len(members) == 3


def test_a_member_that_was_not_started_is_listed(newest_etcd: Path) -> None:
    with start_process(GOOD, newest_etcd) as cluster:
        peer = "https://127.0.0.1:1031"
        add_learner(cluster, peer)
        observer = observer_of(live(cluster, named(cluster.members[0].client_url)))
        result = judged(observer)
        listener = next(one for one in observer.target.listeners if one.url == peer)
        answers = judged(observer, "listener.answers", listener)
    assert (result.outcome, answers.outcome) == (Outcome.INCONCLUSIVE, Outcome.INCONCLUSIVE)
    assert "no client URL is advertised by " in result.reason
    assert "have not been started" in result.reason


def test_a_learner_is_judged_as_well(newest_etcd: Path, tmp_path: Path) -> None:
    with start_process(GOOD, newest_etcd) as cluster, start_learner(cluster, tmp_path) as learner:
        observer = observer_of(live(cluster, named(cluster.members[0].client_url)))
        results = run_checks(observer)
    assert found(observer).describe().endswith("learner (learner), m0")
    bad = (Outcome.VIOLATES, Outcome.INCONCLUSIVE, Outcome.BROKEN)
    assert explain([result for result in results if result.outcome in bad]) == ""
    assert urls(observer) == everything(cluster) | {learner.client_url, learner.peer_url}


def test_a_list_that_needs_a_certificate_is_not_green(trio: Cluster) -> None:
    target = live(trio, named(trio.members[0].client_url))
    client = PortCredentials(server_ca=target.client.server_ca)
    observer = observer_of(replace(target, client=client, peer=PortCredentials()))
    result = judged(observer)
    assert result.outcome is Outcome.INCONCLUSIVE
    assert "--etcd-cert" in result.reason


def test_discovery_stays_within_the_cap(trio: Cluster) -> None:
    observer = observer_of(live(trio, named(trio.members[0].client_url)), Bounds(max_connections=3))
    assert sum(observer.used.values()) == 3
    assert judged(observer).outcome is Outcome.INCONCLUSIVE
    assert "--etcd-max-connections" in judged(observer).reason


def test_the_list_is_returned_without_a_quorum(newest_etcd: Path) -> None:
    with start_process(replace(GOOD, size=3), newest_etcd) as cluster:
        for index in (1, 2):
            cluster.stop_member(index)
        observer = observer_of(live(cluster, named(cluster.members[0].client_url)))
    assert found(observer).questions[-1].api is QueriedBy.GRPC
    assert urls(observer) == everything(cluster)


def test_the_list_is_requested_with_the_option_alone_and_of_no_metrics_listener(trio: Cluster) -> None:
    by_metrics = observer_of(live(trio, named("http://127.0.0.1:1", Role.METRICS)))
    assert judged(by_metrics).outcome is Outcome.INCONCLUSIVE
    assert "--etcd-endpoint" in judged(by_metrics).reason
    without = observer_of(replace(live(trio, named(trio.members[0].client_url)), discover=False))
    assert judged(without).outcome is Outcome.NOT_APPLICABLE
    assert by_metrics.connections == without.connections == []
