"""Who is let in: one identity on one listener, in every TLS version and protocol, with its control."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_etcdtls.observations.attempt import Attempt, Protocol, TLSVersion


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """The same connection with a good identity.

    Attributes:
        identity: name of the good identity, ``None`` if none is known.
        tries: its attempts, the last one counts; empty if none is known.
        twin: the identity is the valid twin of a minted bad one.
        san_rule: the SANs of its certificate may explain a close after the handshake (peer and
            https metrics listeners, etcd's ``checkSAN``).
    """

    identity: str | None = None
    tries: tuple[Attempt, ...] = ()
    twin: bool = False
    san_rule: bool = False

    @property
    def attempt(self) -> Attempt | None:
        """The attempt that counts."""
        return self.tries[-1] if self.tries else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One identity in one TLS version and protocol.

    Attributes:
        tries: its attempts, the last one counts.
    """

    version: TLSVersion
    protocol: Protocol
    tries: tuple[Attempt, ...]
    control: Control

    @property
    def attempt(self) -> Attempt:
        """The attempt that counts."""
        return self.tries[-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """All that was seen of one identity on one listener.

    Attributes:
        identity: its name.
        certificate: its subject and issuer in words, empty for ``none``.
        reproduce: shell lines that set the identity up, for commands to paste.
        credential_flags: curl's flags that present it.
        cells: one per TLS version and protocol that the listener speaks.
    """

    identity: str
    certificate: str = ""
    reproduce: tuple[str, ...] = ()
    credential_flags: str = ""
    cells: tuple[Cell, ...] = ()
