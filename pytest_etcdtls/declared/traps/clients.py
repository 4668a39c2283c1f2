"""Settings with which etcd accepts other clients than they appear to say."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_etcdtls.declared.cures import SAN_CHECK_OFF, client_certificates, https, without
from pytest_etcdtls.declared.declaration import FLAGS, Setting, declared_listeners, roots_in_words
from pytest_etcdtls.declared.effective import (
    ClientAuthentication,
    Effective,
    EffectiveListener,
    TLSSide,
    is_served,
    prefix,
)
from pytest_etcdtls.declared.traps.trap import (
    FoundTrap,
    spellings,
    trap,
    urls,
)
from pytest_etcdtls.role import Role
from pytest_etcdtls.versions import has_since, version_key


@trap("auto-tls-drops-client-auth", cure=client_certificates)
def auto_tls_keeps_client_authentication(etcd: Effective, side: TLSSide) -> Iterator[FoundTrap]:
    """--auto-tls does not disable declared client authentication.

    With --auto-tls and no certificate, etcd replaces all TLS settings of that side, including
    client-cert-auth and the trusted CA, and starts without an error. Every client is accepted, although the
    flags say that client authentication is on.

    Spec: etcd --auto-tls, --peer-auto-tls
    Spec: etcd THREAT_MODEL.md, Client-to-Server Boundary
    Follows: config.unknown-*
    Severity: critical
    Level: MUST
    Remediation: give --cert-file and --key-file and remove --auto-tls; for peers --peer-cert-file,
        --peer-key-file and --peer-auto-tls.
    """
    p = prefix(side.side)
    names = (f"{p}client-cert-auth", f"{p}trusted-ca-file")
    of_side = (f"{side.side}-{name}" for name in ("crl-file", "cert-allowed-hostname", "cert-allowed-cn"))
    given = etcd.settings(*names, *of_side)
    dropped = tuple(setting for setting in given if setting.value not in ("", "false"))
    if side.generated and dropped:
        yield FoundTrap(
            summary=f"--{p}auto-tls accepts every client: it disables {spellings(dropped)}",
            remedy=f"give --{p}cert-file and --{p}key-file and remove --{p}auto-tls",
            settings=(*etcd.settings(f"{p}auto-tls"), *dropped),
            listeners=etcd.secure_urls(side),
        )


@trap("auto-tls-ignored")
def auto_tls_is_not_ignored(etcd: Effective, side: TLSSide) -> Iterator[FoundTrap]:
    """--auto-tls is not declared together with a certificate.

    etcd then ignores --auto-tls and warns in its log. A reader of the flags takes the served certificate for
    a generated one. If the certificate is later removed from the declaration, every client is accepted.

    Spec: etcd --auto-tls, --peer-auto-tls
    Severity: low
    Level: SHOULD
    Remediation: remove --auto-tls and --peer-auto-tls.
    """
    p = prefix(side.side)
    if etcd.seen.on(f"{p}auto-tls") and not side.generated:
        yield FoundTrap(
            summary=f"--{p}auto-tls is ignored, since a certificate is given",
            remedy=f"remove --{p}auto-tls",
            settings=etcd.settings(f"{p}auto-tls", f"{p}cert-file"),
        )


@trap("client-auth-without-ca", cure=client_certificates)
def client_authentication_has_a_bundle(etcd: Effective, side: TLSSide) -> Iterator[FoundTrap]:
    """Client authentication is declared together with a CA for clients.

    Without that CA, etcd verifies clients against the system's root store: any client with a certificate of a
    public CA is accepted, and the cluster's own clients are refused, unless their CA is in it. The variables
    SSL_CERT_FILE and SSL_CERT_DIR name another store; one of them alone adds to a part of the system's.

    Spec: etcd --client-cert-auth, --trusted-ca-file
    Spec: etcd --peer-client-cert-auth, --peer-trusted-ca-file
    Spec: etcd THREAT_MODEL.md, Client-to-Server Boundary
    Follows: config.unknown-*
    Severity: critical
    Level: MUST
    Remediation: give --trusted-ca-file with the CA that issues client certificates, and
        --peer-trusted-ca-file with the CA of the members.
    """
    p = prefix(side.side)
    if side.client_auth is ClientAuthentication.SYSTEM_ROOTS and etcd.secure(side):
        yield FoundTrap(
            summary=f"--{p}client-cert-auth without --{p}trusted-ca-file accepts every client with a "
            f"certificate of any CA in {roots_in_words(etcd.member.declaration)}, and no other client",
            remedy=f"give --{p}trusted-ca-file with the CA that signs the {'members' if p else 'clients'}",
            settings=etcd.settings(f"{p}client-cert-auth"),
            listeners=etcd.secure_urls(side),
        )


@trap("trusted-ca-alone", cure=client_certificates)
def a_bundle_has_client_authentication(etcd: Effective, side: TLSSide) -> Iterator[FoundTrap]:
    """A trusted CA is declared together with client authentication.

    From 3.4 on, --trusted-ca-file alone enforces client certificates, so a review of the flags reports an
    open cluster that is in fact protected; in 3.3 it has no effect. Without --client-cert-auth the common
    name of a certificate is not used as a user name.

    Spec: etcd --trusted-ca-file, --client-cert-auth
    Follows: config.unknown-*
    Severity: low
    Level: SHOULD
    Remediation: declare it explicitly: --client-cert-auth=true, --peer-client-cert-auth=true.
    """
    p = prefix(side.side)
    old = version_key(etcd.version) < (3, 4)
    given = etcd.settings(f"{p}trusted-ca-file")
    on = etcd.seen.on(f"{p}client-cert-auth")
    if given and not on and not side.generated and etcd.secure(side) and (old or not p):
        yield FoundTrap(
            summary=f"--{p}trusted-ca-file alone accepts every client"
            if old
            else "--trusted-ca-file alone enforces client certificates, though --client-cert-auth is not "
            "set, but a certificate's CN is not used as a user name",
            remedy=f"declare it explicitly: --{p}client-cert-auth=true",
            settings=(*given, *etcd.settings(f"{p}client-cert-auth")),
            listeners=etcd.secure_urls(side),
        )


@trap("http-listener-beside-tls", cure=https)
def no_http_listener_is_declared_with_tls(etcd: Effective) -> Iterator[FoundTrap]:
    """No http listener is declared together with TLS settings for the same side.

    TLS settings apply to https URLs only. The http listener accepts every client, even on the same port. etcd
    also opens a default http listener where TLS is declared but no listen URL is. Only a port for gRPC alone
    (--listen-client-http-urls) that is listed with both schemes serves TLS alone.

    Spec: etcd --listen-client-urls, --listen-peer-urls
    Spec: etcd THREAT_MODEL.md, Client-to-Server Boundary
    Follows: cluster.peer-urls-https, config.unknown-*
    Severity: critical
    Level: MUST, SHOULD where the http URL is not served
    Remediation: name https URLs only in --listen-client-urls, --listen-client-http-urls and
        --listen-peer-urls.
    """
    for side in etcd.sides.values():
        plain = tuple(found for found in etcd.listeners if _is_open(found, side))
        if plain and (side.generated or side.certificate or side.requests_certificate):
            yield _served_in_plaintext(etcd, side, plain)
    unserved = [each for each in declared_listeners(etcd.seen) if not is_served(each, etcd.seen)]
    if unserved:
        not_served = tuple(str(listener.url) for listener in unserved)
        yield FoundTrap(
            summary=f"{', '.join(not_served)} is not served: with --{FLAGS[Role.CLIENT_HTTP]}, a port of "
            "gRPC that is listed with https too serves TLS alone; without it, the port answers everybody",
            remedy=f"remove the http URL from --{FLAGS[Role.CLIENT]}",
            settings=tuple(dict.fromkeys(listener.setting for listener in unserved if listener.setting)),
            listeners=not_served,
            harmless=True,
        )


def _is_open(listener: EffectiveListener, side: TLSSide) -> bool:
    roles = (Role.PEER,) if side.side == "peer" else (Role.CLIENT, Role.CLIENT_HTTP)
    return listener.plaintext and listener.role in roles and not listener.url.is_socket


def _served_in_plaintext(etcd: Effective, side: TLSSide, plain: tuple[EffectiveListener, ...]) -> FoundTrap:
    settings: list[Setting | None] = [found.declared.setting for found in plain]
    summary = f"{', '.join(urls(plain))} answers every client in plaintext, whatever is declared for TLS"
    if None in settings:
        summary += "; etcd opens it because no listening URL is given"
    if any(found.tls for found in plain):
        summary += "; the same port also serves TLS"
    p = prefix(side.side)
    return FoundTrap(
        summary=summary,
        remedy=f"write https:// in --listen-{side.side}-urls, or remove the URL",
        settings=(
            *dict.fromkeys(filter(None, settings)),
            *etcd.settings(f"{p}client-cert-auth", f"{p}cert-file"),
        ),
        listeners=urls(plain),
    )


@trap("allowed-names-without-client-auth", cure=client_certificates)
def allowed_names_have_client_authentication(etcd: Effective, side: TLSSide) -> Iterator[FoundTrap]:
    """Allowed names are declared together with client authentication.

    etcd compares the names with client certificates, and requests those only with --client-cert-auth or a
    trusted CA. Allowed names alone refuse no client.

    Spec: etcd --client-cert-allowed-hostname, --peer-cert-allowed-cn, --peer-cert-allowed-hostname
    Follows: config.unknown-*
    Severity: critical
    Level: MUST
    Remediation: give --client-cert-auth=true and --trusted-ca-file, for peers --peer-client-cert-auth=true
        and --peer-trusted-ca-file.
    """
    given = etcd.settings(f"{side.side}-cert-allowed-hostname", f"{side.side}-cert-allowed-cn")
    if given and not side.generated and not side.requests_certificate and etcd.secure(side):
        p = prefix(side.side)
        yield FoundTrap(
            summary=f"{spellings(given)} refuses no client: no certificate is requested",
            remedy=f"give --{p}client-cert-auth=true and --{p}trusted-ca-file",
            settings=given,
            listeners=etcd.secure_urls(side),
        )


@trap("allowed-names-as-one")
def a_list_of_names_is_read_as_one(etcd: Effective) -> Iterator[FoundTrap]:
    """A list of allowed names is declared only for an etcd that supports lists.

    Before 3.5.15 etcd reads the whole list as one name. No certificate has that name, so every client is
    refused.

    Spec: etcd --client-cert-allowed-hostname, --peer-cert-allowed-cn, --peer-cert-allowed-hostname
    Severity: high
    Level: MUST
    Remediation: give one name, or upgrade to etcd 3.5.15 or newer.
    """
    for setting in etcd.settings(
        "client-cert-allowed-hostname", "peer-cert-allowed-cn", "peer-cert-allowed-hostname"
    ):
        if "," in setting.value and not has_since(etcd.version, {"3.5": 15}):
            yield FoundTrap(
                summary=f"etcd {etcd.version} reads {setting.written} as one name, so every client "
                "is refused",
                remedy=f"give one name in {setting.spelled}, or upgrade etcd",
                settings=(setting,),
            )


@trap("san-check-off", cure=without(*SAN_CHECK_OFF))
def the_san_rule_is_not_switched_off(etcd: Effective, side: TLSSide) -> Iterator[FoundTrap]:
    """Verification of peer certificate SANs is not disabled.

    Without it a stolen member certificate works from any address.

    Spec: etcd --peer-skip-client-san-verification
    Spec: etcd Documentation, transport security model, notes for TLS authentication
    Follows: mtls.wrong-san
    Severity: medium
    Level: SHOULD
    Remediation: issue member certificates with their addresses and remove the flag, before 3.6
        --experimental-peer-skip-client-san-verification.
    """
    if side.skips_san_rule and side.requests_certificate:
        settings = etcd.settings(
            f"{side.side}-skip-client-san-verification", "experimental-peer-skip-client-san-verification"
        )
        yield FoundTrap(
            summary=f"certificates are accepted from any address: {spellings(settings)} is on",
            remedy="give members certificates with their addresses and remove the flag",
            settings=settings,
        )
