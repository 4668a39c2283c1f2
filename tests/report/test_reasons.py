"""Results are grouped, counted and explained by reasons, and not by their English."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from report.broken_cluster import judged
from starting import start_process

from pytest_etcdtls import errors
from pytest_etcdtls.errors import Reason, missing, needs, see, silent
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.report.model import Report
from pytest_etcdtls.report.overview import undecided, without_evidence
from pytest_etcdtls.report.terminal import verdict
from pytest_etcdtls.target import PortCredentials, Target

KEY = needs("the key", "--etcd-ca-key")
DOWN = silent("https://10.0.0.1:2379", "does not answer", "; start it", detail="connect")


@pytest.mark.parametrize(
    ("reason", "english", "headline"),
    [
        (KEY, "needs the key: pass --etcd-ca-key", "needs the key"),
        (needs("a client", ending=", and none is"), "needs a client, and none is", "needs a client"),
        (missing("no log", "--a", "--b", passing="--a or --b"), "no log: pass --a or --b", "no log"),
        (see("it is down", "a.b", "c.d"), "it is down: see a.b and c.d", "it is down: see a.b and c.d"),
        (DOWN, "https://10.0.0.1:2379 does not answer; start it", "https://10.0.0.1:2379 does not answer"),
        (
            Reason.gated("a.b", "violates", KEY),
            "a.b violates: needs the key: pass --etcd-ca-key",
            "a.b violates",
        ),
        (Reason.together([KEY, "why", "why"]), "needs the key: pass --etcd-ca-key; why", "needs the key"),
        (Reason("why").after("it: "), "it: why", "why"),
        (Reason(), "", ""),
    ],
)
def test_a_reason_in_english(reason: Reason, english: str, headline: str) -> None:
    assert (str(reason), reason.headline) == (english, headline)


def test_reasons_that_differ_in_the_options_are_one() -> None:
    of_peers = needs("the key", "--etcd-peer-ca-key")
    assert KEY.without_options() == of_peers.without_options()
    assert Reason.merged([KEY, of_peers, KEY]).every_option == ("--etcd-ca-key", "--etcd-peer-ca-key")
    several = [Reason.together([one, DOWN]) for one in (KEY, of_peers)]
    assert str(Reason.merged(several)) == f"needs the key: pass --etcd-ca-key and --etcd-peer-ca-key; {DOWN}"


FAULTY = ClusterConfig(expects_health=False, client_cert_auth=False, trusted_ca_file=None)


def _judged(etcd: Target, *, closed: bool) -> Report:
    """Return the report of a run without client certificate and CA key; one of its ports may be closed."""
    dead = replace(etcd.listeners[0], port=1, label="client-dead")
    given = replace(etcd.client, identities=(), signing_key=None)
    listeners = (*etcd.listeners, dead) if closed else etcd.listeners
    target = replace(etcd, origin="live", listeners=listeners, client=given, peer=PortCredentials())
    return judged(target, "cert", "listener", "mtls", "api", "cluster")


def _shown(report: Report) -> dict[str, object]:
    """Return what is shown of reasons, without their English."""
    groups = [undecided(found) for found in (report.results, without_evidence(report))]
    headlines = sorted({result.why.headline for result in report.results} - {""}, key=len, reverse=True)
    english = re.compile("|".join(map(re.escape, headlines)))
    lines = [english.sub("REASON", line.text) for line in verdict(report, width=1000, verbosity=0)]
    return {
        "outcomes": {place: one.outcome for place, one in report.by_place.items()},
        "groups": [Counter((repr(one.checks), one.options) for one in found) for found in groups],
        "last lines": [line for line in lines if "not verified:" in line or line.startswith("etcd TLS")],
        "causes": {place: one.cause for place, one in report.by_place.items()},
        "faults": [(one.first.check, one.listeners, one.size) for one in report.faults],
    }


@pytest.mark.parametrize(
    ("config", "closed", "said"),
    [
        (ClusterConfig(), True, "NO VERDICT: REASON"),
        (ClusterConfig(), False, "pass --etcd-cert ("),
        (FAULTY, False, "NOT CLEAN: "),
    ],
    ids=["a closed port", "without a client certificate", "with faults"],
)
def test_nothing_reads_the_english(
    config: ClusterConfig, closed: bool, said: str, newest_etcd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers: dict[Reason, int] = {}

    def number(reason: Reason) -> str:
        return f"reason {numbers.setdefault(reason, len(numbers))}" if reason != Reason() else ""

    with start_process(config, newest_etcd) as cluster:
        expected = _shown(_judged(cluster.target(), closed=closed))
        assert said in str(expected["last lines"])
        monkeypatch.setattr(errors, "in_english", number)
        assert _shown(_judged(cluster.target(), closed=closed)) == expected
    assert len(numbers) > 10
