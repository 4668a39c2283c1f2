"""What etcd really does, listener by listener, with what it was told.

Puts declaration, version and what is known of the CRL files together. Opens nothing; whether it is a good
idea is for the traps.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache

from pytest_etcdtls.declared.crl_file import CRLFile
from pytest_etcdtls.declared.declaration import Declaration, Form
from pytest_etcdtls.declared.effective_listener import Effective, EffectiveListener
from pytest_etcdtls.declared.in_force import in_force
from pytest_etcdtls.declared.listeners import DeclaredListener, declared_listeners, split_http
from pytest_etcdtls.declared.member import DeclaredMember
from pytest_etcdtls.declared.sides import SIDES, Admission, CRLEffect, Side, TLSSide, tls_side
from pytest_etcdtls.declared.version import has, version_key
from pytest_etcdtls.observations.attempt import TLSVersion
from pytest_etcdtls.role import Role

CRL_ON_GRPC = {"3.5": 32, "3.6": 13, "3.7": 0}
"""The patch releases that look at a CRL on a client port without HTTP (GHSA-3wh4-j44w-pg92)."""

_VERSIONS = {"TLS1.2": TLSVersion.TLS1_2, "TLS1.3": TLSVersion.TLS1_3}


def effective(
    declaration: Declaration, version: str | None = None, crls: Mapping[str, CRLFile] | None = None
) -> Effective:
    """Return what etcd makes of a declaration.

    Args:
        declaration: of one member.
        version: of etcd; ``None`` takes the declaration's, and today's etcd if that tells none.
        crls: the CRL files that were looked at, by declared path.
    """
    version = version or declaration.version
    seen = in_force(declaration, version)
    crls = crls or {}
    sides: dict[Side, TLSSide] = {
        side: tls_side(seen, side, version, crls.get(seen.text(f"{side}-crl-file") or "")) for side in SIDES
    }
    return Effective(
        version=version,
        listeners=tuple(_listeners(seen, sides, version)),
        sides=sides,
        gateway=_gateway(seen, version),
        pprof=seen.on("enable-pprof") or _debugs(seen, version),
    )


def _listeners(
    declaration: Declaration, sides: Mapping[Side, TLSSide], version: str | None
) -> Iterator[EffectiveListener]:
    declared = declared_listeners(declaration)
    for listener in declared:
        if not listener.url.secure:
            beside = _same_address(listener, declared)
            if beside is None:
                yield EffectiveListener(
                    declared=listener, tls=False, plaintext=True, speaks=_speaks(listener.role, declaration)
                )
            continue
        side = sides["peer" if listener.role is Role.PEER else "client"]
        minimum, maximum = _tls_versions(declaration, version)
        asked = side.admission is not Admission.ANYBODY
        yield EffectiveListener(
            declared=listener,
            tls=True,
            plaintext=_same_address(listener, declared) is not None,
            side=side,
            crl=_crl(listener.role, side, declaration, version),
            san_rule=asked and listener.role in (Role.PEER, Role.METRICS) and not side.skips_san_rule,
            speaks=_speaks(listener.role, declaration),
            minimum=minimum,
            maximum=maximum,
            cipher_suites=declaration.words("cipher-suites"),
        )


def _same_address(
    listener: DeclaredListener, declared: tuple[DeclaredListener, ...]
) -> DeclaredListener | None:
    """Return the listener on the same client port that speaks the other of TLS and plaintext."""
    if listener.role not in (Role.CLIENT, Role.CLIENT_HTTP):
        return None
    return next(
        (
            other
            for other in declared
            if other.role is listener.role
            and other.url.address == listener.url.address
            and other.url.secure is not listener.url.secure
        ),
        None,
    )


def _speaks(role: Role, declaration: Declaration) -> frozenset[str]:
    if role is Role.CLIENT:
        return frozenset({"grpc"}) if split_http(declaration) else frozenset({"grpc", "http"})
    return frozenset({"http"})


def _crl(role: Role, side: TLSSide, declaration: Declaration, version: str | None) -> CRLEffect:
    grpc_alone = role is Role.CLIENT and split_http(declaration)
    if grpc_alone and side.crl is not CRLEffect.NONE and not has(version, CRL_ON_GRPC):
        return CRLEffect.IGNORED
    return side.crl


def _tls_versions(declaration: Declaration, version: str | None) -> tuple[TLSVersion, TLSVersion | None]:
    minimum = _VERSIONS.get(declaration.text("tls-min-version") or "", TLSVersion.TLS1_2)
    maximum = _VERSIONS.get(declaration.text("tls-max-version") or "")
    pinned = (3, 5) <= version_key(version) < (3, 5, 8)
    return minimum, TLSVersion.TLS1_2 if pinned else maximum


def _debugs(declaration: Declaration, version: str | None) -> bool:
    """Return whether etcd is told to debug: up to 3.4 by a flag of its own, since then by the log level."""
    if version_key(version) < (3, 5):
        return declaration.on("debug")
    return declaration.text("log-level") == "debug"


def _gateway(declaration: Declaration, version: str | None) -> bool:
    setting = declaration.settings.get("enable-grpc-gateway")
    if setting is not None:
        return setting.on
    # In 3.4 the default of the configuration file is another than that of the flag.
    from_file = declaration.config_file is not None or declaration.form is Form.YAML
    return not (from_file and version_key(version) < (3, 5))


@lru_cache(maxsize=256)
def effective_of(member: DeclaredMember, version: str | None = None) -> Effective:
    """Return what that version makes of a member's declaration, computed once for each version.

    ``None`` takes the declaration's own version, else that of today's etcd.
    """
    return effective(member.declaration, version, member.crls)
