"""A program that tests run: it takes over or starts a cluster, prints about it, and leaves it."""

from __future__ import annotations

import base64
import json
import sys
from dataclasses import replace
from pathlib import Path

from pytest_etcdtls.cluster import reuse
from pytest_etcdtls.cluster.admin import Gateway, gateway_of
from pytest_etcdtls.cluster.cluster import Cluster
from pytest_etcdtls.cluster.config import PRESETS
from pytest_etcdtls.cluster.process import EtcdProcess
from pytest_etcdtls.cluster.sources import find_etcd

KEY = base64.b64encode(b"a key").decode()


def main(etcd: str, preset: str, manner: str) -> None:
    """Take over or start, tell, wait for the end of standard input, leave, and tell again.

    Args:
        etcd: path of an etcd, or name of an image.
        preset: the cluster's configuration.
        manner: ``plain``, ``brief`` to leave it for a second, ``worn`` if no certificate is valid long
            enough, ``damage`` to stop a member, ``users`` to add a user, ``other`` for another configuration.
    """
    source = find_etcd(binary=etcd) if Path(etcd).exists() else find_etcd(image=etcd)
    config = PRESETS[preset].config
    if manner == "other":
        config = replace(config, environment={"ETCD_VERSION_OF_NOTHING": "1"})
    if manner == "worn":
        reuse._LEAST_VALIDITY = 2.0
    kept = reuse.KeptClusters(1 / 60 if manner == "brief" else 5)
    with kept.start(config, source) as cluster:
        tell({**about(cluster), "notes": kept.notes, "waiting": list(map(str, kept.waiting))})
        sys.stdin.read()
        if manner == "damage":
            cluster.stop_member(0)
        if manner == "users":
            gateway_of(cluster.members[0]).post("/v3/auth/user/add", {"name": "joe", "password": "x"})
        kept.leave()
        tell({"notes": kept.notes, "waiting": list(map(str, kept.waiting))})


def about(cluster: Cluster) -> dict[str, object]:
    """The identity of the cluster and the number of its keys, before a key and a lease are added."""
    gateway = gateway_of(cluster.members[0])
    servers = [member.server for member in cluster.members]
    state = {
        "token": cluster.token,
        "url": cluster.members[0].client_url,
        "directory": str(cluster.directory),
        "pids": [server.pid for server in servers if isinstance(server, EtcdProcess)],
        "watchdog": cluster._home.watchdog.pid,
        "keys": call(gateway, "kv/range", key="AA==", range_end="AA==", count_only=True).get("count", "0"),
        "leases": len(call(gateway, "lease/leases").get("leases", [])),  # type: ignore[arg-type]
        "signs": cluster.pki.client_ca.key.public_key() == cluster.pki.client_ca.certificate.public_key(),
        "log": cluster.log(),
    }
    lease = call(gateway, "lease/grant", TTL="600")["ID"]
    call(gateway, "kv/put", key=KEY, value=KEY, lease=lease)
    call(gateway, "kv/put", key=base64.b64encode(b"\0").decode(), value=KEY)
    return state


def call(gateway: Gateway, method: str, **message: object) -> dict[str, object]:
    """Call etcd."""
    status, answer = gateway.post(f"/v3/{method}", message)
    assert status == 200, answer
    return answer


def tell(state: dict[str, object]) -> None:
    """Write a line."""
    print(json.dumps(state), flush=True)  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:4])
