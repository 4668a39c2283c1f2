"""A file from somebody else does not make the run send a password to a server that the file chooses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hostile.child_run import ChildRun
from starting import start_process

from pytest_etcdtls.etcd.cluster import Cluster
from pytest_etcdtls.etcd.config import ClusterConfig

SECRET = "s.hunter2-of-the-victim"
CHECKS = "--etcd-check=api.grpc-range,mtls.trusted-client"
AS_ROOT = ("--etcd-user=root", "--etcd-password-file=home/.vault-token")

pytestmark = pytest.mark.whole


@pytest.fixture(scope="module")
def server(newest_etcd: Path) -> Iterator[Cluster]:
    """An etcd with authentication: the server of somebody else."""
    with start_process(ClusterConfig(authentication=True), newest_etcd) as cluster:
        yield cluster


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The operator's directory, with a secret and with files from a colleague beside it."""
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / ".vault-token").write_text(f"{SECRET}\n", encoding="utf-8")
    (tmp_path / "colleague").mkdir()
    return tmp_path


def _entry(server: Cluster, **values: str) -> str:
    files = server.pki_directory
    given = {
        "label": "theirs",
        "endpoints": server.members[0].client_url,
        "cert": str(files / "client.crt"),
        "key": str(files / "client.key"),
        **values,
    }
    return "[[cluster]]\n" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in given.items())


def _sent(directory: Path, *options: str, user: str = "", stdin: str = "") -> tuple[int, bool, str]:
    """Return the exit code, whether a password was sent, and the output.

    That it was sent shows in etcd's answer: it is not the password of the user.
    """
    reports = directory / "reports"
    shutil.rmtree(reports, ignore_errors=True)
    of_list = any(option.startswith("--etcd-clusters=") for option in options)
    report = f"{reports}/" if of_list else directory / "report.json"
    (directory / "report.json").unlink(missing_ok=True)
    (directory / "stdin").write_text(stdin, encoding="utf-8")
    with (directory / "stdin").open(encoding="utf-8") as file:
        ended = ChildRun(
            directory,
            [
                "--pyargs",
                "pytest_etcdtls",
                "--etcd-timeout=30",
                CHECKS,
                f"--etcd-report={report}",
                "-rs",
                *options,
            ],
            environment={"ETCDCTL_USER": user} if user else {},
            stdin=file.fileno(),
        ).end()
    assert SECRET not in ended.output
    written = [*reports.glob("*.json"), *directory.glob("report.json")]
    text = "\n".join([ended.output, *(path.read_text(encoding="utf-8") for path in written)])
    assert SECRET not in text
    return ended.exit_code, "etcd refuses the user root with this password" in text, text


def _judge_list(directory: Path, text: str, *options: str, user: str = "") -> tuple[int, bool, str]:
    (directory / "colleague" / "clusters.toml").write_text(text, encoding="utf-8")
    return _sent(directory, "--etcd-clusters=colleague/clusters.toml", *options, user=user)


def test_a_list_names_a_password_file_of_somebody_else(server: Cluster, home: Path) -> None:
    theirs = {"user": "root", "cacert": str(server.pki_directory / "server-ca.crt")}
    (home / "colleague" / "password").symlink_to("../home/.vault-token")
    for file in ("../home/.vault-token", str(home / "home" / ".vault-token"), "password"):
        text = _entry(server, **theirs, **{"password-file": file})
        code, sent, output = _judge_list(home, text)
        assert (code, sent) == (4, False), output
        assert "outside the directory of the list" in output
        _, sent, output = _judge_list(home, text, "--etcd-clusters-trusted")
        assert sent, output
    (home / "colleague" / "password").unlink()
    (home / "colleague" / "password").write_text(f"{SECRET}\n", encoding="utf-8")
    _, sent, output = _judge_list(home, _entry(server, **theirs, **{"password-file": "password"}))
    assert sent, output


def test_a_list_on_standard_input_has_no_directory(server: Cluster, home: Path) -> None:
    """The working directory is the operator's, not that of the program that wrote the list."""
    theirs = {"user": "root", "cacert": str(server.pki_directory / "server-ca.crt")}
    text = _entry(server, **theirs, **{"password-file": "home/.vault-token"})
    code, sent, output = _sent(home, "--etcd-clusters=-", stdin=text)
    assert (code, sent) == (4, False), output
    assert "named by a list without a directory" in output
    _, sent, output = _sent(home, "--etcd-clusters=-", "--etcd-clusters-trusted", stdin=text)
    assert sent, output


def test_a_list_does_not_get_the_password_of_the_run(server: Cluster, home: Path) -> None:
    ca = str(server.pki_directory / "server-ca.crt")
    (home / "colleague" / "password").write_text(f"{SECRET}\n", encoding="utf-8")
    _, sent, output = _judge_list(home, _entry(server, cacert=ca), *AS_ROOT)
    assert not sent, output
    assert "no password was sent: that of the etcd user is from the command line" in output
    _, sent, output = _judge_list(home, _entry(server, cacert=ca), user=f"root:{SECRET}")
    assert not sent, output
    # The other way round: the CA is the run's, and the list names user and password.
    listed = _entry(server, user="root", **{"password-file": "password"})
    _, sent, output = _judge_list(home, listed, f"--etcd-cacert={ca}")
    assert not sent, output
    assert "no password was sent: that of the etcd user is from --etcd-clusters" in output
    _, sent, output = _judge_list(home, _entry(server), f"--etcd-cacert={ca}", *AS_ROOT)
    assert sent, output


def test_a_declaration_does_not_get_the_password_of_the_run(server: Cluster, home: Path) -> None:
    files, url = server.pki_directory, server.members[0].client_url
    (home / "colleague" / "etcd.env").write_text(
        f"ETCD_LISTEN_CLIENT_URLS={url}\nETCD_ADVERTISE_CLIENT_URLS={url}\nETCD_CLIENT_CERT_AUTH=true\n"
        f"ETCD_CERT_FILE={server.members[0].file('server.crt')}\n"
        f"ETCD_KEY_FILE={server.members[0].file('server.key')}\n"
        f"ETCD_TRUSTED_CA_FILE={files / 'client-ca.crt'}\nETCDCTL_CACERT={files / 'server-ca.crt'}\n",
        encoding="utf-8",
    )
    client = (f"--etcd-cert={files / 'client.crt'}", f"--etcd-key={files / 'client.key'}")
    declared = ("--etcd-config=colleague/etcd.env", *client)
    _, sent, output = _sent(home, *declared, *AS_ROOT)
    assert not sent, output
    assert "the CA that verifies the server is from" in output
    _, sent, output = _sent(home, *declared, user=f"root:{SECRET}")
    assert not sent, output
    _, sent, output = _sent(home, *declared, *AS_ROOT, f"--etcd-cacert={files / 'server-ca.crt'}")
    assert sent, output
    directory = home / "pki"
    directory.mkdir()
    for name, file in {"ca.crt": files / "server-ca.crt"}.items():
        (directory / name).write_bytes(file.read_bytes())
    named = (f"--etcd-endpoint={url}", f"--etcd-pki-dir={directory}", *client)
    _, sent, output = _sent(home, *named, *AS_ROOT)
    assert sent, output
