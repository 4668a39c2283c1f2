"""Declarations of tools are read as etcd reads them: its log at start is compared with the effective one.

What etcd is given comes from the file by another way than the reader's. Addresses and paths are the test's.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from declared.conftest import Workplace
from declared.declaring import effective, find_traps, read_declaration
from declared.etcd_itself import expected, run
from pytest_etcdtls.declared.declaration import Declaration
from pytest_etcdtls.etcd.sources import binary_version

SHAPES = Path(__file__).parent / "shapes"


def _here(shape: str, workplace: Workplace) -> Path:
    """Write a shape with addresses and paths of this place; return its path."""
    text = (SHAPES / shape).read_text(encoding="utf-8")
    addresses = {
        "127.0.0.1:2379": workplace.other,
        "127.0.0.1:2381": workplace.metrics,
        "127.0.0.1:2382": workplace.http,
        **{f"10.0.0.{host}:2379": workplace.client for host in (11, 21, 31)},
        **{f"10.0.0.{host}:2380": workplace.peer for host in (11, 21, 31)},
    }
    for address, port in addresses.items():
        text = text.replace(address, f"127.0.0.1:{port}")
    replacements = {
        "https://127.0.0.1:2380,": "",
        "http://10.0.0.31:2381,": "",
        ",etcd2=https://10.0.0.32:2380,etcd3=https://10.0.0.33:2380": "",
        "=existing": "=new",
        "/etc/kubernetes/pki/etcd/ca.crt": "{pki}/peer-ca.crt",
        "/etc/kubernetes/pki/etcd": "{pki}",
        "/var/lib/rancher/k3s/server/tls/etcd/server-client": "{pki}/server",
        "/var/lib/rancher/k3s/server/tls/etcd/peer-server-client": "{pki}/peer",
        "/var/lib/rancher/k3s/server/tls/etcd/server-ca.crt": "{pki}/client-ca.crt",
        "/var/lib/rancher/k3s/server/tls/etcd/peer-ca.crt": "{pki}/peer-ca.crt",
        "/var/lib/rancher/k3s/server/db/etcd": "{dir}/data",
        "/etc/ssl/etcd/ssl/member-node1.pem": "{pki}/peer.crt",
        "/etc/ssl/etcd/ssl/member-node1-key.pem": "{pki}/peer.key",
        "/etc/ssl/etcd/ssl/ca.pem": "{pki}/peer-ca.crt",
        "/var/lib/etcd": "{dir}/data",
    }
    for old, new in replacements.items():
        text = text.replace(old, new)
    path = workplace.directory / Path(shape).name
    path.write_text(workplace.fill_in(text), encoding="utf-8")
    return path


def _compare(
    declaration: Declaration,
    binary: Path,
    workplace: Workplace,
    arguments: list[str],
    environment: Mapping[str, str] | None = None,
) -> None:
    version = binary_version(binary)
    seen = run(binary, [*arguments, "--logger=zap"], environment or {}, workplace.directory)
    assert seen.started is all(trap.starts for trap in find_traps(declaration, version)), seen.log
    if not seen.started:
        return
    server = seen.logged("starting an etcd server").fields
    assert server["etcd-version"] == version
    for name, side in effective(declaration, version).sides.items():
        assert seen.side(name) == expected(side)
    for flag, urls in server.items():
        if flag.endswith("-urls") and isinstance(urls, list):
            assert sorted(map(str, urls)) == sorted(map(str, declaration.urls(flag))), flag


@pytest.mark.parametrize("name", ["v1.28", "v1.34"])
def test_kubeadm(name: str, etcd_binary: Path, workplace: Workplace) -> None:
    path = _here(f"kubeadm/{name}.yaml", workplace)
    command = yaml.safe_load(path.read_text(encoding="utf-8"))["spec"]["containers"][0]["command"]
    _compare(read_declaration(path), etcd_binary, workplace, command[1:])


@pytest.mark.etcd_version("3.5.33", "3.6", "3.7")
def test_k3s(etcd_binary: Path, workplace: Workplace) -> None:
    path = _here("k3s/config", workplace)
    _compare(read_declaration(path), etcd_binary, workplace, [f"--config-file={path}"])


def test_kubespray(etcd_binary: Path, workplace: Workplace) -> None:
    path = _here("kubespray/etcd.env", workplace)
    lines = [
        line.partition("=")
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.startswith("ETCD_")
    ]
    environment = {name: value for name, _, value in lines}
    _compare(read_declaration(path), etcd_binary, workplace, ["--log-outputs=stderr"], environment)


@pytest.mark.etcd_version("3.4", "3.5.33", "3.6")
def test_the_sample(etcd_binary: Path, workplace: Workplace) -> None:
    text = (SHAPES / "yaml/sample.yml").read_text(encoding="utf-8")
    path = workplace.directory / "sample.yml"
    text = text.replace("localhost:2379", "{client}").replace("localhost:2380", "{peer}")
    text = text.replace("initial-cluster:\n", "initial-cluster: default=http://{peer}\n")
    path.write_text(workplace.fill_in(text.replace("data-dir:", "data-dir: {dir}/data")), encoding="utf-8")
    declaration = read_declaration(path)
    seen = run(etcd_binary, [f"--config-file={path}"], {}, workplace.directory)
    assert seen.started is all(trap.starts for trap in find_traps(declaration, binary_version(etcd_binary)))
