"""The tables of ``docs/profiles.md``: thresholds, and the sections of each profile of the package."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from checks_page import as_text, cell

from pytest_etcdtls.profiles.profiles import (
    TAKEN_BY,
    Guideline,
    Section,
    builtin,
    read_profiles,
    threshold_text,
)

_THRESHOLDS = {
    "tls_versions": "the only TLS versions that may be accepted: `TLSv1.2`, `TLSv1.3`",
    "cipher_suites": "the only suites that may be accepted in TLS 1.2, by their IANA names",
    "tls13_cipher_suites": "the only suites that TLS 1.3 may accept; up to 5 more connections per listener",
    "groups": "the only groups that may be accepted; hybrid groups are judged only if one of them is listed",
    "groups_one_of": "groups of which at least one must be accepted",
    "keys": "the only types of key: `RSA`, `secp256r1`, `secp384r1`, `secp521r1`, `Ed25519`",
    "rsa_bits": "the minimum size of an RSA key, at least 2048 bits",
    "signature_hashes": "the only hashes of certificate signatures: `sha256`, `sha384`, `sha512`",
    "lifetime_days": "the maximum validity of a served certificate, up to 825 days",
    "expiry_days": "the number of days before expiry from which a check warns",
}


def thresholds_table() -> str:
    """Return the table of what a profile can restrict."""
    rows = (
        f"| `{name}` | {text} | {', '.join(f'`{check}`' for check in sorted(TAKEN_BY[name]))} |"
        for name, text in _THRESHOLDS.items()
    )
    return "\n".join(["| threshold | meaning | measured by |", "|---|---|---|", *rows])


def profiles_tables() -> str:
    """Return a table for each profile of the package."""
    profiles = read_profiles(builtin(), Path).profiles
    return "\n".join(line for profile in profiles for line in _profile(profile))


def _profile(profile: Guideline) -> Iterator[str]:
    yield from ("", f"## {profile.name}", "", f"{as_text(profile.title)}.")
    if profile.note:
        yield from ("", as_text(profile.note))
    yield ""
    yield "| section | what it is about | level | checks | thresholds | not judged by this tool |"
    yield "|---|---|---|---|---|---|"
    for section in profile.sections:
        yield _section(section)


def _section(section: Section) -> str:
    about = f"**{cell(section.title)}** {cell(section.says)}".strip()
    if section.on:
        about += f" On {', '.join(sorted(section.on))}."
    level = str(section.level) if section.level else ("each check's own" if section.checks else "")
    checks = ", ".join(f"`{check}`" for check in section.checks)
    thresholds = "; ".join(
        f"`{name}` {cell(threshold_text(value))}" for name, value in section.thresholds.given().items()
    )
    return f"| {section.section} | {about} | {level} | {checks} | {thresholds} | {cell(section.not_judged)} |"
