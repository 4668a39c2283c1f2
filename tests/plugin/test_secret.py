"""A Secret on standard input, on a real etcd: it is read once, values stay in memory, commands work."""

from __future__ import annotations

import base64
import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made import made_secret
from programs import run_program
from starting import start_process

from pytest_etcdtls.etcd.cluster import Cluster
from pytest_etcdtls.etcd.presets import PRESETS

IN_BASE64 = base64.b64encode(b"-----BEGIN")[:-2].decode()
"""How every PEM file in a Secret begins."""

KUBECTL = """#!{python}
import json, re, sys
get, n, namespace, named, o, path = sys.argv[1:]
document = json.load(open({secret!r}, encoding="utf-8"))
assert (get, n, o) == ("get", "-n", "-o")
secret, _, name = named.partition("/")
assert secret == "secret"
assert document["metadata"] == {{"name": name, "namespace": namespace}}
key = re.fullmatch(r"jsonpath=\\{{\\.data\\.(.*)\\}}", path)[1].replace("\\\\.", ".")
sys.stdout.write(document["data"][key])
"""

USER = """
    from pathlib import Path

    def test_in_a_worker(etcd_client):
        assert etcd_client.get("/version").json()["etcdserver"]
        for name in ("cmdline", "environ"):
            assert b"{begins}" not in Path("/proc/self", name).read_bytes()
"""


@pytest.fixture(scope="module")
def cluster(newest_etcd: Path) -> Iterator[Cluster]:
    with start_process(
        replace(PRESETS["kubeadm"].config, extra_flags=("--enable-pprof",)), newest_etcd
    ) as running:
        yield running


def _secret(cluster: Cluster, name: str, kind: str, files: Mapping[str, str]) -> str:
    directory = cluster.members[0].pki_directory
    values = {key: (directory / file).read_bytes() for key, file in files.items()}
    return json.dumps(made_secret(name, kind, values))


def _run(
    pytester: pytest.Pytester, cluster: Cluster, secret: str, *options: str
) -> tuple[pytest.RunResult, str]:
    """Run pytest with a Secret on standard input; return the text of the report, too."""
    named = [f"{listener.role.option}={listener.url}" for listener in cluster.target().listeners]
    report = pytester.path / "report.json"
    command = (sys.executable, "-m", "pytest", *named, "--etcd-secret=-", f"--etcd-report={report}", *options)
    result = pytester.run(*command, stdin=secret.encode(), timeout=120)
    return result, report.read_text(encoding="utf-8") if report.exists() else ""


@pytest.mark.program("bash", "curl")
def test_workers_get_it_and_commands_fetch_it(
    pytester: pytest.Pytester, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("xdist")
    pytester.makepyfile(test_user=USER.format(begins=IN_BASE64))
    files = {"ca.crt": "ca.crt", "tls.crt": "healthcheck-client.crt", "tls.key": "healthcheck-client.key"}
    secret = _secret(cluster, "etcd-client", "kubernetes.io/tls", files)
    result, report = _run(pytester, cluster, secret, "-n1", "--etcd-check=api.pprof-hidden,mtls,listener")
    out = result.stdout.str()
    assert result.ret == pytest.ExitCode.OK, out
    assert "client Secret kube-system/etcd-client tls.crt" in " ".join(out.split())
    assert "1 worker [1 item]" in out
    for value in json.loads(secret)["data"].values():
        assert value not in report + out
        assert base64.b64decode(value).decode().splitlines()[1] not in report + out
    _is_executed(pytester, json.loads(report), secret, monkeypatch)


def _is_executed(
    pytester: pytest.Pytester, report: dict[str, Any], secret: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = [
        command
        for one in report["results"]
        if one["check"] == "api.pprof-hidden"
        for finding in one["findings"]
        for command in finding["reproduce"]
        if "kubectl" in command
    ]
    assert commands
    (pytester.path / "secret.json").write_text(secret, encoding="utf-8")
    kubectl = pytester.mkdir("bin") / "kubectl"
    kubectl.write_text(
        KUBECTL.format(python=sys.executable, secret=str(pytester.path / "secret.json")), encoding="utf-8"
    )
    kubectl.chmod(0o755)
    monkeypatch.setenv("PATH", f"{kubectl.parent}{os.pathsep}{os.environ['PATH']}")
    ran = run_program(["bash", "-ec", commands[0]], pytester.path)
    assert "200 OK" in ran.stdout, ran.stderr + commands[0]
    assert (pytester.path / "client.key").stat().st_mode & 0o777 == 0o600


def _ca(cluster: Cluster) -> str:
    return _secret(cluster, "c1-etcd", "cluster.x-k8s.io/secret", {"tls.crt": "ca.crt", "tls.key": "ca.key"})


def test_a_ca_of_cluster_api_is_enough(pytester: pytest.Pytester, cluster: Cluster) -> None:
    secret = _ca(cluster)
    result, report = _run(
        pytester, cluster, secret, "--pyargs", "pytest_etcdtls", "--etcd-check=mtls,listener,cert"
    )
    out = " ".join(result.stdout.str().split())
    assert result.ret == pytest.ExitCode.OK, out
    assert "CA key Secret kube-system/c1-etcd" in out
    assert "accepts a client that the run issued with the CA key" in out
    assert "CHECKS CLEAN (cert, listener, mtls)" in out
    assert "PRIVATE" not in report
    assert [path for path in pytester.path.iterdir() if path.suffix in (".key", ".crt")] == []


def test_a_client_of_the_run_without_an_allowed_name_is_not_a_fault(
    pytester: pytest.Pytester, newest_etcd: Path
) -> None:
    config = replace(PRESETS["kubeadm"].config, peer_cert_allowed_cn="m0")
    with start_process(config, newest_etcd) as cluster:
        result, report = _run(
            pytester, cluster, _ca(cluster), "--pyargs", "pytest_etcdtls", "--etcd-check=mtls.trusted-client"
        )
    outcomes = {one["role"]: (one["outcome"], one["reason"]) for one in json.loads(report)["results"]}
    assert outcomes["client"][0] == "conforms"
    outcome, reason = outcomes["peer"]
    assert outcome == "not-verified"
    assert reason.startswith(
        "the client that the run issued with the CA key is refused by alert 42, as where"
    )
    assert "NO VERDICT" in result.stdout.str()
