"""What values of settings mean. With which of them an etcd starts is asked in ``test_starting.py``."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from declared.declaring import GOOD, URLS, effective, find_traps, flags
from pytest_etcdtls.declared.files import read_member_files
from pytest_etcdtls.declared.reading import declared_member, from_command_line
from pytest_etcdtls.role import Role


@pytest.mark.parametrize(("version", "names"), [("3.5.1", ()), ("3.5.33", ("",)), ("3.7.3", ("",))])
def test_an_empty_list_of_allowed_names_is_one_name(version: str, names: tuple[str, ...]) -> None:
    done = effective(flags(*GOOD, "--peer-cert-allowed-hostname="), version)
    assert done.sides["peer"].allowed_hostname == names
    assert ("valid for no name at all" in done.at(Role.PEER)[0].describe()) is bool(names)


@pytest.mark.parametrize("value", ["--snapshot-count=many", "--log-level=loud", "--feature-gates=None=true"])
def test_a_value_unrelated_to_tls_is_not_judged(value: str) -> None:
    assert find_traps(flags(*GOOD, value), "3.7.3") == ()


def test_etcd_does_not_read_a_certificate_in_der(pki_files: Path, tmp_path: Path) -> None:
    certificate = x509.load_pem_x509_certificate((pki_files / "server.crt").read_bytes())
    der = tmp_path / "server.der"
    der.write_bytes(certificate.public_bytes(Encoding.DER))
    pair = (f"--cert-file={der}", f"--key-file={pki_files}/server.key")
    (found,) = read_member_files("m0", declared_member(from_command_line(["etcd", *URLS, *pair]))).pairs
    assert "etcd reads PEM alone" in found.certificate.problem
    assert "openssl x509" in found.certificate.problem
    assert found.chain == ()
