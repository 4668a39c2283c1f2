"""Declared client authentication that is dropped, verifies against others, or does not apply."""

from collections.abc import Iterator

from pytest_etcdtls.checks.config_traps import judge_traps, trap_check
from pytest_etcdtls.declared.standing import Declarations
from pytest_etcdtls.results import Statement


@trap_check("auto-tls-drops-client-auth")
def generated_certificates_drop_nothing(declarations: Declarations) -> Iterator[Statement]:
    """Nothing that is declared for clients is dropped because certificates are generated.

    With --auto-tls and no certificate etcd replaces all of that side's TLS settings, client-cert-auth and
    trusted CA included, and starts without an error. A reader of the flags sees client authentication on.

    Spec: etcd --auto-tls, --peer-auto-tls
    Spec: etcd THREAT_MODEL.md, Client-to-Server Boundary
    Severity: critical
    Level: MUST
    Remediation: give --cert-file and --key-file and remove --auto-tls; for peers --peer-cert-file,
        --peer-key-file and --peer-auto-tls.
    """
    yield from judge_traps(declarations, "auto-tls-drops-client-auth")


@trap_check("auto-tls-ignored")
def nothing_is_declared_as_generated_that_is_not(declarations: Declarations) -> Iterator[Statement]:
    """--auto-tls does not stand beside a certificate.

    etcd then ignores it and warns in its log. Who reads the flags takes the served certificate for a
    generated one, and once the certificate is removed from the declaration, everybody is let in.

    Spec: etcd --auto-tls, --peer-auto-tls
    Severity: low
    Level: SHOULD
    Remediation: remove --auto-tls and --peer-auto-tls.
    """
    yield from judge_traps(declarations, "auto-tls-ignored")


@trap_check("client-auth-without-ca")
def client_authentication_has_a_bundle(declarations: Declarations) -> Iterator[Statement]:
    """Client authentication is declared together with the CA of the clients.

    Alone it verifies clients against the root store of the system: whoever has a certificate of any public
    CA is let in, and the cluster's own clients are refused.

    Spec: etcd --client-cert-auth, --trusted-ca-file
    Spec: etcd --peer-client-cert-auth, --peer-trusted-ca-file
    Spec: etcd THREAT_MODEL.md, Client-to-Server Boundary
    Severity: critical
    Level: MUST
    Remediation: give --trusted-ca-file with the CA that signs clients, --peer-trusted-ca-file with that of
        the members.
    """
    yield from judge_traps(declarations, "client-auth-without-ca")


@trap_check("trusted-ca-alone")
def a_bundle_has_client_authentication(declarations: Declarations) -> Iterator[Statement]:
    """A trusted CA is declared together with client authentication.

    From 3.4 on a bundle alone enforces client certificates, so that a reader of the flags fails a cluster
    that is closed; in 3.3 it does nothing. The common name of a certificate is no user's name then.

    Spec: etcd --trusted-ca-file, --client-cert-auth
    Severity: low
    Level: SHOULD
    Remediation: say what is meant: --client-cert-auth=true, --peer-client-cert-auth=true.
    """
    yield from judge_traps(declarations, "trusted-ca-alone")


@trap_check("http-listener-beside-tls")
def no_plaintext_is_declared_beside_tls(declarations: Declarations) -> Iterator[Statement]:
    """No http listener is declared beside TLS settings of the same side.

    Those apply to https URLs only; the other answers everybody, also on the very same port. etcd opens one
    unasked where TLS is declared and no listening URL is.

    Spec: etcd --listen-client-urls, --listen-peer-urls
    Spec: etcd THREAT_MODEL.md, Client-to-Server Boundary
    Severity: critical
    Level: MUST
    Remediation: name https URLs only in --listen-client-urls, --listen-client-http-urls and
        --listen-peer-urls.
    """
    yield from judge_traps(declarations, "http-listener-beside-tls")
