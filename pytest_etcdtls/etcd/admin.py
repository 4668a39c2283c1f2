"""Administration of an owned etcd over its JSON gateway: health, users, roles, members."""

from __future__ import annotations

import http.client
import json
import secrets
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pytest_etcdtls.errors import ClusterStartError, UnreadableJSONError
from pytest_etcdtls.etcd.clocks import system_clock
from pytest_etcdtls.untrusted.json_text import read_json
from pytest_etcdtls.untrusted.printable import printable

_SECONDS = 5.0
_PAUSE_SECONDS = 0.1

USER = "root"
_UNAVAILABLE = 14
"""gRPC status with which etcd refuses a change of its members until all are connected for five seconds.

Source: server/etcdserver/server.go, mayAddMember and mayRemoveMember: ErrUnhealthy.
"""
_NOT_YET = "in sync with leader"
"""A part of ErrLearnerNotReady, with which etcd refuses to promote a learner that has not caught up."""
_NO_VERSION = "not_decided"
"""The cluster's version until its members agree on one (server/etcdserver/api/etcdhttp/version.go)."""
_UNDECIDED = "the version of the cluster is not decided"

_Answer = tuple[int, dict[str, Any]]
"""HTTP status and JSON."""


class Gateway:
    """A client of one member's HTTP endpoints.

    Attributes:
        token: of the user that is logged in.
    """

    def __init__(self, url: str, certificate: Path, key: Path) -> None:
        """Use a listener that serves HTTP/1.1.

        Args:
            url: URL of the client listener, or of the HTTP listener if HTTP is split off the gRPC port.
            certificate: a valid client certificate, PEM.
            key: its key, PEM.
        """
        self.url = url
        self._certificate = certificate
        self._key = key
        self.token = ""

    def log_in(self, user: tuple[str, str]) -> None:
        """Send the token of a user, by name and password, with every further request.

        Raises:
            ClusterStartError: if etcd refuses.
        """
        message = {"name": user[0], "password": user[1]}
        self.token = str(call(self, "auth/authenticate", message).get("token"))

    def health(self) -> str | None:
        """Request ``/health`` and ``/version``; return the problem, ``None`` if the member is healthy.

        For a moment after its first start a cluster is healthy and has no version: ``/version`` says
        ``not_decided``, and etcd refuses what depends on the version (server/etcdserver/server.go,
        monitorVersions).

        Raises:
            ssl.SSLError: if etcd ends the handshake with an alert.
            ConnectionResetError: if it closes the connection without an answer.
        """
        try:
            status, body = self._request("GET", "/health", None)
            version = self.cluster_version()
        except (OSError, http.client.HTTPException) as error:
            is_alert = isinstance(error, ssl.SSLError) and "ALERT" in (error.reason or "")
            if is_alert or isinstance(error, ConnectionResetError):
                raise
            return f"{type(error).__name__}: {error}"
        # etcd 3.4 and later quote the value; earlier versions may return an unquoted true.
        healthy = status == http.HTTPStatus.OK and str(body.get("health")).lower() == "true"
        if not healthy:
            return f"HTTP status {status}, {body}"
        return _UNDECIDED if version == _NO_VERSION else None

    def cluster_version(self) -> str:
        """Return the version that the members agreed on, or ``not_decided``. It raises as :meth:`post`."""
        return str(self._request("GET", "/version", None)[1].get("etcdcluster"))

    def post(self, path: str, message: dict[str, Any]) -> _Answer:
        """Call the JSON gateway (``/v3/...``) and return the status and the response.

        Raises:
            OSError: if the connection or TLS fails.
            http.client.HTTPException: if the response is not HTTP.
        """
        return self._request("POST", path, message)

    def _request(self, method: str, path: str, message: object) -> _Answer:
        body = None if message is None else json.dumps(message)
        connection = self.connection()
        try:
            headers = {"Content-Type": "application/json"} if body else {}
            if self.token:
                headers["Authorization"] = self.token
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            text = response.read()
        finally:
            connection.close()
        try:
            answer = read_json(text)
        except UnreadableJSONError:
            answer = printable(text)
        return response.status, answer if isinstance(answer, dict) else {"text": answer}

    def connection(self) -> http.client.HTTPConnection:
        """Return a new connection, which is opened by its first request. The caller closes it."""
        url = urlsplit(self.url)
        host, port = url.hostname or "", url.port
        if url.scheme == "http":
            return http.client.HTTPConnection(host, port, timeout=_SECONDS)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        # Checks report weak keys; the connection must work with them.
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
        context.load_cert_chain(self._certificate, self._key)
        return http.client.HTTPSConnection(host, port, timeout=_SECONDS, context=context)


def enable_authentication(gateway: Gateway) -> tuple[str, str]:
    """Create the user ``root`` with the role ``root``, enable authentication, return name and password.

    Raises:
        ClusterStartError: if etcd refuses.
    """
    password = secrets.token_urlsafe(18)
    call(gateway, "auth/user/add", {"name": USER, "password": password})
    call(gateway, "auth/role/add", {"name": USER})
    call(gateway, "auth/user/grant", {"user": USER, "role": USER})
    call(gateway, "auth/enable", {})
    return USER, password


def call(gateway: Gateway, method: str, message: dict[str, Any]) -> dict[str, Any]:
    """Call a method (``auth/user/add``) and return the response.

    Raises:
        ClusterStartError: if etcd refuses.
    """
    try:
        status, answer = gateway.post(f"/v3/{method}", message)
    except (OSError, http.client.HTTPException) as error:
        raise ClusterStartError(f"etcd cannot be administered: {method}: {error}") from error
    if status != HTTPStatus.OK:
        raise ClusterStartError(f"etcd cannot be administered: {method}: {_problem(status, answer)}")
    return answer


def _problem(status: int, answer: dict[str, Any]) -> str:
    return f"status {status}, {answer.get('message') or answer.get('error') or answer}"


Listed = Sequence[Mapping[str, Any]]
"""The entries of the member list that have one of the peer URLs."""

MemberChange = Callable[[Gateway, Sequence[str], Listed], _Answer | None]
"""Requests a change of the member with these peer URLs; returns ``None`` if the list shows it already."""


def add_learner(gateway: Gateway, peer_urls: Sequence[str], listed: Listed) -> _Answer | None:
    """Add a member as a learner, which has no vote.

    A member that joins before the others have decided on a version of the cluster ends at once
    ("incompatible with current running cluster"), so it is added only after that.
    """
    if gateway.cluster_version() == _NO_VERSION:
        return HTTPStatus.SERVICE_UNAVAILABLE, {"code": _UNAVAILABLE, "message": _UNDECIDED}
    learner = {"peerURLs": list(peer_urls), "isLearner": True}
    return None if listed else gateway.post("/v3/cluster/member/add", learner)


def promote_member(gateway: Gateway, peer_urls: Sequence[str], listed: Listed) -> _Answer | None:
    """Give a learner a vote."""
    voting = any(not each.get("isLearner") for each in listed)
    return None if voting else gateway.post("/v3/cluster/member/promote", {"ID": listed[0]["ID"]})


def remove_member(gateway: Gateway, peer_urls: Sequence[str], listed: Listed) -> _Answer | None:
    """Remove a member."""
    return gateway.post("/v3/cluster/member/remove", {"ID": listed[0]["ID"]}) if listed else None


_DONE: Mapping[MemberChange, str] = {
    add_learner: "added",
    promote_member: "made a voting member",
    remove_member: "removed",
}


def change_members(gateway: Gateway, peer_urls: Sequence[str], seconds: float, change: MemberChange) -> None:
    """Request a change until the member list shows it.

    Args:
        gateway: the client of a running member, logged in if authentication is enabled.
        peer_urls: the advertised peer URLs of the member that is changed.
        seconds: time for which the change is tried again while etcd is not available for it.
        change: one of the functions above.

    Raises:
        ClusterStartError: if etcd refuses, or is not available for that long.
    """
    deadline = system_clock() + seconds
    while True:
        try:
            status, answer = gateway.post("/v3/cluster/member/list", {})
            if status == HTTPStatus.OK:
                listed = [
                    each for each in answer["members"] if set(each.get("peerURLs", ())) & set(peer_urls)
                ]
                changed = change(gateway, peer_urls, listed)
                if changed is None:
                    return
                status, answer = changed
            problem = _problem(status, answer)
            later = status == HTTPStatus.OK or answer.get("code") == _UNAVAILABLE or _NOT_YET in problem
        except (OSError, http.client.HTTPException) as error:
            problem, later = f"{type(error).__name__}: {error}", True
        if not later or system_clock() > deadline:
            raise ClusterStartError(
                f"the member with peer URL {', '.join(peer_urls)} cannot be {_DONE[change]}: "
                f"etcd at {gateway.url} says: {problem}"
            )
        time.sleep(_PAUSE_SECONDS)
