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
from starting import start_process
from zoo.client_access import ZOO

from pytest_etcdtls.report import write_document

pytestmark = pytest.mark.program("chromium", "grep", "node")

PAGES = ("broken", "clean", "hostile", "three")
SETTINGS = ("- client-cert-auth: <&>  # etcd.yaml:9", "+ client-cert-auth: true  # etcd.yaml:9")


@pytest.fixture(scope="module")
def pages(newest_etcd: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with every page; the one of three members has a fault that settings cure."""
    if lacking := browsing.missing():
        pytest.skip(f"needs {lacking}")
    directory = tmp_path_factory.mktemp("pages")
    broken = next(one for one in ZOO if one.name == "client-no-auth")
    with start_process(replace(broken.config, size=3), newest_etcd) as cluster:
        report = judged(cluster)
    cured = tuple(
        structs.replace(one, settings=SETTINGS if one.check == "mtls.no-certificate" else ())
        for one in report.results
    )
    write_document(structs.replace(report, results=cured), directory / "three.html")
    for name, config in (("broken", broken.config), ("clean", ZOO[0].config)):
        with start_process(config, newest_etcd) as cluster:
            write_document(judged(cluster), directory / f"{name}.html")
    write_document(hostile_report(), directory / "hostile.html")
    return directory


@pytest.fixture(scope="module")
def seen(pages: Path) -> dict[str, list[dict[str, Any]]]:
    """The results of the browser, which is started once."""
    return browsing.look(*(pages / f"{name}.html" for name in PAGES))


@pytest.mark.parametrize("page", PAGES)
def test_axe_reports_no_violation(seen: dict[str, list[dict[str, Any]]], page: str) -> None:
    for view in seen[page]:
        assert view["violations"] == [], (view["width"], view["scheme"])
        assert view["passes"] > 15


@pytest.mark.parametrize("page", PAGES)
def test_the_page_runs_no_script_and_fetches_nothing(
    seen: dict[str, list[dict[str, Any]]], page: str
) -> None:
    for view in seen[page]:
        assert (view["owned"], view["script"], view["dialogs"]) == (None, 0, 0)
        assert (view["requests"], view["errors"]) == ([], [])


@pytest.mark.parametrize("page", PAGES)
def test_no_page_is_wider_than_the_window(seen: dict[str, list[dict[str, Any]]], page: str) -> None:
    assert {view["overflow"] for view in seen[page]} == {0}


def test_three_members_fit_at_1280_pixels(seen: dict[str, list[dict[str, Any]]]) -> None:
    assert [view["hidden"] for view in seen["three"] if view["width"] == 1280] == [[], []]


def test_the_first_tab_stop_skips_the_head(seen: dict[str, list[dict[str, Any]]]) -> None:
    assert {(view["first"], view["focus"]) for view in seen["broken"]} == {("skip", "main")}
