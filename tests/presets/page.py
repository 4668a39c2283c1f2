"""The presets as a table of Markdown, for ``docs/fixtures.md``."""

from __future__ import annotations

from pytest_etcdtls.etcd.presets import PRESETS


def presets_table() -> str:
    """Return the table."""
    rows = [f"| `{preset.name}` | {preset.what} |" for preset in PRESETS.values()]
    return "\n".join(["| preset | configuration |", "|---|---|", *rows])
