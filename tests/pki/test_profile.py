from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from pytest_etcdtls.pki.profile import CLIENT, PEER, SERVER, KeyType, generate_key

KINDS = {
    KeyType.ECDSA_P256: (ec.EllipticCurvePrivateKey, 256),
    KeyType.ECDSA_P384: (ec.EllipticCurvePrivateKey, 384),
    KeyType.RSA_2048: (rsa.RSAPrivateKey, 2048),
    KeyType.RSA_4096: (rsa.RSAPrivateKey, 4096),
    KeyType.ED25519: (ed25519.Ed25519PrivateKey, None),
}


@pytest.mark.parametrize("key_type", list(KeyType))
def test_key_is_of_its_kind(key_type: KeyType) -> None:
    kind, size = KINDS[key_type]
    key = generate_key(key_type)
    assert isinstance(key, kind)
    assert getattr(key, "key_size", None) == size


def test_weak_rsa_key_can_be_generated() -> None:
    key = generate_key(KeyType.ECDSA_P256, rsa_bits=1024)
    assert isinstance(key, rsa.RSAPrivateKey)
    assert key.key_size == 1024


def test_key_below_1024_bits_is_an_error() -> None:
    with pytest.raises(ValueError, match="1024"):
        generate_key(KeyType.RSA_2048, rsa_bits=512)


def test_key_types_are_named_as_on_the_command_line() -> None:
    assert [str(key_type) for key_type in KeyType] == [
        "ecdsa-p256",
        "ecdsa-p384",
        "rsa-2048",
        "rsa-4096",
        "ed25519",
    ]


def test_servers_and_peers_are_clients_as_well() -> None:
    assert SERVER.extended_key_usage == PEER.extended_key_usage == ("serverAuth", "clientAuth")
    assert SERVER.subject_alt_names is PEER.subject_alt_names is None
    assert (CLIENT.common_name, CLIENT.extended_key_usage, CLIENT.subject_alt_names) == (
        "client",
        ("clientAuth",),
        (),
    )
