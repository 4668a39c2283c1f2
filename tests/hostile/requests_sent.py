"""Every request that the suite may send to an etcd, for ``docs/limits.md``. A proxy holds it to this list."""

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


_ABOVE = """\
# What a run sends, and what it does not judge

```sh
pytest --pyargs pytest_etcdtls --etcd-endpoint=https://10.0.0.11:2379 --etcd-plan
```

prints the maximum number of connections of a run, and makes none. Add the other options of your run.

The suite only reads. It does not write keys, grant leases, change members, alarms, users or roles, take
snapshots, compact or defragment. Tests compare the revision, the hash of the key space, members, alarms,
leases, users and roles before and after a run on every etcd, with and without authentication. A proxy
records each request in the tests: a request that is not in the list below fails a test.

All other traffic is TLS: handshakes that are completed, refused, or ended by the client after the
ServerHello. At most four connections are open at a time per listener (`--etcd-concurrency`), and none
remains. With `--etcd-gentle` it is one, and the suite tests only the cipher suites and groups that verdicts
need, unless a declaration, a profile or a baseline lists them. The report then has no complete list of
suites and groups to compare.

| protocol | request | for | leaves in etcd | at most |
|---|---|---|---|--:|"""

_BELOW = """
*At most* is the number of requests to one listener that accepts every client. A conforming listener refuses
most of these clients in the handshake: it gets about a third.

From etcd 3.5 on, a run without authentication appends no Raft entry. etcd 3.4 appends one for each
`/health` that it serves. `Authenticate` appends one entry for each client listener on which a check is
refused without a user, and none if the password is wrong. No entry changes keys or the revision.

## What etcd logs

etcd logs a line at level `warn` for each connection that it rejects. One run leaves the lines below in the
log of one member with mutual TLS on both ports. They were counted on etcd {versions}, with certificates for
both ports and without a CA key:

{logged}

The metrics of the process count these connections too. Of more than 100 equal messages in a second etcd
logs one in 100. For a new cluster etcd 3.6 and later also log `Failed to detect schema version`, level
`warn`, for each status request in the first moments. [etcd's own log](etcd-log.md) says how to distinguish
these lines from those of other clients.

## What is not judged

- Keys and values, users and roles: the suite does not read them. It cannot see encryption at rest, backups
  and file systems.
- Listeners that you do not name. `--etcd-discover` finds those that members advertise, and looks for plain
  HTTP on [usual ports](operator.md#listeners-that-are-not-advertised). Without it, the summary says that no
  search was made.
- Identities that need a CA's key (expired, not yet valid, for another name), unless you pass `--etcd-ca-key`:
  [what decides without it](evidence.md#what-decides-without-a-cas-key).
- Known attacks on TLS libraries: the suite sends no exploit. Scanners do: [compared](comparison.md).
- What a live etcd does when its files change. Experiments of the family `lifecycle` replace files and
  restart members. They run on [clusters that the run starts](ci.md#when-files-or-flags-change).

`make docs` writes this page.
"""


def limits_page() -> str:
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
