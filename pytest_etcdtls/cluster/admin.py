"""Administration of an owned etcd: health, users, roles, members.

:class:`Condition` compares a running cluster with the one that was started.
"""

from __future__ import annotations

import http.client
import json
import secrets
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pytest_etcdtls.errors import ClusterStartError, UnreadableJSONError
from pytest_etcdtls.untrusted import printable, read_json

if TYPE_CHECKING:
    from pytest_etcdtls.cluster.cluster import Cluster
    from pytest_etcdtls.cluster.member import Member


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

_Answer = tuple[int, dict[str, Any]]
"""HTTP status and JSON."""


class Gateway:
    """A client of one member's HTTP endpoints."""

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
        self._token = ""

    def log_in(self, user: tuple[str, str]) -> None:
        """Send the token of a user, by name and password, with every further request.

        Raises:
            ClusterStartError: if etcd refuses.
        """
        message = {"name": user[0], "password": user[1]}
        self._token = str(_call(self, "auth/authenticate", message).get("token"))

    def health(self) -> str | None:
        """Request ``/health``; return the problem, ``None`` if the member is healthy."""
        try:
            status, body = self._request("GET", "/health", None)
        except (OSError, http.client.HTTPException) as error:
            return f"{type(error).__name__}: {error}"
        # etcd 3.4 and later quote the value; earlier versions may return an unquoted true.
        healthy = status == http.HTTPStatus.OK and str(body.get("health")).lower() == "true"
        return None if healthy else f"HTTP status {status}, {body}"

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
            if self._token:
                headers["Authorization"] = self._token
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


def gateway_of(member: Member) -> Gateway:
    """Return a client of the member's HTTP endpoints with the cluster's client certificate."""
    url = member.client_http_url or member.client_url
    return Gateway(url, member.file("client.crt"), member.file("client.key"))


def enable_authentication(gateway: Gateway) -> tuple[str, str]:
    """Create the user ``root`` with the role ``root``, enable authentication, return name and password.

    Raises:
        ClusterStartError: if etcd refuses.
    """
    password = secrets.token_urlsafe(18)
    _call(gateway, "auth/user/add", {"name": USER, "password": password})
    _call(gateway, "auth/role/add", {"name": USER})
    _call(gateway, "auth/user/grant", {"user": USER, "role": USER})
    _call(gateway, "auth/enable", {})
    return USER, password


def _call(gateway: Gateway, method: str, message: dict[str, Any]) -> dict[str, Any]:
    try:
        status, answer = gateway.post(f"/v3/{method}", message)
    except (OSError, http.client.HTTPException) as error:
        raise ClusterStartError(f"etcd cannot be administered: {method}: {error}") from error
    if status != HTTPStatus.OK:
        raise ClusterStartError(f"etcd cannot be administered: {method}: {_problem(status, answer)}")
    return answer


def _problem(status: int, answer: dict[str, Any]) -> str:
    return f"status {status}, {answer.get('message') or answer.get('error') or answer}"


def add_learner(member: Member, gateway: Gateway, peer_urls: Sequence[str], seconds: float) -> None:
    """Add a member as a learner, which has no vote, unless it is one already.

    A member that joins before the others have decided on a version of the cluster ends at once
    ("incompatible with current running cluster"), so it is added only after that.

    Args:
        member: a running member, to which the requests go.
        gateway: its client, logged in if authentication is enabled.
        peer_urls: the advertised peer URLs of the new member.
        seconds: time for which the change is tried again while etcd is not available for it.

    Raises:
        ClusterStartError: if etcd refuses, or is not available for that long.
    """

    def add(listed: _Listed) -> _Answer | None:
        if gateway.cluster_version() == _NO_VERSION:
            undecided = "the version of the cluster is not decided"
            return HTTPStatus.SERVICE_UNAVAILABLE, {"code": _UNAVAILABLE, "message": undecided}
        learner = {"peerURLs": list(peer_urls), "isLearner": True}
        return None if listed else gateway.post("/v3/cluster/member/add", learner)

    _change_members(member, gateway, peer_urls, seconds, add, "added")


def promote_member(member: Member, gateway: Gateway, peer_urls: Sequence[str], seconds: float) -> None:
    """Give a learner a vote, unless it has one already. It takes and raises what :func:`add_learner` does."""

    def promote(listed: _Listed) -> _Answer | None:
        voting = any(not each.get("isLearner") for each in listed)
        return None if voting else gateway.post("/v3/cluster/member/promote", {"ID": listed[0]["ID"]})

    _change_members(member, gateway, peer_urls, seconds, promote, "made a voting member")


def remove_member(member: Member, gateway: Gateway, peer_urls: Sequence[str], seconds: float) -> None:
    """Remove a member, unless it is gone already. It takes and raises what :func:`add_learner` does."""

    def remove(listed: _Listed) -> _Answer | None:
        return gateway.post("/v3/cluster/member/remove", {"ID": listed[0]["ID"]}) if listed else None

    _change_members(member, gateway, peer_urls, seconds, remove, "removed")


_Listed = Sequence[Mapping[str, Any]]
"""The entries of the member list that have one of the peer URLs."""


def _change_members(
    member: Member,
    gateway: Gateway,
    peer_urls: Sequence[str],
    seconds: float,
    change: Callable[[_Listed], _Answer | None],
    done: str,
) -> None:
    """Request a change until the member list shows it: ``change`` returns ``None`` if it does."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            status, answer = gateway.post("/v3/cluster/member/list", {})
            if status == HTTPStatus.OK:
                listed = [
                    each for each in answer["members"] if set(each.get("peerURLs", ())) & set(peer_urls)
                ]
                changed = change(listed)
                if changed is None:
                    return
                status, answer = changed
            problem = _problem(status, answer)
            later = status == HTTPStatus.OK or answer.get("code") == _UNAVAILABLE or _NOT_YET in problem
        except (OSError, http.client.HTTPException) as error:
            problem, later = f"{type(error).__name__}: {error}", True
        if not later or time.monotonic() > deadline:
            raise ClusterStartError(
                f"the member with peer URL {', '.join(peer_urls)} cannot be {done}: "
                f"{member.name} at {member.client_url} says: {problem}"
            )
        member.server.wait(_PAUSE_SECONDS)


class Condition:
    """Compares a cluster with what it was when it came up.

    It takes one to two milliseconds for a cluster of processes, the first time a handshake more: the
    connection to the first member is kept between the comparisons.
    """

    def __init__(self, cluster: Cluster) -> None:
        """Remember the files of the cluster, which has just come up."""
        self._cluster = cluster
        self._files = _contents(cluster.pki_directory)
        self._started = self._members()
        self._connection: http.client.HTTPConnection | None = None

    def difference(self) -> str:
        """Return how the cluster differs from what was started, empty if it does not."""
        if self._cluster.paused:
            return f"{', '.join(self._cluster.paused)} is paused"
        for member in self._cluster.members:
            try:
                if not member.running:
                    return f"{member.name} is not running"
            except OSError as error:
                return f"{member.name} cannot be found: {error}"
        return self._replaced_members() or self._other_files() or self._other_members()

    def close(self) -> None:
        """Close the connection. It is opened again when it is needed."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _members(self) -> dict[str, tuple[str, ...]]:
        """Return what each member runs, by name."""
        return {one.name: (self._cluster.source, *one.argv) for one in self._cluster.members}

    def _replaced_members(self) -> str:
        now = self._members()
        if now.keys() != self._started.keys():
            return f"members {', '.join(now)} instead of {', '.join(self._started)}"
        changed = [name for name, runs in now.items() if runs != self._started[name]]
        return f"{', '.join(changed)} was started with another command line" if changed else ""

    def _other_files(self) -> str:
        try:
            now = _contents(self._cluster.pki_directory)
        except OSError as error:
            return f"its files cannot be read: {error}"
        changed = sorted(
            str(path.relative_to(self._cluster.pki_directory))
            for path in self._files.keys() | now.keys()
            if self._files.get(path) != now.get(path)
        )
        return f"other files: {', '.join(changed)}" if changed else ""

    def _other_members(self) -> str:
        """Compare the member list, unless the cluster may refuse its own client."""
        if not self._cluster.config.expects_health:
            return ""
        try:
            status, body = self._list_members()
        except (OSError, http.client.HTTPException) as error:
            return f"{self._cluster.members[0].name} does not answer: {type(error).__name__}: {error}"
        if status != HTTPStatus.OK:
            return ""  # with authentication enabled, etcd may refuse the list to a client without a token
        try:
            answer = read_json(body)
        except UnreadableJSONError:
            answer = None
        listed = answer.get("members") if isinstance(answer, dict) else None
        if not isinstance(listed, list):
            return f"{self._cluster.members[0].name} answers {printable(body[:80])}"
        # A member that was added and has not started has no name.
        names = sorted(str(one.get("name", "")) for one in listed if isinstance(one, dict))
        started = sorted(member.name for member in self._cluster.members)
        return "" if names == started else f"members {', '.join(names)} instead of {', '.join(started)}"

    def _list_members(self) -> tuple[int, bytes]:
        if self._connection is not None:
            try:
                return self._exchange(self._connection)
            except (OSError, http.client.HTTPException):
                self.close()  # the member was restarted, or has closed an idle connection
        self._connection = gateway_of(self._cluster.members[0]).connection()
        try:
            return self._exchange(self._connection)
        except BaseException:
            self.close()
            raise

    @staticmethod
    def _exchange(connection: http.client.HTTPConnection) -> tuple[int, bytes]:
        headers = {"Content-Type": "application/json"}
        connection.request("POST", "/v3/cluster/member/list", json.dumps({}), headers)
        response = connection.getresponse()
        return response.status, response.read()


def _contents(directory: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}
