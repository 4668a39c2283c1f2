"""Releases of etcd with published advisories, in a conforming configuration."""

from __future__ import annotations

from zoo.client_access import GOOD
from zoo.model import Misconfigured

ZOO = [
    Misconfigured(
        name="release-with-known-faults",
        what="an etcd release and its Go release, both without the fixes of published advisories",
        config=GOOD,
        warned={
            "cluster": [
                "advisory.cve-2026-33413-inferred",
                "advisory.ghsa-6vch-q96h-7gc3-inferred",
                "advisory.go-runtime",
            ]
        },
        lines=("3.4.23", "3.5.1"),
    ),
]
