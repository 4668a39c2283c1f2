"""``--etcd-pid`` on real etcds: in a root directory, and a network, of their own."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
from kubeadm.judging import explain, found, judged
from kubeadm.test_conforms import usual
from plugin.runs import Runner, run

from process.containers import Container, as_root, await_age, line_of, target
from process.containers import in_each_network as prefix
from pytest_etcdtls.checks.results import Outcome
from pytest_etcdtls.declared.declaration import Form
from pytest_etcdtls.declared.running import Process

__all__ = ["prefix", "run"]

pytestmark = as_root

ADDRESS = "127.0.0.41"
CHECK = "config.process-as-declared"


def test_settings_and_files_are_those_of_the_process(node: Container, process: Process) -> None:
    live = target(process)
    [(label, declared)] = live.declared.items()
    assert label == live.label == "cp1"
    assert declared.declaration.form is Form.PROCESS
    assert declared.declaration.source == f"process {process.pid}"
    assert declared.file("cert-file") == process.root / "etc/kubernetes/pki/etcd/server.crt"
    assert [identity.name for identity in live.client.identities][:1] == ["healthcheck-client"]
    assert [log.name for log in live.logs.values()] == [f"/proc/{process.pid}/fd/2"]
    roles = [listener.role for listener in live.listeners]
    assert roles == ["client", "client", "metrics", "peer"]
    assert {one.process for one in live.listeners} == {process.pid}
    assert {one.in_its_network for one in live.listeners} == {bool(node.prefix)}


def test_a_conforming_etcd(node: Container, process: Process) -> None:
    """It is judged as by its manifest."""
    results = judged(target(process), "!lifecycle")
    assert found(results) == usual(node.cluster.version), explain(results)


@pytest.mark.kills("config.process-as-declared")
def test_a_manifest_that_is_not_in_force(node: Container, process: Process, tmp_path: Path) -> None:
    [result] = judged(target(process, etcd_config=node.node.manifest), CHECK)
    assert result.outcome is Outcome.CONFORMS, result
    manifest = tmp_path / "etcd.yaml"
    text = node.node.text.replace("--client-cert-auth=true", "--client-cert-auth=false", 1)
    text = re.sub(r" *- --peer-trusted-ca-file=.*\n", "", text)
    manifest.write_text(
        text.replace("    - etcd\n", "    - etcd\n    - --tls-min-version=TLS1.3\n"), encoding="utf-8"
    )
    await_age(process)
    manifest.touch()
    [result] = judged(target(process, etcd_config=manifest), CHECK)
    assert result.outcome is Outcome.VIOLATES
    running = f"process {process.pid}"
    auth, minimum = (line_of(manifest, text) for text in (" --client-cert-auth", "tls-min"))
    assert [finding.message.partition(";")[0] for finding in result.findings] == [
        f"--client-cert-auth=false ({manifest}:{auth}) is declared, and {running} was started with "
        "--client-cert-auth=true",
        f"{running} was started with --peer-trusted-ca-file=/etc/kubernetes/pki/etcd/ca.crt, which is not in "
        f"{manifest}",
        f"--tls-min-version=TLS1.3 ({manifest}:{minimum}) is declared, and not in {running}",
    ]
    since = result.findings[0].evidence["since"]
    assert re.fullmatch(rf"it was started at .* UTC, and {manifest} was changed at .* UTC", since)
    assert result.findings[0].commands == (f"tr '\\0' '\\n' < /proc/{process.pid}/cmdline",)


def test_a_command_to_paste_enters_the_network(node: Container, process: Process) -> None:
    live = dataclasses.replace(target(process), expiry_days=100_000)
    results = judged(live, "cert.expires-soon")
    commands = [command for result in results for finding in result.findings for command in finding.commands]
    entered = [f"nsenter -t {process.pid} -n " in command for command in commands]
    assert commands
    assert all(entered) if node.prefix else not any(entered)


def test_a_process_is_replayed(node: Container, process: Process, run: Runner) -> None:
    """Another etcd is started with what the process was started with."""
    binary = node.node.root / "etcd"
    ran = run(
        *("--pyargs", "pytest_etcdtls", f"--etcd-pid={process.pid}", f"--etcd-binary={binary}"),
        "--etcd-check=config,mtls",
    )
    assert ran.exit_code == 0, ran.out + ran.err
    assert (
        f"CHECKS CLEAN (config, mtls) (etcd {node.cluster.version} that replays the declaration)" in ran.out
    )
    assert f"as process {process.pid} declares it" in ran.out
