"""The commands of ``examples/by_hand/README.md`` and our checks find the same faults."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from starting import start_process

from by_hand.document import read_steps
from by_hand.once import once
from by_hand.shell import Shell
from by_hand.walk import TOOLS, await_words, environment, require_etcdctl
from by_hand.wrong import KUBEADM, Found, find
from pytest_etcdtls.etcd.sources import binary_version
from pytest_etcdtls.results import Outcome

pytestmark = pytest.mark.program(*TOOLS)

STEPS = {step.title.partition(".")[0]: step for step in read_steps()}
"""By number; those without one by their title."""

SHOWN_BY = {
    "mtls.announced-ca-present": "4",
    "config.served-file": "5",
    "cert.expires-soon": "6",
    "cert.covers-loopback": "7",
    "mtls.no-certificate": "8",
    "mtls.foreign-ca": "9",
    "mtls.lookalike-ca": "9",
    "mtls.self-signed": "9",
    "mtls.expired": "10",
    "mtls.not-yet-valid": "10",
    "mtls.server-auth-only": "10",
    "mtls.wrong-san": "12",
    "mtls.plaintext-refused": "14",
    "api.grpc-needs-certificate": "15",
}
"""The step that shows what a check says of that cluster."""

NOT_SHOWN = ("config.client-auth-in-force", "config.peer-auth-in-force")
"""Step 1 reads the manifest, in which all is well."""


@pytest.fixture(scope="module")
def found(etcd_binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Found:
    require_etcdctl(etcd_binary)
    steps = [STEPS[number] for number in ("1", "2", *sorted(set(SHOWN_BY.values()), key=int))]
    checks = {*SHOWN_BY, *NOT_SHOWN}
    version = binary_version(etcd_binary)
    return once(
        tmp_path_factory,
        "wrong-by-hand",
        lambda home: find(steps, STEPS["18"], checks, etcd_binary, version, home),
    )


@pytest.mark.etcd_version("3.7.3")
@pytest.mark.parametrize(("check", "number"), SHOWN_BY.items())
def test_the_page_and_our_checks_find_each_fault(check: str, number: str, found: Found) -> None:
    assert check in STEPS[number].ours
    assert found.outcomes(check) & {Outcome.VIOLATES, Outcome.WARNS}
    assert found.deviates(STEPS[number])


@pytest.mark.etcd_version("3.7.3")
@pytest.mark.parametrize("check", NOT_SHOWN)
def test_a_manifest_is_no_evidence(check: str, found: Found) -> None:
    assert check in STEPS["1"].ours
    assert found.outcomes(check) == {Outcome.VIOLATES}
    assert not found.deviates(STEPS["1"])


@pytest.mark.etcd_version("3.5.33")
def test_etcd_3_5_complains_of_http2_at_the_debug_level(etcd_binary: Path, tmp_path: Path) -> None:
    """As step 11 says; that it does not at the usual level is in a block there, and tested with it."""
    require_etcdctl(etcd_binary)
    with start_process(replace(KUBEADM, extra_flags=("--log-level=debug",)), etcd_binary) as cluster:
        [member] = cluster.members
        with Shell(tmp_path, environment(etcd_binary, tmp_path)) as shell:
            shell.run(
                f"PEER={member.peer_url.removeprefix('https://')} PKI={member.file('server.crt').parent}"
            )
            ran = shell.run(STEPS["11"].blocks[1].code)
        assert ran.output == "closed without a word\n"
        await_words(member.log, [("Server.Serve failed",)])
        complaints = [line for line in member.log().splitlines() if "Server.Serve failed" in line]
    assert complaints
    assert all("tls: first record does not look like a TLS handshake" in line for line in complaints)
