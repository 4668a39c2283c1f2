"""From where a declared listener can be reached: from here, or only from the machine that etcd runs on.

Decides by addresses alone: looks up no name, connects to nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pytest_etcdtls.declared.declaration import Declaration
from pytest_etcdtls.declared.listeners import DeclaredListener, advertised, declared_listeners
from pytest_etcdtls.role import Role


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """How to get to a declared listener from here.

    Attributes:
        declared: the listener.
        host: to connect to and to judge names against; ``None`` if it is not to be reached from here.
        reason: why not, and what to do; empty if it is.
    """

    declared: DeclaredListener
    host: str | None = None
    reason: str = ""

    @property
    def port(self) -> int:
        """To connect to."""
        return self.declared.url.port


def reach(declaration: Declaration, own_addresses: Iterable[str]) -> tuple[Reach, ...]:
    """Return for every declared listener how to get to it.

    A listener on every address is reached by the advertised one. One on loopback is reached only if the
    member runs here, which its advertised addresses tell.

    Args:
        declaration: of one member.
        own_addresses: of this machine, loopback left out.
    """
    here = runs_here(declaration, own_addresses)
    return tuple(_reach(listener, declaration, here) for listener in declared_listeners(declaration))


def runs_here(declaration: Declaration, own_addresses: Iterable[str]) -> bool:
    """Return whether the member runs on this machine, as its advertised addresses tell.

    Where nothing but loopback is advertised, the member can only be meant to run here.

    Args:
        declaration: of the member.
        own_addresses: of this machine, loopback left out.
    """
    urls = [url for role in (Role.CLIENT, Role.PEER) for url in advertised(declaration, role)]
    own = set(own_addresses)
    return any(url.host in own for url in urls) or (bool(urls) and all(url.is_loopback for url in urls))


def _reach(listener: DeclaredListener, declaration: Declaration, here: bool) -> Reach:
    url = listener.url
    if url.is_socket:
        return Reach(declared=listener, reason=f"{url} is a socket in the file system, which is not probed")
    if url.is_wildcard:
        return _by_advertised(listener, declaration)
    if url.is_loopback and not here:
        return Reach(
            declared=listener,
            reason=f"{url} is declared on loopback, and no advertised address is one of this machine's: run "
            "it there",
        )
    return Reach(declared=listener, host=url.host)


def _by_advertised(listener: DeclaredListener, declaration: Declaration) -> Reach:
    """Return the reach of a listener on every address."""
    role = Role.PEER if listener.role is Role.PEER else Role.CLIENT
    for other in (role, Role.PEER if role is Role.CLIENT else Role.CLIENT):
        for url in advertised(declaration, other):
            if not url.is_wildcard:
                return Reach(declared=listener, host=url.host)
    return Reach(
        declared=listener,
        reason=f"{listener.url} is every address of a machine that is not named: pass its URL",
    )
