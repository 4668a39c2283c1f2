"""Every request that the suite may send to an etcd, for ``docs/safety.md``. A proxy holds it to this list."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hostile.recording_proxy import Sent
from live.logged_lines import VERSIONS, table


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
    Sent("http/1.1", "GET", "/health"): Allowed(
        "whether the member is healthy", "a linearizable read; up to etcd 3.4 one Raft entry", 3
    ),
    Sent("http/1.1", "GET", "/livez"): Allowed("which paths are served", _NOTHING, 2),
    Sent("http/1.1", "GET", "/readyz"): Allowed("which paths are served", "a linearizable read", 2),
    Sent("http/1.1", "GET", "/metrics"): Allowed("which paths are served; release of Go", _NOTHING, 3),
    Sent("http/1.1", "GET", "/debug/pprof/"): Allowed(
        "whether profiles are served; the index alone", _NOTHING, 2
    ),
    Sent("http/1.1", "GET", "/debug/vars"): Allowed("whether variables are served", _NOTHING, 2),
    Sent("http/1.1", "GET", "/v2/keys"): Allowed("whether the v2 API is served", "a read of v2's root", 2),
    Sent("http/1.1", "GET", "/members"): Allowed("the member list of a peer port", _NOTHING, 2),
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
        "a token for --etcd-user; only with that option", "one Raft entry; the revision stays", 2
    ),
}


_ABOVE = """\
# What is sent to an etcd

```sh
pytest --pyargs pytest_etcdtls --etcd-endpoint=https://10.0.0.11:2379 --etcd-plan
```

prints how many connections a run makes at most, and makes none. Add your other options: the plan is theirs.

The suite reads. It does not write keys, grant leases, change members, alarms, users or roles, take snapshots,
compact or defragment. After a run the revision, the hash of the key space, members, alarms, leases, users
and roles are those of before. Tests compare them on every etcd, with and without authentication, and let a
proxy record each request. The list is complete: a request that is not in it fails a test.

An accepted client sends several of them on one connection, which ends right behind the last; no idle
connection is kept.

Everything else on the wire is TLS: handshakes that are finished, refused or broken off after the server's
hello. At most four connections are open at a time per listener (`--etcd-concurrency`), with `--etcd-gentle`
one. That option also looks for no more cipher suites and groups than verdicts need, unless a declaration, a
profile or a baseline lists them; the report then has no list of them to compare.

| protocol | request | for | leaves in etcd | at most |
|---|---|---|---|--:|"""

_BELOW = """
*At most* counts the requests to one listener that accepts every client. A conforming listener refuses most of
these clients in the handshake, and they send nothing: it gets about a third.

From etcd 3.5 on a run without authentication appends no Raft entry. etcd 3.4 appends one for each `/health`
that is answered, since it is a proposal to the store v2 there. `Authenticate` is one entry for each client
listener on which a check is refused without a user, none if the password is wrong. No entry changes keys or
the revision.

`/health` is a linearizable read: a member without a leader answers late. The `Range` is serializable and only
counts.

## What etcd logs

etcd logs a line, level `warn`, for each connection that it rejects. One run leaves these in the log of one
member with mutual TLS on both ports, as counted on etcd {versions} with certificates for both ports and no CA
key:

{logged}

They count in the metrics of the process as well. Of more than 100 equal messages in a second etcd logs one in
100. In the first moments of a new cluster etcd 3.6 and later add `Failed to detect schema version`, level
`warn`, for each status request. [etcd's own log](etcd-log.md) says how to tell these lines from those of
other clients: two names in them, `unknown.invalid` and `etcdtls-unknown`, are of this tool.

## What is not done to a live cluster

Experiments of the family `lifecycle`, which replace files and restart members, are made on clusters that the
run starts for itself. This page is written by `make docs`.
"""


def safety_page() -> str:
    """Return the page."""
    lines = [_ABOVE]
    for sent, allowed in ALLOWED.items():
        protocol = {"grpc": "gRPC", "h2": "HTTP/2", "http/1.1": "HTTP/1.1"}.get(sent.protocol, "no TLS")
        request = sent.path if sent.protocol == "grpc" else f"{sent.method} {sent.path}"
        lines.append(
            f"| {protocol} | `{request}` | {allowed.purpose} | {allowed.effect} | {allowed.at_most} |"
        )
    below = _BELOW.format(versions=" and ".join(VERSIONS), logged="\n".join(table()))
    return "\n".join([*lines, below])
