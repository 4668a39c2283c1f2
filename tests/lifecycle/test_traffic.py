"""Clients that make requests in threads of their own: every request is counted."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import nullcontext

import pytest

from pytest_etcdtls.lifecycle.changes import LostError, Traffic, UnclearError


def _after(*results: bytes | Exception) -> Callable[[], bytes]:
    """Return a request with these results in order; the last one is repeated."""
    left = list(results)

    def request() -> bytes:
        result = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(result, Exception):
            raise result
        return result

    return request


def test_every_request_is_counted_by_its_ending() -> None:
    traffic = Traffic()
    outcomes = (b"leaf", LostError("reset"), UnclearError("silence"), b"leaf")
    traffic.add("a client", _after(*outcomes), nullcontext())
    with traffic:
        traffic.await_requests(10)
    counts = traffic.counts()["a client"]
    assert (counts.lost, counts.unclear, counts.examples) == (1, 1, ("reset", "silence"))
    assert counts.served >= 8


def test_few_examples_are_kept() -> None:
    traffic = Traffic()
    traffic.add("a client", _after(LostError("reset")), nullcontext())
    with traffic:
        traffic.await_requests(10)
    counts = traffic.counts()["a client"]
    assert counts.lost >= 10
    assert counts.examples == ("reset",) * 3


def test_the_wait_ends_when_one_client_has_the_certificate() -> None:
    traffic = Traffic()
    traffic.add("sees it", _after(b"old", b"old", b"new"), nullcontext())
    traffic.add("sees none", _after(b""), nullcontext())
    with traffic:
        assert traffic.await_requests(1_000_000, b"new")


def test_the_wait_ends_without_the_certificate() -> None:
    traffic = Traffic()
    traffic.add("sees another", _after(b"old"), nullcontext())
    with traffic:
        assert not traffic.await_requests(20, b"new")


def test_no_client_makes_a_request_while_its_gate_is_held() -> None:
    gate, traffic = threading.Lock(), Traffic()
    traffic.add("stopped", _after(b""), gate)
    traffic.add("free", _after(b""), nullcontext())
    with traffic:
        traffic.await_requests(1)
        with gate:
            before = traffic.counts()
            while traffic.counts()["free"].served < before["free"].served + 10:
                threading.Event().wait(0.001)
            after = traffic.counts()
    assert after["stopped"].served - before["stopped"].served <= 1


def test_threads_end_after_an_error() -> None:
    traffic = Traffic()
    traffic.add("a client of its own kind", _after(b""), nullcontext())
    with pytest.raises(KeyboardInterrupt), traffic:
        raise KeyboardInterrupt
    assert "a client of its own kind" not in {thread.name for thread in threading.enumerate()}
