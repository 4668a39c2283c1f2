"""An etcd that does not start is a fault of its target under every selection. One that ends is no verdict."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from plugin.runs import Ran, Runner
from unruly.programs import changed_flags, killed

OWNED = ("--pyargs", "pytest_etcdtls")
PLACE = "cluster::config.starts"
SELECTIONS = (
    (),
    ("--etcd-check=lifecycle", "--etcd-strict", "--etcd-allow-unverified"),
    ("--etcd-check=mtls,tls", "-k", "no-certificate"),
    ("--etcd-check=config.starts",),
    ("--etcd-check=!config.starts", "-x"),
)


@pytest.fixture
def broken(newest_etcd: Path, tmp_path: Path) -> Path:
    """An etcd that answers ``--version`` and ``--help`` and does not start."""
    return changed_flags(listen_metrics_urls="nonsense")(newest_etcd, tmp_path)


def assert_not_started(ran: Ran, targets: int = 1) -> None:
    """The start is the only fault of one target, with etcd's own words."""
    assert ran.exit_code == 1
    assert ran.verdict.startswith("etcd TLS: NOT CLEAN: 1 fault (1 check)")
    [fault] = ran.report["faults"]
    assert fault["check"] == "config.starts"
    assert re.match(r"m0 does not start: it ended with status \d: ", fault["message"])
    [starts] = [
        result
        for result in ran.report["results"]
        if result["check"] == "config.starts" and result["outcome"] == "violates"
    ]
    assert starts["findings"][0]["evidence"]["log"]
    assert "nonsense" in " ".join(ran.out.split()), "the terminal has the lines of etcd's log"
    assert len(ran.report["targets"]) == targets
    assert "Traceback" not in ran.out + ran.err


@pytest.mark.parametrize("selection", SELECTIONS, ids=" ".join)
def test_under_every_selection(run: Runner, broken: Path, selection: tuple[str, ...]) -> None:
    """The first test has the log: a reader of JUnit's XML sees it, whatever was selected."""
    assert_not_started(run(*OWNED, f"--etcd-binary={broken}", *selection, "--junitxml=junit.xml"))
    text = run.read("junit.xml")
    assert "nonsense" in text.partition("<failure" if "<failure" in text else "<error")[2]


@pytest.mark.parametrize("good_first", [True, False])
def test_beside_one_that_starts(run: Runner, broken: Path, newest_etcd: Path, good_first: bool) -> None:
    etcds = [newest_etcd, broken] if good_first else [broken, newest_etcd]
    options = [f"--etcd-binary={etcd}" for etcd in etcds]
    ran = run(*OWNED, *options, "--etcd-check=lifecycle.allowed-hostname,cert.trusted")
    assert_not_started(ran, targets=2)
    good = ran.report["targets"][0 if good_first else 1]["label"]
    outcomes = {result["outcome"] for result in ran.report["results"] if result["target"] == good}
    assert outcomes == {"conforms"}


def test_an_etcd_that_ends_during_the_run(run: Runner, newest_etcd: Path, tmp_path: Path) -> None:
    """It is killed when it refuses the first client: what follows has no evidence, and is no fault."""
    owned = (*OWNED, f"--etcd-binary={killed('t provide a certificate')(newest_etcd, tmp_path)}")
    ran = run(*owned, "--etcd-check=mtls.no-certificate,cert.trusted")
    assert ran.exit_code == 1
    assert ran.verdict.startswith("etcd TLS: NO VERDICT: ")
    assert "member m0 ended with status 3; its log ends: rejected connection" in " ".join(ran.out.split())
    ran = run(*owned, "--etcd-check=lifecycle.peer-san")
    assert ran.exit_code == 1
    assert "etcd ended during the experiment" in ran.result_of("lifecycle.peer-san")["reason"]
