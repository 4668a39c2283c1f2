"""Administration of an owned etcd: health, users, roles."""

from __future__ import annotations

import http.client
import json
import secrets
import ssl
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pytest_etcdtls.errors import ClusterStartError, UnreadableJSONError
from pytest_etcdtls.untrusted import printable, read_json

if TYPE_CHECKING:
    from pytest_etcdtls.cluster.member import Member

_SECONDS = 5.0


class Gateway:
    """A client of one member's HTTP endpoints."""

    def __init__(self, url: str, certificate: Path, key: Path) -> None:
        """Use a listener that serves HTTP/1.1.

        Args:
            url: URL of the client listener, or of the HTTP listener if HTTP is split off the gRPC port.
            certificate: a valid client certificate, PEM.
            key: its key, PEM.
        """
        self._url = urlsplit(url)
        self._certificate = certificate
        self._key = key

    def health(self) -> str | None:
        """Request ``/health``; return the problem, ``None`` if the member is healthy."""
        try:
            status, body = self._request("GET", "/health", None)
        except (OSError, http.client.HTTPException) as error:
            return f"{type(error).__name__}: {error}"
        # etcd 3.4 and later quote the value; earlier versions may return an unquoted true.
        healthy = status == http.HTTPStatus.OK and str(body.get("health")).lower() == "true"
        return None if healthy else f"HTTP status {status}, {body}"

    def post(self, path: str, message: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Call the JSON gateway (``/v3/...``) and return the status and the response.

        Raises:
            OSError: if the connection or TLS fails.
            http.client.HTTPException: if the response is not HTTP.
        """
        return self._request("POST", path, message)

    def _request(self, method: str, path: str, message: object) -> tuple[int, dict[str, Any]]:
        body = None if message is None else json.dumps(message)
        connection = self._connection()
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
            response = connection.getresponse()
            text = response.read()
        finally:
            connection.close()
        try:
            answer = read_json(text)
        except UnreadableJSONError:
            answer = printable(text)
        return response.status, answer if isinstance(answer, dict) else {"text": answer}

    def _connection(self) -> http.client.HTTPConnection:
        host, port = self._url.hostname or "", self._url.port
        if self._url.scheme == "http":
            return http.client.HTTPConnection(host, port, timeout=_SECONDS)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        # Checks report weak keys; the connection must work with them.
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
        context.load_cert_chain(self._certificate, self._key)
        return http.client.HTTPSConnection(host, port, timeout=_SECONDS, context=context)


def gateway_of(member: Member) -> Gateway:
    """Return a client of the member's HTTP endpoints with the cluster's client certificate."""
    url = member.client_http_url or member.client_url
    return Gateway(url, member.file("client.crt"), member.file("client.key"))


USER = "root"


def enable_authentication(gateway: Gateway) -> tuple[str, str]:
    """Create the user ``root`` with the role ``root``, enable authentication, return name and password.

    Raises:
        ClusterStartError: if etcd refuses.
    """
    password = secrets.token_urlsafe(18)
    _call(gateway, "user/add", {"name": USER, "password": password})
    _call(gateway, "role/add", {"name": USER})
    _call(gateway, "user/grant", {"user": USER, "role": USER})
    _call(gateway, "enable", {})
    return USER, password


def _call(gateway: Gateway, method: str, message: dict[str, Any]) -> None:
    try:
        status, answer = gateway.post(f"/v3/auth/{method}", message)
    except (OSError, http.client.HTTPException) as error:
        raise ClusterStartError(f"authentication cannot be turned on: {method}: {error}") from error
    if status != HTTPStatus.OK:
        problem = answer.get("message") or answer.get("error") or answer
        raise ClusterStartError(f"authentication cannot be turned on: {method}: status {status}, {problem}")
