"""Traps about who is let in: client authentication that is declared and not in force, or the reverse."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_etcdtls.declared.declaration import Setting
from pytest_etcdtls.declared.effective_listener import EffectiveListener
from pytest_etcdtls.declared.sides import Admission, TLSSide, prefix
from pytest_etcdtls.declared.trap import Situation, Trap, spellings, urls
from pytest_etcdtls.declared.version import version_key
from pytest_etcdtls.role import Role


def generated_certificates(situation: Situation) -> Iterator[Trap]:
    """``--auto-tls`` replaces all that is declared for TLS on its side."""
    for side in situation.sides():
        p = prefix(side.side)
        auto = situation.settings(f"{p}auto-tls")
        if not auto or not auto[0].on:
            continue
        dropped = tuple(
            setting for setting in _of_side(situation, side) if setting.value and setting.value != "false"
        )
        if side.generated and dropped:
            yield Trap(
                id="auto-tls-drops-client-auth",
                summary=f"--{p}auto-tls lets anybody in: {spellings(dropped)} beside it are dropped",
                why="etcd generates a certificate and with it all of that side's TLS settings anew; what is "
                "declared for client certificates, names and revocation is lost without an error, on all of "
                "3.4 to 3.7.",
                remedy=f"give --{p}cert-file and --{p}key-file and remove --{p}auto-tls",
                settings=(*auto, *dropped),
                listeners=urls(situation.secure(side.side)),
            )
        elif not side.generated:
            yield Trap(
                id="auto-tls-ignored",
                summary=f"--{p}auto-tls is ignored, since a certificate is given",
                why="etcd only warns about it in its log; what is served is the certificate that is "
                "declared.",
                remedy=f"remove --{p}auto-tls",
                settings=(*auto, *situation.settings(f"{p}cert-file")),
            )


def _of_side(situation: Situation, side: TLSSide) -> tuple[Setting, ...]:
    p = prefix(side.side)
    return situation.settings(
        f"{p}client-cert-auth",
        f"{p}trusted-ca-file",
        f"{side.side}-crl-file",
        f"{side.side}-cert-allowed-hostname",
        f"{side.side}-cert-allowed-cn",
    )


def no_bundle(situation: Situation) -> Iterator[Trap]:
    """``--client-cert-auth`` without a trusted CA means the system's root store."""
    for side in situation.sides():
        p = prefix(side.side)
        secure = situation.secure(side.side)
        if side.admission is not Admission.SYSTEM_ROOTS or not secure:
            continue
        roots = situation.declaration.go_environment.get("SSL_CERT_FILE")
        yield Trap(
            id="client-auth-without-ca",
            summary=f"--{p}client-cert-auth without --{p}trusted-ca-file lets in whoever has a certificate "
            f"of any CA in {roots or 'the root store of the system'}, and refuses the cluster's own clients",
            why="without a bundle Go verifies client certificates against the roots that it would verify web "
            "sites with.",
            remedy=f"give --{p}trusted-ca-file with the CA that signs the {'members' if p else 'clients'}",
            settings=situation.settings(f"{p}client-cert-auth"),
            listeners=urls(secure),
        )


def bundle_alone(situation: Situation) -> Iterator[Trap]:
    """A trusted CA alone enforces client certificates from 3.4 on, and nothing in 3.3."""
    old = version_key(situation.version) < (3, 4)
    for side in situation.sides():
        p = prefix(side.side)
        given = situation.settings(f"{p}trusted-ca-file")
        asks = situation.seen.on(f"{p}client-cert-auth")
        if not given or asks or side.generated or not situation.secure(side.side) or (p and not old):
            continue
        yield Trap(
            id="trusted-ca-alone",
            summary=f"--{p}trusted-ca-file alone lets anybody in"
            if old
            else "--trusted-ca-file alone enforces client certificates, though --client-cert-auth is not on, "
            "but the CN of a certificate is no user's name",
            why="etcd 3.3 verifies clients only if it is told to authenticate them; from 3.4 on a bundle is "
            "enough for TLS, while authentication by CN still asks for the switch.",
            remedy=f"say what is meant: --{p}client-cert-auth=true",
            settings=(*given, *situation.settings(f"{p}client-cert-auth")),
            listeners=urls(situation.secure(side.side)),
        )


def plaintext_beside_tls(situation: Situation) -> Iterator[Trap]:
    """An ``http`` listener answers everybody, whatever is declared for TLS."""
    for side in situation.sides():
        plain = tuple(found for found in situation.effective.listeners if _is_open(found, side))
        if not plain or not (side.has_certificate or side.admission is not Admission.ANYBODY):
            continue
        unasked = [found for found in plain if found.declared.setting is None]
        shared = [found for found in plain if found.tls]
        summary = f"{', '.join(urls(plain))} answers anybody in plaintext, whatever is declared for TLS"
        if unasked:
            summary += "; etcd opens it because no listening URL is given"
        if shared:
            summary += "; it is the very port that speaks TLS"
        p = prefix(side.side)
        yield Trap(
            id="http-listener-beside-tls",
            summary=summary,
            why="etcd's TLS settings apply to https:// URLs only; on the others everything can be read and "
            "written without a certificate. The log warns once, at start.",
            remedy=f"write https:// in --listen-{side.side}-urls, or remove the URL",
            settings=(
                *dict.fromkeys(found.declared.setting for found in plain if found.declared.setting),
                *situation.settings(f"{p}client-cert-auth", f"{p}cert-file"),
            ),
            listeners=urls(plain),
        )


def _is_open(listener: EffectiveListener, side: TLSSide) -> bool:
    roles = (Role.PEER,) if side.side == "peer" else (Role.CLIENT, Role.CLIENT_HTTP)
    return listener.plaintext and listener.role in roles and not listener.url.is_socket


CLIENT_AUTH_TRAPS = (
    generated_certificates,
    no_bundle,
    bundle_alone,
    plaintext_beside_tls,
)
