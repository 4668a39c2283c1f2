"""A file from somebody else does not make the run send a password to a server that the file chooses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from hostile.child_run import ChildRun
from starting import start_process

from pytest_etcdtls.etcd.cluster import Cluster
from pytest_etcdtls.etcd.config import ClusterConfig

SECRET = "s.hunter2-of-the-victim"
AS_ROOT = ("--etcd-user=root", "--etcd-password-file=home/.vault-token")
CA, OUR_CA = {"cacert": "{files}/server-ca.crt"}, "--etcd-cacert={files}/server-ca.crt"
OURS = ("--etcd-cert={files}/client.crt", "--etcd-key={files}/client.key")
LIST, STDIN = ("--etcd-clusters=colleague/clusters.toml",), ("--etcd-clusters=-",)
DECLARATION = ("--etcd-config=colleague/etcd.env", *OURS)
DIRECTORY = ("--etcd-endpoint={url}", "--etcd-pki-dir=pki", *OURS)
ENVIRONMENT = f"root:{SECRET}"

pytestmark = pytest.mark.whole


class Case(NamedTuple):
    """A run, and whether it sends the password.

    Attributes:
        options: what names the server, and what else is given.
        listed: the list's values.
        user: of the variable ETCDCTL_USER.
        sent: whether a password is sent; ``None`` if the run is refused before any connection.
        says: what is said.
    """

    options: tuple[str, ...]
    listed: dict[str, str] | None = None
    user: str = ""
    sent: bool | None = False
    says: str = ""


def _from(file: str) -> dict[str, str]:
    return {**CA, "user": "root", "password-file": file}


ELSEWHERE = ("../home/.vault-token", "{home}/home/.vault-token", "link")
TRUSTED = "--etcd-clusters-trusted"
CASES = [
    *(Case(LIST, _from(file), sent=None, says="outside the directory of the list") for file in ELSEWHERE),
    *(Case((*LIST, TRUSTED), _from(file), sent=True) for file in ELSEWHERE),
    Case(LIST, _from("password"), sent=True),
    # The working directory is the operator's, not that of the program that wrote the list.
    Case(STDIN, _from("home/.vault-token"), sent=None, says="named by a list without a directory"),
    Case((*STDIN, TRUSTED), _from("home/.vault-token"), sent=True),
    Case((*LIST, *AS_ROOT), CA, says="no password was sent: that of the etcd user is from the command line"),
    Case(LIST, CA, ENVIRONMENT),
    Case(
        (*LIST, OUR_CA),
        {"user": "root", "password-file": "password"},
        says="no password was sent: that of the etcd user is from --etcd-clusters",
    ),
    Case((*LIST, OUR_CA, *AS_ROOT), {}, sent=True),
    Case((*DECLARATION, *AS_ROOT), says="the CA that verifies the server is from"),
    Case(DECLARATION, user=ENVIRONMENT),
    Case((*DECLARATION, *AS_ROOT, OUR_CA), sent=True),
    Case((*DIRECTORY, *AS_ROOT), sent=True),
]


@pytest.fixture(scope="module")
def server(newest_etcd: Path) -> Iterator[Cluster]:
    """An etcd with authentication: the server of somebody else."""
    with start_process(ClusterConfig(authentication=True), newest_etcd) as cluster:
        yield cluster


@pytest.mark.parametrize("case", CASES)
def test_whose_password_is_sent(server: Cluster, tmp_path: Path, case: Case) -> None:
    """That it was sent shows in etcd's answer: it is not the password of the user."""
    files, url = server.pki_directory, server.members[0].client_url
    colleague = tmp_path / "colleague"
    for directory in ("home", "colleague", "pki"):
        (tmp_path / directory).mkdir()
    (tmp_path / "home" / ".vault-token").write_text(f"{SECRET}\n", encoding="utf-8")
    (tmp_path / "pki" / "ca.crt").write_bytes((files / "server-ca.crt").read_bytes())
    (colleague / "password").write_text(f"{SECRET}\n", encoding="utf-8")
    (colleague / "link").symlink_to("../home/.vault-token")
    (colleague / "etcd.env").write_text(
        f"ETCD_LISTEN_CLIENT_URLS={url}\nETCD_ADVERTISE_CLIENT_URLS={url}\nETCD_CLIENT_CERT_AUTH=true\n"
        f"ETCD_CERT_FILE={server.members[0].file('server.crt')}\n"
        f"ETCD_KEY_FILE={server.members[0].file('server.key')}\n"
        f"ETCD_TRUSTED_CA_FILE={files / 'client-ca.crt'}\nETCDCTL_CACERT={files / 'server-ca.crt'}\n",
        encoding="utf-8",
    )
    entry = {"label": "theirs", "endpoints": url, "cert": "{files}/client.crt", "key": "{files}/client.key"}
    given = {
        name: value.format(files=files, home=tmp_path)
        for name, value in (entry | (case.listed or {})).items()
    }
    lines = [f"{name} = {json.dumps(value)}\n" for name, value in given.items()]
    listed = colleague / "clusters.toml"
    listed.write_text("[[cluster]]\n" + "".join(lines), encoding="utf-8")
    report = "reports/" if case.listed is not None else "report.json"
    with listed.open(encoding="utf-8") as file:
        ended = ChildRun(
            tmp_path,
            [
                *("--pyargs", "pytest_etcdtls", "--etcd-timeout=30", f"--etcd-report={report}", "-rs"),
                *("--etcd-check=api.grpc-range,mtls.trusted-client",),
                *(option.format(files=files, url=url) for option in case.options),
            ],
            environment={"ETCDCTL_USER": case.user} if case.user else {},
            stdin=file.fileno(),
        ).end()
    written = [*tmp_path.glob("report*/*.json"), *tmp_path.glob("report.json")]
    text = "\n".join([ended.output, *(path.read_text(encoding="utf-8") for path in written)])
    assert SECRET not in text
    assert (ended.exit_code == 4) == (case.sent is None), text
    assert ("etcd refuses the user root with this password" in text) == bool(case.sent), text
    assert case.says in text
