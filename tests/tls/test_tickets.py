"""Tickets are read as RFC 8448 printed them, and out of real connections."""

from __future__ import annotations

import pytest

from pytest_etcdtls.tls.attempt import Ticket, read_tickets

# RFC 8448 section 3: the server's application traffic secret, and the record with its NewSessionTicket.
SECRET = bytes.fromhex("a11af9f05531f856ad47116b45a950328204b4f44bfb6b3a4b4f1f3fcb631643")
TICKET = bytes.fromhex(
    "17030300de3a6b8f90414a97d6959c3487680de5134a2b240e6cffac116e95d4"
    "1d6af8f6b580dcf3d11d63c758db289a015940252f55713e061dc13e078891a3"
    "8efbcf5753ad8ef170ad3c7353d16d9da773b9ca7f2b9fa1b6c0d4a3d03f75e0"
    "9c30ba1e62972ac46f75f7b981be63439b2999ce13064615139891d5e4c5b406"
    "f16e3fc181a77ca475840025db2f0a77f81b5ab05b94c01346755f69232c8651"
    "9d86cbeeac87aac347d143f9605d64f650db4d023e70e952ca49fe5137121c74"
    "bc2697687e248746d6df353005f3bce18696129c8153556b3b6c6779b37bf159"
    "85684f"
)
# A record of the same handshake under another key: the client's Finished.
OF_THE_HANDSHAKE = bytes.fromhex(
    "170303003575ec4dc238cce60b298044a71e219c56cc77b0517fe9b93c7a4bfc"
    "44d87f38f80338ac98fc46deb384bd1caeacab6867d726c40546"
)
SUITE = "TLS_AES_128_GCM_SHA256"
SAID = Ticket(lifetime=30, max_early_data=1024)


def test_the_ticket_of_rfc_8448() -> None:
    assert read_tickets(TICKET, SECRET, SUITE) == (SAID,)


def test_records_under_other_keys_are_skipped() -> None:
    before = b"\x16\x03\x03\x00\x02\x00\x00" + b"\x14\x03\x03\x00\x01\x01" + OF_THE_HANDSHAKE
    assert read_tickets(before + TICKET, SECRET, SUITE) == (SAID,)


@pytest.mark.parametrize("size", [0, 4, 5, 100, len(TICKET) - 1])
def test_an_incomplete_ticket_is_ignored(size: int) -> None:
    assert read_tickets(TICKET[:size], SECRET, SUITE) == ()


def test_another_secret_decrypts_no_ticket() -> None:
    assert read_tickets(TICKET, bytes(32), SUITE) == ()


def test_a_suite_that_is_not_of_tls13() -> None:
    with pytest.raises(KeyError):
        read_tickets(TICKET, SECRET, "ECDHE-RSA-AES128-SHA")
