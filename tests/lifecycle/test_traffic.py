"""A client that makes requests in a thread of its own: every request is counted."""

from __future__ import annotations

import threading
from contextlib import nullcontext

from pytest_etcdtls.lifecycle.changes import Answer, Client


def test_every_request_is_counted_by_its_ending_and_few_examples_are_kept() -> None:
    answers: list[Answer] = [("served", "", b"leaf"), ("unclear", "silence", b""), ("lost", "reset", b"")]
    client = Client(lambda: answers.pop(0) if len(answers) > 1 else answers[0], nullcontext())
    client.start()
    while client.requests < 10:
        threading.Event().wait(0.001)
    client.stop()
    assert not client.is_alive()
    assert (client.counts.served, client.counts.unclear, client.leaf) == (1, 1, b"leaf")
    assert client.counts.lost >= 8
    assert client.counts.examples == ("silence", "reset", "reset")
