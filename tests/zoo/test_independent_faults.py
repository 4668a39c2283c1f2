"""Two independent faults are reported as two, on one listener and on two."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from judged import judged
from starting import start_process
from zoo.client_access import BROKEN, issued
from zoo.model import explain

from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.report.model import Fault, faults
from pytest_etcdtls.role import Role

SINGLE: dict[tuple[str, str], dict[str, Any]] = {
    ("mtls.no-certificate", "client"): {"client_cert_auth": False, "trusted_ca_file": None},
    ("mtls.no-certificate", "peer"): {"peer_client_cert_auth": False, "peer_trusted_ca_file": None},
    ("cert.covers-endpoint", "client"): {"server": {"subject_alt_names": ("etcd.example",)}},
    ("cert.has-subject-alternative-name", "peer"): {"peer": {"subject_alt_names": ()}},
    ("cert.server-usage", "client"): {"server": {"extended_key_usage": ("clientAuth",)}},
    ("cert.server-usage", "peer"): {"peer": {"extended_key_usage": ("clientAuth",)}},
    ("cluster.advertised-https", "cluster"): {"extra_flags": ("--advertise-client-urls=http://127.0.0.1:1",)},
    ("tls.broken-suites", "client"): {
        "cipher_suites": ("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_ECDSA_WITH_RC4_128_SHA")
    },
}
"""Checks with the role of the listener, and the misconfiguration that each reports alone, as in the zoo."""


def _config(*chosen: tuple[str, str]) -> ClusterConfig:
    """Return the cluster with these misconfigurations: settings, and fields of the certificates of a side."""
    profiles: dict[str, dict[str, Any]] = {"server": {}, "peer": {}}
    settings: dict[str, Any] = {}
    for one in chosen:
        for name, change in SINGLE[one].items():
            if name in profiles:
                profiles[name] |= change
            else:
                settings[name] = change
    return replace(issued(**profiles), **settings)


def _judged(config: ClusterConfig, binary: Path, *hosts: str) -> list[Fault]:
    """Return the faults of a live cluster without a declaration, of which these hosts are endpoints too."""
    with start_process(config, binary) as cluster:
        target = cluster.target()
        [client] = [one for one in target.listeners if one.role is Role.CLIENT]
        more = tuple(replace(client, label=f"client-{host}", host=host) for host in hosts)
        listeners = (*target.listeners, *more)
        live = replace(target, origin="live", declared={}, listeners=listeners)
        return list(faults(judged(live, "mtls", "cert", "cluster")))


@pytest.mark.parametrize(
    ("config", "check"),
    [
        (replace(BROKEN, trusted_ca_file=None), "mtls.announced-ca-present"),
        (replace(BROKEN, client_scheme="http"), "mtls.plaintext-refused"),
    ],
    ids=["system roots", "http listened and advertised"],
)
def test_two_checks_of_one_fault_without_a_declaration(
    config: ClusterConfig, check: str, etcd_binary: Path
) -> None:
    assert [fault.first.check for fault in _judged(config, etcd_binary)] == [check]


def test_the_remedy_of_a_wrong_name_has_every_name(newest_etcd: Path) -> None:
    config = replace(
        issued(server={"subject_alt_names": ("other.example",)}),
        extra_flags=("--advertise-client-urls=https://etcd-0.example:2379",),
    )
    [fault] = _judged(config, newest_etcd, "localhost")
    assert fault.first.check == "cert.covers-endpoint"
    assert {
        result.remediation or finding.remediation for result in fault.results for finding in result.findings
    } == {
        "issue the certificate of --cert-file with 127.0.0.1, etcd-0.example, localhost in its subjectAltName"
    }


@pytest.mark.parametrize("chosen", [*combinations(SINGLE, 2)], ids=str)
def test_two_causes_are_reported_as_two_faults(
    chosen: tuple[tuple[str, str], ...], newest_etcd: Path
) -> None:
    with start_process(_config(*chosen), newest_etcd) as cluster:
        results = judged(cluster.target(), "!lifecycle", "!advisory")
    made = [(fault.first.check, fault.first.role) for fault in faults(results)]
    assert sorted(made) == sorted(chosen), explain(results)
