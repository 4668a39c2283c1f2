"""The configuration file of a cluster, and configurations that are refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

import pytest
import yaml

from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.etcd.config import (
    SECURITY_FIELDS,
    ClusterConfig,
    loopback_addresses,
    member_flags,
    render,
)
from pytest_etcdtls.etcd.etcd_flags import FlagSet
from pytest_etcdtls.etcd.launch import MemberPaths

GOOD = ClusterConfig()
PLACE = MemberPaths(
    data=PurePosixPath("/data"), pki=PurePosixPath("/pki"), config_file=PurePosixPath("/etcd.conf.yml")
)
FILES = {"server.crt": PurePosixPath("m0/server.crt"), "server.key": PurePosixPath("m0/server.key")}
NAMES = frozenset(field.replace("_", "-") for field in SECURITY_FIELDS)


def test_a_config_file_has_the_settings_of_the_flags() -> None:
    config = replace(
        GOOD,
        cipher_suites=("A", "B"),
        tls_min_version="TLS1.2",
        peer_cert_allowed_cn="one,two",
        client_crl_file="crl.der",
        config_file_omits=("trusted_ca_file",),
        config_file_adds="crl-file: '{pki}/crl.der'\n",
    )
    members = [loopback_addresses(config, "m0", iter((20000, 20001)))]
    etcd = FlagSet("3.9.9", NAMES)
    flags = member_flags(config, etcd, members, 0, PLACE, FILES, token="token", alone=True)
    document = yaml.safe_load(render(flags, config, PLACE))
    assert document["crl-file"] == "/pki/crl.der"
    assert document["name"] == "m0"
    assert document["cipher-suites"] == ["A", "B"]
    assert document["tls-min-version"] == "TLS1.2"
    assert document["election-timeout"] == 25
    assert document["client-transport-security"] == {
        "cert-file": "/pki/m0/server.crt",
        "key-file": "/pki/m0/server.key",
        "client-cert-auth": True,
        "client-crl-file": "/pki/crl.der",
    }
    assert document["peer-transport-security"]["allowed-cn"] == ["one", "two"]
    assert document["peer-transport-security"]["client-cert-auth"] is True


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        *(({"size": size}, "use 1, 3 or 5") for size in (0, 2, 7)),
        ({"host": "10.0.0.1"}, r"listens on 127\.0\.0\.1 or ::1, not on 10\.0\.0\.1"),
        ({"config_file_omits": ("client_auth",)}, "client_auth"),
        *(({"extra_files": {name: b""}}, "plain file name") for name in ("../server.crt", "m0/x", "..", "")),
    ],
)
def test_configurations_that_no_backend_can_start(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ClusterConfig(**changes)


def test_extra_files_are_not_shown() -> None:
    assert "secret" not in repr(ClusterConfig(extra_files={"other.key": b"secret"}))
