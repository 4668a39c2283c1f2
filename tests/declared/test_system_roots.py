"""Without a file of trusted CAs etcd trusts those of Go's system pool: which these are, on real etcds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from judged import judged
from process.containers import process_of, target
from starting import start_process

from pytest_etcdtls.checks.results import CheckResult, Outcome
from pytest_etcdtls.declared.declaration import roots_in_words
from pytest_etcdtls.declared.reading import from_command_line
from pytest_etcdtls.declared.system_roots import read_system_roots
from pytest_etcdtls.etcd.cluster import Cluster
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.pki.certificate import load_certificates
from pytest_etcdtls.pki.profile import CALayout, PKIPlan
from pytest_etcdtls.report.model import faults

_TRAP = "config.client-auth-without-ca"
_WITHOUT = ClusterConfig(pki=PKIPlan(layout=CALayout.PER_ROLE), trusted_ca_file=None, expects_health=False)
_PEERS = replace(ClusterConfig(size=3, peer_trusted_ca_file=None, pki=PKIPlan(layout=CALayout.PER_ROLE)))
_NOWHERE = {"SSL_CERT_DIR": "/nowhere"}


def _judged(cluster: Cluster) -> dict[str, CheckResult]:
    member = cluster.members[0]
    files = {"etcd_cacert": "server-ca.crt", "etcd_cert": "client.crt", "etcd_key": "client.key"}
    given = {option: member.file(name) for option, name in files.items()}
    live = target(process_of(member.server), **given)
    wanted = ("listener", _TRAP, "mtls.trusted-client", "mtls.announced-ca-present", "mtls.foreign-ca")
    found = judged(live, *wanted)
    assert [fault.first.check for fault in faults(found, Outcome.VIOLATES)] == [_TRAP]
    return {f"{one.check} {one.role}": one for one in found}


@pytest.mark.kills(_TRAP)
@pytest.mark.parametrize(
    ("variables", "accepted", "named"),
    [
        (
            {"SSL_CERT_FILE": "{pki}/client-ca.crt"},
            True,
            "client-ca.crt (SSL_CERT_FILE), /etc/ssl/certs and ",
        ),
        (
            {"SSL_CERT_FILE": "{pki}/client-ca.crt", **_NOWHERE},
            True,
            "client-ca.crt (SSL_CERT_FILE) and /nowhere",
        ),
        ({"SSL_CERT_DIR": "/nowhere:{pki}"}, True, "the system's file of root CAs and /nowhere:"),
        ({"SSL_CERT_FILE": "{pki}/server-ca.crt", **_NOWHERE}, False, "server-ca.crt (SSL_CERT_FILE) and "),
        ({}, False, "the system's root store, and no other client"),
    ],
    ids=["file", "both", "directory", "of-another-ca", "none"],
)
def test_clients_of_the_roots_are_accepted(
    variables: dict[str, str], accepted: bool, named: str, etcd_binary: Path
) -> None:
    """What is said of who is accepted is what the port does, and has one source."""
    with start_process(replace(_WITHOUT, environment=variables), etcd_binary) as cluster:
        found = _judged(cluster)
    message = found[f"{_TRAP} cluster"].findings[0].message
    assert named in message
    assert "refuses the cluster's own clients" not in message
    client = found["mtls.trusted-client client"]
    assert client.outcome is (Outcome.CONFORMS if accepted else Outcome.VIOLATES)
    if not accepted:  # Go before 1.20 has one alert for all
        assert (
            "trusted: every CA in " in client.message
            or "which nothing in the certificate explains" in client.message
        )
        assert client.cause is not None
    [finding] = found["mtls.announced-ca-present client"].findings
    assert "every CA in " in finding.message
    assert "is trusted" in finding.message


def test_peers_of_the_roots_are_accepted(newest_etcd: Path) -> None:
    variables = {"SSL_CERT_FILE": "{pki}/peer-ca.crt", **_NOWHERE}
    with start_process(replace(_PEERS, environment=variables), newest_etcd) as cluster:
        found = _judged(cluster)
    message = found[f"{_TRAP} cluster"].findings[0].message
    assert "--peer-client-cert-auth without --peer-trusted-ca-file accepts every client with " in message
    assert found["mtls.trusted-client peer"].outcome is Outcome.CONFORMS


def test_generated_certificates_trust_nobody_and_request_nothing(newest_etcd: Path) -> None:
    """--auto-tls replaces all settings of its side, with which no root store is asked."""
    config = replace(
        _WITHOUT,
        cert_file=None,
        key_file=None,
        auto_tls=True,
        environment={"SSL_CERT_FILE": "{pki}/client-ca.crt"},
    )
    with start_process(config, newest_etcd) as cluster:
        found = judged(target(process_of(cluster.members[0].server)), "config")
    assert {one.check for one in found if one.outcome is Outcome.VIOLATES} >= {
        "config.auto-tls-drops-client-auth"
    }
    assert not [one for one in found if one.check == _TRAP and one.findings]


def test_what_is_read_of_a_process(newest_etcd: Path) -> None:
    """Every certificate of the file and of the directories, each once; keys and missing files are skipped."""
    config = replace(
        _WITHOUT,
        environment={"SSL_CERT_FILE": "{pki}/client-ca.crt", "SSL_CERT_DIR": "{pki}:{pki}/m0:/nowhere"},
    )
    with start_process(config, newest_etcd) as cluster:
        member = cluster.members[0]
        [declared] = target(process_of(member.server)).declared.values()
        roots = read_system_roots(declared)
        [ca] = load_certificates(member.file("client-ca.crt"))
    assert roots is not None
    assert ca in roots.certificates
    assert len(roots.certificates) == len(set(roots.certificates)) > 3


def test_the_roots_of_a_declaration_are_not_here() -> None:
    """Its variables are named, and its container's files are not read as those of this machine."""
    declaration = from_command_line(
        ["etcd", "--client-cert-auth"], {"SSL_CERT_FILE": "/pki/ca.crt"}, source="unit", find=Path
    )
    assert roots_in_words(declaration) == "/pki/ca.crt (SSL_CERT_FILE), /etc/ssl/certs and /etc/pki/tls/certs"
