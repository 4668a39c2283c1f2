"""Member lists in three formats, and responses that are none."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import pytest

from pytest_etcdtls.facts.member_list import MemberRecord, from_gateway, from_grpc, from_peer
from pytest_etcdtls.tls.http import encode

RECORD = MemberRecord(
    id="8e9e05c52164694d",
    name="m0",
    peer_urls=("https://10.0.0.11:2380",),
    client_urls=("https://10.0.0.11:2379", "https://10.0.0.12:2379"),
)
NUMBER = int(RECORD.id, 16)
UNSTARTED = MemberRecord(id="7", name="", peer_urls=("https://10.0.0.13:2380",), client_urls=())


def grpc(*messages: bytes) -> bytes:
    body = encode({1: encode({1: 0xC0FFEE, 2: 7})}) + b"".join(encode({2: message}) for message in messages)
    return b"\0" + len(body).to_bytes(4, "big") + body


def by_grpc() -> tuple[tuple[MemberRecord, ...], str | None]:
    first = encode({1: NUMBER, 2: b"m0", 3: RECORD.peer_urls[0].encode()})
    first += b"".join(encode({4: url.encode()}) for url in reversed(RECORD.client_urls))
    return from_grpc(grpc(first, encode({1: 7, 3: UNSTARTED.peer_urls[0].encode(), 5: 1})))


def by_json(id_: str, identifiers: Sequence[object]) -> list[dict[str, object]]:
    urls = {"peerURLs": RECORD.peer_urls, "clientURLs": RECORD.client_urls}
    unstarted = {"peerURLs": UNSTARTED.peer_urls, "isLearner": True}
    return [{id_: identifiers[0], "name": "m0", **urls}, {id_: identifiers[1], **unstarted}]


def by_gateway() -> tuple[tuple[MemberRecord, ...], str | None]:
    members = by_json("ID", [str(NUMBER), "7"])
    header = {"cluster_id": str(0xC0FFEE)}
    return from_gateway(json.dumps({"header": header, "members": members}).encode())


def by_peer() -> tuple[tuple[MemberRecord, ...], str | None]:
    return from_peer(json.dumps(by_json("id", [NUMBER, 7])).encode()), None


@pytest.mark.parametrize(("read", "cluster"), [(by_grpc, "c0ffee"), (by_gateway, "c0ffee"), (by_peer, None)])
def test_a_list_of_each_api(
    read: Callable[[], tuple[tuple[MemberRecord, ...], str | None]], cluster: str | None
) -> None:
    members, cluster_id = read()
    assert (members, cluster_id) == ((RECORD, UNSTARTED), cluster)
    assert [member.learner for member in members] == [False, True]


def test_the_gateway_omits_an_empty_list() -> None:
    with pytest.raises(ValueError, match="not a list"):
        from_gateway(b"{}")
    assert from_gateway(b'{"members": []}') == ((), None)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"{}",
        b"[1]",
        b'[{"peerURLs": []}]',
        b'[{"id": -1}]',
        b'[{"id": 18446744073709551616}]',
        b'[{"id": 1.5}]',
        b'[{"id": 1, "peerURLs": "https://m0:2380"}]',
        b'[{"id": 1, "peerURLs": [1, 2]}]',
        b"[" * 100_000,
        b'[{"id": ' + b"9" * 10_000 + b"}]",
    ],
    ids=lambda body: body[:30].decode(),
)
def test_an_invalid_response_is_one_error(body: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - any, but no other
        from_peer(body)
    with pytest.raises(ValueError):  # noqa: PT011 - any, but no other
        from_gateway(body.replace(b"[", b'{"members": [', 1).replace(b'"id"', b'"ID"'))


@pytest.mark.parametrize("body", [b"", b"\0\0\0\0\x09", b"\1\0\0\0\0", b"\0\0\0\0\2\x12\x09"])
def test_an_invalid_grpc_response_is_one_error(body: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - any, but no other
        from_grpc(body)


def test_records_have_no_terminal_control_characters() -> None:
    (member,), _ = from_grpc(grpc(encode({1: 1, 2: b"m\x1b[31m0\xff", 4: b"https://\x07"})))
    assert (member.name.isprintable(), member.client_urls) == (True, (r"https://\x07",))
