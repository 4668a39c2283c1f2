"""The file that a listener was told to serve, and what it serves."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from pytest_etcdtls.checks.cert_trust import shown_in_full
from pytest_etcdtls.declared.file_facts import DeclaredLeaf
from pytest_etcdtls.observations.chain import ServedChain
from pytest_etcdtls.pki.identities import self_signed
from pytest_etcdtls.registry import check
from pytest_etcdtls.reproduce import show_file, show_leaf
from pytest_etcdtls.results import Finding, Statement
from pytest_etcdtls.target import Role


def _another(chain: ServedChain, declared: DeclaredLeaf) -> Mapping[str, Any]:
    return {"chain": replace(chain, certificates=self_signed().chain)}


@check("config.served-file", on={Role.CLIENT, Role.CLIENT_HTTP, Role.METRICS}, counterexample=_another)
def the_declared_file_is_served(chain: ServedChain, declared: DeclaredLeaf) -> Iterator[Statement]:
    """The certificate in the declared file is the one that is served.

    etcd reads the file at each handshake, so another certificate on the wire means another file, another
    etcd, or something in between: a declaration that was changed and never applied, a certificate that was
    renewed in the wrong place, a proxy.

    Spec: etcd --cert-file
    Spec: CIS Kubernetes 2.1
    Severity: high
    Level: MUST
    Remediation: put the certificate and its key where the etcd that runs reads them, or restart it with the
        declaration as it is now.
    """
    yield from _compared(chain, declared)


@check("config.peer-served-file", on={Role.PEER}, counterexample=_another)
def the_declared_file_is_served_to_peers(chain: ServedChain, declared: DeclaredLeaf) -> Iterator[Statement]:
    """The certificate in the declared file is the one that is served to peers.

    etcd reads the file at each handshake, so another certificate on the wire means another file, another
    etcd, or something in between: a declaration that was changed and never applied, a certificate that was
    renewed in the wrong place, a proxy.

    Spec: etcd --peer-cert-file
    Spec: CIS Kubernetes 2.4
    Severity: high
    Level: MUST
    Remediation: put the certificate and its key where the etcd that runs reads them, or restart it with the
        declaration as it is now.
    """
    yield from _compared(chain, declared)


def _compared(chain: ServedChain, declared: DeclaredLeaf) -> Iterator[Statement]:
    if chain.leaf != declared.certificate:
        yield Finding(
            message="another certificate is served than that of the declared file",
            expected=f"{shown_in_full(declared.certificate)} ({declared.source})",
            observed=shown_in_full(chain.leaf),
            evidence={"declared": declared.said},
            reproduce=(show_file(declared.source), show_leaf(chain.url)),
        )
