"""The listener of every advertised URL; equal listeners are joined only if they are certainly equal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from pytest_etcdtls.facts.discovery import MOST_LISTENERS, DiscoveredMember, Reachability, URLResolver
from pytest_etcdtls.facts.member_list import MemberRecord
from pytest_etcdtls.role import Role
from pytest_etcdtls.target import ConnectTo, Listener


def record(identifier: str, *clients: str, peers: tuple[str, ...] = ()) -> MemberRecord:
    return MemberRecord(id=identifier, name=f"m{identifier}", peer_urls=peers, client_urls=clients)


def named(host: str, port: int = 2379, role: Role = Role.CLIENT, **more: Any) -> Listener:
    given: dict[str, Any] = {"scheme": "https", "member": host, "label": f"{role}-{host}-{port}", **more}
    return Listener(role=role, host=host, port=port, **given)


def resolve(
    listeners: Sequence[Listener],
    *records: MemberRecord,
    rules: Sequence[ConnectTo] = (),
    member_ids: Mapping[str, str] | None = None,
    names: Mapping[str, Sequence[str]] | None = None,
) -> tuple[URLResolver, list[DiscoveredMember]]:
    known = {"localhost": ("127.0.0.1", "::1"), **(names or {})}
    resolver = URLResolver(
        listeners, rules, member_ids or {}, lambda host: frozenset(known.get(host, (host,)))
    )
    return resolver, [resolver.member(one, f"m{one.id}") for one in records]


def reachabilities(members: Sequence[DiscoveredMember]) -> list[Reachability]:
    return [found.reachability for member in members for found in member.urls]


HERE = named("10.0.0.1")
HTTPS, LOCAL = "https://10.0.0.5:2379", "https://127.0.0.1:2380"


def test_labels_that_ids_cannot_tell_apart_stay_unique() -> None:
    urls = ("https://[1:2::3]:4", "https://1-2--3:4", "http://1-2--3:4", "http://10.0.0.1:2379")
    resolver, members = resolve([HERE], record("1", *urls))
    labels = [listener.label for listener in resolver.listeners]
    assert labels[1:] == [
        "client-1-2--3-4",
        "client-1-2--3-4-2",
        "client-1-2--3-4-http",
        "client-10.0.0.1-2379-http",
    ]
    assert reachabilities(members) == [Reachability.FOUND] * 4


@pytest.mark.parametrize(
    ("listener", "url"),
    [
        (named("localhost"), "https://127.0.0.1:2379"),
        (named("etcd.example"), "https://10.0.0.1:2379"),
        (named("etcd.example"), "https://alias.example:2379"),
        (named("etcd.example", 443, connect_to=("10.0.0.1", 2379)), "https://10.0.0.1:2379"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.url,
)
def test_a_certainly_equal_address_is_judged_once(listener: Listener, url: str) -> None:
    names = {"etcd.example": ["10.0.0.1"], "alias.example": ["10.0.0.1"]}
    resolver, (member,) = resolve([listener], record("1", url), names=names)
    assert resolver.listeners == [listener]
    assert (member.urls[0].reachability, member.urls[0].listener) == (Reachability.NAMED, listener.label)


@pytest.mark.parametrize(
    ("listener", "url"),
    [
        (named("several.example"), "https://10.0.0.1:2379"),
        (named("unknown.example"), "https://10.0.0.1:2379"),
        (named("etcd.example", 2378), "https://10.0.0.1:2379"),
        (named("etcd.example", scheme="http"), "https://10.0.0.1:2379"),
        (named("etcd.example", role=Role.METRICS), "https://10.0.0.1:2379"),
        (named("etcd.example", connect_to=("127.0.0.1", 2379)), "https://10.0.0.1:2379"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.url,
)
def test_a_possibly_different_listener_is_judged_separately(listener: Listener, url: str) -> None:
    names = {"several.example": ["10.0.0.1", "10.0.0.2"], "unknown.example": [], "etcd.example": ["10.0.0.1"]}
    resolver, (member,) = resolve([listener], record("1", url), names=names)
    assert [one.url for one in resolver.listeners] == [listener.url, url]
    assert member.urls[0].reachability is Reachability.FOUND


def test_a_url_redirected_to_a_named_listener_is_that_listener() -> None:
    tunnel = named("127.0.0.1", 12379)
    rules = [ConnectTo(text="r", host="10.0.0.1", to_host="127.0.0.1", to_port=12379)]
    resolver, members = resolve([tunnel], record("1", "https://10.0.0.1:2379"), rules=rules)
    assert resolver.listeners == [tunnel]
    assert reachabilities(members) == [Reachability.NAMED]


def test_a_rule_that_redirects_all_members_to_one_address_keeps_them_all() -> None:
    tunnel = named("etcd.example", connect_to=("127.0.0.1", 12379))
    rules = [ConnectTo(text="r", to_host="127.0.0.1", to_port=12379)]
    resolver, members = resolve(
        [tunnel], record("1", "https://10.0.0.1:2379"), record("2", "https://10.0.0.2:2379"), rules=rules
    )
    assert resolver.listeners == [tunnel]
    assert reachabilities(members) == [Reachability.NAMED, Reachability.LEFT_OUT]
    assert members[1].urls[0].why == "from here it leads to https://etcd.example:2379 of member 1"


def test_a_listener_of_one_member_is_not_judged_for_another() -> None:
    resolver, members = resolve(
        [named("lb.example")],
        record("2", "https://10.0.0.2:2379"),
        member_ids={"client-lb.example-2379": "1"},
        names={"lb.example": ["10.0.0.2"]},
    )
    assert len(resolver.listeners) == 1
    assert reachabilities(members) == [Reachability.LEFT_OUT]


def test_a_url_for_clients_and_peers_is_judged_as_a_client_listener() -> None:
    _, members = resolve([HERE], record("1", HTTPS, peers=(HTTPS,)))
    assert reachabilities(members) == [Reachability.FOUND, Reachability.LEFT_OUT]


def test_loopback_is_not_followed_from_elsewhere() -> None:
    _, members = resolve([HERE], record("1", "https://localhost:2379", peers=(LOCAL,)))
    assert reachabilities(members) == [Reachability.LOCAL, Reachability.LOCAL]
    rules = [ConnectTo(text="r", host="127.0.0.1", to_host="10.0.0.1")]
    _, members = resolve([HERE], record("1", peers=(LOCAL,)), rules=rules)
    assert reachabilities(members) == [Reachability.FOUND]


def test_a_url_named_for_another_role_keeps_that_role() -> None:
    listener = named("10.0.0.1", role=Role.CLIENT_HTTP)
    resolver, members = resolve([listener], record("1", "https://10.0.0.1:2379"))
    assert resolver.listeners == [listener]
    assert reachabilities(members) == [Reachability.NAMED]


def test_thousands_of_urls_are_bounded_and_reported() -> None:
    urls = [f"https://10.1.{n // 256}.{n % 256}:2379" for n in range(2000)]
    resolver = URLResolver([named("etcd.example")], (), {}, lambda _: frozenset())
    member = resolver.member(record("1", *urls), "m1")
    assert len(resolver.listeners) == 1 + MOST_LISTENERS
    left_out = [found for found in member.urls if found.reachability is Reachability.LEFT_OUT]
    assert len(left_out) == 2000 - MOST_LISTENERS
    assert str(MOST_LISTENERS) in left_out[0].why
