"""A misconfigured cluster, the output of the page's commands on it, and the outcomes of our checks."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import yaml
from starting import start_process

from by_hand.document import Step
from by_hand.ours import judged
from by_hand.shell import Shell
from by_hand.walk import Walk, environment, run_steps
from pytest_etcdtls.etcd.cluster import Cluster
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.etcd.presets import PRESETS
from pytest_etcdtls.pki.bundle import KUBEADM_NODE
from pytest_etcdtls.results import CheckResult, Outcome

KUBEADM = PRESETS["kubeadm"].config

_WRONG: ClusterConfig = replace(
    KUBEADM,
    client_cert_auth=False,
    trusted_ca_file=None,
    peer_client_cert_auth=False,
    peer_trusted_ca_file=None,
    plaintext_on_client_port=True,
    pki=replace(
        KUBEADM.pki,
        server=replace(KUBEADM_NODE, subject_alt_names=("127.0.0.1",), valid_for=timedelta(days=10)),
    ),
)
"""Anybody is accepted, even without TLS; what is served is short-lived and lacks a name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The findings on the misconfigured cluster, by hand and by our checks."""

    walk: Walk
    results: tuple[CheckResult, ...]

    def deviates(self, step: Step) -> bool:
        """Return whether the output of a step differs from the page's, which is that of a good cluster."""
        ran = [(block, self.walk.ran[block.line]) for block in step.blocks]
        return any(block.deviations(done.output, self.walk.version) for block, done in ran)

    def outcomes(self, check: str) -> set[Outcome]:
        """Return the outcomes of the check."""
        return {result.outcome for result in self.results if result.check == check}


def find(
    steps: Sequence[Step], plugin: Step, checks: Iterable[str], binary: Path, version: str, home: Path
) -> Found:
    """Start the misconfigured cluster, run some steps, and run the checks with the page's options.

    Args:
        plugin: the step in which the page calls the plugin.
    """
    walk = Walk(version=version)
    with start_process(_WRONG, binary) as cluster:
        with Shell(home, environment(binary, home)) as shell:
            shell.run(_variables(cluster, home))
            run_steps(shell, walk, steps)
            options = _options(plugin, shell)
        return Found(walk=walk, results=tuple(judged(options, checks)))


def _variables(cluster: Cluster, home: Path) -> str:
    """Return the commands that set the page's variables."""
    [member] = cluster.members
    files, manifest, log, work = home / "etcd", home / "etcd.yaml", home / "etcd.log", home / "work"
    shutil.copytree(member.file("server.crt").parent, files)
    # Another certificate than the one that is served.
    shutil.copy(files / "peer.crt", files / "server.crt")
    shutil.copy(files / "peer.key", files / "server.key")
    manifest.write_text(_manifest(member.client_url, member.peer_url, files), encoding="utf-8")
    log.touch()
    work.mkdir()
    client, peer = (url.removeprefix("https://") for url in (member.client_url, member.peer_url))
    return f"CLIENT={client} PEER={peer} PKI={files} MANIFEST={manifest} LOG={log} WORK={work}"


def _manifest(client_url: str, peer_url: str, files: Path) -> str:
    """Return a manifest without faults; the cluster was started with another one."""
    flags = {
        "listen-client-urls": client_url,
        "advertise-client-urls": client_url,
        "listen-peer-urls": peer_url,
        "initial-advertise-peer-urls": peer_url,
        "cert-file": files / "server.crt",
        "key-file": files / "server.key",
        "client-cert-auth": "true",
        "trusted-ca-file": files / "ca.crt",
        "peer-cert-file": files / "peer.crt",
        "peer-key-file": files / "peer.key",
        "peer-client-cert-auth": "true",
        "peer-trusted-ca-file": files / "ca.crt",
    }
    etcd = {"name": "etcd", "command": ["etcd", *(f"--{flag}={value}" for flag, value in flags.items())]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "etcd"}, "spec": {"containers": [etcd]}}
    return yaml.safe_dump(pod, sort_keys=False)


def _options(plugin: Step, shell: Shell) -> list[str]:
    """Return the plugin's options on the page, with the variables filled in, without a log."""
    [block] = plugin.blocks
    command = "pytest --pyargs pytest_etcdtls "
    assert block.code.startswith(command)
    options = shell.run(block.code.replace(command, "printf '%s\\n' ")).output.splitlines()
    return [option for option in options if not option.startswith("--etcd-log=")]
