"""References of a check lead to their documents."""

from __future__ import annotations

import pytest

from pytest_etcdtls.report.html import address


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("RFC 8446", "https://www.rfc-editor.org/rfc/rfc8446"),
        ("RFC 8996 sections 4, 5", "https://www.rfc-editor.org/rfc/rfc8996#section-4"),
        ("RFC 5280 appendix B", "https://www.rfc-editor.org/rfc/rfc5280#appendix-B"),
        ("GHSA-6vch-q96h-7gc3", "https://github.com/advisories/GHSA-6vch-q96h-7gc3"),
        ("CVE-2018-16886", "https://www.cve.org/CVERecord?id=CVE-2018-16886"),
        ("CIS Kubernetes 2.1, 2.4", ""),
    ],
)
def test_references(reference: str, expected: str) -> None:
    assert (address(reference) or "") == expected
