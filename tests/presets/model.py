"""The expected results of a preset: exactly its warnings and what cannot be verified on it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from zoo import baseline

from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.pki.profile import CALayout, KeyType
from pytest_etcdtls.results import Outcome

Expectation = Mapping[str, Iterable[str]]
"""Check ids by listener, members merged; ``cluster`` for the target."""


@dataclass(frozen=True, kw_only=True)
class Known:
    """The expected results of a preset on every etcd.

    Attributes:
        warned: the SHOULD checks that warn, besides those of :mod:`zoo.baseline` on every https listener.
        not_warned: those of the baseline that do not warn here.
        violated: the MUST checks that violate, on a release with a published vulnerability.
        not_verified: the checks that cannot be judged because something is missing.
        by_version: what is known instead on some versions or lines of etcd.
    """

    warned: Expectation = field(default_factory=dict)
    not_warned: Expectation = field(default_factory=dict)
    violated: Expectation = field(default_factory=dict)
    not_verified: Expectation = field(default_factory=dict)
    by_version: Mapping[str, Known] = field(default_factory=dict)

    def expected(self, config: ClusterConfig, version: str) -> dict[str, dict[str, set[str]]]:
        """Return the expected check ids by outcome and listener on that version of etcd."""
        for line, instead in self.by_version.items():
            if version == line or version.startswith(f"{line}."):
                return instead.expected(config, version)
        return {
            Outcome.VIOLATES: {listener: set(ids) for listener, ids in self.violated.items()},
            Outcome.WARNS: self.warnings(config, version),
            Outcome.NOT_VERIFIED: {listener: set(ids) for listener, ids in self.not_verified.items()},
            Outcome.INCONCLUSIVE: {},
            Outcome.BROKEN: {},
        }

    def warnings(self, config: ClusterConfig, version: str) -> dict[str, set[str]]:
        """Return the ids of the checks that warn, by listener."""
        expected = baseline.warned(version, rsa=serves_rsa(config))
        for listener in further_listeners(config):
            expected[listener] = set(expected["peer"])
        for listener, ids in self.not_warned.items():
            expected[listener] = expected.get(listener, set()) - set(ids)
        for listener, ids in self.warned.items():
            expected[listener] = expected.get(listener, set()) | set(ids)
        return {listener: ids for listener, ids in expected.items() if ids}


def further_listeners(config: ClusterConfig) -> list[str]:
    """Return the https listeners besides client and peer, where TLS is as on the peer port."""
    found = ["client-http"] if config.client_http else []
    return [*found, "metrics"] if config.metrics == "https" else found


def serves_rsa(config: ClusterConfig) -> bool:
    """Whether the served certificates have RSA keys."""
    plan = config.pki
    if plan.key_type is None:
        return plan.layout is CALayout.KUBEADM
    return plan.key_type in (KeyType.RSA_2048, KeyType.RSA_4096)
