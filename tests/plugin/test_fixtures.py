"""The fixtures in the hands of a user: on a live cluster, on an owned one, and without either."""

from __future__ import annotations

from pathlib import Path

import pytest
from plugin.live_etcd import Live
from plugin.runs import Runner

SOME = "--etcd-check=cert.trusted,mtls.no-certificate"


@pytest.fixture
def binary(newest_etcd: Path) -> str:
    return f"--etcd-binary={newest_etcd}"


def test_every_check_on_every_listener_by_parametrisation(run: Runner, live: Live) -> None:
    run.write(
        test_user="""
        def test_each(etcd_endpoint, etcd_check):
            assert etcd_check.listener == etcd_endpoint.label
            result = etcd_check.require()
            assert (result.check, result.url) == (etcd_check.id, etcd_endpoint.url)
        """
    )
    ran = run(*live.options, SOME, "--no-etcd-conformance", "-v", report=False)
    assert ran.exit_code == 0
    for label in (live.client_label, live.peer_label):
        for check in ("cert.trusted", "mtls.no-certificate"):
            assert f"test_each[live-{label}-{check}] PASSED" in ran.out


def test_endpoints_alone_and_checks_alone(run: Runner, live: Live) -> None:
    run.write(
        test_user="""
        def test_endpoint(etcd_endpoint):
            assert etcd_endpoint.role in ("client", "peer")

        def test_check(etcd_check):
            assert etcd_check.run().outcome == "conforms"
        """
    )
    ran = run(*live.options, SOME, "--no-etcd-conformance", report=False)
    ran.result.assert_outcomes(passed=6)


def test_a_check_about_the_whole_target_has_no_endpoint(run: Runner, live: Live) -> None:
    run.write(
        test_user="""
        def test_each(etcd_endpoint, etcd_check):
            assert (etcd_endpoint is None) == (etcd_check.listener == "cluster")
        """
    )
    ran = run(*live.options, "--etcd-check=cluster", "--no-etcd-conformance", "-v", report=False)
    assert ran.exit_code == 0
    assert "[live-cluster-cluster." in ran.out


def test_require_comes_to_what_the_check_comes_to(run: Runner, live: Live) -> None:
    run.with_house()
    run.write(test_user="def test_each(etcd_check): etcd_check.require()")
    ran = run(*live.options, "--etcd-check=house", "--no-etcd-conformance", "-v", report=False)
    ran.result.assert_outcomes(passed=3, failed=3, skipped=2)
    for words in (
        "the house is on fire",
        "expected: no fire",
        "remedy:   put it out",
        "nobody answered the door",
    ):
        assert words in ran.out
    assert "check.py" not in ran.out.partition("= short test summary info =")[0]


def test_a_fixture_of_the_users_own_by_that_name_is_the_users(run: Runner, live: Live) -> None:
    run.write(
        test_user="""
        import pytest

        @pytest.fixture
        def etcd_endpoint():
            return "mine"

        def test_mine(etcd_endpoint):
            assert etcd_endpoint == "mine"

        @pytest.mark.parametrize("etcd_check", [1, 2])
        def test_parametrised(etcd_check):
            assert etcd_check in (1, 2)
        """
    )
    ran = run(*live.options, SOME, "--no-etcd-conformance", report=False)
    ran.result.assert_outcomes(passed=3)


def test_suite_and_fixtures_share_what_was_observed(run: Runner, live: Live) -> None:
    run.write(test_user="def test_each(etcd_endpoint, etcd_check): etcd_check.require()")
    alone = run(*live.options, SOME, "-p", "no:randomly", "--pyargs", "pytest_etcdtls")
    both = run(*live.options, SOME, "-p", "no:randomly")
    assert both.exit_code == 0
    assert both.connections == alone.connections


def test_the_observer_keeps_to_the_cap(run: Runner, live: Live) -> None:
    run.write(
        test_user="""
        import pytest
        from pytest_etcdtls import InconclusiveError
        from pytest_etcdtls.facts.access import AcceptedClient

        def test_cap(etcd_observer, etcd_target):
            with pytest.raises(InconclusiveError, match="--etcd-max-connections"):
                etcd_observer.get(AcceptedClient, listener=etcd_target.listeners[0])
            assert len(etcd_observer.connections) == 4
        """
    )
    ran = run(*live.options, "--no-etcd-conformance", "--etcd-max-connections=4", report=False)
    ran.result.assert_outcomes(passed=1)


CLIENT = """
    import pytest
    from pytest_etcdtls import WriteRefusedError

    KEY = {"key": "Zm9v"}

    def test_reads(etcd_client):
        assert etcd_client.get("/version").json()["etcdserver"]
        assert etcd_client.post("/v3/kv/range", json=KEY).json()["header"]

    @pytest.mark.parametrize("method, path", [
        ("POST", "/v3/kv/put"), ("POST", "/v3/kv/deleterange"), ("POST", "/v3/kv/txn"),
        ("PUT", "/v2/keys/a"), ("DELETE", "/v2/keys/a"), ("PATCH", "/version"),
        ("POST", "/v3/kv/range/../put"), ("POST", "//v3/kv/put"),
    ])
    def test_refuses(etcd_client, method, path):
        with pytest.raises(WriteRefusedError, match="--etcd-allow-writes"):
            etcd_client.request(method, path, json=KEY)
"""
WRITES = """
    def test_writes(etcd_client):
        pair = {"key": "cHl0ZXN0LWV0Y2R0bHM=", "value": "MQ=="}
        assert etcd_client.post("/v3/kv/put", json=pair).status_code == 200
        assert etcd_client.post("/v3/kv/range", json=pair).json()["kvs"][0]["value"] == pair["value"]
        assert etcd_client.post("/v3/kv/deleterange", json=pair).json()["deleted"] == "1"
"""


def test_the_client_of_a_live_cluster_only_reads(run: Runner, live: Live) -> None:
    run.write(test_user=CLIENT)
    ran = run(*live.options, "--no-etcd-conformance", report=False)
    ran.result.assert_outcomes(passed=9)


def test_it_writes_if_that_is_allowed(run: Runner, live: Live) -> None:
    run.write(test_user=WRITES)
    ran = run(*live.options, "--no-etcd-conformance", "--etcd-allow-writes", report=False)
    ran.result.assert_outcomes(passed=1)


def test_allowing_writes_is_for_the_command_line_alone(run: Runner, live: Live) -> None:
    run.ini("etcd_allow_writes = true")
    run.write(test_user=CLIENT)
    ran = run(*live.options, "--no-etcd-conformance", report=False)
    ran.result.assert_outcomes(passed=9)


def test_the_client_goes_where_connect_to_says_and_judges_the_name(run: Runner, live: Live) -> None:
    run.write(test_user="def test_reads(etcd_client): assert etcd_client.get('/version').status_code == 200")
    port = live.client.rpartition(":")[2]
    for host, outcome in (("localhost", {"passed": 1}), ("elsewhere.invalid", {"failed": 1})):
        ran = run(
            f"--etcd-endpoint=https://{host}:1",
            f"--etcd-connect-to={host}:1:127.0.0.1:{port}",
            *live.credentials,
            "--no-etcd-conformance",
            report=False,
        )
        ran.result.assert_outcomes(**outcome)
    assert "certificate is not valid for 'elsewhere.invalid'" in ran.out


def test_without_credentials_the_client_says_what_to_pass(run: Runner, live: Live) -> None:
    run.write(test_user="def test_reads(etcd_client): pass")
    ran = run(f"--etcd-endpoint={live.client}", "--no-etcd-conformance", report=False)
    ran.result.assert_outcomes(errors=1)
    assert "pass --etcd-cert and --etcd-key" in ran.out
    assert "client.py" not in ran.out


# Owned clusters.


def test_an_owned_cluster_is_there_for_a_users_tests(run: Runner, binary: str) -> None:
    run.write(
        test_writes=WRITES,
        test_user="""
        def test_pki(etcd_pki, etcd_cluster):
            assert etcd_pki is etcd_cluster.pki

        def test_target(etcd_target, etcd_cluster):
            assert etcd_target.origin == "process"
            assert etcd_target.listeners[0].url == etcd_cluster.members[0].client_url

        def test_more(etcd_cluster_factory, etcd_cluster):
            changes = {"client_cert_auth": False, "trusted_ca_file": None, "expects_health": False}
            with etcd_cluster_factory(**changes) as open_:
                assert open_.members[0].running
                assert open_.config.trusted_ca_file is None
                assert open_.members[0].client_url != etcd_cluster.members[0].client_url
            assert not open_.members[0].running
        """,
    )
    ran = run(binary, report=False)
    ran.result.assert_outcomes(passed=4)


def test_what_a_factory_started_is_stopped(run: Runner, binary: str) -> None:
    run.write(
        test_user="""
        from pathlib import Path

        def test_more(etcd_cluster_factory):
            cluster = etcd_cluster_factory()
            Path("directory").write_text(str(cluster.pki_directory))
        """
    )
    ran = run(binary, report=False)
    assert ran.exit_code == 0
    assert not Path((run.directory / "directory").read_text()).exists()


def test_a_field_that_does_not_exist_is_said(run: Runner, binary: str) -> None:
    run.write(test_user="def test_more(etcd_cluster_factory): etcd_cluster_factory(client_auth=False)")
    ran = run(binary, report=False)
    assert "ClusterConfig has no field 'client_auth'" in ran.out


def test_owned_fixtures_are_never_the_live_cluster(run: Runner, live: Live, binary: str) -> None:
    run.write(
        test_user="""
        def test_both(etcd_target, etcd_cluster):
            assert etcd_target.origin == "live"
            assert etcd_cluster.members[0].client_url != etcd_target.listeners[0].url
        """
    )
    ran = run(*live.options, binary, "--no-etcd-conformance", report=False)
    ran.result.assert_outcomes(passed=1)


def test_nothing_to_start_from_is_one_message(run: Runner) -> None:
    run.write(test_user="def test_a(etcd_cluster): pass\ndef test_b(etcd_check): pass")
    ran = run("--etcd-binary=/nonexistent/etcd", report=False)
    assert ran.exit_code != 0
    assert "/nonexistent/etcd" in ran.out
    assert "discovery.py" not in ran.out
