"""The fixtures in a user's tests: on a live cluster, on an owned one, and without either."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path

import pytest
from plugin.live_etcd import Live
from plugin.runs import Runner

from pytest_etcdtls.etcd.sources import binary_version

SOME = "--etcd-check=cert.trusted,mtls.no-certificate"


@pytest.fixture
def without_etcd(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave no etcd to be found."""
    monkeypatch.setattr("pytest_etcdtls.etcd.sources.embedded_binary", lambda: None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(run.directory / "cache"))
    monkeypatch.setenv("PATH", str(run.directory))


def test_fixtures_on_a_live_cluster(run: Runner, live: Live, binary: str) -> None:
    """Every check on every listener, what a user's test names instead, and a client that only reads."""
    run.ini("etcd_allow_writes = true")  # the command line alone allows that
    run.write(
        test_user="""
        import pytest
        from pytest_etcdtls import WriteRefusedError

        def test_each(etcd_endpoint, etcd_check, etcd_target):
            assert etcd_check.listener == (etcd_endpoint.label if etcd_endpoint else "cluster")
            result = etcd_check.require()
            shown = etcd_endpoint or etcd_target.listeners[0]
            assert (result.check, result.url) == (etcd_check.id, shown.url)

        def test_owned_is_never_the_live_cluster(etcd_target, etcd_cluster):
            assert etcd_target.origin == "live"
            assert etcd_cluster.members[0].client_url != etcd_target.listeners[0].url

        def test_endpoint(etcd_endpoint):
            assert etcd_endpoint.role in ("client", "peer")

        def test_check(etcd_check):
            assert etcd_check.run().outcome == "conforms"

        @pytest.mark.parametrize("etcd_check", [1, 2])
        def test_parametrised(etcd_check):
            assert etcd_check in (1, 2)

        @pytest.mark.etcd_checks("cert.trusted", "mtls.no-*")
        def test_chosen(etcd_check):
            assert etcd_check.require()

        @pytest.mark.etcd_checks("cert.*", "!cert.trusted")
        class TestCertificates:
            def test_class(self, etcd_check):
                assert etcd_check.id != "cert.trusted"

        @pytest.mark.etcd_checks("nothing.of-that-name")
        def test_unknown(etcd_check):
            pass

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
        """,
        test_own="""
        import pytest

        @pytest.fixture
        def etcd_endpoint():
            return "mine"

        def test_mine(etcd_endpoint):
            assert etcd_endpoint == "mine"
        """,
    )
    some, alone = f"{SOME},listener.keeps-connections", "--no-etcd-conformance"
    ran = run(*live.options, some, binary, alone, "--strict-markers", "-v", report=False)
    outcomes = ran.result.parseoutcomes()
    assert (outcomes.get("failed"), outcomes["errors"]) == (None, 1)
    assert "@pytest.mark.etcd_checks 'nothing.of-that-name' matches no check" in ran.out
    for label in (live.client_label, live.peer_label):
        for check in ("cert.trusted", "mtls.no-certificate"):
            assert f"test_each[live-{label}-{check}] PASSED" in ran.out
    assert "test_each[live-cluster-listener.keeps-connections] PASSED" in ran.out
    for name, times in {"check": 5, "chosen": 4, "endpoint": 2, "parametrised": 2, "refuses": 8}.items():
        assert ran.out.count(f"test_{name}[") == times
    assert "test_class[live-" in ran.out


def test_an_error_of_ours_shows_the_line_of_the_test(run: Runner, live: Live) -> None:
    run.write(
        test_errors="""
        import pytest
        from pytest_etcdtls import run_checks

        @pytest.fixture
        def mine(etcd_credentials):
            return etcd_credentials["expired"]

        def test_fixture(mine):
            pass

        def test_factory(etcd_cluster_factory):
            with etcd_cluster_factory(nonsense=1):
                pass

        def test_name(etcd_credentials):
            etcd_credentials["nonsense"]

        def test_write(etcd_client):
            etcd_client.post("/v3/kv/put", json={"key": "Zm9v"})

        def test_pattern(etcd_observer):
            run_checks(etcd_observer, ["nonsense"])

        def test_of_others():
            raise pytest.UsageError("theirs") from ValueError("their cause")
        """
    )
    alone = "--no-etcd-conformance"
    ran = run(*live.options, alone, report=False)
    for message in (
        "needs the key of the CA that signs its clients: pass --etcd-ca-key",
        "ClusterConfig has no field 'nonsense'",
        "there is no credential 'nonsense'",
        "a live cluster is only read; --etcd-allow-writes lets it write",
        "run_checks 'nonsense' matches no check",
    ):
        assert f"Error: {message}" in re.sub(r"(Error: )(?:POST \S+: |\")", r"\1", ran.out)
    assert "their cause" in ran.out
    assert {path for path, _ in re.findall(r"^(\S+\.py):(\d+):", ran.out, re.MULTILINE)} == {"test_errors.py"}
    ran = run(f"--etcd-endpoint={live.client}", alone, "-k", "write", report=False)
    assert "ERROR at setup of test_write" in ran.out
    assert "\netcd_client needs a client certificate: pass --etcd-cert and --etcd-key\n" in ran.out


def test_require_applies_the_outcome_of_the_check(run: Runner, live: Live) -> None:
    run.with_house()
    run.write(
        test_user="""
        def test_each(etcd_check): etcd_check.require()
        def test_lenient(etcd_check): etcd_check.require(allow_unverified=True)
        """
    )
    ran = run(*live.options, "--etcd-check=house", "--no-etcd-conformance", "-v", report=False)
    ran.result.assert_outcomes(passed=6, failed=7, skipped=3)
    for words in (
        "the house is on fire",
        "expected: no fire",
        "remedy:   put it out",
        "nobody answered the door",
    ):
        assert words in ran.out
    assert "check.py" not in ran.out.partition("= short test summary info =")[0]


def test_require_fails_where_nothing_answers(run: Runner, live: Live) -> None:
    run.write(test_user="def test_each(etcd_check): etcd_check.require()")
    dead = [option for option in live.options if "endpoint" not in option]
    options = ["--etcd-endpoint=https://127.0.0.1:1", "--etcd-check=cert.trusted,mtls.no-certificate"]
    ran = run(*dead, *options, "--no-etcd-conformance", report=False)
    ran.result.assert_outcomes(failed=2)
    assert "listener.answers on https://127.0.0.1:1 inconclusive" in " ".join(ran.out.split())


def test_suite_and_fixtures_share_observations(run: Runner, live: Live) -> None:
    run.write(test_user="def test_each(etcd_endpoint, etcd_check): etcd_check.require()")
    alone = run(*live.options, SOME, "-p", "no:randomly", "--pyargs", "pytest_etcdtls")
    both = run(*live.options, SOME, "-p", "no:randomly")
    assert both.exit_code == 0
    assert both.connections == alone.connections


def test_the_client_connects_to_the_address_of_connect_to_and_verifies_the_name(
    run: Runner, live: Live
) -> None:
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


def test_without_credentials_the_client_names_the_options(run: Runner, live: Live) -> None:
    run.write(test_user="def test_reads(etcd_client): pass")
    ran = run(f"--etcd-endpoint={live.client}", "--no-etcd-conformance", report=False)
    ran.result.assert_outcomes(errors=1)
    assert "pass --etcd-cert and --etcd-key" in ran.out
    assert "client.py" not in ran.out


def test_a_member_that_does_not_answer_conforms_to_nothing(run: Runner, binary: str) -> None:
    """The checks of a certificate file and of the other members conform."""
    run.write(
        test_user="""
        import pytest
        from pytest_etcdtls import assert_conforms

        def test_it(etcd_cluster_factory):
            with etcd_cluster_factory(size=3) as cluster:
                target = cluster.target()
                for stop in (lambda: cluster.stop_member(2), cluster.stop):
                    stop()
                    strict, lenient = {"strict": True}, {"allow_unverified": True}
                    for pattern, more in (("mtls.no-certificate", strict), ("cert.*", lenient), ("api", {})):
                        with pytest.raises(AssertionError, match="listener.answers on client-m2"):
                            assert_conforms(target, pattern, **more)
        """
    )
    run(binary, report=False).result.assert_outcomes(passed=1)


# Owned clusters.


def test_fixtures_on_an_owned_cluster(run: Runner, binary: str) -> None:
    """Clusters of a test are stopped at its end, also if it fails, those of the session at the end of it."""
    run.write(
        test_user="""
        import pytest
        from pytest_etcdtls import assert_conforms

        OPEN = {"client_cert_auth": False, "trusted_ca_file": None, "expects_health": False}

        def test_target(etcd_target, etcd_cluster):
            assert etcd_target.origin == "process"
            assert etcd_target.listeners[0].url == etcd_cluster.members[0].client_url

        def test_more(etcd_cluster_factory, etcd_cluster):
            with etcd_cluster_factory(**OPEN) as open_:
                assert open_.members[0].running
                assert open_.config.trusted_ca_file is None
                assert open_.members[0].client_url != etcd_cluster.members[0].client_url
            assert not open_.members[0].running

        def test_unknown_field(etcd_cluster_factory):
            etcd_cluster_factory(client_auth=False)

        def test_gone(etcd_pki):
            pass

        class TestOwn:
            @pytest.fixture
            def etcd_session_client(self):
                return "of this class"

            def test_own(self, etcd_session_client):
                assert etcd_session_client == "of this class"

        def test_good(etcd_observer, etcd_target):
            assert len(assert_conforms(etcd_observer, "mtls.no-certificate", "cert.trusted")) == 4
            assert assert_conforms(etcd_target, "mtls.no-certificate")

        def test_nothing(etcd_cluster_factory):
            with pytest.raises(AssertionError, match="no check has a verdict"):
                with etcd_cluster_factory() as cluster:
                    assert_conforms(cluster.target(), "cluster.members-agree")

        def test_bad(etcd_cluster_factory):
            with etcd_cluster_factory(**OPEN) as cluster:
                with pytest.raises(AssertionError, match="1 of 2 results fail(.|\\n)*--client-cert-auth"):
                    assert_conforms(cluster.target(), "mtls.no-certificate")
                assert_conforms(cluster.target(), "api", "mtls.no-certificate", "mtls.self-signed")
        """,
        test_stopped="""
        from pathlib import Path
        import pytest

        STARTED = []

        @pytest.fixture(scope="module")
        def service(etcd_session_cluster_factory):
            return etcd_session_cluster_factory()

        def test_two(etcd_cluster_factory, service):
            STARTED.extend(etcd_cluster_factory() for _ in range(2))
            assert all(cluster.members[0].running for cluster in STARTED)

        def test_broken(etcd_cluster_factory):
            STARTED.append(etcd_cluster_factory())
            raise LookupError

        def test_after(service):
            assert len(STARTED) == 3
            assert not any(cluster.members[0].running or cluster.directory.exists() for cluster in STARTED)

        def test_session(service, etcd_session_cluster_factory):
            assert service.members[0].running
            Path("directory").write_text(str(service.directory), encoding="utf-8")
        """,
        test_service="""
        import pytest

        @pytest.fixture(scope="session")
        def service(etcd_credentials, etcd_client, etcd_cluster):
            assert etcd_client.get("/version").status_code == 200
            issued = etcd_cluster.pki.authorities.client_issuer.issue(CLIENT, name="of the test")
            with etcd_credentials.of(issued).client() as client:
                assert client.get("/version").status_code == 200
            return etcd_cluster, etcd_client, etcd_credentials["client"].files()

        from pytest_etcdtls import CLIENT

        def test_shared(service, etcd_cluster, etcd_client):
            assert service[:2] == (etcd_cluster, etcd_client)

        @pytest.mark.etcd_cluster_scope("function")
        def test_apart(etcd_cluster, etcd_client, etcd_credentials):
            assert str(etcd_client.base_url) == etcd_cluster.endpoints[0]
            assert etcd_credentials.listener.url == etcd_cluster.endpoints[0]
        """,
    )
    ran = run(binary, "-p", "no:randomly", report=False)
    ran.result.assert_outcomes(passed=5 + 3 + 2, failed=2 + 1, errors=1)
    assert "LookupError" in ran.out
    assert not Path(run.read("directory")).exists()
    assert "the fixture etcd_pki was removed: use etcd_cluster.pki" in ran.out
    assert "ClusterConfig has no field 'client_auth'" in ran.out
    # The fault is shown first, without our own lines.
    assert "run/judge.py" not in ran.out
    ran.result.stdout.fnmatch_lines(
        [
            '> *assert_conforms(cluster.target(), "api", "mtls.no-certificate", "mtls.self-signed")',
            "E * of * results fail",
            "E *mtls.no-certificate on client-m0 of * violates",
            "E *a client without a certificate is accepted",
            "E *remedy:   set --client-cert-auth=true *",
            "E * more results follow from mtls.no-certificate: *api.debug-vars*mtls.self-signed",
        ]
    )


@pytest.mark.parametrize(
    "frozen", ["freezegun.freeze_time(PAST)", "time_machine.travel(PAST, tick=False)"], ids=lambda it: it[:6]
)
def test_a_start_with_a_moved_clock_is_repeated_for_the_next_test(
    run: Runner, binary: str, frozen: str
) -> None:
    run.write(
        test_user=f"""
        import datetime, freezegun, time_machine

        PAST = datetime.datetime(2006, 1, 1, tzinfo=datetime.UTC)

        def test_stopped(request):
            with {frozen}:
                request.getfixturevalue("etcd_client")

        def test_later(etcd_client, etcd_cluster):
            assert etcd_client.get("/version").status_code == 200
        """
    )
    ran = run(binary, "-p", "no:randomly", "--etcd-start-timeout=5", report=False)
    ran.result.assert_outcomes(passed=1, failed=1)
    said = " ".join(ran.out.split())
    assert "is not started; the time of this process is 2006-01-01 00:00 UTC" in said
    assert "etcd has the time of the system: start the cluster before a test stops or moves the clock" in said


USES = "etcd TLS: fixtures "


def test_a_line_says_which_etcd_the_fixtures_use(
    run: Runner, live: Live, binary: str, newest_etcd: Path
) -> None:
    run.write(
        test_starts="def test_it(etcd_cluster_factory): pass",
        test_judges="def test_it(etcd_target): pass",
        test_others="def test_it(): pass",
    )
    alone, here = "--no-etcd-conformance", str(newest_etcd)
    starts = f"{USES}start etcd {binary_version(newest_etcd)}: process of {here}, --etcd-binary"
    for arguments in ([binary], [binary, "-n1"], [binary, *live.options, alone, "test_starts.py"]):
        ran = run(*arguments, report=False)
        [line] = [line for line in ran.out.splitlines() if line.startswith(USES)]
        assert line.startswith(starts)
    ran = run(*live.options, alone, "test_judges.py", report=False)
    [url, *_] = [option.partition("=")[2] for option in live.options if option.startswith("--etcd-endpoint=")]
    assert f"{USES}use the live cluster {url}" in ran.out
    assert "which the command line names" in ran.out
    silent = (
        [binary, "test_others.py"],
        [binary, "-q"],
        [binary, "--collect-only"],
        [*live.options, "--etcd-check=cert.trusted", "test_judges.py"],
    )
    for arguments in silent:
        assert USES not in run(*arguments, report=False).out, arguments


@pytest.mark.usefixtures("without_etcd")
def test_the_etcd_of_the_run_is_available_to_fixtures(
    run: Runner, newest_etcd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    run.write(test_user="def test_it(etcd_cluster_factory): etcd_cluster_factory(version='3.9')")
    ran = run(f"--etcd-binary={newest_etcd}", report=False)
    said = f"there is no etcd 3.9 to start: those available are {binary_version(newest_etcd)}; name one with"
    assert said in " ".join(ran.out.replace("\nE ", " ").split())


def test_collection_looks_for_no_etcd(
    run: Runner, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    programs = tmp_path_factory.mktemp("programs")
    was_run = programs / "was-run"
    (programs / "etcd").write_text(f"#!/bin/sh\n: >{was_run}\n", encoding="utf-8")
    (programs / "etcd").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    run.write(
        test_user="""
        import pytest

        def test_deselected(etcd_cluster, etcd_endpoint, etcd_check): pass

        @pytest.mark.parametrize("etcd_cluster", [{"binary": "etcd", "size": 3}], indirect=True)
        def test_that_names_its_etcd(etcd_cluster, etcd_endpoint): pass

        def test_without(): pass
        """
    )
    with socket.create_server(("127.0.0.1", 0)) as engine:
        engine.settimeout(0)
        monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{engine.getsockname()[1]}")
        ran = run("--no-etcd-conformance", "-k", "test_without", report=False)
        assert "1 passed" in ran.out
        collected = run("--no-etcd-conformance", "--collect-only", "-q", report=False)
        with pytest.raises(BlockingIOError):
            engine.accept()
    assert "test_that_names_its_etcd[peer-m2-etcd_cluster0]" in collected.out
    assert not was_run.exists()


@pytest.mark.two_etcds
def test_with_several_etcds_all_fixtures_of_a_test_refer_to_one(
    run: Runner, etcd_binaries: dict[str, Path]
) -> None:
    run.write(
        test_user="""
        def version(client):
            return client.get("/version").json()["etcdserver"]

        def test_cluster(etcd_client, etcd_target, etcd_cluster, request):
            assert version(etcd_client) == etcd_cluster.version == etcd_target.etcd_version
            assert f"[etcd-{etcd_cluster.version}]" in request.node.name

        def test_endpoint(etcd_endpoint, etcd_client, etcd_observer, request):
            assert f"[etcd-{version(etcd_client)}-{etcd_endpoint.label}]" in request.node.name
            assert etcd_endpoint in etcd_observer.target.listeners

        def test_check(etcd_check, etcd_client, request):
            assert etcd_check.run().outcome == "conforms"
            assert f"[etcd-{version(etcd_client)}-" in request.node.name

        def test_factory(etcd_cluster_factory, request):
            with etcd_cluster_factory() as cluster:
                assert f"[etcd-{cluster.version}]" in request.node.name

        def test_without():
            pass
        """,
        test_override="""
        import pytest

        @pytest.fixture(scope="module")
        def etcd_cluster(etcd_session_cluster_factory):
            with etcd_session_cluster_factory(key_type="ed25519") as cluster:
                yield cluster

        def test_override(etcd_check, etcd_client, etcd_cluster, request):
            assert etcd_check.run().outcome == "conforms"
            assert etcd_client.get("/version").json()["etcdserver"] == etcd_cluster.version
            assert f"[etcd-{etcd_cluster.version}-" in request.node.name
        """,
    )
    two = [f"--etcd-binary={binary}" for binary in list(etcd_binaries.values())[-2:]]
    ran = run(*two, "--etcd-check=mtls.no-certificate", "--no-etcd-conformance", report=False)
    ran.result.assert_outcomes(passed=17)


@pytest.mark.parametrize(
    ("option", "said", "errors"),
    [
        ("--etcd-backend=process", "the end of the run says what was tried and how to get one", 7),
        ("--etcd-binary=/nonexistent/etcd", "/nonexistent/etcd: there is no such file, here or on PATH", 5),
    ],
)
@pytest.mark.usefixtures("without_etcd")
def test_the_lack_of_an_etcd_is_explained_once_and_fails_only_the_tests_that_need_one(
    run: Runner, option: str, said: str, errors: int
) -> None:
    run.write(
        test_it="""
        import pytest

        def test_one(etcd_cluster): pass
        def test_two(etcd_client): pass
        def test_three(etcd_endpoint): pass  # is collected for each listener
        def test_four(etcd_cluster_factory): etcd_cluster_factory()

        @pytest.mark.etcd_cluster_scope("module")
        def test_five(etcd_target): pass

        @pytest.mark.etcd_checks("mtls.no-certificate")
        def test_check(etcd_check, etcd_endpoint): pass
        def test_without(): pass
        """
    )
    ran = run(option, "--no-etcd-conformance", "-p", "no:randomly", report=False)
    ran.result.assert_outcomes(passed=1, failed=1, errors=errors)
    assert ran.out.count(said) > errors
    assert "Traceback" not in ran.out
    if errors == 7:
        assert ran.out.count("tried: no etcd on PATH") == 1
        assert ran.out.index("= no etcd =") > ran.out.index("ERROR at setup of test_check")


@pytest.mark.parametrize("arguments", [["-p", "no:terminal", "-n1"], ["--no-summary"]], ids=" ".join)
@pytest.mark.usefixtures("without_etcd")
def test_without_a_terminal_reporter_the_first_test_explains_that_there_is_no_etcd(
    run: Runner, arguments: list[str]
) -> None:
    run.write(
        conftest="""
        from pytest_etcdtls.etcd import sources

        sources.embedded_binary = lambda: None
        """,
        test_it="""
        def test_one(etcd_cluster): pass
        def test_two(etcd_client): pass
        """,
    )
    ran = run("--etcd-backend=process", "-p", "no:randomly", "--junitxml=run.xml", *arguments, report=False)
    assert ran.exit_code == 1
    said = re.sub(r'message="[^"]*"', "", run.read("run.xml"))
    assert said.count("tried: no etcd on PATH") == 1
    assert said.count("to get one: an etcd on PATH") == 1
    assert said.count("the first test that needed one says what was tried") == 1
    assert said.index("tried: no etcd on PATH") < said.index('name="test_two"')
    assert "the end of the run says" not in said


@pytest.mark.parametrize("place", ["owned", "authentication", "live", "read only"])
def test_a_prefix_is_empty_again_for_the_next_test(run: Runner, live: Live, binary: str, place: str) -> None:
    run.write(
        conftest=f"""
        import pytest

        AUTHENTICATION = {place == "authentication"}

        if AUTHENTICATION:
            @pytest.fixture(scope="session")
            def etcd_cluster(etcd_session_cluster_factory):
                return etcd_session_cluster_factory(authentication=True)
        """,
        test_user=f"""
        import base64
        import httpx, pytest
        from conftest import AUTHENTICATION

        def text(value):
            return base64.b64encode(value.encode()).decode()

        SEEN = []

        @pytest.mark.parametrize("number", [1, 2])
        def test_put(request, etcd_client, etcd_prefix, number):
            assert etcd_prefix not in SEEN
            SEEN.append(etcd_prefix)
            if AUTHENTICATION:
                cluster = request.getfixturevalue("etcd_cluster")
                gateway = cluster.gateway(cluster.members[0])
                post = lambda call, message: gateway.post("/v3/kv/" + call, message)[1]
            else:
                post = lambda call, message: etcd_client.post("/v3/kv/" + call, json=message).json()
            for prefix in SEEN[:-1]:
                below = {{"key": text(prefix), "range_end": text(prefix[:-1] + "0")}}
                assert "count" not in post("range", below)
            if {place != "read only"}:
                post("put", {{"key": text(etcd_prefix + "a"), "value": "YQ=="}})
                assert post("range", {{"key": text(etcd_prefix + "a")}})["count"] == "1"
        """,
    )
    options = [*live.options] if place in ("live", "read only") else [binary]
    options += ["--etcd-allow-writes"] if place == "live" else []
    ran = run(*options, "--no-etcd-conformance", "-p", "no:randomly", report=False)
    ran.result.assert_outcomes(passed=2)
