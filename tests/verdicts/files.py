"""Files of subjects: a line of JSON for each, compressed by itself. A run that ends early loses nothing."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

Values = dict[str, Any]
"""JSON values."""


def create(path: Path) -> None:
    """Create a file without subjects."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")


def append(path: Path, name: str, values: Values) -> None:
    """Append a subject to a file."""
    line = json.dumps({"subject": name, "values": values}, ensure_ascii=False)
    with path.open("ab") as file:
        file.write(gzip.compress(f"{line}\n".encode()))


def read(path: Path) -> dict[str, Values]:
    """Return the subjects of a file."""
    found: dict[str, Values] = {}
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for line in file:
            read = json.loads(line)
            found[read["subject"]] = read["values"]
    found.pop("", None)  # an older file begins with the commit of its code
    return found
