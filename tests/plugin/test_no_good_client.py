"""A TLS listener that accepts no good client is never clean, whatever the excuse is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from plugin.live_etcd import Live
from plugin.runs import Runner
from starting import start_process

from pytest_etcdtls.checks.registry import select
from pytest_etcdtls.etcd.cluster import Cluster
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.pki.authority import CertificateAuthority
from pytest_etcdtls.pki.bundle import encode_certificates, encode_key
from pytest_etcdtls.pki.profile import CLIENT, Profile

CHECKS = "--etcd-check=mtls.trusted-client,mtls.no-certificate,mtls.plaintext-refused"
IN_PART = f"etcd TLS: 3 OF {len(select())} CHECKS CLEAN"


@pytest.fixture(scope="module")
def cluster(newest_etcd: Path) -> Iterator[Cluster]:
    with start_process(ClusterConfig(), newest_etcd) as started:
        yield started


def _credentials(cluster: Cluster) -> tuple[str, ...]:
    """The options of a user who has the client port's certificate and no other."""
    live = Live.of(cluster)
    return (*live.options[:2], *live.credentials[1:3], CHECKS)


def _named(directory: Path, authority: CertificateAuthority, **fields: object) -> tuple[str, ...]:
    """The options of a peer certificate with these fields."""
    usual = {"common_name": CLIENT.common_name, "extended_key_usage": CLIENT.extended_key_usage}
    identity = authority.issue(Profile(**{**usual, **fields}), name="peer")  # type: ignore[arg-type]
    assert identity.key is not None
    (directory / "peer.crt").write_bytes(encode_certificates(identity.chain))
    (directory / "peer.key").write_bytes(encode_key(identity.key))
    return f"--etcd-peer-cert={directory / 'peer.crt'}", f"--etcd-peer-key={directory / 'peer.key'}"


def test_the_san_rule_excuses_no_clean_run(run: Runner, cluster: Cluster, tmp_path: Path) -> None:
    peer = _named(tmp_path, cluster.pki.authorities.peer_issuer, subject_alt_names=("192.0.2.1",))
    options = (*_credentials(cluster), *peer)
    ran = run(*options)
    outcomes = {place.rpartition("::")[2]: out for place, out in ran.outcomes.items() if "peer" in place}
    assert outcomes == {
        "mtls.trusted-client": "not-verified",
        "mtls.no-certificate": "conforms",
        "mtls.plaintext-refused": "conforms",
    }
    assert ran.exit_code == 1
    where = "names IP:192.0.2.1 and this machine is 127.0.0.1: run on the member"
    why = (
        f"etcd closed the connection, as its SAN rule explains: {tmp_path / 'peer.crt'} {where}, or pass "
        "--etcd-peer-cert with a certificate of the peer CA without SANs"
    )
    assert ran.verdict.startswith(f"etcd TLS: NO VERDICT: {cluster.members[0].peer_url} of live: {why} (")
    assert "--etcd-allow-unverified" not in ran.out
    allowed = run(*options, "--etcd-allow-unverified")
    assert (allowed.exit_code, IN_PART in allowed.out) == (0, True)
    unexplained = run(*options, "--etcd-check=!mtls.trusted-client")
    assert (unexplained.exit_code, where in unexplained.verdict) == (1, True)


def test_the_certificate_of_the_client_port_is_no_good_peer(
    run: Runner, cluster: Cluster, tmp_path: Path
) -> None:
    ran = run(*_credentials(cluster))
    assert "violates" not in ran.counts
    assert ran.exit_code == 1
    assert (
        f"{cluster.members[0].peer_url} of live: the client port's certificate is refused, as expected where "
        "peers have a separate CA: pass --etcd-peer-cert and --etcd-peer-key" in " ".join(ran.out.split())
    )
    peer = _named(tmp_path, cluster.pki.authorities.peer_issuer, subject_alt_names=("127.0.0.1",))
    ran = run(*_credentials(cluster), *peer)
    assert (ran.exit_code, IN_PART in ran.out) == (0, True)


def test_a_waiver_accepts_it(run: Runner, cluster: Cluster, tmp_path: Path) -> None:
    peer = _named(tmp_path, CertificateAuthority.create("another CA"))
    assert run(*_credentials(cluster), *peer).exit_code == 1
    waiver = run.waive("mtls.trusted-client", listener="peer-*")
    assert run(*_credentials(cluster), *peer, waiver).exit_code == 0
