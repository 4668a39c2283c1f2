"""The pages of ``docs`` that are generated, and writing them: ``python tests/pages.py``."""

from __future__ import annotations

import json
from pathlib import Path

from checks_page import checks_page
from hostile.requests_sent import limits_page
from options_page import options_page
from presets.page import presets_page
from profiles_page import profiles_page

from pytest_etcdtls.document import SCHEMA_VERSION, schema
from pytest_etcdtls.registry import catalogue

ROOT = Path(__file__).parents[1]


def generated() -> dict[str, str]:
    """Return the text of every generated page, by path below the root."""
    return {
        "docs/checks.md": checks_page(catalogue().values()),
        "docs/limits.md": limits_page(),
        "docs/options.md": options_page(),
        "docs/presets.md": presets_page(),
        "docs/profiles.md": profiles_page(),
        f"pytest_etcdtls/report/schema-v{SCHEMA_VERSION}.json": json.dumps(schema(), indent=2) + "\n",
    }


if __name__ == "__main__":
    for name, text in generated().items():
        (ROOT / name).write_text(text, encoding="utf-8")
