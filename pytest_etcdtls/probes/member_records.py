"""Member lists as etcd writes them: a gRPC message, the gateway's JSON, the JSON of a peer port.

Anybody may have written them: what is no such list is a ValueError. Connects to nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from pytest_etcdtls.observations.api import MemberRecord
from pytest_etcdtls.probes.protobuf import Value, fields, grpc_message

Members = tuple[MemberRecord, ...]


def from_grpc(body: bytes) -> tuple[Members, str | None]:
    """Return the members and the cluster ID of an answer to ``etcdserverpb.Cluster/MemberList``.

    Raises:
        ValueError: if it is none.
    """
    message = fields(grpc_message(body))
    members = tuple(_from_message(member) for member in message.get(2, []) if isinstance(member, bytes))
    return members, _cluster_id(message.get(1, []))


def from_gateway(body: bytes) -> tuple[Members, str | None]:
    """Return the members and the cluster ID of an answer to ``/v3/cluster/member/list``.

    The gateway writes 64-bit numbers as decimal texts, and leaves out what is empty.

    Raises:
        ValueError: if it is none.
    """
    answer = _parse(body)
    if not isinstance(answer, dict):
        raise ValueError("it is no JSON object")
    header = answer.get("header")
    cluster_id = header.get("cluster_id") if isinstance(header, dict) else None
    members = tuple(
        _record(member, _number(member.get("ID", "0"))) for member in _objects(answer.get("members"))
    )
    return members, None if cluster_id is None else f"{_number(cluster_id):x}"


def from_peer(body: bytes) -> Members:
    """Return the members of an answer to a peer port's ``/members``.

    Raises:
        ValueError: if it is none.
    """
    return tuple(_record(member, _number(member.get("id"))) for member in _objects(_parse(body)))


def _parse(body: bytes) -> object:
    try:
        return json.loads(body)
    except RecursionError as error:
        raise ValueError("its JSON is nested too deeply") from error


def _objects(value: object) -> Iterable[Mapping[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise ValueError("it is no list of JSON objects")
    return value


def _number(value: object) -> int:
    """Return a member or cluster ID: an unsigned 64-bit number, or a text of its decimal digits."""
    number = int(value) if isinstance(value, str) and value.isdecimal() and len(value) <= 20 else value
    if not isinstance(number, int) or not 0 <= number < 2**64:
        raise ValueError("an ID is not a 64-bit number")
    return number


def _record(member: Mapping[str, Any], identifier: int) -> MemberRecord:
    return MemberRecord(
        id=f"{identifier:x}",
        name=_clean(str(member.get("name", ""))),
        peer_urls=_urls(member, "peerURLs"),
        client_urls=_urls(member, "clientURLs"),
        learner=member.get("isLearner") is True,
    )


def _urls(member: Mapping[str, Any], name: str) -> tuple[str, ...]:
    urls = member.get(name) or []
    if not isinstance(urls, list) or not all(isinstance(url, str) for url in urls):
        raise ValueError(f"{name} is no list of texts")
    return tuple(sorted(map(_clean, urls)))


def _clean(text: str) -> str:
    """Return a text without what a terminal would act upon."""
    return text if text.isprintable() else "".join(letter if letter.isprintable() else "?" for letter in text)


def _cluster_id(headers: list[Value]) -> str | None:
    """Return the cluster ID of a ResponseHeader."""
    for header in headers:
        if isinstance(header, bytes):
            for identifier in fields(header).get(1, []):
                return f"{identifier:x}" if isinstance(identifier, int) else None
    return None


def _from_message(message: bytes) -> MemberRecord:
    found = fields(message)

    def texts(number: int) -> tuple[str, ...]:
        return tuple(
            _clean(value.decode("utf-8", "replace"))
            for value in found.get(number, [])
            if isinstance(value, bytes)
        )

    identifier = found.get(1, [0])[0]
    return MemberRecord(
        id=f"{identifier:x}" if isinstance(identifier, int) else "0",
        name=(texts(2) or ("",))[0],
        peer_urls=tuple(sorted(texts(3))),
        client_urls=tuple(sorted(texts(4))),
        learner=found.get(5, [0])[0] == 1,
    )
