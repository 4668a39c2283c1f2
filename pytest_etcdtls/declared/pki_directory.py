"""kubeadm's directory of etcd's certificates, where nothing else is declared: which files there are.

Source: kubeadm's certificate list. Finds files; does not read them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pytest_etcdtls.declared.files import exists
from pytest_etcdtls.errors import UsageError


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key."""

    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class PKIDirectory:
    """What kubeadm keeps for etcd on a control plane; what is not there is ``None``.

    Attributes:
        ca: the certificate of the CA that signs everything.
        ca_key: its key.
        server: ``server.crt``, what client ports serve.
        peer: ``peer.crt``, what peer ports serve and members dial with.
        healthcheck_client: a client without subjectAltName, so that peer ports take it from any address.
        apiserver_etcd_client: the API server's client; it lies beside etcd's directory.
    """

    ca: Path
    ca_key: Path | None
    server: Pair | None
    peer: Pair | None
    healthcheck_client: Pair | None
    apiserver_etcd_client: Pair | None


def read_pki_directory(directory: Path, *, option: str = "--etcd-pki-dir") -> PKIDirectory:
    """Return what is in kubeadm's directory: ``/etc/kubernetes/pki/etcd``, or the one above it.

    Args:
        directory: it, or a copy.
        option: the option that named it, for messages.

    Raises:
        UsageError: if there is no ``ca.crt``, or a certificate has no key beside it.
    """
    require_directory(directory, option)
    # The one above has a ca.crt as well, and that is the cluster's own, not etcd's.
    etcd = directory / "etcd" if exists(directory / "etcd" / "ca.crt") else directory
    authority = etcd / "ca.crt"
    if not exists(authority):
        raise UsageError(
            f"{option} {directory} holds no ca.crt: without a declaration (--etcd-config) kubeadm's names of "
            "files are looked for, as in /etc/kubernetes/pki/etcd"
        )
    key = etcd / "ca.key"
    client = "apiserver-etcd-client"
    return PKIDirectory(
        ca=authority,
        ca_key=key if exists(key) else None,
        server=_pair(etcd, "server", option),
        peer=_pair(etcd, "peer", option),
        healthcheck_client=_pair(etcd, "healthcheck-client", option),
        apiserver_etcd_client=_pair(etcd.parent, client, option) or _pair(etcd, client, option),
    )


def require_directory(directory: Path, option: str) -> None:
    """Refuse what is no directory, or may not be entered by this user.

    Raises:
        UsageError: if so.
    """
    try:
        if directory.is_dir():
            return
        what = "is a file, not a directory" if directory.exists() else "does not exist"
    except PermissionError:
        what = "is in a directory that may not be entered by this user: run as one who may, or pass a copy"
    except OSError as error:
        what = f"cannot be looked into ({error.strerror})"
    raise UsageError(f"{option} {directory} {what}")


def _pair(directory: Path, name: str, option: str) -> Pair | None:
    pair = Pair(directory / f"{name}.crt", directory / f"{name}.key")
    if not exists(pair.certificate):
        return None
    if not exists(pair.key):
        raise UsageError(f"{option}: {pair.certificate} has no {pair.key.name} beside it: copy both")
    return pair
