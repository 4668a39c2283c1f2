"""Which CAs are in use on a listener, and which is that of Kubernetes. Makes no connection of its own."""

from __future__ import annotations

from cryptography import x509

from pytest_etcdtls.errors import NotApplicableError, NotVerifiedError, UnobservedError
from pytest_etcdtls.observations.chain import AnnouncedCAs, CAsInUse, ClientTrust, Issuers, KubernetesCA
from pytest_etcdtls.probes.contact import listener_of
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


@probe(CAsInUse, cost=0, needs=[(AnnouncedCAs, None), (Issuers, None), (ClientTrust, None)])
def _in_use(context: Context, key: str | None) -> CAsInUse:
    announced = context.get(AnnouncedCAs)
    issuers = _certificates(context, Issuers)
    trusted = _certificates(context, ClientTrust)
    return CAsInUse(
        url=listener_of(context).url,
        known=(
            *((found, "issued what is served") for found in issuers),
            *((found, "is trusted for clients") for found in trusted),
        ),
        announced=tuple(dict.fromkeys(name for _, names in announced.names for name in names)),
        trust_is_known=bool(trusted),
    )


def _certificates(context: Context, type_: type[Issuers] | type[ClientTrust]) -> tuple[x509.Certificate, ...]:
    try:
        return context.get(type_).certificates
    except UnobservedError:
        return ()
