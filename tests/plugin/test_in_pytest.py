"""The suite together with a user's tests: node ids, selection, and settings of the user's project."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from plugin.live_etcd import Live
from plugin.runs import Ran, Runner, nobody_came, url_of

SOME = "--etcd-check=listener,cert,mtls.no-certificate,cluster.same-ca"

HOSTILE_CONFTEST = """
    import pytest

    @pytest.fixture(autouse=True)
    def failing():
        raise RuntimeError("the user's own fixture")

    @pytest.fixture(autouse=True, scope="session")
    def failing_too():
        raise RuntimeError("the user's own session fixture")

    @pytest.fixture(params=["a", "b"])
    def etcd_endpoint(request):
        return request.param

    @pytest.fixture
    def etcd_check():
        raise RuntimeError

    @pytest.fixture
    def etcd_target():
        raise RuntimeError

    def pytest_runtest_setup(item):
        item.function, item.obj, item.module, item.cls, item.originalname, item.fixturenames, item.funcargs
"""

HOSTILE_INI = """\
python_files = nothing_*.py
python_functions = nothing
testpaths = nowhere
norecursedirs = *
usefixtures = failing
empty_parameter_set_mark = fail_at_collect
xfail_strict = true
filterwarnings = error
"""


def only_ours(ran: Ran, live: Live) -> None:
    assert ran.exit_code == 0
    assert ran.outcomes[f"{live.client_label}::mtls.no-certificate"] == "conforms"
    assert not {"violates", "inconclusive", "broken", "not-run"} & set(ran.counts)


def test_a_user_project_does_not_change_the_results(run: Runner, live: Live) -> None:
    ordered = run(*live.options, "-p", "no:randomly")
    run.write(conftest=HOSTILE_CONFTEST)
    run.ini(HOSTILE_INI)
    (run.directory / "nowhere").mkdir()
    ran = run(*live.options, "-p", "no:randomly")
    only_ours(ran, live)
    assert ran.outcomes == ordered.outcomes
    run.ini("")
    run.write(test_user="def test_user(etcd_endpoint): pass")
    ran = run(*live.options, "--etcd-check=cert.valid-now")
    assert ran.exit_code == 1
    ran.result.assert_outcomes(passed=2, errors=2)
    assert ran.counts == {"conforms": 2}


@pytest.mark.parametrize(
    "arguments",
    [
        ["-p", "no:python", "--strict-markers", "--strict-config", "--noconftest"],
        ["-p", "no:cacheprovider", "-p", "no:randomly", "-p", "no:junitxml", "--import-mode=importlib"],
        ["-W", "error"],
    ],
    ids=" ".join,
)
def test_settings_of_pytest_do_not_change_the_results(run: Runner, live: Live, arguments: list[str]) -> None:
    only_ours(run(*live.options, SOME, *arguments), live)


def test_user_tests_run_beside_the_suite_unless_it_is_named_alone(run: Runner, live: Live) -> None:
    run.write(test_user="def test_user(etcd_target): assert etcd_target.live\ndef test_fails(): assert False")
    options, named = (*live.options, "--etcd-check=cert.valid-now"), "test_user.py::test_user"
    ran = run(*options)
    assert ran.exit_code == 1
    ran.result.assert_outcomes(passed=3, failed=1)
    assert ran.report["partial"] is False
    run(*options, named).result.assert_outcomes(passed=3)
    run(*live.options, live.node_id("cert.trusted"), named).result.assert_outcomes(passed=2)
    run(*live.options, "--no-etcd-conformance", named, report=False).result.assert_outcomes(passed=1)
    only_ours(run(*live.options, SOME, "--pyargs", "pytest_etcdtls"), live)


def test_without_any_option_a_run_is_unchanged(run: Runner) -> None:
    run.write(test_user="def test_user(): pass")
    ran = run(report=False)
    assert ran.exit_code == 0
    ran.result.assert_outcomes(passed=1)
    assert "etcd" not in ran.out.replace("plugins: ", "").replace("etcdtls-", "")
    assert run("-k", "nothing", report=False).exit_code == 5


# Node ids.


def test_node_ids_are_as_documented(run: Runner, live: Live) -> None:
    ran = run(*live.options, "--collect-only", "-q", "-p", "no:randomly")
    ids = [line for line in ran.out.splitlines() if "::" in line]
    assert live.node_id("mtls.no-certificate") in ids
    assert f"etcdtls::live::{live.peer_label}::cert.trusted" in ids
    assert len(ids) == len(set(ids))
    assert all(id_.count("::") == 3 and not set(id_) & set("[]/@") for id_ in ids)


@pytest.mark.parametrize("depth", [1, 3, 4])
def test_an_id_or_a_prefix_of_one_is_an_argument(run: Runner, live: Live, depth: int) -> None:
    name = "::".join(live.node_id("cert.trusted").split("::")[:depth])
    ran = run(*live.options, SOME, name)
    assert ran.exit_code == 0
    listeners = {place.partition("::")[0] for place in ran.outcomes}
    assert listeners == (
        {live.client_label} if depth > 2 else {live.client_label, live.peer_label, "cluster"}
    )
    assert (len(ran.outcomes) == 1) is (depth == 4)


def test_a_displayed_id_is_an_argument(run: Runner, live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    run.ini("")
    below = run.directory / "a" / "b"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    options = (*live.options, f"--rootdir={run.directory}")
    shown = next(
        word
        for line in run(*options, "-v").out.splitlines()
        for word in line.split()
        if "cert.trusted" in word
    )
    ran = run(*options, shown)
    assert ran.exit_code == 0
    assert len(ran.outcomes) == 1


def test_a_directory_named_etcdtls_is_a_user_directory(run: Runner, live: Live) -> None:
    tests = run.directory / "etcdtls"
    tests.mkdir()
    (tests / "test_user.py").write_text("def test_user(): pass", encoding="utf-8")
    ran = run("etcdtls", report=False)
    ran.result.assert_outcomes(passed=1)


# Selection.


def test_checks_are_selected_as_tests_are(run: Runner, live: Live) -> None:
    wanted = "trusted and not mtls.trusted-client and not config"
    for arguments in (["-k", wanted, "-m", "etcdtls"], ["--etcd-check=cert", "--etcd-check=!cert.[!t]*"]):
        ran = run(*live.options, *arguments)
        assert {place.partition("::")[2] for place in ran.outcomes} == {"cert.trusted"}
    peer = f"etcdtls::live::{live.peer_label}"
    ran = run(*live.options, SOME, f"--deselect={peer}", f"--deselect={live.node_id('cert.trusted')}")
    assert ran.outcomes
    assert not any(place.startswith(live.peer_label) or "cert.trusted" in place for place in ran.outcomes)


@pytest.mark.parametrize("where", ["command line", "ini file"])
def test_a_requested_suite_with_all_deselected_ends_with_1(run: Runner, live: Live, where: str) -> None:
    run.write(test_user="import pytest\n@pytest.mark.unit\ndef test_user(): pass")
    run.ini("markers = unit" + ("\naddopts = -m unit" if where == "ini file" else ""))
    arguments = ["-m", "unit"] if where == "command line" else []
    ran = run(*live.options, SOME, *arguments)
    assert ran.exit_code == 1
    ran.result.assert_outcomes(passed=1)
    assert "none of its checks ran" in " ".join(ran.out.split())
    assert "--no-etcd-conformance" in ran.out
    assert run(*live.options, SOME, *arguments, "--no-etcd-conformance", report=False).exit_code == 0


@pytest.mark.parametrize("how", [[], ["-p", "no:terminal"], ["--no-summary"]], ids=" ".join)
def test_all_deselected_without_user_tests_ends_with_1(run: Runner, live: Live, how: list[str]) -> None:
    """Without a terminal the reason is on standard error."""
    ran = run(*live.options, "-k", "nothing-of-that-name", *how)
    assert ran.exit_code == 1
    assert "none of its checks ran" in " ".join((ran.err if how else ran.out).split())


def test_lf_and_stepwise_may_deselect_all_checks(run: Runner, live: Live) -> None:
    run.write(test_user="def test_fails(): assert False")
    assert run(*live.options, "--etcd-check=cert.valid-now").exit_code == 1
    run.write(test_user="def test_fails(): pass")
    ran = run(*live.options, "--etcd-check=cert.valid-now", "--lf")
    assert ran.exit_code == 0
    ran.result.assert_outcomes(passed=1, deselected=2)


# What is only looked at.


@pytest.mark.parametrize(
    "option", ["--collect-only", "--setup-plan", "--setup-only", "--fixtures", "--cache-show"]
)
def test_a_dry_run_makes_no_connection(run: Runner, listening: socket.socket, option: str) -> None:
    ran = run(f"--etcd-endpoint={url_of(listening)}", option)
    assert nobody_came(listening)
    assert ran.exit_code == 0
    assert not ran.path.exists()
    assert ("mtls.no-certificate" in ran.out) is (option not in ("--fixtures", "--cache-show"))


# What other plugins see.


def test_hooks_of_other_plugins_find_the_attributes_of_a_test_function(run: Runner, live: Live) -> None:
    run.write(
        conftest="""
        import pytest

        def pytest_collection_modifyitems(config, items):
            for item in items:
                assert item.path.exists() and config.rootpath in item.path.parents
                assert item.obj is item.function and item.function.__name__.isidentifier()
                assert item.module.__name__.startswith("pytest_etcdtls.checks.")
                assert (item.cls, item.originalname) == (None, "cert.trusted")
                assert (list(item.fixturenames), item.funcargs) == ([], {})

        @pytest.hookimpl(wrapper=True)
        def pytest_runtest_protocol(item, nextitem):
            item.get_closest_marker("whatever"), item.location, item.listchain(), item.keywords
            return (yield)

        def pytest_runtest_setup(item):
            print("\\nSETUP", item.name)

        def pytest_runtest_logreport(report):
            if report.when == "setup":
                report.etcdtls.message
        """
    )
    ran = run(*live.options, live.node_id("cert.trusted"), "-s", "--new-first")
    assert ran.exit_code == 0
    assert "SETUP cert.trusted" in ran.out


def test_a_broken_user_module_stops_the_session_and_the_report_is_partial(run: Runner, live: Live) -> None:
    run.write(test_broken="import nothing_of_that_name")
    ran = run(*live.options)
    assert ran.exit_code == 2
    assert ran.report["partial"] is True
    assert set(ran.counts) == {"not-run"}


def test_a_failing_user_hook_is_no_verdict(run: Runner, live: Live) -> None:
    run.write(
        conftest="""
        def pytest_runtest_setup(item):
            raise RuntimeError("the user's own hook")
        """
    )
    ran = run(*live.options, "--etcd-check=cert.trusted")
    assert ran.exit_code == 1
    assert set(ran.counts) == {"not-run"}
    said = " ".join(ran.out.split())
    assert "none of its checks ran: a hook of a conftest.py or plugin failed before them" in said


def test_without_plugins_of_pytest_a_waiver_and_a_skip_are_not_failures(run: Runner, live: Live) -> None:
    run.with_house()
    options = (*live.options, run.waive("house.violates"), "--etcd-allow-unverified")
    checks = "--etcd-check=house.violates,house.not-applicable"
    ran = run(*options, checks, "-p", "no:skipping", "-p", "no:setuponly")
    assert ran.exit_code == 0
    assert set(ran.counts) == {"waived", "not-applicable"}


def test_forbidden_sockets_are_inconclusive(run: Runner, live: Live, newest_etcd: Path) -> None:
    pytest.importorskip("pytest_socket")
    run.write(test_user="def test_user(etcd_client): pass")
    owned = [f"--etcd-binary={newest_etcd}", "--etcd-conformance"]
    for options in (live.options, [*live.options, "-Werror"], owned):
        ran = run(*options, "--etcd-check=listener.answers,cert.trusted", "--disable-socket")
        assert ran.exit_code == 1
        assert set(ran.counts) == {"inconclusive", "not-verified"}
        assert "pytest-socket forbids the connection: run without" in " ".join(ran.out.split())
        assert "--force-enable-socket" in ran.out


def test_a_broken_module_of_checks_is_reported_before_the_search_for_an_etcd(
    run: Runner, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    about = run.directory / "house_checks-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: house-checks\nVersion: 1\n", encoding="utf-8"
    )
    (about / "entry_points.txt").write_text(
        "[pytest_etcdtls.checks]\nhouse = house_checks\n", encoding="utf-8"
    )
    run.write(house_checks="import nothing_of_that_name")
    monkeypatch.setenv("PYTHONPATH", str(run.directory), prepend=":")
    ran = pytester.runpytest_subprocess("--etcd-binary=/nonexistent/etcd", "--etcd-conformance")
    assert ran.ret == 4
    assert "the checks of 'house_checks' cannot be imported" in ran.stderr.str()
    assert "/nonexistent/etcd" not in ran.stderr.str()
