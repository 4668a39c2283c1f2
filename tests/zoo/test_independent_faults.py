"""Two independent faults are reported as two, on one listener and on two."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from starting import start_process
from zoo.client_access import BROKEN
from zoo.model import explain

from pytest_etcdtls.checks.registry import Fault, faults, select
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.pki.profile import PEER, SERVER, Profile
from pytest_etcdtls.role import Role
from pytest_etcdtls.run.judge import run_checks
from pytest_etcdtls.run.observer import Observer

_EXPIRED = {"valid_from": timedelta(days=-30), "valid_for": timedelta(days=20)}


@dataclass(frozen=True, slots=True, kw_only=True)
class SingleFault:
    """One misconfiguration that can be combined with others.

    Attributes:
        check: the check that reports it.
        listener: role of the listener, or ``cluster``.
        config: changed fields of the configuration.
        server: changed fields of the certificate of the client port.
        peer: changed fields of the certificate of the peer port.
    """

    check: str
    listener: str
    config: Mapping[str, Any] = field(default_factory=dict)
    server: Mapping[str, Any] = field(default_factory=dict)
    peer: Mapping[str, Any] = field(default_factory=dict)


SINGLE_FAULTS = (
    SingleFault(
        check="mtls.no-certificate",
        listener="client",
        config={"client_cert_auth": False, "trusted_ca_file": None},
    ),
    SingleFault(
        check="mtls.no-certificate",
        listener="peer",
        config={"peer_client_cert_auth": False, "peer_trusted_ca_file": None},
    ),
    SingleFault(check="cert.valid-now", listener="client", server=_EXPIRED),
    SingleFault(check="cert.valid-now", listener="peer", peer=_EXPIRED),
    SingleFault(
        check="cert.covers-endpoint", listener="client", server={"subject_alt_names": ("etcd.example",)}
    ),
    SingleFault(check="cert.has-subject-alternative-name", listener="peer", peer={"subject_alt_names": ()}),
    SingleFault(check="cert.server-usage", listener="client", server={"extended_key_usage": ("clientAuth",)}),
    SingleFault(check="cert.server-usage", listener="peer", peer={"extended_key_usage": ("clientAuth",)}),
    SingleFault(
        check="cluster.advertised-https",
        listener="cluster",
        config={"extra_flags": ("--advertise-client-urls=http://127.0.0.1:1",)},
    ),
    SingleFault(
        check="tls.broken-suites",
        listener="client",
        config={
            "cipher_suites": ("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_ECDSA_WITH_RC4_128_SHA")
        },
    ),
)
PAIRS = tuple(combinations(SINGLE_FAULTS, 2))


def _profile(profile: Profile, *changes: Mapping[str, Any]) -> Profile:
    for change in changes:
        profile = replace(profile, **change)
    return profile


def _config(*chosen: SingleFault) -> ClusterConfig:
    config = BROKEN
    for one in chosen:
        config = replace(config, **one.config)
    plan = replace(
        config.pki,
        server=_profile(SERVER, *(one.server for one in chosen)),
        peer=_profile(PEER, *(one.peer for one in chosen)),
    )
    return replace(config, pki=plan)


def _found(config: ClusterConfig, binary: Path) -> tuple[list[tuple[str, str]], str]:
    """Return check and role of each fault, the role of its first listener."""
    with start_process(config, binary) as cluster:
        results = run_checks(Observer(cluster.target()), select(["!lifecycle", "!advisory"]))
    made = [(fault.first.check, fault.first.role) for fault in faults(results)]
    return sorted(made), explain(results)


def _id(value: object) -> str | None:
    return f"{value.listener}-{value.check}" if isinstance(value, SingleFault) else None


def _judged(config: ClusterConfig, binary: Path, *hosts: str) -> list[Fault]:
    """Return the faults of a live cluster without a declaration, of which these hosts are endpoints too."""
    with start_process(config, binary) as cluster:
        target = cluster.target()
        [client] = [one for one in target.listeners if one.role is Role.CLIENT]
        more = tuple(replace(client, label=f"client-{host}", host=host) for host in hosts)
        listeners = (*target.listeners, *more)
        live = replace(target, origin="live", declared={}, listeners=listeners)
        return list(faults(run_checks(Observer(live), select(["mtls", "cert", "cluster"]))))


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
    config = replace(_config(), extra_flags=("--advertise-client-urls=https://etcd-0.example:2379",))
    server = _profile(SERVER, {"subject_alt_names": ("other.example",)})
    config = replace(config, pki=replace(config.pki, server=server))
    [fault] = _judged(config, newest_etcd, "localhost")
    assert fault.first.check == "cert.covers-endpoint"
    assert {
        result.remediation or finding.remediation for result in fault.results for finding in result.findings
    } == {
        "issue the certificate of --cert-file with 127.0.0.1, etcd-0.example, localhost in its subjectAltName"
    }


@pytest.mark.parametrize("fault", SINGLE_FAULTS, ids=_id)
def test_one_cause_is_reported_as_one_fault(fault: SingleFault, newest_etcd: Path) -> None:
    found, explained = _found(_config(fault), newest_etcd)
    assert found == [(fault.check, fault.listener)], explained


@pytest.mark.parametrize(
    ("first", "second"),
    PAIRS,
    ids=_id,
)
def test_two_causes_are_reported_as_two_faults(
    first: SingleFault, second: SingleFault, newest_etcd: Path
) -> None:
    found, explained = _found(_config(first, second), newest_etcd)
    assert found == sorted((one.check, one.listener) for one in (first, second)), explained
