"""The effective configuration is that of every available etcd, by its behaviour and by its log."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from etcd_log.startup import last_startup
from starting import start_where_possible

from declared.etcd_itself import difference, endings, logged, request
from pytest_etcdtls.declared.declaration import CRLFile, Declaration, DeclaredPaths
from pytest_etcdtls.declared.effective import (
    Effective,
    EffectiveListener,
    effective,
)
from pytest_etcdtls.declared.files import read_crl
from pytest_etcdtls.declared.reading import from_command_line
from pytest_etcdtls.etcd.cluster import Cluster
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.etcd_log.parse import read_entries
from pytest_etcdtls.pki import identities
from pytest_etcdtls.pki.profile import NO_CERTIFICATE, Identity
from pytest_etcdtls.role import Role, TLSVersion
from pytest_etcdtls.target import Listener
from pytest_etcdtls.tls.attempt import Ending, Request
from pytest_etcdtls.tls.connection import make_attempt

GOOD = ClusterConfig(metrics="https", expects_health=False)
OPEN = replace(GOOD, client_cert_auth=False, trusted_ca_file=None)

CONFIGURATIONS: Mapping[str, ClusterConfig] = {
    "mutual TLS": GOOD,
    "a trusted CA alone": replace(GOOD, client_cert_auth=False, peer_client_cert_auth=False),
    "no client authentication": OPEN,
    "system roots": replace(GOOD, trusted_ca_file=None),
    "generated": replace(GOOD, auto_tls=True, cert_file=None, key_file=None),
    "generated, not in use": replace(GOOD, auto_tls=True, peer_auto_tls=True),
    "generated for peers": replace(GOOD, peer_auto_tls=True, peer_cert_file=None, peer_key_file=None),
    "plaintext beside": replace(GOOD, plain_client_listener=True, metrics="http"),
    "plaintext on the same port": replace(GOOD, plaintext_on_client_port=True),
    "plaintext on the same port, HTTP split off": replace(
        GOOD, plaintext_on_client_port=True, client_http=True
    ),
    "plaintext": replace(OPEN, client_scheme="http", peer_scheme="http", metrics="http"),
    "configuration file": replace(GOOD, config_file=True),
    "configuration file that lacks it": replace(
        GOOD, config_file=True, config_file_omits=("client_cert_auth", "trusted_ca_file")
    ),
    "configuration file with a CRL": replace(GOOD, config_file=True, client_crl_file="crl.der"),
    "configuration file with names": replace(
        GOOD, config_file=True, peer_cert_allowed_cn="nobody", config_file_omits=()
    ),
    "CRL": replace(GOOD, client_crl_file="crl.der", peer_crl_file="crl.der"),
    "CRL in PEM": replace(GOOD, client_crl_file="crl.pem"),
    "CRL that is not there": replace(GOOD, client_crl_file="gone.der"),
    "CRL that nobody can be in": replace(OPEN, client_crl_file="crl.der"),
    "CRL, HTTP split off": replace(GOOD, client_http=True, client_crl_file="crl.der"),
    "allowed hostname": replace(GOOD, client_cert_allowed_hostname="nobody.example"),
    "allowed hostname, nobody asked": replace(OPEN, client_cert_allowed_hostname="nobody.example"),
    "SAN rule off": replace(GOOD, peer_skip_client_san_verification=True),
    "SAN rule off in the configuration file": replace(
        GOOD, peer_skip_client_san_verification=True, config_file=True
    ),
    "TLS 1.3 alone": replace(GOOD, tls_min_version="TLS1.3"),
    "TLS 1.2 alone": replace(GOOD, tls_max_version="TLS1.2"),
    "variables": replace(
        GOOD,
        client_cert_auth=False,
        trusted_ca_file=None,
        environment={"ETCD_CLIENT_CERT_AUTH": "true", "ETCD_TRUSTED_CA_FILE": "{pki}/client-ca.crt"},
    ),
}


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_the_effective_configuration_is_in_force(name: str, etcd_binary: Path) -> None:
    config = CONFIGURATIONS[name]
    with start_where_possible(config, etcd_binary) as cluster:
        declaration = _declaration(cluster)
        crls = _crls(declaration)
        expected = effective(declaration, cluster.version, crls)
        problems = list(filter(None, (*_wire(cluster, expected), *_log(cluster, expected))))
    assert not problems, "\n".join(problems)


def _declaration(cluster: Cluster) -> Declaration:
    pki = str(cluster.pki_directory)
    environment = {name: text.replace("{pki}", pki) for name, text in cluster.config.environment.items()}
    return from_command_line(cluster.members[0].argv, environment)


def _crls(declaration: Declaration) -> dict[str, CRLFile]:
    paths = DeclaredPaths()
    settings = [declaration.settings.get(name) for name in ("client-crl-file", "peer-crl-file")]
    return {setting.value: read_crl(setting, paths) for setting in settings if setting is not None}


def _wire(cluster: Cluster, expected: Effective) -> Iterator[str | None]:
    """Yield every difference between the effective configuration and the behaviour."""
    listeners = {(str(one.role), one.url): one for one in cluster.target().listeners}
    for declared in expected.listeners:
        listener = listeners[str(declared.role), str(declared.url)]
        if declared.plaintext:
            plain = replace(listener, scheme="http")
            attempt = make_attempt(plain, Request(purpose="plaintext", plaintext=True), 5)
            yield difference(declared, attempt, "plaintext", {Ending.SERVED})
        elif declared.tls:
            attempt = make_attempt(replace(listener, scheme="http"), Request(purpose="p", plaintext=True), 5)
            yield difference(declared, attempt, "plaintext", {Ending.UNCLEAR})
        if declared.tls:
            yield from _identities(cluster, declared, listener)


def _identities(cluster: Cluster, declared: EffectiveListener, listener: Listener) -> Iterator[str | None]:
    peer = declared.role is Role.PEER
    good = cluster.pki.peer_client if peer else cluster.pki.client
    authority = cluster.pki.peer_ca if peer else cluster.pki.client_ca
    presented: dict[str, Identity] = {
        "none": NO_CERTIFICATE,
        "good": good,
        "foreign": identities.foreign_ca(),
        "wrong-san": identities.issue_identities(authority, ["wrong-san"])["wrong-san"],
    }
    if not peer:
        presented["revoked"] = cluster.pki.revoked
    for version in TLSVersion:
        served_protocols = version >= (declared.minimum or version) and version <= (
            declared.maximum or version
        )
        for name, identity in presented.items():
            attempt = make_attempt(listener, request(declared, name, identity, version), 5)
            ways = endings(declared, name) if served_protocols else {Ending.OTHER}
            yield difference(declared, attempt, f"{name} in {version}", ways)


def _log(cluster: Cluster, expected: Effective) -> Iterator[str]:
    """Yield every difference between the effective configuration and etcd's log."""
    startup = last_startup(read_entries(cluster.members[0].log()))
    if startup.etcd_version != cluster.version or not startup.go_version:
        yield f"the log tells another version: {startup}"
    for said, side in ((startup.client, expected.sides["client"]), (startup.peer, expected.sides["peer"])):
        if said is not None and not side.generated and logged(side) != said:
            yield f"the log tells {said}, not {logged(side)}"
        if (said is not None) != side.has_certificate:
            yield f"the log tells {said} for {side}"
