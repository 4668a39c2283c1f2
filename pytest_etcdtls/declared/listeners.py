"""Which listeners a declaration makes etcd open, those that it opens unasked included.

Knows etcd's defaults; does not know who is let in there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pytest_etcdtls.declared.declaration import Declaration, Setting
from pytest_etcdtls.declared.urls import DeclaredURL, parse_urls
from pytest_etcdtls.role import Role

FLAGS: Final = {
    Role.CLIENT: "listen-client-urls",
    Role.CLIENT_HTTP: "listen-client-http-urls",
    Role.METRICS: "listen-metrics-urls",
    Role.PEER: "listen-peer-urls",
}
"""The flag that lists the URLs of each role."""

_DEFAULTS: Final = {Role.CLIENT: "http://localhost:2379", Role.PEER: "http://localhost:2380"}
_ADVERTISED: Final = {Role.CLIENT: "advertise-client-urls", Role.PEER: "initial-advertise-peer-urls"}


@dataclass(frozen=True, slots=True)
class DeclaredListener:
    """One URL that etcd listens on.

    Attributes:
        setting: that declares it; ``None`` for etcd's default.
    """

    role: Role
    url: DeclaredURL
    setting: Setting | None


def declared_listeners(declaration: Declaration) -> tuple[DeclaredListener, ...]:
    """Return the listeners in the order of roles; a list that is not given, or empty, is etcd's default."""
    found: list[DeclaredListener] = []
    for role, flag in FLAGS.items():
        setting = declaration.settings.get(flag) if declaration.text(flag) else None
        text = setting.value if setting else _DEFAULTS.get(role, "")
        found += [DeclaredListener(role, url, setting) for url in parse_urls(text).urls]
    return tuple(found)


def advertised(declaration: Declaration, role: Role) -> tuple[DeclaredURL, ...]:
    """Return the URLs that a member tells others to use, empty for roles that are not advertised."""
    return declaration.urls(_ADVERTISED[role]) if role in _ADVERTISED else ()


def split_http(declaration: Declaration) -> bool:
    """Return whether HTTP is split off the client port, which then speaks gRPC alone."""
    return declaration.text(FLAGS[Role.CLIENT_HTTP]) is not None
