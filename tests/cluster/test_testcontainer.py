"""EtcdTLSContainer as a user of testcontainers uses it, and without pytest."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import docker.errors
import pytest
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import Reaper

from cluster.conftest import gone
from pytest_etcdtls import ClusterConfig, EtcdTLSContainer, Observer, Outcome, UsageError, run_checks
from pytest_etcdtls.etcd.engine import engine

pytestmark = pytest.mark.container


NO_RYUK = "localhost:1/pytest-etcdtls/ryuk:1"
"""An image that is not there and cannot be pulled."""


@pytest.fixture(autouse=True)
def no_image_of_ryuk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ryuk is enabled, and cannot be started."""
    monkeypatch.setattr(testcontainers_config, "_ryuk_disabled", False)
    monkeypatch.setattr(testcontainers_config, "ryuk_image", NO_RYUK)


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
        bad = {result.check for result in results if result.outcome in {Outcome.VIOLATES, Outcome.BROKEN}}
        assert bad == set()
        labels = {listener.label for listener in etcd.target().listeners}
        assert labels == {"client-m0", "metrics-m0", "peer-m0"}
    assert not directory.exists()
    assert Reaper._instance is None
    assert testcontainers_config.ryuk_disabled is False


def test_it_is_started_again_as_another_container(newest_image: str) -> None:
    etcd = EtcdTLSContainer(newest_image).with_env("ETCD_LOG_LEVEL", "debug").with_command("--max-wals=7")
    etcd.with_copy_into_container(b"of the user", "/user.txt").with_kwargs(labels={"of": "user"})
    started = []
    for number in range(2):
        etcd.start()
        container = etcd.get_wrapped_container()
        command = container.attrs["Config"]["Cmd"]
        started.append((container.id, etcd.file("client.key").read_text(encoding="utf-8"), len(command)))
        assert command.count("--max-wals=7") == 1
        assert container.labels["of"] == "user"
        assert (information := etcd.get_container_info()) is not None
        assert information.Id == container.id
        assert etcd.exec(["etcd", "--version"]).exit_code == 0
        with etcd.client() as client:
            key = {"key": "Zm9v"}
            assert "count" not in client.post("/v3/kv/range", json=key).json()
            assert client.post("/v3/kv/put", json=key | {"value": "YmFy"}).status_code == 200
        with pytest.raises(UsageError, match="is running: stop it before it is started again"):
            etcd.start()
        if number:
            container.remove(force=True)  # by another program
        etcd.stop()
        etcd.stop()
        with engine() as client_of_engine, pytest.raises(docker.errors.NotFound):
            client_of_engine.containers.get(str(container.id))
    assert [len(set(each)) for each in zip(*started, strict=True)] == [2, 2, 1]


def test_nothing_is_left_of_it_if_its_program_is_killed(newest_image: str) -> None:
    program = f"""
import json, sys
from pytest_etcdtls import EtcdTLSContainer
etcd = EtcdTLSContainer({newest_image!r}).start()
state = [etcd.get_wrapped_container().id, str(etcd.pki_directory), etcd._home.watchdog.pid]
print(json.dumps(state), flush=True)
sys.stdin.read()
"""
    environment = {**os.environ, "TESTCONTAINERS_RYUK_DISABLED": "false", "RYUK_CONTAINER_IMAGE": NO_RYUK}
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    ) as owner:
        assert owner.stdout is not None
        container, directory, watchdog = json.loads(owner.stdout.readline())
        owner.kill()
    assert gone(watchdog), "the watchdog does not end"
    with engine() as client, pytest.raises(docker.errors.NotFound):
        client.containers.get(container)
    assert not Path(directory).exists()


def test_it_needs_no_pytest(newest_image: str) -> None:
    program = f"""
import sys
from pytest_etcdtls import EtcdTLSContainer
with EtcdTLSContainer({newest_image!r}) as etcd:
    print(etcd.client().get("/health").json()["health"], "pytest" in sys.modules)
"""
    command = [sys.executable, "-W", "error", "-c", program]
    run = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    assert (run.stdout, run.returncode) == ("true False\n", 0), run.stderr


def test_unsupported_configurations_are_usage_errors(newest_image: str) -> None:
    with pytest.raises(UsageError, match="has one member"):
        EtcdTLSContainer(newest_image, ClusterConfig(size=3))
    with pytest.raises(UsageError, match=r"cannot be pulled|is not pulled"):
        EtcdTLSContainer("localhost:1/pytest-etcdtls/none:1").start()
