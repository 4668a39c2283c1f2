"""The report as one HTML page: complete without scripts, other files or a network.

Every text that a server sent is a value of a template with autoescape. Before that it is made printable and
bounded.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cached_property
from typing import Final

from cryptography import x509
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from msgspec import structs

from pytest_etcdtls.checks.registry import Check, catalogue, why
from pytest_etcdtls.checks.results import CheckResult
from pytest_etcdtls.facts.access import AcceptedClient
from pytest_etcdtls.facts.certificates import PathToTrust
from pytest_etcdtls.facts.listener import ServedChain
from pytest_etcdtls.facts.recording import Recording
from pytest_etcdtls.profiles.profiles import outcome_of, summary_of
from pytest_etcdtls.report.benchmark import judged_items
from pytest_etcdtls.report.document import BenchmarkEntry
from pytest_etcdtls.report.model import Report, tool, version_of
from pytest_etcdtls.report.overview import (
    CLEAN,
    NOT_CLEAN,
    WORST_FIRST,
    AccessRow,
    AccessTable,
    Cell,
    Mark,
    SeenCertificate,
    about_commands,
    access,
    certificates,
    conclusion,
    exit_reason,
    is_of_several,
    judged,
    numbered,
    places,
    undecided,
)
from pytest_etcdtls.report.text import certificate_card, days_left, shown_name
from pytest_etcdtls.role import TLSVersion
from pytest_etcdtls.target import Listener
from pytest_etcdtls.untrusted.printable import error_text, plural, printable_lines

SUBJECTS: Mapping[str, str] = {
    "advisory": "published advisories about TLS: proved on the connection, or inferred from the version",
    "api": "which endpoints answer, and to which clients",
    "cert": "the served chain: trust, names, validity, usage, keys and signatures",
    "cluster": "every member alike, and reachable at the URLs that it advertises",
    "config": "what is declared, compared with what is in force",
    "restart": "what the next restart of etcd changes, by rehearsal",
    "lifecycle": "what happens when files and flags change; on clusters of our own only",
    "listener": "the two gates before all other checks of a listener",
    "mtls": "which clients are accepted and which are refused",
    "tls": "versions, cipher suites, groups and other parameters of the handshake",
}
"""Subject of each check family."""


_SECTIONS: Final = (
    *("verdict", "faults", "unknown", "matrix", "listeners", "timeline", "differences", "warnings"),
    *("profiles", "benchmark", "unverified", "waived", "results", "catalogue"),
)
"""The macros of ``sections.html.j2``, in their order on the page."""

MARKS: Final[Mapping[str, str]] = {
    **{"as expected": "✓", "not as expected": "✗", "a warning": "!", "waived": "~", "undecided": "?"},
    **{"violates": "✗", "warns": "!", "conforms": "✓", "not-applicable": "-", "not-verified": "?"},
    **{"inconclusive": "?", "broken": "?", "not-run": "?", "not-judged": "-"},
    **{"worse": "✗", "better": "✓", "changed": "-"},
    **{"expired": "✗", "not yet valid": "✗", "expires soon": "!", "valid": "✓"},
}
"""The sign that is shown with each colour."""
KINDS: Final[Mapping[str, str]] = {
    "✓": "good",
    "✗": "bad",
    "!": "warn",
    "~": "warn",
    "?": "open",
    "-": "none",
}
"""The class of each sign."""


def environment() -> Environment:
    """Return the Jinja2 environment: it makes values printable and bounded, and escapes them."""
    made = Environment(
        loader=PackageLoader("pytest_etcdtls.report"),
        autoescape=True,
        finalize=_shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals |= {"outcome_of": outcome_of, "summary_of": summary_of}
    made.globals |= {"version_of": version_of, "is_of_several": is_of_several, "all_places": places}
    made.globals |= {"marks": MARKS, "kinds": KINDS, "plural": plural, "why": why, "address": address}
    made.globals |= {"merged": merged, "shown_versions": shown_versions, "alerts_in": alerts_in}
    made.globals |= {
        "judged": judged,
        "exit_reason": exit_reason,
        "about_commands": about_commands,
        "numbered": numbered,
    }
    made.globals |= {"worst_first": WORST_FIRST, "days_left": days_left, "subjects": SUBJECTS}
    return made


def render(report: Report, lost: list[str]) -> str:
    """Return the report as the text of a file, and append to ``lost`` the parts that are not in it."""
    made = environment()
    macros = made.get_template("sections.html.j2").module
    page = _Page(report)
    parts: dict[str, str] = {}
    for name in _SECTIONS:
        try:
            parts[name] = getattr(macros, name)(page)
        except Exception as error:  # costs this section
            lost.append(f"the section {name}: {error_text(error)}")
            parts[name] = Markup("<p role=note>The section {} could not be shown.</p>").format(name)
    return made.get_template("page.html.j2").render(page=page, parts=parts)


def _shown(value: object) -> object:
    """Return a text as lines without control and bidirectional characters."""
    return printable_lines(value) if type(value) is not Markup and isinstance(value, str) else value


def merged(row: AccessRow, cells: Mapping[TLSVersion, Cell]) -> list[tuple[str, Cell]]:
    """Return the cells of one identity on one listener, with its versions unless all end alike."""
    alike: dict[tuple[str, Mark], dict[TLSVersion, Cell]] = {}
    for version, cell in cells.items():
        alike.setdefault((cell.text, cell.mark), {})[version] = cell
    return [
        (
            "" if len(group) == len(row.versions) else shown_versions(group),
            structs.replace(
                next(iter(group.values())),
                alert=", ".join(dict.fromkeys(cell.alert for cell in group.values() if cell.alert)),
            ),
        )
        for group in alike.values()
    ]


def shown_versions(versions: Iterable[TLSVersion]) -> str:
    """Return TLS versions by their numbers."""
    return " and ".join(version.removeprefix("TLSv") for version in sorted(versions))


def alerts_in(table: AccessTable) -> list[str]:
    """Return the alerts in an access matrix, each once."""
    cells = [cell for row in table.rows for by_version in row.cells for cell in by_version.values()]
    alerts = {alert for cell in cells if cell.alert for alert in cell.alert.split(", ")}
    return sorted(alerts, key=lambda alert: int(alert.split()[0]))


class _Page:
    """The values of the templates."""

    def __init__(self, report: Report) -> None:
        self.report = report
        self.tool = tool()

    @cached_property
    def verdict(self) -> tuple[str, str, str]:
        """The kind of verdict as a class, the word, and what comes after it."""
        found = conclusion(self.report)
        word, _, rest = found.text.partition(": ")
        return {CLEAN: "good", NOT_CLEAN: "bad"}.get(found.kind, "open"), word, rest

    @property
    def matrices(self) -> Iterator[tuple[object, AccessTable]]:
        """Targets with their access matrix."""
        for seen in self.report.seen:
            if (matrix := access(self.report, seen)).rows:
                yield seen, matrix

    @cached_property
    def certificates(self) -> list[SeenCertificate]:
        """Every certificate, the first to expire first."""
        return certificates(self.report.seen)

    @cached_property
    def window(self) -> tuple[datetime, datetime]:
        """Begin and end of the time line. A CA is valid for longer than the rest, and does not count."""
        now = self.report.started_at
        every = [certificate.certificate for certificate in self.certificates]
        leaves = [certificate for certificate in every if certificate.subject != certificate.issuer]
        longest = max((certificate.not_valid_after_utc for certificate in leaves or every), default=now) - now
        width = min(max(longest * 1.15, timedelta(days=75)), timedelta(days=1100))
        return now - width * 0.15, now + width

    def bar(self, seen: SeenCertificate) -> tuple[int, ...]:
        """Return begin, end, today and begin of the warnings in thousandths of the time line."""
        certificate = seen.certificate
        end = certificate.not_valid_after_utc
        soon = end - timedelta(days=seen.soon)
        return tuple(map(self._place, (certificate.not_valid_before_utc, end, self.report.started_at, soon)))

    def _place(self, when: datetime) -> int:
        begin, end = self.window
        return round(1000 * min(max((when - begin) / (end - begin), 0), 1))

    @property
    def listeners(self) -> Iterator[tuple[object, list[object]]]:
        """Targets with the summary of each listener."""
        for seen in self.report.seen:
            yield seen, [self._card(seen, listener) for listener in seen.target.listeners]

    def _card(self, seen: Recording, listener: Listener) -> Mapping[str, object]:
        chain = seen.known(ServedChain, label=listener.label)
        client = seen.known(AcceptedClient, label=listener.label)
        results = self._by_listener.get((seen.target.label, listener.label), ())
        counted = Counter(result.outcome for result in results)
        return {
            "listener": listener,
            "chain": chain.certificates if chain else (),
            "trust": _trust(seen.known(PathToTrust, label=listener.label)),
            "accepted": client.accepted.identity if client and client.accepted else "",
            "versions": client.versions if client else (),
            "counts": {outcome: counted[outcome] for outcome in WORST_FIRST if outcome in counted},
        }

    def chain(self, served: Sequence[x509.Certificate]) -> Iterator[tuple[str, list[tuple[str, str]]]]:
        """Yield subject and details of each certificate."""
        for certificate in served:
            yield shown_name(certificate.subject), list(certificate_card(certificate, self.report.started_at))

    @cached_property
    def benchmark(self) -> list[tuple[str, list[BenchmarkEntry]]]:
        """Targets that a user has configured, with the judged items of the CIS Kubernetes Benchmark."""
        configured = [seen for seen in self.report.seen if seen.target.configured_by_user]
        judged = ((seen.target.label, judged_items(self.report, seen)) for seen in configured)
        return [(label, items) for label, items in judged if items]

    def without(self, *outcomes: str) -> list[object]:
        """Return results of these outcomes by their reason."""
        return list(undecided(result for result in self.report.results if result.outcome in outcomes))

    @cached_property
    def _by_listener(self) -> Mapping[tuple[str, str], list[CheckResult]]:
        by_listener: dict[tuple[str, str], list[CheckResult]] = {}
        for result in self.report.results:
            by_listener.setdefault((result.target, result.listener), []).append(result)
        return by_listener

    @property
    def groups(self) -> Iterator[tuple[str, str, list[CheckResult]]]:
        """Target and listener with their results, the worst first."""
        for (target, listener), results in self._by_listener.items():
            results.sort(key=lambda result: (WORST_FIRST.index(result.outcome), result.check))
            yield target, listener, results

    @cached_property
    def checks(self) -> Mapping[str, Check]:
        """The checks that have results."""
        names = {result.check for result in self.report.results}
        return {name: check for name, check in catalogue().items() if name in names}


def _trust(path: PathToTrust | None) -> str:
    """Return the trust anchor of a served leaf, or why there is none; empty if that is not known."""
    if path is None:
        return ""
    if path.error or not path.path:
        return path.error or "no path to a trust anchor"
    return f"leads to {shown_name(path.path[-1].subject)} in {path.source}"


_RFC = re.compile(r"RFC (\d+)(?: (section|sections|appendix) ([\w.]+))?")
_ADVISORY = re.compile(r"GHSA(?:-[a-z0-9]{4}){3}")
_CVE = re.compile(r"CVE-\d{4}-\d+")


def address(reference: str) -> str:
    """Return the URL of an RFC, an advisory or a CVE; empty for another reference."""
    if match := _RFC.match(reference):
        number, kind, place = match.groups()
        fragment = f"#{'appendix' if kind == 'appendix' else 'section'}-{place.rstrip('.,')}" if place else ""
        return f"https://www.rfc-editor.org/rfc/rfc{number}{fragment}"
    if match := _ADVISORY.match(reference):
        return f"https://github.com/advisories/{match[0]}"
    if match := _CVE.match(reference):
        return f"https://www.cve.org/CVERecord?id={match[0]}"
    return ""
