"""Certificates that must be served, as the user named them.

Reads files, opens no connection.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.pki.loading import load_certificates
from pytest_etcdtls.settings.source import Source, option
from pytest_etcdtls.target import ExpectedLeaf, Listener, Role

_OPTIONS = {
    "etcd_expect_cert": frozenset({Role.CLIENT, Role.CLIENT_HTTP, Role.METRICS}),
    "etcd_expect_peer_cert": frozenset({Role.PEER}),
}
"""Which listeners serve it: etcd's ``--cert-file`` is behind all but the peers'."""


def read_expected(source: Source, listeners: Sequence[Listener]) -> tuple[ExpectedLeaf, ...]:
    """Return the certificate that each https listener must serve, where one was named.

    With ``--etcd-discover`` a host may also be that of a listener yet to be found.

    Raises:
        UsageError: if a file holds no certificate, a host is none of the endpoints', or two files claim
            one listener.
    """
    expected: list[ExpectedLeaf] = []
    for name, roles in _OPTIONS.items():
        served = [listener for listener in listeners if listener.role in roles and listener.scheme == "https"]
        claimed: dict[str, str] = {}
        for text in source.texts(name):
            expected += _claim(source, name, text, served, claimed)
    return tuple(expected)


def _claim(
    source: Source, name: str, text: str, served: Sequence[Listener], claimed: dict[str, str]
) -> list[ExpectedLeaf]:
    host, path = split_host(source, name, text)
    meant = [listener for listener in served if host in (None, listener.host)]
    if not meant and host is not None and source.flag("etcd_discover"):
        return [_of_whoever_is_found(name, host, path)]
    if not meant:
        hosts = ", ".join(sorted({listener.host for listener in served})) or "none"
        raise UsageError(f"{option(name)} {text!r} fits no listener given: their hosts are {hosts}")
    for listener in meant:
        first = claimed.setdefault(listener.label, text)
        if first != text:
            raise UsageError(
                f"{option(name)} {first!r} and {text!r} both claim {listener.url}: name the host of each, as "
                "HOST=FILE"
            )
    certificate = load_certificates(path, option=option(name))[0]
    return [
        ExpectedLeaf(
            role=listener.role,
            certificate=certificate,
            source=str(path),
            host=listener.host,
            port=listener.port,
        )
        for listener in meant
    ]


def _of_whoever_is_found(name: str, host: str, path: Path) -> ExpectedLeaf:
    """Return what must be served on listeners of a host that was not named and may be found."""
    role = Role.PEER if Role.PEER in _OPTIONS[name] else Role.CLIENT
    certificate = load_certificates(path, option=option(name))[0]
    return ExpectedLeaf(role=role, certificate=certificate, source=str(path), host=host)


def split_host(source: Source, name: str, text: str) -> tuple[str | None, Path]:
    """Return the host, ``None`` for all, and the file of a value ``[HOST=]FILE``."""
    whole = source.resolve(name, text)
    host, equals, file = text.partition("=")
    if not equals or whole.exists():
        return None, whole
    return host.strip("[]").lower(), source.resolve(name, file)
