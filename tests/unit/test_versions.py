"""Versions of etcd and Go, and the advisories that affect them."""

from __future__ import annotations

import pytest

from pytest_etcdtls.checks.advisory import open_faults
from pytest_etcdtls.checks.api_answers import has_livez
from pytest_etcdtls.versions import Release, has_since, minor_line, tag_version, version_key


def release(text: str) -> Release:
    found = Release.parse(text)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3.5.33", Release(3, 5, 33)),
        ("v3.6.0-rc.1", Release(3, 6, 0, final=False)),
        ("3.5.21-k3s1", Release(3, 5, 21)),
        ("3.4.23+dfsg-4", Release(3, 4, 23)),
        ("go1.24.0 X:nocoverageredesign", Release(1, 24, 0)),
        ("go1.26rc1", Release(1, 26, 0, final=False)),
        ("not_decided", None),
        ("devel go1.27-abcdef", None),
    ],
)
def test_parse(text: str, expected: Release | None) -> None:
    assert Release.parse(text) == expected


def test_order() -> None:
    ordered = ["3.4.45", "3.5.9", "3.5.33", "3.6.0-rc.1", "3.6.0", "3.6.16", "3.10.0"]
    assert sorted(map(release, reversed(ordered))) == [release(text) for text in ordered]
    assert str(release("3.6.0-rc.1")) == "3.6.0-pre-release"
    assert Release.parse(str(release("3.6.0-rc.1"))) == release("3.6.0-rc.1")


FIXED = {"3.5": 32, "3.6": 13, "3.7": 0}


@pytest.mark.parametrize(
    ("text", "fixed"),
    [
        ("3.3.27", False),
        ("3.6.13", True),
        ("3.7.0-rc.1", False),
        ("3.8.0-alpha.0", True),
        ("4.0.0", True),
    ],
)
def test_a_change_by_line(text: str, fixed: bool) -> None:
    assert has_since(text, FIXED) is has_since(release(text), FIXED) is fixed


def test_versions() -> None:
    """An unknown version is the newest."""
    assert not any(has_livez(release(text)) for text in ("3.4.28", "3.5.10"))
    assert all(has_livez(release(text)) for text in ("3.4.29", "3.5.11"))
    assert has_since(None, FIXED)
    assert has_since("3.8.0-alpha.0", {**FIXED, "3.8": 0}) is False
    assert version_key("3.6") == (3, 6)
    assert version_key(None) > (3, 99)
    assert (minor_line("3.6.4"), minor_line(None)) == ("3.6", None)
    assert tag_version("registry.k8s.io/etcd:3.6.4-0") == "3.6.4"
    assert tag_version("localhost:5000/etcd:v3.5.21-k3s1-build20250612") == "3.5.21"
    assert tag_version("localhost/etcd:v3.8.0-alpha.0-amd64") == "3.8.0-alpha.0"
    for unknown in ("registry.k8s.io/etcd:latest", "registry.k8s.io/etcd", None):
        assert tag_version(unknown) is None


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("go1.16.3", {"CVE-2022-41724", "CVE-2024-24783", "CVE-2023-45288", "CVE-2025-68121"}),
        ("go1.19.6", {"CVE-2024-24783", "CVE-2023-45288", "CVE-2025-68121"}),
        ("go1.21.8", {"CVE-2023-45288", "CVE-2025-68121"}),
        ("go1.24.13", set()),
    ],
)
def test_advisories_of_go(text: str, faults: set[str]) -> None:
    assert {fault.partition(" ")[0] for fault in open_faults(release(text))} == faults
