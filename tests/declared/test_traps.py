"""Every trap is found in the declarations and versions that have it, and in no others."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from oracle.crls import files

from declared.declaring import (
    AUTH,
    CA,
    GOOD,
    PAIR,
    URLS,
    effective,
    find_traps,
    flags,
    without,
    written,
)
from pytest_etcdtls.declared.declaration import CRLFile, Declaration
from pytest_etcdtls.declared.effective import CRLEffect
from pytest_etcdtls.declared.files import crl_file
from pytest_etcdtls.declared.traps.trap import FoundTrap
from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.pki.authority import CertificateAuthority
from pytest_etcdtls.role import Role

VERSIONS = ("3.3.27", "3.4.23", "3.4.45", "3.5.1", "3.5.14", "3.5.33", "3.6.4", "3.6.16", "3.7.3", None)
LISTS = files(CertificateAuthority.create("lists"), 4711, 815)


def _list(name: str) -> dict[str, CRLFile]:
    return {"/pki/crl": crl_file("/pki/crl", "/pki/crl", LISTS[name])}


DER, PEM, JUNK = map(_list, ("DER", "PEM", "junk"))
GONE = {"/pki/crl": CRLFile(declared="/pki/crl")}
NOT_READABLE = {"/pki/crl": CRLFile(declared="/pki/crl", path="/pki/crl", unread="may not be read")}
CRL = "--client-crl-file=/pki/crl"


def _ids(
    declaration: Declaration, version: str | None, crls: Mapping[str, CRLFile] | None = None
) -> list[str]:
    return sorted({trap.id for trap in find_traps(declaration, version, crls)})


@pytest.mark.parametrize("version", VERSIONS)
def test_mutual_tls_has_no_trap(version: str | None) -> None:
    assert find_traps(flags(*GOOD), version) == ()


ALL = VERSIONS
FROM_3_4 = VERSIONS[1:]
SINCE_3_6 = ("3.6.4", "3.6.16", "3.7.3", None)

CASES: Mapping[str, tuple[tuple[str, ...], str, tuple[str | None, ...]]] = {
    "auto-tls drops it": (
        (*without("cert-file", "key-file"), "--auto-tls"),
        "auto-tls-drops-client-auth",
        ALL,
    ),
    "auto-tls beside a certificate": ((*GOOD, "--auto-tls"), "auto-tls-ignored", ALL),
    "no bundle": (without("trusted-ca-file"), "client-auth-without-ca", ALL),
    "no bundle for peers": (without("peer-trusted-ca-file"), "client-auth-without-ca", ALL),
    "a bundle alone": (without("client-cert-auth"), "trusted-ca-alone", ALL),
    "a bundle alone for peers": (without("peer-client-cert-auth"), "trusted-ca-alone", ("3.3.27",)),
    "http beside": (
        (*without("listen-client-urls"), "--listen-client-urls=https://10.0.0.11:2379,http://127.0.0.1:2379"),
        "http-listener-beside-tls",
        ALL,
    ),
    "peers in plaintext": (
        (*without("listen-peer-urls"), "--listen-peer-urls=http://10.0.0.11:2380"),
        "http-listener-beside-tls",
        ALL,
    ),
    "no listening URL": (without("listen-client-urls"), "http-listener-beside-tls", ALL),
    "names without authentication": (
        (*without("trusted-ca-file", "client-cert-auth"), "--client-cert-allowed-hostname=a"),
        "allowed-names-without-client-auth",
        FROM_3_4,
    ),
    "a list of names": (
        (*GOOD, "--client-cert-allowed-hostname=a,b"),
        "allowed-names-as-one",
        ("3.4.23", "3.4.45", "3.5.1", "3.5.14"),
    ),
    "SAN rule off, by its old name": (
        (*GOOD, "--experimental-peer-skip-client-san-verification"),
        "san-check-off",
        VERSIONS[:-2],
    ),
    "SAN rule off": ((*GOOD, "--peer-skip-client-san-verification"), "san-check-off", SINCE_3_6),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("version", VERSIONS)
def test_traps_of_flags(case: str, version: str | None) -> None:
    arguments, id_, versions = CASES[case]
    found = [trap for trap in find_traps(flags(*arguments), version) if trap.starts]
    assert [trap.id for trap in found] == ([id_] if version in versions else [])


def _only(
    declaration: Declaration, version: str | None = "3.6.16", **more: Mapping[str, CRLFile]
) -> FoundTrap:
    (trap,) = find_traps(declaration, version, more.get("crls"))
    return trap


@pytest.mark.parametrize(
    ("crls", "version", "ids", "certain"),
    [
        (DER, "3.7.3", [], True),
        (PEM, None, ["crl-encoding"], False),
        (GONE, "3.4.23", ["crl-missing"], False),
        (NOT_READABLE, "3.7.3", ["crl-missing"], False),
        (JUNK, None, ["crl-encoding"], True),
    ],
)
def test_crl_files(crls: Mapping[str, CRLFile], version: str | None, ids: list[str], certain: bool) -> None:
    traps = find_traps(flags(*GOOD, CRL), version, crls)
    assert [trap.id for trap in traps] == ids
    assert all(trap.certain is certain for trap in traps)


_ENCODINGS: Mapping[str, tuple[tuple[str, str], tuple[str, str]]] = {
    # The trap up to 3.5 and since 3.6, with a word of the remedy.
    "DER": (("", ""), ("", "")),
    "DER, version 1": (("", ""), ("crl-encoding", "-crlexts")),
    "DER with a newline after it": (("crl-encoding", "-inform DER"), ("", "")),
    "DER with a critical key identifier": (("", ""), ("crl-encoding", "-crlexts")),
    "PEM": (("", ""), ("crl-encoding", "-inform PEM")),
    "PEM with text before it": (("crl-encoding", "-inform PEM"), ("crl-encoding", "-inform PEM")),
    "PEM, two lists": (("crl-one-list", "one list"), ("crl-encoding", "one list")),
    "PEM, a certificate before the list": (("crl-encoding", ""), ("crl-encoding", "-inform PEM")),
    "empty": (("crl-encoding", "replace it"), ("crl-encoding", "replace it")),
}


@pytest.mark.parametrize("name", _ENCODINGS)
def test_encodings_of_a_crl(name: str) -> None:
    for versions, (id_, remedy) in zip(
        (("3.4.23", "3.5.33"), ("3.6.4", "3.7.3")), _ENCODINGS[name], strict=True
    ):
        for version in versions:
            traps = find_traps(flags(*GOOD, CRL), version, _list(name))
            assert [trap.id for trap in traps] == [id_] * bool(id_), version
            assert all(remedy in trap.remedy for trap in traps), traps
            expected = CRLEffect.REFUSES_ALL if id_ == "crl-encoding" else CRLEffect.ENFORCED
            assert effective(flags(*GOOD, CRL), version, _list(name)).sides["client"].crl is expected


_BOTH = "--listen-client-urls=https://10.0.0.11:2379,http://10.0.0.11:2379"


@pytest.mark.parametrize(
    ("http", "plaintext", "harmless"),
    [
        ((), {"https://10.0.0.11:2379"}, [False]),
        (("https://10.0.0.11:2382",), set(), [True]),
        (("http://10.0.0.11:2382",), {"http://10.0.0.11:2382"}, [False, True]),
        (
            ("https://10.0.0.11:2382", "http://10.0.0.11:2382"),
            {"https://10.0.0.11:2382"},
            [False, True],
        ),
    ],
)
def test_plaintext_on_a_port_of_tls(http: tuple[str, ...], plaintext: set[str], harmless: list[bool]) -> None:
    split = [f"--listen-client-http-urls={','.join(http)}"] if http else []
    declaration = flags(*without("listen-client-urls"), _BOTH, *split)
    for version in ("3.5.33", "3.6.16", "3.7.3"):
        done = effective(declaration, version)
        assert {str(listener.url) for listener in done.listeners if listener.plaintext} == plaintext
        found = [one for one in find_traps(declaration, version) if one.id == "http-listener-beside-tls"]
        assert [one.harmless for one in found] == harmless


def test_a_second_list_of_the_same_certificates_is_reported_too() -> None:
    twice = crl_file("/pki/crl", "/pki/crl", LISTS["PEM"] * 2)
    assert (twice.lists, _ids(flags(*GOOD, CRL), "3.5.33", {"/pki/crl": twice})) == (2, [])


def test_a_crl_without_client_authentication() -> None:
    declaration = flags(*without("client-cert-auth", "trusted-ca-file"), CRL)
    assert _only(declaration, crls=DER).id == "crl-without-client-auth"
    assert effective(declaration, "3.6.16", DER).sides["client"].crl is CRLEffect.IGNORED


@pytest.mark.parametrize(
    ("version", "ignored"),
    [
        ("3.5.31", True),
        ("3.5.32", False),
        ("3.6.12", True),
        ("3.6.13", False),
    ],
)
def test_a_crl_on_a_grpc_port(version: str, ignored: bool) -> None:
    declaration = flags(*GOOD, CRL, "--listen-client-http-urls=https://10.0.0.11:2382")
    assert _ids(declaration, version, DER) == (["crl-ignored-on-grpc"] if ignored else [])
    done = effective(declaration, version, DER)
    assert (done.at(Role.CLIENT)[0].crl is CRLEffect.IGNORED) is ignored
    assert done.at(Role.CLIENT_HTTP)[0].crl is CRLEffect.ENFORCED


@pytest.mark.parametrize(
    ("flag", "hidden"),
    [
        ("--cert-file=/pki/server.crt", False),
        ("--client-cert-auth=1", False),
        ("--client-cert-auth=0", True),
        ("--metrics=basic", False),
        ("--peer-client-cert-auth", True),
    ],
)
def test_a_configuration_file_hides_flags_that_it_does_not_repeat(
    flag: str, hidden: bool, tmp_path: Path
) -> None:
    text = "client-transport-security: {client-cert-auth: true, cert-file: /pki/server.crt}\n"
    (tmp_path / "etcd.yml").write_text(text, encoding="utf-8")
    traps = find_traps(flags(f"--config-file={tmp_path}/etcd.yml", flag), "3.6.16")
    found = [trap.settings for trap in traps if trap.id == "config-file-hides-flags"]
    assert [[one.written.partition("=")[0] for one in settings] for settings in found] == (
        [[flag.partition("=")[0]]] if hidden else []
    )


@pytest.mark.parametrize(
    ("text", "version", "advice"),
    [
        ("client-cert-auth: true\n", "3.6.16", "client-transport-security: client-cert-auth"),
        ("client-transport-security: {client-crl-file: /c}\n", "3.6.16", "no documented key is for a CRL"),
        ("client-transport-security: {trusted-ca-fil: /c}\n", "3.6.16", "perhaps trusted-ca-file is meant"),
        ("client-transport-security: {allowed-cn: [a]}\n", "3.5.14", "client-transport-security: allowed-cn"),
        ("tls-min-version: TLS1.2\n", "3.4.23", "it is a key of etcd 3.4.25, 3.5.8 and newer"),
        ("zzzz: 1\n", "3.6.16", "remove zzzz"),
        ("experimental-initial-corrupt-check: true\n", "3.7.3", "feature-gates: InitialCorruptCheck=true"),
        (
            "experimental-peer-skip-client-san-verification: true\n",
            "3.7.3",
            "peer-transport-security: skip-client-san-verification",
        ),
        ("max-learners: 3\n", "3.5.33", "it is a key of etcd 3.6 and newer"),
        ("discovery-fallback: exit\n", "3.6.16", "remove discovery-fallback"),
        ("experimental-snapshot-catch-up-entries: 5000\n", "3.7.3", "write it as snapshot-catchup-entries"),
        ("socket-options: {reuse-port: true}\n", "3.5.9", "remove socket-options"),
        ("experimental-initial-corrupt-check: false\n", "3.7.3", ""),
        ("experimental-initial-corrupt-check: true\n", "3.6.16", ""),
        ("Experimental-Initial-Corrupt-Check: true\n", "3.5.33", ""),
        ("feature-gates: InitialCorruptCheck=true\n", "3.7.3", ""),
        ("socket-options: {reuse-port: true}\n", "3.5.10", ""),
        ("discovery-fallback: exit\n", "3.5.33", ""),
        ("experimental-initial-corrupt-check: true\n", None, ""),
    ],
)
def test_keys(text: str, version: str | None, advice: str, tmp_path: Path) -> None:
    """Without advice, they are in force."""
    traps = find_traps(written(tmp_path, f"name: a\nenable-grpc-gateway: true\n{text}"), version)
    assert [trap.id for trap in traps] == ["unknown-key"] * bool(advice)
    assert all(advice in trap.remedy and trap.settings[0].place.line == 3 for trap in traps)


def test_a_field_name_of_go_is_a_key(tmp_path: Path) -> None:
    text = "listen-client-urls: https://10.0.0.11:2379\nclient-transport-security:\n  cert-file: /c\n"
    text += "  key-file: /k\n"
    text += "  client-cert-auth: true\n  trusted-ca-file: /ca\nClientTLSInfo:\n  CRLFile: /pki/crl\n"
    text += "listen-peer-urls: unix://a:1\n"
    declaration = written(tmp_path, text)
    assert _ids(declaration, "3.6.16", DER) == ["undocumented-key"]
    assert effective(declaration, "3.6.16", DER).at(Role.CLIENT)[0].crl is CRLEffect.ENFORCED


@pytest.mark.parametrize(
    ("variable", "version", "found"),
    [
        ("ETCD_CLIENT_CERT_ATH", "3.6.16", "perhaps ETCD_CLIENT_CERT_AUTH is meant"),
        ("ETCD_TLS_MIN_VERSION", "3.5.1", "remove it"),
        ("ETCD_CRL_FILE", "3.6.16", "perhaps ETCD_CLIENT_CRL_FILE or ETCD_PEER_CRL_FILE is meant"),
        ("ETCD_CLIENT_CA_FILE", "3.6.16", "perhaps ETCD_TRUSTED_CA_FILE is meant"),
        ("ETCD_PROXY", "3.6.16", None),
        ("ETCD_UNSUPPORTED_ARCH", "3.6.16", None),
        ("ETCD_VERSION_TAG", "3.6.16", None),
    ],
)
def test_unknown_variables(variable: str, version: str, found: str | None) -> None:
    traps = find_traps(flags(*GOOD, environment={variable: "TLS1.2"}), version)
    assert [(trap.id, trap.remedy) for trap in traps] == ([("unknown-variable", found)] if found else [])


@pytest.mark.parametrize(
    ("flag", "version", "summary", "remedy"),
    [
        ("--client-cert-allowed-cn=a", "3.6.16", "", "remove it: etcd has no flag for the common name"),
        ("--crl-file=/crl", "3.6.16", "", "perhaps --client-crl-file or --peer-crl-file is meant"),
        ("--min-tls-version=TLS1.2", "3.6.16", "", "perhaps --tls-min-version is meant"),
        ("--client-ca-file=/ca", "3.6.16", "", "perhaps --trusted-ca-file is meant"),
        ("--client-cert-allowed-hostnam=a", "3.6.16", "", "perhaps --client-cert-allowed-hostname is meant"),
        ("--zzzz=1", "3.6.16", "", "remove --zzzz"),
        ("--tls-min-version=TLS1.2", "3.5.7", "it is a flag of 3.4.25, 3.5.8 and newer", ""),
        ("--experimental-initial-corrupt-check", "3.7.0", "it is a flag of 3.3 to 3.6", ""),
        ("--client-cert-ath", None, "no version has it", ""),
        ("--experimental-corrupt-check-time=1m", "3.7.3", "", "give --corrupt-check-time"),
    ],
)
def test_unknown_flags(flag: str, version: str | None, summary: str, remedy: str) -> None:
    trap = _only(flags(*GOOD, flag), version)
    assert (trap.id, trap.starts) == ("flag-unknown-to-version", False)
    assert summary in trap.summary
    assert trap.remedy.startswith(remedy)


@pytest.mark.parametrize(
    ("flags_", "traps"),
    [
        ((*without("trusted-ca-file"), "--trusted-ca-fil=/ca"), []),
        ((*without("cert-file"), "--cert-fil=/c"), []),
        ((*without("client-cert-auth", "trusted-ca-file"), "--client-cert-ath"), ["client-auth-without-ca"]),
        ((*without("trusted-ca-file"), "--zzzz=/ca"), ["client-auth-without-ca"]),
    ],
)
def test_what_is_declared_beside_a_misspelt_flag(flags_: tuple[str, ...], traps: list[str]) -> None:
    """It is judged as if the flag were spelled right."""
    assert _ids(flags(*flags_), "3.6.16") == [*traps, "flag-unknown-to-version"]


@pytest.mark.parametrize(
    ("keys", "remedy"),
    [
        ("cert-file: /c, key-file: /k, client-cert-auht: true", "; then give --trusted-ca-file with the CA"),
        ("cert-fil: /c, trusted-ca-file: /ca, client-cert-auth: true", "; then give --key-file"),
        ("cert-file: /c, key-file: /k, client-cert-auht: true, trusted-ca-fil: /ca", " is meant"),
    ],
)
def test_the_remedy_of_a_misspelt_key_names_all_that_it_takes(keys: str, remedy: str, tmp_path: Path) -> None:
    text = "listen-client-urls: https://10.0.0.11:2379\nadvertise-client-urls: https://10.0.0.11:2379\n"
    traps = find_traps(written(tmp_path, f"{text}client-transport-security: {{{keys}}}"), "3.6.16")
    found = [trap.remedy for trap in traps if trap.id == "unknown-key"]
    assert all(remedy in one and ("then" in remedy) is ("then" in one) for one in found), found


@pytest.mark.parametrize(
    ("version", "starts"), [("3.3.27", True), ("3.4.23", False), ("3.7.3", False), (None, False)]
)
def test_a_flag_and_its_variable(version: str | None, starts: bool) -> None:
    trap = _only(flags(*GOOD, environment={"ETCD_CERT_FILE": "/pki/server.crt"}), version)
    assert (trap.id, trap.starts) == ("variable-beside-flag", starts)


@pytest.mark.parametrize(
    ("again", "in_force"),
    [
        (("--client-cert-auth=false", "--client-cert-auth=true"), "--client-cert-auth=true"),
        (("--max-txn-ops=128", "--max-txn-ops=256", "--max-txn-ops=128"), "--max-txn-ops=128"),
        (("--client-cert-auth", "--client-cert-auth=1"), None),
        (("--feature-gates=InitialCorruptCheck=true", "--feature-gates=CompactHashCheck=true"), None),
        (
            ("--listen-metrics-urls=http://a:1,http://a:2", "--listen-metrics-urls=http://a:1"),
            "--listen-metrics-urls=http://a:1,http://a:2",
        ),
        (
            ("--listen-metrics-urls=http://10.0.0.1:1", "--listen-metrics-urls=http://10.0.0.1:3"),
            "--listen-metrics-urls=http://10.0.0.1:3",
        ),
    ],
)
def test_a_flag_that_is_given_twice(again: tuple[str, ...], in_force: str | None) -> None:
    declaration = flags(*GOOD, *again)
    traps = [trap for trap in find_traps(declaration, "3.6.16") if trap.id == "flag-given-twice"]
    assert [trap.settings[-1].written for trap in traps] == ([in_force] if in_force else [])
    assert all(f"etcd takes {in_force} (" in trap.summary for trap in traps)


@pytest.mark.parametrize("old", ["--config-file=/etc/etcd/old.yml", "ETCD_CONFIG_FILE=/etc/etcd/old.yml"])
def test_a_configuration_file_that_is_named_twice(old: str, tmp_path: Path) -> None:
    """etcd takes the last flag, and the variable only where there is none; it says neither."""
    written(tmp_path, "name: a\n", "etcd.conf.yml")
    name, _, path = old.partition("=")
    argument, environment = ([], {name: path}) if name.startswith("ETCD_") else ([old], {})
    declaration = flags(*argument, f"--config-file={tmp_path / 'etcd.conf.yml'}", environment=environment)
    [trap] = [trap for trap in find_traps(declaration, "3.6.16") if trap.id == "flag-given-twice"]
    assert trap.summary.startswith(f"--config-file is given 2 times, and etcd takes --config-file={tmp_path}")
    assert f"remove {old} (" in trap.remedy


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("peer-transport-security:\n  cert-file: a\n  cert-file: b\n", "cert-file"),
        ("max-txn-ops: 128\nname: a\nMax-Txn-Ops: 256\n", "Max-Txn-Ops"),
    ],
)
def test_a_key_that_is_given_twice_is_refused(text: str, key: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=rf":3: the key {key} is given again \(line [12]\)"):
        written(tmp_path, text)


@pytest.mark.parametrize(
    ("version", "certain"),
    [("3.4.23", True), ("3.7.3", True), ("3.8.0-alpha.0", True), ("3.8.0", False), (None, True)],
)
def test_a_newer_etcd_may_have_names_that_are_not_known(
    version: str | None, certain: bool, tmp_path: Path
) -> None:
    flag = _only(flags(*GOOD, "--client-cert-ath"), version)
    variable = _only(flags(*GOOD, environment={"ETCD_CLIENT_CERT_ATH": "true"}), version)
    key = _only(written(tmp_path, "name: a\nenable-grpc-gateway: true\ncert-fil: a\n"), version)
    assert [flag.certain, variable.certain, key.certain] == [certain] * 3


def test_an_unknown_version_may_have_the_name_of_a_known_release(tmp_path: Path) -> None:
    text = "name: a\nenable-grpc-gateway: true\nclient-transport-security: {ca-file: /ca}\n"
    assert not _only(written(tmp_path, text), None).certain


def test_the_gateway_of_3_4_with_a_configuration_file(tmp_path: Path) -> None:
    declaration = written(tmp_path, "name: a\n")
    assert _ids(declaration, "3.4.23") == ["gateway-off-in-config-file"]
    assert _ids(declaration, "3.5.1") == []
    assert not effective(declaration, "3.4.23").gateway
    assert effective(flags("--name=a"), "3.4.23").gateway
    assert effective(written(tmp_path, "enable-grpc-gateway: true\n"), "3.4.23").gateway


def test_system_roots_may_be_others() -> None:
    trap = _only(flags(*without("trusted-ca-file"), environment={"SSL_CERT_FILE": "/etc/own-roots.pem"}))
    assert "/etc/own-roots.pem" in trap.summary


def test_a_listener_is_described() -> None:
    done = effective(flags(*GOOD, CRL, "--client-cert-allowed-hostname=a.example"), "3.5.1", DER)
    assert done.at(Role.CLIENT)[0].describe() == (
        "clients with a certificate of the trusted CA /pki/ca.crt, valid for a.example; "
        "revoked certificates are refused; TLSv1.2 to TLSv1.2"
    )
    assert done.at(Role.PEER)[0].san_rule
    assert effective(flags(), "3.6.16").at(Role.CLIENT)[0].describe() == "plaintext: every client"


def test_client_cert_file_is_what_etcd_dials_with() -> None:
    declaration = flags(*URLS, *PAIR, CA, AUTH, "--client-cert-file=/c", "--client-key-file=/k")
    assert effective(declaration, "3.5.1").sides["client"].dials_with == "/c"
    assert effective(flags(*GOOD), "3.5.1").sides["client"].dials_with == "/pki/server.crt"


@pytest.mark.parametrize(
    ("flag", "version", "served"),
    [
        ("--enable-pprof", "3.4.23", True),
        ("--log-level=debug", "3.4.23", False),
        ("--log-level=debug", "3.5.1", True),
        ("--log-level=debug", None, True),
    ],
)
def test_profiles(flag: str, version: str | None, served: bool) -> None:
    assert effective(flags(flag), version).pprof is served


@pytest.mark.parametrize(("version", "names"), [("3.5.1", ()), ("3.5.33", ("",)), ("3.7.3", ("",))])
def test_an_empty_list_of_allowed_names_is_one_name(version: str, names: tuple[str, ...]) -> None:
    done = effective(flags(*GOOD, "--peer-cert-allowed-hostname="), version)
    assert done.sides["peer"].allowed_hostname == names
    assert ("valid for no name at all" in done.at(Role.PEER)[0].describe()) is bool(names)


@pytest.mark.parametrize("value", ["--snapshot-count=many", "--log-level=loud", "--feature-gates=None=true"])
def test_a_value_unrelated_to_tls_is_not_judged(value: str) -> None:
    assert find_traps(flags(*GOOD, value), "3.7.3") == ()
