"""What the children of a run are given: no secret of the environment reaches a program that we start."""

from __future__ import annotations

import ast
import re
import shlex
import sys
from pathlib import Path

import pytest
from given import Given
from starting import start_process

import pytest_etcdtls
from pytest_etcdtls.children import child_environment
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.etcd.process import EtcdProcess
from pytest_etcdtls.settings.endpoints import read_via
from pytest_etcdtls.settings.port_credentials import KEY_PASSWORD
from pytest_etcdtls.tls.via import CarriedSocket

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


def test_children_inherit_no_secret(monkeypatch: pytest.MonkeyPatch, newest_etcd: Path) -> None:
    for name, value in {**SECRETS, **INTERFERING}.items():
        monkeypatch.setenv(name, value)
    with start_process(ClusterConfig(), newest_etcd) as cluster:
        server, watchdog = cluster.members[0].server, cluster._home.watchdog.pid
        assert isinstance(server, EtcdProcess)
        for process in (server.pid, watchdog):
            given = Path(f"/proc/{process}/environ").read_text(encoding="utf-8")
            assert "PATH=" in given
            assert "s3cret" not in given
            assert not {line.partition("=")[0] for line in given.split("\0")} & {*SECRETS, *INTERFERING}


def test_a_child_finds_the_engine_and_nothing_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**SECRETS, "DOCKER_HOST": "unix:///run/other.sock"}.items():
        monkeypatch.setenv(name, value)
    assert child_environment(engine=True)["DOCKER_HOST"] == "unix:///run/other.sock"
    assert "DOCKER_HOST" not in child_environment()
    assert not any("s3cret" in value for value in child_environment(engine=True).values())


def test_carrier_inherits_no_secret(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    inherited = {"KUBECONFIG": "/kube", "SSH_AUTH_SOCK": "/agent", "HOME": "/home", "LANG": "C.UTF-8"}
    for name, value in {**SECRETS, **INTERFERING, **inherited, "AWS_PROFILE": "p", "OTHER": "o"}.items():
        monkeypatch.setenv(name, value)
    program = "import os, sys; print('\\0'.join(map('='.join, os.environ.items()))); sys.argv[1:]"
    command = shlex.join([sys.executable, "-Ic", program, "{host}", "{port}"])
    via = read_via(Given(tmp_path, etcd_via=command, etcd_via_env=["AWS_PROFILE"]))
    assert via is not None
    carried = CarriedSocket(via, "cp1", 2379)
    try:
        given = b"".join(iter(lambda: carried.recv(4096), b"")).decode().strip().split("\0")
    finally:
        carried.close()
    variables = dict(one.split("=", 1) for one in given)
    assert variables.items() >= {**inherited, "AWS_PROFILE": "p"}.items()
    assert not variables.keys() & {*SECRETS, *INTERFERING, "OTHER"}
    assert "s3cret" not in str(variables)


_STARTS = re.compile(
    r"subprocess\.(Popen|run|call|check_\w+|get\w+)|asyncio\.create_subprocess\w+|pty\.\w+"
    r"|os\.(system|popen|fork\w*|exec\w+|spawn\w+|posix_spawn\w*)"
)


def test_every_program_is_started_with_the_environment_of_a_child() -> None:
    calls = []
    for path in Path(pytest_etcdtls.__file__).parent.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        # Calls of imported functions would be missed.
        assert not re.search(r"from (subprocess|pty|multiprocessing) import", text), path.name
        calls += [
            (path, node)
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.Call) and _STARTS.fullmatch(ast.unparse(node.func))
        ]
    assert len(calls) >= 6
    for path, call in calls:
        given = next((ast.unparse(word.value) for word in call.keywords if word.arg == "env"), "")
        # The watchdog process has that environment itself; a rehearsed etcd gets that of the running one.
        itself = (path.name, given) == ("watchdog.py", "dict(os.environ)") or path.name == "stage.py"
        assert itself or "child_environment(" in given, f"{path}:{call.lineno}"
