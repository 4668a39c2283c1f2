"""The endpoint and listener of every advertised URL; only those that are certainly equal are joined."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from pytest_etcdtls.declared.declaration import is_loopback
from pytest_etcdtls.facts.discovery import MOST_LISTENERS, DiscoveredMember, Reachability, URLResolver
from pytest_etcdtls.facts.member_list import Endpoint, LocalURLError, MemberRecord, canonical, parse
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
        listeners, rules, member_ids or {}, records, lambda host: frozenset(known.get(host, (host,)))
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
    assert members[1].urls[0].why == "from here it leads to https://etcd.example:2379 of m1"


def test_a_listener_of_one_member_is_not_judged_for_another() -> None:
    resolver, members = resolve(
        [named("lb.example")],
        record("2", "https://10.0.0.2:2379"),
        member_ids={"client-lb.example-2379": "1"},
        names={"lb.example": ["10.0.0.2"]},
    )
    assert len(resolver.listeners) == 1
    assert reachabilities(members) == [Reachability.LEFT_OUT]
    assert members[0].urls[0].why == "from here it leads to https://lb.example:2379 of member 1"


def test_a_url_for_clients_and_peers_is_judged_as_a_peer_listener() -> None:
    """Unless it is that of a client port which was named."""
    resolver, members = resolve([HERE], record("1", HTTPS, peers=(HTTPS,)))
    assert [listener.role for listener in resolver.listeners] == [Role.CLIENT, Role.PEER]
    assert reachabilities(members) == [Reachability.NOWHERE, Reachability.FOUND]
    resolver, members = resolve([HERE], record("1", HERE.url, peers=(HERE.url,)))
    assert resolver.listeners == [HERE]
    assert reachabilities(members) == [Reachability.NAMED, Reachability.NOWHERE]


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
    resolver = URLResolver([named("etcd.example")], (), {}, (), lambda _: frozenset())
    member = resolver.member(record("1", *urls), "m1")
    assert len(resolver.listeners) == 1 + MOST_LISTENERS
    left_out = [found for found in member.urls if found.reachability is Reachability.LEFT_OUT]
    assert len(left_out) == 2000 - MOST_LISTENERS
    assert str(MOST_LISTENERS) in left_out[0].why


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("http://etcd-0.etcd.svc:2379", Endpoint("http", "etcd-0.etcd.svc", 2379)),
        ("https://ETCD.Example:2379/", Endpoint("https", "etcd.example", 2379)),
        ("https://[FD00:0::11]:2379", Endpoint("https", "fd00::11", 2379)),
        ("https://[::ffff:10.0.0.11]:2379", Endpoint("https", "10.0.0.11", 2379)),
        ("https://etcd_0.example.:2379", Endpoint("https", "etcd_0.example.", 2379)),
    ],
)
def test_endpoints_of_urls(text: str, place: Endpoint) -> None:
    assert parse(text) == place


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "neither https"),
        ("ftp://10.0.0.11:2379", "neither https"),
        ("https://10.0.0.11", "no port"),
        ("https://10.0.0.11:65536", "not a number"),
        ("https://:2379", "no host"),
        ("https://a b:2379", "blanks"),
        ("https://a\x1b[31m:2379", "control characters"),
        ("https://fd00::11:2379", "brackets"),
        ("https://[fd00::11:2379", "not a URL"),
        ("https://[fe80::1%eth0]:2379", "zone"),
        ("https://user:word@10.0.0.11:2379", "more than"),
        ("https://10.0.0.11:2379/path", "more than"),
        ("https://0.0.0.0:2379", "every address"),
        ("https://[::ffff:0.0.0.0]:2379", "every address"),
        ("https://224.0.0.1:2379", "one machine"),
        ("https://255.255.255.255:2379", "without machines"),
        ("https://" + "a" * 64 + ".example:2379", "neither a name"),
        ("https://" + ".".join(["a" * 60] * 5) + ":2379", "neither a name"),
        ("https://ä.example:2379", "neither a name"),
        ("https://" + "a" * 600 + ":2379", "characters"),
    ],
)
def test_reasons_for_a_url_without_an_endpoint(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        parse(text)
    assert not isinstance(caught.value, LocalURLError)


@pytest.mark.parametrize("text", ["unix://m0:2379", "unixs:///run/etcd.sock"])
def test_a_unix_socket_is_local(text: str) -> None:
    with pytest.raises(LocalURLError):
        parse(text)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("localhost", True),
        ("etcd.localhost", True),
        ("10.0.0.11", False),
        ("localhost.example", False),
        ("fe80::1%eth0", False),
    ],
)
def test_loopback_in_all_forms(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


def test_hosts_are_compared_in_one_form() -> None:
    assert canonical("FD00:0::11") == canonical("fd00::11")
    assert canonical("Etcd.Example") == "etcd.example"
    assert canonical("fe80::1%eth0") == "fe80::1%eth0"
