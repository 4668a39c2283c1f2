"""What to write into a declaration to fix a fault.

The remedy of a check is a sentence. Taken literally it may be half of a change: peers with https URLs and
nothing else do not start, and with a certificate alone accept everybody. A *cure* is the whole of it: the
settings to write and to remove, on the side of a member where the fault is. A check names its cure
(``@check(..., cure=...)``), as a trap does, and several faults with one cause have the same.
:mod:`pytest_etcdtls.run.remedies` confirms it and prints its lines.

A certificate or CA that is not declared has the name that kubeadm gives it, elsewhere a path below
:data:`PLACEHOLDER`, where no file is. etcd does not start with it, and a remark says what belongs there. A
cure that changes nothing has remarks alone: the declaration is right, and something else runs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from msgspec import Struct
from msgspec.structs import force_setattr, replace

from pytest_etcdtls.declared.declaration import (
    Change,
    Declaration,
    DeclaredMember,
    Form,
    hosts_of,
    is_address,
    parse_urls,
)
from pytest_etcdtls.declared.effective import effective_of, prefix
from pytest_etcdtls.errors import escaped
from pytest_etcdtls.role import Role, Side
from pytest_etcdtls.untrusted.printable import file_word, pasted

PLACEHOLDER: Final = "/REPLACE-WITH"
"""The directory of files that only the operator knows. etcd does not start without them."""


class FaultyMember(Struct, frozen=True, kw_only=True):
    """One member, and a side of it that the fault concerns.

    Attributes:
        label: of the member.
        version: of the etcd that runs; ``None`` if it is not known.
        trusted: the file of the CAs that etcd is meant to trust there; ``None`` if it is not known.
    """

    label: str = ""
    member: DeclaredMember
    version: str | None
    side: Side
    trusted: str | None = None

    @property
    def declaration(self) -> Declaration:
        """What its operator wrote."""
        return self.member.declaration


class Remark(Struct, frozen=True):
    """A sentence that comes with the changes: how to make a file, what to do before the restart.

    Attributes:
        text: the sentence. It is made printable, and one line.
        warns: somebody is locked out if it is not read before.
    """

    text: str
    warns: bool = False

    def __post_init__(self) -> None:
        force_setattr(self, "text", escaped(self.text))


Step = Change | Remark
Cure = Callable[[FaultyMember], Iterator[Step]]


def client_certificates(case: FaultyMember) -> Iterator[Step]:
    """Require certificates of clients: a pair, the trusted CA and the switch, and nothing generated."""
    p = prefix(case.side)
    yield from without(f"{p}auto-tls")(case)
    yield from _pair(case)
    yield Change(f"{p}client-cert-auth", "true")
    yield from trusted_ca(case)


def _pair(case: FaultyMember) -> Iterator[Step]:
    """Yield the certificate and the key, or the half of the pair that is not declared."""
    p = prefix(case.side)
    declared = {end: case.declaration.text(f"{p}{end}-file") for end in ("cert", "key")}
    if all(declared.values()):
        return
    name = "peer" if case.side == "peer" else "server"
    kubeadm = kubeadm_directory(case.declaration)
    path = f"{kubeadm or PLACEHOLDER}/{name}"
    for end, suffix in (("cert", "crt"), ("key", "key")):
        if declared[end] is None:
            yield Change(f"{p}{end}-file", f"{path}.{suffix}")
    if given := next(filter(None, declared.values()), None):
        yield Remark(f"write the path of the certificate or key that belongs to {given}")
    elif kubeadm:
        made = _kubeadm(kubeadm, "init", "phase", "certs", f"etcd-{name}")
        yield Remark(f"if {path}.crt does not exist yet: {made}")
    else:
        hosts = ", ".join(hosts_of(case.declaration, Role(case.side))) or "the member"
        yield Remark(
            f"{path}.crt and {name}.key stand for files that are not declared: issue a certificate for "
            f"{hosts} with extendedKeyUsage serverAuth, clientAuth, and write its path here, and its key's"
        )


def trusted_ca(case: FaultyMember) -> Iterator[Step]:
    """Trust the CA of the clients where no bundle is declared."""
    side = case.side
    name = f"{prefix(side)}trusted-ca-file"
    if case.declaration.text(name) is not None:
        return
    kubeadm, given = kubeadm_directory(case.declaration), case.trusted
    path = given or f"{kubeadm or PLACEHOLDER}/{'peer-' if side == 'peer' and not kubeadm else ''}ca.crt"
    yield Change(name, path)
    if given:
        yield Remark(f"{path} is the known file of the trusted CAs: write its path on the machine of etcd")
    elif not kubeadm:
        whom = "the members' certificates" if side == "peer" else "the certificates of etcd's clients"
        yield Remark(f"replace {path} with the file of the CA that issues {whom}")


_URLS: Final[Mapping[Side, tuple[str, ...]]] = {
    "client": ("listen-client-urls", "listen-client-http-urls", "advertise-client-urls"),
    "peer": ("listen-peer-urls", "initial-advertise-peer-urls", "initial-cluster"),
}


def https(case: FaultyMember) -> Iterator[Step]:
    """Serve and advertise https alone, with all that a side needs for it."""
    changes = [change for name in _URLS[case.side] for change in _secured(case, name)]
    tls = effective_of(case.member, case.version).sides[case.side]
    yield from changes
    if changes and not (tls.certificate and tls.key and tls.trusted_ca and tls.client_cert_auth):
        yield from client_certificates(case)
    if changes and case.side == "peer":
        yield Remark(
            "etcd keeps the peer URLs of its members: in a cluster that exists, change them first with "
            "`etcdctl member update ID --peer-urls=https://...`"
        )


def _secured(case: FaultyMember, name: str) -> Iterator[Change]:
    setting = case.declaration.settings.get(name)
    if setting is None or not setting.value:
        return
    words = [word.strip().replace("http://", "https://") for word in setting.value.split(",")]
    words = list(dict.fromkeys(words))
    if name == "advertise-client-urls":
        words = _advertisable(case, words)
    if words != [word.strip() for word in setting.value.split(",")]:
        yield Change(name, ",".join(words))


def _advertisable(case: FaultyMember, urls: list[str]) -> list[str]:
    """Return the URLs without addresses at which the member does not listen."""
    listen = case.declaration.urls("listen-client-urls")
    if not listen or any(url.is_wildcard or url.is_socket for url in listen):
        return urls
    ports = {url.address for url in listen}
    kept = [
        url
        for url in urls
        if all(not is_address(each.host) or each.address in ports for each in parse_urls(url))
    ]
    return kept or list(dict.fromkeys(f"https://{url.address}" for url in listen))


def https_of(side: Side) -> Cure:
    """Return the cure that serves and advertises https alone on one side."""
    return lambda case: https(replace(case, side=side))


def advertised(case: FaultyMember) -> Iterator[Step]:
    """Advertise the URLs on which the member listens."""
    yield from _secured(case, "advertise-client-urls")


def https_metrics(case: FaultyMember) -> Iterator[Step]:
    """Serve metrics by https, with the client authentication of the client port."""
    yield from _secured(case, "listen-metrics-urls")
    yield Remark(
        "scrapers of metrics then need a client certificate, and probes of the kubelet have none: keep a URL "
        "http://127.0.0.1:2381 for them"
    )


def without(*names: str) -> Cure:
    """Return the cure that removes flags."""

    def cure(case: FaultyMember) -> Iterator[Step]:
        for name in names:
            if name in case.declaration.settings:
                yield Change(name, None)

    return cure


SAN_CHECK_OFF: Final = (
    *("peer-skip-client-san-verification", "experimental-peer-skip-client-san-verification"),
    "client-skip-client-san-verification",
)
"""The flags that switch the SAN rule off."""


def no_profiles(case: FaultyMember) -> Iterator[Step]:
    """Turn profiling off: its flags, and the log level debug, which also turns it on."""
    yield from without("enable-pprof", "debug")(case)
    if case.declaration.text("log-level") == "debug":
        yield Change("log-level", "info")


_SUITES: Final = tuple(
    f"TLS_ECDHE_{key}_WITH_AES_{rest}"
    for rest in ("128_GCM_SHA256", "256_GCM_SHA384")
    for key in ("ECDSA", "RSA")
)
"""With ECDHE and AEAD, for any served key. HTTP/2 requires the first two, each for its keys."""


def suites(case: FaultyMember) -> Iterator[Step]:
    """Name suites with ECDHE and AEAD instead of the declared ones."""
    if not case.declaration.words("cipher-suites"):
        return
    # With TLS 1.3 alone suites decide nothing, and keep etcd from starting.
    only_1_3 = case.declaration.text("tls-min-version") == "TLS1.3"
    yield Change("cipher-suites", None if only_1_3 else ",".join(_SUITES))


def handshakes(case: FaultyMember) -> Iterator[Step]:
    """Declare suites for each type of key, and allow TLS 1.3."""
    yield from suites(case)
    if case.declaration.text("tls-max-version") == "TLS1.2":
        yield Change("tls-max-version", None)


def renewed(case: FaultyMember) -> Iterator[Step]:
    """Renew the certificate by the program that has made it."""
    for name, directory in _made_by_kubeadm(case):
        yield Remark(f"kubeadm made it: {_kubeadm(directory, 'certs', 'renew', f'etcd-{name}')}")


def reissued(case: FaultyMember) -> Iterator[Step]:
    """Issue the certificate again by the program that has made it, since a renewal keeps what is in it."""
    for name, directory in _made_by_kubeadm(case):
        remove = pasted("rm", *(file_word(f"{directory}/{name}.{end}") for end in ("crt", "key")))
        make = _kubeadm(directory, "init", "phase", "certs", f"etcd-{name}")
        yield Remark(f"kubeadm made it: {remove} && {make}")


def _made_by_kubeadm(case: FaultyMember) -> Iterator[tuple[str, str]]:
    """Yield kubeadm's name of the certificate of the side, and its directory, if it has made it."""
    directory = kubeadm_directory(case.declaration)
    name = "peer" if case.side == "peer" else "server"
    if directory and case.declaration.text(f"{prefix(case.side)}cert-file") == f"{directory}/{name}.crt":
        yield name, directory


def _kubeadm(directory: str, *words: str) -> str:
    parent = str(Path(directory).parent)
    elsewhere = () if parent == "/etc/kubernetes/pki" else ("--cert-dir", parent)
    return pasted("kubeadm", *words, *elsewhere)


def restarted(_: FaultyMember) -> Iterator[Step]:
    """Restart etcd with the declaration as it is: its bundle decides which clients are refused."""
    yield from ()


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
"""What overwrites a declaration, by the path of a certificate, and where to give the same instead."""
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
