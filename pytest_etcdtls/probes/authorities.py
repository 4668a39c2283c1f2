"""Which CAs are in use on a listener, and which is that of Kubernetes. Makes no connection of its own."""

from __future__ import annotations

from datetime import UTC, datetime

from cryptography import x509

from pytest_etcdtls.errors import NotApplicableError, NotVerifiedError, UnobservedError
from pytest_etcdtls.observations.admission import Acceptance
from pytest_etcdtls.observations.chain import AnnouncedCAs, CAsInUse, ClientTrust, Issuers, KubernetesCA
from pytest_etcdtls.pki.path import find_path
from pytest_etcdtls.probes.contact import listener_of
from pytest_etcdtls.probes.credentials import GoodIdentities
from pytest_etcdtls.probes.registry import Context, probe


@probe(KubernetesCA, cost=0)
def _kubernetes(context: Context, key: str | None) -> KubernetesCA:
    bundle = context.target.kubernetes_ca
    if bundle is None and context.target.origin != "live":
        raise NotApplicableError("this cluster was started here and serves no Kubernetes")
    if bundle is None:
        raise NotVerifiedError(
            "needs the CA of the Kubernetes cluster that the etcd serves: pass --etcd-kubernetes-ca "
            "(/etc/kubernetes/pki/ca.crt)"
        )
    return KubernetesCA(certificates=bundle.certificates, source=bundle.source)


@probe(
    CAsInUse, cost=0, needs=[(AnnouncedCAs, None), (Issuers, None), (ClientTrust, None), (Acceptance, None)]
)
def _in_use(context: Context, key: str | None) -> CAsInUse:
    announced = context.get(AnnouncedCAs)
    issuers = _certificates(context, Issuers)
    trusted = _certificates(context, ClientTrust)
    return CAsInUse(
        url=listener_of(context).url,
        known=(
            *((found, "issued what is served") for found in issuers),
            *((found, "is trusted for clients") for found in trusted),
            *((found, "has signed the client that is let in") for found in _of_the_accepted(context)),
        ),
        announced=tuple(dict.fromkeys(name for _, names in announced.names for name in names)),
        trust_is_known=bool(trusted),
    )


def _of_the_accepted(context: Context) -> tuple[x509.Certificate, ...]:
    """Return the CAs at hand that have signed the accepted client where certificates are asked for.

    Such a CA is trusted there, whatever is known of the bundle.
    """
    try:
        accepted = context.get(Acceptance).accepted
    except UnobservedError:
        return ()
    if accepted is None or not any(requested for _, requested in context.get(AnnouncedCAs).requested):
        return ()
    known = {one.name: one for one in context.get(GoodIdentities).identities}
    leaf, *sent = known[accepted.identity].chain
    bundles = (context.target.kubernetes_ca, context.target.client.server_ca, context.target.peer.server_ca)
    anchors = [found for bundle in bundles if bundle for found in bundle.certificates]
    path = find_path(leaf, sent, anchors, datetime.now(UTC))
    return path[-1:] if path else ()


def _certificates(context: Context, type_: type[Issuers] | type[ClientTrust]) -> tuple[x509.Certificate, ...]:
    try:
        return context.get(type_).certificates
    except UnobservedError:
        return ()
