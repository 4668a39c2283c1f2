"""Each profile on a real etcd that violates it, and on one that satisfies it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType

import pytest
from starting import start_process
from zoo.model import explain

from pytest_etcdtls.checks.registry import select
from pytest_etcdtls.checks.results import CheckResult, Outcome
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.etcd.presets import PRESETS
from pytest_etcdtls.pki.profile import PEER, SERVER, CALayout, KeyType, PKIPlan
from pytest_etcdtls.profiles.profiles import Profiles, outcome_of, read_profiles
from pytest_etcdtls.run.judge import run_checks
from pytest_etcdtls.run.observer import Observer
from pytest_etcdtls.target import Target, TrustBundle

DEFAULT = ClusterConfig()
FIPS = replace(DEFAULT, environment=MappingProxyType({"GODEBUG": "fips140=on"}))
"""Go leaves out ChaCha20-Poly1305, CBC mode and X25519."""
SUITES = replace(
    DEFAULT,
    cipher_suites=(
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    ),
)
TRIPLE_DES = replace(
    DEFAULT,
    pki=PKIPlan(key_type=KeyType.RSA_2048),
    cipher_suites=("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_RSA_WITH_3DES_EDE_CBC_SHA"),
)


def plan(days: int, **more: object) -> PKIPlan:
    valid = timedelta(days=days)
    return replace(
        PKIPlan(server=replace(SERVER, valid_for=valid), peer=replace(PEER, valid_for=valid)),
        **more,  # type: ignore[arg-type]
    )


TLS13 = replace(DEFAULT, tls_min_version="TLS1.3", pki=plan(90))
NOBODY_IS_ASKED = {"expects_health": False}
BAD = {
    "plain": replace(DEFAULT, client_scheme="http", **NOBODY_IS_ASKED),  # type: ignore[arg-type]
    "no client auth": replace(DEFAULT, client_cert_auth=False, trusted_ca_file=None),
    "auto-tls": replace(DEFAULT, auto_tls=True, cert_file=None, key_file=None, expects_health=False),
    "plain peers": replace(DEFAULT, peer_scheme="http"),
    "no peer auth": replace(DEFAULT, peer_client_cert_auth=False, peer_trusted_ca_file=None),
    "peer-auto-tls": replace(DEFAULT, peer_auto_tls=True, peer_cert_file=None, peer_key_file=None),
}

VIOLATED: Sequence[tuple[str, str, ClusterConfig, set[str]]] = [
    ("nist-800-52r2", "default", DEFAULT, {"3.3.1", "3.4.2"}),
    ("nist-800-52r2", "tls12", replace(FIPS, tls_max_version="TLS1.2"), {"3.1"}),
    ("nist-800-52r2", "ed25519", replace(SUITES, pki=PKIPlan(key_type=KeyType.ED25519)), {"3.2.1", "3.3.1"}),
    (
        "nist-800-52r2",
        "no client auth",
        replace(BAD["no client auth"], environment=FIPS.environment),
        {"3.5.1", "3.5.2", "3.5.4"},
    ),
    ("bsi-tr-02102-2", "default", DEFAULT, {"3.3.1.1", "3.3.2, 3.4.2", "3.4.4"}),
    ("bsi-tr-02102-2", "rsa-2048", replace(FIPS, pki=PKIPlan(key_type=KeyType.RSA_2048)), {"3.6.1, 3.6.2"}),
    ("mozilla-intermediate", "default", DEFAULT, {"ciphers"}),
    ("mozilla-intermediate", "two years", replace(SUITES, pki=plan(700)), {"maximum_certificate_lifespan"}),
    ("mozilla-modern", "default", DEFAULT, {"tls_versions"}),
    ("mozilla-modern", "rsa", replace(TLS13, pki=plan(90, key_type=KeyType.RSA_2048)), {"certificate_types"}),
    ("mozilla-modern", "91 days too long", replace(TLS13, pki=plan(100)), {"maximum_certificate_lifespan"}),
    ("cis-kubernetes", "2.1", BAD["plain"], {"2.1"}),
    ("cis-kubernetes", "2.2", BAD["no client auth"], {"2.2"}),
    ("cis-kubernetes", "2.3", BAD["auto-tls"], {"2.2", "2.3"}),
    ("cis-kubernetes", "2.4", BAD["plain peers"], {"2.4"}),
    ("cis-kubernetes", "2.5", BAD["no peer auth"], {"2.5"}),
    ("cis-kubernetes", "2.6", BAD["peer-auto-tls"], {"2.5", "2.6"}),
    ("pci-dss", "plain", BAD["plain"], {"2.2.7"}),
    ("pci-dss", "no client auth", BAD["no client auth"], {"4.2.1 bullet 1", "4.2.1 bullet 2"}),
    ("pci-dss", "triple DES", TRIPLE_DES, {"4.2.1 bullet 3"}),
]
SATISFIED: Sequence[tuple[str, ClusterConfig, set[str]]] = [
    ("nist-800-52r2", FIPS, set()),
    ("bsi-tr-02102-2", FIPS, set()),
    ("mozilla-intermediate", SUITES, {"tls_curves"}),
    ("mozilla-modern", TLS13, {"tls_curves"}),
    ("cis-kubernetes", DEFAULT, set()),
    ("pci-dss", DEFAULT, set()),
    ("kubeadm", PRESETS["kubeadm"].config, set()),
]
"""With the sections that warn: etcd cannot leave out P-521, which Mozilla does not list."""


def judged(target: Target, profiles: Profiles) -> list[CheckResult]:
    target = replace(target, thresholds=profiles.thresholds)
    wanted = {
        check for profile in profiles.profiles for section in profile.sections for check in section.checks
    }
    return run_checks(Observer(target), select(sorted(wanted)), profiles=profiles)


def sections(profiles: Profiles, results: Sequence[CheckResult], *outcomes: Outcome) -> set[str]:
    (profile,) = profiles.profiles
    return {section.section for section in profile.sections if outcome_of(section, results) in outcomes}


@pytest.mark.kills("tls.allowed-suites", "tls.allowed-tls13-suites")
@pytest.mark.etcd_version("3.7")
@pytest.mark.parametrize(
    ("name", "config", "failed", "warned"),
    [
        *(pytest.param(name, *row, None, id=f"{name}-{what}") for name, what, *row in VIOLATED),
        *(pytest.param(name, config, set(), warned, id=name) for name, config, warned in SATISFIED),
    ],
)
def test_only_the_violated_section_fails(
    name: str, config: ClusterConfig, failed: set[str], warned: set[str] | None, etcd_binary: Path
) -> None:
    profiles = read_profiles([name], Path)
    with start_process(config, etcd_binary) as cluster:
        results = judged(cluster.target(), profiles)
    assert sections(profiles, results, Outcome.VIOLATES) == failed, explain(results)
    assert not sections(profiles, results, Outcome.INCONCLUSIVE, Outcome.BROKEN), explain(results)
    if warned is not None:
        assert sections(profiles, results, Outcome.WARNS) == warned, explain(results)
        assert not sections(profiles, results, Outcome.NOT_VERIFIED), explain(results)
        advice = [
            result.remediation for result in results if result.check == "tls.groups" and result.findings
        ]
        assert all(text.startswith("etcd has no setting that takes these groups away") for text in advice)


def test_section_27_of_cis_is_judged_with_the_ca_of_kubernetes(newest_etcd: Path) -> None:
    profiles = read_profiles(["cis-kubernetes"], Path)
    with start_process(DEFAULT, newest_etcd) as cluster:
        target = cluster.target()
        assert target.client.server_ca is not None
        shared = TrustBundle(target.client.server_ca.certificates, "the CA of Kubernetes")
        results = judged(replace(target, kubernetes_ca=shared), profiles)
    assert sections(profiles, results, Outcome.VIOLATES) == {"2.7"}, explain(results)
    found = next(result for result in results if result.outcome is Outcome.VIOLATES)
    assert found.level == "MUST"
    assert "profile cis-kubernetes, 2.7" in found.references


def test_with_kubeadms_profile_one_ca_for_both_ports_is_a_note(newest_etcd: Path) -> None:
    checks = {"mtls.client-certificate-on-peer-port", "mtls.peer-certificate-on-client-port"}
    with start_process(replace(DEFAULT, pki=PKIPlan(layout=CALayout.KUBEADM)), newest_etcd) as cluster:
        before = run_checks(Observer(cluster.target()), select(sorted(checks)))
        after = judged(cluster.target(), read_profiles(["kubeadm"], Path))
        stricter = judged(cluster.target(), read_profiles(["kubeadm", "cis-kubernetes"], Path))
    assert {one.check for one in before if one.outcome is Outcome.WARNS} == checks, explain(before)
    assert not [one for one in after if one.findings], explain(after)
    notes = {one.check: one.reason for one in after if one.check in checks}
    assert all("a note by profile kubeadm, etcd-ca" in reason for reason in notes.values()), notes
    assert not [one for one in stricter if one.findings], explain(stricter)


def test_thresholds_of_clients_and_their_cas(newest_etcd: Path, tmp_path: Path) -> None:
    path = tmp_path / "house.toml"
    path.write_text(
        'title = "a house"\n[[section]]\nsection = "1"\ntitle = "t"\nlevel = "MUST"\n'
        'checks = ["mtls.client-*-strength", "cert.issuer-key-strength", "cert.signature-hash", '
        '"mtls.client-certificate-signature"]\n'
        '[section.thresholds]\nkeys = ["secp384r1"]\nsignature_hashes = ["sha384"]\n',
        encoding="utf-8",
    )
    profiles = read_profiles([str(path)], Path)
    with start_process(PRESETS["ca-per-role"].config, newest_etcd) as cluster:
        results = judged(cluster.target(), profiles)
    assert {result.outcome for result in results} == {Outcome.VIOLATES}, explain(results)
    assert all("house 1" in finding.expected for result in results for finding in result.findings)
