"""Names sent by SNI: as clients written in Go send them, and none that servers refuse."""

from __future__ import annotations

import pytest

from pytest_etcdtls.tls.connection import sni


@pytest.mark.parametrize(
    ("host", "sent"),
    [
        ("etcd.example", "etcd.example"),
        ("etcd.example.", "etcd.example"),
        ("xn--n3h.com", "xn--n3h.com"),
        ("under_score", "under_score"),
        ("127.0.0.1", None),
        ("fe80::1%eth0", None),
        ("", None),
        ("two..dots", None),
        ("a" * 64, None),
        (".".join(["a" * 63] * 4), None),
        ("nul\0.example", None),
        ("größe.example", None),
    ],
)
def test_sni(host: str, sent: str | None) -> None:
    assert sni(host) == sent
