"""Bodies, headers and trailers that would cost memory, time or the report of a client that believes them."""

from __future__ import annotations

import ssl

import pytest
from hostile.hostile_servers import Hostile, Judging, bomb, hostile, judge, raw_characters
from impostors.impostor import Answer

from pytest_etcdtls.errors import UnreadableJSONError
from pytest_etcdtls.untrusted import JSON_DEPTH, read_json

__all__ = ["hostile", "judge"]

JSON = {"Content-Type": "application/json"}
MEMORY = 400
"""MiB; a run of these checks needs about 100."""
SECONDS = 90
"""A run takes two on a quiet machine."""

BODIES = {
    "nested 2,000 deep": b'{"etcdserver":' + b"[" * 2000 + b"]" * 2000 + b"}",
    "nested 30,000 deep, cut": b"[" * 30_000,
    "more than is read": b"[" * 100_000,
    "lone surrogate": b'{"etcdserver":"3.6.16\\ud800","etcdcluster":"3.6.0"}',
    "lone surrogate as a name": b'{"\\udfff":"3.6.16","etcdserver":"3.6.16","etcdcluster":"3.6.0"}',
    "a million digits": b'{"etcdserver":' + b"9" * 1_000_000 + b"}",
    "5,000 digits": b'{"etcdserver":"3.6.16","etcdcluster":"3.6.0","x":' + b"9" * 5000 + b"}",
    "digits in a version": b'{"etcdserver":"' + b"9" * 5000 + b'.1.1","etcdcluster":"3.6.0"}',
    "NaN": b'{"etcdserver":"3.6.16","etcdcluster":"3.6.0","x":NaN}',
    "Infinity": b'{"etcdserver":"3.6.16","etcdcluster":"3.6.0","x":-Infinity}',
    "1e999": b'{"etcdserver":"3.6.16","etcdcluster":"3.6.0","x":1e999}',
    "not UTF-8": b'{"etcdserver":"3.6.16\xff\xfe","etcdcluster":"3.6.0"}',
    "NUL and C1": b'{"etcdserver":"3.6.16\\u0000\\u009b31m","etcdcluster":"3.6.0"}',
    "another type": b'{"etcdserver":["etcdserver"],"etcdcluster":{"health":true}}',
}


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_a_compressed_body_is_not_decoded(hostile: Hostile, judge: Judging, layers: int) -> None:
    body = bomb(layers)
    encoding = ", ".join(["gzip"] * layers)
    answer = Answer(body=body, headers={**JSON, "Content-Encoding": encoding})
    lies = dict.fromkeys(("/version", "/health", "/metrics", "/v3/maintenance/status"), answer)
    judged = judge(*hostile.etcd(lies), "--etcd-check=listener,api", "--etcd-timeout=2")
    assert layers == 1 or len(body) < 2000
    assert judged.memory < MEMORY
    assert judged.seconds < SECONDS
    assert judged.exit_code in (0, 1)
    assert judged.outcomes["api.no-content-encoding"] == "warns"
    assert "broken" not in judged.outcomes.values()
    observed = judged.result_of("api.no-content-encoding")["findings"][0]["observed"]
    assert f"encoded as {encoding}" in observed


def test_an_encoding_that_everything_has_is_not_etcd_s(hostile: Hostile, judge: Judging) -> None:
    answer = Answer(body=bomb(2), headers={**JSON, "Content-Encoding": "gzip, gzip"})
    paths = ("/version", "/v3/maintenance/status", "/etcdserverpb.Maintenance/Status")
    judged = judge(*hostile.etcd(dict.fromkeys(paths, answer)), "--etcd-check=listener,api")
    assert judged.memory < MEMORY
    assert judged.outcomes["listener.is-etcd"] == "violates"
    assert "content encoding gzip, gzip" in judged.result_of("listener.is-etcd")["findings"][0]["observed"]


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_json_out_of_bounds_costs_no_report(hostile: Hostile, judge: Judging, body: bytes) -> None:
    paths = ("/version", "/health", "/v3/maintenance/status", "/v3/cluster/member/list")
    lies = {path: Answer(body=body, headers=JSON) for path in paths}
    judged = judge(*hostile.etcd(lies), "--etcd-check=listener,api,cluster,advisory", "--etcd-timeout=2")
    assert b"Traceback" not in judged.out
    assert b"INTERNALERROR" not in judged.out
    assert judged.exit_code == 1
    assert "broken" not in judged.outcomes.values()
    assert judged.outcomes["listener.answers"] == "conforms"
    assert judged.memory < MEMORY
    assert judged.seconds < SECONDS
    assert not raw_characters(judged.out)
    (written,) = judged.written.values()
    assert not raw_characters(written)


@pytest.mark.parametrize("status", ["9" * 5000, "\u00b2", "-1", "1e3", ""])
def test_a_grpc_status_that_is_no_number(hostile: Hostile, judge: Judging, status: str) -> None:
    forged = Answer(headers={"Content-Type": "application/grpc", "grpc-status": status}, body=b"")
    lies = {f"/etcdserverpb.{name}": forged for name in ("KV/Range", "Cluster/MemberList")}
    judged = judge(*hostile.etcd(lies), "--etcd-check=api,cluster", "--etcd-timeout=2")
    assert "broken" not in judged.outcomes.values()
    assert judged.outcomes["api.grpc-range"] in ("violates", "warns")
    assert b"Traceback" not in judged.out


ENDLESS = {
    "body": b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n",
    "headers": b"HTTP/1.1 200 OK\r\n",
    "informational": b"",
}
REPEATED = {
    "body": b"x" * 65536,
    "headers": b"X-Header: " + b"y" * 4096 + b"\r\n",
    "informational": b"HTTP/1.1 100 Continue\r\n\r\n" * 1000,
}


@pytest.mark.parametrize("kind", ENDLESS)
def test_an_answer_without_an_end(hostile: Hostile, judge: Judging, kind: str) -> None:
    options = hostile.etcd()
    directory = hostile.directory / "pki-0"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "m0" / "server.crt", directory / "m0" / "server.key")
    context.load_verify_locations(directory / "client-ca.crt")
    context.verify_mode = ssl.CERT_REQUIRED

    def send_for_ever(connection: ssl.SSLSocket) -> None:
        connection.recv(65536)
        connection.sendall(ENDLESS[kind])
        while True:
            connection.sendall(REPEATED[kind])

    def handle(connection: object) -> None:
        with context.wrap_socket(connection, server_side=True) as stream:  # type: ignore[arg-type]
            send_for_ever(stream)

    options[0] = f"--etcd-endpoint=https://127.0.0.1:{hostile.raw(handle)}"
    judged = judge(*options, "--etcd-check=listener,api.version-answers", "--etcd-timeout=1")
    assert judged.exit_code == 1
    assert judged.memory < MEMORY
    assert judged.seconds < SECONDS
    assert "broken" not in judged.outcomes.values()


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_read_json_returns_text_that_can_be_written_or_refuses(body: bytes) -> None:
    try:
        shown = str(read_json(body))
    except UnreadableJSONError as error:
        shown = str(error)
    assert shown.encode("utf-8")
    assert shown.isprintable()


def test_read_json_has_bounds_of_its_own_and_keeps_raw_text_where_it_is_asked_for() -> None:
    assert read_json(b"[" * JSON_DEPTH + b"]" * JSON_DEPTH)
    with pytest.raises(UnreadableJSONError, match=f"nested deeper than {JSON_DEPTH}"):
        read_json(b"[" * (JSON_DEPTH + 1) + b"]" * (JSON_DEPTH + 1))
    with pytest.raises(UnreadableJSONError, match="longer than 10 octets"):
        read_json(b" " * 11, size=10)
    assert read_json(b'"[[[[[[\\"[[["', depth=1) == '[[[[[["[[['
    assert read_json('"a\\u001b\\nb"') == r"a\x1b\nb"
    assert read_json('"a\\u001b\\nb\\ud800"', raw=True) == "a\x1b\nb\ufffd"
