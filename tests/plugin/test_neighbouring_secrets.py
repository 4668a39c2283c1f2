"""No output of a run shows a password, a token, or what a declaration has of other programs' secrets."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest
from h2.connection import H2Connection
from hpack import Encoder, NeverIndexedHeaderTuple
from plugin.live_etcd import Live
from plugin.runs import Runner
from starting import start_process
from tls.test_grpc_call import LISTENER, OK, REQUEST, Wire

from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.role import Protocol
from pytest_etcdtls.tls.attempt import Request
from pytest_etcdtls.tls.http import make_request

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
    texts = {path.name: path.read_text(encoding="utf-8") for path in written if path.exists()}
    texts["terminal"] = ran.out + ran.err
    assert len(texts) == (1 if name.startswith("broken") else 1 + len(REPORTS))
    assert name in texts["terminal"]
    assert [where for where, text in texts.items() if SECRET in text] == []


# What is logged of a run, which pytest shows with --log-level=DEBUG.

TOKEN = "s3cret.token.12"


def _answers(http: H2Connection) -> None:
    http.send_headers(1, OK, end_stream=True)


@pytest.mark.parametrize(
    "request_",
    [
        Request(purpose="call", protocol=Protocol.GRPC, path=REQUEST.path, headers={"token": TOKEN}),
        Request(purpose="get", protocol=Protocol.HTTP2, path="/version", headers={"authorization": TOKEN}),
    ],
    ids=lambda request: request.purpose,
)
def test_a_token_is_never_indexed_and_never_logged(
    request_: Request, caplog: pytest.LogCaptureFixture
) -> None:
    (name,) = request_.headers
    wire = Wire(_answers)
    with caplog.at_level(logging.DEBUG):
        assert make_request(wire, LISTENER, request_).status == 200
        assert caplog.text == ""
        Encoder().encode([("x-of-a-test", "kept")])
    assert "kept" in caplog.text
    assert wire.request[name] == TOKEN
    (header,) = [header for header in wire.headers if header[0] == name]
    assert isinstance(header, NeverIndexedHeaderTuple)


def test_debug_logs_of_a_run_have_no_secret(run: Runner, newest_etcd: Path) -> None:
    with start_process(ClusterConfig(authentication=True), newest_etcd) as cluster:
        target = cluster.target()
        assert target.user is not None
        (run.directory / "password").write_text(target.user[1], encoding="utf-8")
        ran = run(
            *("--pyargs", "pytest_etcdtls", *Live.of(cluster).options, "--etcd-check=api"),
            *("--etcd-user=root", "--etcd-password-file=password", "-o", "log_cli=true", "--log-level=DEBUG"),
            *("-rA", "-l", "--setup-show", "--junit-xml=junit.xml", "-o", "junit_logging=all"),
        )
    assert [*ran.outcomes.values()].count("conforms") > 10
    assert {outcome for name, outcome in ran.outcomes.items() if "grpc-range" in name} == {"conforms"}
    shown = ran.out + ran.err + run.read("junit.xml")
    assert target.user[1] not in shown
    assert not re.search(r"token'|hpack", shown), "etcd's token is in what is shown"
