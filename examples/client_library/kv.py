"""A small client of etcd, which these tests are about."""

import base64
import ssl

import httpx


class EtcdRefusedError(Exception):
    """Etcd refuses the client, or is not the etcd that the CA has signed."""


class KV:
    """Keys and values through etcd's JSON gateway."""

    def __init__(self, url: str, context: ssl.SSLContext) -> None:
        self._client = httpx.Client(base_url=url, verify=context)

    def put(self, key: str, value: str) -> None:
        """Store a value."""
        self._post("put", key=_encoded(key), value=_encoded(value))

    def get(self, key: str) -> str | None:
        """Return a value, or ``None``."""
        found = self._post("range", key=_encoded(key)).get("kvs", [])
        return base64.b64decode(found[0]["value"]).decode() if found else None

    def _post(self, call: str, **body: str) -> dict[str, list[dict[str, str]]]:
        try:
            answer = self._client.post(f"/v3/kv/{call}", json=body)
        except httpx.TransportError as error:
            raise EtcdRefusedError(f"{self._client.base_url}: {error}") from error
        answer.raise_for_status()
        found: dict[str, list[dict[str, str]]] = answer.json()
        return found


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
