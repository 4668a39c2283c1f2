"""``--etcd-rehearse``: what the next restart changes, on real etcds."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest
import yaml
from kubeadm.judging import found, judged
from kubeadm.nodes import PKI, Node, changed, running
from plugin.runs import Runner, run
from starting import running_etcd, stop

from process.containers import (
    Container,
    address_of_worker,
    as_root,
    assert_nothing_changes,
    await_age,
    container,
    process_of,
    rehearsed,
    target,
    unverified,
    wrong,
)
from process.containers import in_each_network as prefix
from pytest_etcdtls.checks.results import Outcome
from pytest_etcdtls.declared.running import Process, find_process
from pytest_etcdtls.errors import EtcdFailedError, UsageError
from pytest_etcdtls.facts.access import AcceptedClient
from pytest_etcdtls.pki.authority import CertificateAuthority
from pytest_etcdtls.pki.bundle import encode_certificates
from pytest_etcdtls.pki.profile import AUTHORITY, OtherExtension
from pytest_etcdtls.run import rehearsal
from pytest_etcdtls.run.observer import Observer
from pytest_etcdtls.target import Bounds, Listener, Target

__all__ = ["prefix", "run"]

pytestmark = as_root

ADDRESS = "127.0.0.46"
T = TypeVar("T")
OTHER_CA = encode_certificates([CertificateAuthority.create("other").certificate])


@contextmanager
def file_changed(path: Path, content: bytes | None) -> Iterator[None]:
    """Give a file another content, or remove it, and restore it."""
    before = path.read_bytes()
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    try:
        yield
    finally:
        path.write_bytes(before)


def test_nothing_changes(node: Container, process: Process) -> None:
    assert_nothing_changes(target(process))


def test_what_was_not_observed_is_not_compared(process: Process) -> None:
    """Without the checks that observe it, nothing is known of a client: that is no clean restart."""
    results = rehearsed(target(process), "restart")
    verified = {check for check, one in results.items() if one.outcome is Outcome.CONFORMS}
    assert verified == {"restart.starts", "restart.listeners"}
    assert results["restart.clients"].outcome is Outcome.NOT_VERIFIED


class StoppedInTheMiddle(Observer):
    """Stops the rehearsed etcd as soon as it has accepted the good client, and waits for it a second."""

    def __init__(self, target: Target, bounds: Bounds) -> None:
        super().__init__(target, replace(bounds, timeout=1.0))

    def get(self, type_: type[T], key: str | None = None, listener: Listener | None = None) -> T:
        made = super().get(type_, key, listener)
        if type_ is AcceptedClient and listener is not None:
            assert listener.process is not None
            stop(listener.process)
        return made


def test_what_is_not_observed_again_is_not_verified(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing differs of what was observed, and that is no clean restart."""
    monkeypatch.setattr(rehearsal, "Observer", StoppedInTheMiddle)
    results = rehearsed(target(process))
    assert not wrong(results)
    verified = {check for check, one in results.items() if one.outcome is Outcome.CONFORMS}
    assert {"restart.starts", "restart.listeners"} <= verified
    unverified = [one.reason for one in results.values() if one.outcome is Outcome.NOT_VERIFIED]
    assert unverified
    assert all(re.match("after a restart, .*: observed -> not observed: ", reason) for reason in unverified)


def _ca(node: Container) -> Path:
    return node.node.pki / "etcd" / "ca.crt"


@pytest.mark.kills("restart.clients", "restart.announced-ca")
def test_a_renewed_bundle_waits_for_the_restart(node: Container, process: Process) -> None:
    """Who is accepted now is refused then, and the file that does it is named."""
    live = target(process)
    await_age(process)
    with file_changed(_ca(node), OTHER_CA):
        found = wrong(rehearsed(live))
    assert sorted(found) == ["restart.announced-ca", "restart.clients"]
    assert any(
        "healthcheck-client" in text and "accepted -> refused" in text for text in found["restart.clients"]
    )
    assert all("/etc/kubernetes/pki/etcd/ca.crt was changed at" in text for text in found["restart.clients"])


def test_a_bundle_that_the_model_does_not_judge(node: Container, process: Process) -> None:
    """Whether Go reads it is not known without an etcd that starts with it."""
    constraints = OtherExtension("2.5.29.36", bytes.fromhex("3003800100"))
    ca = CertificateAuthority.create("ca", profile=replace(AUTHORITY, other_extensions=(constraints,)))
    live = target(process)
    with file_changed(_ca(node), _ca(node).read_bytes() + encode_certificates([ca.certificate])):
        [predicted] = judged(live, "config.trusted-ca-usable")
        [rehearsed_too] = judged(replace(live, rehearses=True), "config.trusted-ca-usable")
    assert predicted.outcome is Outcome.INCONCLUSIVE
    assert rehearsed_too.outcome is Outcome.CONFORMS, rehearsed_too


def test_a_ca_that_is_made_again_under_its_name(newest_etcd: Path, tmp_path: Path) -> None:
    """It is announced as before, so without a client of it nothing is known of its clients."""
    old, new = (encode_certificates([CertificateAuthority.create("ca").certificate]) for _ in "12")
    with container(tmp_path, newest_etcd, "127.0.0.48") as made:
        bundle = made.node.pki / "etcd" / "clients.crt"
        bundle.write_bytes(old)
        process = replace(made, added={"trusted-ca-file": "/etc/kubernetes/pki/etcd/clients.crt"}).start()
        await_age(process)
        before = rehearsed(target(process))
        unverified = [name for name, one in before.items() if one.outcome is not Outcome.CONFORMS]
        assert unverified == ["restart.gateway"]  # which no client asks
        bundle.write_bytes(new)
        results = rehearsed(target(process))
    assert not wrong(results)
    assert results["restart.clients"].outcome is Outcome.NOT_VERIFIED
    assert "clients of /etc/kubernetes/pki/etcd/clients.crt: changed at " in results["restart.clients"].reason


@pytest.mark.parametrize("is_edited", [True, False])
def test_a_port_that_another_process_holds(etcd_binary: Path, tmp_path: Path, is_edited: bool) -> None:
    """The configuration file names it since the start: it is another one's now, and etcd will not start."""
    address, file = address_of_worker(57), tmp_path / "etcd.yml"
    client, peer = f"http://{address}:2379", f"http://{address}:2380"
    keys = {
        "data-dir": str(tmp_path / "data"),
        **dict.fromkeys(("listen-client-urls", "advertise-client-urls"), client),
        **dict.fromkeys(("listen-peer-urls", "initial-advertise-peer-urls"), peer),
        "initial-cluster": f"default={peer}",
    }
    file.write_text(yaml.safe_dump(keys))
    command = (etcd_binary, f"--config-file={file}")
    with running_etcd(command, tmp_path / "log") as etcd, socket.create_server((address, 0)) as other:
        assert etcd.serves()
        process, url = find_process(etcd.process.pid), f"http://{address}:{other.getsockname()[1]}"
        if is_edited:
            await_age(process)
            file.write_text(yaml.safe_dump({**keys, "listen-client-urls": url}))
        live = target(process)
        results = rehearsed(live, "listener", "restart")
    held = f"process {os.getpid()} ({os.readlink('/proc/self/exe')}) listens on {url.removeprefix('http://')}"
    reasons = [one.reason for one in live.unreached]
    if not is_edited:
        assert not reasons
        assert not wrong(results)
        return
    advice = "correct the URL, or end the other process and restart etcd"
    assert f"{process.name} declares {url}, and does not listen there: {held}; {advice}" in reasons
    [message] = wrong(results)["restart.starts"]
    why = f"it cannot listen on {url}, since {held} (address already in use)"
    assert message.startswith(f"after a restart etcd does not start: {why}; {file} was changed at ")


def test_the_program_is_gone(node: Container, process: Process) -> None:
    live = target(process)
    program = node.node.root / "etcd"
    old = program.rename(program.with_name("etcd.old"))
    try:
        found = wrong(rehearsed(live))
    finally:
        old.rename(program)
    assert found["restart.starts"][0].startswith(
        "after a restart etcd does not start: it ends with status 127: /etcd cannot be executed: No such file"
    )


@pytest.mark.kills("restart.listeners", "restart.certificate", "restart.protocol", "restart.starts")
@pytest.mark.parametrize(
    ("changes", "check", "text"),
    [
        ({"listen-metrics-urls": "http://127.0.0.1:29999"}, "restart.listeners", "http://127.0.0.1:29999"),
        (
            {"cert-file": f"{PKI}/etcd/peer.crt", "key-file": f"{PKI}/etcd/peer.key"},
            *("restart.certificate", "client-"),
        ),
        ({"listen-client-urls": "http://127.0.0.1:{client}"}, "restart.listeners", " -> http://"),
        # etcd 3.5.1 accepts no URL of a socket with a path, and has no such flag.
        pytest.param(
            {"listen-client-urls": "https://127.0.0.1:{client},unixs:///var/lib/etcd/client.sock"},
            *("restart.listeners", "socket /var/lib/etcd/client.sock: not open -> unixs:///var/lib/etcd/"),
            marks=pytest.mark.etcd_version("3.5.33", "3.6", "3.7"),
        ),
        pytest.param(
            *({"tls-min-version": "TLS1.3"}, "restart.protocol", "TLS 1.2"),
            marks=pytest.mark.etcd_version("3.5.33", "3.6", "3.7"),
        ),
        ({"client-cert-auth": "false", "trusted-ca-file": None}, "restart.clients", "none"),
        ({"trusted-ca-file": "/etc/kubernetes/pki/absent.crt"}, "restart.starts", "absent.crt"),
        ({"no-such-flag": "1"}, "restart.starts", "not defined"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
def test_an_edited_manifest(
    changes: dict[str, str | None],
    check: str,
    text: str,
    node: Container,
    process: Process,
    tmp_path: Path,
) -> None:
    """The declared settings are rehearsed after those of the process, and named as the cause."""
    manifest = tmp_path / "etcd.yaml"
    filled = {name: value and value.format(client=node.node.client) for name, value in changes.items()}
    manifest.write_text(changed(node.node.text, filled), encoding="utf-8")
    results = rehearsed(target(process, etcd_config=manifest))
    found = wrong(results)
    assert check in found, [result.reason for result in results.values()]
    assert text in "\n".join(found[check])
    let_in = [finding for finding in results["restart.clients"].findings if finding.observed == "accepted"]
    assert bool(let_in) == (text == "none")
    assert all(finding.remediation.startswith("undo the change") for finding in let_in)
    if "no-such-flag" not in changes:
        assert f"{manifest}:" in found[check][0]


def test_a_value_that_is_not_in_the_manifest(node: Container, process: Process, tmp_path: Path) -> None:
    """The process has it, so its start is declared as a whole."""
    document = yaml.safe_load(changed(node.node.text, {"name": "$(POD_IP)"}))
    field = {"fieldRef": {"fieldPath": "status.podIP"}}
    document["spec"]["containers"][0]["env"] = [{"name": "POD_IP", "valueFrom": field}]
    manifest = tmp_path / "etcd.yaml"
    manifest.write_text(yaml.safe_dump(document), encoding="utf-8")
    assert_nothing_changes(target(process, etcd_config=manifest))


@pytest.mark.parametrize("output", ["systemd/journal", "/dev/stderr"])
@pytest.mark.parametrize("by_file", [False, True], ids=["flag", "file"])
def test_a_log_that_is_not_on_the_stage(
    output: str, by_file: bool, newest_etcd: Path, tmp_path: Path
) -> None:
    """There is no journal, and no /dev/stderr: it is no reason not to start."""
    with container(tmp_path / "node", newest_etcd, "127.0.0.48") as made:
        process = made.start(by_file=by_file)
        declared = tmp_path / "declared.yaml"
        if by_file:
            document = yaml.safe_load(made.configuration) | {"log-outputs": [output]}
            declared.write_text(yaml.safe_dump(document), encoding="utf-8")
        else:
            declared.write_text(changed(made.node.text, {"log-outputs": output}), encoding="utf-8")
        assert_nothing_changes(target(process, etcd_config=declared))


def test_the_program_of_another_image(node: Container, process: Process, tmp_path: Path) -> None:
    """It is not in the container that runs, so it is not known what it negotiates, nor whether it starts."""
    manifest = tmp_path / "etcd.yaml"
    text = re.sub(r"(image: \S+:)\S+", r"\g<1>3.5.0-0", node.node.text)
    manifest.write_text(text, encoding="utf-8")
    results = rehearsed(target(process, etcd_config=manifest))
    assert not wrong(results)
    [reason] = [one.reason for one in results.values() if one.outcome is not Outcome.CONFORMS]
    assert reason.startswith(
        f"after a restart, image registry.k8s.io/etcd:3.5.0-0: {manifest} -> not observed: "
    )
    manifest.write_text(changed(text, {"no-such-flag": "1"}), encoding="utf-8")
    reason = unverified(rehearsed(target(process, etcd_config=manifest)))
    assert f"{manifest} declares another image, and its etcd 3.5.0 is not on this machine" in reason


def test_a_program_that_was_replaced_by_another_release(
    etcd_binaries: dict[str, Path], tmp_path: Path, run: Runner
) -> None:
    """What is at its path is started, and the run names both."""
    if len(etcd_binaries) < 2:
        pytest.skip("needs two releases of etcd")
    (before, program), (after, replacement) = list(etcd_binaries.items())[-2:]
    with container(tmp_path / "node", program, "127.0.0.48") as node:
        process = node.start()
        shutil.copy(replacement, tmp_path / "new")
        (tmp_path / "new").rename(node.node.root / "etcd")
        ran = run("--pyargs", "pytest_etcdtls", f"--etcd-pid={process.pid}", "--etcd-rehearse")
    said = f"etcd {before} runs, and etcd {after} is started next, from /etcd"
    assert said in " ".join(ran.out.split())


MOUNTED = ("unshare", "--mount", "sh", "-c", '/bin/mount --bind "$0" "$1" && shift && exec "$@"')


def test_a_mounted_file_that_was_replaced(newest_etcd: Path, tmp_path: Path) -> None:
    """A container that runs keeps the file; one that is started again gets the other."""
    mounted = tmp_path / "ca.crt"
    inside = tmp_path / "node/cp1/etc/kubernetes/pki/etcd/ca.crt"
    with container(
        tmp_path / "node", newest_etcd, "127.0.0.48", (*MOUNTED, str(mounted), str(inside))
    ) as node:
        assert inside == _ca(node)
        mounted.write_bytes(inside.read_bytes())
        process = node.start()
        assert_nothing_changes(target(process))
        (tmp_path / "new").write_bytes(OTHER_CA)
        (tmp_path / "new").rename(mounted)
        reason = unverified(rehearsed(target(process)))
    assert f"ca.crt is mounted by itself, and {mounted} was replaced: " in reason


CHANGES: dict[str, Callable[[Node], tuple[Path, bytes | None]]] = {
    "another-ca": lambda node: (node.pki / "etcd/ca.crt", OTHER_CA),
    "no-ca": lambda node: (node.pki / "etcd/ca.crt", None),
    "empty-bundle": lambda node: (node.pki / "etcd/ca.crt", b""),
    "another-key": lambda node: (node.pki / "etcd/server.key", (node.pki / "etcd/peer.key").read_bytes()),
    "no-peer-certificate": lambda node: (node.pki / "etcd/peer.crt", None),
    "a-line": lambda node: (node.pki / "etcd/ca.crt", (node.pki / "etcd/ca.crt").read_bytes() + b"\n"),
}


def _foretold(process: Process, change: tuple[Path, bytes | None], restart: Callable[[], Process]) -> None:
    """Rehearse a change, and compare with what a restart really does to the healthcheck client."""
    live = target(process)
    assert not found(judged(live, "mtls.trusted-client"))  # so it has read all of its files
    with file_changed(*change):
        results = rehearsed(live, "listener", "mtls.trusted-client", "restart")
        really = set()
        try:
            restarted = judged(target(restart()), "mtls.trusted-client")
        except (EtcdFailedError, UsageError):  # it ends before or after it says that it serves
            really = {"restart.starts"}
        else:
            if any(one.outcome is Outcome.VIOLATES for one in restarted):
                really = {"restart.clients"}
    reasons = {result.reason for result in results.values()}
    assert set(wrong(results)) & {"restart.starts", "restart.clients"} == really, reasons


@pytest.mark.parametrize("name", CHANGES)
def test_what_is_rehearsed_is_what_a_restart_does(name: str, etcd_binary: Path, tmp_path: Path) -> None:
    with running(tmp_path, etcd_binary, ["127.0.0.47"]) as cluster:
        [node] = cluster.nodes

        def process() -> Process:
            return process_of(cluster._processes[node.name])

        def restart() -> Process:
            cluster.stop()
            cluster.start()
            return process()

        _foretold(process(), CHANGES[name](node), restart)


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("form", ["by_variables", "by_file"])
def test_however_the_settings_are_given(name: str, form: str, newest_etcd: Path, tmp_path: Path) -> None:
    with container(tmp_path, newest_etcd, "127.0.0.47") as node:

        def restart() -> Process:
            node.stop()
            return node.start(**{form: True})

        _foretold(restart(), CHANGES[name](node.node), restart)


def test_the_last_line(node: Container, process: Process, run: Runner) -> None:
    """A clean run says so of the restart, and one with faults of the restart alone says when."""
    words = ("--pyargs", "pytest_etcdtls", f"--etcd-pid={process.pid}", "--etcd-rehearse")
    ran = run(*words)
    assert ran.exit_code == 0, ran.out
    assert ran.verdict.startswith("etcd TLS: CLEAN, ALSO AFTER A RESTART (cp1: ")
    assert "rehearsed: a restart changes nothing, and none is needed for what is on disk" in " ".join(
        ran.out.split()
    )
    with file_changed(_ca(node), _ca(node).read_bytes() + OTHER_CA):
        ran = run(*words)
    assert ran.exit_code == 1
    assert ran.verdict.startswith("etcd TLS: CLEAN NOW, NOT AFTER A RESTART: 1 fault (4 checks) (cp1: "), (
        ran.out
    )
    [observed] = [
        observation for observation in ran.report["observations"] if observation["kind"] == "rehearsals"
    ]
    changes = json.dumps([member["changes"] for member in observed["members"]])
    assert (changes.count("announced CAs"), changes.count("; CN=other")) == (1, 1)
    ran = run(*words, "--etcd-plan", report=False)
    assert (
        "its next restart, rehearsed: its program is started once more, with every mount read-only" in ran.out
    )
    ran = run(
        "--pyargs", "pytest_etcdtls", "--etcd-endpoint=https://127.0.0.1:1", "--etcd-rehearse", report=False
    )
    assert ran.exit_code == 4
    assert "--etcd-rehearse starts the program of a running etcd once more" in ran.out + ran.err
