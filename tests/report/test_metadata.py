"""The metadata of a run: in every format, bounded, or refused before anything is judged."""

from __future__ import annotations

import html
import re

import pytest
from plugin.live_etcd import Live
from plugin.runs import Runner
from report import valid

SOME = "--etcd-check=listener"


def test_every_format_has_the_metadata_of_options_and_hooks_printable(run: Runner, live: Live) -> None:
    run.write(
        conftest=r"""
        def pytest_etcdtls_report_metadata(config):
            hostile = {"a": "\x1b[2J\u202e<script>\n`@all`", "b": "x" * 10_000_000, "c": ""}
            return {"commit": "0123abc", "ticket": "of the hook", "root": config.rootpath.name, **hostile}
        """
    )
    said = {"commit": "0123abc", "ticket": "OPS-17", "root": run.directory.name, "query": "a=b"}
    options = [f"--etcd-metadata={key}={said[key]}" for key in ("ticket", "query")]
    ran = run(*live.options, *valid.options(run.directory), SOME, *options, report=False)
    assert ran.exit_code == 0
    found = valid.read(run.directory)
    hostile = {"a": r"\x1b[2J\u202e<script>\n`@all`", "c": ""}
    metadata = found[".json"]["metadata"]
    assert found[".sarif"]["properties"]["metadata"] == metadata
    assert len(metadata.pop("b")) == 1024
    assert metadata == said | hostile
    page = " ".join(found[".html"].split())
    markdown = (run.directory / "report.md").read_text(encoding="utf-8")
    for key, value in said.items():
        assert f"- `{key}`: `{value}`\n" in markdown
        assert f"{key} {value}" in page
    assert html.escape(hostile["a"]) in (run.directory / "report.html").read_text(encoding="utf-8")


def test_metadata_may_be_in_the_ini_file(run: Runner, live: Live) -> None:
    run.ini("etcd_metadata =\n    ticket=OPS-17\n    environment=staging area")
    ran = run(*live.options, SOME)
    assert ran.report["metadata"] == {"ticket": "OPS-17", "environment": "staging area"}
    assert run(*live.options, SOME, "--etcd-metadata=a=b").report["metadata"] == {"a": "b"}


def test_several_hooks_are_joined_and_the_nearest_has_precedence(run: Runner, live: Live) -> None:
    run.write(
        conftest="""
        class Silent:
            def pytest_etcdtls_report_metadata(self):
                return None

        def pytest_configure(config):
            config.pluginmanager.register(Silent())

        def pytest_etcdtls_report_metadata():
            return {"who": "conftest"}

        pytest_plugins = ["other_plugin"]
        """,
        other_plugin="""
        import pytest

        @pytest.hookimpl(trylast=True)
        def pytest_etcdtls_report_metadata():
            return {"who": "plugin", "more": "x"}
        """,
    )
    assert run(*live.options, SOME).report["metadata"] == {"who": "conftest", "more": "x"}


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("ticket", "'ticket' is no KEY=VALUE"),
        ("=value", "'=value' is no KEY=VALUE"),
        ("k" * 65 + "=value", "a printable key of at most 64 characters"),
        ("a\x1b=value", r"'a\x1b=value' is no KEY=VALUE"),
    ],
)
def test_an_option_that_names_no_key_is_a_usage_error(run: Runner, given: str, why: str) -> None:
    ran = run("--etcd-endpoint=https://127.0.0.1:1", f"--etcd-metadata={given}")
    assert ran.exit_code == 4
    assert why in ran.err


@pytest.mark.parametrize(
    ("returned", "why"),
    [
        ("['ticket']", "returned list: return a dict of texts"),
        ("{'a': 1}", "returned 'a' with a value of type int: keys and values are texts"),
        ("{1: 'a'}", "returned 1 with a value of type str"),
        ("{'a=b': 'c'}", "no key has an ="),
        ("1 / 0", "failed: ZeroDivisionError: division by zero"),
        ("{str(n): 'x' for n in range(51)}", "--etcd-metadata has 51 keys: at most 50"),
        ("{'': 'x'}", "'=x' is no KEY=VALUE"),
    ],
)
def test_a_hook_that_returns_another_type_is_a_usage_error(run: Runner, returned: str, why: str) -> None:
    run.write(conftest=f"def pytest_etcdtls_report_metadata():\n    return {returned}")
    ran = run("--etcd-endpoint=https://127.0.0.1:1", report=False)
    assert ran.exit_code == 4
    assert re.sub(r"\s+", " ", why) in re.sub(r"\s+", " ", ran.err)
    assert "INTERNALERROR" not in ran.err


def test_a_run_without_the_suite_calls_no_hook(run: Runner) -> None:
    run.write(
        conftest="def pytest_etcdtls_report_metadata(): raise RuntimeError",
        test_user="def test_user(): pass",
    )
    assert run(report=False).exit_code == 0
