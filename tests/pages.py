"""The pages of ``docs`` that are generated, and writing them: ``python tests/pages.py``."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path

from facts_page import facts_page
from hostile.fault_table import faults, reliability_page
from hostile.requests_sent import safety_page
from presets.page import presets_page
from zoo.matrix import killed_elsewhere
from zoo.members import ZOO

from pytest_etcdtls.catalog import catalogue
from pytest_etcdtls.report.reference import catalogue_page

DOCS = Path(__file__).parents[1] / "docs"


def proofs() -> Mapping[str, list[str]]:
    """Return what proves each check: members of the zoo, then files with servers of ours."""
    found: dict[str, list[str]] = defaultdict(list)
    for member in sorted(ZOO, key=lambda member: member.name):
        for check in member.proves():
            found[check].append(member.name)
    for check, files in killed_elsewhere().items():
        found[check] += [f"[{Path(file).name}](../{file})" for file in dict.fromkeys(files)]
    return found


def checks_page() -> str:
    """Return the catalogue with its proofs."""
    return catalogue_page(catalogue().values(), proofs())


def faults_page() -> str:
    """Return the faults that the tests try."""
    return reliability_page(faults())


GENERATED: Mapping[str, Callable[[], str]] = {
    "checks.md": checks_page,
    "facts.md": facts_page,
    "presets.md": presets_page,
    "reliability.md": faults_page,
    "safety.md": safety_page,
}

if __name__ == "__main__":
    for name, make in GENERATED.items():
        (DOCS / name).write_text(make())
