"""TLS versions and cipher suites that etcd was told to speak, on both ports.

Sources: etcd's ``TestTLSMinMaxVersion``, ``TestEtcdTLSVersion``, ``TestTLSClientCipherSuitesValid`` and
``...Mismatch``.
"""

from __future__ import annotations

from pytest_etcdtls.experiments.bench import Bench, step
from pytest_etcdtls.observations.attempt import TLSVersion
from pytest_etcdtls.observations.cipher_suites import suite_name
from pytest_etcdtls.observations.experiment import Experiment, SuiteOffer, SuiteOffers
from pytest_etcdtls.observations.greeting import TLS1_2, Hello
from pytest_etcdtls.target import Role

LISTED = (0xC02B, 0xCCA9)
"""ECDHE-ECDSA with AES-128-GCM, without which etcd does not start, and with ChaCha20-Poly1305."""

UNLISTED = (0xC02C, 0xC009, 0xC00A)
"""ECDHE-ECDSA with AES-256-GCM and AES-CBC-SHA: every etcd has them unless it is told otherwise."""


def versions(bench: Bench, name: str) -> Experiment:
    """Offer one TLS version after the other, on both ports."""
    pki = bench.cluster.pki
    good = {Role.CLIENT: pki.client, Role.PEER: pki.peer_client}
    return bench.experiment(
        name,
        step(
            "started",
            f"etcd was started with {' '.join(bench.flags)}",
            (
                bench.trial(f"good client offering {version} only", role, identity, version=version)
                for role, identity in good.items()
                for version in TLSVersion
            ),
        ),
    )


def suites(bench: Bench) -> SuiteOffers:
    """Offer one cipher suite after the other, on both ports."""
    offers = [
        SuiteOffer(
            role=role,
            suite=suite_name(code),
            listed=code in LISTED,
            greeting=bench.greet(
                role, Hello(purpose=f"experiment: {suite_name(code)}", version=TLS1_2, suites=(code,))
            ),
        )
        for role in (Role.CLIENT, Role.PEER)
        for code in LISTED + UNLISTED
    ]
    return SuiteOffers(etcd_version=bench.cluster.version, flags=bench.flags, offers=tuple(offers))
