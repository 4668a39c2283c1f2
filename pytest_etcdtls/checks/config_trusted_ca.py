"""The declared CA bundle is the one that is trusted: by the names announced, and by who is let in."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from cryptography import x509

from pytest_etcdtls.checks.config_in_force import not_in_force, undeclared
from pytest_etcdtls.declared.beside import DeclaredBundle
from pytest_etcdtls.declared.standing import ListenerDeclaration
from pytest_etcdtls.observations.chain import AnnouncedCAs
from pytest_etcdtls.registry import check
from pytest_etcdtls.reproduce import ANNOUNCED, s_client
from pytest_etcdtls.results import Finding, Outcome, Statement, Verdict
from pytest_etcdtls.target import Role


def _another(
    declaration: ListenerDeclaration, bundle: DeclaredBundle, announced: AnnouncedCAs
) -> Mapping[str, Any]:
    foreign = x509.Name(list(bundle.certificates[0].subject.rdns) * 2)
    return {
        "announced": replace(announced, names=tuple((version, (foreign,)) for version, _ in announced.names))
    }


@check(
    "config.trusted-ca-in-force",
    on={Role.CLIENT, Role.CLIENT_HTTP, Role.METRICS},
    counterexample=_another,
)
def the_declared_bundle_is_trusted(
    declaration: ListenerDeclaration, bundle: DeclaredBundle, announced: AnnouncedCAs
) -> Iterator[Statement]:
    """The CAs that are trusted are those in the declared bundle, as the file is now.

    etcd reads --trusted-ca-file at its start only: a CA that was added is refused, and one that was taken out
    is trusted, until it is restarted.

    Spec: etcd --trusted-ca-file
    Spec: RFC 8446 section 4.2.4
    Spec: CIS Kubernetes 2.7
    Severity: high
    Level: MUST
    Remediation: restart etcd, which reads the bundle at its start only; give --trusted-ca-file where etcd
        reads it.
    """
    yield from _judge(declaration, bundle, announced)


@check("config.peer-trusted-ca-in-force", on={Role.PEER}, counterexample=_another)
def the_declared_bundle_of_peers_is_trusted(
    declaration: ListenerDeclaration, bundle: DeclaredBundle, announced: AnnouncedCAs
) -> Iterator[Statement]:
    """The CAs that are trusted for peers are those in the declared bundle, as the file is now.

    etcd reads --peer-trusted-ca-file at its start only: a CA that was added is refused, and one that was
    taken out is trusted, until it is restarted.

    Spec: etcd --peer-trusted-ca-file
    Spec: RFC 8446 section 4.2.4
    Spec: CIS Kubernetes 2.7
    Severity: high
    Level: MUST
    Remediation: restart etcd, which reads the bundle at its start only; give --peer-trusted-ca-file where
        etcd reads it.
    """
    yield from _judge(declaration, bundle, announced)


def _judge(
    declaration: ListenerDeclaration, bundle: DeclaredBundle, announced: AnnouncedCAs
) -> Iterator[Statement]:
    if declaration.listener is None:
        yield from undeclared(declaration)
        return
    wanted = {certificate.subject.public_bytes() for certificate in bundle.certificates}
    names = dict(announced.names)
    for version, requested in announced.requested:
        if not requested:
            yield _differs(declaration, bundle, announced, f"{version}: no certificate is asked for")
        elif bundle.absent and names[version]:
            continue
        elif {name.public_bytes() for name in names[version]} != wanted:
            shown = ", ".join(sorted(name.rfc4514_string() for name in names[version]))
            yield _differs(declaration, bundle, announced, f"{version}: {shown or 'no CA'}")
        else:
            continue
        return
    if bundle.strangers:
        observed = f"{', '.join(bundle.strangers)} is let in, which no declared CA can have signed"
        yield _differs(declaration, bundle, announced, observed)
    elif bundle.absent:
        yield Verdict(Outcome.NOT_VERIFIED, bundle.absent)
    elif bundle.accepted is not None and not bundle.signed:
        yield _differs(
            declaration,
            bundle,
            announced,
            f"{bundle.accepted} is let in, whose certificate none of them has signed: the trusted CA has "
            "the same name and another key",
        )


def _differs(
    declaration: ListenerDeclaration, bundle: DeclaredBundle, announced: AnnouncedCAs, observed: str
) -> Finding:
    subjects = sorted(certificate.subject.rfc4514_string() for certificate in bundle.certificates)
    subjects = subjects or ["the CAs in that file"]
    return not_in_force(
        declaration,
        bundle.setting,
        expected=f"trusted: {', '.join(subjects)} ({bundle.source})",
        observed=observed,
        reproduce=(s_client(announced.url, look=ANNOUNCED),),
    )
