"""ClientHellos, read by a strict reader; ServerHellos, whole, in pieces and cut off."""

from __future__ import annotations

import pytest
from tls.hello_server import GREASE, Policy, alert, parse_client_hello, server_hello
from tls.hello_server import ClientHello as SeenHello

from pytest_etcdtls.tls.hello import (
    SSL3,
    TLS1_0,
    TLS1_1,
    TLS1_2,
    TLS1_3,
    ClientHello,
    NotTLSError,
    ServerHello,
    client_hello,
    read_answer,
)
from pytest_etcdtls.tls.suites import RENEGOTIATION_SCSV, SUITES, TLS13_SUITES

ALL = tuple(suite.code for suite in SUITES)


@pytest.mark.parametrize("version", [SSL3, TLS1_0, TLS1_1, TLS1_2])
def test_up_to_tls12(version: int) -> None:
    seen = parse_client_hello(client_hello(ClientHello(purpose="t", version=version, suites=ALL)))
    assert seen.versions == (version,)
    assert seen.suites == (*ALL, RENEGOTIATION_SCSV)
    assert seen.compression == (0,)
    assert set(seen.extensions) == {SSL3: set(), TLS1_2: {10, 11, 13, 23}}.get(version, {10, 11, 23})


def test_in_tls13() -> None:
    hello = ClientHello(
        purpose="t", version=TLS1_3, suites=TLS13_SUITES, groups=(29, 23), alpn=("h2", "http/1.1")
    )
    seen = parse_client_hello(client_hello(hello, "etcd.example"))
    assert (seen.version, seen.versions) == (TLS1_2, (TLS1_3,))
    assert seen.suites == TLS13_SUITES
    assert seen.groups == (29, 23)
    assert seen.shares == (29,)
    assert seen.alpn == ("h2", "http/1.1")
    assert seen.extensions[0].endswith(b"\x00\x0cetcd.example")


@pytest.mark.parametrize(("version", "suites"), [(TLS1_2, ALL), (TLS1_3, TLS13_SUITES)])
def test_grease_values_are_in_every_list(version: int, suites: tuple[int, ...]) -> None:
    hello = ClientHello(purpose="t", version=version, suites=suites, grease=True, alpn=("h2",))
    seen = parse_client_hello(client_hello(hello))
    assert GREASE & set(seen.suites)
    assert GREASE & set(seen.groups)
    assert len(GREASE & set(seen.extensions)) == 2
    assert len(seen.alpn) == 2
    assert bool(GREASE & set(seen.versions)) == (version == TLS1_3)
    assert bool(GREASE & set(seen.shares)) == (version == TLS1_3)


# -- what servers answer ---------------------------------------------------------------------------------

OFFER = SeenHello(
    version=TLS1_2,
    suites=(0xC02B, 0x009C),
    compression=(0, 1),
    extensions={10: b"\0\x04\0\x1d\0\x17", 16: b"\0\x03\x02h2"},
)
OFFER_13 = SeenHello(
    version=TLS1_2,
    suites=(0x1301,),
    compression=(0,),
    extensions={10: b"\0\x04\0\x1d\0\x17", 43: b"\x02\x03\x04", 51: b"\0\0"},
)


def test_a_hello_of_tls12() -> None:
    data = Policy(compression=1).answer(OFFER)
    hello = read_answer(data)
    assert isinstance(hello, ServerHello)
    assert (hello.version, hello.suite, hello.compression, hello.alpn) == (TLS1_2, 0xC02B, 1, "h2")
    assert hello.extensions == {16, 0xFF01}
    assert hello.group is None
    whole = read_answer(data, to_key_exchange=True)
    assert isinstance(whole, ServerHello)
    assert whole.group == 29


def test_a_retry_names_the_group() -> None:
    answer = read_answer(Policy(groups=(23,)).answer(OFFER_13))
    assert isinstance(answer, ServerHello)
    assert (answer.version, answer.group, answer.retry) == (TLS1_3, 23, True)


def test_reading_ends_with_the_key_exchange_or_the_hello_done() -> None:
    hello = server_hello(TLS1_2, 0xC02B, b"")
    assert read_answer(hello, to_key_exchange=True) is None
    assert read_answer(hello + alert(80), to_key_exchange=True) == 80
    done = bytes.fromhex("16 03 03 00 04 0e 00 00 00")
    answer = read_answer(hello + done, to_key_exchange=True)
    assert isinstance(answer, ServerHello)
    assert answer.group is None


def test_the_hello_may_come_in_several_records() -> None:
    record = server_hello(TLS1_2, 0xC02B, b"")
    body = record[5:]
    pieces = [body[:1], body[1:40], body[40:]]
    data = b"".join(b"\x16\x03\x03" + len(piece).to_bytes(2, "big") + piece for piece in pieces)
    assert read_answer(data) == read_answer(record)


@pytest.mark.parametrize("to_key_exchange", [False, True])
def test_an_incomplete_answer_needs_more_data(to_key_exchange: bool) -> None:
    data = Policy().answer(OFFER)
    seen = [read_answer(data[:size], to_key_exchange=to_key_exchange) for size in range(len(data) + 1)]
    first = next(at for at, answer in enumerate(seen) if answer is not None)
    assert set(seen[:first]) == {None}
    assert set(seen[first:]) == {seen[-1]}
    assert isinstance(seen[-1], ServerHello)


def test_a_server_hello_that_ends_too_early() -> None:
    with pytest.raises(NotTLSError, match="ends too early"):
        read_answer(b"\x16\x03\x03\x00\x0a\x02\0\0\x06" + b"\x03\x03" + b"\0" * 4)
