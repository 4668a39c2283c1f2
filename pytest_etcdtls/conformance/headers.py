"""What stands at the head of a run: version, OpenSSL, targets, where credentials come from.

Paths and words alone: no key, no password, no network.
"""

from __future__ import annotations

from collections.abc import Iterator

from pytest_etcdtls._version import __version__
from pytest_etcdtls.report.model import openssl_version
from pytest_etcdtls.run import Run, TargetRun
from pytest_etcdtls.target import PortCredentials, Target


def header(run: Run) -> list[str]:
    """Return the lines of the header."""
    lines = [f"etcd TLS: pytest-etcdtls {__version__}, {openssl_version()}, {len(run.checks)} checks"]
    for target in run.targets:
        lines += _owned(target) if target.source else _live(target.outline)
    return lines


def members(run: Run) -> list[str]:
    """Return what there is to say of the members of a live cluster once it was asked for them, or was not."""
    return [
        f"etcd TLS: {target.outline.label}: {_members(target)}"
        for target in run.targets
        if target.outline.discover
    ]


def _members(target: TargetRun) -> str:
    if not target.asks:
        return "this is what is named; a run that judges adds what --etcd-discover finds"
    discovery = target.discovery
    said = discovery.describe() if discovery else "the members could not be asked for"
    return f"{said}; {len(target.outline.listeners)} listeners"


def _owned(target: TargetRun) -> Iterator[str]:
    source = target.source
    if source is not None:
        yield f"  {target.outline.label}: {source.kind} of {source.location}, {source.why}"


def _live(target: Target) -> Iterator[str]:
    for listener in target.listeners:
        there = f" by way of {':'.join(map(str, listener.connect_to))}" if listener.connect_to else ""
        yield f"  {target.label}: {listener.role} {listener.url}{there}"
    for one in target.unreached:
        yield f"  {target.label}: not judged: {one.role} listener of {one.member}: {one.reason}"
    for label, told in sorted(target.declared.items()):
        yield f"  {target.label}: member {label} as {told.declaration.source} declares it"
    for remark in target.remarks:
        yield f"  {target.label}: not used: {remark}"
    for host, log in sorted(target.logs.items()):
        yield f"  {target.label}: log of {host or 'every member'}: {log.name}"
    if target.discover:
        yield f"  {target.label}: --etcd-discover adds every member that the cluster lists"
    yield from _credentials("client", target.client)
    if target.peer != target.client:
        yield from _credentials("peer", target.peer)


def _credentials(side: str, held: PortCredentials) -> Iterator[str]:
    parts = [f"{identity.name} {identity.certificate_file}" for identity in held.identities]
    if held.server_ca:
        parts.append(f"trust {held.server_ca.source}")
    if held.client_trust:
        parts.append(f"etcd trusts {held.client_trust.source}")
    if held.signing_key:
        parts.append(f"CA key {held.signing_key.key_file}")
    yield f"  {side} credentials: {', '.join(parts) or 'none'}"
