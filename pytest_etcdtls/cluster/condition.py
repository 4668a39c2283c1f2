"""Whether a running cluster is still the one that was started: its processes, files and members."""

from __future__ import annotations

import http.client
import json
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_etcdtls.cluster.admin import gateway_of
from pytest_etcdtls.errors import UnreadableJSONError
from pytest_etcdtls.untrusted import printable, read_json

if TYPE_CHECKING:
    from pytest_etcdtls.cluster.cluster import Cluster


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

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the connection."""
        return {**vars(self), "_connection": None}

    def difference(self) -> str:
        """Return how the cluster differs from what was started, empty if it does not."""
        if self._cluster.paused:
            return f"{', '.join(self._cluster.paused)} is paused"
        for member in self._cluster.members:
            try:
                if not member.running:
                    return f"{member.name} is not running"
            except OSError as error:
                return f"{member.name} is not to be found: {error}"
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
        """Compare the member list. A cluster that may refuse its own client is not asked."""
        if not self._cluster.config.expects_health:
            return ""
        try:
            status, body = self._ask()
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

    def _ask(self) -> tuple[int, bytes]:
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
