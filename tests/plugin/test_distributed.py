"""pytest-xdist: one process judges, each result exists once, and no further connection is made."""

from __future__ import annotations

import re

import pytest
from plugin.live_etcd import Live
from plugin.runs import Runner

SOME = "--etcd-check=listener,cert,mtls.no-certificate"
TESTS = "import pytest\n@pytest.mark.parametrize('n', range(6))\ndef test_user(n): assert n"


@pytest.mark.parametrize("how", [["-n2"], ["-n2", "--dist=each"]], ids=" ".join)
def test_each_result_exists_once_without_more_connections(run: Runner, live: Live, how: list[str]) -> None:
    run.write(test_user=TESTS)
    alone = run(*live.wrong_anchor, SOME, "-p", "no:randomly")
    spread = run(*live.wrong_anchor, SOME, "-p", "no:randomly", *how, "-v", "--junitxml=junit.xml")
    assert spread.exit_code == alone.exit_code == 1
    assert spread.outcomes == alone.outcomes
    assert spread.connections == alone.connections
    copies = 2 if "--dist=each" in how else 1
    ours = alone.result.parseoutcomes()
    theirs = spread.result.parseoutcomes()
    assert theirs["failed"] == ours["failed"] - 1 + copies
    assert theirs["passed"] == ours["passed"] - 5 + 5 * copies
    progress = [int(number) for number in re.findall(r"\[ *(\d+)%\]", spread.out)]
    assert max(progress) == progress[-1] == 100
    text = run.read("junit.xml")
    assert text.count('name="cert.trusted"') == 2
    assert text.count("<testcase ") == len(spread.outcomes) + 6 * copies


def test_workers_are_started_for_tests_of_the_user(run: Runner, live: Live) -> None:
    """They do not search for our node ids, and a directory without tests does not end with 5."""
    ours, suite = live.node_id("cert.trusted"), ("--pyargs", "pytest_etcdtls")
    for arguments, workers in (((), True), (suite, False), ((ours,), False)):
        ran = run(*live.options, SOME, "-n1", *arguments)
        assert ran.exit_code == 0
        assert (re.search(r"\d workers?\b", ran.out) is not None) is workers
        assert ran.outcomes
    run.write(test_user=TESTS.replace("assert n", "pass"))
    ran = run(*live.options, SOME, "-n1", ours, "test_user.py")
    assert ran.exit_code == 0
    ran.result.assert_outcomes(passed=7)
    ran = run(*live.options, SOME, "-n1", *suite, "test_user.py")
    assert ran.exit_code == 0
    assert ran.result.parseoutcomes()["passed"] > 7
    ran = run(*live.options, SOME, "-n1", "-k", "test_user")
    assert ran.exit_code == 1
    assert "none of its checks ran" in " ".join(ran.out.split())


def test_after_our_first_failure_with_x_no_user_test_runs(run: Runner, live: Live) -> None:
    run.with_house()
    run.write(test_user=TESTS)
    ran = run(*live.options, "--etcd-check=house.[vw]*", "-p", "no:randomly", "-n1", "-x")
    assert ran.exit_code == 1
    ran.result.assert_outcomes(failed=1)
    assert ran.counts == {"violates": 1, "not-run": 2}


def test_selection_lf_and_reruns_work_under_xdist(run: Runner, live: Live) -> None:
    run.with_house()
    options = (*live.options, "--etcd-check=house", "-n1")
    assert run(*options, "--reruns=1").counts["violates"] == 1
    assert set(run(*options, "--lf").counts) == {"violates", "inconclusive", "broken"}
    selected = run(*options, "-k", "conforms or warns", f"--deselect={live.node_id('house.conforms')}")
    assert set(selected.counts) == {"warns"}


def test_a_crashing_worker_loses_none_of_our_results(run: Runner, live: Live) -> None:
    run.write(test_user="import os\ndef test_user(): os._exit(1)")
    ran = run(*live.options, SOME, "-n1", "--max-worker-restart=0")
    assert ran.exit_code == 1
    assert set(ran.counts) <= {"conforms", "not-verified", "warns", "not-applicable"}
    assert ran.counts["conforms"]


def test_fixtures_in_workers_share_the_cap(run: Runner, live: Live) -> None:
    run.write(
        test_user="""
        import pytest
        from pytest_etcdtls import InconclusiveError
        from pytest_etcdtls.facts.access import AcceptedClient

        @pytest.mark.parametrize("n", range(4))
        def test_cap(etcd_observer, etcd_target, etcd_endpoint, n):
            assert etcd_target.live and etcd_endpoint in etcd_target.listeners
            with pytest.raises(InconclusiveError, match="share of one of 2 processes in the cap"):
                etcd_observer.get(AcceptedClient, listener=etcd_target.listeners[0])
            assert len(etcd_observer.connections) == 4
            assert etcd_observer.bounds.concurrency == 2
        """
    )
    ran = run(*live.options, "--no-etcd-conformance", "--etcd-max-connections=8", "-n2", report=False)
    ran.result.assert_outcomes(passed=8)


def test_the_suite_reserves_its_connections_and_workers_share_the_rest(run: Runner, live: Live) -> None:
    run.write(
        test_user="""
        def test_cap(etcd_observer):
            print("workers have", etcd_observer.bounds.max_connections)
            assert 1 <= etcd_observer.bounds.max_connections < 100
        """
    )
    ran = run(*live.options, "--etcd-check=mtls.no-certificate", "-n2", "--etcd-max-connections=200")
    assert ran.exit_code == 0
    assert ran.outcomes


RECORDED = """
import pytest

class Recorder:
    def __init__(self, path):
        self.path = path

    def write(self, *values):
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(repr(values))

    @pytest.hookimpl(trylast=True)
    def pytest_configure_node(self, node):
        self.write(node.workerinput, vars(node.config.option), node.config.args)

    def pytest_testnodedown(self, node, error):
        self.write(getattr(node, "workeroutput", None), error)

    @pytest.hookimpl(wrapper=True)
    def pytest_report_from_serializable(self, config, data):
        self.write(data)
        return (yield)

def pytest_configure(config):
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Recorder(str(config.rootpath / "messages")))
"""


def test_messages_of_workers_have_no_secret(run: Runner, live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ETCDTLS_KEY_PASSWORD", "s3cret-passphrase")
    (run.directory / "password").write_text("s3cret-password\n", encoding="utf-8")
    run.pytester.makeconftest(RECORDED)
    run.write(
        test_user="""
        import pytest

        @pytest.mark.parametrize("n", range(4))
        def test_target(n, etcd_client, etcd_target):
            assert etcd_target.user[0] == "root"
            assert etcd_client.get("/version").status_code == 200
            assert n
        """
    )
    user = ("--etcd-user=root", f"--etcd-password-file={run.directory / 'password'}")
    ran = run(*live.options, *user, SOME, "-n2", "-p", "no:randomly", "-l", report=False)
    assert ran.result.parseoutcomes()["failed"] == 1
    messages = run.read("messages")
    assert "test_target" in messages
    assert "etcd_endpoint" in messages
    assert "password_file" in messages
    keys = [
        (live.files / f"{name}.key").read_text(encoding="utf-8").splitlines()[1]
        for name in ("client", "peer-client")
    ]
    assert not [secret for secret in ("s3cret", "PRIVATE KEY", *keys) if secret in messages]
    assert not [secret for secret in ("s3cret", "PRIVATE KEY", *keys) if secret in ran.out + ran.err]
