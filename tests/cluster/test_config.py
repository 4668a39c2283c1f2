from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import pytest

from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.etcd.config import ClusterConfig


def test_the_default_is_mutual_tls_on_both_ports() -> None:
    config = ClusterConfig()
    assert (config.client_cert_auth, config.trusted_ca_file) == (True, "client-ca.crt")
    assert (config.peer_client_cert_auth, config.peer_trusted_ca_file) == (True, "peer-ca.crt")
    assert (config.client_scheme, config.peer_scheme, config.size) == ("https", "https", 1)


def test_a_configuration_is_a_value() -> None:
    config = ClusterConfig()
    with pytest.raises(FrozenInstanceError):
        config.size = 3  # type: ignore[misc]
    assert replace(config, size=3) == ClusterConfig(size=3)


@pytest.mark.parametrize("size", [0, 2, 4, 7])
def test_other_sizes_are_refused(size: int) -> None:
    with pytest.raises(UsageError, match="use 1, 3 or 5"):
        ClusterConfig(size=size)


def test_hosts_beyond_loopback_are_refused() -> None:
    with pytest.raises(UsageError, match=r"listens on 127\.0\.0\.1 or ::1, not on 0\.0\.0\.0"):
        ClusterConfig(host="0.0.0.0")  # noqa: S104


def test_a_misspelt_omission_is_refused() -> None:
    with pytest.raises(UsageError, match="client_auth"):
        ClusterConfig(config_file_omits=("client_auth",))


@pytest.mark.parametrize("name", ["../server.crt", "m0/server.crt", "..", ""])
def test_extra_files_are_plain_names(name: str) -> None:
    with pytest.raises(UsageError, match="plain file name"):
        ClusterConfig(extra_files={name: b""})


def test_extra_files_are_not_shown() -> None:
    assert "secret" not in repr(ClusterConfig(extra_files={"other.key": b"secret"}))
