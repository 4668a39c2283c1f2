from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.conftest import Start
from pytest_etcdtls.errors import ClusterStartError
from pytest_etcdtls.etcd.cluster import keep_message
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.pki.profile import SERVER, PKIPlan


def test_the_password_is_in_a_private_file_and_never_shown(start: Start, newest_etcd: Path) -> None:
    cluster = start(ClusterConfig(authentication=True), newest_etcd)
    assert cluster.user is not None
    password = cluster.user[1]
    file = cluster.directory / "root-password"
    assert file.read_text(encoding="utf-8") == password
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    shown = [repr(cluster), repr(cluster.target()), keep_message(cluster), cluster.members[0].log()]
    assert not any(password in text for text in [*shown, *cluster.members[0].argv])


def test_a_gateway_that_fails_cannot_enable_authentication(start: Start, etcd_binary: Path) -> None:
    """etcd's gateway dials etcd with the served certificate, which here has no clientAuth."""
    plan = PKIPlan(server=replace(SERVER, extended_key_usage=("serverAuth",)))
    with pytest.raises(ClusterStartError, match="cannot be administered: auth/user/add: status 503"):
        start(ClusterConfig(authentication=True, pki=plan), etcd_binary)
