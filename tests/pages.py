"""The pages of ``docs`` that are generated, and writing them: ``python tests/pages.py``."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from checks_page import checks_index, family_pages
from facts_page import facts_page
from hostile.fault_table import faults, reliability_page
from hostile.requests_sent import safety_page
from options_page import options_page
from presets.page import presets_page
from profiles_page import profiles_page
from zoo.matrix import killed_elsewhere
from zoo.members import ZOO

from pytest_etcdtls.facts.fact import Need
from pytest_etcdtls.registry import catalogue

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"

_SUMS = re.compile(r"\d+ misconfigurations, \d+ clusters on etcd [\d.]+(?:, [\d.]+\.[\d.]+)*")


def generated() -> dict[str, str]:
    """Return the text of every generated page, by path below the root."""
    checks = catalogue().values()
    return {
        "README.md": readme(),
        "docs/checks.md": checks_index(checks),
        **{f"docs/checks/{family}.md": page for family, page in family_pages(checks).items()},
        "docs/check-proofs.md": proofs_page(),
        "docs/facts.md": facts_page(),
        "docs/options.md": options_page(),
        "docs/presets.md": presets_page(),
        "docs/profiles.md": profiles_page(),
        "docs/reliability.md": reliability_page(faults()),
        "docs/safety.md": safety_page(),
    }


def stale() -> list[Path]:
    """Return the pages below ``docs/checks`` of families that no longer exist."""
    return sorted(set(DOCS.glob("checks/*.md")) - {ROOT / name for name in generated()})


def readme() -> str:
    """Return the README with the sums of the kill matrix, which is written by ``make kill-matrix``."""
    [sums] = _SUMS.findall((DOCS / "kill-matrix.md").read_text())
    return _SUMS.sub(sums, (ROOT / "README.md").read_text())


def proofs_page() -> str:
    """Return the developers' page: the facts that each check needs, and the test that makes it fail."""
    lines = [
        "# What each check needs and what proves it",
        "",
        "For developers. Every check is proved by a fault that it finds: on a misconfigured etcd of",
        "[the kill matrix](kill-matrix.md), which names it, or in a test of its own with another real",
        "etcd or a fake server. The facts are classes in `pytest_etcdtls/facts`. Written by `make docs`.",
        "",
        "| check | facts | proved by |",
        "|---|---|---|",
        *_proofs(),
    ]
    return "\n".join([*lines, ""])


def _proofs() -> Iterator[str]:
    elsewhere = killed_elsewhere()
    in_zoo = Counter(check for member in ZOO for check in member.proves())
    for check in catalogue().values():
        facts = ", ".join(dict.fromkeys(_fact(need) for need in check.needs.values()))
        proofs = []
        if number := in_zoo[check.id]:
            proofs.append(f"{number} misconfigured cluster{'s' if number > 1 else ''}")
        proofs += [f"[{Path(file).name}](../{file})" for file in dict.fromkeys(elsewhere.get(check.id, ()))]
        yield f"| `{check.id}` | {facts} | {', '.join(proofs)} |"


def _fact(need: Need) -> str:
    return f"`{need.type.__name__}`" + (f" of `{need.key}`" if need.key else "")


def write(pages: Mapping[str, str]) -> None:
    """Write the pages and remove those of families that are gone."""
    (DOCS / "checks").mkdir(exist_ok=True)
    for name, text in pages.items():
        (ROOT / name).write_text(text)
    for path in stale():
        path.unlink()


if __name__ == "__main__":
    write(generated())
