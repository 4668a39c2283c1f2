"""etcds that do not follow changes of their files or flags as every release does."""

from __future__ import annotations

from unruly.programs import changed_flags, first_files, open_gateway, restarted_on_change
from zoo.model import Misconfigured

from pytest_etcdtls.etcd.config import ClusterConfig

_GOOD = ClusterConfig()
_RULES = [
    "lifecycle.allowed-hostname",
    "lifecycle.cipher-suites",
    "lifecycle.peer-allowed-cn",
    "lifecycle.peer-allowed-hostname",
    "lifecycle.peer-san",
]
_VERSION_RANGE = ["lifecycle.version-ceiling", "lifecycle.version-floor"]

ZOO = [
    Misconfigured(
        name="etcd-reads-files-once",
        what="an etcd that keeps using the files of its first start, even after a restart",
        config=_GOOD,
        etcd=first_files(),
        checks=("lifecycle",),
        violated={
            "cluster": [
                "lifecycle.leaf-reload",
                "lifecycle.peer-leaf-reload",
                "lifecycle.half-pair-refused",
                "lifecycle.crl-reload",
                "lifecycle.crl-encoding",
                "lifecycle.ca-bundle-read-at-start",
                "lifecycle.member-with-foreign-certificate-cannot-join",
            ]
        },
        not_verified={"cluster": ["lifecycle.rotation-loses-no-request"]},
        inconclusive={"cluster": ["lifecycle.ca-bundle-needs-restart"]},
    ),
    Misconfigured(
        name="etcd-deaf-to-rules",
        what="an etcd that ignores allowed names, TLS versions, suites and the certificate to dial with",
        config=_GOOD,
        etcd=changed_flags(
            "client-cert-allowed-hostname",
            "peer-cert-allowed-cn",
            "peer-cert-allowed-hostname",
            "tls-min-version",
            "tls-max-version",
            "cipher-suites",
            "client-cert-file",
            "client-key-file",
            peer_skip_client_san_verification="true",
        ),
        checks=("lifecycle",),
        violated={"cluster": [*_RULES, *_VERSION_RANGE, "lifecycle.separate-client-certificate"]},
        # These have no such flags.
        by_version={
            "3.4.23": {"violates": {"cluster": _RULES}},
            "3.5.1": {"violates": {"cluster": [*_RULES, "lifecycle.separate-client-certificate"]}},
        },
    ),
    Misconfigured(
        name="etcd-open-to-clients",
        what="an etcd that ignores client authentication and revocation lists",
        config=_GOOD,
        etcd=changed_flags("client-cert-auth", "trusted-ca-file", "client-crl-file", "peer-crl-file"),
        checks=("lifecycle",),
        violated={
            "cluster": [
                "lifecycle.allowed-hostname",
                "lifecycle.ca-bundle-read-at-start",
                "lifecycle.cn-is-user",
                "lifecycle.crl-encoding",
                "lifecycle.crl-reload",
            ]
        },
        warned={"cluster": ["lifecycle.ca-bundle-needs-restart"]},
    ),
    Misconfigured(
        name="etcd-restarted-on-renewal",
        what="an etcd that is restarted whenever one of its certificates is renewed",
        config=_GOOD,
        etcd=restarted_on_change(),
        checks=("lifecycle.rotation-loses-no-request",),
        violated={"cluster": ["lifecycle.rotation-loses-no-request"]},
    ),
    Misconfigured(
        name="gateway-for-everybody",
        what="a server in place of etcd whose gateway treats every client as a user",
        config=_GOOD,
        etcd=open_gateway(),
        checks=("lifecycle.cn-ignored-by-gateway",),
        violated={"cluster": ["lifecycle.cn-ignored-by-gateway"]},
    ),
]
