"""The kind of a declaration is recognised by its content; other files end in one clear message."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from declared.declaring import read_declaration, written
from pytest_etcdtls.declared.declaration import Form
from pytest_etcdtls.errors import UsageError

WAY = "pass --etcd-pid=auto on the node of etcd, or a copy of the running process as --etcd-config"


@pytest.mark.parametrize(
    "text",
    [
        "etcd\0--name=a\0",
        "PATH=/bin\0ETCD_NAME=a\0etcd\0--logger=zap\0",
        "LINES=one\ntwo\0\0ETCD_NAME=a\0/usr/bin/etcd\0",
        "etcd\0--cert-file\0\0--name\0a\0",  # an empty argument is the value of the flag before it
    ],
)
def test_copies_of_a_process(text: str, tmp_path: Path) -> None:
    declaration = written(tmp_path, text)
    assert (declaration.form, declaration.text("name")) == (Form.COMMAND_LINE, "a")


@pytest.mark.parametrize(
    "text",
    [
        "etcd --name=a",
        '--name="a"\n--cert-file="/etc/kubernetes/pki/etcd/server.crt"\n',
        "docker run --name etcd gcr.io/etcd-development/etcd:v3.6.0 /usr/local/bin/etcd --name a",
        "export ETCD_NAME=a\nif true; then\n  etcd\nfi\n",
    ],
)
def test_commands_and_scripts_are_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"declaration: a command or a script is not read: {WAY}"):
        written(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("ETCD_NAME=a\n", Form.ENVIRONMENT_FILE),
        ("﻿ETCD_NAME=a\r\nETCD_METRICS=basic\r\n", Form.ENVIRONMENT_FILE),
        ("---\n# x\nname: 'a'\nclient-transport-security: {}\n", Form.YAML),
        ("{name: a, data-dir: /d}", Form.YAML),
        ("NAME: a\nclient-Transport-security:\n", Form.YAML),
        ("[Unit]\nDescription=x\n[Service]\nExecStart=/bin/etcd --name=a\n", Form.UNIT),
        ("kind: Pod\nspec: {containers: [{command: [etcd, --name=a]}]}\n", Form.MANIFEST),
    ],
)
def test_other_forms(text: str, form: Form, tmp_path: Path) -> None:
    declaration = written(tmp_path, text)
    assert (declaration.form, declaration.text("name")) == (form, "a")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"# nothing but this\n", "holds comments only"),
        (b"\x7fELF\x02\x01\x01\x00\x00\n\x00", "is binary"),
        (bytes(range(256)), "is not text"),
        (b"\xff\xfen\x00a\x00m\x00e\x00", "is UTF-16, as PowerShell's > writes it"),
        (b"name: a\n" + b"#" * (10 * 1024 * 1024), "is larger than 1 MiB"),
        (b"-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n", "holds a PRIVATE KEY"),
        (b"kubelet --config=/c\n", "is not a declaration of etcd"),
        (b"etcd-arg:\n- quota-backend-bytes=1\ntoken: secret\n", "k3s's or RKE2's own configuration"),
        (b"name: a\n\tdata-dir: /d\n", r"declaration:2: not valid YAML"),
        (b'name: a\ndata-dir: "/d\nx: 1\n', r"declaration:4: .* a quoted scalar that begins on line 2"),
        (b"[" * 20000, "nested too deeply|not valid YAML"),
        (b"ETCD_NAME=a\nand then some\n", r"declaration:2: the line is not NAME=VALUE"),
        (b'ETCD_NAME="a\n', r"declaration:1: the value of ETCD_NAME has a backslash, or quotation marks"),
        (b"etcdctl\0get\0a\0", "not etcd's command line: its program is not etcd"),
        (b"- etcd\n- --name=a\n", "is not a declaration of etcd: pass"),
        (b"machine:\n  type: controlplane\ncluster: {}\n", f"Talos' machine .* is not read: {WAY}"),
    ],
)
def test_files_that_are_no_declaration_are_refused(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "declaration"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=message) as caught:
        read_declaration(path)
    text = str(caught.value)
    assert text.startswith(f"--etcd-config {path}")
    assert text.count(str(path)) == 1
    assert "\n" not in text
    assert "secret" not in text


def test_directories_and_missing_files(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--etcd-config .* is a directory: name the file in it"):
        read_declaration(tmp_path)
    with pytest.raises(UsageError, match=r"--etcd-config .*gone.yaml does not exist"):
        read_declaration(tmp_path / "gone.yaml")


@pytest.mark.skipif(os.geteuid() == 0, reason="needs a user whom permissions bind")
def test_files_that_may_not_be_read(tmp_path: Path) -> None:
    path = tmp_path / "etcd.yaml"
    path.write_text("name: a", encoding="utf-8")
    path.chmod(0)
    with pytest.raises(UsageError, match="may not be read by this user"):
        read_declaration(path)


@pytest.mark.parametrize("value", ["*x", "{<<: {}}", "{<<: *x}"])
def test_aliases_are_refused(value: str, tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"declaration:2: aliases and merged keys \(\*name, <<\) are not read"
    ):
        written(tmp_path, f"name: &x a\nlogger: {value}\n")
