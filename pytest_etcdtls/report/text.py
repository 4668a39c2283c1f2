"""Text for the terminal: lines wrapped and coloured, a result, a certificate in one line or as a table."""

from __future__ import annotations

import functools
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, TypeVar, cast

from cryptography import x509
from msgspec import Struct
from msgspec.structs import force_setattr

from pytest_etcdtls.checks.registry import requirement, why
from pytest_etcdtls.checks.results import Ancestor, CheckResult, Finding
from pytest_etcdtls.errors import escaped_line
from pytest_etcdtls.pki.certificate import (
    describe_key,
    fingerprint,
    key_usages,
    name_text,
    public_key,
    purposes,
    signature_hash,
    span,
)
from pytest_etcdtls.pki.go_parser import details
from pytest_etcdtls.pki.go_verify import subject_alt_names
from pytest_etcdtls.pki.profile import KEY_USAGES
from pytest_etcdtls.untrusted.printable import error_text, listed, plural

WIDTH = 80

_CONTINUED = "  "
"""Prefix of the further lines of a message, so that no line begins with text that a server sent."""


class Line(Struct, frozen=True):
    """One line; what a terminal or a CI runner acts on is written as its escape.

    Attributes:
        markup: names of pytest's terminal markup: ``red``, ``bold`` ...
        lost: the line stands for a part that could not be shown.
    """

    text: str = ""
    markup: Mapping[str, bool] = {}
    lost: bool = False

    def __post_init__(self) -> None:
        force_setattr(self, "text", escaped_line(self.text))


def bold(text: str) -> Line:
    """Return a heading."""
    return coloured(text, "bold")


def headed(heading: Line, lines: Iterable[Line]) -> Iterator[Line]:
    """Yield a blank line, the heading and the lines; nothing if there are no lines."""
    for number, line in enumerate(lines):
        if number == 0:
            yield from (Line(), heading)
        yield line


def coloured(text: str, colour: str) -> Line:
    """Return a line with one markup."""
    return Line(text, {colour: True})


def wrapped(
    text: str, width: int, first: str = "", rest: str | None = None, colour: str = ""
) -> Iterator[Line]:
    """Yield a text in lines no longer than the width. A longer word is not broken.

    Args:
        text: the text. Its line breaks are kept.
        width: characters per line.
        first: prefix of the first line.
        rest: prefix of the other lines; ``None`` for as many spaces as ``first`` is long.
        colour: markup of all lines.
    """
    markup = {colour: True} if colour else {}
    indent = " " * len(first) if rest is None else rest
    # Not splitlines(): it also splits at control characters, which a server may send.
    for number, paragraph in enumerate(text.removesuffix("\n").split("\n")):
        begin = first if number == 0 else indent
        lines = textwrap.wrap(
            paragraph,
            width,
            initial_indent=begin,
            subsequent_indent=indent,
            break_long_words=False,
            break_on_hyphens=False,
        )
        yield from (Line(line, markup) for line in lines or [begin.rstrip()])


def follows_from(cause: Ancestor) -> str:
    """Return in one line that a violation is the consequence of another one."""
    return f"follows from {cause.check} on {cause.listener}"


def result_lines(result: CheckResult) -> Iterator[Line]:
    """Yield a result in full, or one line for the consequence of another violation."""
    if result.cause is None:
        yield from full_result(result)
    else:
        yield from wrapped(follows_from(result.cause), WIDTH, colour="red")


Section = TypeVar("Section", bound=Callable[..., Iterator[Line]])


def section(make: Section) -> Section:
    """Decorate a generator of lines: an error in it costs the rest of that section, and is shown."""

    @functools.wraps(make)
    def lines(*values: object, **named: object) -> Iterator[Line]:
        try:
            yield from make(*values, **named)
        except Exception as error:
            text = f"This part could not be shown: {error_text(error)}"
            yield Line(text, {"red": True}, lost=True)

    return cast("Section", lines)


@section
def full_result(result: CheckResult, width: int = WIDTH, *, in_verdict: str | None = None) -> Iterator[Line]:
    """Yield the full description of a result with one command; without findings, outcome and reason.

    Args:
        result: the result.
        width: characters per line.
        in_verdict: the command that the verdict shows, with what is wrong first and with the remedy: these
            are left out. ``None`` if it shows none of that.
    """
    if not result.findings:
        yield from wrapped(f"{result.outcome}: {result.reason}", width, "", _CONTINUED, "red")
        return
    if result.cause is not None:
        yield from wrapped(follows_from(result.cause), width)
    said = {result.remediation.rstrip(".")}
    alike: dict[tuple[str, ...], list[Finding]] = {}
    for number, finding in enumerate(result.findings):
        texts = (finding.message, finding.expected, finding.observed, *finding.evidence.values())
        own = finding.evidence.get("member", "")
        key = tuple(without_names(text, [own]) for text in texts) if own else (str(number),)
        alike.setdefault(key, []).append(finding)
    commands = [text for finding, *_ in alike.values() for text in finding.commands]
    shown = commands[:1] if commands[:1] != [in_verdict] else []
    for finding, *others in alike.values():
        if in_verdict is None or finding is not result.findings[0]:
            yield from wrapped(finding.message, width, "", _CONTINUED, "red")
        if finding.expected not in said:
            yield from _labelled([("expected", finding.expected)], width)
        yield from _labelled([("observed", finding.observed)], width)
        evidence = [
            f"{name}: {line}" for name, value in finding.evidence.items() for line in value.split("\n")
        ]
        new = [text for text in evidence if text not in said]
        if others:
            new.append(f"the same of {', '.join(other.evidence['member'] for other in others)}")
        is_short = new and 4 + len("; ".join(new)) <= width
        yield from (Line(f"    {text}") for text in (["; ".join(new)] if is_short else new))
        said |= {finding.expected, *evidence}
        if shown and shown[0] in finding.commands:
            yield Line("  reproduce:")
            # To paste, so it is not wrapped.
            yield from (Line(f"    {line}") for line in shown.pop().splitlines())
    if (further := len(commands) - 1) > 0:
        more = plural(further, "more command")
        yield from wrapped(f"{more} in the reports that --etcd-report writes", width, "    ")
    remedy, settings = (result.remediation, result.settings) if in_verdict is None else ("", ())
    explained = [("requires", requirement(result)), ("why", why(result)), ("remedy", remedy)]
    explained += [("note", result.reason), ("see", "; ".join(result.references))]
    yield from _labelled([(label, text) for label, text in explained if text], width)
    if settings:
        yield Line("  settings:")
        yield from (Line(f"    {line}") for line in settings)  # to paste, so they are not wrapped


def without_names(text: str, members: Iterable[str]) -> str:
    """Return a text without the names of members; others may say the same with theirs."""
    return re.sub(rf"(?<![\w.])({'|'.join(map(re.escape, members))})(?![\w-])", "", text)


def _labelled(texts: Iterable[tuple[str, str]], width: int) -> Iterator[Line]:
    for label, text in texts:
        yield from wrapped(text, width, f"  {label + ':':<10}")


def certificate_facts(certificate: x509.Certificate) -> dict[str, Any]:
    """Return the facts of a certificate for the report: times in UTC, names in RFC 4514 format."""
    usages = key_usages(certificate) or ()
    key = describe_key(public_key(certificate)).removesuffix(" bits")
    return {
        "subject": name_text(certificate.subject),
        "issuer": name_text(certificate.issuer),
        "serial_number": f"{details(certificate).serial_number:x}",
        "not_before": utc(certificate.not_valid_before_utc),
        "not_after": utc(certificate.not_valid_after_utc),
        "key": key.replace("secp256r1", "P-256").replace("secp384r1", "P-384"),
        "signature": signature_hash(certificate) or "no separate hash",
        "subject_alt_names": list(subject_alt_names(certificate)),
        "key_usage": [name for name in KEY_USAGES if name in usages],
        "extended_key_usage": list(purposes(certificate) or ()),
        "sha256": fingerprint(certificate),
    }


def certificate_card(certificate: x509.Certificate, now: datetime) -> Iterator[tuple[str, str]]:
    """Yield all details of a certificate as pairs of label and value."""
    facts = certificate_facts(certificate)
    yield "subject", shown_name(certificate.subject)
    yield "issuer", shown_name(certificate.issuer)
    yield "serial", facts["serial_number"]
    yield "from", facts["not_before"]
    yield "until", f"{facts['not_after']} ({days_left(certificate, now)})"
    yield "key", facts["key"]
    yield "signature", facts["signature"]
    yield "names", listed(facts["subject_alt_names"]) or "no subjectAltName"
    yield "key usage", ", ".join(facts["key_usage"]) or "no such extension"
    yield "extended", ", ".join(facts["extended_key_usage"]) or "no such extension"
    yield "SHA-256", facts["sha256"]


def days_left(certificate: x509.Certificate, now: datetime) -> str:
    """Return ``30 days left``, ``5 hours left`` or ``expired 2 days ago``."""
    left = certificate.not_valid_after_utc - now
    return f"expired {span(-left)} ago" if left < timedelta(0) else f"{span(left)} left"


def utc(when: datetime) -> str:
    """Return an aware time as ISO 8601 in UTC, ending in Z."""
    return when.isoformat().replace("+00:00", "Z")


def shown_name(name: x509.Name) -> str:
    """Return a distinguished name in RFC 4514 format, ``(empty name)`` for an empty one."""
    return name_text(name) or "(empty name)"
