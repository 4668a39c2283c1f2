"""The warnings of each preset beyond those of every etcd, and what cannot be verified on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from presets.model import Known

_ONE_CA = Known(
    warned={
        "client": ["mtls.peer-certificate-on-client-port"],
        "peer": ["mtls.client-certificate-on-peer-port"],
    }
)
_DIALS_WITH_ANOTHER = ["mtls.server-certificate-as-client"]
_NO_CBC = ["tls.cbc-suites"]
_NO_SHA1 = ["tls.sha1-signature"]
"""Ed25519 has no signature scheme with SHA-1."""
_SPLIT = Known(
    # grpc-go leaves out the suites that RFC 9113 forbids.
    not_warned={"client": _NO_CBC}
)
# server/embed/serve.go of 3.8.0-alpha.0 lacks the fix of 3.7.0, which calls ConfigureCRLVerification.
_NO_CRL_ON_GRPC = "3.8.0-alpha.0"
_RBAC = Known(
    # The gateway turns away every certificate with a common name.
    not_verified={"client": ["api.gateway-works"]}
)
# It answers one without; since 3.5.28 (CVE-2026-33413) it wants a user's token, which is presented.
_NAMELESS = Known()
# It says nothing of the gateway, which by default is on.
_NO_GATEWAY = Known(warned={"cluster": ["config.gateway-off-in-config-file"]})

KNOWN: Mapping[str, Known] = {
    "default": Known(),
    "kubeadm": _ONE_CA,
    "kubeadm-three-nodes": _ONE_CA,
    "one-ca": _ONE_CA,
    "ca-per-role": Known(not_warned={"client": _DIALS_WITH_ANOTHER}),
    "intermediate-ca": Known(),
    "rsa-2048": Known(),
    "rsa-4096": Known(),
    "ecdsa-p384": Known(),
    "ed25519": Known(not_warned={"client": _NO_SHA1, "peer": _NO_SHA1}),
    "three-members": Known(),
    "ipv6": Known(),
    "split-http": replace(
        _SPLIT,
        by_version={
            _NO_CRL_ON_GRPC: replace(_SPLIT, warned={"cluster": ["advisory.ghsa-3wh4-j44w-pg92-inferred"]})
        },
    ),
    "metrics-on-loopback": Known(),
    "metrics-over-https": Known(),
    "tls-1.3-only": Known(not_warned={"client": [*_NO_CBC, *_NO_SHA1], "peer": [*_NO_CBC, *_NO_SHA1]}),
    "tls-1.2-only": Known(
        warned={"client": ["tls.tls13-offered"], "peer": ["tls.tls13-offered"]},
        not_warned={"client": ["tls.hybrid-group"], "peer": ["tls.hybrid-group"]},
    ),
    "aead-suites": Known(not_warned={"client": _NO_CBC, "peer": _NO_CBC}),
    "crl-without-entries": Known(),
    "crl-with-entries": Known(),
    "split-http-with-crl": replace(
        _SPLIT,
        by_version={
            _NO_CRL_ON_GRPC: replace(
                _SPLIT,
                violated={
                    "cluster": ["config.crl-ignored-on-grpc"],
                    "client": [
                        "advisory.ghsa-3wh4-j44w-pg92-proved",
                        "mtls.revoked-grpc",
                        "mtls.same-verdict-grpc-and-http",
                    ],
                },
            )
        },
    ),
    "peer-common-name": Known(),
    "peer-hostname": Known(),
    "separate-client-certificates": Known(not_warned={"client": _DIALS_WITH_ANOTHER}),
    "config-file": Known(by_version={"3.4": _NO_GATEWAY}),
    "authentication": _RBAC,
    "authentication-without-common-name": _NAMELESS,
    "hardened": Known(
        not_warned={
            "client": [*_NO_CBC, *_NO_SHA1, *_DIALS_WITH_ANOTHER],
            "peer": [*_NO_CBC, *_NO_SHA1],
        }
    ),
}
