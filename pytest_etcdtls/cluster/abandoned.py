"""Removes the containers and networks of an owner that was killed.

The watchdog runs this file as a script, with the standard library only: docker-py and testcontainers take
most of a second to import. It uses the Docker Engine API on a local socket, which podman serves too. Other
engines are cleaned up by :func:`~pytest_etcdtls.cluster.container.remove_abandoned`.
"""

from __future__ import annotations

import json
import socket
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from urllib.parse import quote, urlencode

_REQUEST_SECONDS = 10.0
_QUIET_SECONDS = 1.5
"""How long nothing must be found. A request that its sender sent before it died may be executed later."""
_PAUSE_SECONDS = 0.25
_MOST_SECONDS = 60.0


def command(path: str, label: str) -> tuple[str, ...]:
    """Return the command line that calls :func:`remove`."""
    return (sys.executable, "-I", "-S", str(Path(__file__).absolute()), path, label)


def remove(path: str, label: str) -> None:
    """Remove containers, then networks, until none has been found for a while. Failed requests are repeated.

    Args:
        path: path of the engine's local socket.
        label: ``NAME=VALUE`` of the containers and networks.
    """
    begun = quiet_since = time.monotonic()
    while (now := time.monotonic()) - quiet_since < _QUIET_SECONDS and now - begun < _MOST_SECONDS:
        try:
            removed = _remove_once(path, label)
        except (OSError, HTTPException, ValueError):
            removed = False
        if removed:
            quiet_since = time.monotonic()
        time.sleep(_PAUSE_SECONDS)


def _remove_once(path: str, label: str) -> bool:
    """Remove what there is now, and return whether there was anything."""
    containers = list(_identifiers(path, "/containers/json", label, all="1"))
    _at_once(path, [f"/containers/{name}?force=1&v=1" for name in containers])
    networks = list(_identifiers(path, "/networks", label))
    _at_once(path, [f"/networks/{name}" for name in networks])
    return bool(containers or networks)


def _at_once(path: str, resources: list[str]) -> None:
    def delete(resource: str) -> None:
        # What is being removed by another process, or still used, is looked for again.
        with suppress(OSError, HTTPException):
            _request(path, "DELETE", resource)

    if resources:
        with ThreadPoolExecutor(max_workers=5) as pool:
            list(pool.map(delete, resources))


def _identifiers(path: str, resource: str, label: str, **query: str) -> Iterator[str]:
    query["filters"] = json.dumps({"label": [label]})
    for listed in json.loads(_request(path, "GET", f"{resource}?{urlencode(query)}")):
        yield quote(listed["Id"])


def _request(path: str, method: str, resource: str) -> bytes:
    connection = HTTPConnection("localhost", timeout=_REQUEST_SECONDS)
    connection.sock = socket.socket(socket.AF_UNIX)
    try:
        connection.sock.settimeout(_REQUEST_SECONDS)
        connection.sock.connect(path)
        connection.request(method, resource)
        return connection.getresponse().read()
    finally:
        connection.close()


if __name__ == "__main__":
    remove(*sys.argv[1:3])
