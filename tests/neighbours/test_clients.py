"""A client library works with mutual TLS, survives a rotation, and reports refusals as ``README.md`` says."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hostile.child_run import ChildRun
from shown_commands import section
from starting import start_process

from pytest_etcdtls import Cluster, ClusterConfig, Credentials, Observer

PAGE = section("tests/neighbours/README.md", "Client libraries")
REFUSED = ("none", "foreign-ca", "intermediate-missing", "expired", "server-auth-only", "revoked")
LIBRARIES = {
    "etcd3gw": ("etcd3gw", "Etcd3Client", {"protocol": "https"}, ""),
    "etcd-sdk-python": ("pyetcd", "client", {}, "etcd connection failed"),
}
"""Module, client and its options, and the message of a refusal."""

_CLOSED = (
    *("EOF", "onnection reset by peer", "roken pipe", "connection closed", "Socket closed"),
    "Remote end closed connection",
)
_SECONDS = 30


@pytest.fixture(autouse=True)
def _no_bundle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unset what requests and gRPC take their trust from, whatever a client is given."""
    for variable in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture(scope="module")
def cluster(etcd_binary: Path) -> Iterator[Cluster]:
    with start_process(ClusterConfig(client_crl_file="crl.der"), etcd_binary) as started:
        yield started


def innermost(error: BaseException) -> str:
    while cause := error.__cause__ or error.__context__:
        error = cause
    return str(error)


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_library_works_survives_a_rotation_and_reports_refusals_as_documented(
    library: str, cluster: Cluster
) -> None:
    name, make, options, message = LIBRARIES[library]
    module = pytest.importorskip(name)
    credentials = Credentials(Observer(cluster.target()))
    host, _, port = cluster.members[0].client_url.removeprefix("https://").rpartition(":")
    ca = str(cluster.members[0].file("server-ca.crt"))

    def connected(identity: str) -> Any:
        pair = [None, None] if identity == "none" else [*map(str, credentials[identity].files())]
        files = dict(zip(("ca_cert", "cert_cert", "cert_key"), (ca, *pair), strict=True))
        return getattr(module, make)(host, int(port), timeout=_SECONDS, **files, **options)

    def answers(client: Any, value: str) -> bool:
        client.put("neighbour", value)
        return bool(client.get("neighbour")[0].decode() == value)

    good = connected("client")
    assert answers(good, "before")
    for identity in REFUSED:
        with pytest.raises(module.exceptions.ConnectionFailedError) as refused:
            answers(connected(identity), identity)
        assert str(refused.value) == message
        reason = innermost(refused.value)
        assert any(word in reason.lower() for word in ("alert", "tsi_data_corrupted")) or any(
            word in reason for word in _CLOSED
        ), (identity, reason)
    cluster.rotate_server_certificate()
    assert answers(good, "after")
    assert answers(connected("client"), "again")


def test_the_page_names_the_tested_versions() -> None:
    rows = dict(re.findall(r"^\| ([\w-]+) \| (\d[\d.]+) \|", PAGE, re.MULTILINE))
    assert {name: rows[name] for name in LIBRARIES} == {
        name: importlib.metadata.version(name) for name in LIBRARIES
    }


def test_the_example_of_the_page(tmp_path: Path, newest_etcd: Path) -> None:
    [code] = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    (tmp_path / "test_example.py").write_text(code, encoding="utf-8")
    options = ["-p", "etcdtls", f"--etcd-binary={newest_etcd}", f"--rootdir={tmp_path}"]
    alone = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    ended = ChildRun(tmp_path, options, environment=alone, limit=False).end()
    assert ended.exit_code == 0, ended.output
    assert "3 passed" in ended.output
