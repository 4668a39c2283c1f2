"""Chromium with axe-core: whether it is installed, and its results on pages."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).parent / "browser.cjs"
MODULES = (
    Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    / "pytest-etcdtls"
    / "browser"
    / "node_modules"
)
"""Where ``tests/report/install_browser.sh`` installs axe-core and playwright-core."""


def missing() -> str:
    """Return what is missing besides programs, empty if nothing is."""
    lacking = [name for name in ("axe-core", "playwright-core") if not (MODULES / name).is_dir()]
    return f"{' and '.join(lacking)}: run tests/report/install_browser.sh" if lacking else ""


def browse(*arguments: str | Path) -> str:
    """Run the script and return its output."""
    chromium = shutil.which("chromium") or "chromium"
    done = subprocess.run(
        ["node", SCRIPT, chromium, *arguments],
        env={**os.environ, "NODE_PATH": str(MODULES)},
        capture_output=True,
        encoding="utf-8",
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def look(*pages: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the results for each page, in three widths, light and dark."""
    seen: dict[str, list[dict[str, Any]]] = json.loads(browse(*pages))
    return {Path(page).stem: views for page, views in seen.items()}
