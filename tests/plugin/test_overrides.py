"""A user's own ``etcd_cluster`` and ``etcd_target``, clusters that tests name, and damaged ones."""

from __future__ import annotations

import json
import re
from pathlib import Path

from plugin.live_etcd import Live
from plugin.runs import Runner

from pytest_etcdtls import ClusterConfig, start_cluster

SOME = "--etcd-check=cert.trusted,mtls.no-certificate"

OVERRIDE = """
    import pytest

    @pytest.fixture(scope="{scope}")
    def etcd_cluster(etcd_session_cluster_factory):
        with etcd_session_cluster_factory(key_type="{key_type}") as cluster:
            yield cluster
"""
"""A cluster with keys of another type, by which it is recognised."""

FOLLOWS = """
    def follows(key_type, cluster, client, target, observer):
        urls = {listener.url for listener in target.listeners}
        assert str(cluster.config.pki.key_type) == key_type
        assert cluster.members[0].client_url in urls and str(client.base_url) in urls
        assert observer.target is target
        assert client.get("/version").status_code == 200

    # What follows is requested before the cluster itself.
    def test_follows(etcd_client, etcd_target, etcd_observer, etcd_cluster, request):
        follows(request.module.KEY_TYPE, etcd_cluster, etcd_client, etcd_target, etcd_observer)

    test_again = test_follows
"""
ASKS = """
    from follows import test_again, test_follows

    KEY_TYPE = "{key_type}"
"""


def test_all_fixtures_follow_an_override_in_every_scope(run: Runner, binary: str) -> None:
    run.write(
        conftest=OVERRIDE.format(scope="session", key_type="ecdsa-p384"),
        follows=FOLLOWS,
        test_a_of_conftest=ASKS.format(key_type="ecdsa-p384"),
        test_c_module_scope=(OVERRIDE + ASKS).format(scope="module", key_type="ecdsa-p256"),
        test_d_function_scope=(OVERRIDE + ASKS).format(scope="function", key_type="ed25519"),
        test_f_of_class="""
        import pytest
        from follows import follows, test_follows

        KEY_TYPE = "ecdsa-p384"

        class TestOwn:
            @pytest.fixture(scope="class")
            def etcd_cluster(self, etcd_session_cluster_factory):
                with etcd_session_cluster_factory(key_type="ecdsa-p256") as cluster:
                    yield cluster

            def test_class(self, etcd_client, etcd_target, etcd_observer, etcd_cluster):
                follows("ecdsa-p256", etcd_cluster, etcd_client, etcd_target, etcd_observer)
        """,
        test_g_dynamically="""
        def test_follows(request, etcd_cluster):
            target = request.getfixturevalue("etcd_target")
            assert target.listeners[0].url == etcd_cluster.members[0].client_url
        """,
    )
    ran = run(binary, report=False)
    ran.result.assert_outcomes(passed=9)


UNFORESEEN = """
    import pytest

    @pytest.fixture(scope="module")
    def etcd_cluster(etcd_session_cluster_factory):
        with etcd_session_cluster_factory(size=3, metrics="https") as cluster:
            yield cluster

    def test_endpoint(etcd_endpoint, etcd_target):
        assert etcd_endpoint in etcd_target.listeners

    @pytest.mark.etcd_checks("mtls.no-certificate")
    def test_check(etcd_check, etcd_endpoint, etcd_cluster):
        assert etcd_check.require().url == etcd_endpoint.url
        assert len(etcd_cluster.members) == 3
"""


def test_the_parameters_of_an_override_determine_the_listeners(run: Runner, binary: str) -> None:
    """What the message of one without them says to write is written, and then it works."""
    run.write(test_user=UNFORESEEN)
    ran = run(binary, report=False)
    ran.result.assert_outcomes(errors=4)
    [(unforeseen, params, call), *_] = re.findall(
        r"^no test was collected for (.*): your .*\nwrite @pytest\.fixture\((.*)\) on .* start (\S+)",
        ran.out,
        re.MULTILINE,
    )
    assert unforeseen == "client-m1, client-m2, metrics-m0, metrics-m1, metrics-m2, peer-m1, peer-m2"
    fixture = UNFORESEEN.replace('scope="module"', f'scope="module", {params}')
    fixture = fixture.replace("(etcd_session_", "(request, etcd_session_")
    run.write(test_user=fixture.replace('etcd_session_cluster_factory(size=3, metrics="https")', call))
    run(binary, report=False).result.assert_outcomes(passed=9 + 9)


def test_an_override_may_have_any_parameters_wrap_our_fixture_or_replace_the_target(
    run: Runner, binary: str
) -> None:
    """Parameters that name clusters are read; a listener that one of several lacks is skipped."""
    run.write(
        test_clusters="""
        import pytest
        from pytest_etcdtls import ClusterConfig

        PLAIN = pytest.param({"plain_client_listener": True}, id="plain")

        @pytest.fixture(scope="module", params=["metrics-over-https", PLAIN, ClusterConfig()])
        def etcd_cluster(request, etcd_session_cluster_factory):
            names = {str: "preset", ClusterConfig: "config"}
            wanted = request.param
            wanted = wanted if isinstance(wanted, dict) else {names[type(wanted)]: wanted}
            with etcd_session_cluster_factory(**wanted) as cluster:
                yield cluster

        def test_endpoint(etcd_endpoint, etcd_target):
            assert etcd_endpoint in etcd_target.listeners
        """,
        test_others="""
        import pytest

        @pytest.fixture(params=["of my own", {"colour": "red"}])
        def etcd_cluster(request, etcd_session_cluster_factory):
            with etcd_session_cluster_factory() as cluster:
                yield cluster

        @pytest.fixture(params=[{"of": "my own"}])
        def etcd_target(request, etcd_target):
            return etcd_target

        def test_endpoint(etcd_endpoint, etcd_target):
            assert etcd_endpoint in etcd_target.listeners
        """,
        test_wrapped="""
        import pytest

        @pytest.fixture
        def etcd_cluster(etcd_cluster):
            etcd_cluster.prepared = True
            return etcd_cluster

        def test_wrapped(etcd_client, etcd_cluster, etcd_target):
            assert etcd_cluster.prepared
            assert etcd_client.base_url == etcd_cluster.members[0].client_url
        """,
        test_target="""
        import dataclasses
        import pytest

        @pytest.fixture(scope="module")
        def etcd_target(etcd_target):
            return dataclasses.replace(etcd_target, expiry_days=7)

        def test_target(etcd_target, etcd_observer, etcd_client):
            assert etcd_target.expiry_days == 7
            assert etcd_observer.target is etcd_target
            assert etcd_client.get("/version").status_code == 200

        def test_check(etcd_check):
            assert etcd_check.require()
        """,
        test_neither="""
        import pytest

        @pytest.fixture
        def etcd_cluster():
            return "https://10.0.0.11:2379"

        def test_neither(etcd_client):
            pass
        """,
    )
    ran = run(binary, SOME, "-v", report=False)
    ran.result.assert_outcomes(passed=3 + 3 + 2 + 4 + 6, skipped=1 + 1 + 2, errors=1)
    assert "test_endpoint[plain-" in ran.out or "-plain]" in ran.out
    assert "whose value is str, and no" in ran.out


def test_a_test_names_its_cluster_in_one_line(run: Runner, etcd_binaries: dict[str, Path]) -> None:
    version, newest = next(iter(etcd_binaries)), [*etcd_binaries][-1]
    elsewhere = run.directory / "elsewhere"
    elsewhere.symlink_to(etcd_binaries[newest])
    run.write(
        test_user=f"""
        import pytest

        OLD = {{"binary": {str(etcd_binaries[version])!r}}}
        SAME = {{"key_type": "ed25519", "metrics": "https"}}

        @pytest.mark.parametrize("etcd_cluster", [OLD], indirect=True)
        def test_version(etcd_client, etcd_target, etcd_cluster):
            assert etcd_client.get("/version").json()["etcdserver"] == {version!r}
            assert etcd_cluster.version == etcd_target.etcd_version == {version!r}

        @pytest.mark.parametrize("etcd_cluster", [SAME], indirect=True)
        def test_endpoint(etcd_endpoint, etcd_observer):
            assert etcd_endpoint in etcd_observer.target.listeners

        @pytest.mark.etcd_cluster_scope("function")
        @pytest.mark.parametrize("etcd_cluster, other", [("metrics-on-loopback", 1), (SAME, 2)],
                                 indirect=["etcd_cluster"])
        def test_with_another_parameter(etcd_target, etcd_cluster, other):
            assert etcd_target.listeners[0].url == etcd_cluster.members[0].client_url
            assert etcd_cluster.config.metrics == ("http" if other == 1 else "https")

        @pytest.mark.parametrize("etcd_cluster", [{newest.rpartition(".")[0]!r}], indirect=True)
        def test_version_of_the_options(etcd_cluster):
            assert etcd_cluster.members[0].argv[0] == {str(elsewhere)!r}

        @pytest.mark.parametrize("etcd_cluster", ["metrics-over-http"], indirect=True)
        def test_mistyped(etcd_cluster):
            pass

        @pytest.fixture(scope="session")
        def service(etcd_credentials, etcd_target):
            return etcd_target

        def test_of_the_options(etcd_cluster, service):
            assert service.listeners[0].url == etcd_cluster.members[0].client_url
            assert etcd_cluster.version == {newest!r}
            assert etcd_cluster.config.metrics is None

        def test_factory(etcd_cluster_factory):
            with etcd_cluster_factory(binary={str(etcd_binaries[version])!r}, key_type="ed25519") as cluster:
                assert cluster.version == {version!r}
                assert str(cluster.config.pki.key_type) == "ed25519"

        @pytest.mark.parametrize("etcd_cluster", [{{"colour": "red"}}], indirect=True)
        def test_unknown(etcd_client):
            pass
        """
    )
    ran = run(f"--etcd-binary={elsewhere}", "-v", report=False)
    ran.result.assert_outcomes(passed=9, errors=2)
    assert "there is no preset 'metrics-over-http'" in ran.out
    assert "did you mean 'metrics-over-https'?" in ran.out
    # The summary repeats the line in full where the environment sets CI.
    lines = [line for line in ran.out.splitlines() if not line.startswith("ERROR ")]
    assert sum("besides its fields there are" in line for line in lines) == 1
    for listener in ("client-m0", "metrics-m0", "peer-m0"):
        assert f"test_endpoint[{listener}-" in ran.out


def test_a_damaged_cluster_is_replaced_before_the_next_test(run: Runner, binary: str) -> None:
    run.write(
        conftest="""
        import pytest

        @pytest.fixture(scope="session")
        def service(etcd_cluster):
            return {"cluster": etcd_cluster}
        """,
        test_a_damage="""
        import pytest

        KEPT = []

        def test_first(etcd_cluster, etcd_observer, service):
            KEPT.extend([etcd_observer, etcd_cluster])

        def test_stops(etcd_cluster, service):
            assert etcd_cluster is KEPT[-1]
            etcd_cluster.stop_member(0)

        def test_after_stop(etcd_client, etcd_cluster, service, etcd_observer):
            assert service["cluster"] is etcd_cluster is not KEPT[-1]
            assert etcd_client.get("/version").status_code == 200
            assert etcd_observer is not KEPT[0]
            assert etcd_observer.target.listeners[0].url == etcd_cluster.members[0].client_url
            KEPT.append(etcd_cluster)

        def test_replaces(etcd_cluster):
            assert etcd_cluster is KEPT[-1]
            etcd_cluster.members[0].replace_files({"server.crt": b"no certificate"})

        def test_after_replacement(etcd_client, etcd_cluster):
            assert etcd_cluster is not KEPT[-1]
            assert etcd_client.get("/version").status_code == 200

        def test_adds(etcd_client, etcd_cluster):
            KEPT.append(etcd_cluster)
            added = {"peerURLs": ["https://127.0.0.1:1"], "isLearner": True}
            assert etcd_client.post("/v3/cluster/member/add", json=added).status_code == 200

        def test_adds_with_the_fixtures(etcd_cluster, etcd_target):
            assert etcd_cluster is not KEPT[-1]
            etcd_cluster.add_member()

        def test_after_the_second_addition(etcd_cluster, etcd_target):
            assert [member.name for member in etcd_cluster.members] == ["m0"]
            assert len(etcd_target.listeners) == 2

        @pytest.mark.etcd_checks("cert.trusted")
        def test_results_of_a_damaged_cluster_are_dropped(etcd_cluster, etcd_check):
            etcd_cluster.stop_member(0)
            assert etcd_check.run().outcome in ("inconclusive", "not-verified")
        """,
        test_b_override=OVERRIDE.format(scope="module", key_type="ecdsa-p384")
        + """
    def test_stops(etcd_cluster):
        etcd_cluster.stop_member(0)

    def test_after(etcd_client, etcd_cluster):
        assert etcd_client.base_url == etcd_cluster.members[0].client_url
        assert etcd_client.get("/version").status_code == 200
        assert etcd_cluster.difference() == ""
        """,
    )
    ran = run(binary, SOME, "-p", "no:randomly", "--etcd-conformance")
    assert ran.exit_code == 0
    assert set(ran.outcomes.values()) == {"conforms"}
    damages = ("m0 is not running", "other files: m0/server.crt", "members , m0 instead of m0")
    for words in (*damages, "members m0, m1 instead of m0"):
        assert words in ran.out
    assert "start one with etcd_cluster_factory" in ran.out


SEEN = """
    import json, pytest
    SEEN = {}

    def _see(where, etcd_cluster, etcd_client, etcd_target):
        assert str(etcd_client.base_url) == etcd_cluster.members[0].client_url
        assert etcd_cluster.members[0].client_url in {one.url for one in etcd_target.listeners}
        assert etcd_cluster.difference() == ""
        SEEN.setdefault(etcd_cluster.directory, []).append(where)
"""


def test_the_scope_of_the_shared_cluster_is_an_option_and_a_marker(run: Runner, binary: str) -> None:
    asks = "(etcd_client, etcd_target, etcd_cluster):"
    sees = "see(WHERE, etcd_cluster, etcd_client, etcd_target)"
    body = f"""
    import pytest
    from seen import _see as see

    def test_one{asks} {sees.replace("WHERE", "__name__")}
    def test_two{asks} {sees.replace("WHERE", "__name__")}

    @pytest.mark.etcd_cluster_scope("function")
    def test_own{asks}
        {sees.replace("WHERE", "'function'")}
        etcd_cluster.stop_member(0)

    @pytest.mark.etcd_cluster_scope("session")
    def test_session{asks} {sees.replace("WHERE", "'session'")}

    @pytest.mark.etcd_cluster_scope("class")
    class TestOfAClass:
        def test_one{asks.replace("(", "(self, ")} {sees.replace("WHERE", "__name__ + ' class'")}
        def test_two{asks.replace("(", "(self, ")} {sees.replace("WHERE", "__name__ + ' class'")}
    """
    last = """
    from seen import SEEN

    def test_seen(request):
        assert sorted(SEEN.values()) == sorted([
            ["test_a", "test_a"], ["test_b", "test_b"], ["function"], ["function"], ["session"] * 2,
            ["test_a class"] * 2, ["test_b class"] * 2,
        ]), SEEN
    """
    run.write(seen=SEEN, test_a=body, test_b=body, test_c=last)
    run.pytester.makeini("[pytest]\netcd_cluster_scope = module\n")
    ran = run("-p", "no:randomly", binary, "-vv", report=False)
    ran.result.assert_outcomes(passed=13)
    assert "etcd that was replaced" not in ran.out


def test_a_marker_without_its_fixture_is_an_error_of_the_collection(run: Runner) -> None:
    run.write(
        test_it="""
        import pytest

        @pytest.mark.etcd_checks("mtls.no-certifcate")
        def test_one(): pass
        """
    )
    ran = run(report=False)
    assert ran.exit_code == 2
    assert "test_it.py::test_one: @pytest.mark.etcd_checks selects the checks of" in ran.out


def test_an_unknown_scope_is_a_usage_error(run: Runner, binary: str) -> None:
    run.write(
        test_it="""
        import pytest

        @pytest.mark.etcd_cluster_scope("modul")
        def test_one(etcd_cluster): pass
        """
    )
    ran = run("--etcd-cluster-scope=package", binary, report=False)
    assert ran.exit_code == 4
    assert "--etcd-cluster-scope: 'package' is no scope: use session, module" in ran.err
    ran = run(binary, report=False)
    assert ran.exit_code in {2, 4}
    assert "test_it.py::test_one: @pytest.mark.etcd_cluster_scope: 'modul' is no scope: use" in ran.out
    assert "Traceback" not in ran.out


def test_the_clusters_of_an_inventory(run: Runner, newest_etcd: Path) -> None:
    """Each listener is combined with its own target, and each observation is made once."""
    config = ClusterConfig(size=3, client_cert_auth=False, trusted_ca_file=None)
    with start_cluster(binary=newest_etcd) as one, start_cluster(config, binary=newest_etcd) as three:
        entries = []
        for label, cluster in (("one", one), ("three", three)):
            options = [option.removeprefix("--etcd-").split("=") for option in Live.of(cluster).credentials]
            urls = {
                "endpoints": [member.client_url for member in cluster.members],
                "peer-endpoints": [member.peer_url for member in cluster.members],
            }
            entries.append({"label": label, **dict(options), **urls})
        (run.directory / "clusters.json").write_text(json.dumps(entries), encoding="utf-8")
        run.write(
            test_user=r"""
            import pytest
            import json
            from pathlib import Path
            from pytest_etcdtls import UsageError, live_target

            TARGETS = [live_target(**entry) for entry in json.loads(Path("clusters.json").read_text())]
            SEEN = {}

            @pytest.fixture(scope="session", params=TARGETS)
            def etcd_target(request):
                return request.param

            @pytest.mark.etcd_checks("cert.trusted", "mtls.no-certificate", "cluster.one-cluster")
            def test_check(etcd_check, etcd_endpoint, etcd_target, etcd_observer, request):
                assert etcd_endpoint is None or etcd_endpoint in etcd_target.listeners
                assert request.node.name.startswith(f"test_check[{etcd_target.label}-")
                assert SEEN.setdefault(etcd_target.label, etcd_observer) is etcd_observer
                open_ = etcd_target.label == "three" and etcd_endpoint and etcd_endpoint.role == "client"
                violates = etcd_check.id == "mtls.no-certificate" and open_
                assert etcd_check.run().outcome == ("violates" if violates else "conforms")

            def test_endpoint(etcd_endpoint, etcd_target, etcd_client):
                assert etcd_endpoint in etcd_target.listeners
                assert etcd_client.get("/version").status_code == 200

            def test_target(etcd_target, request):
                assert etcd_target in TARGETS
                assert request.node.name == f"test_target[{etcd_target.label}]"

            @pytest.mark.parametrize("other", TARGETS)
            def test_other(other, request):
                assert request.node.name == f"test_other[{other.label}]"

            def test_what_is_wrong():
                with pytest.raises(UsageError, match=r"live_target\('x'\): unknown key 'endpoint-s'"):
                    live_target("x", endpoint_s="https://10.0.0.1:2379")
                with pytest.raises(UsageError, match=r"live_target\('x'\): --etcd-cacert.*nowhere"):
                    live_target("x", endpoints="https://10.0.0.1:2379", cacert="nowhere")
                with pytest.raises(UsageError, match="names no listener"):
                    live_target("x")
            """
        )
        ran = run("--no-etcd-conformance", report=False)
    # 2 and 6 listeners with two checks, one check of each whole cluster; endpoints; targets twice; errors.
    ran.result.assert_outcomes(passed=2 * 2 + 6 * 2 + 2 + 8 + 2 * 2 + 1)
