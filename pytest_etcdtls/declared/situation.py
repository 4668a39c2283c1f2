"""What is known of one side of a member when a remedy is chosen for it.

The same fault asks for different steps: a member list is changed only while etcd has a quorum, a certificate
that etcd generated is not renewed as one of a CA is, and what is started by the kubelet is not restarted by
``systemctl``. :mod:`pytest_etcdtls.run.remedies` makes a situation of a recording, and
:mod:`pytest_etcdtls.declared.cures` the steps.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Final

from msgspec import Struct

from pytest_etcdtls.declared.declaration import STATIC_PODS, Declaration, DeclaredMember, Form, exists
from pytest_etcdtls.declared.effective import TLSSide, effective_of
from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.pki.certificate import MAXIMUM_SIZE, load_certificates, load_key, pem_blocks, public_key
from pytest_etcdtls.pki.go_parser import details
from pytest_etcdtls.role import Side
from pytest_etcdtls.untrusted.printable import file_word, pasted
from pytest_etcdtls.untrusted.process_root import names_in
from pytest_etcdtls.untrusted.regular_files import read_regular

_MOST_FILES: Final = 64
"""The most files beside one that are read."""
_KEYS: Final = re.compile(r".*(\.key|key\.pem)")
_CERTIFICATES: Final = re.compile(r".*\.(crt|cer|cert|pem)")
_UNIT: Final = re.compile(r"/([\w@.\\:-]*etcd[\w@.\\:-]*\.service)$", re.MULTILINE)
"""The control group of a systemd unit (systemd.slice(5)). Others may run more than etcd."""
_CONTAINER: Final = re.compile(r"/(docker|libpod)[-/]([0-9a-f]{12})[0-9a-f]{52}")
"""The control group of a container, with either driver."""


class Situation(Struct, frozen=True, kw_only=True):
    """One side of one member.

    Attributes:
        version: of the etcd that runs; ``None`` if it is not known.
        trusted: the file of the CAs that etcd is meant to trust there; ``None`` if it is not known.
        quorum: a client port of the cluster answers, and none reports that it has no leader.
        control_group: that of the process, as ``/proc/PID/cgroup`` has it; empty if none is known.
    """

    member: DeclaredMember
    version: str | None
    side: Side
    trusted: str | None = None
    quorum: bool = True
    control_group: str = ""

    @property
    def declaration(self) -> Declaration:
        """What its operator wrote."""
        return self.member.declaration

    @property
    def tls(self) -> TLSSide:
        """What etcd makes of the settings of the side."""
        return effective_of(self.member, self.version).sides[self.side]

    @property
    def restart(self) -> str:
        """The commands with which what manages etcd restarts it; empty if that is not known."""
        source = Path(self.declaration.source)
        is_static_pod = source.parent.name in STATIC_PODS
        if is_static_pod or kubeadm_directory(self.declaration):
            file = source if is_static_pod else Path("/etc/kubernetes/manifests/etcd.yaml")
            directory = file.parent
            away = pasted("mv", file_word(file), file_word(directory.parent))
            back = pasted("mv", file_word(directory.parent / file.name), file_word(directory))
            return f"{away} && sleep 20 && {back}"
        if container := _CONTAINER.search(self.control_group):
            return pasted("podman" if container[1] == "libpod" else "docker", "restart", container[2])
        unit = _UNIT.search(self.control_group)
        name = unit[1] if unit else source.name if self.declaration.form is Form.UNIT else ""
        return pasted("systemctl", "restart", file_word(name)) if name.endswith(".service") else ""

    def key_beside(self, certificate: str, key: str) -> str | None:
        """Return the declared path of the key of a certificate, which lies beside the one of a setting."""
        wanted = _of_certificate(self.member.file(certificate))
        return self._beside(key, _KEYS, lambda file: _of_key(file) == wanted) if wanted else None

    def certificate_beside(self, name: str, key: str, *, of_ca: bool = False) -> str | None:
        """Return the declared path of the certificate of a key, which lies beside the file of a setting."""
        wanted = _of_key(self.member.file(key))

        def fits(file: Path) -> bool:
            return _of_certificate(file, of_ca=of_ca) == wanted

        return self._beside(name, _CERTIFICATES, fits) if wanted else None

    def labels_in(self, name: str) -> frozenset[str]:
        """Return the labels of the PEM blocks in a setting's file; empty if it is not on this machine."""
        path = self.member.file(name)
        blocks = pem_blocks(read_regular(path, MAXIMUM_SIZE)) if path else ()
        return frozenset(block.label for block in blocks)

    def _beside(self, name: str, named: re.Pattern[str], fits: Callable[[Path], bool]) -> str | None:
        path, declared = self.member.file(name), self.declaration.text(name)
        if path is None or declared is None:
            return None
        others = [other for other in names_in(path.parent) if named.fullmatch(other) and other != path.name]
        for other in others[:_MOST_FILES]:
            if exists(path.with_name(other)) and fits(path.with_name(other)):
                return str(PurePosixPath(declared).with_name(other))
        return None


def _of_key(file: Path | None) -> object:
    """Return the public key of a private one, of which nothing else is used."""
    with suppress(UsageError):
        return load_key(file, consistent=False).public_key() if file else None
    return None


def _of_certificate(file: Path | None, *, of_ca: bool = False) -> object:
    with suppress(UsageError):
        first = load_certificates(file)[0] if file else None
        return public_key(first) if first and (details(first).is_ca or not of_ca) else None
    return None


_WRITERS: Final = (
    (
        r"/rke2/server/tls/etcd/",
        "RKE2",
        "etcd-arg of /etc/rancher/rke2/config.yaml (only settings at the top level of etcd's file count)",
    ),
    (
        r"/server/tls/etcd/(server-client|server-ca)\.crt$",
        "k3s",
        "etcd-arg of /etc/rancher/k3s/config.yaml (only settings at the top level of etcd's file count)",
    ),
    (r"^/system/secrets/etcd/", "Talos", "cluster.etcd.extraArgs of the machine configuration"),
    (r"/k0s/pki/etcd/", "k0s", "spec.storage.etcd.extraArgs of /etc/k0s/k0s.yaml"),
    (r"/pki/[^/]+/clients/[^/]+\.crt$", "kOps", "etcdClusters[].manager.env, as ETCD_ variables"),
    (
        r"/etcd-all-(certs|bundles)/",
        "OpenShift's etcd operator",
        "spec.tlsSecurityProfile (oc edit apiserver cluster), for versions and suites",
    ),
)
"""Programs that overwrite a declaration, by the path of a certificate, and where to change it instead."""
_KUBEADM: Final = (
    "etcd.local.extraArgs of its ClusterConfiguration (kubectl -n kube-system edit configmap kubeadm-config)"
)
_KUBEADM_FILES: Final = ("ca.crt", "server.crt", "peer.crt")


def kubeadm_directory(declaration: Declaration) -> str:
    """Return the directory of etcd's certificates if kubeadm made them, else an empty text."""
    for path in _certificates(declaration):
        directory, _, file = path.rpartition("/")
        if declaration.form is Form.MANIFEST and directory.endswith("/pki/etcd") and file in _KUBEADM_FILES:
            return directory
    return ""


def who_overwrites(declaration: Declaration) -> Iterator[str]:
    """Yield which program overwrites a declaration, and where a change is given so that it stays."""
    kind, _, name = declaration.owner.partition(" ")
    if kind == "node":
        yield f"the kubelet of {name or 'a node'} makes this pod from a file in its directory: edit that file"
    elif kind:
        yield f"the {kind} {name} owns this object, and its controller overwrites it: give the same there"
    writers = [
        (writer, where)
        for pattern, writer, where in _WRITERS
        if any(re.search(pattern, path) for path in _certificates(declaration))
    ]
    if kubeadm_directory(declaration):
        writers.append(("kubeadm upgrade", _KUBEADM))
    for writer, where in writers[:1]:
        yield f"{writer} overwrites this declaration: give the same in {where}"


def _certificates(declaration: Declaration) -> Iterator[str]:
    for name in ("trusted-ca-file", "peer-trusted-ca-file", "cert-file", "peer-cert-file"):
        if path := declaration.text(name):
            yield path
