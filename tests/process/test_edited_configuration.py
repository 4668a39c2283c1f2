"""A configuration file that is edited while etcd runs: what is open runs, and the file starts next."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from kubeadm.judging import judged
from plugin.runs import Runner, run

from process.containers import Container, as_root, await_age, container, target
from pytest_etcdtls.checks.results import Outcome
from pytest_etcdtls.declared.running import Process
from pytest_etcdtls.role import Role

__all__ = ["run"]

pytestmark = [*as_root, pytest.mark.etcd_version("3.5", "3.6", "3.7")]

CHECK = "config.listeners-as-declared"


@pytest.fixture(scope="module")
def node(etcd_binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    with container(tmp_path_factory.mktemp("edited"), etcd_binary, "127.0.0.53") as made:
        await_age(made.start(by_file=True))
        yield made


@contextmanager
def edited(node: Container, **keys: object) -> Iterator[Process]:
    """Change keys of the file, and write the old text again at the end."""
    file = node.node.root / "etcd.yml"
    before = file.read_text()
    text = yaml.safe_load(before)
    for name, value in keys.items():
        text[name.replace("_", "-")] = value
    file.write_text(yaml.safe_dump({name: value for name, value in text.items() if value is not None}))
    try:
        yield node.process()
    finally:
        file.write_text(before)


def url_of(node: Container, role: Role) -> str:
    [url] = node.settings[f"listen-{role}-urls"].split(",")[-1:]
    return url


def elsewhere(node: Container, role: Role) -> dict[str, str]:
    """Return the URLs of a role with another port."""
    flags = (f"listen-{role}-urls", {"client": "advertise-client-urls"}.get(role, ""))
    port = url_of(node, role).rpartition(":")[2]
    return {flag.replace("-", "_"): node.settings[flag].replace(f":{port}", ":2") for flag in flags if flag}


@pytest.mark.parametrize("role", [Role.CLIENT, Role.PEER])
def test_another_port(role: Role, node: Container, run: Runner) -> None:
    with edited(node, **elsewhere(node, role)) as process:
        live = target(process)
        assert {one.port for one in live.listeners if one.role is role} == {
            int(url_of(node, role).rpartition(":")[2])
        }
        found = {one.check: one for one in judged(live, "listener", "config", "mtls.no-certificate")}
        ran = run("--pyargs", "pytest_etcdtls", f"--etcd-pid={process.pid}", "--etcd-rehearse")
    assert found["listener.answers"].outcome is Outcome.CONFORMS
    assert "nothing in" in found[CHECK].message
    assert ran.verdict.startswith("etcd TLS: CLEAN NOW, NOT AFTER A RESTART: 1 fault (2 checks) ("), ran.out
    assert "1. restart.listeners (high)" in ran.out


@pytest.mark.parametrize("role", [Role.CLIENT, Role.PEER])
def test_another_scheme(role: Role, node: Container, run: Runner) -> None:
    """A socket has no scheme, so the listener is asked; plain HTTP is what starts next."""
    flag, url = f"listen-{role}-urls", url_of(node, role)
    with edited(node, **{flag: node.settings[flag].replace("https:", "http:")}) as process:
        assert url in {one.url for one in target(process).listeners if one.role is role}
        options = ("--pyargs", "pytest_etcdtls", f"--etcd-pid={process.pid}")
        ran = run(*options)
        assert ran.verdict.startswith("etcd TLS: NOT CLEAN: 1 fault (2 checks) ("), ran.out
        assert ": after a restart, http://" in " ".join(ran.out.split())
        ran = run(*options, "--etcd-rehearse")
    assert ran.verdict.startswith("etcd TLS: CLEAN NOW, NOT AFTER A RESTART: 1 fault (2 checks) ("), ran.out
    assert "1. restart.listeners (high)" in ran.out


def test_no_tls_at_all(node: Container) -> None:
    """What the file says would let everybody in, so the advice is not to start etcd with it."""
    flag = "listen-client-urls"
    keys = {flag: node.settings[flag].replace("https:", "http:"), "client_transport_security": None}
    with edited(node, **keys) as process:
        [found] = judged(target(process), CHECK)
    assert found.outcome is Outcome.VIOLATES
    assert all(one.remediation.startswith("write https:// in the declaration") for one in found.findings)


def test_both_ports(node: Container) -> None:
    """Whose port is whose is not known, so the user says so."""
    with edited(node, **elsewhere(node, Role.CLIENT), **elsewhere(node, Role.PEER)) as process:
        reasons = [one.reason for one in target(process).unreached]
    assert any(
        one.endswith("does not have now: pass --etcd-endpoint or --etcd-peer-endpoint") for one in reasons
    )


def test_no_client_authentication(node: Container, run: Runner) -> None:
    """What the next start changes is one fault, and that it is not in force now follows from it."""
    section = yaml.safe_load(node.configuration)["client-transport-security"]
    files = {name: value for name, value in section.items() if name in ("cert-file", "key-file")}
    with edited(node, client_transport_security=files) as process:
        ran = run("--pyargs", "pytest_etcdtls", f"--etcd-pid={process.pid}", "--etcd-rehearse")
    assert "1. restart.clients (critical)" in ran.out
    assert "config.client-auth-in-force (" not in ran.verdict
    assert ": 1 fault (" in ran.verdict


def test_a_comment(node: Container, run: Runner) -> None:
    with edited(node) as process:
        ran = run("--pyargs", "pytest_etcdtls", f"--etcd-pid={process.pid}", "--etcd-rehearse")
    assert ran.verdict.startswith("etcd TLS: CLEAN, ALSO AFTER A RESTART ("), ran.out
