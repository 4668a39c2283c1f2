"""The configuration that a given version of etcd derives from a declaration, by side and listener.

It is a model of these functions of etcd, and tests compare it with etcds that are started:

- TLSInfo.ServerConfig (client/pkg/transport/listener.go): since 3.4 a trusted CA alone makes client
  certificates required. ``--client-cert-auth`` without one leaves Go's ``ClientCAs`` empty, which is the
  system's root store.
- Config.ClientSelfCert and PeerSelfCert (server/embed/config.go): unless a pair is given, ``auto-tls``
  replaces the whole TLSInfo of its side by one with a generated certificate, so no client is asked for a
  certificate.
- wrapTLS and newTLSListener (client/pkg/transport): peer and metrics listeners compare the names in a
  client's certificate with its address, and a CRL is read after the handshake.
- serveCtx.serve (server/embed/serve.go): what a client port serves. If HTTP has ports of its own, gRPC makes
  the handshake itself, and looked at no CRL before the releases of :data:`CRL_ON_GRPC`.

An unknown version counts as the newest one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from functools import lru_cache
from typing import Final

from msgspec import Struct

from pytest_etcdtls.declared.declaration import (
    SYSTEM,
    CRLFile,
    Declaration,
    DeclaredListener,
    DeclaredMember,
    DeclaredURL,
    Form,
    Setting,
    Via,
    declared_listeners,
    in_force,
    roots_in_words,
    split_http,
)
from pytest_etcdtls.role import Role, Side, TLSVersion
from pytest_etcdtls.versions import has_since, version_key

SIDES: Final[tuple[Side, ...]] = ("client", "peer")

_LISTS_OF_NAMES: Final = {"3.5": 15}
"""The first patch releases in which allowed names may be lists."""


class ClientAuthentication(StrEnum):
    """Which clients TLS accepts."""

    ANYBODY = "every client"
    """No client certificate is requested."""
    TRUSTED_CA = "clients with a certificate of the trusted CA"
    SYSTEM_ROOTS = f"clients with a certificate of any CA in {SYSTEM}"


class CRLEffect(StrEnum):
    """The effect of a CRL."""

    NONE = "no CRL"
    ENFORCED = "revoked certificates are refused"
    REFUSES_ALL = "every client with a certificate is refused"
    IGNORED = "the CRL is not looked at"
    UNKNOWN = "the file is not here or not readable, so it is not known whether etcd can read it"


class TLSSide(Struct, frozen=True, kw_only=True):
    """The TLS configuration of one side (client or peer).

    Attributes:
        certificate: the declared path of the served certificate; ``None`` if it is generated or missing.
        key: the declared path of its key.
        generated: whether etcd generates a self-signed certificate (``--auto-tls``) and ignores the other TLS
            settings of this side.
        client_auth: which clients are accepted.
        client_cert_auth: whether ``--client-cert-auth`` is on and not ignored.
        trusted_ca: the path of the CA bundle that client certificates are verified against.
        roots: what the system's root store is made of, which they are verified against without one.
        allowed_cn: the common names that are accepted; empty for all.
        allowed_hostname: hostnames, one of which a client certificate must be valid for; empty for all.
        crl_file: the path of the CRL.
        crl: the effect of the CRL on listeners where etcd checks it.
        dials_with: the path of the certificate that etcd presents as a client: its gateway on the client
            side, a member to its peers on the peer side.
        skips_san_rule: whether the SAN rule does not apply.
    """

    side: Side
    certificate: str | None = None
    key: str | None = None
    generated: bool = False
    client_auth: ClientAuthentication = ClientAuthentication.ANYBODY
    client_cert_auth: bool = False
    trusted_ca: str | None = None
    roots: str = SYSTEM
    allowed_cn: tuple[str, ...] = ()
    allowed_hostname: tuple[str, ...] = ()
    crl_file: str | None = None
    crl: CRLEffect = CRLEffect.NONE
    dials_with: str | None = None
    skips_san_rule: bool = False

    @property
    def requests_certificate(self) -> bool:
        """Whether the server requests a client certificate."""
        return self.client_auth is not ClientAuthentication.ANYBODY


def prefix(side: Side) -> str:
    """Return the prefix of the side's flags."""
    return "peer-" if side == "peer" else ""


def tls_side(
    declaration: Declaration, side: Side, version: str | None, crl: CRLFile | None = None
) -> TLSSide:
    """Return the TLS configuration of one side."""
    p = prefix(side)
    certificate, key = declaration.text(f"{p}cert-file"), declaration.text(f"{p}key-file")
    if declaration.on(f"{p}auto-tls") and certificate is None and key is None:
        return TLSSide(side=side, generated=True)
    client_cert_auth = declaration.on(f"{p}client-cert-auth")
    ca = declaration.text(f"{p}trusted-ca-file")
    client_auth = _client_auth(client_cert_auth, ca, version)
    own = declaration.text(f"{p}client-cert-file") if version_key(version) >= (3, 5) else None
    return TLSSide(
        side=side,
        certificate=certificate,
        key=key,
        client_auth=client_auth,
        client_cert_auth=client_cert_auth,
        trusted_ca=ca,
        roots=roots_in_words(declaration),
        allowed_cn=allowed_names(declaration, f"{side}-cert-allowed-cn", version),
        allowed_hostname=allowed_names(declaration, f"{side}-cert-allowed-hostname", version),
        crl_file=declaration.text(f"{side}-crl-file"),
        crl=crl_effect(declaration, side, version, client_auth, crl),
        dials_with=own or certificate,
        skips_san_rule=_skips_san_rule(declaration, side, version),
    )


def _client_auth(client_cert_auth: bool, ca: str | None, version: str | None) -> ClientAuthentication:
    if ca is not None and (client_cert_auth or version_key(version) >= (3, 4)):
        return ClientAuthentication.TRUSTED_CA
    return ClientAuthentication.SYSTEM_ROOTS if client_cert_auth else ClientAuthentication.ANYBODY


def allowed_names(declaration: Declaration, name: str, version: str | None) -> tuple[str, ...]:
    """Return the allowed names. Before 3.5.15, a comma-separated list is a single name.

    Since then an empty flag is a list with one empty name, which no certificate has.
    """
    setting, lists = declaration.settings.get(name), has_since(version, _LISTS_OF_NAMES)
    if setting is None:
        return ()
    if not setting.value:
        return ("",) if lists and setting.via is Via.FLAG else ()
    return declaration.words(name) if lists else (setting.value,)


def crl_effect(
    declaration: Declaration,
    side: Side,
    version: str | None,
    client_auth: ClientAuthentication,
    crl: CRLFile | None,
) -> CRLEffect:
    """Return the effect of a side's CRL on listeners where etcd checks it."""
    if declaration.text(f"{side}-crl-file") is None:
        return CRLEffect.NONE
    if client_auth is ClientAuthentication.ANYBODY:
        return CRLEffect.IGNORED  # no client certificate is requested, so none can be revoked
    if crl is None or not crl.known:
        return CRLEffect.UNKNOWN
    return CRLEffect.REFUSES_ALL if crl.read_by(version).error else CRLEffect.ENFORCED


def _skips_san_rule(declaration: Declaration, side: Side, version: str | None) -> bool:
    names = [f"{side}-skip-client-san-verification"]
    if side == "peer" and version_key(version) < (3, 7):
        names.append("experimental-peer-skip-client-san-verification")
    return declaration.on(*names)


class EffectiveListener(Struct, frozen=True, kw_only=True):
    """The effective configuration of one listener.

    Attributes:
        declared: the URL and the setting that declares it.
        tls: whether the port serves TLS.
        plaintext: whether the port serves plaintext.
        side: the TLS configuration that applies; ``None`` without TLS.
        crl: the effect of the CRL on this listener.
        san_rule: whether the names in a client certificate must match the address that it connects from.
        protocols: the protocols that the listener serves: ``grpc``, ``http``.
        minimum: the lowest TLS version; ``None`` without TLS.
        maximum: the highest TLS version; ``None`` for Go's default.
        cipher_suites: Go's names of the cipher suites allowed in TLS 1.2; empty for Go's default.
    """

    declared: DeclaredListener
    tls: bool
    plaintext: bool
    side: TLSSide | None = None
    crl: CRLEffect = CRLEffect.NONE
    san_rule: bool = False
    protocols: frozenset[str] = frozenset({"http"})
    minimum: TLSVersion | None = None
    maximum: TLSVersion | None = None
    cipher_suites: tuple[str, ...] = ()

    @property
    def role(self) -> Role:
        """The role of the listener."""
        return self.declared.role

    @property
    def url(self) -> DeclaredURL:
        """The URL that it listens on."""
        return self.declared.url

    @property
    def client_auth(self) -> ClientAuthentication:
        """Which clients are accepted; every client where plaintext is served."""
        return ClientAuthentication.ANYBODY if self.plaintext or self.side is None else self.side.client_auth

    def describe(self) -> str:
        """Return a short description of the clients that are accepted."""
        if self.side is None:
            return "plaintext: every client"
        parts = [self._who(self.side)]
        if self.plaintext:
            parts.insert(0, "plaintext beside TLS: every client")
        if self.crl is not CRLEffect.NONE:
            parts.append(str(self.crl))
        if self.san_rule:
            parts.append("names in it must fit the address that it comes from")
        versions = (
            f"{self.minimum} and newer" if self.maximum is None else f"{self.minimum} to {self.maximum}"
        )
        return "; ".join([*parts, versions])

    def _who(self, side: TLSSide) -> str:
        who = str(side.client_auth).replace(SYSTEM, side.roots)
        if side.trusted_ca and side.client_auth is ClientAuthentication.TRUSTED_CA:
            who += f" {side.trusted_ca}"
        if side.requests_certificate and side.allowed_cn:
            who += f", with the CN {' or '.join(map(_name, side.allowed_cn))}"
        if side.requests_certificate and side.allowed_hostname:
            who += f", valid for {' or '.join(map(_name, side.allowed_hostname))}"
        return who


def _name(allowed: str) -> str:
    return allowed or "no name at all"


class Effective(Struct, frozen=True, kw_only=True):
    """The effective configuration of a member.

    Attributes:
        member: the member, with its declaration as it was read.
        seen: its declaration without the settings that this version ignores.
        version: the version of etcd that it applies to; ``None`` if unknown, in which case it is the newest.
        listeners: the listeners in the order of roles.
        sides: the TLS configuration by side, ``client`` and ``peer``.
        gateway: whether the JSON gateway is served on the listeners that serve HTTP.
        pprof: whether profiles are served on the client port.
    """

    member: DeclaredMember
    seen: Declaration
    version: str | None
    listeners: tuple[EffectiveListener, ...]
    sides: Mapping[Side, TLSSide] = {}
    gateway: bool = True
    pprof: bool = False

    def at(self, role: Role) -> tuple[EffectiveListener, ...]:
        """Return the listeners of a role."""
        return tuple(listener for listener in self.listeners if listener.role is role)

    def settings(self, *names: str) -> tuple[Setting, ...]:
        """Return the named settings that are given."""
        return tuple(self.seen.settings[name] for name in names if name in self.seen.settings)

    def secure(self, side: TLSSide) -> tuple[EffectiveListener, ...]:
        """Return the listeners of a side that serve TLS."""
        return tuple(each for each in self.listeners if each.tls and each.role.side == side.side)

    def secure_urls(self, side: TLSSide) -> tuple[str, ...]:
        """Return the URLs of a side that serve TLS."""
        return tuple(str(listener.url) for listener in self.secure(side))


CRL_ON_GRPC = {"3.5": 32, "3.6": 13, "3.7": 0, "3.8": 0}
"""The first patch releases that check a CRL on a client port without HTTP (GHSA-3wh4-j44w-pg92).

A pre-release of 3.8 does not: client/pkg/transport/listener_tls.go of 3.8.0-alpha.0 has no
ConfigureCRLVerification.
"""

TLS_VERSIONS = {"TLS1.2": TLSVersion.TLS1_2, "TLS1.3": TLSVersion.TLS1_3}


@lru_cache(maxsize=256)
def effective_of(member: DeclaredMember, version: str | None = None) -> Effective:
    """Return the configuration that etcd derives from a member's declaration, cached by version.

    ``None`` stands for the declaration's own version, or the newest if it has none.
    """
    version = version or member.declaration.version
    seen, crls = in_force(member.declaration, version), member.crls
    sides: dict[Side, TLSSide] = {
        side: tls_side(seen, side, version, crls.get(seen.text(f"{side}-crl-file") or "")) for side in SIDES
    }
    return Effective(
        member=member,
        seen=seen,
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
    minimum, maximum = _tls_versions(declaration, version)
    for listener in declared:
        both = _has_both_schemes(listener, declared)
        protocols = _protocols(listener.role, declaration)
        if listener.url.secure:
            side = sides[listener.role.side]
            yield EffectiveListener(
                declared=listener,
                tls=True,
                # With HTTP split off, the gRPC server with TLS replaces the other (embed/serve.go, serve).
                plaintext=both and "http" in protocols,
                side=side,
                crl=_crl(listener.role, side, declaration, version),
                san_rule=side.requests_certificate
                and listener.role in (Role.PEER, Role.METRICS)
                and not side.skips_san_rule,
                protocols=protocols,
                minimum=minimum,
                maximum=maximum,
                cipher_suites=declaration.words("cipher-suites"),
            )
        elif not both:
            yield EffectiveListener(declared=listener, tls=False, plaintext=True, protocols=protocols)


def is_served(listener: DeclaredListener, declaration: Declaration) -> bool:
    """Return whether etcd serves a declared URL.

    An http URL beside https on one port is not served if the port serves gRPC alone.
    """
    return (
        listener.url.secure
        or "http" in _protocols(listener.role, declaration)
        or not _has_both_schemes(listener, declared_listeners(declaration))
    )


def _has_both_schemes(listener: DeclaredListener, declared: tuple[DeclaredListener, ...]) -> bool:
    """Return whether the same client port is declared with the other scheme too.

    Measured with etcd 3.4 to 3.7: such a port answers HTTP and gRPC in plaintext beside enforced mutual TLS.
    A port that serves gRPC alone does not (3.5.21 to 3.7.3).
    """
    return listener.role in (Role.CLIENT, Role.CLIENT_HTTP) and any(
        other.role is listener.role
        and other.url.address == listener.url.address
        and other.url.secure is not listener.url.secure
        for other in declared
    )


def _protocols(role: Role, declaration: Declaration) -> frozenset[str]:
    if role is Role.CLIENT:
        return frozenset({"grpc"}) if split_http(declaration) else frozenset({"grpc", "http"})
    return frozenset({"http"})


def _crl(role: Role, side: TLSSide, declaration: Declaration, version: str | None) -> CRLEffect:
    grpc_alone = role is Role.CLIENT and split_http(declaration)
    if grpc_alone and side.crl is not CRLEffect.NONE and not has_since(version, CRL_ON_GRPC):
        return CRLEffect.IGNORED
    return side.crl


def _tls_versions(declaration: Declaration, version: str | None) -> tuple[TLSVersion, TLSVersion | None]:
    minimum = TLS_VERSIONS.get(declaration.text("tls-min-version") or "", TLSVersion.TLS1_2)
    maximum = TLS_VERSIONS.get(declaration.text("tls-max-version") or "")
    # etcd 3.5.0 to 3.5.7 pin the maximum in code (CHANGELOG-3.5, 3.5.8).
    pinned = (3, 5) <= version_key(version) < (3, 5, 8)
    return minimum, TLSVersion.TLS1_2 if pinned else maximum


def _debugs(declaration: Declaration, version: str | None) -> bool:
    """Return whether debug logging is on: ``--debug`` up to 3.4, the log level in later versions."""
    if version_key(version) < (3, 5):
        return declaration.on("debug")
    return declaration.text("log-level") == "debug"


def _gateway(declaration: Declaration, version: str | None) -> bool:
    setting = declaration.settings.get("enable-grpc-gateway")
    if setting is not None:
        return setting.on
    # In 3.4 the default in the configuration file differs from the flag's default.
    from_file = declaration.config_file is not None or declaration.form is Form.YAML
    return not (from_file and version_key(version) < (3, 5))
