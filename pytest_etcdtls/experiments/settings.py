"""All clusters that experiments are made on, and which experiments: one table.

Experiments share a cluster where they do not touch: those of one port leave the other alone, and those that
replace files put them back. Each is judged with controls of its own, so that what one has spoiled is not
taken for the result of the next. What cannot be undone, authentication, comes last.
"""

from __future__ import annotations

from dataclasses import replace

from pytest_etcdtls.cluster.config import ClusterConfig
from pytest_etcdtls.experiments import (
    bundles,
    dialling,
    foreign_member,
    names,
    pairs,
    protocol,
    revocation,
    users,
)
from pytest_etcdtls.experiments.setting import setting
from pytest_etcdtls.observations.cipher_suites import suite_name
from pytest_etcdtls.pki.plan import PKIPlan
from pytest_etcdtls.pki.profile import CLIENT, PEER, SERVER
from pytest_etcdtls.target import Role

FILES = setting(
    "files",
    ClusterConfig(client_crl_file=revocation.CRL_FILE, peer_crl_file=revocation.CRL_FILE),
    {
        "rotation-loses-no-request": pairs.renewals,
        "leaf-reload": lambda bench: pairs.reload(bench, Role.CLIENT),
        "peer-leaf-reload": lambda bench: pairs.reload(bench, Role.PEER),
        "half-pair-refused": pairs.half_a_pair,
        "crl-reload": revocation.reload,
        "crl-encoding": revocation.encoding,
        "ca-bundle": bundles.bundle,
    },
)

NAMES = setting(
    "names",
    ClusterConfig(
        pki=PKIPlan(client=replace(CLIENT, subject_alt_names=(names.ADMITTED,))),
        client_cert_allowed_hostname=names.ADMITTED,
        peer_cert_allowed_cn=PEER.common_name,
    ),
    {
        "allowed-hostname": names.client_hostname,
        "peer-allowed-cn": names.peer_cn,
        "peer-san": names.peer_san,
    },
)

USERS_AND_PEER_HOSTNAME = setting(
    "users-and-peer-hostname",
    # The weakest hash of passwords that etcd has, since nobody attacks them here.
    ClusterConfig(peer_cert_allowed_hostname=names.ADMITTED, extra_flags=("--bcrypt-cost=4",)),
    {"peer-allowed-hostname": names.peer_hostname, "users": users.users},
)

FLOOR = setting(
    "floor",
    ClusterConfig(tls_min_version="TLS1.3"),
    {"version-floor": lambda bench: protocol.versions(bench, "version-floor")},
)

CEILING = setting(
    "ceiling",
    ClusterConfig(tls_max_version="TLS1.2"),
    {"version-ceiling": lambda bench: protocol.versions(bench, "version-ceiling")},
)

SUITES = setting(
    "suites",
    ClusterConfig(cipher_suites=tuple(suite_name(code) for code in protocol.LISTED)),
    {"cipher-suites": protocol.suites},
)

DIALLING = setting(
    "dialling",
    ClusterConfig(
        pki=PKIPlan(server=replace(SERVER, extended_key_usage=("serverAuth",))),
        client_cert_file="client.crt",
        client_key_file="client.key",
    ),
    {"separate-client-certificate": dialling.separate},
)

THREE_MEMBERS = setting(
    "three-members",
    ClusterConfig(size=3),
    {"member-with-foreign-certificate-cannot-join": foreign_member.comes_back},
)
