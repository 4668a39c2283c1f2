"""Puts and gets a key with a client library in its own process, and prints how that ended.

Each line of standard input is a JSON object: ``client``, ``url``, ``ca``, ``cert`` and ``key`` (files, or
null) for a new client, or ``{"again": true}`` for one more request of the last one. Each gets one line:
``{"value": TEXT}`` or ``{"errors": [[TYPE, MESSAGE], ...], "warnings": [TEXT, ...]}``, the exception that was
raised, those in the course of which it was, and those that the client has logged.
"""

from __future__ import annotations

import json
import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

SECONDS = 30
Exchange = Callable[[str], str]
"""Puts that value, gets it, and returns what came back."""


class Keeping(logging.Handler):
    """Keeps the exceptions that are logged."""

    def __init__(self) -> None:
        super().__init__()
        self.exceptions: list[BaseException] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1]:
            self.exceptions.append(record.exc_info[1])


KEEPING = Keeping()


def etcd3gw(host: str, port: int, ca: str, cert: str | None, key: str | None) -> Exchange:
    from etcd3gw.client import Etcd3Client

    client = Etcd3Client(
        host, port, protocol="https", ca_cert=ca, cert_cert=cert, cert_key=key, timeout=SECONDS
    )

    def exchange(value: str) -> str:
        client.put("neighbour", value)
        return str(client.get("neighbour")[0].decode())

    return exchange


def etcd3_py(host: str, port: int, ca: str, cert: str | None, key: str | None) -> Exchange:
    import requests
    from etcd3 import Client

    logging.getLogger("etcd3").setLevel(logging.DEBUG)
    logging.getLogger("etcd3").addHandler(KEEPING)
    # It waits 0.3 s for /version, whatever time it is given: on a busy machine that is too short.
    get = requests.get
    requests.get = lambda *args, **options: get(*args, **{**options, "timeout": SECONDS})
    pair = (cert, key) if cert else ()
    client = Client(host, port, protocol="https", cert=pair, verify=ca, timeout=SECONDS)

    def exchange(value: str) -> str:
        client.put("neighbour", value)
        return str(client.range("neighbour").kvs[0].value.decode())

    return exchange


def etcd_sdk_python(host: str, port: int, ca: str, cert: str | None, key: str | None) -> Exchange:
    import pyetcd

    client = pyetcd.client(host, port, ca_cert=ca, cert_cert=cert, cert_key=key, timeout=SECONDS)

    def exchange(value: str) -> str:
        client.put("neighbour", value)
        return str(client.get("neighbour")[0].decode())

    return exchange


def python_etcd3(host: str, port: int, ca: str, cert: str | None, key: str | None) -> Exchange:
    from etcd3 import client as connect

    client = connect(host, port, ca_cert=ca, cert_cert=cert, cert_key=key, timeout=SECONDS)

    def exchange(value: str) -> str:
        client.put("neighbour", value)
        return str(client.get("neighbour")[0].decode())

    return exchange


def aetcd(host: str, port: int, ca: str, cert: str | None, key: str | None) -> Exchange:
    import asyncio

    from aetcd import Client

    async def put_and_get(value: str) -> str:
        async with Client(host, port, timeout=SECONDS) as client:
            await client.put(b"neighbour", value.encode())
            return str((await client.get(b"neighbour")).value.decode())

    return lambda value: asyncio.run(put_and_get(value))


def etcd_client_py(host: str, port: int, ca: str, cert: str | None, key: str | None) -> Exchange:
    import asyncio

    from etcd_client import Client

    async def put_and_get(value: str) -> str:
        async with Client([f"https://{host}:{port}"]).connect() as client:
            await client.put(b"neighbour", value.encode())
            return bytes(await client.get(b"neighbour")).decode()

    return lambda value: asyncio.run(put_and_get(value))


CLIENTS = {
    "etcd3": python_etcd3,
    "etcd3gw": etcd3gw,
    "etcd3-py": etcd3_py,
    "etcd-sdk-python": etcd_sdk_python,
    "aetcd": aetcd,
    "etcd-client-py": etcd_client_py,
}


def main() -> None:
    exchange: Exchange | None = None
    for number, line in enumerate(sys.stdin):
        asked: dict[str, Any] = json.loads(line)
        answer: dict[str, Any]
        KEEPING.exceptions.clear()
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            try:
                if "again" not in asked:
                    parts = urlsplit(asked["url"])
                    exchange = CLIENTS[asked["client"]](
                        str(parts.hostname), int(parts.port or 0), asked["ca"], asked["cert"], asked["key"]
                    )
                assert exchange is not None
                answer = {"value": exchange(f"value {number}")}
            except Exception as error:
                errors = [one for each in (error, *KEEPING.exceptions) for one in _chain(each)]
                answer = {"errors": errors, "warnings": [str(one.message) for one in warned]}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def _chain(error: BaseException | None) -> Iterator[tuple[str, str]]:
    while error is not None:
        yield f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins."), str(error)
        error = error.__cause__ or error.__context__


if __name__ == "__main__":
    main()
