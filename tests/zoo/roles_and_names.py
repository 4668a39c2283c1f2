"""Clusters that accept certificates on the wrong port, or whose rules about names and revocation fail."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from unruly.programs import rewritten_arguments
from zoo.client_access import BROKEN, GOOD
from zoo.model import Misconfigured

from pytest_etcdtls.pki.profile import CLIENT, PEER, CALayout, PKIPlan

_ONE_CA = PKIPlan(layout=CALayout.SHARED)
_NAMED_CLIENT = PKIPlan(client=replace(CLIENT, subject_alt_names=("localhost", "127.0.0.1")))
_TWO_NAMES = PKIPlan(client=replace(CLIENT, subject_alt_names=("localhost", "elsewhere.example")))

_NO_COUNTERPART = ["mtls.expired", "mtls.not-yet-valid", "mtls.server-auth-only", "mtls.intermediate-missing"]
"""What is not judged where the client issued for comparison is refused for its names."""

_HIDDEN = "config.config-file-hides-flags"
_GATEWAY_OFF = {"3.4": {"warns": {"cluster": ["config.gateway-off-in-config-file"]}}}


def _hidden_rule(rule: str, flag: str, violated: dict[str, list[str]], **changes: Any) -> Misconfigured:
    hidden = tuple(name for name in changes if name != "pki")
    return Misconfigured(
        name=f"{rule}-not-in-force",
        what=f"a configuration file makes etcd ignore {flag}",
        faults=(_HIDDEN,),
        config=replace(BROKEN, config_file=True, config_file_omits=hidden, **changes),
        violated={**violated, "cluster": [_HIDDEN]},
        by_version=_GATEWAY_OFF,
    )


ZOO = [
    Misconfigured(
        name="one-ca-for-both-ports",
        what="one CA signs for both ports, and no other rule separates clients and peers",
        config=replace(GOOD, pki=_ONE_CA),
        warned={
            "client": ["mtls.peer-certificate-on-client-port"],
            "peer": ["mtls.client-certificate-on-peer-port"],
        },
    ),
    Misconfigured(
        name="served-pair-is-a-client",
        what="the served certificate is accepted as a client certificate, as by default",
        config=GOOD,
        warned={"client": ["mtls.server-certificate-as-client"]},
        lines=("3.5", "3.6", "3.7"),
    ),
    Misconfigured(
        name="crl-in-config-file",
        what="the revocation list is set in a configuration file, where etcd ignores it",
        faults=(
            "config.config-file-hides-flags",
            "config.unknown-key",
        ),
        config=replace(BROKEN, config_file=True, client_crl_file="crl.der"),
        violated={
            "client": ["mtls.revoked-http", "mtls.revoked-grpc"],
            "cluster": [_HIDDEN, "config.unknown-key"],
        },
        by_version={
            **_GATEWAY_OFF,
            # What a newer etcd reads is not known.
            "3.8": {
                "violates": {"client": ["mtls.revoked-http", "mtls.revoked-grpc"], "cluster": [_HIDDEN]},
                "not-verified": {"cluster": ["config.unknown-key"]},
            },
        },
    ),
    _hidden_rule(
        "client-hostname",
        "the flag for the allowed hostname of clients",
        {"client": ["mtls.wrong-hostname", "config.allowed-names-in-force"]},
        pki=_NAMED_CLIENT,
        client_cert_allowed_hostname="localhost",
    ),
    _hidden_rule(
        "peer-hostname",
        "the flag for the allowed hostname of peers",
        {"peer": ["mtls.wrong-peer-hostname", "config.allowed-names-in-force"]},
        peer_cert_allowed_hostname="localhost",
    ),
    _hidden_rule(
        "peer-cn",
        "the flag for the allowed common name of peers",
        {"peer": ["mtls.wrong-cn", "config.allowed-names-in-force"]},
        peer_cert_allowed_cn=str(PEER.common_name),
    ),
    Misconfigured(
        name="client-hostname-not-the-declared-one",
        what="etcd was started with another allowed hostname of clients than is declared",
        config=replace(BROKEN, pki=_TWO_NAMES, client_cert_allowed_hostname="localhost"),
        etcd=rewritten_arguments("(--client-cert-allowed-hostname=).*", r"\1elsewhere.example"),
        violated={"client": ["config.allowed-names-in-force"]},
        warned={"client": ["api.gateway-works"]},
        # The served certificate has no such name.
        not_warned={"client": ["mtls.server-certificate-as-client"]},
        not_verified={"client": ["mtls.wrong-hostname", *_NO_COUNTERPART]},
    ),
    Misconfigured(
        name="peer-cn-not-the-declared-one",
        what="etcd was started with another allowed common name of peers than is declared",
        config=replace(BROKEN, peer_cert_allowed_cn="somebody"),
        etcd=rewritten_arguments("(--peer-cert-allowed-cn=).*", rf"\1{PEER.common_name}"),
        violated={"peer": ["config.allowed-names-in-force"]},
        not_verified={"peer": ["mtls.wrong-cn", "mtls.wrong-san", *_NO_COUNTERPART]},
    ),
    Misconfigured(
        name="peer-san-unchecked",
        what="the SAN check is disabled on the peer port",
        faults=("mtls.wrong-san",),
        config=replace(BROKEN, peer_skip_client_san_verification=True),
        violated={"peer": ["mtls.wrong-san"]},
        warned={"cluster": ["config.san-check-off"]},
        lines=("3.4", "3.5", "3.6"),
    ),
]
