"""The prospects of a declaration in later versions, by the model and on every etcd at hand."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from oracle.crls import files
from starting import start_process

from declared.conftest import Workplace
from declared.declaring import AUTH, CA, GOOD, PAIR, URLS, flags, without, written
from declared.etcd_itself import run
from pytest_etcdtls.cluster.config import ClusterConfig
from pytest_etcdtls.cluster.sources import binary_version
from pytest_etcdtls.declared.declaration import CRLFile, Declaration, DeclaredMember, DeclaredPaths
from pytest_etcdtls.declared.files import crl_file
from pytest_etcdtls.declared.look_ahead import Prospect, later_lines, look_ahead
from pytest_etcdtls.declared.reading import declared_member, from_command_line, read_declaration
from pytest_etcdtls.pki.authority import CertificateAuthority
from pytest_etcdtls.pki.profile import KeyType, PKIPlan
from pytest_etcdtls.role import Role
from pytest_etcdtls.tls.attempt import Ending, Request
from pytest_etcdtls.tls.connection import make_attempt

SHAPES = Path(__file__).parent / "shapes"
CRL = "--client-crl-file=/pki/crl"
LISTS = files(CertificateAuthority.create("lists"), 4711, 815)


def _ahead(declaration: Declaration, version: str, encoding: str = "") -> tuple[Prospect, ...]:
    crl = crl_file("/pki/crl", "/pki/crl", LISTS[encoding]) if encoding else CRLFile(declared="/pki/crl")
    crls = {"/pki/crl": crl} if declaration.text("client-crl-file") else {}
    member = DeclaredMember(declaration=declaration, paths=DeclaredPaths(), crls=crls)
    return tuple(one for one in look_ahead(member, version) if not one.source.startswith("Go"))


def _of_go(version: str, *argv: str) -> list[Prospect]:
    member = DeclaredMember(declaration=flags(*(argv or GOOD)), paths=DeclaredPaths(), crls={})
    return [one for one in look_ahead(member, version) if one.source.startswith("Go")]


def _short(prospects: tuple[Prospect, ...]) -> list[tuple[str, str, bool]]:
    return [(one.line, one.settings[0].spelled if one.settings else "", one.harmless) for one in prospects]


@pytest.mark.parametrize("version", ["3.3.27", "3.4.23", "3.5.1", "3.5.33", "3.6.16", "3.7.3"])
def test_mutual_tls_has_no_prospects(version: str) -> None:
    assert _ahead(flags(*GOOD), version) == ()


def test_defaults_of_go_are_reported_once_and_only_without_cipher_suites() -> None:
    found = _of_go("3.5.15")
    assert all(one.harmless for one in found)
    assert [(one.line, one.source.partition(";")[0]) for one in found] == [
        ("3.6", f"Go release notes 1.{go}") for go in (22, 23, 23, 24, 25)
    ]
    assert "RSA key exchange" in found[0].summary
    declared = _of_go("3.5.15", *GOOD, "--cipher-suites=TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256")
    assert [one.summary for one in declared] == [one.summary for one in found[2:]]
    assert [one.source for one in _of_go("3.6.11")] == ["Go release notes 1.25; etcd server/go.mod in 3.7.3"]
    assert _of_go("3.5.15", "--listen-client-urls=http://10.0.0.1:2379") == []
    assert _of_go("3.4.23") == [], "what it was built with is not known"


@pytest.mark.two_etcds
def test_etcds_refuse_rsa_key_exchange_from_the_named_version_on(etcd_binaries: dict[str, Path]) -> None:
    """A client with that suite alone, at each etcd with an RSA key: served while Go has it by default."""
    config = ClusterConfig(pki=PKIPlan(key_type=KeyType.RSA_2048))
    served = {}
    for version, binary in etcd_binaries.items():
        with start_process(config, binary) as cluster:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            member = cluster.members[0]
            context.load_verify_locations(member.file("server-ca.crt"))
            context.load_cert_chain(member.file("client.crt"), member.file("client.key"))
            context.maximum_version = ssl.TLSVersion.TLSv1_2
            context.set_ciphers("AES128-GCM-SHA256")
            url = urlsplit(member.client_url)
            with socket.create_connection((url.hostname, url.port), 5) as connection:
                try:
                    context.wrap_socket(connection, server_hostname=url.hostname).close()
                    served[version] = True
                except ssl.SSLError:
                    served[version] = False
    for version, is_served in served.items():
        if version.startswith("3.5"):
            reported = [one for one in _of_go(version) if "RSA key exchange" in one.summary]
            assert bool(reported) is is_served, (version, served)
            assert not reported or not any(served[later] for later in served if later > "3.6")


def test_what_only_a_pre_release_does_may_change() -> None:
    split = ("--listen-client-http-urls=https://10.0.0.1:2378", CRL)
    [found] = _ahead(flags(*GOOD, *split), "3.7.3", "DER")
    assert (found.line, found.release, found.settled) == ("3.8", "3.8.0-alpha.0", False)
    assert "gRPC" in found.summary


def test_lines_after_a_version() -> None:
    assert later_lines("3.4.23") == ("3.5", "3.6", "3.7", "3.8")
    assert later_lines("3.6.0-rc.1") == ("3.7", "3.8")
    assert later_lines("3.8.0") == later_lines("3.9.1") == later_lines(None) == ()


def test_a_crl_in_pem_is_reported_once_for_3_6() -> None:
    (found,) = _ahead(flags(*GOOD, CRL), "3.4.23", "PEM")
    assert (found.line, found.release, found.harmless) == ("3.6", "3.6.16", False)
    assert "openssl crl" in found.remedy
    assert "x509.ParseRevocationList" in found.source
    assert _ahead(flags(*GOOD, CRL), "3.6.4", "PEM") == (), "it is so already"
    assert _ahead(flags(*GOOD, CRL), "3.5.33", "DER") == ()
    assert _ahead(flags(*GOOD, CRL), "3.5.33", "junk") == (), "no version reads it"
    assert _ahead(flags(*without("client-cert-auth", "trusted-ca-file"), CRL), "3.5.33", "PEM") == ()


def test_a_crl_of_version_1_and_several_lists_are_reported_for_3_6() -> None:
    (found,) = _ahead(flags(*GOOD, CRL), "3.5.33", "DER, version 1")
    assert (found.line, "version 1" in found.summary, "-crlexts" in found.remedy) == ("3.6", True, True)
    (found,) = _ahead(flags(*GOOD, CRL), "3.5.33", "PEM, two lists")
    assert (found.line, "is PEM" in found.summary) == ("3.6", True)


GONE: Mapping[str, tuple[str, str, str, str]] = {
    "a switch that is a feature gate": (
        "--experimental-initial-corrupt-check=false",
        "3.5.33",
        "3.7",
        "give --feature-gates=InitialCorruptCheck=false (etcd 3.6 and newer)",
    ),
    "a flag that lost its prefix": (
        "--experimental-corrupt-check-time=1m",
        "3.6.16",
        "3.7",
        "give --corrupt-check-time=1m (etcd 3.6 and newer)",
    ),
    "a flag without a successor": ("--enable-v2", "3.4.23", "3.6", "remove --enable-v2"),
    "a flag by another name": ("--debug", "3.4.23", "3.5", "give --log-level=debug (etcd 3.4 and newer)"),
    "a value that is gone": ("--v2-deprecation=not-yet", "3.5.33", "3.6", "remove --v2-deprecation"),
    "a logger that is gone": ("--logger=capnslog", "3.4.23", "3.5", "remove --logger: zap is the default"),
}


@pytest.mark.parametrize("case", GONE)
def test_removed_flags_and_values_are_prospects(case: str) -> None:
    flag, version, line, remedy = GONE[case]
    (found,) = [one for one in _ahead(flags(*GOOD, flag), version) if not one.harmless]
    assert (found.line, [one.spelled for one in found.settings]) == (line, [flag.partition("=")[0]])
    assert remedy in found.remedy


def test_feature_gates_are_one_flag() -> None:
    old = ("compact-hash-check-enabled=true", "initial-corrupt-check=false")
    given = (*GOOD, "--feature-gates=LeaseCheckpoint=true", *(f"--experimental-{one}" for one in old))
    gates = "LeaseCheckpoint=true,CompactHashCheck=true,InitialCorruptCheck=false"
    remedies = [one.remedy for one in _ahead(flags(*given), "3.6.16")]
    assert [one.partition(" (")[0] for one in remedies] == [f"give --feature-gates={gates}"] * 2


def test_changes_without_a_trap_are_prospects(tmp_path: Path) -> None:
    (ca,) = _ahead(flags(*without("client-cert-auth")), "3.3.27")
    assert (ca.line, "refuses clients without a certificate" in ca.summary) == ("3.4", True)
    (names, gateway) = _ahead(
        written(
            tmp_path,
            "listen-client-urls: https://10.0.0.1:2379\nadvertise-client-urls: https://10.0.0.1:2379\n"
            "client-transport-security:\n  cert-file: /c\n  key-file: /k\n  trusted-ca-file: /a\n"
            "  client-cert-auth: true\n  allowed-hostname: [a.example]\n",
        ),
        "3.4.23",
    )
    assert (names.line, "only certificates for a.example" in names.summary) == ("3.5", True)
    assert ("JSON gateway" in gateway.summary, gateway.harmless) == (True, True)
    (profiles,) = _ahead(flags(*GOOD, "--log-level=debug"), "3.4.23")
    assert (profiles.line, "/debug/pprof/" in profiles.summary) == ("3.5", True)
    variable = {"ETCD_EXPERIMENTAL_PEER_SKIP_CLIENT_SAN_VERIFICATION": "true"}
    (rule,) = _ahead(flags(*GOOD, environment=variable), "3.6.16")
    assert (rule.line, rule.settings[0].spelled) == ("3.7", *variable)


def test_flags_that_kubeadm_replaces_are_notes() -> None:
    old = _ahead(read_declaration(SHAPES / "kubeadm" / "v1.31.yaml"), "3.5.15")
    assert [(line, harmless) for line, _, harmless in _short(old)] == [("3.7", True)] * 2
    assert _ahead(read_declaration(SHAPES / "kubeadm" / "v1.34.yaml"), "3.6.4") == ()
    for shape in ("k3s/config", "rke2/etcd.yaml", "kubespray/etcd.env"):
        found = _ahead(read_declaration(SHAPES / shape), "3.5.16")
        assert found
        assert all(one.harmless for one in found), shape


def test_an_extra_argument_in_kubeadms_manifest_is_a_finding(tmp_path: Path) -> None:
    text = (SHAPES / "kubeadm" / "v1.31.yaml").read_text(encoding="utf-8")
    text = text.replace("    - etcd\n", "    - etcd\n    - --experimental-corrupt-check-time=4h\n", 1)
    found = _ahead(written(tmp_path, text, "etcd.yaml"), "3.5.15")
    assert ("3.7", "--experimental-corrupt-check-time", False) in _short(found)


PLAIN = ("--listen-client-urls=http://{client}", "--advertise-client-urls=http://{client}")
ON_ETCD = (
    "--experimental-initial-corrupt-check",
    "--experimental-corrupt-check-time=1m",
    "--experimental-peer-skip-client-san-verification",
    "--enable-v2",
    "--v2-deprecation=not-yet",
    "--logger=capnslog",
    "--debug",
    "--feature-gates=InitialCorruptCheck=true",
    "--watch-progress-notify-interval=5s",
    "--discovery-proxy=http://127.0.0.1:1",
)


@pytest.mark.two_etcds
@pytest.mark.parametrize("flag", ON_ETCD)
def test_later_etcds_refuse_the_reported_settings(
    flag: str, etcd_binaries: dict[str, Path], workplace: Workplace
) -> None:
    """With each etcd that starts, the prospects name the first later one that does not."""
    argv = [*workplace.member(), *map(workplace.fill_in, (*PLAIN, flag))]
    declared = declared_member(from_command_line(["etcd", *argv]))
    newest = {".".join(version.split(".")[:2]): binary for version, binary in etcd_binaries.items()}
    starts = {
        line: run(binary, argv, {}, workplace.directory).started
        for line, binary in newest.items()
        if line in ("3.4", "3.5", "3.6", "3.7")
    }
    for line, binary in newest.items():
        later = [other for other in later_lines(binary_version(binary)) if other in starts]
        if starts.get(line) and later:
            reported = {one.line for one in look_ahead(declared, binary_version(binary)) if not one.harmless}
            stops = next((other for other in later if not starts[other]), None)
            assert (stops is None) == (not reported & {*later}), (line, reported, starts)
            assert stops is None or stops in reported


@pytest.mark.two_etcds
def test_etcd_3_6_refuses_every_client_with_a_crl_in_pem(etcd_binaries: dict[str, Path]) -> None:
    """The same configuration on every etcd: the good client is served by those that read PEM."""
    config = ClusterConfig(client_crl_file="crl.pem")
    served, reported = {}, {}
    for version, binary in etcd_binaries.items():
        with start_process(replace(config, expects_health=version < "3.6"), binary) as cluster:
            [listener] = [one for one in cluster.target().listeners if one.role is Role.CLIENT]
            request = Request(purpose="the good client", identity=cluster.pki.client, path="/version")
            served[version] = make_attempt(listener, request, 5).ending is Ending.SERVED
            declared = declared_member(from_command_line(cluster.members[0].argv))
            reported[version] = [
                (one.line, "crl.pem is PEM" in one.summary)
                for one in look_ahead(declared, version)
                if not one.harmless
            ]
    for version in etcd_binaries:
        reads_it = version < "3.6"
        assert served[version] is reads_it
        assert reported[version] == ([("3.6", True)] if reads_it else [])


def test_sources_name_the_line() -> None:
    (found,) = _ahead(flags(*URLS, *PAIR, CA, AUTH, "--enable-v2"), "3.5.33")
    assert found.source == "etcd CHANGELOG-3.6.md"
