"""What is said about a cluster that is left standing: where it is, how to talk to it, how to stop it.

Names files, never what is in them.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from pytest_etcdtls.cluster.interface import Cluster


def farewell(cluster: Cluster, directory: Path, stop: str, *, password_file: Path | None = None) -> str:
    """Return lines to read and to paste.

    Args:
        cluster: that is left standing.
        directory: everything of it is in there.
        stop: shell line that ends it and removes the directory.
        password_file: of the user ``root``, where authentication is on.
    """
    lines = [f"etcd {cluster.version} ({cluster.source}) is left standing in {directory}:"]
    for member in cluster.members:
        urls = (member.client_url, member.plain_client_url, member.client_http_url, member.metrics_url)
        served = ", ".join(url for url in urls if url is not None)
        lines.append(f"  {member.name}: clients {served}; peers {member.peer_url}")
    lines += ["  talk to it:", *(f"    {line}" for line in _ways_to_talk(cluster, password_file))]
    return "\n".join([*lines, "  stop it:", f"    {stop}"])


def _ways_to_talk(cluster: Cluster, password_file: Path | None) -> list[str]:
    member = cluster.members[0]
    ca, certificate, key = (
        shlex.quote(str(member.file(name))) for name in ("server-ca.crt", "client.crt", "client.key")
    )
    endpoints = ",".join(m.client_url for m in cluster.members)
    user = f' --user="root:$(cat {shlex.quote(str(password_file))})"' if password_file else ""
    url = member.client_http_url or member.client_url
    credentials = f"--cacert={ca} --cert={certificate} --key={key}{user}"
    return [
        f"etcdctl --endpoints={endpoints} {credentials} endpoint status",
        f"curl -g --cacert {ca} --cert {certificate} --key {key} {shlex.quote(url + '/version')}",
    ]
