"""The pages and tables of ``docs`` that are generated, and writing them: ``python tests/pages.py``."""

from __future__ import annotations

import json
import re
from pathlib import Path

from checks_page import checks_by_family, families_table
from facts_page import facts_tables
from hostile.requests_sent import requests_table
from options_page import options_tables
from profiles_page import profiles_tables, thresholds_table

from pytest_etcdtls.checks.registry import catalogue
from pytest_etcdtls.etcd.presets import PRESETS
from pytest_etcdtls.report.document import SCHEMA_VERSION, schema

ROOT = Path(__file__).parents[1]


def generated(*, new_checks: bool = True) -> dict[str, str]:
    """Return the text of every generated page, by path below the root.

    Args:
        new_checks: include checks that ``docs/checks.md`` lacks; a release adds them.
    """
    named = re.findall(r"[a-z]+\.[a-z0-9-]+", (ROOT / "docs/checks.md").read_text(encoding="utf-8"))
    checks = [check for check in catalogue().values() if new_checks or check.id in named]
    return {
        "docs/checks.md": _filled(
            "docs/checks.md", families=families_table(checks), checks=checks_by_family(checks)
        ),
        "docs/facts.md": _filled("docs/facts.md", facts=facts_tables()),
        "docs/fixtures.md": _filled("docs/fixtures.md", presets=presets_table()),
        "docs/limits.md": _filled("docs/limits.md", requests=requests_table()),
        "docs/options.md": _filled("docs/options.md", options=options_tables()),
        "docs/profiles.md": _filled(
            "docs/profiles.md", thresholds=thresholds_table(), profiles=profiles_tables()
        ),
        f"pytest_etcdtls/report/schema-v{SCHEMA_VERSION}.json": json.dumps(schema(), indent=2) + "\n",
    }


def presets_table() -> str:
    """Return the table of presets, for ``docs/fixtures.md``."""
    rows = [f"| `{preset.name}` | {preset.what} |" for preset in PRESETS.values()]
    return "\n".join(["| preset | configuration |", "|---|---|", *rows])


def _filled(page: str, **tables: str) -> str:
    """Return a page written by hand with each table between its marks."""
    text = (ROOT / page).read_text(encoding="utf-8")
    for name, table in tables.items():
        before, _, rest = text.partition(f"<!-- generated: {name} -->\n")
        text = f"{before}<!-- generated: {name} -->\n{table}\n<!-- end -->{rest.partition('<!-- end -->')[2]}"
    return text


if __name__ == "__main__":
    for name, text in generated().items():
        (ROOT / name).write_text(text, encoding="utf-8")
