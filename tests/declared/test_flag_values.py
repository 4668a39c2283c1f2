"""Values about TLS with which some version does not start; ``model.run`` compares them with real etcds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from declared.declaring import GOOD, PEER_URLS, URLS, flags, without
from pytest_etcdtls.declared.effective import effective
from pytest_etcdtls.declared.files import read_member_files
from pytest_etcdtls.declared.reading import declared_member, from_command_line
from pytest_etcdtls.declared.traps import find_traps
from pytest_etcdtls.role import Role

_128 = "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"
ALL = ("3.4.23", "3.5.1", "3.5.33", "3.6.16", "3.7.3")

STOPS: Mapping[str, tuple[str, ...]] = {
    "--cipher-suites=": ALL,
    f"--cipher-suites={_128}, TLS_AES_128_GCM_SHA256": ALL,
    f"--cipher-suites={_128},ECDHE-ECDSA-AES256-GCM-SHA384": ALL,
    f"--cipher-suites={_128},TLS_AES_128_GCM_SHA256,TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305": (),
    "--client-cert-file=": (),
}


def _stops(*arguments: str, version: str, environment: Mapping[str, str] | None = None) -> list[str]:
    found = find_traps(flags(*arguments, environment=environment), version)
    return [trap.summary for trap in found if not trap.starts and trap.id == "does-not-start"]


@pytest.mark.parametrize("version", ALL)
@pytest.mark.parametrize("flag", STOPS)
def test_values(flag: str, version: str) -> None:
    assert bool(_stops(*GOOD, flag, version=version)) is (version in STOPS[flag])


def test_an_empty_variable_counts_as_unset() -> None:
    assert _stops(*GOOD, version="3.7.3", environment={"ETCD_CIPHER_SUITES": ""}) == []


def test_half_a_pair_of_peers_stops_without_peer_tls() -> None:
    plain = [peer_url.replace("https", "http") for peer_url in PEER_URLS]
    others = [one for one in without("peer-cert-file") if one not in PEER_URLS]
    assert any("without --peer-cert-file" in stop for stop in _stops(*others, *plain, version="3.7.3"))


def test_an_empty_flag_is_given_and_an_empty_variable_is_not() -> None:
    assert (
        _stops(URLS[0], "--advertise-client-urls=", *without("listen-client-urls")[1:], version="3.7.3") == []
    )
    variable = {"ETCD_ADVERTISE_CLIENT_URLS": ""}
    others = [one for one in GOOD if one not in URLS]
    assert _stops(URLS[0], *others, version="3.7.3", environment=variable) != []


def test_no_validity_for_a_generated_certificate() -> None:
    generated = (*without("cert-file", "key-file"), "--auto-tls", "--self-signed-cert-validity=0")
    assert any("validity" in stop for stop in _stops(*generated, version="3.7.3"))
    assert _stops(*GOOD, "--self-signed-cert-validity=0", version="3.7.3") == []


@pytest.mark.parametrize(("version", "names"), [("3.5.1", ()), ("3.5.33", ("",)), ("3.7.3", ("",))])
def test_an_empty_list_of_allowed_names_is_one_name(version: str, names: tuple[str, ...]) -> None:
    done = effective(flags(*GOOD, "--peer-cert-allowed-hostname="), version)
    assert done.sides["peer"].allowed_hostname == names
    assert ("valid for no name at all" in done.at(Role.PEER)[0].describe()) is bool(names)


@pytest.mark.parametrize("value", ["--snapshot-count=many", "--log-level=loud", "--feature-gates=None=true"])
def test_a_value_unrelated_to_tls_is_not_judged(value: str) -> None:
    assert _stops(*GOOD, value, version="3.7.3") == []


def test_etcd_does_not_read_a_certificate_in_der(pki_files: Path, tmp_path: Path) -> None:
    certificate = x509.load_pem_x509_certificate((pki_files / "server.crt").read_bytes())
    der = tmp_path / "server.der"
    der.write_bytes(certificate.public_bytes(Encoding.DER))
    pair = (f"--cert-file={der}", f"--key-file={pki_files}/server.key")
    (found,) = read_member_files("m0", declared_member(from_command_line(["etcd", *URLS, *pair]))).pairs
    assert "etcd reads PEM alone" in found.certificate.problem
    assert "openssl x509" in found.certificate.problem
    assert found.chain == ()
