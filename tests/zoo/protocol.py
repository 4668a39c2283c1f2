"""Clusters with weak TLS versions, cipher suites or groups, by flags or by an old Go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from zoo.client_access import BROKEN, behind_the_first_gate
from zoo.model import Expectation, Misconfigured

from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.pki.profile import KeyType, PKIPlan
from pytest_etcdtls.role import Role

_ECDSA = PKIPlan()
_RSA = PKIPlan(key_type=KeyType.RSA_2048)
_BOTH = ("client", "peer")


def _with_suites(*suites: str, pki: PKIPlan = _ECDSA) -> ClusterConfig:
    return replace(BROKEN, pki=pki, cipher_suites=suites)


def _on_both(*checks: str) -> dict[str, tuple[str, ...]]:
    return dict.fromkeys(_BOTH, checks)


_ONLY_FOR_RSA = ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",)
_ONLY_FOR_ECDSA = ("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",)

_NO_HANDSHAKE = {
    "client": behind_the_first_gate(Role.CLIENT),
    "peer": behind_the_first_gate(Role.PEER),
    "cluster": [
        "advisory.go-runtime",
        "cluster.advertised-https",
        "cluster.advertised-reachable",
        "cluster.members-agree",
        "cluster.members-connected",
        "cluster.one-cluster",
        "cluster.peer-urls-https",
        "cluster.same-version",
        "listener.keeps-connections",
    ],
}
_IN_NO_VERSION: Mapping[str, Expectation] = {
    "violates": _on_both("listener.answers"),
    "warns": {},
    "not-verified": _NO_HANDSHAKE,
}
"""Where TLS 1.3 is not supported, no client can connect."""


def _no_suite_fits(name: str, what: str, key: KeyType, suites: tuple[str, ...]) -> Misconfigured:
    return Misconfigured(
        name=name,
        what=what,
        faults=("tls.forward-secrecy", "listener.answers"),
        config=_with_suites(*suites, pki=PKIPlan(key_type=key)),
        violated=_on_both("tls.forward-secrecy"),
        not_warned=_on_both("tls.cbc-suites", "tls.sha1-signature", "tls.rsa-key-exchange", "tls.triple-des"),
        by_version={"3.5.1": _IN_NO_VERSION},
    )


ZOO = [
    Misconfigured(
        name="tls12-only",
        what="the maximum TLS version is 1.2",
        config=replace(BROKEN, tls_max_version="TLS1.2"),
        warned=_on_both("tls.tls13-offered"),
        not_warned=_on_both("tls.hybrid-group"),
    ),
    Misconfigured(
        name="no-hybrid-group",
        what="post-quantum key exchange is disabled in Go",
        config=replace(BROKEN, environment={"GODEBUG": "tlsmlkem=0,tlssecpmlkem=0"}),
        warned=_on_both("tls.hybrid-group"),
        # No TLS 1.3 there, and so nothing to switch off.
        by_version={"3.5.1": {"warns": {}}},
    ),
    Misconfigured(
        name="rc4",
        what="--cipher-suites contains a suite with RC4",
        config=_with_suites("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_ECDSA_WITH_RC4_128_SHA"),
        violated=_on_both("tls.broken-suites"),
        not_warned=_on_both("tls.cbc-suites"),
    ),
    Misconfigured(
        name="triple-des",
        what="--cipher-suites contains a suite with triple DES",
        config=_with_suites(
            "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA", pki=_RSA
        ),
        warned=_on_both("tls.triple-des"),
        not_warned=_on_both("tls.cbc-suites", "tls.rsa-key-exchange"),
    ),
    Misconfigured(
        name="rsa-key-exchange",
        what="--cipher-suites contains a suite with RSA key exchange",
        config=_with_suites(
            "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_RSA_WITH_AES_256_GCM_SHA384", pki=_RSA
        ),
        warned=_on_both("tls.rsa-key-exchange"),
        not_warned=_on_both("tls.cbc-suites", "tls.triple-des"),
    ),
    Misconfigured(
        name="cbc",
        what="--cipher-suites contains a suite in CBC mode",
        config=_with_suites(
            "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA"
        ),
        warned=_on_both("tls.cbc-suites"),
    ),
    Misconfigured(
        name="no-forward-secrecy",
        what="the only ECDHE suite in --cipher-suites does not fit the type of the served key",
        faults=("tls.forward-secrecy",),
        config=_with_suites(
            "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "TLS_RSA_WITH_AES_256_GCM_SHA384", pki=_RSA
        ),
        violated=_on_both("tls.forward-secrecy"),
        warned=_on_both("tls.rsa-key-exchange"),
        not_warned=_on_both("tls.cbc-suites", "tls.triple-des", "tls.sha1-signature"),
        # HTTP/2 forbids such a suite (RFC 9113 section 9.2.2), and TLS 1.3 is not offered: no gRPC.
        by_version={
            "3.5.1": {
                "violates": _on_both("tls.forward-secrecy"),
                "warns": {
                    "client": ["tls.rsa-key-exchange", "api.gateway-works"],
                    "peer": ["tls.rsa-key-exchange"],
                },
                "not-verified": {
                    "client": ["cert.covers-advertised-url"],
                    "peer": ["api.peer-members"],
                    "cluster": ["cluster.one-cluster"],
                },
            }
        },
    ),
    _no_suite_fits(
        "rsa-key-with-suites-for-ecdsa",
        "--cipher-suites has suites for ECDSA keys only, and the served keys are RSA",
        KeyType.RSA_2048,
        _ONLY_FOR_ECDSA,
    ),
    _no_suite_fits(
        "ecdsa-key-with-suites-for-rsa",
        "--cipher-suites has suites for RSA keys only, and the served keys are ECDSA",
        KeyType.ECDSA_P256,
        _ONLY_FOR_RSA,
    ),
    Misconfigured(
        name="no-suite-fits-and-tls12-only",
        what="the maximum TLS version is 1.2, and no suite in --cipher-suites is for the served keys",
        config=replace(
            _with_suites(*_ONLY_FOR_ECDSA, pki=PKIPlan(key_type=KeyType.RSA_2048)), tls_max_version="TLS1.2"
        ),
        violated=_on_both("listener.answers"),
        not_verified=_NO_HANDSHAKE,
    ),
]
