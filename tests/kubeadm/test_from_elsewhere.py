"""A kubeadm node at its own ports and an address of its own, judged on it and from another machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from plugin.runs import Ran, run_apart

from kubeadm.namespaces import Machine, two_machines
from kubeadm.nodes import Node, running

pytestmark = pytest.mark.program("ip")

CHECKS = "config,listener,cert.covers-endpoint,cert.trusted,mtls.trusted-client,mtls.no-certificate"
FOREIGN_BIND = "/proc/sys/net/ipv4/ip_nonlocal_bind"


class Site(NamedTuple):
    """A node that runs etcd, the machine that it is, and another machine."""

    node: Node
    there: Machine
    elsewhere: Machine


@pytest.fixture(scope="module")
def site(newest_etcd: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    ports, directory = (2379, 2380, 2381), tmp_path_factory.mktemp("site")
    with (
        two_machines() as (there, elsewhere),
        running(directory, newest_etcd, [there.address], ports=ports, prefix=there.prefix) as cluster,
    ):
        yield Site(cluster.nodes[0], there, elsewhere)


def judged_on(machine: Machine, node: Node, pki: Path, directory: Path) -> Ran:
    """Run pytest on a machine, with the two options."""
    options = (f"--etcd-config={node.manifest}", f"--etcd-pki-dir={pki}", f"--etcd-check={CHECKS}")
    return run_apart(directory, *options, prefix=machine.prefix)


def results(ran: Ran, outcome: str) -> dict[str, str]:
    """Return the reasons by ``ROLE CHECK``."""
    found = [result for result in ran.report["results"] if result["outcome"] == outcome]
    return {f"{result['role']} {result['check']}": result["reason"] for result in found}


def urls(ran: Ran) -> set[str]:
    """Return those of the judged listeners."""
    return {listener["url"] for listener in ran.report["targets"][0]["listeners"]}


def test_on_the_node_itself(site: Site, tmp_path: Path) -> None:
    ran = judged_on(site.there, site.node, site.node.pki / "etcd", tmp_path)
    assert ran.exit_code == 0, ran.out
    assert urls(ran) == {
        *("https://127.0.0.1:2379", "https://10.111.0.1:2379", "https://10.111.0.1:2380"),
        "http://127.0.0.1:2381",
    }
    assert [results(ran, outcome) for outcome in ("violates", "warns", "inconclusive", "not-verified")] == [
        {}
    ] * 4


def test_loopback_is_not_verified_from_another_machine(site: Site, tmp_path: Path) -> None:
    ran = judged_on(site.elsewhere, site.node, site.node.pki / "etcd", tmp_path)
    assert ran.exit_code == 0, ran.out
    assert urls(ran) == {"https://10.111.0.1:2379", "https://10.111.0.1:2380"}
    assert [results(ran, outcome) for outcome in ("violates", "warns", "inconclusive")] == [{}] * 3
    [(check, reason)] = results(ran, "not-verified").items()
    assert check == "cluster config.listeners-as-declared"
    for url in ("https://127.0.0.1:2379", "http://127.0.0.1:2381"):
        assert url in reason
        assert url in ran.out


def test_sans_without_the_local_address_are_no_fault(site: Site, tmp_path: Path) -> None:
    """Only the node's own peer certificate is available, and its SAN is the node's address."""
    copy = tmp_path / "pki"
    shutil.copytree(site.node.pki / "etcd", copy)
    for path in copy.glob("healthcheck-client.*"):
        path.unlink()
    ran = judged_on(site.elsewhere, site.node, copy, tmp_path)
    assert results(ran, "violates") == {}, ran.out
    reasons = results(ran, "not-verified")
    assert "SAN rule" in reasons["peer mtls.trusted-client"]
    assert "mtls.trusted-client" not in {
        check.partition(" ")[2] for check in reasons if check.startswith("client ")
    }
    assert "peer mtls.no-certificate" in results(ran, "conforms")


ASK = """
from pytest_etcdtls.settings.endpoints import is_own
print([*filter(is_own, ["10.111.0.1", "10.111.0.2", "192.0.2.7", "fd00::1", "node.example"])])
"""


@pytest.mark.parametrize("bind_anywhere", ["0", "1"], ids=["usual", "as beside keepalived"])
def test_addresses_of_members_are_distinguished(bind_anywhere: str, site: Site) -> None:
    script = f"echo {bind_anywhere} > {FOREIGN_BIND} && exec {sys.executable} -c '{ASK}'"
    for machine in (site.there, site.elsewhere):
        done = subprocess.run(
            [*machine.prefix, "sh", "-c", script],
            capture_output=True,
            encoding="utf-8",
            check=True,
            env={**os.environ},
        )
        assert done.stdout == f"['{machine.address}']\n"
