"""What the children of a run are given: no secret of the environment reaches an etcd or the watchdog."""

from __future__ import annotations

from pathlib import Path

import pytest
from starting import start_process

from pytest_etcdtls.cluster.config import ClusterConfig
from pytest_etcdtls.cluster.process import EtcdProcess
from pytest_etcdtls.cluster.watchdog import child_environment
from pytest_etcdtls.settings.port_credentials import KEY_PASSWORD

SECRETS = {
    KEY_PASSWORD: "s3cret-passphrase",
    "ETCDCTL_USER": "root:s3cret-password",
    "ETCDCTL_KEY": "/s3cret/key",
    "VAULT_TOKEN": "s3cret-token",
    "AWS_SECRET_ACCESS_KEY": "s3cret-access",
    "DOCKER_AUTH_CONFIG": '{"auths": "s3cret-auth"}',
    "GITHUB_TOKEN": "s3cret-github",
}
INTERFERING = {"ETCD_NAME": "other", "GODEBUG": "x509sha1=1", "SSL_CERT_FILE": "/x", "SSL_CERT_DIR": "/"}


@pytest.mark.fault(
    "Secrets in the environment of the run",
    outcome="neither etcd nor the watchdog inherits a variable that is not on a list of names",
    bound="the start of an etcd",
)
def test_children_inherit_no_secret(monkeypatch: pytest.MonkeyPatch, newest_etcd: Path) -> None:
    for name, value in {**SECRETS, **INTERFERING}.items():
        monkeypatch.setenv(name, value)
    with start_process(ClusterConfig(), newest_etcd) as cluster:
        server, watchdog = cluster.members[0].server, cluster._home.watchdog.pid
        assert isinstance(server, EtcdProcess)
        for process in (server.pid, watchdog):
            given = Path(f"/proc/{process}/environ").read_text()
            assert "PATH=" in given
            assert "s3cret" not in given
            assert not {line.partition("=")[0] for line in given.split("\0")} & {*SECRETS, *INTERFERING}


def test_a_child_finds_the_engine_and_nothing_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**SECRETS, "DOCKER_HOST": "unix:///run/other.sock"}.items():
        monkeypatch.setenv(name, value)
    assert child_environment(engine=True)["DOCKER_HOST"] == "unix:///run/other.sock"
    assert "DOCKER_HOST" not in child_environment()
    assert not any("s3cret" in value for value in child_environment(engine=True).values())
