"""What whoever starts a cluster does around it, for processes and containers alike: PKI, health, users.

Does not know how etcd is started.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from pytest_etcdtls.cluster.config import ClusterConfig
from pytest_etcdtls.cluster.gateway import Gateway
from pytest_etcdtls.cluster.interface import Member
from pytest_etcdtls.cluster.rbac import enable_authentication
from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.pki.bundle import ClusterPKI, MemberNames


def member_names(config: ClusterConfig) -> tuple[str, ...]:
    """Return the members' names: ``m0``, ``m1`` ..."""
    return tuple(f"m{index}" for index in range(config.size))


def generate_pki(config: ClusterConfig, members: Sequence[MemberNames]) -> ClusterPKI:
    """Generate the PKI that is asked for.

    Raises:
        UsageError: if a profile asks for what cannot be encoded.
    """
    try:
        return ClusterPKI.generate(config.pki, members)
    except ValueError as error:
        raise UsageError(f"the PKI that the cluster shall have cannot be generated: {error}") from error


def gateway_of(member: Member) -> Gateway:
    """Return the member's HTTP side, seen with the cluster's own client certificate."""
    url = member.client_http_url or member.client_url
    return Gateway(url, member.file("client.crt"), member.file("client.key"))


def turn_on_authentication(member: Member, password_file: Path) -> tuple[str, str]:
    """Turn authentication on, write the password (0600), and return name and password.

    Raises:
        ClusterStartError: if etcd refuses.
    """
    user, password = enable_authentication(gateway_of(member))
    descriptor = os.open(password_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(password)
    return user, password
