"""The HTML report in Chromium with scripts allowed: accessible, wide and narrow, and nothing is run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs
from report import browsing
from report.broken_cluster import judged
from report.test_hostile_content import hostile_report
from shares import ALL, TURN
from starting import start_process
from zoo.client_access import ZOO

from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.report import write_document

pytestmark = pytest.mark.program("chromium", "grep", "node")

_EVERY = ("broken", "clean", "hostile", "three")
PAGES = _EVERY if ALL else _EVERY[TURN % 2 :: 2]
"""Half of them in turn: axe-core takes half a minute for each."""

SETTINGS = ("- client-cert-auth: <&>  # etcd.yaml:9", "+ client-cert-auth: true  # etcd.yaml:9")


@pytest.fixture(scope="module")
def pages(newest_etcd: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the pages; the one of three members has a fault that settings cure."""
    if lacking := browsing.missing():
        pytest.skip(f"needs {lacking}")
    directory = tmp_path_factory.mktemp("pages")
    broken = next(member.config for member in ZOO if member.name == "client-no-auth")
    configs = {"broken": broken, "clean": ClusterConfig(), "three": replace(broken, size=3)}
    for name in PAGES:
        if name == "hostile":
            report = hostile_report()
        else:
            with start_process(configs[name], newest_etcd) as cluster:
                report = judged(cluster.target())
        if name == "three":
            cured = tuple(
                structs.replace(result, settings=SETTINGS if result.check == "mtls.no-certificate" else ())
                for result in report.results
            )
            report = structs.replace(report, results=cured)
        write_document(report, directory / f"{name}.html")
    return directory


@pytest.fixture(scope="module")
def seen(pages: Path) -> dict[str, list[dict[str, Any]]]:
    """The results of the browser, which is started once."""
    return browsing.look(*(pages / f"{name}.html" for name in PAGES))


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_accessible_fits_and_runs_nothing(seen: dict[str, list[dict[str, Any]]], page: str) -> None:
    for view in seen[page]:
        assert view["violations"] == [], (view["width"], view["scheme"])
        assert view["passes"] > 15
        assert (view["owned"], view["script"], view["dialogs"]) == (None, 0, 0)
        assert (view["requests"], view["errors"], view["overflow"]) == ([], [], 0)
        assert (view["first"], view["focus"]) == ("skip", "main"), "the first tab stop skips the head"
        assert view["width"] < 1280 or view["hidden"] == [], "its tables fit"
