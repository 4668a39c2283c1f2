"""The catalogue as Markdown: the text about one check, and the escapes of characters."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from checks_page import as_text, cell, checks_page, linked
from msgspec.structs import replace

from pytest_etcdtls.checks.registry import catalogue
from pytest_etcdtls.role import Role

CHECKS = catalogue()


def section(identifier: str) -> list[str]:
    lines = checks_page([CHECKS[identifier]]).splitlines()
    return lines[lines.index(f"### `{identifier}`") :]


def test_a_check_is_shown_in_full() -> None:
    check = CHECKS["mtls.no-certificate"]
    text = "\n".join(section("mtls.no-certificate"))
    assert f"**{check.requirement}** MUST, critical; on client, peer, metrics, client-http." in text
    assert " ".join(check.explanation.split()) in text
    assert "[RFC 8446 section 4.4.2.4](https://www.rfc-editor.org/rfc/rfc8446#section-4.4.2.4)" in text


def test_flags_are_those_of_the_ports_that_are_judged() -> None:
    assert "`--[peer-]client-cert-auth=true`" in "\n".join(section("mtls.no-certificate"))
    check = CHECKS["mtls.no-certificate"]
    for role, flag in (
        (Role.PEER, "`--peer-client-cert-auth=true`"),
        (Role.CLIENT, "`--client-cert-auth=true`"),
    ):
        assert flag in checks_page([replace(check, roles=frozenset({role}))])


def test_an_opt_in_check_shows_how_to_request_it() -> None:
    [check, *_] = [check for check in CHECKS.values() if check.opt_in]
    assert f"- runs only when asked for: `--etcd-check={check.id}`" in section(check.id)


def test_the_page_counts_the_checks_and_links_every_family() -> None:
    page = checks_page(CHECKS.values())
    assert f"\n{len(CHECKS)} checks in " in page
    numbers = re.findall(r"^\| \[(\w+)\]\(#\1\) \| (\d+) \|", page, re.MULTILINE)
    assert dict(numbers) == {
        family: str(number) for family, number in Counter(c.family for c in CHECKS.values()).items()
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("set --client-cert-auth=true, not --auto-tls.", "set `--client-cert-auth=true`, not `--auto-tls`."),
        ("/v3/kv answers; and/or", "`/v3/kv` answers; and/or"),
        ("see `etcdctl alarm list` (--etcd-log)", "see `etcdctl alarm list` (`--etcd-log`)"),
        ("in --listen-(client|peer)-urls).", "in `--listen-(client|peer)-urls`)."),
        ("a * b_c _d [e] <f>", r"a \* b_c \_d \[e\] \<f>"),
    ],
)
def test_text(text: str, expected: str) -> None:
    assert as_text(text) == expected


def test_a_pipe_does_not_end_a_table_cell() -> None:
    assert cell("--(client|peer)-crl-file or a|b") == r"`--(client\|peer)-crl-file` or a\|b"


@pytest.mark.parametrize(
    ("reference", "address"),
    [
        ("RFC 8446", "https://www.rfc-editor.org/rfc/rfc8446"),
        ("RFC 8996 sections 4, 5", "https://www.rfc-editor.org/rfc/rfc8996#section-4"),
        ("RFC 5280 appendix B", "https://www.rfc-editor.org/rfc/rfc5280#appendix-B"),
        ("GHSA-6vch-q96h-7gc3", "https://github.com/advisories/GHSA-6vch-q96h-7gc3"),
        ("CVE-2018-16886", "https://www.cve.org/CVERecord?id=CVE-2018-16886"),
    ],
)
def test_references(reference: str, address: str) -> None:
    assert linked(reference) == f"[{reference}]({address})"


def test_a_reference_without_an_address_is_text() -> None:
    assert linked("CIS Kubernetes 2.1, 2.4") == "CIS Kubernetes 2.1, 2.4"
