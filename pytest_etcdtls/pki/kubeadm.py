"""kubeadm's etcd PKI: its profiles, the names of a node, and where each file is.

Follows kubeadm's certificate list (``cmd/kubeadm/app/phases/certs``).
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Final

from cryptography import x509

from pytest_etcdtls.pki.authority import general_name
from pytest_etcdtls.pki.pki_plan import MemberNames
from pytest_etcdtls.pki.profile import Profile

_ONE_YEAR = timedelta(days=365)
_BACKDATED = timedelta(minutes=-5)

CA_COMMON_NAME: Final = "etcd-ca"

AUTHORITY: Final = Profile(
    common_name=CA_COMMON_NAME,
    subject_alt_names=(CA_COMMON_NAME,),
    key_usage=frozenset({"digitalSignature", "keyEncipherment", "keyCertSign"}),
    valid_from=_BACKDATED,
    valid_for=10 * _ONE_YEAR - _BACKDATED,
    ca=True,
    authority_key_identifier=False,
)
"""``etcd/ca.crt``, ten years; client-go's ``NewSelfSignedCACert`` puts the CN in as a DNS name."""

_LEAF = Profile(
    common_name=None,
    key_usage=frozenset({"digitalSignature", "keyEncipherment"}),
    extended_key_usage=("clientAuth",),
    valid_from=_BACKDATED,
    valid_for=_ONE_YEAR - _BACKDATED,
    subject_key_identifier=False,
)

NODE: Final = replace(_LEAF, subject_alt_names=None, extended_key_usage=("serverAuth", "clientAuth"))
"""``etcd/server.crt`` and ``etcd/peer.crt``; the common name is the node's."""

HEALTHCHECK_CLIENT: Final = replace(_LEAF, common_name="kube-etcd-healthcheck-client")
APISERVER_ETCD_CLIENT: Final = replace(_LEAF, common_name="kube-apiserver-etcd-client")

PATHS: Final = {
    "client-ca.crt": "etcd/ca.crt",
    "client-ca.key": "etcd/ca.key",
    "server-ca.crt": "etcd/ca.crt",
    "server-ca.key": "etcd/ca.key",
    "peer-ca.crt": "etcd/ca.crt",
    "peer-ca.key": "etcd/ca.key",
    "server.crt": "etcd/server.crt",
    "server.key": "etcd/server.key",
    "peer.crt": "etcd/peer.crt",
    "peer.key": "etcd/peer.key",
    "peer-client.crt": "etcd/healthcheck-client.crt",
    "peer-client.key": "etcd/healthcheck-client.key",
    "client.crt": "apiserver-etcd-client.crt",
    "client.key": "apiserver-etcd-client.key",
}
"""Paths of a node's files below its PKI directory, by the logical names of the other layouts."""


def node_names(member: MemberNames) -> tuple[str, ...]:
    """Return the subjectAltNames of a node: its name, localhost, its addresses, 127.0.0.1, ::1.

    DNS names come first, in alphabetical order, as Go and kubeadm's ``RemoveDuplicateAltNames`` order them.
    """
    names = {member.name, "localhost", *member.hosts, "127.0.0.1", "::1"}
    addresses = {name for name in names if isinstance(general_name(name), x509.IPAddress)}
    return (*sorted(names - addresses), *sorted(addresses))
