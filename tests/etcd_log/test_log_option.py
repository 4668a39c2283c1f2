"""``--etcd-log`` on a command line: the members of a log, unusable files, and lines of other clients."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from given import Given
from plugin.runs import Ran, Runner
from starting import start_process

from etcd_log.conftest import Logged, logged
from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.role import Role
from pytest_etcdtls.settings.endpoints import parse_endpoint
from pytest_etcdtls.settings.read import read_logs

SHAPE = Path(__file__).parent / "shapes" / "3.7-json.log"
LISTENERS = [
    parse_endpoint("etcd_endpoint", f"https://{host}:2379", Role.CLIENT) for host in ("10.0.0.1", "[fd00::2]")
]


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A directory with logs in it."""
    for name in ("a.log", "b.log", "odd=name.log"):
        (tmp_path / name).write_text(SHAPE.read_text(encoding="utf-8"), encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("values", "logs"),
    [
        ([], {}),
        (["a.log"], {"": "a.log"}),
        (["a.log", "a.log"], {"": "a.log"}),
        (["odd=name.log"], {"": "odd=name.log"}),
        (["10.0.0.1=a.log"], {"10.0.0.1": "a.log"}),
        (["10.0.0.1=a.log", "[FD00::2]=b.log"], {"10.0.0.1": "a.log", "fd00::2": "b.log"}),
        (["10.0.0.1=odd=name.log"], {"10.0.0.1": "odd=name.log"}),
    ],
    ids=" ".join,
)
def test_members_of_a_log(files: Path, values: list[str], logs: dict[str, str]) -> None:
    found = read_logs(Given(files, etcd_log=values), LISTENERS)
    assert {host: Path(log.name).name for host, log in found.items()} == logs


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("pods", "pods/kube-system_etcd-m0_uid-2/etcd/1.log"),
        ("pods/kube-system_etcd-*/etcd/*.log", "pods/kube-system_etcd-m0_uid-2/etcd/1.log"),
        ("pods/kube-system_etcd-m0_uid-1", "pods/kube-system_etcd-m0_uid-1/etcd/0.log"),
        (".", "b.log"),
        ("10.0.0.1=[a-b].log", "b.log"),
    ],
)
def test_the_newest_log_of_a_directory_or_a_glob(files: Path, value: str, found: str) -> None:
    pods = [files / "pods" / f"kube-system_etcd-m0_uid-{one}" / "etcd" for one in (1, 2)]
    for number, (directory, name) in enumerate([(pods[0], "0.log"), (pods[1], "0.log"), (pods[1], "1.log")]):
        directory.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(SHAPE.read_text(encoding="utf-8"), encoding="utf-8")
        os.utime(directory / name, (number, number))
    os.utime(files / "a.log", (1, 1))
    os.utime(files / "odd=name.log", (1, 1))
    [log] = read_logs(Given(files, etcd_log=[value]), LISTENERS).values()
    assert log.name == str(files / found)


def test_logs_of_hosts_not_yet_discovered(files: Path) -> None:
    assert set(read_logs(Given(files, etcd_log=["10.0.0.9=a.log"]), LISTENERS, may_grow=True)) == {"10.0.0.9"}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (["10.0.0.9=a.log"], "matches no listener given: their hosts are 10.0.0.1, fd00::2"),
        (["a.log", "b.log"], "'a.log' and 'b.log' both claim every member: name the host of each"),
        (["a.log", "10.0.0.1=b.log"], "both claim 10.0.0.1"),
        (["10.0.0.1=a.log", "10.0.0.1=b.log"], "both claim 10.0.0.1"),
        (["gone.log"], "gone.log does not exist"),
        (["empty.log"], "is empty"),
        (["words.log"], "is no log of etcd"),
        (["binary.log"], "is binary"),
        (["/dev/null"], "is no regular file"),
        (["pipe"], "is no regular file but a named pipe: write the content to a file"),
        (["empty"], "--etcd-log"),
        (["*.txt"], "--etcd-log"),
    ],
    ids=str,
)
def test_logs_that_cannot_be_used(files: Path, values: list[str], said: str) -> None:
    (files / "empty.log").touch()
    (files / "empty").mkdir()
    os.mkfifo(files / "pipe")
    (files / "words.log").write_text("hello\n", encoding="utf-8")
    (files / "binary.log").write_bytes(b"\x7fELF\0\0\0")
    with pytest.raises(UsageError, match=re.escape(said)) as caught:
        read_logs(Given(files, etcd_log=values), LISTENERS)
    assert str(caught.value).startswith("--etcd-log")


def _summary(ran: Ran) -> str:
    return " ".join(ran.out.partition("= etcd TLS conformance =")[2].split())


def _make_rejected(etcd: Logged) -> None:
    """Connect without a certificate, twice, and once in plaintext HTTP/2 to the port of the peers."""
    authority = etcd.live.client.removeprefix("https://")
    for _ in range(2):
        subprocess.run(
            ["openssl", "s_client", "-connect", authority], input=b"Q\n", capture_output=True, check=False
        )
    plain = etcd.live.peer.replace("https", "http")
    subprocess.run(["curl", "-s", "--http2-prior-knowledge", plain], capture_output=True, check=False)


@pytest.mark.etcd_version("3.5.1", "3.7")
@pytest.mark.program("openssl", "curl")
def test_other_clients_are_explained(run: Runner, etcd_binary: Path) -> None:
    with start_process(ClusterConfig(), etcd_binary) as cluster:
        client, peer = ("", "") if cluster.version == "3.5.1" else ("client", "peer")
        etcd = logged(cluster)
        _make_rejected(etcd)
        ran = run(*etcd.live.options, f"--etcd-log={etcd.file}", "--etcd-check=mtls,listener,tls")
        lines = etcd.file.read_text(encoding="utf-8").splitlines()
    assert ran.exit_code == 0
    assert f"live: log of every member: {etcd.file}" in " ".join(ran.out.split())
    text = _summary(ran)
    assert re.search(
        rf"etcd's log {etcd.file} \(127\.0\.0\.1\): \d+ rejected connections are ours, 3 are not", text
    )
    where = f" on the {client} endpoint" if client else ""
    assert re.search(
        rf"127\.0\.0\.1, 2 times{where}(, since .*)?, last at .* UTC \(line \d+\): no client cert", text
    )
    assert (
        "A client connected with TLS and presented no certificate. Give it a certificate of the trusted CA"
        in text
    )
    assert re.search(r"127\.0\.0\.1, once.*, last at .*: plaintext on a TLS port", text)
    assert "The first bytes were not TLS" in text
    [logs] = [found for found in ran.report["observations"] if found["kind"] == "etcd-logs"]
    [log] = logs["logs"]
    assert [(other["host"], other["endpoint"], other["count"]) for other in log["others"]] == [
        ("127.0.0.1", client, 2),
        ("127.0.0.1", peer, 1),
    ]
    assert log["others"][1]["example"] == "tls: first record does not look like a TLS handshake"
    for other in log["others"]:
        assert "rejected connection" in lines[other["line"] - 1]


def test_without_a_log_the_operator_learns_what_lines_to_find(run: Runner, etcd: Logged) -> None:
    text = _summary(run(*etcd.live.options, "--etcd-check=mtls", "-v"))
    pattern = r"""Expect up to (\d+) "rejected connection" lines from this run in etcd's log \(127\."""
    shown = re.search(pattern, text)
    assert shown
    assert int(shown[1]) > 20
    assert "--etcd-log tells them from those of other clients" in text
