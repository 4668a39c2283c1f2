"""The Go release that etcd was built with: its TLS, X.509 and HTTP/2 are Go's."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from pytest_etcdtls.observations.release import GoReleases, Release
from pytest_etcdtls.registry import check
from pytest_etcdtls.reproduce import GOOD_CLIENT, curl
from pytest_etcdtls.results import Finding, Statement

_FIXED: Mapping[str, tuple[Release, ...]] = {
    "CVE-2022-41724 (large handshake records panic)": (Release(1, 19, 6), Release(1, 20, 1)),
    "CVE-2024-24783 (a client certificate with an unknown key panics)": (
        Release(1, 21, 8),
        Release(1, 22, 1),
    ),
    "CVE-2023-45288 (HTTP/2 CONTINUATION flood)": (Release(1, 21, 9), Release(1, 22, 2)),
    "CVE-2025-68121 (resumption after the CAs have changed)": (
        Release(1, 24, 13),
        Release(1, 25, 7),
        Release(1, 26, 0),
    ),
}
"""Faults that a client of a TLS server can reach, by the first fixed releases (Go vulnerability database)."""


def open_faults(release: Release) -> list[str]:
    """Return the faults that this Go release still has."""
    return [name for name, fixed in _FIXED.items() if _lacks(release, fixed)]


def _lacks(release: Release, fixed: tuple[Release, ...]) -> bool:
    of_line = next((fix for fix in fixed if fix.line == release.line), None)
    return release < of_line if of_line else release < fixed[-1]


def _aged(releases: GoReleases) -> Mapping[str, Any]:
    first, *others = releases.members
    old = replace(first, release=Release(1, 16, 3), text="go1.16.3")
    return {"releases": replace(releases, members=(old, *others))}


@check("advisory.go-runtime", on=frozenset(), counterexample=_aged)
def etcd_is_built_with_a_fixed_go(releases: GoReleases) -> Iterator[Statement]:
    """Every member is built with a Go release that has the published fixes for TLS servers.

    etcd's version does not tell: what counts is the Go release that the binary was built with, which /metrics
    names. Inferred from it.

    Spec: CVE-2025-68121
    Spec: CVE-2024-24783
    Spec: CVE-2023-45288
    Spec: CVE-2022-41724
    Severity: medium
    Level: SHOULD
    Remediation: upgrade etcd to the newest patch release of its line, or rebuild it with a newer Go.
    """
    for found in releases.members:
        faults = open_faults(found.release)
        if faults:
            yield Finding(
                message=f"etcd was built with {found.text}, which lacks fixes (inferred from the version)",
                expected=f"Go {max(fixed[-1] for fixed in _FIXED.values())} or newer",
                observed=f"{found.url}: {found.text} lacks the fixes of {', '.join(faults)}",
                evidence={"kind": "inferred from the version"},
                reproduce=(
                    curl(
                        found.url,
                        role="client",
                        path="/metrics",
                        files=GOOD_CLIENT,
                        look='"server_go_version"',
                        then="grep go_version",
                    ),
                ),
            )
