"""With each plugin of ``README.md`` here the verdict on two etcds is that without it, and is printed."""

from __future__ import annotations

import importlib.metadata
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from hostile.child_run import ChildRun
from plugin.live_etcd import Live
from plugin.runs import Ran, ran_in_a_child
from shown_commands import section

from pytest_etcdtls.checks.registry import select

PAGE = section("tests/neighbours/README.md", "Plugins of pytest")
CHECKS = "--etcd-check=listener,cert.trusted,mtls.no-certificate"
IN_PART = f"5 OF {len(select())} CHECKS CLEAN (cert.trusted, listener, mtls.no-certificate)"
WRONG = "mtls.no-certificate"
"""The check that an etcd without client authentication violates."""

BLOCKING = """
def test_user(etcd_client):
    assert etcd_client.get("/version").status_code == 200
"""
ASYNC = """
import httpx{imports}

{mark}async def test_user(etcd_credentials, etcd_target):
    async with httpx.AsyncClient(verify=etcd_credentials["client"].ssl_context()) as client:
        answer = await client.get(etcd_target.listeners[0].url + "/version")
    assert answer.status_code == 200
"""
[_ON_PAGE] = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
_FILE = '"/etc/kubernetes/pki/etcd/server.crt"'
HOST = _ON_PAGE.replace(_FILE, "{path!r}") + (
    "    assert load_pem_x509_certificate(host.file({other!r}).content) != served\n"
)
"""The example of the page."""


def pytest_in(directory: Path, live: Live, *options: str, user: str = BLOCKING) -> Ran:
    """Run pytest with our plugin and what the options load, beside one test of the user's."""
    directory.mkdir(exist_ok=True)
    (directory / "test_user.py").write_text(user, encoding="utf-8")
    words = ["-p", "etcdtls", *options, CHECKS, *live.options, f"--rootdir={directory}"]
    return ran_in_a_child(
        ChildRun(
            directory,
            [*words, "--etcd-report=report.json"],
            environment={"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "COLUMNS": "80"},
        )
    )


@pytest.fixture(scope="session")
def etcds(
    live: Live, open_etcd: Live, tmp_path_factory: pytest.TempPathFactory
) -> list[tuple[Live, bool, Mapping[str, str]]]:
    """An etcd, whether it violates the check, and the outcomes of pytest without any other plugin."""
    etcds = []
    for etcd, violates in ((live, False), (open_etcd, True)):
        ran = pytest_in(tmp_path_factory.mktemp("plain"), etcd)
        assert ran.exit_code == violates, ran.out
        assert ran.found("violates") == ({WRONG} if violates else set())
        etcds.append((etcd, violates, ran.outcomes))
    return etcds


def nothing_more(ran: Ran, violates: bool) -> None:
    """What the plugin itself writes is not looked at."""


def html(ran: Ran, violates: bool) -> None:
    page = (ran.path.parent / "page.html").read_text(encoding="utf-8")
    assert WRONG in page
    assert ("a client without a certificate is accepted" in page) == violates


def json_report(ran: Ran, violates: bool) -> None:
    tests = json.loads((ran.path.parent / "tests.json").read_text(encoding="utf-8"))["tests"]
    failed = [test["nodeid"] for test in tests if test["outcome"] == "failed"]
    assert len(failed) == violates
    assert all(node_id.endswith(WRONG) for node_id in failed)


def allure(ran: Ran, violates: bool) -> None:
    results = [
        json.loads(path.read_text(encoding="utf-8"))
        for path in (ran.path.parent / "allure").glob("*-result.json")
    ]
    statuses = [result["status"] for result in results]
    assert statuses.count("failed") == violates
    assert "broken" not in statuses
    assert len(results) == len(ran.outcomes) + 1


def cov(ran: Ran, violates: bool) -> None:
    assert re.search(r"^test_user\.py +2 +0 +100%", ran.out, re.MULTILINE), ran.out


def two_workers(ran: Ran, violates: bool) -> None:
    assert "2 workers" in ran.out


def retried(ran: Ran, violates: bool) -> None:
    assert ("failed after 3 attempts" in ran.out) == violates


@dataclass(frozen=True)
class Way:
    """One way to run a plugin.

    Attributes:
        distribution: its name on the page.
        options: what loads it and turns it on.
        user: the user's test, with ``{path}`` and ``{other}`` for certificate files of the server and a peer.
        left: looks at what the plugin itself wrote.
    """

    distribution: str
    options: tuple[str, ...]
    user: str = BLOCKING
    left: Callable[[Ran, bool], None] = nothing_more


ELSEWHERE = {"pytest-randomly", "pytest-rerunfailures", "pytest-timeout", "pytest-socket"}
"""Plugins that are tried by ``tests/plugin``."""

WAYS: Mapping[str, Way] = {
    **{
        f"xdist-{how}": Way("pytest-xdist", ("-p", "xdist", "-n2", f"--dist={how}"), left=two_workers)
        for how in ("loadscope", "loadfile", "worksteal")
    },
    "retry": Way("pytest-retry", ("-p", "pytest-retry", "--retries=2"), left=retried),
    "html": Way(
        "pytest-html",
        ("-p", "html", "-p", "html_fixtures", "-p", "metadata", "--html=page.html", "--self-contained-html"),
        left=html,
    ),
    "json-report": Way(
        "pytest-json-report",
        ("-p", "metadata", "-p", "pytest_jsonreport", "--json-report", "--json-report-file=tests.json"),
        left=json_report,
    ),
    "allure": Way("allure-pytest", ("-p", "allure_pytest", "--alluredir=allure"), left=allure),
    "cov": Way("pytest-cov", ("-p", "pytest_cov", "--cov=."), left=cov),
    "asyncio": Way(
        "pytest-asyncio", ("-p", "asyncio", "--asyncio-mode=auto"), ASYNC.format(imports="", mark="")
    ),
    "anyio": Way("anyio", ("-p", "anyio"), ASYNC.format(imports=", pytest", mark="@pytest.mark.anyio\n")),
    "sugar": Way("pytest-sugar", ("-p", "sugar", "--force-sugar")),
    "pretty": Way("pytest-pretty", ("-p", "pretty")),
    "testinfra": Way("pytest-testinfra", ("-p", "pytest11.testinfra", "--hosts=local://"), HOST),
}
ALL = Way(
    "",
    (
        *(option for way in WAYS.values() if way.distribution != "pytest-retry" for option in way.options),
        *("-p", "randomly", "-p", "rerunfailures", "--reruns=2", "-p", "timeout", "--timeout=100"),
        *("-p", "socket", "--allow-hosts=127.0.0.1"),
    ),
    HOST,
)
"""All of them at once, but for one of the two that run tests again."""


@pytest.mark.parametrize("name", [*WAYS, "all"])
def test_with_a_plugin_the_verdict_is_the_same(
    name: str, etcds: list[tuple[Live, bool, Mapping[str, str]]], tmp_path: Path
) -> None:
    way = WAYS.get(name, ALL)
    for etcd, violates, plain in etcds:
        path, other = (str(etcd.files / "m0" / f"{file}.crt") for file in ("server", "peer"))
        user = HOST.format(path=path, other=other) if way.user is HOST else way.user
        ran = pytest_in(tmp_path / f"violates-{violates}", etcd, *way.options, user=user)
        assert "INTERNALERROR" not in ran.out, ran.out
        assert ran.exit_code == violates, ran.out
        assert ran.outcomes == plain
        assert f"etcd TLS: {'NOT CLEAN: 1 fault' if violates else IN_PART}" in ran.out, ran.out
        way.left(ran, violates)


def test_the_page_names_each_plugin_with_the_tested_version() -> None:
    rows = dict(re.findall(r"^\| ([\w-]+) \| (\d[\d.]+) \|", PAGE, re.MULTILINE))
    assert set(rows) == {way.distribution for way in WAYS.values()} | ELSEWHERE
    assert rows == {name: importlib.metadata.version(name) for name in rows}
