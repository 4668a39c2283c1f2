"""The summary of etcd's logs: rejected clients and reasons, within a bound."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal

import pytest
from conforming import refused
from msgspec.structs import replace

from pytest_etcdtls.facts.etcd_log import EtcdLogs, ReadLog, RejectedOthers
from pytest_etcdtls.facts.recording import Recording
from pytest_etcdtls.report.terminal import rejected_lines
from pytest_etcdtls.target import Target
from pytest_etcdtls.tls.attempt import Attempt

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
OTHERS = RejectedOthers(
    host="10.0.0.7",
    endpoint="client",
    cause="no client certificate",
    count=4,
    first=NOW,
    last=NOW,
    example="tls: client didn't provide a certificate",
    line=17,
    meaning="A client connected with TLS and presented no certificate.",
    advice="Give it one.",
)
LOG = ReadLog(source="etcd.log", members=("m0",), ours=1)


def lines(
    *logs: ReadLog,
    origin: Literal["live", "process"] = "live",
    connections: tuple[Attempt, ...] = (),
    every: bool = False,
) -> list[str]:
    facts = ((None, None, EtcdLogs(logs=logs)),) if logs else ()
    seen = Recording(
        target=Target(label="live", origin=origin, listeners=()), facts=facts, connections=connections
    )
    return [line.text for line in rejected_lines(seen, 80, every=every)]


@pytest.mark.parametrize(
    ("ours", "changed", "said"),
    [
        (
            1,
            {"last": NOW.replace(hour=13)},
            "since 2030-01-01 12:00:00, last at 2030-01-01 13:00:00 UTC (line 17): no client certificate",
        ),
        (
            1,
            {"host": "10.0.0.5", "count": 1, "from_here": True, "last": None},
            "1 rejected connection is ours, 1 is not 10.0.0.5, once on the client endpoint (line 17): no "
            "client certificate, from an address of this run",
        ),
        (0, {}, "0 rejected connections are ours, 4 are not NAT, a proxy or a published port changes"),
    ],
)
def test_times_local_addresses_and_changed_ones_are_named(
    ours: int, changed: dict[str, Any], said: str
) -> None:
    text = " ".join(" ".join(lines(replace(LOG, ours=ours, others=(replace(OTHERS, **changed),)))).split())
    assert said in text
    assert ("NAT" in text) == (ours == 0)


def test_a_cause_is_explained_once_and_a_few_groups_are_shown() -> None:
    many = tuple(replace(OTHERS, host=f"10.0.1.{number}") for number in range(30))
    few = lines(replace(LOG, others=many))
    assert sum("Give it one." in line for line in few) == 1
    assert sum("10.0.1." in line for line in few) == 5
    assert few[-1] == "    and 25 more like these: -vv and --etcd-report have them"
    every = lines(replace(LOG, others=many), every=True)
    assert sum("10.0.1." in line for line in every) == 30
    assert not any("more like these" in line for line in every)


def test_a_log_of_ours_is_shown_only_with_unknown_clients_and_a_log_in_part_is_named() -> None:
    assert lines(LOG, origin="process") == []
    assert lines(LOG, origin="process", every=True) != []
    assert any("10.0.0.7" in line for line in lines(replace(LOG, others=(OTHERS,)), origin="process"))
    assert lines(origin="process", connections=(refused(),)) == []
    assert lines(replace(LOG, problem="No such file or directory"))[-1] == (
        "  etcd.log (m0) could not be read to the end: No such file or directory"
    )
    assert "0 are not (only its end was read)" in " ".join(
        " ".join(lines(replace(LOG, truncated=True))).split()
    )
