"""The ClientHello, read by two others: a strict reader of the tests, and OpenSSL."""

from __future__ import annotations

from pathlib import Path

import pytest
from OpenSSL import SSL
from tls.hello_server import GREASE, parse_client_hello

from pytest_etcdtls.pki.bundle import ClusterPKI
from pytest_etcdtls.tls.hello import (
    SSL3,
    TLS1_0,
    TLS1_1,
    TLS1_2,
    TLS1_3,
    ClientHello,
    ServerHello,
    client_hello,
    read_answer,
)
from pytest_etcdtls.tls.suites import RENEGOTIATION_SCSV, SUITES, TLS13_SUITES, suite_name

ALL = tuple(suite.code for suite in SUITES)


@pytest.mark.parametrize("version", [SSL3, TLS1_0, TLS1_1, TLS1_2])
def test_up_to_tls12(version: int) -> None:
    seen = parse_client_hello(client_hello(ClientHello(purpose="t", version=version, suites=ALL)))
    assert seen.versions == (version,)
    assert seen.suites == (*ALL, RENEGOTIATION_SCSV)
    assert seen.compression == (0,)
    assert set(seen.extensions) == {SSL3: set(), TLS1_2: {10, 11, 13, 23}}.get(version, {10, 11, 23})


def test_tls13() -> None:
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


def _openssl_answers(pki: ClusterPKI, hello: ClientHello) -> ServerHello | int | None:
    """Return the answer of an OpenSSL server to the hello."""
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    identity = pki.servers["m0"]
    assert identity.key is not None
    context.use_certificate(identity.chain[0])
    context.use_privatekey(identity.key)
    context.set_alpn_select_callback(
        lambda _, offered: b"h2" if b"h2" in offered else SSL.NO_OVERLAPPING_PROTOCOLS
    )
    server = SSL.Connection(context, None)
    server.set_accept_state()
    server.bio_write(client_hello(hello, "localhost"))
    with pytest.raises(SSL.Error):
        server.do_handshake()
    return read_answer(server.bio_read(65536), to_key_exchange=hello.to_key_exchange)


def test_openssl_accepts_it_in_tls12(pki: tuple[ClusterPKI, Path]) -> None:
    hello = ClientHello(
        purpose="t",
        version=TLS1_2,
        suites=ALL,
        alpn=("http/1.1", "h2"),
        groups=(24, 23),
        to_key_exchange=True,
    )
    answer = _openssl_answers(pki[0], hello)
    assert isinstance(answer, ServerHello)
    assert (answer.version, answer.alpn, answer.compression) == (TLS1_2, "h2", 0)
    assert answer.group in {23, 24}
    assert suite_name(answer.suite).startswith("TLS_ECDHE_ECDSA_")
    assert 0xFF01 in answer.extensions


@pytest.mark.parametrize("grease", [False, True])
def test_openssl_accepts_it_in_tls13(pki: tuple[ClusterPKI, Path], grease: bool) -> None:
    hello = ClientHello(purpose="t", version=TLS1_3, suites=TLS13_SUITES, grease=grease)
    answer = _openssl_answers(pki[0], hello)
    assert isinstance(answer, ServerHello)
    assert (answer.version, answer.group, answer.retry) == (TLS1_3, 29, False)
    assert answer.suite in TLS13_SUITES


def test_openssl_names_its_group_in_a_hello_retry_request(pki: tuple[ClusterPKI, Path]) -> None:
    hello = ClientHello(purpose="t", version=TLS1_3, suites=TLS13_SUITES, groups=(25, 24), key_share=False)
    answer = _openssl_answers(pki[0], hello)
    assert isinstance(answer, ServerHello)
    assert answer.retry
    assert answer.group in {24, 25}


def test_openssl_refuses_unsupported_suites(pki: tuple[ClusterPKI, Path]) -> None:
    assert _openssl_answers(pki[0], ClientHello(purpose="t", version=TLS1_2, suites=(0x0005,))) == 40
    assert _openssl_answers(pki[0], ClientHello(purpose="t", version=SSL3, suites=ALL)) == 70
