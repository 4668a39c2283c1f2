"""Every etcd available starts with a declaration unless a trap says that it does not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from declared.conftest import Workplace
from declared.declaring import find_traps
from declared.etcd_itself import run
from pytest_etcdtls.declared.reading import from_command_line
from pytest_etcdtls.etcd.sources import binary_version

PLAIN = ("--listen-client-urls=http://{client}", "--advertise-client-urls=http://{client}")
URLS = ("--listen-client-urls=https://{client}", "--advertise-client-urls=https://{client}")
PAIR = ("--cert-file={pki}/server.crt", "--key-file={pki}/server.key")
CA = "--trusted-ca-file={pki}/client-ca.crt"
SKIPS = "peer-skip-client-san-verification"
SUITES = "--cipher-suites=TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"

Case = tuple[tuple[str, ...], Mapping[str, str]]

BY_VERSION: Mapping[str, Case] = {
    "a flag of newer versions": ((*PLAIN, "--tls-min-version=TLS1.2"), {}),
    "a flag that is gone": ((*PLAIN, "--experimental-peer-skip-client-san-verification"), {}),
    "an unknown variable": (PLAIN, {"ETCD_CLIENT_CERT_ATHU": "true"}),
    "half a pair to dial with": ((*URLS, *PAIR, "--client-cert-file={pki}/client.crt"), {}),
    "a version above the highest": ((*PLAIN, "--tls-min-version=TLS1.3", "--tls-max-version=TLS1.2"), {}),
    "a version in other words": ((*PLAIN, "--tls-min-version=1.2"), {}),
    "suites for TLS 1.3": ((*URLS, *PAIR, SUITES, "--tls-min-version=TLS1.3"), {}),
    "gRPC and HTTP on one port": ((*URLS, *PAIR, "--listen-client-http-urls=https://{client}"), {}),
    "a flag by both of its names": ((*PLAIN, f"--{SKIPS}", f"--experimental-{SKIPS}"), {}),
    "a variable by both of its names": (
        PLAIN,
        {
            "ETCD_PEER_SKIP_CLIENT_SAN_VERIFICATION": "true",
            "ETCD_EXPERIMENTAL_PEER_SKIP_CLIENT_SAN_VERIFICATION": "true",
        },
    ),
}
"""What some versions have and others have not."""

ANYWHERE: Mapping[str, Case] = {
    "mutual TLS": ((*URLS, *PAIR, CA, "--client-cert-auth"), {}),
    "a switch with a value behind it": ((*PLAIN, "--client-cert-auth", "false"), {}),
    "a switch with a word": ((*PLAIN, "--client-cert-auth=yes"), {}),
    "an unknown flag": ((*PLAIN, "--client-cert-athu"), {}),
    "a flag without its value": ((*PLAIN, "--name"), {}),
    "two dashes": ((*PLAIN, "--", "--name=a"), {}),
    "a flag twice": (("--listen-client-urls=http://{other}", *PLAIN), {}),
    "a flag of etcd 2": ((*PLAIN, "--snapshot"), {}),
    "flag and variable": (PLAIN, {"ETCD_LISTEN_CLIENT_URLS": "http://{client}"}),
    "flag and empty variable": ((*PLAIN, "--name=default"), {"ETCD_NAME": ""}),
    "variables alone": ((PLAIN[1],), {"ETCD_LISTEN_CLIENT_URLS": "http://{client}"}),
    "a variable with a word": (PLAIN, {"ETCD_CLIENT_CERT_AUTH": "yes"}),
    "a variable for a switch": (PLAIN, {"ETCD_PRE_VOTE": "TRUE"}),
    "a host name": (("--listen-client-urls=http://node1:2379", PLAIN[1]), {}),
    "no advertised URL": (PLAIN[:1], {}),
    "a blank behind the comma": ((f"{PLAIN[0]}, http://{{other}}", PLAIN[1]), {}),
    "a slash": ((f"{PLAIN[0]}/", PLAIN[1]), {}),
    "no certificate": (URLS, {}),
    "half a pair": ((*URLS, PAIR[0]), {}),
    "half a pair, and auto-tls": ((*URLS, PAIR[0], "--auto-tls"), {}),
    "metrics without certificate": ((*PLAIN, "--listen-metrics-urls=https://{other}"), {}),
    "client authentication without TLS": ((*PLAIN, "--client-cert-auth"), {}),
    "suites": ((*URLS, *PAIR, SUITES), {}),
    "no suites": ((*URLS, *PAIR, "--cipher-suites="), {}),
    "suites by a name of OpenSSL": ((*URLS, *PAIR, f"{SUITES},ECDHE-ECDSA-AES256-GCM-SHA384"), {}),
    "suites of TLS 1.3 and an old name": (
        (*URLS, *PAIR, f"{SUITES},TLS_AES_128_GCM_SHA256,TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305"),
        {},
    ),
    "no pair to dial with": ((*URLS, *PAIR, "--client-cert-file="), {}),
    "half a pair of peers without peer TLS": ((*PLAIN, "--peer-key-file={pki}/peer.key"), {}),
    "an empty advertised URL": ((PLAIN[0], "--advertise-client-urls="), {}),
    "peers by CN and by hostname": (
        (
            *PLAIN,
            "--listen-peer-urls=https://{peer}",
            "--peer-cert-file={pki}/peer.crt",
            "--peer-key-file={pki}/peer.key",
            "--peer-cert-allowed-cn=a",
            "--peer-cert-allowed-hostname=b",
        ),
        {},
    ),
}
"""What is the same in all of them."""


@pytest.mark.parametrize("case", BY_VERSION)
def test_etcd_starts_unless_a_trap_prevents_it(case: str, etcd_binary: Path, workplace: Workplace) -> None:
    _start(BY_VERSION[case], etcd_binary, workplace)


@pytest.mark.etcd_version("3.4", "3.7")
@pytest.mark.parametrize("case", ANYWHERE)
def test_etcd_of_every_version_starts_unless_a_trap_prevents_it(
    case: str, etcd_binary: Path, workplace: Workplace
) -> None:
    _start(ANYWHERE[case], etcd_binary, workplace)


def _start(case: Case, etcd_binary: Path, workplace: Workplace) -> None:
    arguments, variables = case
    argv = [*workplace.member(), *map(workplace.fill_in, arguments)]
    environment = {name: workplace.fill_in(value) for name, value in variables.items()}
    stops = _stops(argv, environment, etcd_binary)
    seen = run(etcd_binary, argv, environment, workplace.directory)
    assert seen.started is not bool(stops), f"{stops}\n{seen.log}"


def test_etcd_ends_without_a_suite_that_http2_needs(etcd_binary: Path, workplace: Workplace) -> None:
    """Some versions still say that they serve."""
    suites = "--cipher-suites=TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"
    argv = [*workplace.member(), *map(workplace.fill_in, (*URLS, *PAIR, suites))]
    assert _stops(argv, {}, etcd_binary)
    seen = run(etcd_binary, argv, {}, workplace.directory, to_the_end=True)
    assert any(word in seen.log for word in ('"level":"fatal"', "panic: ", " C | "))


def _stops(argv: list[str], environment: Mapping[str, str], binary: Path) -> list[str]:
    traps = find_traps(from_command_line(["etcd", *argv], environment), binary_version(binary))
    return [trap.summary for trap in traps if not trap.starts]
