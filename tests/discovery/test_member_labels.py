"""The members that named listeners belong to, and the labels of members."""

from __future__ import annotations

from dataclasses import replace

import pytest
from discovery.test_url_resolver import named

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
TWINS = (record(1, host="localhost"), record(2, host="localhost"))


def target(*listeners: Listener, **more: object) -> Target:
    return replace(Target(label="live", origin="live", listeners=listeners), **more)  # type: ignore[arg-type]


def nobody(listener: Listener) -> str:
    raise AssertionError(f"{listener.url} was asked for its ID")


@pytest.mark.parametrize(
    ("host", "port", "role", "records", "answered", "expected"),
    [
        ("10.0.0.2", 2379, Role.CLIENT, THREE, "asked", "2"),
        ("127.0.0.1", 12379, Role.CLIENT, THREE[:1], "", "1"),
        ("10.0.0.1", 2381, Role.METRICS, THREE[:1], "99", "99"),
        ("127.0.0.1", 12379, Role.CLIENT, THREE, "3", "3"),
        ("127.0.0.1", 12379, Role.CLIENT, THREE, "", None),
        ("localhost", 2379, Role.CLIENT, TWINS, "2", "2"),
    ],
)
def test_the_member_of_a_listener(
    host: str, port: int, role: Role, records: tuple[MemberRecord, ...], answered: str, expected: str | None
) -> None:
    """The only member that advertises it, else the ID that it answers with, else an only member."""
    here = named(host, port, role)
    assert member_ids(target(here), records, lambda _: answered).get(here.label) == expected


def test_a_listener_of_another_cluster_is_not_a_member_of_a_single_member_cluster() -> None:
    here = target(named("10.0.0.1"), named("10.0.0.1", 2381, Role.METRICS))
    ids = {"client-10.0.0.1-2379": "1", "metrics-10.0.0.1-2381": "99"}
    assert [listener.member for listener in labelled(here, THREE[:1], ids)[0]] == ["m1", "99"]


@pytest.mark.parametrize(("name", "label"), [("m2", "m2"), ("", "10.0.0.2"), ("m1", "10.0.0.2")])
def test_a_member_is_labelled_by_its_name_else_by_its_named_listener(name: str, label: str) -> None:
    here, records = (
        target(named("10.0.0.2"), named("10.0.0.2", 2380, Role.PEER)),
        (record(1), record(2, name)),
    )
    listeners, labels = labelled(here, records, member_ids(here, records, nobody))
    assert {listener.member for listener in listeners} == {label} == {labels["2"]}
    assert labels["1"] == ("1" if name == "m1" else "m1")


def test_two_hosts_of_one_member_are_one_member() -> None:
    here = target(named("10.0.0.2"), named("127.0.0.1", 12380), named("127.0.0.1", 9, Role.METRICS))
    listeners, labels = labelled(here, THREE, member_ids(here, THREE, lambda _: "2"))
    assert {listener.member for listener in listeners} == {"m2"} == {labels["2"]}


def test_a_declared_member_keeps_its_label() -> None:
    here = target(named("10.0.0.2"), named("127.0.0.1"), declared={"127.0.0.1": object()})
    listeners, _ = labelled(here, THREE, {"client-10.0.0.2-2379": "2", "client-127.0.0.1-2379": "2"})
    assert [listener.member for listener in listeners] == ["m2", "127.0.0.1"]


def test_members_without_a_unique_name_are_labelled_by_their_id() -> None:
    names = ("", "twin", "twin", "a/b::c", "host", "x" * 64)
    records = [record(number, name) for number, name in enumerate(names, 1)]
    here = target(named("host", 9, Role.METRICS))
    _, labels = labelled(here, records, {})
    assert labels == {"1": "1", "2": "2", "3": "3", "4": "a-b--c", "5": "5", "6": "6"}
