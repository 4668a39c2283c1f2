"""A parser for each format of the report, with assertions about the file."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jsonschema
from markdown_it import MarkdownIt
from markdown_it.token import Token
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from pytest_etcdtls.report.document import schema

_SARIF = json.loads(
    (Path(__file__).parent / "sarif_schema" / "sarif-2.1.0-rtm.5.json").read_text(encoding="utf-8")
)
_VOID = {"meta", "br", "line", "rect"}
_ELEMENTS = (
    "html head meta title style body header nav main footer section article h1 h2 h3 h4 p ul ol li dl dt dd "
    "a b strong span div code pre details summary table caption thead tbody tr th td svg line rect"
)
_ATTRIBUTES = (
    "lang charset http-equiv content name class id href role tabindex scope colspan rowspan aria-label value "
    "aria-labelledby aria-hidden focusable viewbox rel preserveaspectratio x y x1 x2 y1 y2 width height"
)
_INERT = re.compile(r"[@#<>\[\]*~|]|://|www\.|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])|\b[0-9a-f]{7,40}\b")
"""Characters that GitHub interprets outside code spans."""


class _Page(HTMLParser):
    """Elements in order, all closed; only those and only attributes that the templates have."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in _ELEMENTS.split(), tag
        found = dict(attrs)
        assert set(found) <= {*_ATTRIBUTES.split()}, (tag, attrs)
        if tag not in _VOID:
            self.open.append(tag)
        if found.get("id"):
            self.ids.append(str(found["id"]))
        if tag == "a":
            self.links.append(str(found["href"]))

    def handle_endtag(self, tag: str) -> None:
        if tag not in _VOID:
            assert self.open.pop() == tag, (tag, self.getpos())

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def html(text: str) -> str:
    """Return the text of the page."""
    page = _Page()
    page.feed(text)
    page.close()
    assert page.open == []
    assert [name for name, count in Counter(page.ids).items() if count > 1] == []
    inside = {link[1:] for link in page.links if link.startswith("#")}
    assert inside <= set(page.ids)
    outside = {link for link in page.links if not link.startswith("#")}
    assert all(
        link.startswith(
            ("https://www.rfc-editor.org/", "https://github.com/advisories/", "https://www.cve.org/")
        )
        for link in outside
    )
    _printable(text)
    return " ".join(" ".join(page.text).split())


_IN_LINES = "text code_inline softbreak hardbreak strong_open strong_close text_special"
_FOLDED = ("<details><summary>The whole report</summary>", "</details>")


def markdown(text: str) -> str:
    """Return the text that is in no code."""
    assert len(text.encode()) < 1024 * 1024
    tokens = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).parse(text)
    plain = []
    for token in tokens:
        if token.type == "html_block":
            assert token.content.strip() in _FOLDED, token
        assert token.type not in ("code_block", "hr", "lheading_open"), token
        for child in token.children or []:
            assert child.type in _IN_LINES.split(), child
            if child.type == "text" and _INERT.search(child.content):
                raise AssertionError(child.content)
            if child.type == "text":
                plain.append(child.content)
    _tables(tokens)
    _printable(text)
    return " ".join(plain)


def _tables(tokens: list[Token]) -> None:
    """Assert that every row has as many cells as its table's head."""
    columns = cells = 0
    for token in tokens:
        if token.type == "thead_open":
            columns = 0
        elif token.type == "th_open":
            columns += 1
        elif token.type == "tr_open":
            cells = 0
        elif token.type == "td_open":
            cells += 1
        elif token.type == "tr_close":
            assert cells in (0, columns)


def sarif(text: str) -> dict[str, Any]:
    """Return the only run."""
    found = json.loads(text)
    jsonschema.Draft4Validator(_SARIF, format_checker=jsonschema.FormatChecker()).validate(found)
    (run,) = found["runs"]
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    for result in run["results"]:
        assert rules[result["ruleIndex"]] == result["ruleId"]
        assert result["locations"]
        assert "](" not in result["message"]["text"]
        for place in (*result["locations"], *result.get("relatedLocations", ())):
            # GitHub refuses a file with another scheme, and takes what is before a colon for one.
            uri = place["physicalLocation"]["artifactLocation"]["uri"]
            assert uri.startswith("file:///") or ":" not in uri.partition("/")[0]
    prints = [result["partialFingerprints"]["etcdtlsFault/v1"] for result in run["results"]]
    assert len(set(prints)) == len(prints)
    _printable(text)
    return dict(run)


def document(text: str) -> dict[str, Any]:
    """Return the JSON report."""
    found: dict[str, Any] = json.loads(text)
    jsonschema.validate(found, schema())
    return found


def _printable(text: str) -> None:
    """Assert that nothing in a file moves a cursor or changes the direction of text."""
    unprintable = {character for character in text if not character.isprintable() and character != "\n"}
    assert unprintable == set()


def metrics(text: str) -> str:
    """Parse OpenMetrics, and return the values of its labels."""
    families = list(text_string_to_metric_families(text))  # type: ignore[no-untyped-call]
    assert families
    return "\n".join(
        value for family in families for sample in family.samples for value in sample.labels.values()
    )


def baseline(text: str) -> dict[str, Any]:
    """Return the document, each entry of which is a line."""
    _printable(text)
    found: dict[str, Any] = json.loads(text)
    entries = sum(len(target["checks"]) + len(target["behaviour"]) for target in found["targets"])
    assert len(text.splitlines()) >= entries
    return found


VALID: Mapping[str, Callable[[str], Any]] = {
    ".json": document,
    ".html": html,
    ".md": markdown,
    ".sarif": sarif,
    ".prom": metrics,
    ".baseline": baseline,
}
"""The parser of each format by suffix."""


def read(directory: Path, stem: str = "report") -> dict[str, Any]:
    """Return what each parser makes of the files of a directory; every format must be there."""
    return {
        suffix: parse((directory / f"{stem}{suffix}").read_text(encoding="utf-8"))
        for suffix, parse in VALID.items()
    }


def options(directory: Path, stem: str = "report") -> list[str]:
    """Return the options that write every format."""
    return [f"--etcd-report={directory / stem}{suffix}" for suffix in VALID]
