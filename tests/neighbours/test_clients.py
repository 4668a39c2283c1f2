"""Each client behaves as ``tests/neighbours/README.md`` says, on every available etcd."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from shown_commands import section
from starting import start_process

from pytest_etcdtls import Cluster, ClusterConfig, Credentials, Observer
from pytest_etcdtls.etcd.sources import binary_version

PAGE = section("tests/neighbours/README.md", "Client libraries")
PROGRAM = Path(__file__).with_name("client_program.py")
REFUSED = (
    "none",
    "self-signed",
    "foreign-ca",
    "lookalike-ca",
    "intermediate-missing",
    "expired",
    "not-yet-valid",
    "server-auth-only",
    "revoked",
)
LIBRARIES = {
    "etcd3gw": ("etcd3gw.exceptions.ConnectionFailedError", ""),
    "etcd3-py": ("AttributeError", "'Client' object has no attribute 'server_version_sem'"),
    "etcd-sdk-python": ("pyetcd.exceptions.ConnectionFailedError", "etcd connection failed"),
    "etcd3": ("etcd3.exceptions.ConnectionFailedError", "etcd connection failed"),
}
"""Clients with TLS, and what a refused one raises: type and message."""

WITHOUT_TLS = {
    "aetcd": ("aetcd.exceptions.ConnectionFailedError", "Socket closed"),
    "etcd-client-py": (
        "etcd_client.InvalidArgsError",
        'HTTPS URLs are only supported with the feature "tls"',
    ),
}
PYTHON_ETCD3 = Path(sys.prefix) / "python-etcd3"
"""Where make installs etcd3: its package has the same name as that of etcd3-py."""

SETTINGS = {
    "etcd3": {"PYTHONPATH": str(PYTHON_ETCD3), "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python"},
}
"""Variables that a client needs."""

_IDENTITIES = {"all": REFUSED, "all but revoked": REFUSED[:-1]}
_ANYWHERE = ("onnection reset by peer", "roken pipe", "connection closed", "Socket closed")
# requests and gRPC take their trust from these, whatever a client is given.
ENVIRONMENT = {
    name: value
    for name, value in os.environ.items()
    if name not in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")
}


def reasons_on_page(client: str, identity: str, version: str) -> list[str]:
    """Return the alternatives of the page's cell; an etcd that it does not name is as the newest."""
    [table] = re.findall(r"^\| client \| identities \|.*\n\|[-|]+\n(?:\|.*\n)+", PAGE, re.MULTILINE)
    header, _, *rows = [
        [cell.strip() for cell in line.strip("|").split(" | ")] for line in table.splitlines()
    ]
    column = next((n for n, cell in enumerate(header) if version in cell.split(", ")), len(header) - 1)
    [cell] = [
        row[column]
        for row in rows
        if client in row[0].strip("| ").split(", ")
        and identity in _IDENTITIES.get(row[1], row[1].split(", "))
    ]
    return re.findall(r"`([^`]+)`", cell)


class Program:
    """A process in which one client library makes requests."""

    def __init__(self, client: str, cluster: Cluster, process: subprocess.Popen[str]) -> None:
        self._client = client
        self._member = cluster.members[0]
        self._process = process

    def with_files(self, certificate: Path | None, key: Path | None) -> dict[str, Any]:
        """Make a new client with that pair, put and get."""
        return self._ask(
            {
                "client": self._client,
                "url": self._member.client_url,
                "ca": str(self._member.file("server-ca.crt")),
                "cert": certificate and str(certificate),
                "key": key and str(key),
            }
        )

    def again(self) -> dict[str, Any]:
        """Put and get once more with the last client."""
        return self._ask({"again": True})

    def _ask(self, asked: Mapping[str, object]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer


@contextmanager
def program(client: str, cluster: Cluster, **environment: str) -> Iterator[Program]:
    with subprocess.Popen(
        [sys.executable, str(PROGRAM)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        encoding="utf-8",
        env={**ENVIRONMENT, **SETTINGS.get(client, {}), **environment},
    ) as process:
        yield Program(client, cluster, process)


@pytest.fixture(scope="module")
def cluster(etcd_binary: Path) -> Iterator[Cluster]:
    with start_process(ClusterConfig(client_crl_file="crl.der"), etcd_binary) as started:
        yield started


@pytest.fixture(scope="module")
def credentials(cluster: Cluster) -> Credentials:
    return Credentials(Observer(cluster.target()))


@pytest.fixture(scope="module")
def version(etcd_binary: Path) -> str:
    return binary_version(etcd_binary)


def files(credentials: Credentials, name: str) -> tuple[Path | None, Path | None]:
    return (None, None) if name == "none" else credentials[name].files()


@pytest.mark.parametrize("client", LIBRARIES)
def test_a_library_works_survives_a_rotation_and_reports_refusals_as_documented(
    client: str, cluster: Cluster, credentials: Credentials, version: str
) -> None:
    right = credentials["client"].files()
    with program(client, cluster) as run:
        assert run.with_files(*right) == {"value": "value 0"}
        for name in REFUSED:
            answer = run.with_files(*files(credentials, name))
            errors = answer["errors"]
            assert tuple(errors[0]) == LIBRARIES[client], name
            reasons = reasons_on_page(client, name, version)
            assert any(reason in errors[-1][1] for reason in (*reasons, *_ANYWHERE)), (
                name,
                errors,
                reasons,
            )
            warned = any("cannot detect etcd server version" in text for text in answer["warnings"])
            assert warned == (client == "etcd3-py")
        assert "value" in run.with_files(*right)
        cluster.rotate_server_certificate()
        assert "value" in run.again()
        assert "value" in run.with_files(*right)


@pytest.mark.parametrize("client", ["etcd3gw", "etcd3-py"])
def test_a_variable_of_requests_overrides_the_ca_of_the_client(
    client: str, cluster: Cluster, credentials: Credentials
) -> None:
    other = str(cluster.members[0].file("peer-ca.crt"))
    with program(client, cluster, REQUESTS_CA_BUNDLE=other) as run:
        errors = run.with_files(*credentials["client"].files())["errors"]
    assert any("certificate verify failed" in text for _, text in errors), errors


@pytest.mark.etcd_version("3.7.3")
def test_python_etcd3_needs_the_variable_of_the_page(cluster: Cluster, credentials: Credentials) -> None:
    assert "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION=python" in PAGE
    with program("etcd3", cluster, PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION="upb") as run:
        [(raised, text), *_] = run.with_files(*credentials["client"].files())["errors"]
    assert (raised, "Descriptors cannot be created directly" in text) == ("TypeError", True)


@pytest.mark.etcd_version("3.7.3")
@pytest.mark.parametrize("client", WITHOUT_TLS)
def test_a_library_without_tls_cannot_be_used(
    client: str, cluster: Cluster, credentials: Credentials
) -> None:
    kind, message = WITHOUT_TLS[client]
    with program(client, cluster) as run:
        [(raised, text), *_] = run.with_files(*credentials["client"].files())["errors"]
    assert raised == kind
    assert message in text
    assert message in PAGE


def test_etcdctl_works_and_reports_refusals_as_documented(
    cluster: Cluster, credentials: Credentials, version: str, etcd_binary: Path
) -> None:
    program = etcd_binary.with_name("etcdctl")
    if not program.exists():
        pytest.skip(f"needs {program}")

    def start(name: str, *arguments: str) -> subprocess.Popen[str]:
        environment = {**ENVIRONMENT, **credentials[name].environment()}
        return subprocess.Popen(
            [str(program), *arguments],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )

    def put_and_get() -> None:
        for arguments, answer in ((("put", "k", "v"), "OK\n"), (("get", "k", "--print-value-only"), "v\n")):
            patient = ("--dial-timeout=20s", "--command-timeout=20s")
            assert start("client", *patient, *arguments).communicate(timeout=60)[0] == answer

    put_and_get()
    cluster.rotate_server_certificate()
    put_and_get()
    # Each waits until its time is over, so all of them wait at once.
    started = {name: start(name, "--command-timeout=2s", "get", "k") for name in REFUSED}
    for name, process in started.items():
        _, error = process.communicate(timeout=60)
        assert process.returncode == 1, name
        assert error.splitlines()[-1] == "Error: context deadline exceeded"
        [reason] = re.findall(r"latest balancer error: (.*)", error)
        reasons = reasons_on_page("etcdctl", name, version)
        assert any(one in reason for one in (*reasons, *_ANYWHERE)), (name, reason, reasons)


def test_the_versions_on_the_page_are_tested() -> None:
    rows = re.findall(r"^\| ([\w-]+) \| (\d[\d.]+) \|", PAGE, re.MULTILINE)
    assert {name for name, _ in rows} == {*LIBRARIES, *WITHOUT_TLS}
    places = [str(PYTHON_ETCD3), *sys.path]
    installed = {
        distribution.name: distribution.version
        for distribution in importlib.metadata.distributions(path=places)
    }
    assert dict(rows).items() <= installed.items()


def test_the_example_of_the_page(tmp_path: Path, newest_etcd: Path) -> None:
    [code] = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    (tmp_path / "test_example.py").write_text(code, encoding="utf-8")
    ended = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "etcdtls",
            f"--etcd-binary={newest_etcd}",
            f"--rootdir={tmp_path}",
        ],
        cwd=tmp_path,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        timeout=200,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout
    assert "3 passed" in ended.stdout
