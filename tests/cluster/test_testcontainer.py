"""EtcdTLSContainer as a user of testcontainers uses it, and without pytest."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pytest_etcdtls import ClusterConfig, EtcdTLSContainer, Observer, Outcome, UsageError, run_checks

pytestmark = pytest.mark.container


@pytest.fixture(autouse=True)
def no_reaper(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ryuk's image need not be at hand."""
    from testcontainers.core.config import testcontainers_config

    monkeypatch.setattr(testcontainers_config, "_ryuk_disabled", True)


@pytest.mark.etcd_version("3.6", "3.7")
def test_it_serves_its_own_client_and_no_other(etcd_image: str) -> None:
    config = ClusterConfig(metrics="http")
    described = EtcdTLSContainer(etcd_image, config).with_hosts("etcd.test").with_command("--log-level=debug")
    with described.with_config(peer_cert_allowed_cn="etcd-peer", client_crl_file="crl.der") as etcd:
        assert etcd.endpoint == etcd.get_connection_url()
        assert etcd.endpoint.endswith(f":{etcd.get_exposed_port(2379)}")
        with etcd.client() as client:
            assert client.get("/version").json()["etcdserver"] == etcd.version
        assert etcd.ssl_context().get_ca_certs()
        directory = etcd.pki_directory
        assert etcd.file("client.key").stat().st_mode & 0o77 == 0
        assert b'"level":"debug"' in b"".join(etcd.get_logs())
        results = run_checks(Observer(etcd.target()), ["listener.*", "mtls.*", "cert.*"])
        bad = {one.check for one in results if one.outcome in {Outcome.VIOLATES, Outcome.BROKEN}}
        assert bad == set()
        assert {listener.label for listener in etcd.target().listeners} == {
            "client-m0",
            "metrics-m0",
            "peer-m0",
        }
    assert not directory.exists()
    with pytest.raises(UsageError, match="started once"):
        described.start()


def test_it_needs_no_pytest(etcd_images: dict[str, str]) -> None:
    image = [*etcd_images.values()][-1]
    program = f"""
import sys
from testcontainers.core.config import testcontainers_config
testcontainers_config._ryuk_disabled = True
from pytest_etcdtls import EtcdTLSContainer
with EtcdTLSContainer({image!r}) as etcd:
    print(etcd.client().get("/health").json()["health"], "pytest" in sys.modules)
"""
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False
    )
    assert (run.stdout, run.returncode) == ("true False\n", 0), run.stderr


def test_unsupported_configurations_are_usage_errors(etcd_images: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="has one member"):
        EtcdTLSContainer([*etcd_images.values()][-1], ClusterConfig(size=3))
    with pytest.raises(UsageError, match=r"cannot be pulled|is not pulled"):
        EtcdTLSContainer("localhost:1/pytest-etcdtls/none:1").start()
