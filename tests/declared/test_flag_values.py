"""Values with which some version does not start. ``make model`` compares the same with real etcds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from declared.conftest import Workplace
from declared.declaring import GOOD, PEER_URLS, URLS, flags, without, written
from declared.etcd_itself import run
from pytest_etcdtls.cluster.sources import binary_version
from pytest_etcdtls.declared.effective import effective
from pytest_etcdtls.declared.files import read_member_files
from pytest_etcdtls.declared.flags import FEATURE_GATES
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
    "--snapshot-count=many": ALL,
    "--snapshot-count=-1": ALL,
    "--snapshot-count=0x10": (),
    "--quota-backend-bytes=-1": (),
    "--quota-backend-bytes=2GB": ALL,
    "--grpc-keepalive-timeout=20": ALL,
    "--grpc-keepalive-timeout=1m30s": (),
    "--logger=capnslog": ALL[1:],
    "--logger=": ALL,
    "--log-level=loud": ALL,
    "--log-level=INFO": ("3.4.23",),
    "--v2-deprecation=not-yet": ("3.6.16", "3.7.3"),
    "--v2-deprecation=never": ALL[1:],
    "--feature-gates=": (),
    "--feature-gates=InitialCorruptCheck": ALL[3:],
    "--feature-gates=PriorityRequest=true": ("3.6.16",),
    "--feature-gates=LeaseCheckpointPersist=true": ALL[3:],
    "--experimental-enable-lease-checkpoint-persist": ("3.4.23", "3.5.33", "3.6.16"),
    "--experimental-enable-lease-checkpoint": ("3.4.23",),
    "--client-cert-file=": (),
}


def _stops(*arguments: str, version: str, environment: Mapping[str, str] | None = None) -> list[str]:
    found = find_traps(flags(*arguments, environment=environment), version)
    return [trap.summary for trap in found if not trap.starts and trap.id == "does-not-start"]


@pytest.mark.parametrize("version", ALL)
@pytest.mark.parametrize("flag", STOPS)
def test_values(flag: str, version: str) -> None:
    assert bool(_stops(*GOOD, flag, version=version)) is (version in STOPS[flag])


def test_an_empty_variable_is_none() -> None:
    empty = {"ETCD_CIPHER_SUITES": "", "ETCD_LOGGER": "", "ETCD_SNAPSHOT_COUNT": ""}
    assert _stops(*GOOD, version="3.7.3", environment=empty) == []


def test_a_gate_and_its_flag_of_3_5() -> None:
    both = ("--feature-gates=CompactHashCheck=true", "--experimental-compact-hash-check-enabled")
    assert len(_stops(*GOOD, *both, version="3.6.16")) == 1
    assert _stops(*GOOD, both[0].replace("Compact", "NoCompact"), version="3.6.16")


def test_half_a_pair_of_peers_stops_without_peer_tls() -> None:
    plain = [one.replace("https", "http") for one in PEER_URLS]
    others = [one for one in without("peer-cert-file") if one not in PEER_URLS]
    assert any("without --peer-cert-file" in one for one in _stops(*others, *plain, version="3.7.3"))


def test_an_empty_flag_is_given_and_an_empty_variable_is_not() -> None:
    assert (
        _stops(URLS[0], "--advertise-client-urls=", *without("listen-client-urls")[1:], version="3.7.3") == []
    )
    variable = {"ETCD_ADVERTISE_CLIENT_URLS": ""}
    others = [one for one in GOOD if one not in URLS]
    assert _stops(URLS[0], *others, version="3.7.3", environment=variable) != []


def test_no_validity_for_a_generated_certificate() -> None:
    generated = (*without("cert-file", "key-file"), "--auto-tls", "--self-signed-cert-validity=0")
    assert any("validity" in one for one in _stops(*generated, version="3.7.3"))
    assert _stops(*GOOD, "--self-signed-cert-validity=0", version="3.7.3") == []


@pytest.mark.parametrize(("version", "names"), [("3.5.1", ()), ("3.5.33", ("",)), ("3.7.3", ("",))])
def test_an_empty_list_of_allowed_names_is_one_name(version: str, names: tuple[str, ...]) -> None:
    done = effective(flags(*GOOD, "--peer-cert-allowed-hostname="), version)
    assert done.sides["peer"].allowed_hostname == names
    assert ("valid for no name at all" in done.at(Role.PEER)[0].describe()) is bool(names)


def test_keys_of_another_kind(tmp_path: Path) -> None:
    text = "name: a\nsnapshot-count: '10'\ngrpc-keepalive-timeout: 20s\nmax-wals: 5\n"
    mistakes = [one.text for one in written(tmp_path, text).mistakes]
    assert ["snapshot-count" in mistakes[0], "nanoseconds" in mistakes[1], len(mistakes)] == [True, True, 2]


def test_an_unquoted_off_is_not_a_proxy_mode(tmp_path: Path) -> None:
    """In YAML it is a boolean, and etcd up to 3.5 stops; later ones ignore the key."""
    plain, quoted = written(tmp_path, "proxy: off\n"), written(tmp_path, "proxy: 'off'\n")
    stops = {
        version: any(not trap.starts for trap in find_traps(plain, version))
        for version in ("3.4.23", "3.5.33", "3.6.16")
    }
    assert stops == {"3.4.23": True, "3.5.33": True, "3.6.16": False}
    assert all(trap.starts for trap in find_traps(quoted, "3.5.33"))


@pytest.mark.etcd_version("3.6", "3.7")
def test_feature_gates_are_those_of_etcd(etcd_binary: Path, workplace: Workplace) -> None:
    """Each gate of a version starts it, and each gate of the other one does what the model says."""
    version = binary_version(etcd_binary)
    every = sorted(frozenset().union(*FEATURE_GATES.values()))
    for gate in every:
        argv = [*workplace.member(), f"--feature-gates={gate}=false", "--cipher-suites=none"]
        log = run(etcd_binary, argv, {}, workplace.directory).log
        known = gate in FEATURE_GATES[version.rpartition(".")[0]]
        assert ("unrecognized feature gate" in log) is not known, gate


def test_etcd_does_not_read_a_certificate_in_der(pki_files: Path, tmp_path: Path) -> None:
    certificate = x509.load_pem_x509_certificate((pki_files / "server.crt").read_bytes())
    der = tmp_path / "server.der"
    der.write_bytes(certificate.public_bytes(Encoding.DER))
    pair = (f"--cert-file={der}", f"--key-file={pki_files}/server.key")
    (found,) = read_member_files("m0", declared_member(from_command_line(["etcd", *URLS, *pair]))).pairs
    assert "etcd reads PEM alone" in found.certificate.problem
    assert "openssl x509" in found.certificate.problem
    assert found.chain == ()
