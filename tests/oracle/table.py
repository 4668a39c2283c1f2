"""Writes tests/oracle/certificate-verdicts.md: verdicts on generated chains, compared with four clients.

Exit code 1 if a verdict differs from Go's without an exemption, or one is broken.
"""

from __future__ import annotations

import argparse
import os
import re
import ssl
import sys
import tempfile
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from oracle.chains import Case, cases
from oracle.clients import PYTHON_3_13, GoAnswer, GoClient, by_cryptography, handshake, why_no_go
from oracle.exceptions import EXEMPTIONS, agrees, exemption
from oracle.judging import judge

PAGE = Path(__file__).with_name("certificate-verdicts.md")
CHUNK = 250


@dataclass(frozen=True)
class Row:
    """The outcome of one case.

    Attributes:
        musts: MUST checks that violate.
        refused: by the CA file: this client takes no such file.
        exempt: name of the exemption, empty for none.
        others: whether OpenSSL, Python and cryptography refuse; ``None`` if it cannot be served to them.
        words: what OpenSSL and Python say.
        wrong: what is not as it has to be, empty if nothing is.
    """

    group: str
    go: bool
    phase: str
    musts: tuple[str, ...]
    shoulds: tuple[str, ...]
    unloadable: bool
    exempt: str
    others: tuple[bool | None, bool | None, bool]
    words: tuple[str, str]
    wrong: str


def judged(case: Case, answer: GoAnswer) -> Row:
    """Judge one case and ask the other clients."""
    verdicts = judge(case)
    agreed = agrees(answer, verdicts)
    exempt = None if agreed else exemption(case, answer, verdicts)
    where = f"case {case.number} ({', '.join(case.mutations)})"
    wrong = [f"{where}: {check} is broken: {reason}" for check, reason in list(verdicts.broken.items())[:1]]
    if not agreed and exempt is None:
        wrong.append(f"{where}: Go says {answer}, violated are {sorted(verdicts.violated)}")
    openssl, python = (handshake(case, flags) for flags in (ssl.VerifyFlags(0), PYTHON_3_13))
    return Row(
        group=case.group,
        go=answer.refused,
        phase=answer.phase,
        musts=tuple(verdicts.violated),
        shoulds=tuple(verdicts.warned),
        unloadable=bool(verdicts.unloadable),
        exempt=exempt.name if exempt else "",
        words=(openssl or "", python or ""),
        others=(_refused(openssl), _refused(python), bool(by_cryptography(case))),
        wrong="; ".join(wrong),
    )


def _refused(words: str | None) -> bool | None:
    return None if words is None else bool(words)


def _chunk(seed: int, count: int, directory: str) -> list[Row]:
    now = datetime.now(UTC)
    generated = list(cases(count, seed, now))
    return [
        judged(case, answer) for case, answer in zip(generated, _go(directory).ask(generated), strict=True)
    ]


def _go(directory: str) -> GoClient:
    return GoClient(Path(directory))


def main() -> int:
    """Run, write the page, and print a summary."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=6000)
    parser.add_argument(
        "--seed", type=int, default=1000, help="of the first 250 cases; the next have the next"
    )
    parser.add_argument("--page", type=Path, default=PAGE)
    arguments = parser.parse_args()
    if missing := why_no_go():
        sys.stderr.write(f"needs {missing}\n")
        return 1
    chunks = -(-arguments.cases // CHUNK)
    with tempfile.TemporaryDirectory() as directory:
        go = GoClient(Path(directory)).version
        # One build for each process: they would overwrite each other's binary.
        places = [Path(directory) / str(number) for number in range(chunks)]
        for place in places:
            place.mkdir()
        with ProcessPoolExecutor(os.cpu_count()) as processes:
            seeds = range(arguments.seed, arguments.seed + chunks)
            rows = [
                row
                for found in processes.map(_chunk, seeds, [CHUNK] * chunks, map(str, places))
                for row in found
            ]
    arguments.page.write_text(page(rows, go, arguments.seed), encoding="utf-8")
    wrong = [row.wrong for row in rows if row.wrong]
    for words in wrong:
        sys.stderr.write(f"{words}\n")
    sys.stdout.write(f"{len(rows)} cases, {len(wrong)} wrong; see {arguments.page}\n")
    return bool(wrong)


def page(rows: list[Row], go: str, seed: int) -> str:
    """Return the page."""
    exempt = Counter(row.exempt for row in rows if row.exempt)
    lines = [
        "# Verdicts on certificates, compared with clients",
        "",
        "<!-- written by `python -m oracle.table`; do not edit -->",
        "",
        "Go's verifier is the reference for the MUST checks of the family `cert`: etcd's own clients, its",
        "gateway and its members are Go programs. `tests/oracle` generates chains from a seed, most with one",
        "to three faults. It judges each chain as if a listener served it. A small Go program verifies the",
        "same chain: it reads the CA file as etcd's client does and verifies as `crypto/tls` does. **A MUST",
        "violates if and only if Go refuses.** The exceptions are listed below. No check may be broken.",
        "",
        "OpenSSL and Python get the chain in a TLS handshake. If only they refuse it, SHOULD checks warn and",
        "name the client: see [Certificates](../../docs/verdicts.md#certificates-that-clients-refuse).",
        "",
        f"This page: {len(rows)} cases, seeds {seed} to {seed + len(rows) // CHUNK - 1}; {go};",
        f"{ssl.OPENSSL_VERSION} with its defaults, and with the flags that Python sets from 3.13 on (strict,",
        f"partial chain); cryptography {version('cryptography')}'s own verifier.",
        "",
        "## Cases by first change",
        "",
        "| changed | cases | Go refuses | a MUST violates | agree | exceptions | OpenSSL refuses "
        "| Python 3.13 refuses | cryptography refuses | not served to OpenSSL |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    groups = {row.group: [found for found in rows if found.group == row.group] for row in rows}
    for name, found in sorted(groups.items()):
        lines.append(_line(name, found))
    lines.append(_line("**all**", rows))
    usage_errors = sum(row.unloadable and row.phase == "roots" for row in rows)
    lines += [
        "",
        "A CA file that this client cannot load is a usage error before any connection. It counts as",
        f"agreement if Go cannot read the file either ({usage_errors} cases). A certificate cannot be served",
        "if there is no private key for it, or if OpenSSL cannot load it.",
        "",
        "## Differences between Go and the others",
        "",
        "| | OpenSSL | Python 3.13 | cryptography |",
        "|---|--:|--:|--:|",
    ]
    for words, go_refuses in (("Go accepts, it refuses", False), ("Go refuses, it accepts", True)):
        counts = [
            sum(row.go is go_refuses and row.others[place] is (not go_refuses) for row in rows)
            for place in range(3)
        ]
        lines.append(f"| {words} | {' | '.join(map(str, counts))} |")
    silent = [sum(_is_silent(row, place) for row in rows) for place in range(3)]
    lines += [
        "| Go accepts, it refuses, and no MUST or SHOULD check finds it "
        + f"| {' | '.join(map(str, silent))} |",
        "",
        "cryptography's verifier is made for the web and is stricter. Most chains that it refuses and Go",
        "accepts have a leaf or root that does not follow the CA/Browser Forum's rules. No client of etcd",
        "uses it.",
        "",
        "Errors of OpenSSL and Python in cases that they refuse, Go accepts and no check finds:",
        "",
        "| error | OpenSSL | Python 3.13 |",
        "|---|--:|--:|",
        *_unnamed(rows),
        "",
        "If a CA has several certificates, Go accepts any valid path. OpenSSL verifies only the first path",
        "that it finds.",
        "",
        "## Exceptions",
        "",
        "| exception | cases | reason |",
        "|---|--:|---|",
    ]
    lines += [f"| {one.name} | {exempt[one.name]} | {one.reason} |" for one in EXEMPTIONS]
    lines += [
        "",
        "## MUST checks and their cases",
        "",
        "| check | cases | alone | Go refuses |",
        "|---|--:|--:|--:|",
    ]
    checks = Counter(check for row in rows for check in row.musts)
    for check, count in sorted(checks.items()):
        alone = sum(row.musts == (check,) for row in rows)
        refused = sum(check in row.musts and row.go for row in rows)
        lines.append(f"| `{check}` | {count} | {alone} | {refused} |")
    return "\n".join((*lines, ""))


def _unnamed(rows: list[Row]) -> list[str]:
    """Return the refusals of OpenSSL and Python where Go accepts and no check has a finding."""
    said = [Counter(_short(row.words[place]) for row in rows if _is_silent(row, place)) for place in range(2)]
    return [
        f"| {words} | {said[0][words]} | {said[1][words]} |" for words, _ in (said[0] + said[1]).most_common()
    ]


def _short(words: str) -> str:
    """Return the text without what differs between cases."""
    return re.sub(r"'[^']*'", "…", words).partition(" (_ssl")[0].rstrip(".")


def _is_silent(row: Row, place: int) -> bool:
    return not row.go and row.others[place] is True and not row.musts and not row.shoulds


def _line(name: str, rows: list[Row]) -> str:
    agreed = sum(not row.exempt and not row.wrong for row in rows)
    counts = [
        len(rows),
        sum(row.go for row in rows),
        sum(bool(row.musts) for row in rows),
        agreed,
        sum(bool(row.exempt) for row in rows),
        *(sum(row.others[place] is True for row in rows) for place in range(3)),
        sum(row.others[0] is None for row in rows),
    ]
    return f"| {name} | {' | '.join(map(str, counts))} |"


if __name__ == "__main__":
    sys.exit(main())
