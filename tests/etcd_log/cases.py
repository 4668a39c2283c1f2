"""The cases in ``lines``, of real etcds: what was done, how it ended, and what etcd logged meanwhile.

Nothing there is written by hand. Newer etcds are compared as they run, in ``test_agreement.py``.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from pytest_etcdtls.etcd_log.parse import Rejection, read_entries, rejections
from pytest_etcdtls.role import Protocol, TLSVersion
from pytest_etcdtls.tls.attempt import Attempt, Ending, Phase, StreamEnd

LINES = Path(__file__).parent / "lines"
VERSIONS = ("3.4.23", "3.5.1", "3.5.33", "3.6.16", "3.7.3")


@dataclass(frozen=True)
class Case:
    """One connection to a real etcd."""

    etcd: str
    what: str
    role: str
    attempt: Attempt | None
    local_address: str
    log: str

    @property
    def own(self) -> list[Rejection]:
        """The rejections that are about this very connection."""
        found = rejections(read_entries(self.log))
        return [one for one in found if one.remote_address == self.local_address]


@functools.cache
def cases(version: str) -> tuple[Case, ...]:
    """Return what was collected from that etcd."""
    head, *documents = map(json.loads, (LINES / f"{version}.jsonl").read_text(encoding="utf-8").splitlines())
    return tuple(_case(head, document) for document in documents)


def _case(head: Mapping[str, str], document: Mapping[str, Any]) -> Case:
    facts = document.get("attempt")
    return Case(
        etcd=head["etcd"],
        what=document["what"],
        role=document.get("role", ""),
        attempt=_attempt(facts) if facts else None,
        local_address=facts["local_address"] if facts else document.get("local_address") or "",
        log="\n".join(document["log"]),
    )


def _attempt(facts: Mapping[str, Any]) -> Attempt:
    return Attempt(
        url=facts["url"],
        purpose="plaintext" if facts["plaintext"] else "a case",
        identity=facts["identity"],
        protocol=Protocol(facts["protocol"]),
        ending=Ending(facts["ending"]),
        phase=Phase(facts["phase"]),
        stream_end=StreamEnd(facts["stream_end"]),
        started_at=datetime.fromisoformat(facts["started_at"]),
        offered_version=TLSVersion(facts["asked"]) if facts["asked"] else None,
        alert=facts["alert"],
        version=facts["version"],
        local_address=facts["local_address"],
        milliseconds=20000.0,
    )
