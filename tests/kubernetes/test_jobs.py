"""The manifests in ``docker``, as they are but for the names of image and node."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from shown_commands import ROOT

from kubernetes.cluster import KubeadmCluster
from kubernetes.judging import block, paste
from kubernetes.machines import wait_until

pytestmark = pytest.mark.container


def manifest(name: str, node: str = "cp1") -> str:
    """Return a manifest with what it says to fill in."""
    text = (ROOT / "docker" / name).read_text(encoding="utf-8")
    return text.replace("REGISTRY/", "").replace("CONTROL-PLANE-NODE", node)


def ended(cluster: KubeadmCluster, job: str, namespace: str) -> str:
    """Wait until a Job has ended, and return the output of its pods."""
    of = (f"job/{job}", "-n", namespace)
    cluster.kubectl("wait", "--for=jsonpath={.status.conditions[*].type}", *of, "--timeout=280s")
    return cluster.kubectl("logs", "--tail=-1", "--prefix=false", "-l", f"job-name={job}", "-n", namespace)


def test_the_job_of_a_node(cluster: KubeadmCluster, runner: str) -> None:
    cluster.kubectl("apply", "-f", "-", text=manifest("control-plane-job.yaml"))
    said = ended(cluster, "etcd-tls", "kube-system")
    assert "CHECKS CLEAN (without config.ca-key-beside)" in said, said
    [unverified] = re.findall(r"^\d+ results not verified: (.*(?:\n  .*)*)", said, re.MULTILINE)
    assert set(re.findall(r"--etcd-[a-z-]+", unverified)) == {"--etcd-ca-key", "--etcd-peer-ca-key"}


def test_a_node_without_one_of_the_files_is_left_as_it_is(cluster: KubeadmCluster) -> None:
    """A directory ``etcd.yaml`` in ``manifests`` would be in the way of ``kubeadm join``."""
    node = cluster.node
    before = node.run("find", "/etc/kubernetes").stdout
    text = manifest("control-plane-job.yaml").replace("name: etcd-tls\n", "name: absent\n", 1)
    text = text.replace("path: /etc/kubernetes/manifests/etcd.yaml", "path: /etc/kubernetes/manifests/absent")
    cluster.kubectl("apply", "-f", "-", text=text)
    of = ("-n", "kube-system", "-l", "job-name=absent")
    wait_until(lambda: "absent is not a file" in cluster.kubectl("describe", "pod", *of), "the pod waits")
    assert node.run("find", "/etc/kubernetes").stdout == before
    cluster.kubectl("delete", "job", "absent", "-n", "kube-system")


def test_the_job_of_a_list_needs_no_privilege(cluster: KubeadmCluster) -> None:
    """A namespace of the level ``restricted`` would warn."""
    cluster.kubectl("create", "namespace", "restricted")
    cluster.kubectl("label", "namespace", "restricted", "pod-security.kubernetes.io/warn=restricted")
    applied = ("apply", "-n", "restricted", "--dry-run=server", "-f", "-")
    said = cluster.kubectl(*applied, check=False, text=manifest("fleet-job.yaml"))
    assert "created" in said
    assert "PodSecurity" not in said


def test_every_hour(cluster: KubeadmCluster, runner: str) -> None:
    name = "control-plane-cronjob.yaml"
    cluster.laptop.write(str(cluster.laptop.directory / name), manifest(name))
    node = cluster.node
    collector = "/var/lib/node_exporter/textfile_collector"
    for planted in ("conftest.py", "json.py", "planted.py"):
        node.write(f"{collector}/{planted}", 'open("/reports/acted", "w").close()\n')
    node.write(f"{collector}/pytest.ini", "[pytest]\naddopts = -p planted\npythonpath = /reports\n")
    said = paste(cluster, block("--from=cronjob/etcd-tls"))
    assert "CHECKS CLEAN (without config.ca-key-beside)" in said, said
    assert "acted" not in node.run("ls", collector).stdout
    path = f"{collector}/etcd-tls.prom"
    metrics = {family.name: family for family in text_string_to_metric_families(node.read(path))}
    [clean] = metrics["etcdtls_clean"].samples
    assert (clean.labels, clean.value) == ({"target": "cp1"}, 0)  # a check is left out
    assert "etcdtls_faults" not in metrics
    served = {
        sample.labels["where"]
        for sample in metrics["etcdtls_certificate_not_after_timestamp_seconds"].samples
    }
    assert len(served) > 2
    # node_exporter is another user.
    assert node.run("setpriv", "--reuid=65534", "--clear-groups", "cat", path).stdout


FLEET = """
apiVersion: v1
kind: PersistentVolume
metadata: {name: reports}
spec:
  capacity: {storage: 1Gi}
  accessModes: [ReadWriteMany]
  storageClassName: local
  local: {path: /var/lib/reports}
  nodeAffinity:
    required:
      nodeSelectorTerms:
        - matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [cp1]}]
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: etcd-tls-reports}
spec:
  accessModes: [ReadWriteMany]
  storageClassName: local
  resources: {requests: {storage: 1Gi}}
"""

CLUSTERS = """
[[cluster]]
label = "{name}"
endpoints = ["https://10.11.0.2:2379"]
peer-endpoints = ["https://10.11.0.2:2380"]
cacert = "ca.crt"
cert = "client.crt"
key = "client.key"
"""


def test_a_list_of_clusters_in_parts(cluster: KubeadmCluster, runner: str) -> None:
    node = cluster.node
    node.run("mkdir", "-p", "/var/lib/reports")
    cluster.kubectl("apply", "-f", "-", text=FLEET)
    names = ["prod-eu-1", "prod-us-1", "test"]
    of = "/etc/kubernetes/pki/etcd"
    files = {
        "clusters.toml": "".join(CLUSTERS.format(name=name) for name in names),
        "ca.crt": node.read(f"{of}/ca.crt"),
        "client.crt": node.read(f"{of}/healthcheck-client.crt"),
        "client.key": node.read(f"{of}/healthcheck-client.key"),
    }
    for name, text in files.items():
        cluster.laptop.write(str(Path(cluster.laptop.directory, "fleet", name)), text)
    cluster.kubectl("create", "secret", "generic", "etcd-fleet", "--from-file=fleet")
    cluster.kubectl("apply", "-f", "-", text=manifest("fleet-job.yaml"))
    said = ended(cluster, "etcd-tls-fleet", "default")
    reports = {name: json.loads(node.read(f"/var/lib/reports/{name}.json")) for name in names}
    assert {name: one["verdict"] for name, one in reports.items()} == dict.fromkeys(names, "CLEAN")
    assert all(re.search(rf"^\d/\d {name} +CLEAN", said, re.MULTILINE) for name in names)
