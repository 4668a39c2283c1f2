"""The lines that a run leaves in etcd's log, for ``docs/limits.md``; ``test_logged_lines.py`` counts them."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping

VERSIONS = ("3.5.33", "3.7.3")
"""Those that the table is counted on; they agree."""

REJECTED = {
    "rejected connection on client endpoint": "client",
    "rejected connection on peer endpoint": "peer",
}

NOT_COUNTED = {
    "Failed to detect schema version",
    "cluster version differs from storage version.",
    "updated storage version",
}
"""etcd 3.6 and later: for a status request to a new cluster, and some seconds after its start."""

LOGGED: Mapping[str, tuple[int, int]] = {
    "tls: failed to verify certificate": (14, 8),
    "tls: client didn't provide a certificate": (13, 10),
    "tls: no cipher suite supported by both client and server": (2, 2),
    "tls: first record does not look like a TLS handshake": (1, 1),
    "tls: client offered only unsupported versions": (1, 1),
    "tls: client requested unsupported application protocols": (2, 2),
    "tls: client using inappropriate protocol fallback": (1, 1),
    "tls: no key exchanges supported by both client and server": (1, 1),
    "tls: peer doesn't support any of the certificate's signature algorithms": (1, 1),
}
"""Lines by error, on the client port and on the peer port of one member."""


def count(lines: Iterable[str]) -> dict[str, tuple[int, int]]:
    """Return the rejected connections of a log in JSON, as :data:`LOGGED` has them.

    Raises:
        ValueError: if there is a line about something else.
    """
    counts: dict[str, Counter[str]] = {"client": Counter(), "peer": Counter()}
    for line in lines:
        entry = json.loads(line)
        if entry["msg"] in NOT_COUNTED or "took too long" in entry["msg"] or "slow" in entry["msg"]:
            continue  # the latter are about a busy machine
        if entry["msg"] not in REJECTED:
            raise ValueError(f"a line that docs/limits.md does not have: {line}")
        counts[REJECTED[entry["msg"]]][re.split(r": x509:|; | \(|: \[", entry["error"])[0]] += 1
    errors = counts["client"] | counts["peer"]
    return {error: (counts["client"][error], counts["peer"][error]) for error in errors}


def table() -> list[str]:
    """Return the table as Markdown."""
    versions = " and ".join(VERSIONS)
    rows = [f"| `{error}` | {client} | {peer} |" for error, (client, peer) in LOGGED.items()]
    client, peer = (sum(numbers) for numbers in zip(*LOGGED.values(), strict=True))
    return [
        f"| error, on etcd {versions} | client | peer |",
        "|---|--:|--:|",
        *rows,
        f"| **together** | {client} | {peer} |",
    ]
