"""Order, repetition and early ends: a verdict does not change, and checks that were not run are reported."""

from __future__ import annotations

import os
import signal

import pytest
from hostile.child_run import ChildRun
from plugin.live_etcd import Live
from plugin.runs import Runner, ran_in_a_child

SOME = "--etcd-check=listener,cert,mtls.no-certificate"


def test_a_rerun_repeats_the_result_and_opens_no_connection(run: Runner, live: Live) -> None:
    run.with_house()
    options = (*live.wrong_anchor, SOME, "--etcd-check=house.inconclusive,house.broken", "-p", "no:randomly")
    once = run(*options)
    again = run(*options, "--reruns=3")
    assert "9 rerun" in again.out
    assert again.exit_code == once.exit_code == 1
    assert again.outcomes == once.outcomes
    assert again.connections == once.connections


def test_the_order_does_not_change_the_results(run: Runner, live: Live) -> None:
    ordered = run(*live.wrong_anchor, "-p", "no:randomly")
    shuffled = run(*live.wrong_anchor, "--randomly-seed=3")
    assert shuffled.outcomes == ordered.outcomes
    assert list(shuffled.outcomes) != list(ordered.outcomes)


def test_lf_runs_failed_checks_only_and_ff_runs_them_first(run: Runner, live: Live) -> None:
    run.with_house()
    run.write(test_user="def test_fails(): assert False\ndef test_passes(): pass")
    options = (*live.options, "--etcd-check=house", "-p", "no:randomly")
    assert run(*options).exit_code == 1
    last = run(*options, "--lf")
    last.result.assert_outcomes(failed=2, errors=2, deselected=5)
    assert {place.partition("::")[2] for place in last.outcomes} == {
        "house.violates",
        "house.inconclusive",
        "house.broken",
    }
    assert last.report["partial"] is False
    first = run(*options, "--ff")
    assert [place.partition("::")[2] for place in first.outcomes][:3] == [
        "house.broken",
        "house.inconclusive",
        "house.violates",
    ]


def test_checks_after_the_first_failure_with_x_are_not_run(run: Runner, live: Live) -> None:
    run.with_house()
    ran = run(*live.options, "--etcd-check=house.[vw]*", "-p", "no:randomly", "--maxfail=1")
    assert ran.exit_code == 1
    assert ran.report["partial"] is True
    assert ran.found("not-run") == {"house.waits", "house.warns"}
    assert "2 not run" in ran.out
    run.write(test_user="def test_fails(): assert False")
    ran = run(*live.options, "--etcd-check=cert.valid-now", "-p", "no:randomly", "-x")
    assert ran.exit_code == 1
    assert set(ran.counts) == {"not-run"}
    assert "none of its checks ran" not in ran.out


def test_a_run_stopped_by_stepwise_ends_with_2_and_leaves_out_no_check(run: Runner, live: Live) -> None:
    run.with_house()
    ran, again = (
        run(*live.options, "--etcd-check=house.[cvw]*", "-p", "no:randomly", "--stepwise") for _ in range(2)
    )
    left = {"house.violates": "violates", "house.waits": "not-run", "house.warns": "not-run"}
    for stopped, conforms in ((ran, {"house.conforms": "conforms"}), (again, {})):
        assert stopped.exit_code == 2
        assert stopped.report["partial"] is True
        assert {place.partition("::")[2]: out for place, out in stopped.outcomes.items()} == left | conforms


@pytest.mark.parametrize("order", [["-p", "no:randomly"], ["--randomly-seed=2"]])
def test_a_run_that_ends_at_the_first_failure_ends_at_the_fault(
    run: Runner, open_etcd: Live, order: list[str]
) -> None:
    ran = run(open_etcd.options[0], *open_etcd.credentials[:3], "-x", *order)
    assert ran.exit_code == 1
    [violates] = [result["check"] for result in ran.report["results"] if result["outcome"] == "violates"]
    assert violates == "mtls.no-certificate"
    left = ran.counts["not-run"]
    assert left > 1
    assert f"NOT CLEAN: 1 fault (1 check), stopped early, {left} checks not run (" in ran.verdict


@pytest.mark.parametrize("workers", [[], ["-n2"]], ids=["serial", "xdist"])
def test_ctrl_c_ends_with_2_and_a_partial_report(run: Runner, live: Live, workers: list[str]) -> None:
    """The run is interrupted in the middle of a check."""
    run.with_house()
    begun, forever = run.directory / "begun", run.directory / "forever"
    os.mkfifo(forever)
    child = ChildRun(
        run.directory,
        ["-p", "house", "--etcd-report=report.json", *live.options, "--etcd-check=house.[vw]*", *workers],
        environment={"HOUSE_STARTED": str(begun), "HOUSE_FOREVER": str(forever)},
    )
    child.wait_until(begun.exists)
    child.send(signal.SIGINT)
    ran = ran_in_a_child(child)
    assert ran.exit_code == 2
    assert ran.report["partial"] is True
    assert {place.partition("::")[2]: outcome for place, outcome in ran.outcomes.items()} == {
        "house.violates": "violates",
        "house.waits": "not-run",
        "house.warns": "not-run",
    }
    assert "house is on fire" in ran.out
    assert ran.verdict.startswith("etcd TLS: NOT CLEAN: 1 fault (1 check), interrupted, 2 checks not run (")


def test_a_time_out_by_signal_is_inconclusive_and_not_repeated(
    run: Runner, live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.with_house()
    forever = run.directory / "forever"
    os.mkfifo(forever)
    monkeypatch.setenv("HOUSE_STARTED", os.devnull)
    monkeypatch.setenv("HOUSE_FOREVER", str(forever))
    options = ("--etcd-check=house.waits,house.conforms", "--timeout=1", "--timeout-method=signal")
    ran = run(*live.options, *options, "--reruns=1")
    assert ran.exit_code == 1
    assert ran.counts == {"inconclusive": 1, "conforms": 1}
    assert "Timeout" in ran.result_of("house.waits")["reason"]
    assert "Traceback" not in ran.out
