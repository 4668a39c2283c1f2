"""Shell lines with ``openssl`` that make an identity like one of ours. Makes no keys or certificates itself.

They run in an empty directory with OpenSSL 1.1.1 or newer, and leave ``NAME.crt`` and ``NAME.key`` there.
``x509 -set_serial`` is there so that no serial file is left beside anybody's CA.
"""

from __future__ import annotations

import base64
import shlex
from typing import Final

EXPIRED: Final = ("20200101000000Z", "20200102000000Z")
"""notBefore and notAfter that stay in the past."""
NOT_YET_VALID: Final = ("20490101000000Z", "20490102000000Z")
"""notBefore and notAfter that stay in the future, yet fit UTCTime (RFC 5280 section 4.1.2.5.1)."""

CLIENT_USAGES: Final = ("keyUsage=critical,digitalSignature", "extendedKeyUsage=clientAuth")
SERVER_USAGES: Final = ("keyUsage=critical,digitalSignature", "extendedKeyUsage=serverAuth")
_LEAF: Final = "basicConstraints=critical,CA:FALSE"
_CA: Final = ("basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign")
_IDENTIFIERS: Final = ("subjectKeyIdentifier=hash", "authorityKeyIdentifier=keyid")
_SERIAL: Final = "-set_serial 0x$(openssl rand -hex 16)"


def leaf_recipe(
    name: str,
    common_name: str,
    signer: tuple[str, str] | None,
    *,
    usages: tuple[str, ...] = CLIENT_USAGES,
    subject_alt_name: str | None = None,
    validity: tuple[str, str] | None = None,
    serial: int | None = None,
) -> tuple[str, ...]:
    """Return the lines that make a leaf.

    Args:
        name: of the identity, and so of the files.
        common_name: its subject.
        signer: files of the CA's certificate and key, ``None`` for a self-signed one.
        usages: key usages, in the words of openssl's ``x509v3_config``.
        subject_alt_name: likewise; ``None`` for no such extension.
        validity: notBefore and notAfter as ``YYYYMMDDHHMMSSZ``; ``None`` for one day from now.
        serial: number of a certificate that is valid for one day; ``None`` for a random one.
    """
    names = () if subject_alt_name is None else (f"subjectAltName={subject_alt_name}",)
    request = (*_request(name, common_name), _extensions(name, (_LEAF, *usages, *names)))
    if validity is None or signer is None:
        return (*request, _sign(name, signer, serial))
    return (*request, *_sign_with_dates(name, signer, validity))


def authority_recipe(name: str, common_name: str, signer: tuple[str, str] | None = None) -> tuple[str, ...]:
    """Return the lines that make a CA, self-signed or signed by another one."""
    return (*_request(name, common_name), _extensions(name, _CA), _sign(name, signer))


def lookalike_authority_recipe(name: str, certificate: bytes, new_key: str) -> tuple[str, ...]:
    """Return the lines that make a CA with the names and identifiers of a certificate, and a key of its own.

    Args:
        name: of the files.
        certificate: DER of the certificate to look like; it is public.
        new_key: arguments of ``openssl genpkey``.
    """
    encoded = base64.b64encode(certificate).decode()
    return (
        f"printf %s {encoded} | openssl base64 -d -A > {name}.der",
        f"openssl genpkey {new_key} -out {name}.key",
        f"openssl x509 -inform DER -in {name}.der -signkey {name}.key -days 1 -out {name}.crt",
    )


def _request(name: str, common_name: str) -> tuple[str, ...]:
    subject = shlex.quote(f"/CN={common_name}")
    key = f"-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {name}.key"
    return (f"openssl req -new {key} -subj {subject} -out {name}.csr",)


def _extensions(name: str, lines: tuple[str, ...]) -> str:
    quoted = " ".join(shlex.quote(line) for line in (*lines, *_IDENTIFIERS))
    return f"printf '%s\\n' {quoted} > {name}.ext"


def _sign(name: str, signer: tuple[str, str] | None, serial: int | None = None) -> str:
    by = f"-signkey {name}.key" if signer is None else f"-CA {_quote(signer[0])} -CAkey {_quote(signer[1])}"
    number = _SERIAL if serial is None else f"-set_serial 0x{serial:x}"
    return f"openssl x509 -req -in {name}.csr {by} -days 1 {number} -extfile {name}.ext -out {name}.crt"


def _sign_with_dates(name: str, signer: tuple[str, str], validity: tuple[str, str]) -> tuple[str, ...]:
    # `openssl x509` takes dates from 3.4 on only; `openssl ca` always did, but wants a configuration.
    lines = (
        *("[ca]", "default_ca=d", "[d]", f"database={name}.db", "new_certs_dir=.", "rand_serial=yes"),
        *("default_md=default", "policy=p", "[p]", "commonName=supplied"),
    )
    quoted = " ".join(shlex.quote(line) for line in lines)
    by = f"-cert {_quote(signer[0])} -keyfile {_quote(signer[1])}"
    dates = f"-startdate {validity[0]} -enddate {validity[1]}"
    files = f"-extfile {name}.ext -in {name}.csr -out {name}.crt"
    return (
        f": > {name}.db",
        f"printf '%s\\n' {quoted} > {name}.cnf",
        f"openssl ca -batch -notext -config {name}.cnf {by} {dates} {files}",
    )


def _quote(path: str) -> str:
    return shlex.quote(path)
