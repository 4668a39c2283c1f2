"""The members that named listeners belong to, and the labels of members."""

from __future__ import annotations

from dataclasses import replace

from pytest_etcdtls.facts.discovery import labelled, member_ids
from pytest_etcdtls.facts.member_list import MemberRecord
from pytest_etcdtls.role import Role
from pytest_etcdtls.target import Listener, Target


def record(number: int, name: str | None = None, host: str | None = None) -> MemberRecord:
    host = host or f"10.0.0.{number}"
    return MemberRecord(
        id=str(number),
        name=f"m{number}" if name is None else name,
        peer_urls=(f"https://{host}:2380",),
        client_urls=(f"https://{host}:2379",),
    )


THREE = (record(1), record(2), record(3))


def named(host: str, port: int = 2379, role: Role = Role.CLIENT) -> Listener:
    return Listener(
        role=role, scheme="https", host=host, port=port, member=host, label=f"{role}-{host}-{port}"
    )


def target(*listeners: Listener, **more: object) -> Target:
    return replace(Target(label="live", origin="live", listeners=listeners), **more)  # type: ignore[arg-type]


def nobody(listener: Listener) -> str:
    raise AssertionError(f"{listener.url} was asked for its ID")


def test_a_listener_belongs_to_the_only_member_that_advertises_it() -> None:
    here = target(named("10.0.0.2"), named("10.0.0.3", 2380, Role.PEER))
    assert member_ids(here, THREE, nobody) == {"client-10.0.0.2-2379": "2", "peer-10.0.0.3-2380": "3"}


def test_all_listeners_belong_to_an_only_member() -> None:
    here = target(named("127.0.0.1", 12379), named("x", 2381, Role.METRICS))
    assert set(member_ids(here, THREE[:1], lambda _: "").values()) == {"1"}


def test_a_listener_of_another_cluster_is_not_a_member_of_a_single_member_cluster() -> None:
    here = target(named("10.0.0.1"), named("10.0.0.1", 2381, Role.METRICS))
    ids = member_ids(here, THREE[:1], lambda _: "99")
    assert ids == {"client-10.0.0.1-2379": "1", "metrics-10.0.0.1-2381": "99"}
    listeners, _ = labelled(here, THREE[:1], ids)
    assert [listener.member for listener in listeners] == ["m1", "99"]


def test_a_listener_that_no_member_advertises_reports_its_id() -> None:
    here = target(named("127.0.0.1", 12379))
    assert member_ids(here, THREE, lambda _: "3") == {"client-127.0.0.1-12379": "3"}
    assert member_ids(here, (), lambda _: "3") == {"client-127.0.0.1-12379": "3"}
    assert member_ids(here, THREE, lambda _: "") == {}


def test_a_url_that_two_members_advertise_decides_nothing() -> None:
    both = (record(1, host="localhost"), record(2, host="localhost"))
    here = target(named("localhost"))
    assert member_ids(here, both, lambda _: "2") == {"client-localhost-2379": "2"}
    assert member_ids(here, both, lambda _: "") == {}


def test_members_keep_the_label_of_their_named_listener() -> None:
    here = target(named("10.0.0.2"), named("10.0.0.2", 2380, Role.PEER))
    listeners, labels = labelled(here, THREE, member_ids(here, THREE, nobody))
    assert listeners == here.listeners
    assert labels == {"2": "10.0.0.2", "1": "m1", "3": "m3"}


def test_two_hosts_of_one_member_are_one_member() -> None:
    here = target(
        named("10.0.0.2"), named("127.0.0.1", 12380, Role.CLIENT), named("127.0.0.1", 9, Role.METRICS)
    )
    listeners, labels = labelled(here, THREE, member_ids(here, THREE, lambda _: "2"))
    assert {listener.member for listener in listeners} == {"10.0.0.2"} == {labels["2"]}
    assert [listener.label for listener in listeners] == [listener.label for listener in here.listeners]


def test_one_host_of_three_members_is_three() -> None:
    records = tuple(
        replace(one, client_urls=(f"https://127.0.0.1:{n}1",), peer_urls=(f"https://127.0.0.1:{n}2",))
        for n, one in enumerate(THREE, 1)
    )
    here = target(named("127.0.0.1", 11), named("127.0.0.1", 21), named("127.0.0.1", 99, Role.METRICS))
    listeners, labels = labelled(here, records, member_ids(here, records, lambda _: ""))
    assert [listener.member for listener in listeners] == ["m1", "m2", "127.0.0.1"]
    assert labels == {"1": "m1", "2": "m2", "3": "m3"}


def test_a_declared_member_keeps_its_label() -> None:
    here = target(named("10.0.0.2"), named("127.0.0.1"), declared={"127.0.0.1": object()})
    listeners, _ = labelled(here, THREE, {"client-10.0.0.2-2379": "2", "client-127.0.0.1-2379": "2"})
    assert [listener.member for listener in listeners] == ["10.0.0.2", "127.0.0.1"]


def test_members_without_a_unique_name_are_labelled_by_their_id() -> None:
    records = (
        record(1, ""),
        record(2, "twin"),
        record(3, "twin"),
        record(4, "a/b::c"),
        record(5, "host"),
        record(6, "x" * 64),
    )
    here = target(named("host", 9, Role.METRICS))
    _, labels = labelled(here, records, {})
    assert labels == {"1": "1", "2": "2", "3": "3", "4": "a-b--c", "5": "5", "6": "6"}
