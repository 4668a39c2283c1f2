"""The servers of our own, as fixtures."""

import pytest
from impostors.staging import fake
from servers import pki, serve, tls_context

from pytest_etcdtls.run.judge import Judge

__all__ = ["fake", "pki", "serve", "tls_context"]


@pytest.fixture
def hellos_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let checks conform on a server that answers hellos and finishes no handshake."""
    monkeypatch.setattr(Judge, "_no_evidence", lambda _judge, _listener: "")
