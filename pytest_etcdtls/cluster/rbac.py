"""Turns etcd's authentication on: a role, a user and a password, over the JSON gateway.

Source: etcd's ``rpc.proto``, service Auth. Does not know how etcd was started.
"""

from __future__ import annotations

import http.client
import secrets
from http import HTTPStatus
from typing import Any

from pytest_etcdtls.cluster.gateway import Gateway
from pytest_etcdtls.errors import ClusterStartError

USER = "root"


def enable_authentication(gateway: Gateway) -> tuple[str, str]:
    """Create the user ``root`` with the role ``root``, turn authentication on; return name and password.

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
