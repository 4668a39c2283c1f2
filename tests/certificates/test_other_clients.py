"""What cert.openssl-purpose and cert.x509-strict find is what OpenSSL refuses in a handshake."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import pytest
from conforming import sample_listener
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL, crypto

from pytest_etcdtls.checks.registry import catalogue
from pytest_etcdtls.checks.results import Finding
from pytest_etcdtls.facts.certificates import CertificateMessage
from pytest_etcdtls.pki.authority import CertificateAuthority
from pytest_etcdtls.pki.profile import AUTHORITY, SERVER, Identity, OtherExtension, Profile
from pytest_etcdtls.role import Role

PURPOSE, STRICT = "cert.openssl-purpose", "cert.x509-strict"
BASIC_CONSTRAINTS, NS_CERT_TYPE = "2.5.29.19", "2.16.840.1.113730.1.1"
ANY = "2.5.29.37.0"

NAMELESS = replace(SERVER, common_name=None)
CA_SERVER = replace(SERVER, ca=True)


def other(profile: Profile, oid: str, value: str | None, *, critical: bool = False) -> Profile:
    extension = OtherExtension(oid, None if value is None else bytes.fromhex(value), critical)
    return replace(profile, other_extensions=(extension,))


def usages(*names: str) -> frozenset[str]:
    return frozenset(names)


# What OpenSSL 4 accepts and OpenSSL 3 refuses is proved in the zoo and listed in docs/verdicts.md.
CHAINS = {
    "clean": (SERVER, AUTHORITY, set()),
    "no usage": (replace(SERVER, extended_key_usage=None), AUTHORITY, set()),
    "any usage": (replace(SERVER, extended_key_usage=(ANY,)), AUTHORITY, {PURPOSE}),
    "any and clients": (replace(SERVER, extended_key_usage=(ANY, "clientAuth")), AUTHORITY, {PURPOSE}),
    "a CA of any usage": (SERVER, replace(AUTHORITY, extended_key_usage=(ANY,)), {PURPOSE}),
    "a CA for servers": (SERVER, replace(AUTHORITY, extended_key_usage=("serverAuth",)), set()),
    "nsCertType client": (other(SERVER, NS_CERT_TYPE, "03020780"), AUTHORITY, {PURPOSE}),
    "nsCertType server": (other(SERVER, NS_CERT_TYPE, "03020640"), AUTHORITY, set()),
    "leaf without constraints": (other(SERVER, BASIC_CONSTRAINTS, None), AUTHORITY, set()),
    "leaf with path length": (other(SERVER, BASIC_CONSTRAINTS, "3003020100"), AUTHORITY, {STRICT}),
    "leaf that signs": (
        replace(SERVER, key_usage=usages("digitalSignature", "keyCertSign")),
        AUTHORITY,
        {STRICT},
    ),
    "nameless": (NAMELESS, AUTHORITY, set()),
    "empty names": (other(SERVER, "2.5.29.17", "3000"), AUTHORITY, {STRICT}),
    "leaf is a CA": (CA_SERVER, AUTHORITY, set()),
    "leaf is a CA without usage": (replace(CA_SERVER, key_usage=usages()), AUTHORITY, {STRICT}),
    "CA without usage": (SERVER, replace(AUTHORITY, key_usage=usages()), {STRICT}),
    "CA with path length": (SERVER, replace(AUTHORITY, path_length=0), set()),
}


@pytest.mark.parametrize("name", CHAINS)
def test_openssl_refuses_the_violations(name: str) -> None:
    leaf, ca, found = CHAINS[name]
    authority = CertificateAuthority.create("CA", profile=ca)
    served = authority.issue(leaf, name="server", hosts=("localhost",))
    message = CertificateMessage(
        certificates=(served.chain[0].public_bytes(Encoding.DER),), issuers=(authority.certificate,)
    )
    for check in (PURPOSE, STRICT):
        statements = list(catalogue()[check].function(here=sample_listener(Role.CLIENT), message=message))
        assert any(isinstance(statement, Finding) for statement in statements) == (check in found)
    assert refuses(served, authority, 0) == (PURPOSE in found)
    assert refuses(served, authority, crypto.X509StoreFlags.X509_STRICT) == bool(found)


def refuses(served: Identity, authority: CertificateAuthority, flags: int) -> bool:
    """Return whether a client on OpenSSL, with these flags, refuses the handshake in memory."""
    client_context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    client_context.set_verify(SSL.VERIFY_PEER)
    store = client_context.get_cert_store()
    assert store is not None
    store.add_cert(crypto.X509.from_cryptography(authority.certificate))
    store.set_flags(flags)
    server_context = SSL.Context(SSL.TLS_SERVER_METHOD)
    assert served.key is not None
    server_context.use_certificate(served.chain[0])
    server_context.use_privatekey(served.key)
    client, server = SSL.Connection(client_context, None), SSL.Connection(server_context, None)
    client.set_connect_state()
    server.set_accept_state()
    for _ in range(3):
        for here, there in ((client, server), (server, client)):
            try:
                here.do_handshake()
            except SSL.WantReadError:
                pass
            except SSL.Error:
                return True
            with contextlib.suppress(SSL.WantReadError):
                there.bio_write(here.bio_read(1 << 16))
    return False
