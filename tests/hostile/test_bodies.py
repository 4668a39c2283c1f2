"""Bodies that would use up memory or time, or break the report."""

from __future__ import annotations

import pytest
from hostile.hostile_servers import Hostile, Judging, bomb, raw_characters
from impostors.impostor import Answer

from pytest_etcdtls.errors import UnreadableJSONError
from pytest_etcdtls.untrusted.json_text import JSON_DEPTH, read_json

JSON = {"Content-Type": "application/json"}
MEMORY = 400
"""MiB; a run of these checks needs about 100."""
SECONDS = 300
"""A run takes a few on a quiet machine; three layers of gzip decode for minutes."""

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


ENCODED = ("/version", "/v3/maintenance/status", "/health", "/metrics")


def test_compressed_bodies_are_not_decoded(hostile: Hostile, judge: Judging) -> None:
    urls = []
    for layers in (1, 2, 3):
        headers = {**JSON, "Content-Encoding": ", ".join(["gzip"] * layers)}
        answer = Answer(body=bomb(layers), headers=headers)
        urls.append(hostile.etcd(dict.fromkeys(ENCODED, answer)))
        urls.append(hostile.etcd(dict.fromkeys((*ENCODED, "/etcdserverpb.Maintenance/Status"), answer)))
    good = hostile.etcd()
    judged = judge(*hostile.options(*urls, good), "--etcd-check=listener,api", "--etcd-timeout=5")
    assert judged.mebibytes < MEMORY
    assert judged.seconds < SECONDS
    assert judged.exit_code == 1
    for layers, with_grpc, without in zip((1, 2, 3), urls[::2], urls[1::2], strict=True):
        encoding = ", ".join(["gzip"] * layers)
        assert judged.outcomes(with_grpc)["api.no-content-encoding"] == "warns"
        (first, *_) = judged.results(with_grpc)["api.no-content-encoding"]["findings"]
        assert f"encoded as {encoding}" in first["observed"]
        assert judged.outcomes(without)["listener.is-etcd"] == "violates"
        (first, *_) = judged.results(without)["listener.is-etcd"]["findings"]
        assert f"content encoding {encoding}" in first["observed"]
    assert judged.outcomes(good)["api.no-content-encoding"] == "conforms"
    assert not {"broken", "violates"} & set(judged.outcomes(good).values())


def test_json_out_of_bounds_costs_no_report(hostile: Hostile, judge: Judging) -> None:
    paths = ("/version", "/health", "/v3/maintenance/status", "/v3/cluster/member/list")
    urls = [
        hostile.etcd({path: Answer(body=body, headers=JSON) for path in paths}) for body in BODIES.values()
    ]
    good = hostile.etcd()
    judged = judge(*hostile.options(*urls, good), "--etcd-check=listener,api", "--etcd-timeout=5")
    assert b"Traceback" not in judged.out
    assert b"INTERNALERROR" not in judged.out
    assert judged.exit_code == 1
    assert judged.mebibytes < MEMORY
    assert judged.seconds < SECONDS
    assert not judged.report["partial"]
    assert not {result["check"] for result in judged.report["results"] if result["outcome"] == "broken"}
    for url in urls:
        assert judged.outcomes(url)["listener.answers"] == "conforms"
        assert {"violates", "warns"} & set(judged.outcomes(url).values())
    assert not {"violates", "inconclusive"} & set(judged.outcomes(good).values())
    assert judged.outcomes(good)["api.version-body"] == "conforms"
    assert not raw_characters(judged.out)
    (written,) = judged.written.values()
    assert not raw_characters(written)


def test_read_json_has_its_own_bounds_and_keeps_raw_text_on_request() -> None:
    assert read_json(b"[" * JSON_DEPTH + b"]" * JSON_DEPTH)
    with pytest.raises(UnreadableJSONError, match=f"nested deeper than {JSON_DEPTH}"):
        read_json(b"[" * (JSON_DEPTH + 1) + b"]" * (JSON_DEPTH + 1))
    with pytest.raises(UnreadableJSONError, match="longer than 10 octets"):
        read_json(b" " * 11, size=10)
    assert read_json(b'"[[[[[[\\"[[["', depth=1) == '[[[[[["[[['
    assert read_json('"a\\u001b\\nb"') == r"a\x1b\nb"
    assert read_json('"a\\u001b\\nb\\ud800"', raw=True) == "a\x1b\nb\ufffd"
