"""The pages of ``docs`` that are generated, and writing them: ``python tests/pages.py``."""

from __future__ import annotations

import json
import re
from pathlib import Path

from checks_page import checks_page
from facts_page import facts_page
from hostile.fault_table import faults, reliability_page
from hostile.requests_sent import limits_page
from options_page import options_page
from presets.page import presets_page
from profiles_page import profiles_page

from pytest_etcdtls.document import SCHEMA_VERSION, schema
from pytest_etcdtls.registry import catalogue

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"

_SUMS = re.compile(r"\d+ misconfigurations, \d+ clusters on etcd [\d.]+(?:, [\d.]+\.[\d.]+)*")


def generated() -> dict[str, str]:
    """Return the text of every generated page, by path below the root."""
    return {
        "README.md": with_sums("README.md"),
        "docs/checks.md": checks_page(catalogue().values()),
        "docs/facts.md": facts_page(),
        "docs/limits.md": limits_page(),
        "docs/measured.md": with_sums("docs/measured.md"),
        "docs/options.md": options_page(),
        "docs/presets.md": presets_page(),
        "docs/profiles.md": profiles_page(),
        "docs/reliability.md": reliability_page(faults()),
        f"pytest_etcdtls/report/schema-v{SCHEMA_VERSION}.json": json.dumps(schema(), indent=2) + "\n",
    }


def with_sums(page: str) -> str:
    """Return a page with the sums of the kill matrix, which is written by ``make kill-matrix``."""
    [sums] = _SUMS.findall((DOCS / "kill-matrix.md").read_text(encoding="utf-8"))
    return _SUMS.sub(sums, (ROOT / page).read_text(encoding="utf-8"))


if __name__ == "__main__":
    for name, text in generated().items():
        (ROOT / name).write_text(text, encoding="utf-8")
