"""Settings are changed in the text of a declaration: nothing else differs, and ``patch`` applies the diff."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from declared.declaring import written
from pytest_etcdtls.declared.declaration import Change, Via
from pytest_etcdtls.declared.editing import edit, unified_diff
from pytest_etcdtls.declared.reading import read_declaration
from pytest_etcdtls.errors import NotEditableError

CA = Change("trusted-ca-file", "/pki/ca.crt")
AUTH = Change("client-cert-auth", "true")
NO_AUTO_TLS = Change("auto-tls", None)
CERT = Change("cert-file", "/pki/new.crt")

MANIFEST = """\
apiVersion: v1
kind: Pod
metadata:
  name: etcd # by hand
spec:
  containers:
  - name: etcd
    image: registry.k8s.io/etcd:3.6.4-0
    command:
    - etcd
    # the flags
    - --auto-tls
    - --cert-file=/pki/old.crt   # the old one
    - --data-dir
    - /var/lib/etcd
    - "--listen-client-urls=https://10.0.0.11:2379"
    - --name=m0
"""
SHELL = """\
#!/bin/sh
exec etcd \\
  --name m0 \\
  --cert-file="/pki/old.crt" \\
  --listen-client-urls https://10.0.0.11:2379,https://127.0.0.1:2379 \\
  --auto-tls
"""
UNIT = """\
[Unit]
Description=etcd

[Service]
Environment="ETCD_NAME=m0" ETCD_AUTO_TLS=true
Environment=ETCD_CERT_FILE=/pki/old.crt
ExecStart=/usr/bin/etcd --data-dir=/var/lib/etcd \\
  --listen-client-urls=https://10.0.0.11:2379
"""
ENVIRONMENT = """\
# etcd
ETCD_NAME="m0"
export ETCD_AUTO_TLS=true

#ETCD_TRUSTED_CA_FILE=""
ETCD_CERT_FILE="/pki/old.crt"
"""
YAML = """\
# etcd
name: m0
cipher-suites:
- TLS_ECDHE_RSA_WITH_RC4_128_SHA
- TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
client-transport-security:
    cert-file: "/pki/old.crt"   # the old one
    trusted-ca-file:
    auto-tls: true
listen-client-urls: https://10.0.0.11:2379
"""


def edited(directory: Path, text: str, *changes: Change) -> str:
    """Return the text that the patched file has."""
    path = directory / "declaration"
    path.write_text(text, encoding="utf-8")
    result = edit(read_declaration(path), changes)
    diff = unified_diff(result.texts)
    subprocess.run(["patch", "-p1", "-d", "/"], input=diff, encoding="utf-8", check=True, capture_output=True)
    assert path.read_text(encoding="utf-8") == result.texts[str(path)][1]
    return path.read_text(encoding="utf-8")


def lines(text: str, *, removed: tuple[str, ...] = (), below: str = "", added: tuple[str, ...] = ()) -> str:
    """Return a text without lines, and with others below one of them; ``OLD -> NEW`` changes one."""
    made: list[str] = []
    for line in text.splitlines():
        if line in removed:
            continue
        changed = [new.partition(" -> ")[2] for new in removed if new.startswith(f"{line} -> ")]
        made += changed or [line]
        made += added if line == below else ()
    return "\n".join(made) + "\n"


@pytest.mark.program("patch")
@pytest.mark.parametrize(
    ("text", "changes", "wanted"),
    [
        (MANIFEST, [CERT], MANIFEST.replace("old.crt   # the old one", "new.crt")),
        (MANIFEST, [NO_AUTO_TLS], lines(MANIFEST, removed=("    - --auto-tls",))),
        (
            MANIFEST,
            [CA, AUTH],  # in the order of names, as kubeadm writes them
            lines(
                MANIFEST,
                below="    - --cert-file=/pki/old.crt   # the old one",
                added=("    - --client-cert-auth=true",),
            )
            + "    - --trusted-ca-file=/pki/ca.crt\n",
        ),
        (
            MANIFEST,
            [Change("data-dir", "/data")],
            MANIFEST.replace("data-dir\n    - /var/lib/etcd", "data-dir=/data"),
        ),
        (SHELL, [CERT], SHELL.replace("old.crt", "new.crt")),
        (SHELL, [NO_AUTO_TLS], SHELL.replace(" \\\n  --auto-tls", "")),
        (
            SHELL.replace("  --listen-client-urls https://10.0.0.11:2379,https://127.0.0.1:2379 \\\n", ""),
            [NO_AUTO_TLS, CA],
            '#!/bin/sh\nexec etcd \\\n  --name m0 \\\n  --cert-file="/pki/old.crt" \\\n'
            '  --trusted-ca-file="/pki/ca.crt"\n',
        ),
        (
            "etcd --name=m0 --cert-file=/a --cert-file=/b\n",
            [CERT],
            "etcd --name=m0 --cert-file=/a --cert-file=/pki/new.crt\n",
        ),
        (SHELL, [CA], SHELL.replace('old.crt" \\', 'old.crt" \\\n  --trusted-ca-file="/pki/ca.crt" \\')),
        (
            SHELL,
            [Change("listen-client-urls", "https://10.0.0.11:2379")],
            SHELL.replace(" https://10.0.0.11:2379,https://127.0.0.1:2379", "=https://10.0.0.11:2379"),
        ),
        (UNIT, [NO_AUTO_TLS], UNIT.replace(" ETCD_AUTO_TLS=true", "")),
        (
            UNIT,
            [Change("cert-file", None)],
            lines(UNIT, removed=("Environment=ETCD_CERT_FILE=/pki/old.crt",)),
        ),
        (
            UNIT,
            [CA],
            lines(
                UNIT,
                below="Environment=ETCD_CERT_FILE=/pki/old.crt",
                added=("Environment=ETCD_TRUSTED_CA_FILE=/pki/ca.crt",),
            ),
        ),
        (
            UNIT,
            [Change("listen-peer-urls", "https://10.0.0.11:2380")],
            UNIT.rstrip() + " \\\n  --listen-peer-urls=https://10.0.0.11:2380\n",
        ),
        (UNIT, [Change("data-dir", None)], UNIT.replace(" --data-dir=/var/lib/etcd", "")),
        (ENVIRONMENT, [NO_AUTO_TLS], lines(ENVIRONMENT, removed=("export ETCD_AUTO_TLS=true",))),
        (
            ENVIRONMENT,
            [CA, AUTH],
            ENVIRONMENT + 'ETCD_TRUSTED_CA_FILE="/pki/ca.crt"\nETCD_CLIENT_CERT_AUTH="true"\n',
        ),
        (ENVIRONMENT.rstrip(), [CA], ENVIRONMENT + 'ETCD_TRUSTED_CA_FILE="/pki/ca.crt"\n'),
        (YAML, [CERT], YAML.replace("old.crt", "new.crt")),
        (YAML, [CA], YAML.replace("trusted-ca-file:", "trusted-ca-file: /pki/ca.crt")),
        (YAML, [NO_AUTO_TLS], lines(YAML, removed=("    auto-tls: true",))),
        (YAML, [AUTH], lines(YAML, below="    auto-tls: true", added=("    client-cert-auth: true",))),
        (
            YAML,
            [Change("peer-cert-file", "/pki/peer.crt")],
            YAML + "peer-transport-security:\n  cert-file: /pki/peer.crt\n",
        ),
        (
            YAML,
            [Change("cipher-suites", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256")],
            lines(
                YAML,
                removed=(
                    "cipher-suites: -> cipher-suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256]",
                    "- TLS_ECDHE_RSA_WITH_RC4_128_SHA",
                    "- TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
                ),
            ),
        ),
        ("name: m0\n", [Change("tls-min-version", "TLS1.3")], "name: m0\ntls-min-version: TLS1.3\n"),
        (
            'spec: &s\n  containers: [{command: ["etcd", "--name=m0", "--auto-tls", "--cert-file=/a"]}]\n'
            "kind: Pod\napiVersion: v1\n",
            [NO_AUTO_TLS, CA],
            'spec: &s\n  containers: [{command: ["etcd", "--name=m0", "--cert-file=/a", '
            '"--trusted-ca-file=/pki/ca.crt"]}]\nkind: Pod\napiVersion: v1\n',
        ),
        (
            "kind: Pod\napiVersion: v1\nspec:\n  containers:\n  - command: [etcd]\n    env:\n"
            "    - name: ETCD_AUTO_TLS\n      value: 'true'\n    - name: ETCD_CERT_FILE\n      value: /a\n",
            [NO_AUTO_TLS, CERT, AUTH],
            "kind: Pod\napiVersion: v1\nspec:\n  containers:\n  - command: [etcd]\n    env:\n"
            "    - name: ETCD_CERT_FILE\n      value: /pki/new.crt\n"
            '    - name: ETCD_CLIENT_CERT_AUTH\n      value: "true"\n',
        ),
    ],
)
def test_only_the_lines_of_the_setting_change(
    text: str, changes: list[Change], wanted: str, tmp_path: Path
) -> None:
    assert edited(tmp_path, text, *changes) == wanted


@pytest.mark.program("patch")
def test_a_key_of_the_last_section_stays_in_it(tmp_path: Path) -> None:
    old = "experimental-corrupt-check-time: 60000000000\n"
    text = f"name: m0\n{old}peer-transport-security:\n  cert-file: /pki/peer.crt\n"
    changes = [
        Change("peer-skip-client-san-verification", "true", Via.KEY),
        Change("corrupt-check-time", "60000000000", Via.KEY),
        Change("experimental-corrupt-check-time", None, Via.KEY),
    ]
    new = text.replace(old, "") + "  skip-client-san-verification: true\n"
    for given in (changes, changes[::-1]):
        made = edited(tmp_path, text, *given)
        assert made.replace("corrupt-check-time: 60000000000\n", "") == new


def test_line_ends_of_windows_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "etcd.conf"
    path.write_bytes(b"ETCD_NAME=m0\r\nETCD_CERT_FILE=/a\r\n")
    result = edit(read_declaration(path), [CA])
    assert (
        result.texts[str(path)][1]
        == "ETCD_NAME=m0\r\nETCD_CERT_FILE=/a\r\nETCD_TRUSTED_CA_FILE=/pki/ca.crt\r\n"
    )


def test_a_variable_beside_a_flag_is_removed_alone(tmp_path: Path) -> None:
    path = tmp_path / "etcd.sh"
    path.write_text("ETCD_CERT_FILE=/a etcd --cert-file=/b --name=m0\n", encoding="utf-8")
    result = edit(read_declaration(path), [Change("cert-file", None, Via.VARIABLE)])
    assert result.texts[str(path)][1].strip() == "etcd --cert-file=/b --name=m0"


def test_a_file_of_another_one_is_changed_there(tmp_path: Path) -> None:
    unit, variables = tmp_path / "etcd.service", tmp_path / "etcd.env"
    unit.write_text(f"[Service]\nEnvironmentFile={variables}\nExecStart=/usr/bin/etcd\n", encoding="utf-8")
    variables.write_text("ETCD_CERT_FILE=/a\n", encoding="utf-8")
    result = edit(read_declaration(unit), [CA])
    assert {file: after for file, (_, after) in result.texts.items()} == {
        str(variables): "ETCD_CERT_FILE=/a\nETCD_TRUSTED_CA_FILE=/pki/ca.crt\n"
    }


@pytest.mark.program("patch")
def test_no_secret_is_in_a_diff(tmp_path: Path) -> None:
    path = tmp_path / "etcd.env"
    path.write_text(
        "ETCDCTL_PASSWORD=hunter2\nETCD_CERT_FILE=/a\nETCD_DISCOVERY_PASSWORD=hunter3\n", encoding="utf-8"
    )
    diff = unified_diff(edit(read_declaration(path), [CERT]).texts)
    assert "hunter" not in diff
    assert "+ETCD_CERT_FILE=/pki/new.crt" in diff
    subprocess.run(["patch", "-p1", "-d", "/"], input=diff, encoding="utf-8", check=True, capture_output=True)
    assert "ETCD_CERT_FILE=/pki/new.crt" in path.read_text(encoding="utf-8")


def test_a_line_with_a_secret_is_not_changed(tmp_path: Path) -> None:
    path = tmp_path / "etcd.sh"
    path.write_text("etcd --discovery-password=hunter2 --cert-file=/a\n", encoding="utf-8")
    with pytest.raises(NotEditableError, match="secret"):
        unified_diff(edit(read_declaration(path), [CERT]).texts)


@pytest.mark.parametrize(
    "text",
    [
        "name: m0\nclient-transport-security: {cert-file: /a}\n",
        "etcd\0--name=m0\0--cert-file=/a\0",
    ],
)
def test_a_form_that_is_not_edited_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "declaration"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(NotEditableError):
        edit(read_declaration(path), [CERT])


@pytest.mark.program("patch")
def test_a_link_is_patched_where_it_leads(tmp_path: Path) -> None:
    real, link = tmp_path / "a name\twith tab", tmp_path / "link"
    real.write_text("ETCD_CERT_FILE=/a\n", encoding="utf-8")
    link.symlink_to(real)
    diff = unified_diff(edit(read_declaration(link), [CERT]).texts)
    subprocess.run(["patch", "-p1", "-d", "/"], input=diff, encoding="utf-8", check=True, capture_output=True)
    assert real.read_text(encoding="utf-8") == "ETCD_CERT_FILE=/pki/new.crt\n"
    assert link.is_symlink()


def test_a_file_with_a_flag_on_each_line(tmp_path: Path) -> None:
    declaration = written(tmp_path, '# flags\n--name="a"\n--cert-file=/pki/server.crt\n')
    [(_, after)] = edit(
        declaration, [Change("key-file", "/pki/server.key"), Change("name", None)]
    ).texts.values()
    assert after == "# flags\n--cert-file=/pki/server.crt\n--key-file=/pki/server.key\n"
