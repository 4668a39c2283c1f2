"""The expected warnings of a conforming cluster, by etcd: SHOULD checks that defaults do not satisfy.

A member of the zoo has the same warnings unless it has other expectations.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.pki.profile import CALayout, KeyType

_UNCHECKED = "advisory.cve-2026-33413-inferred"
_STALLED = "advisory.ghsa-6vch-q96h-7gc3-inferred"
_GO = "advisory.go-runtime"

OF_CLUSTER: Mapping[str, Iterable[str]] = {
    **dict.fromkeys(
        ("3.4", "3.5.1", "3.5.15", "3.5.16", "3.5.24", "3.6.5", "3.6.6"), (_UNCHECKED, _STALLED, _GO)
    ),
    "3.6.8": (_UNCHECKED, _STALLED),
    "3.7.0": (_STALLED,),
    "3.8.0-alpha.0": (_STALLED,),
}
"""On the whole target: advisories that a release, or a line, is affected by."""

BUILT_BY: Mapping[str, int] = {
    **{"3.4": 19, "3.5.1": 16, "3.5.15": 21, "3.5.16": 22},
    **dict.fromkeys(("3.5.24", "3.6.5", "3.6.6", "3.6.8"), 24),
}
"""The minor version of Go that an etcd is built with, where it is older than 1.25."""

OF_GO_BEFORE = {24: "tls.hybrid-group", 25: "tls.sha1-signature"}
OF_GO_WITH_RSA_BEFORE = {22: "tls.rsa-key-exchange", 23: "tls.triple-des"}
"""On every https listener: what an older Go does by default."""

OF_TLS12_ALONE = {"tls.tls13-offered", "tls.alpn-unknown-refused", "tls.sha1-signature"}
"""In the place of the former with etcd 3.5.1."""


V = TypeVar("V")


def _of(version: str, values: Mapping[str, V], other: V) -> V:
    return next((values[of] for of in values if version == of or version.startswith(f"{of}.")), other)


def warned(version: str, *, rsa: bool = False) -> dict[str, set[str]]:
    """Return the warnings of a conforming cluster of that version, by listener.

    Args:
        rsa: what it serves has RSA keys.
    """
    go = _of(version, BUILT_BY, 26)
    of_go = {check for first, check in OF_GO_BEFORE.items() if go < first}
    if version == "3.5.1":
        of_go = OF_TLS12_ALONE
    of_rsa = {check for first, check in OF_GO_WITH_RSA_BEFORE.items() if rsa and go < first}
    everywhere = {"tls.cbc-suites", *of_go, *of_rsa}
    # The gateway dials etcd with the served pair; before 3.5 there is no other way.
    of_client = set() if version.startswith("3.4.") else {"mtls.server-certificate-as-client"}
    found = {"client": everywhere | of_client, "peer": everywhere, "cluster": {*_of(version, OF_CLUSTER, ())}}
    return {listener: ids for listener, ids in found.items() if ids}


def of(config: ClusterConfig, version: str) -> dict[str, set[str]]:
    """Return the warnings of a cluster of that configuration which has no fault, by listener."""
    kind = config.pki.key_type
    kubeadm = kind is None and config.pki.layout is CALayout.KUBEADM
    found = warned(version, rsa=kubeadm or kind in (KeyType.RSA_2048, KeyType.RSA_4096))
    further = {"client-http": config.client_http, "metrics": config.metrics == "https"}
    # Where TLS is as on the peer port.
    return {**found, **{listener: found["peer"] for listener, there in further.items() if there}}
