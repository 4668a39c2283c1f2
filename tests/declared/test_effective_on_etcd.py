"""The effective configuration is that of every available etcd, by its behaviour and by its log."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from etcd_log.startup import LoggedTLS, last_startup
from starting import start_process

from declared.etcd_itself import trusted_client_ends
from pytest_etcdtls.declared.declaration import CRLFile, Declaration, DeclaredPaths
from pytest_etcdtls.declared.effective import (
    ClientAuthentication,
    Effective,
    EffectiveListener,
    TLSSide,
    effective,
)
from pytest_etcdtls.declared.files import read_crl
from pytest_etcdtls.declared.reading import from_command_line
from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.etcd.cluster import Cluster
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.etcd_log.parse import read_entries
from pytest_etcdtls.pki import identities
from pytest_etcdtls.pki.profile import NO_CERTIFICATE, Identity
from pytest_etcdtls.role import Protocol, Role, TLSVersion
from pytest_etcdtls.target import Listener
from pytest_etcdtls.tls.attempt import Attempt, Ending, Request
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
    try:
        cluster = start_process(config, etcd_binary)
    except UsageError as error:
        pytest.skip(f"not to be expressed in this version: {error}")
    with cluster:
        declaration = _declaration(cluster)
        crls = _crls(declaration)
        expected = effective(declaration, cluster.version, crls)
        problems = [*_wire(cluster, expected), *_log(cluster, expected)]
    assert not problems, "\n".join(problems)


def _declaration(cluster: Cluster) -> Declaration:
    pki = str(cluster.pki_directory)
    environment = {name: text.replace("{pki}", pki) for name, text in cluster.config.environment.items()}
    return from_command_line(cluster.members[0].argv, environment)


def _crls(declaration: Declaration) -> dict[str, CRLFile]:
    paths = DeclaredPaths()
    settings = [declaration.settings.get(name) for name in ("client-crl-file", "peer-crl-file")]
    return {setting.value: read_crl(setting, paths) for setting in settings if setting is not None}


def _wire(cluster: Cluster, expected: Effective) -> Iterator[str]:
    """Yield every difference between the effective configuration and the behaviour."""
    listeners = {(str(one.role), one.url): one for one in cluster.target().listeners}
    for declared in expected.listeners:
        listener = listeners[str(declared.role), str(declared.url)]
        if declared.plaintext:
            plain = replace(listener, scheme="http")
            attempt = make_attempt(plain, Request(purpose="plaintext", plaintext=True), 5)
            yield from _differs(declared, attempt, "plaintext", {Ending.SERVED})
        elif declared.tls:
            attempt = make_attempt(replace(listener, scheme="http"), Request(purpose="p", plaintext=True), 5)
            yield from _differs(declared, attempt, "plaintext", {Ending.UNCLEAR})
        if declared.tls:
            yield from _identities(cluster, declared, listener)


def _identities(cluster: Cluster, declared: EffectiveListener, listener: Listener) -> Iterator[str]:
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
            protocol = Protocol.HTTP1 if "http" in declared.protocols else Protocol.GRPC
            path = "/version" if protocol is Protocol.HTTP1 else "/grpc.health.v1.Health/Check"
            if declared.role is Role.METRICS:
                path = "/health"
            request = Request(purpose=name, identity=identity, version=version, protocol=protocol, path=path)
            attempt = make_attempt(listener, request, 5)
            ways = _ways(declared, name) if served_protocols else {Ending.OTHER}
            yield from _differs(declared, attempt, f"{name} in {version}", ways)


def _ways(declared: EffectiveListener, name: str) -> set[Ending]:
    """Return how an attempt of that identity ends, according to the effective configuration."""
    side = declared.side
    assert side is not None
    if side.client_auth is ClientAuthentication.ANYBODY:
        return {Ending.SERVED}
    if name in ("none", "foreign") or side.client_auth is ClientAuthentication.SYSTEM_ROOTS:
        return {Ending.REFUSED}
    if side.allowed_cn or side.allowed_hostname:
        return {Ending.REFUSED}
    return trusted_client_ends(declared, name)


def _differs(declared: EffectiveListener, attempt: Attempt, what: str, ways: set[Ending]) -> Iterator[str]:
    if attempt.ending not in ways:
        expected = " or ".join(sorted(ways))
        place = f"{declared.role} {declared.url} ({declared.describe()})"
        yield f"{place}: {what}: {attempt.describe()}, not {expected}"


def _log(cluster: Cluster, expected: Effective) -> Iterator[str]:
    """Yield every difference between the effective configuration and etcd's log."""
    startup = last_startup(read_entries(cluster.members[0].log()))
    if startup.etcd_version != cluster.version or not startup.go_version:
        yield f"the log tells another version: {startup}"
    for logged, side in ((startup.client, expected.sides["client"]), (startup.peer, expected.sides["peer"])):
        if logged is not None and not side.generated and _logged(side) != logged:
            yield f"the log tells {logged}, not {_logged(side)}"
        if (logged is not None) != side.has_certificate:
            yield f"the log tells {logged} for {side}"


def _logged(side: TLSSide) -> LoggedTLS:
    return LoggedTLS(
        cert=side.certificate or "",
        key=side.key or "",
        trusted_ca=side.trusted_ca or "",
        client_cert_auth=side.client_cert_auth,
        crl_file=side.crl_file or "",
    )
