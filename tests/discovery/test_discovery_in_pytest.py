"""``--etcd-discover`` as users give it: what runs, what is shown, and that no list is requested twice."""

from __future__ import annotations

import re
import socket

import pytest
from plugin.live_etcd import Live
from plugin.runs import Ran, Runner, nobody_came, url_of

from pytest_etcdtls.etcd.cluster import Cluster

SOME = "--etcd-check=listener,mtls.no-certificate,mtls.trusted-client,cluster"
NOTHING_ELSE = "--etcd-check=!listener.undeclared"
"""What listens at etcd's usual ports of this machine is no matter of these tests."""
NOT_GREEN = ("violates", "inconclusive", "broken", "not-run")


def options(cluster: Cluster, index: int = 0) -> tuple[str, ...]:
    """Return what a user gives who knows one client endpoint."""
    return (
        f"--etcd-endpoint={cluster.members[index].client_url}",
        "--etcd-discover",
        NOTHING_ELSE,
        *Live.of(cluster).credentials,
    )


def labels(cluster: Cluster, *indices: int) -> set[str]:
    """Return the labels of the listeners of these members, of all if none is given."""
    return {
        f"{role}-127.0.0.1-{url.rpartition(':')[2]}"
        for member in (cluster.members[index] for index in indices or range(len(cluster.members)))
        for role, url in (("client", member.client_url), ("peer", member.peer_url))
    }


def judged(ran: Ran) -> set[str]:
    return {place.partition("::")[0] for place in ran.outcomes} - {"cluster"}


def words(text: str) -> str:
    return " ".join(text.split())


def bad(ran: Ran) -> set[str]:
    return {place for place, outcome in ran.outcomes.items() if outcome in NOT_GREEN}


def test_one_endpoint_is_enough_to_judge_three_members(run: Runner, trio: Cluster) -> None:
    plan = run(*options(trio), "--etcd-plan", report=False).out
    ran = run(*options(trio), "-p", "no:randomly")
    assert ran.exit_code == 0
    assert judged(ran) == labels(trio)
    assert {listener["label"] for listener in ran.report["targets"][0]["listeners"]} == labels(trio)
    assert ran.outcomes["cluster::cluster.discovered"] == "conforms"
    assert ran.outcomes["cluster::cluster.advertised-reachable"] == "conforms"
    assert not bad(ran)
    found = f"3 members, by gRPC of {trio.members[0].client_url}: m0, m1, m2"
    assert f"etcd TLS: live: {found}; 6 listeners" in ran.out
    assert words(ran.out).count(found) == 2
    assert "--etcd-discover adds every member that the cluster lists" in ran.out

    most = dict(re.findall(r"each (client|peer) listener that --etcd-discover finds: at most (\d+)", plan))
    made = [connection["url"] for connection in ran.report["connections"]]
    (sum_,) = re.findall(r"3 members with a client and a peer listener each, .*: at most (\d+)", plan)
    assert len(made) <= int(sum_) <= 3 * sum(map(int, most.values())) + 15
    for member in trio.members:
        assert 0 < made.count(member.client_url) <= int(most["client"])
        assert 0 < made.count(member.peer_url) <= int(most["peer"])
    (named,) = re.findall(r"live client-\S+, https://\S+: at most (\d+) connections?", plan)
    assert made.count(trio.members[0].client_url) <= int(named)
    assert [connection["purpose"] for connection in ran.report["connections"]].count("gRPC MemberList") == 3


def test_three_members_that_are_named_at_one_host_are_three(run: Runner, trio: Cluster) -> None:
    urls = [member.client_url for member in trio.members]
    named = (f"--etcd-endpoint={','.join(urls)}", *Live.of(trio).credentials, SOME)
    plan = run(*named, "--etcd-plan", report=False).out
    ran = run(*named)
    assert ran.exit_code == 0
    for check in ("one-cluster", "same-ca", "same-policy", "same-version", "members-connected"):
        assert ran.outcomes[f"cluster::cluster.{check}"] == "conforms"
    assert f"(3 members of {urls[0]}" in words(ran.out)
    made = [connection["url"] for connection in ran.report["connections"]]
    planned = dict(re.findall(r"live client-\S+, (https://\S+): at most (\d+) connections?", plan))
    assert all(made.count(url) <= int(planned[url]) for url in urls)


def test_a_member_that_is_down_is_inconclusive_and_the_others_are_judged(run: Runner, trio: Cluster) -> None:
    trio.stop_member(2)
    try:
        ran = run(*options(trio, 1), SOME)
    finally:
        trio.start_member(2)
    assert ran.exit_code == 1
    assert judged(ran) == labels(trio)
    assert {place for place, outcome in ran.outcomes.items() if outcome == "inconclusive"} == {
        f"{label}::listener.answers" for label in labels(trio, 2)
    }
    for label in labels(trio, 0, 1):
        assert ran.outcomes[f"{label}::mtls.no-certificate"] == "conforms"
    assert ran.outcomes["cluster::cluster.discovered"] == "conforms"


@pytest.mark.parametrize("dry", ["--collect-only", "--setup-only", "--etcd-plan"])
def test_a_dry_run_touches_no_network_and_says_what_a_run_adds(
    run: Runner, listening: socket.socket, dry: str
) -> None:
    run.write(test_user="def test_user(etcd_target, etcd_endpoint): pass")
    ran = run(f"--etcd-endpoint={url_of(listening)}", "--etcd-discover", dry, report=False)
    assert ran.exit_code == 0
    assert nobody_came(listening)
    assert re.search(r"--etcd-discover\s+finds", ran.out)


def test_no_answer_is_one_clear_outcome(run: Runner, listening: socket.socket) -> None:
    url = url_of(listening)
    listening.close()
    ran = run(f"--etcd-endpoint={url}", "--etcd-discover", "-p", "no:randomly")
    assert ran.exit_code == 1
    result = ran.result_of("cluster.discovered")
    assert result["outcome"] == "inconclusive"
    assert "Connection refused" in result["reason"]
    assert "--etcd-discover" in result["reason"]
    assert bad(ran) == {
        "cluster::cluster.discovered",
        f"client-127.0.0.1-{url.rpartition(':')[2]}::listener.answers",
    }
    assert "Traceback" not in ran.out + ran.err


def test_a_run_without_a_result_about_it_is_not_green(run: Runner, trio: Cluster) -> None:
    without_certificate = (f"--etcd-endpoint={trio.members[0].client_url}", "--etcd-discover")
    ran = run(*without_certificate, "--etcd-check=mtls.no-certificate")
    assert ran.counts == {"conforms": 1}
    assert ran.exit_code == 1
    assert "no endpoint returned the member list" in words(ran.out)
    assert "(cluster.discovered, which was not selected, has it in full)" in words(ran.out)


def test_a_node_id_of_a_discovered_listener_can_be_selected(run: Runner, trio: Cluster) -> None:
    (label,) = (label for label in labels(trio, 1) if label.startswith("peer"))
    ran = run(*options(trio), f"etcdtls::live::{label}::listener.answers")
    assert ran.exit_code == 0
    assert ran.outcomes == {f"{label}::listener.answers": "conforms"}
    unknown = run(*options(trio), "etcdtls::live::peer-10.0.0.99-2380", report=False)
    assert unknown.exit_code == 4
    assert "not found: etcdtls::live::peer-10.0.0.99-2380" in unknown.err


TESTS = """
    def test_target(request, etcd_target, etcd_observer):
        assert len(etcd_target.listeners) == 6
        if hasattr(request.config, "workerinput"):
            assert not any("MemberList" in one.purpose for one in etcd_observer.connections)

    def test_each(etcd_endpoint):
        assert etcd_endpoint.port

    def test_check(etcd_check):
        if etcd_check.id == "listener.answers":
            etcd_check.require()
"""


def test_under_xdist_only_the_controller_requests_the_list(run: Runner, trio: Cluster) -> None:
    run.write(test_user=TESTS)
    alone = run(*options(trio), "--etcd-check=listener", "-p", "no:randomly")
    spread = run(*options(trio), "--etcd-check=listener", "-p", "no:randomly", "-n2")
    assert alone.exit_code == spread.exit_code == 0
    assert spread.outcomes == alone.outcomes
    assert judged(spread) == labels(trio)
    assert spread.connections == alone.connections
    assert spread.result.parseoutcomes()["passed"] == alone.result.parseoutcomes()["passed"]
    only = ("--etcd-check=listener.answers", "--no-etcd-conformance")
    without = run(*options(trio), *only, "-n1", report=False)
    without.result.assert_outcomes(passed=1 + 6 + 6)


def test_discovery_needs_an_endpoint(run: Runner) -> None:
    """In an ini file alone the option is not used."""
    run.write(test_user="def test_user(): pass")
    ran = run("--etcd-discover", report=False)
    assert ran.exit_code == 4
    assert "the command line names none: add --etcd-endpoint" in words(ran.err)
    run.ini("etcd_discover = true")
    assert run(report=False).exit_code == 0


def test_a_certificate_may_be_expected_of_a_host_to_discover(run: Runner, trio: Cluster) -> None:
    named, discover, *others = options(trio)
    expected = f"--etcd-expect-cert=10.0.0.12={trio.members[0].file('server.crt')}"
    assert run(named, discover, *others, expected, "--etcd-plan", report=False).exit_code == 0
    refused = run(named, *others, expected, "--etcd-plan", report=False)
    assert "matches no listener given" in words(refused.err)
