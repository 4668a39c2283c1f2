"""nginx and haproxy in front of an etcd: they end TLS, judge clients themselves, and are clients of etcd."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from pytest_etcdtls.etcd.cluster import Cluster
from pytest_etcdtls.role import Role
from pytest_etcdtls.target import Target

_NGINX = """
daemon off;
worker_processes 1;
pid nginx.pid;
error_log stderr;
events {{ worker_connections 512; }}
http {{
  access_log off;
  client_body_temp_path body;
  proxy_temp_path proxy;
  fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  server {{
    listen 127.0.0.1:{port} ssl http2;
    ssl_certificate {pki}/m0/server.crt;
    ssl_certificate_key {pki}/m0/server.key;
    ssl_client_certificate {pki}/client-ca.crt;
    ssl_protocols TLSv1.2 TLSv1.3;
    proxy_ssl_certificate {pki}/client.crt;
    proxy_ssl_certificate_key {pki}/client.key;
    grpc_ssl_certificate {pki}/client.crt;
    grpc_ssl_certificate_key {pki}/client.key;
    {rules}
    location / {{ {each} proxy_pass https://127.0.0.1:{etcd}; }}
    location ~ ^/(etcdserverpb|grpc) {{ {each} grpc_pass grpcs://127.0.0.1:{etcd}; }}
  }}
}}
"""

_HAPROXY = """
global
  maxconn 256
defaults
  mode http
  timeout client 30s
  timeout server 30s
  timeout connect 5s
frontend tls
  bind fd@{descriptor} ssl crt {pki}/proxy.pem alpn h2,http/1.1 {rules}
  {each}
  default_backend h1
  use_backend h2 if {{ path_beg /etcdserverpb }}
backend h1
  server etcd 127.0.0.1:{etcd} ssl verify none crt {pki}/proxy-client.pem
backend h2
  server etcd 127.0.0.1:{etcd} ssl verify none crt {pki}/proxy-client.pem proto h2 alpn h2
"""


@contextlib.contextmanager
def nginx(cluster: Cluster, directory: Path, *, rules: str, each: str = "") -> Iterator[Target]:
    """Run nginx in front of the first member, and yield the cluster with nginx as its client listener.

    Args:
        cluster: to connect to.
        directory: for files of nginx.
        rules: directives of the server.
        each: directives of each location.
    """
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listening:
        text = _NGINX.format(
            port=listening.getsockname()[1],
            pki=cluster.pki_directory,
            etcd=_port(cluster),
            rules=rules,
            each=each,
        )
        command = ["nginx", "-p", str(directory), "-e", "stderr", "-c"]
        with _running(command, directory, text, listening):
            yield _behind(cluster, listening)


@contextlib.contextmanager
def haproxy(
    cluster: Cluster, directory: Path, *, rules: str, each: str = "", etcd: int = 0
) -> Iterator[Target]:
    """Run haproxy in the same way.

    Args:
        cluster: to connect to.
        directory: for files of haproxy.
        rules: options of ``bind``.
        each: a line of the frontend.
        etcd: the port to connect to instead of the cluster's.
    """
    pki = cluster.pki_directory
    for name, pair in (("proxy", pki / "m0" / "server"), ("proxy-client", pki / "client")):
        parts = (pair.with_suffix(suffix).read_text(encoding="utf-8") for suffix in (".crt", ".key"))
        (directory / f"{name}.pem").write_text("".join(parts), encoding="utf-8")
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listening:
        text = _HAPROXY.format(
            descriptor=listening.fileno(),
            etcd=etcd or _port(cluster),
            rules=rules.format(pki=pki),
            each=each,
            pki=directory,
        )
        with _running(["haproxy", "-q", "-db", "-f"], directory, text, listening):
            yield _behind(cluster, listening)


@contextlib.contextmanager
def _running(command: list[str], directory: Path, text: str, listening: socket.socket) -> Iterator[None]:
    configuration, errors = directory / "proxy.conf", directory / "errors"
    configuration.write_text(text, encoding="utf-8")
    with errors.open("w", encoding="utf-8") as stderr:
        process = subprocess.Popen(
            [*command, str(configuration)],
            pass_fds=(listening.fileno(),),
            # nginx takes over sockets that this variable names. So neither waits for a port or loses it.
            env={**os.environ, "NGINX": f"{listening.fileno()};"},
            stderr=stderr,
        )
    try:
        yield
        assert process.poll() is None, errors.read_text(encoding="utf-8")
    finally:
        process.terminate()
        process.wait(timeout=10)


def _port(cluster: Cluster) -> int:
    return int(cluster.members[0].client_url.rpartition(":")[2])


def _behind(cluster: Cluster, listening: socket.socket) -> Target:
    target = cluster.target()
    (client,) = (listener for listener in target.listeners if listener.role is Role.CLIENT)
    through = replace(client, connect_to=("127.0.0.1", int(listening.getsockname()[1])))
    return replace(target, listeners=(through,))
