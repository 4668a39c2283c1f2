"""What a listener accepts of TLS: versions, cipher suites, groups, protocols, odd hellos. Facts only."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_etcdtls.observations.attempt import Attempt, TLSVersion
from pytest_etcdtls.observations.cipher_suites import CipherSuite
from pytest_etcdtls.observations.greeting import Greeting
from pytest_etcdtls.observations.named_groups import NamedGroup


@dataclass(frozen=True, slots=True, kw_only=True)
class NewestVersion:
    """The first contact in TLS 1.3.

    Attributes:
        offered: it was not refused for its version.
        attempt: the contact, without a certificate.
    """

    url: str
    role: str
    offered: bool
    attempt: Attempt


@dataclass(frozen=True, slots=True, kw_only=True)
class OldVersions:
    """Hellos of SSL 3.0, TLS 1.0 and TLS 1.1, each with every suite that there is for it.

    Attributes:
        greetings: one per version, oldest first.
    """

    url: str
    role: str
    greetings: tuple[Greeting, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteSupport:
    """The cipher suites that the listener accepts in TLS 1.2.

    Attributes:
        accepted: found by offering them in groups of one kind and leaving out what was chosen.
        complete: nothing more is accepted; if not, only the first few of a kind were looked for.
    """

    url: str
    role: str
    accepted: tuple[CipherSuite, ...]
    complete: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSupport:
    """The groups with which the listener exchanges keys.

    Attributes:
        version: the TLS version in which they were looked for, the highest offered.
        accepted: of the known ones, weak ones apart.
        weak: of the weak ones, which only TLS 1.2 has, the one that the listener chose. One that wants its
            certificate's own curve among the groups, as OpenSSL does, refuses an offer without it.
    """

    url: str
    role: str
    version: TLSVersion
    accepted: tuple[NamedGroup, ...]
    weak: NamedGroup | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OddHello:
    """A hello that is odd in one point, and the same hello without it.

    Attributes:
        version: TLS version offered.
        plain: what came back without the oddity.
        odd: what came back with it.
    """

    url: str
    role: str
    version: TLSVersion
    plain: Greeting
    odd: Greeting


@dataclass(frozen=True, slots=True, kw_only=True)
class AlpnChoice:
    """What the listener made of protocol names in one TLS version (RFC 7301).

    Attributes:
        selected: the name that it selected, empty if none.
        alert: number of the alert with which it refused them, ``None`` if it did not.
    """

    version: TLSVersion
    selected: str = ""
    alert: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AlpnChoices:
    """What the listener makes of the same protocol names in each TLS version that it offers."""

    url: str
    role: str
    offered: tuple[str, ...]
    choices: tuple[AlpnChoice, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SilentConnection:
    """A connection on which nothing was sent.

    Attributes:
        patience: seconds that were waited.
        greeting: whether the listener ended the connection in that time.
    """

    url: str
    role: str
    patience: float
    greeting: Greeting
