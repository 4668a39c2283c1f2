"""What etcd really does on one listener, and what a member does as a whole.

Values only. Does not know how they follow from a declaration.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pytest_etcdtls.declared.listeners import DeclaredListener
from pytest_etcdtls.declared.sides import Admission, CRLEffect, Side, TLSSide
from pytest_etcdtls.declared.urls import DeclaredURL
from pytest_etcdtls.observations.attempt import TLSVersion
from pytest_etcdtls.role import Role


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectiveListener:
    """What one listener does.

    Attributes:
        declared: the URL and what declares it.
        tls: TLS is spoken on this port.
        plaintext: plaintext is answered on this port.
        side: TLS settings that apply, ``None`` where no TLS is spoken.
        crl: what the CRL does here.
        san_rule: a certificate's names must fit the address that it comes from.
        speaks: ``grpc``, ``http``.
        minimum: the lowest TLS version, ``None`` where no TLS is spoken.
        maximum: the highest; ``None`` where Go decides.
        cipher_suites: Go's names of those allowed in TLS 1.2; empty where Go decides.
    """

    declared: DeclaredListener
    tls: bool
    plaintext: bool
    side: TLSSide | None = None
    crl: CRLEffect = CRLEffect.NONE
    san_rule: bool = False
    speaks: frozenset[str] = frozenset({"http"})
    minimum: TLSVersion | None = None
    maximum: TLSVersion | None = None
    cipher_suites: tuple[str, ...] = ()

    @property
    def role(self) -> Role:
        """What the listener is for."""
        return self.declared.role

    @property
    def url(self) -> DeclaredURL:
        """Where it listens."""
        return self.declared.url

    @property
    def admission(self) -> Admission:
        """Who is let in; where plaintext is answered that is anybody."""
        return Admission.ANYBODY if self.plaintext or self.side is None else self.side.admission

    def describe(self) -> str:
        """Return who is let in, in a few words for people."""
        if self.side is None:
            return "plaintext: anybody"
        parts = [self._who(self.side)]
        if self.plaintext:
            parts.insert(0, "plaintext beside TLS: anybody")
        if self.crl is not CRLEffect.NONE:
            parts.append(str(self.crl))
        if self.san_rule:
            parts.append("names in it must fit the address that it comes from")
        versions = (
            f"{self.minimum} and newer" if self.maximum is None else f"{self.minimum} to {self.maximum}"
        )
        return "; ".join([*parts, versions])

    def _who(self, side: TLSSide) -> str:
        who = str(side.admission)
        if side.trusted_ca and side.admission is Admission.TRUSTED_CA:
            who += f" {side.trusted_ca}"
        if side.admission is not Admission.ANYBODY and side.allowed_cn:
            who += f", with the CN {' or '.join(side.allowed_cn)}"
        if side.admission is not Admission.ANYBODY and side.allowed_hostname:
            who += f", valid for {' or '.join(side.allowed_hostname)}"
        return who


@dataclass(frozen=True, slots=True, kw_only=True)
class Effective:
    """What a member really does.

    Attributes:
        version: of etcd that this holds for; ``None`` if it is not known and today's is meant.
        listeners: in the order of roles.
        sides: TLS settings by side, ``client`` and ``peer``.
        gateway: the JSON gateway answers on the listeners that speak HTTP.
        pprof: profiles are served on the client port.
    """

    version: str | None
    listeners: tuple[EffectiveListener, ...]
    sides: Mapping[Side, TLSSide] = field(default_factory=dict)
    gateway: bool = True
    pprof: bool = False

    def at(self, role: Role) -> tuple[EffectiveListener, ...]:
        """Return the listeners of a role."""
        return tuple(listener for listener in self.listeners if listener.role is role)
