"""Member lists that no etcd returns are bounded and reported, and never an error of this tool."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from discovery.discovering import found, judged, named, observer_of
from impostors.impostor import CLUSTER, MEMBER, Answer
from impostors.staging import FakeCluster

from pytest_etcdtls.checks.registry import catalogue
from pytest_etcdtls.checks.results import Outcome
from pytest_etcdtls.facts import fact as registry
from pytest_etcdtls.facts.discovery import MOST_MEMBERS, Discovered, QueriedBy
from pytest_etcdtls.facts.fact import fact
from pytest_etcdtls.role import Role
from pytest_etcdtls.run.judge import Judge, subjects
from pytest_etcdtls.run.observer import Observer
from pytest_etcdtls.run.runner import Run
from pytest_etcdtls.settings.read import Settings
from pytest_etcdtls.target import Bounds, Target
from pytest_etcdtls.tls.http import encode

BOUNDS = Bounds(timeout=10, concurrency=1)
"""The servers take one connection at a time."""

UNUSUAL = (
    "unix://m0:0",
    "http://127.0.0.1:1031",
    "https://0.0.0.0:2379",
    "https://[::]:2379",
    "https://127.0.0.1",
    "https://[::1",
    "https://a b:1",
    "https://x\x1b]0;owned\x07:1",
    "https://user:secret@127.0.0.1:1",
    "https://" + "a" * 70 + ".example:1",
    "javascript:alert(1)",
    "",
    "https://" + "b" * 2000 + ":1",
)


def member(number: int, *clients: str, name: bytes = b"", peers: tuple[str, ...] = ()) -> bytes:
    parts = encode({1: number, 2: name or f"m{number}".encode()})
    parts += b"".join(encode({3: url.encode()}) for url in peers)
    return parts + b"".join(encode({4: url.encode()}) for url in clients)


def by_grpc(*members: bytes) -> dict[str, Answer]:
    message = encode({1: encode({1: CLUSTER, 2: MEMBER})}) + b"".join(encode({2: one}) for one in members)
    body = b"\0" + len(message).to_bytes(4, "big") + message
    return {"/etcdserverpb.Cluster/MemberList": Answer(body=body, grpc_status=0)}


def ask(fake: FakeCluster) -> Observer:
    return observer_of(replace(fake.target(), discover=True), BOUNDS)


def test_unusual_urls_are_reported_one_by_one_and_not_followed(fake: FakeCluster) -> None:
    listener = fake.put_up(
        overrides=by_grpc(member(1, *UNUSUAL), member(2, *UNUSUAL[2:4], name=b"\x1b[31mred"))
    )
    observer = ask(fake)
    result = judged(observer)
    assert {one.url for one in observer.target.listeners} == {listener.url, "http://127.0.0.1:1031"}
    assert result.outcome is Outcome.VIOLATES
    assert [finding.message for finding in result.findings] == [
        r"\x1b[31mred cannot be found by the client URLs that it advertises"
    ]
    whys = [url.why for one in found(observer).members for url in one.urls]
    for words in (
        "Unix socket",
        "no port",
        "more than scheme",
        "2010 characters",
        "neither https://",
        "not a URL",
    ):
        assert any(words in why for why in whys)
    assert result.reason.isprintable()
    assert len(max(result.reason.split(), key=len)) < 120


def by_peer(number: int) -> dict[str, Answer]:
    listed = [
        {"id": n, "clientURLs": [f"https://10.9.{n // 250}.{n % 250}:2379"]} for n in range(1, number + 1)
    ]
    return {"/members": Answer(body=json.dumps(listed, separators=(",", ":")).encode())}


def test_a_thousand_members_are_bounded_and_reported(fake: FakeCluster) -> None:
    listener = fake.put_up(Role.PEER, overrides=by_peer(1000))
    observer = ask(fake)
    result = judged(observer)
    assert len(observer.target.listeners) == 1 + MOST_MEMBERS
    assert result.outcome is Outcome.INCONCLUSIVE
    assert "900 more members are listed and not judged" in result.reason
    assert found(observer).describe().startswith(f"1000 members, by /members of {listener.url}: 1, 10, 100, ")
    assert found(observer).describe().endswith(", and 991 more")
    assert {connection.url for connection in observer.connections} == {listener.url}


def test_a_list_longer_than_the_bound_is_refused(fake: FakeCluster) -> None:
    fake.put_up(Role.PEER, overrides=by_peer(5000))
    result = judged(ask(fake))
    assert result.outcome is Outcome.INCONCLUSIVE
    assert "is not a member list" in result.reason


def test_every_check_of_the_whole_target_survives_unusual_urls(fake: FakeCluster) -> None:
    fake.put_up(overrides=by_grpc(member(1, *UNUSUAL, peers=UNUSUAL), member(1, *UNUSUAL, peers=UNUSUAL)))
    for discover in (False, True):
        observer = observer_of(replace(fake.target(), discover=discover), BOUNDS)
        judge = Judge(observer)
        for check in catalogue().values():
            if subjects(check, observer.target) == [None] and not check.opt_in:
                result = judge.result(check, None)
                assert result.outcome is not Outcome.BROKEN, result.reason


@pytest.mark.parametrize(
    ("overrides", "api"),
    [
        ({"/etcdserverpb.Cluster/MemberList": Answer(grpc_status=14)}, QueriedBy.GATEWAY),
        (by_grpc(), QueriedBy.GATEWAY),
        (
            {
                "/etcdserverpb.Cluster/MemberList": Answer(grpc_status=7),
                "/v3/cluster/member/list": Answer(body=b"[" * 60_000),
            },
            QueriedBy.MEMBERS,
        ),
    ],
    ids=["unavailable", "empty", "denied and nested"],
)
def test_the_next_api_is_requested_if_one_returns_no_list(
    fake: FakeCluster, overrides: dict[str, Answer], api: QueriedBy
) -> None:
    urls = {"peerURLs": ["https://127.0.0.1:1031"], "clientURLs": ["https://127.0.0.1:1032"]}
    listed = [{"ID": "1", "name": "m0", **urls}]
    gateway = {"/v3/cluster/member/list": Answer(body=json.dumps({"members": listed}).encode())}
    fake.put_up(overrides={**gateway, **overrides})
    fake.put_up(Role.PEER)
    observer = ask(fake)
    assert found(observer).questions[-1].api is api
    assert all(question.why_not for question in found(observer).questions[:-1])
    assert len(observer.target.listeners) == 4


NAMED = (named("https://127.0.0.1:1"), named("https://127.0.0.1:2", Role.PEER))


def test_an_internal_error_of_discovery_is_reported_and_the_rest_is_judged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(registry, "_FACTS", {**registry._FACTS})
    del registry._FACTS[Discovered]

    @fact
    def _broken() -> Discovered:
        raise ZeroDivisionError("a fault of ours")

    target = Target(label="live", origin="live", listeners=NAMED, discover=True)
    asking = Run(Settings(live=(target,)))
    asking.discover()
    (state,) = asking.targets
    assert (state.discovery, state.outline.listeners) == (None, NAMED)
    result = state.result(catalogue()["cluster.discovered"], "cluster")
    assert result.outcome is Outcome.BROKEN
    assert "a fault of ours" in result.reason
    answers = state.result(catalogue()["listener.answers"], NAMED[0].label)
    assert answers.outcome is Outcome.INCONCLUSIVE
