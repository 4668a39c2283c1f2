"""A member that listens on addresses and advertises names: clients are told the names alone."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from kubeadm.judging import judged
from plugin.runs import Runner, run

from process.containers import Container, as_root, container, target
from pytest_etcdtls.checks.results import CheckResult, Outcome
from pytest_etcdtls.pki.bundle import encode_pair
from pytest_etcdtls.pki.profile import PEER, SERVER
from pytest_etcdtls.role import Role

__all__ = ["run"]

pytestmark = [*as_root, pytest.mark.etcd_version("3.5", "3.6", "3.7")]

ADDRESS = "127.0.0.54"
BOTH = (Role.CLIENT, Role.PEER)
COVERS, COVERS_ADVERTISED = "cert.covers-endpoint", "cert.covers-advertised-url"


@pytest.fixture(scope="module")
def node(etcd_binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    """A node that advertises a name, and whose certificates have only that name."""
    with container(tmp_path_factory.mktemp("names"), etcd_binary, ADDRESS) as made:
        authority, pki = made.cluster.pki.server_ca, made.node.pki / "etcd"
        for profile, name in ((SERVER, "server"), (PEER, "peer")):
            pair = encode_pair(authority.issue(profile, name=name, hosts=("localhost",)), name)
            for path, content in pair.items():
                (pki / path).write_bytes(content)
        yield made


def advertising(node: Container, host: str) -> dict[str, str]:
    """Return the settings of a member that advertises a host."""
    client, peer = f"https://{host}:{node.node.client}", f"https://{host}:{node.node.peer}"
    return {
        "advertise-client-urls": client,
        "initial-advertise-peer-urls": peer,
        "initial-cluster": f"cp1={peer}",
        "listen-client-urls": f"https://{ADDRESS}:{node.node.client}",
    }


def by_role(results: list[CheckResult], check: str) -> Mapping[str, Outcome]:
    """Return the outcomes of a check on the ports of clients and of peers."""
    return {
        result.role: result.outcome for result in results if result.check == check and result.role in BOTH
    }


def test_names_alone_are_advertised(node: Container, run: Runner) -> None:
    started = replace(node, added=advertising(node, "localhost"), processes=[])
    try:
        process = started.start()
        results = judged(target(process), "listener", "cert")
        ran = run("--pyargs", "pytest_etcdtls", f"--etcd-pid={process.pid}", "--etcd-check=!advisory")
        named = run(
            *("--pyargs", "pytest_etcdtls", f"--etcd-pid={process.pid}", "--etcd-check=cert"),
            f"--etcd-endpoint=https://{ADDRESS}:{node.node.client}",
        )
    finally:
        started.stop()
        shutil.rmtree(node.node.root / "var" / "lib" / "etcd")
    assert by_role(results, COVERS) == dict.fromkeys(BOTH, Outcome.NOT_APPLICABLE)
    assert by_role(results, COVERS_ADVERTISED) == dict.fromkeys(BOTH, Outcome.CONFORMS)
    assert "CLEAN" in ran.verdict
    assert "NOT CLEAN" not in ran.verdict, ran.out
    # A URL that the user writes is one that a client uses.
    assert "NOT CLEAN: 1 fault" in named.verdict, named.out
    assert f"1. {COVERS} (high)" in named.out


def test_the_member_list_still_has_addresses(node: Container) -> None:
    """The peer URL is changed in the declaration, and not in the member list, which etcd keeps."""
    before, after = (
        replace(node, added=advertising(node, host), processes=[]) for host in (ADDRESS, "localhost")
    )
    before.start()
    before.stop()
    try:
        results = judged(target(after.start()), "listener", "cert")
    finally:
        after.stop()
        shutil.rmtree(node.node.root / "var" / "lib" / "etcd")
    assert by_role(results, COVERS) == {Role.CLIENT: Outcome.NOT_APPLICABLE, Role.PEER: Outcome.VIOLATES}
    [broken] = [result for result in results if result.outcome is Outcome.VIOLATES]
    assert (broken.check, broken.role) == (COVERS, Role.PEER)
