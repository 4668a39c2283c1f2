"""Every request that the suite may send to an etcd, for ``docs/limits.md``. A proxy holds it to this list."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hostile.recording_proxy import Sent


@dataclass(frozen=True)
class Allowed:
    """Why a request may be sent.

    Attributes:
        purpose: what the answer is needed for.
        effect: what it leaves in etcd.
        at_most: how often it is sent to one listener that accepts every client, so that nothing is spared.
    """

    purpose: str
    effect: str
    at_most: int


_NOTHING = "nothing"

ALLOWED: Mapping[Sent, Allowed] = {
    Sent("http/1.1", "GET", "/version"): Allowed(
        "whether a client is accepted in TLS: one for each identity and TLS version", _NOTHING, 60
    ),
    Sent("h2", "GET", "/version"): Allowed("whether HTTP/2 is served", _NOTHING, 4),
    Sent("plaintext", "GET", "/version"): Allowed("whether the port serves clients without TLS", _NOTHING, 4),
    Sent("plaintext", "POST", "/etcdserverpb.Maintenance/Status"): Allowed(
        "whether the port serves gRPC without TLS", _NOTHING, 2
    ),
    Sent("http/1.1", "GET", "/health"): Allowed(
        "whether the member is healthy", "a linearizable read; up to etcd 3.4 one Raft entry", 3
    ),
    Sent("http/1.1", "GET", "/livez"): Allowed("which paths are served", _NOTHING, 2),
    Sent("http/1.1", "GET", "/readyz"): Allowed("which paths are served", "a linearizable read", 2),
    Sent("http/1.1", "GET", "/metrics"): Allowed(
        "which paths are served; release of Go, ID of the member, its connections with others", _NOTHING, 3
    ),
    Sent("http/1.1", "GET", "/debug/pprof/"): Allowed(
        "whether profiles are served; only the index", _NOTHING, 2
    ),
    Sent("http/1.1", "GET", "/debug/vars"): Allowed("whether variables are served", _NOTHING, 2),
    Sent("http/1.1", "GET", "/v2/keys"): Allowed(
        "whether the v2 API is served", "a read of the root of the v2 store", 2
    ),
    Sent("http/1.1", "GET", "/members"): Allowed(
        "the member list of a peer port, or whether it is one", _NOTHING, 2
    ),
    Sent("http/1.1", "POST", "/v3/maintenance/status"): Allowed(
        "whether the JSON gateway accepts a client: one for each identity and TLS version", _NOTHING, 90
    ),
    Sent("http/1.1", "POST", "/etcdserverpb.Maintenance/Status"): Allowed(
        "whether gRPC is served over HTTP/1.1", _NOTHING, 2
    ),
    Sent("grpc", "POST", "/etcdserverpb.Maintenance/Status"): Allowed(
        "whether gRPC accepts a client: one for each identity and TLS version", _NOTHING, 50
    ),
    Sent("grpc", "POST", "/etcdserverpb.Cluster/MemberList"): Allowed(
        "the members and their URLs", "a linearizable read", 2
    ),
    Sent("grpc", "POST", "/etcdserverpb.KV/Range"): Allowed(
        "whether keys can be read: a count of the empty range, no key or value", "a linearizable read", 4
    ),
    Sent("grpc", "POST", "/etcdserverpb.Auth/Authenticate"): Allowed(
        "a token for --etcd-user, only with that option", "one Raft entry; the revision does not change", 2
    ),
}


def requests_table() -> str:
    """Return the requests as a table of Markdown."""
    lines = ["| protocol | request | for | leaves in etcd | at most |", "|---|---|---|---|--:|"]
    for sent, allowed in ALLOWED.items():
        protocol = {"grpc": "gRPC", "h2": "HTTP/2", "http/1.1": "HTTP/1.1"}.get(sent.protocol, "no TLS")
        request = sent.path if sent.protocol == "grpc" else f"{sent.method} {sent.path}"
        lines.append(
            f"| {protocol} | `{request}` | {allowed.purpose} | {allowed.effect} | {allowed.at_most} |"
        )
    return "\n".join(lines)
