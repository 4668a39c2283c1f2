"""Releases of etcd that published advisories are about, with nothing wrong in how they are set up."""

from __future__ import annotations

from zoo.model import Misconfigured
from zoo.who_is_let_in import GOOD

ZOO = [
    Misconfigured(
        name="release-with-known-faults",
        what="a release from before the fixes of published advisories, built with a Go from before its own",
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
