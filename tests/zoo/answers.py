"""Servers with HTTP answers that no etcd can be configured to give."""

from __future__ import annotations

from zoo.fake_server import FakeEtcd

from pytest_etcdtls.tls.attempt import Response

FAKES = [
    FakeEtcd(
        name="version-without-a-version",
        what="a server whose /version is JSON without an etcd version",
        answers={"GET /version": Response(status=200, body=b'{"code":0}')},
        violated=["api.version-body"],
    ),
]
