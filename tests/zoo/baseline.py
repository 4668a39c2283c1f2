"""The expected warnings of a conforming cluster, by line of etcd: SHOULD checks that defaults do not satisfy.

A member of the zoo has the same warnings unless it has other expectations.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

WARNED: Mapping[str, Mapping[str, Iterable[str]]] = {
    # The gateway dials etcd with the served pair; before 3.5 there is no other way.
    "3.5": {"client": ["mtls.server-certificate-as-client"]},
    "3.6": {"client": ["mtls.server-certificate-as-client"]},
    "3.7": {"client": ["mtls.server-certificate-as-client"]},
    "3.4": {
        "cluster": [
            "advisory.cve-2026-33413-inferred",
            "advisory.ghsa-6vch-q96h-7gc3-inferred",
            "advisory.go-runtime",
        ]
    },
    "3.5.1": {
        "cluster": [
            "advisory.cve-2026-33413-inferred",
            "advisory.ghsa-6vch-q96h-7gc3-inferred",
            "advisory.go-runtime",
        ]
    },
}
"""By line or version of etcd, which add up, and by listener, ``cluster`` for the whole target."""

OF_EVERY_GO = {"tls.cbc-suites"}
OF_GO: Mapping[str, Iterable[str]] = {
    "3.4.23": ["tls.hybrid-group", "tls.sha1-signature"],
    "3.5.1": ["tls.tls13-offered", "tls.alpn-unknown-refused", "tls.sha1-signature"],
    "3.5.16": ["tls.hybrid-group", "tls.sha1-signature"],
}
"""On every https listener: what the Go that an etcd was built with does by default, by version of etcd."""
OF_OLD_GO_WITH_RSA = {"tls.rsa-key-exchange", "tls.triple-des"}


def warned(version: str, *, rsa: bool = False) -> dict[str, set[str]]:
    """Return the warnings of a conforming cluster of that version, by listener.

    Args:
        rsa: what it serves has RSA keys.
    """
    of_go = OF_EVERY_GO | set(OF_GO.get(version, ()))
    if rsa and version in OF_GO:
        of_go |= OF_OLD_GO_WITH_RSA
    found: dict[str, set[str]] = {listener: set(of_go) for listener in ("client", "peer")}
    for line, listeners in WARNED.items():
        if version == line or version.startswith(f"{line}."):
            for listener, ids in listeners.items():
                found.setdefault(listener, set()).update(ids)
    return found
