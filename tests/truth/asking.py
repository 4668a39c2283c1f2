"""What really happens: a Go client asks each listener."""

from __future__ import annotations

import base64
import json
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from oracle.clients import built

from pytest_etcdtls.pki.profile import Identity
from truth.setting_up import Asked

SOURCE = Path(__file__).with_name("client")
VERSIONS = {"1.2": 0x0303, "1.3": 0x0304}
_ALERT = re.compile(r"remote error: (tls: .*)")


@dataclass(frozen=True)
class Question:
    """One connection of the Go client; ``path`` is another one than that of the listener."""

    listener: Asked
    name: str
    identity: Identity
    version: str
    protocol: str
    path: str = ""


@dataclass(frozen=True)
class Reply:
    """What the Go client got.

    Attributes:
        status: of HTTP; 0 without a response.
        announced: the names of CAs that the server announces, DER.
        verify: why the client refuses what is served, empty if it does not.
    """

    status: int
    error: str
    handshake: bool
    announced: tuple[bytes, ...]
    leaf: bytes
    verify: str

    @property
    def served(self) -> bool:
        return self.status != 0

    @property
    def alert(self) -> str:
        """The alert that the server sent, empty if it sent none."""
        found = _ALERT.search(self.error)
        return found[1] if found else ""

    def __str__(self) -> str:
        return f"HTTP {self.status}" if self.served else self.error


class GoClient:
    """The program of ``tests/truth/client``, built with the installed Go."""

    def __init__(self, directory: Path) -> None:
        self._binary = built(SOURCE, directory)

    def ask(
        self, questions: Sequence[Question], roots: Mapping[str, tuple[x509.Certificate, ...]]
    ) -> list[Reply]:
        """Return the reply to each question; served chains are verified by the roots of the side."""
        jobs = [_job(question, roots[question.listener.side]) for question in questions]
        done = subprocess.run(
            [self._binary], input=json.dumps(jobs) + "\n", capture_output=True, check=True, encoding="utf-8"
        )
        return [_reply(answer) for answer in json.loads(done.stdout)]


def _job(question: Question, roots: tuple[x509.Certificate, ...]) -> dict[str, object]:
    listener, key = question.listener, question.identity.key
    return {
        "address": f"{listener.scenario.address}:{listener.port}",
        "host": listener.host,
        "plain": question.version == "plaintext",
        "version": VERSIONS.get(question.version, 0),
        "protocol": question.protocol,
        "path": "/grpc.health.v1.Health/Check"
        if question.protocol == "grpc"
        else question.path or listener.path,
        "chain": [_encoded(one.public_bytes(Encoding.DER)) for one in question.identity.chain],
        "key": _encoded(key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()))
        if key
        else None,
        "roots": [_encoded(root.public_bytes(Encoding.DER)) for root in roots],
    }


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _reply(answer: dict[str, Any]) -> Reply:
    verify = answer["verify"]
    if not verify and answer["error"].startswith("tls: failed to parse certificate"):
        verify = answer["error"]
    return Reply(
        status=answer["status"],
        error=answer["error"],
        handshake=answer["handshake"],
        announced=tuple(base64.b64decode(one) for one in answer["announced"] or ()),
        leaf=base64.b64decode(answer["leaf"] or ""),
        verify=verify,
    )
