"""The package's dependencies: versions, licences, and a page that gives a reason for each."""

from __future__ import annotations

import importlib.metadata
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
REQUIREMENTS = [Requirement(text) for text in PROJECT["dependencies"]]
EMBEDDED = [Requirement(text) for text in PROJECT["optional-dependencies"]["embedded"]]
ALLOWED = re.compile(
    r"Apache|MIT|BSD|PSF-2\.0|Python Software Foundation|MPL-2\.0|Mozilla Public License 2\.0|ISC"
)
COPYLEFT = re.compile(r"\b[AL]?GPL|General Public License", re.IGNORECASE)


def _distributions(
    requirements: list[Requirement], seen: set[str]
) -> Iterator[importlib.metadata.Distribution]:
    """Yield what the requirements lead to on this machine, each once."""
    for requirement in requirements:
        found = importlib.metadata.distribution(requirement.name)
        key = f"{found.metadata['Name'].lower()}[{','.join(sorted(requirement.extras))}]"
        if key in seen:
            continue
        seen.add(key)
        yield found
        further = [Requirement(text) for text in found.requires or []]
        extras = ("", *requirement.extras)
        wanted = [
            one
            for one in further
            if one.marker is None or any(one.marker.evaluate({"extra": extra}) for extra in extras)
        ]
        yield from _distributions(wanted, seen)


def _licence(distribution: importlib.metadata.Distribution) -> str:
    """Return the licence expression, else the classifiers, else the free text's first line."""
    metadata = distribution.metadata
    if "License-Expression" in metadata:
        return str(metadata["License-Expression"])
    classifiers = [line for line in metadata.get_all("Classifier") or [] if line.startswith("License ::")]
    text = (metadata.get_all("License") or [""])[0]
    return "; ".join(classifiers) or str(text).partition("\n")[0]


def test_no_dependency_has_a_copyleft_licence() -> None:
    licences = {
        distribution.metadata["Name"]: _licence(distribution)
        for distribution in _distributions(REQUIREMENTS + EMBEDDED, set())
    }
    assert len(licences) > 20
    assert {name: found for name, found in licences.items() if COPYLEFT.search(found)} == {}
    assert {name: found for name, found in licences.items() if not ALLOWED.search(found)} == {}


def test_the_lowest_versions_match_the_ranges() -> None:
    lowest = {
        requirement.name: Version(str(requirement.specifier).removeprefix("=="))
        for line in (ROOT / "tests/packaging/lowest.txt").read_text(encoding="utf-8").splitlines()
        if not line.startswith("#")
        for requirement in [Requirement(line)]
    }
    # Version refuses a range with an upper bound.
    bounds = {one.name: Version(str(one.specifier).removeprefix(">=")) for one in REQUIREMENTS}
    assert lowest == bounds


def test_each_range_has_a_reason() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for requirement in REQUIREMENTS + EMBEDDED:
        assert f"`{requirement}`" in page.replace(", ", ","), requirement
