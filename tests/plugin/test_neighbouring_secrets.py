"""A declaration has secrets of other programs beside etcd's settings: no output of a run shows them."""

from __future__ import annotations

from pathlib import Path

import pytest
from plugin.runs import Runner

URL = "https://127.0.0.1:1"
SECRET = "hunter2"
FLAGS = f"--listen-client-urls={URL} --advertise-client-urls={URL} --cert-file=/q/server.crt"
OTHERS = {
    "ETCDCTL_USER": f"root:{SECRET}",
    "MYSQL_PWD": SECRET,
    "GITHUB_PAT": f"ghp_{SECRET}",
    "ETCD_ROOT": SECRET,
    "ETCD_CLIENT_CERT_AUHT": SECRET,
    "ETCDTLS_X": SECRET,
}
VARIABLES = "".join(f"{name}={value}\n" for name, value in OTHERS.items())
ENVIRONMENT = "".join(f"    - name: {name}\n      value: {value}\n" for name, value in OTHERS.items())
FORMS = {
    "etcd.env": (
        f"# the old one was {SECRET}\n{VARIABLES}ETCD_CERT_FILE=/q/server.crt\n"
        f"ETCD_LISTEN_CLIENT_URLS={URL}\n"
        f"ETCD_ADVERTISE_CLIENT_URLS={URL}\n# {SECRET}\n"
    ),
    "etcd.yaml": (
        f"apiVersion: v1\nkind: Pod\nmetadata: {{name: etcd, annotations: {{note: {SECRET}}}}}\nspec:\n"
        f"  containers:\n  - name: etcd\n    command: [etcd, {', '.join(FLAGS.split())}, "
        f"--frobnicate={SECRET}, --trusted-ca-fle={SECRET}]  # {SECRET}\n    env:\n{ENVIRONMENT}"
        f"  - name: mysql\n    command: [mysql, -p{SECRET}]\n"
    ),
    "etcd.service": (
        f"[Service]\n# {SECRET}\n"
        + "".join(f"Environment={name}={value}\n" for name, value in OTHERS.items())
        + f"ExecStart=/usr/bin/etcd {FLAGS} --frobnicate={SECRET} --client-cert-auth {SECRET}\n"
    ),
    "etcd.conf.yml": (
        f"listen-client-urls: {URL}\nadvertise-client-urls: {URL}\nfrobnicate: {SECRET}  # {SECRET}\n"
        f"client-transport-security: {{cert-file: /q/server.crt, trusted-ca: {SECRET}}}\n"
        f"MYSQL_PWD: {SECRET}\n"
    ),
    "etcd.cmdline": "\0".join(
        f"etcd {FLAGS} --frobnicate {SECRET} {SECRET} --discovery-password={SECRET} ---{SECRET} ".split(" ")
    ),
    "broken.env": f"ETCD_CERT_FILE=/q\n{SECRET}\nMYSQL_PWD='{SECRET}\n",
    "broken.yaml": f"listen-client-urls: {URL}\n  MYSQL_PWD: [{SECRET}\n{SECRET}: &x {SECRET}\n",
    "broken.service": f"[Service]\nExecStart=/usr/bin/etcd {FLAGS} '{SECRET}\n",
}
REPORTS = ("r.json", "r.html", "r.md", "r.sarif", "r.prom", "r.baseline", "r.xml")


@pytest.mark.parametrize("name", FORMS)
def test_nothing_but_settings_of_etcd_is_shown(run: Runner, name: str) -> None:
    (run.directory / name).write_text(FORMS[name], encoding="utf-8")
    options = [f"--etcd-report={report}" for report in REPORTS[:-1]]
    ran = run(
        *("--pyargs", "pytest_etcdtls", f"--etcd-config={name}", "--etcd-timeout=1", "-vv", "-rA", "-l"),
        *("--full-trace", "--etcd-check=config,listener", "--junitxml=r.xml", *options),
        report=False,
    )
    written = [run.directory / report for report in REPORTS]
    texts = {"terminal": ran.out + ran.err} | {path.name: _text(path) for path in written if path.exists()}
    assert len(texts) == (1 if name.startswith("broken") else 1 + len(REPORTS))
    assert name in texts["terminal"]
    assert [where for where, text in texts.items() if SECRET in text] == []


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")
