"""The extensions of a certificate, from a profile, as RFC 5280 section 4.2 wants them.

Knows neither issuer nor serial number nor signature.
"""

from __future__ import annotations

import ipaddress

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from pytest_etcdtls.pki.identity import PrivateKey
from pytest_etcdtls.pki.profile import Profile

KEY_USAGES = {
    "digitalSignature": "digital_signature",
    "contentCommitment": "content_commitment",
    "keyEncipherment": "key_encipherment",
    "dataEncipherment": "data_encipherment",
    "keyAgreement": "key_agreement",
    "keyCertSign": "key_cert_sign",
    "cRLSign": "crl_sign",
    "encipherOnly": "encipher_only",
    "decipherOnly": "decipher_only",
}
_EXTENDED_KEY_USAGES = {
    "serverAuth": ExtendedKeyUsageOID.SERVER_AUTH,
    "clientAuth": ExtendedKeyUsageOID.CLIENT_AUTH,
}


def general_name(text: str) -> x509.GeneralName:
    """Return an IP literal as iPAddress, anything else as dNSName.

    Raises:
        ValueError: if a name is not ASCII.
    """
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def extensions(
    profile: Profile, key: PrivateKey, subject: x509.Name, hosts: tuple[str, ...]
) -> list[tuple[x509.ExtensionType, bool]]:
    """Return the extensions that a profile asks for, with their criticality, but for key identifiers.

    Args:
        profile: what is asked for.
        key: the certificate's own, which decides the default key usage.
        subject: the certificate's own; an empty one makes the subjectAltName critical.
        hosts: names that the profile's ``subject_alt_names`` of ``None`` stands for.

    Raises:
        ValueError: if the profile asks for what cannot be encoded.
    """
    found: list[tuple[x509.ExtensionType, bool]] = [
        (x509.BasicConstraints(ca=profile.ca, path_length=profile.path_length if profile.ca else None), True)
    ]
    usages = _key_usage(profile, key)
    if usages is not None:
        found.append((usages, True))
    if profile.extended_key_usage is not None:
        purposes = [
            _EXTENDED_KEY_USAGES.get(name) or x509.ObjectIdentifier(name)
            for name in profile.extended_key_usage
        ]
        found.append((x509.ExtendedKeyUsage(purposes), False))
    names = [
        general_name(text)
        for text in (hosts if profile.subject_alt_names is None else profile.subject_alt_names)
    ]
    names += [x509.DNSName(text) for text in profile.dns_names]
    if names:
        # NOTE: no empty extension, ever: etcd's Go rejects an empty critical subjectAltName as unhandled.
        found.append((x509.SubjectAlternativeName(names), not list(subject)))
    if profile.unknown_critical_extension is not None:
        oid = x509.ObjectIdentifier(profile.unknown_critical_extension)
        found.append((x509.UnrecognizedExtension(oid, b"\x05\x00"), True))
    return found


def _key_usage(profile: Profile, key: PrivateKey) -> x509.KeyUsage | None:
    names = profile.key_usage
    if names is None:
        rsa_key = isinstance(key, rsa.RSAPrivateKey)
        names = frozenset({"digitalSignature", "keyEncipherment"} if rsa_key else {"digitalSignature"})
    if unknown := names - KEY_USAGES.keys():
        raise ValueError(f"unknown key usage {', '.join(sorted(unknown))}, known are {', '.join(KEY_USAGES)}")
    if not names:
        return None
    return x509.KeyUsage(**{argument: name in names for name, argument in KEY_USAGES.items()})
