"""``--etcd-reuse``: clusters that are kept between runs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from plugin.runs import Ran, Runner

from pytest_etcdtls.cluster.reuse import KeptClusters

NAMES_IT = """
def test_cluster(etcd_cluster, etcd_client, etcd_target):
    with open("tokens", "a") as file:
        file.write(etcd_cluster.token + "\\n")
    assert etcd_client.get("/version").status_code == 200
    assert etcd_target.listeners[0].url == etcd_cluster.members[0].client_url
"""

Reuse = Callable[..., Ran]


@pytest.fixture
def reuse(run: Runner, newest_etcd: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reuse]:
    """Run pytest in a process and with a cache directory of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(run.directory / "cache"))

    def reusing(*arguments: str, option: str = "--etcd-reuse") -> Ran:
        run.report.unlink(missing_ok=True)
        # Without the suite there is no report.
        report = f"--etcd-report={run.report}" if "--etcd-conformance" in arguments else ""
        options = [f"--etcd-binary={newest_etcd}", report, option]
        result = run.pytester.runpytest_subprocess(*filter(None, options), *arguments, timeout=300)
        return Ran(result, run.report, run.report.read_text() if run.report.exists() else None)

    yield reusing
    KeptClusters(0).end_all()
    assert list((run.directory / "cache" / "pytest-etcdtls" / "reuse").iterdir()) == []


def tokens(run: Runner) -> list[str]:
    path = run.directory / "tokens"
    found = path.read_text().split()
    path.unlink()
    return found


def summary(ran: Ran) -> str:
    return ran.out.partition(" etcd between runs ")[2]


def test_header_and_summary_name_the_kept_clusters(run: Runner, reuse: Reuse) -> None:
    run.write(test_user=NAMES_IT)
    first = reuse()
    assert first.exit_code == 0
    header = (
        "etcd TLS: --etcd-reuse: clusters that wait to be taken over: {}; those of this run stay for 30 min"
    )
    assert header.format(0) in first.out
    ends = r"etcd [\d.]+ \(.*\) was {} and is kept until \d\d:\d\d; --etcd-reuse=0 ends it"
    assert re.search(ends.format("started"), summary(first))
    second = reuse()
    assert second.exit_code == 0
    assert header.format(1) in second.out
    assert re.search(ends.format("taken over"), summary(second))
    assert len(set(tokens(run))) == 1
    ended = reuse(option="--etcd-reuse=0")
    assert "etcd TLS: --etcd-reuse=0: kept clusters that were ended: 1" in ended.out
    assert "was started" not in ended.out
    assert "--etcd-reuse=0: kept clusters that were ended: 0" in summary(reuse("-q", option="--etcd-reuse=0"))
    assert KeptClusters(0).waiting == []


def test_a_run_without_the_option_does_not_use_the_kept_cluster(run: Runner, reuse: Reuse) -> None:
    run.write(test_user=NAMES_IT)
    reuse()
    assert "between runs" not in reuse(option="").out
    reuse()
    first, own, again = tokens(run)
    assert first == again != own


def test_each_worker_takes_over_a_cluster_of_its_own(run: Runner, reuse: Reuse) -> None:
    run.write(test_user=NAMES_IT)
    first = reuse("-n2", "--dist=each", option="--etcd-reuse=5")
    assert first.exit_code == 0
    assert summary(first).count("was started and is kept until") == 2
    before = set(tokens(run))
    second = reuse("-n2", "--dist=each", option="--etcd-reuse=5")
    assert summary(second).count("was taken over and is kept until") == 2
    assert set(tokens(run)) == before
    assert len(before) == 2


def test_the_suite_has_the_same_results_on_a_kept_cluster(run: Runner, reuse: Reuse) -> None:
    run.write(test_user=NAMES_IT)
    first, second = reuse("--etcd-conformance"), reuse("--etcd-conformance")
    assert first.exit_code == second.exit_code == 0
    assert "was taken over" in summary(second)
    assert len(set(tokens(run))) == 1
    assert first.outcomes == second.outcomes
    reasons = [
        {(r["listener"], r["check"]): r["reason"] for r in ran.report["results"]} for ran in (first, second)
    ]
    assert {key for key in reasons[0] if bool(reasons[0][key]) != bool(reasons[1][key])} == set()


def test_clusters_of_a_factory_or_a_narrower_scope_are_not_kept(run: Runner, reuse: Reuse) -> None:
    run.write(
        test_user="""
        import pytest

        def test_private(etcd_cluster_factory):
            with etcd_cluster_factory() as cluster:
                assert "reuse" not in str(cluster.directory)

        @pytest.mark.etcd_cluster_scope("function")
        def test_scoped(etcd_cluster):
            assert "reuse" not in str(etcd_cluster.directory)
        """
    )
    ran = reuse()
    assert ran.exit_code == 0
    assert summary(ran) == ""
    assert KeptClusters(0).waiting == []


def test_a_damaged_cluster_is_not_kept_and_a_named_one_is(run: Runner, reuse: Reuse) -> None:
    run.write(
        test_user="""
        import pytest

        def test_damage(etcd_cluster):
            etcd_cluster.stop_member(0)

        @pytest.mark.parametrize("etcd_cluster", [{"key_type": "ed25519"}], indirect=True)
        def test_named(etcd_cluster):
            assert etcd_cluster.difference() == ""
        """
    )
    ran = reuse("-p", "no:randomly")
    assert ran.exit_code == 0
    assert summary(ran).count("is not kept: m0 is not running") == 1
    assert summary(ran).count("is kept until") == 1


def test_the_ini_file_enables_reuse(run: Runner, reuse: Reuse) -> None:
    run.ini("etcd_reuse = 7")
    run.write(test_user=NAMES_IT)
    assert "stay for 7 min after it" in reuse(option="").out
    assert "stay for 9 min after it" in reuse(option="--etcd-reuse=9").out
    assert len(set(tokens(run))) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--etcd-reuse=soon",), "--etcd-reuse 'soon' is not a number of minutes from 0 to 1440"),
        (("--etcd-reuse=1441",), "--etcd-reuse '1441' is not a number of minutes"),
        (("--etcd-reuse", "test_user.py"), "before the name of a file write --etcd-reuse=30"),
        (("--etcd-reuse", "--etcd-keep"), "--etcd-keep leaves clusters to you"),
        (("--etcd-reuse", "--etcd-endpoint=https://127.0.0.1:1"), "--etcd-endpoint names one that runs"),
        (("--etcd-reuse", "--etcd-clusters=list.toml"), "--etcd-reuse is about one cluster"),
    ],
)
def test_an_unusable_value_of_reuse_is_a_usage_error(
    run: Runner, arguments: tuple[str, ...], said: str
) -> None:
    run.write(test_user="def test_user(): pass")
    ran = run(*arguments, report=False)
    assert ran.exit_code == 4
    assert said in ran.err


def test_an_unsafe_directory_is_a_usage_error(
    run: Runner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    cache.chmod(0o777)
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    run.write(test_user="def test_user(): pass")
    ran = run("--etcd-reuse", report=False)
    assert ran.exit_code == 4
    assert f"{cache} belongs to another user or can be changed by others" in ran.err


def test_forbidden_sockets_are_named(run: Runner, reuse: Reuse) -> None:
    pytest.importorskip("pytest_socket")
    run.write(test_user=NAMES_IT)
    assert reuse().exit_code == 0
    ran = reuse("--disable-socket")
    assert ran.exit_code == 1
    assert "did not come up: pytest-socket forbids the connection" in " ".join(ran.out.split())
    assert "INTERNALERROR" not in ran.out
    assert KeptClusters(0).waiting == []
