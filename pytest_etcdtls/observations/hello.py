"""What a listener serves for different hellos. Facts only."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_etcdtls.observations.attempt import Attempt


@dataclass(frozen=True, slots=True, kw_only=True)
class HelloVariant:
    """One kind of ClientHello.

    Attributes:
        hello: what is particular about it, in words: ``TLSv1.2``, ``ALPN h2``, ``SNI localhost``.
        options: those of ``openssl s_client`` that send the same.
        tries: its attempts; the last one counts.
    """

    hello: str
    options: str
    tries: tuple[Attempt, ...]

    @property
    def chain(self) -> tuple[bytes, ...]:
        """DER of what was served, leaf first; empty if nothing was."""
        return self.tries[-1].chain


@dataclass(frozen=True, slots=True, kw_only=True)
class HelloVariants:
    """Hellos that differ in TLS version, ALPN and SNI, the plain one first.

    Attributes:
        steady: two hellos that brought different chains brought the same each time that they were sent again.
    """

    url: str
    variants: tuple[HelloVariant, ...]
    steady: bool = True
