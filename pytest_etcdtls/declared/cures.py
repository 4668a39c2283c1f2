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

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from msgspec import Struct
from msgspec.structs import force_setattr, replace

from pytest_etcdtls.declared.declaration import (
    Change,
    hosts_of,
    is_address,
    parse_urls,
)
from pytest_etcdtls.declared.effective import effective_of, prefix
from pytest_etcdtls.declared.situation import Situation, kubeadm_directory
from pytest_etcdtls.errors import escaped
from pytest_etcdtls.role import Role, Side
from pytest_etcdtls.untrusted.printable import file_word, pasted

PLACEHOLDER: Final = "/REPLACE-WITH"
"""The directory of files that only the operator knows. etcd does not start without them."""


class Remark(Struct, frozen=True):
    """A sentence that comes with the changes: how to make a file, what to do before the restart.

    Attributes:
        text: the sentence. It is made printable, and one line.
        warns: somebody is locked out if it is not read before.
        instead: it replaces the remediation of the check.
    """

    text: str
    warns: bool = False
    instead: bool = False

    def __post_init__(self) -> None:
        force_setattr(self, "text", escaped(self.text))


class OtherFile(Struct, frozen=True):
    """A setting names the wrong file, and the right one lies beside it. No file is changed.

    Attributes:
        name: of the setting.
        path: of the right file, as etcd has it.
        why: what shows which of them is wrong.
    """

    name: str
    path: str
    why: str

    @property
    def text(self) -> str:
        """What to do, in one sentence."""
        return f"{self.why}: set {pasted(f'--{self.name}={self.path}')}, and restart etcd"


class Issue(Struct, frozen=True):
    """A certificate is issued again by what has made it.

    Attributes:
        name: of the setting whose file has it.
        text: who made it, with which command it is issued again, and what of it stays as it was.
        instead: it replaces the remediation of the check.
    """

    name: str
    text: str
    instead: bool = True


class Restart(Struct, frozen=True):
    """What manages etcd starts it again, with its declaration as it is."""


Step = Change | OtherFile | Issue | Restart | Remark
Cure = Callable[[Situation], Iterator[Step]]


def client_certificates(case: Situation) -> Iterator[Step]:
    """Require certificates of clients: a pair, the trusted CA and the switch, and nothing generated."""
    p = prefix(case.side)
    yield from without(f"{p}auto-tls")(case)
    yield from _pair(case)
    yield Change(f"{p}client-cert-auth", "true")
    yield from trusted_ca(case)


def _pair(case: Situation) -> Iterator[Step]:
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


def trusted_ca(case: Situation) -> Iterator[Step]:
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


NO_QUORUM: Final = (
    "etcd keeps the peer URLs of its members, and changes them only while it has a quorum, which it lacks "
    "now: start the members with the peer URLs of the member list again, until clients are served; change "
    "the list then, and these settings last"
)


def https(case: Situation) -> Iterator[Step]:
    """Serve and advertise https alone, with all that a side needs for it."""
    changes = [change for name in _URLS[case.side] for change in _secured(case, name)]
    tls = effective_of(case.member, case.version).sides[case.side]
    yield from changes
    if changes and not (tls.certificate and tls.key and tls.trusted_ca and tls.client_cert_auth):
        yield from client_certificates(case)
    if changes and case.side == "peer":
        if case.quorum:
            yield Remark(
                "etcd keeps the peer URLs of its members: in a cluster that exists, change them first with "
                "`etcdctl member update ID --peer-urls=https://...`"
            )
        else:
            yield Remark(NO_QUORUM, instead=True)


def _secured(case: Situation, name: str) -> Iterator[Change]:
    setting = case.declaration.settings.get(name)
    if setting is None or not setting.value:
        return
    words = [word.strip().replace("http://", "https://") for word in setting.value.split(",")]
    words = list(dict.fromkeys(words))
    if name == "advertise-client-urls":
        words = _advertisable(case, words)
    if words != [word.strip() for word in setting.value.split(",")]:
        yield Change(name, ",".join(words))


def _advertisable(case: Situation, urls: list[str]) -> list[str]:
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


def advertised(case: Situation) -> Iterator[Step]:
    """Advertise the URLs on which the member listens."""
    yield from _secured(case, "advertise-client-urls")


def https_metrics(case: Situation) -> Iterator[Step]:
    """Serve metrics by https, with the client authentication of the client port."""
    yield from _secured(case, "listen-metrics-urls")
    yield Remark(
        "scrapers of metrics then need a client certificate, and probes of the kubelet have none: keep a URL "
        "http://127.0.0.1:2381 for them"
    )


def without(*names: str) -> Cure:
    """Return the cure that removes flags."""

    def cure(case: Situation) -> Iterator[Step]:
        for name in names:
            if name in case.declaration.settings:
                yield Change(name, None)

    return cure


SAN_CHECK_OFF: Final = (
    *("peer-skip-client-san-verification", "experimental-peer-skip-client-san-verification"),
    "client-skip-client-san-verification",
)
"""The flags that switch the SAN rule off."""


def no_profiles(case: Situation) -> Iterator[Step]:
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


def suites(case: Situation) -> Iterator[Step]:
    """Name suites with ECDHE and AEAD instead of the declared ones."""
    if not case.declaration.words("cipher-suites"):
        return
    # With TLS 1.3 alone suites decide nothing, and keep etcd from starting.
    only_1_3 = case.declaration.text("tls-min-version") == "TLS1.3"
    yield Change("cipher-suites", None if only_1_3 else ",".join(_SUITES))


def handshakes(case: Situation) -> Iterator[Step]:
    """Declare suites for each type of key, and allow TLS 1.3."""
    yield from suites(case)
    if case.declaration.text("tls-max-version") == "TLS1.2":
        yield Change("tls-max-version", None)


def pair_of(certificate: str, key: str) -> Cure:
    """Return the cure for a pair that does not fit: the fitting key or certificate lies beside it."""

    def cure(case: Situation) -> Iterator[Step]:
        named = {name: case.declaration.text(name) for name in (certificate, key)}
        why = f"{named[key]} is not the key of {named[certificate]}"
        if path := case.key_beside(certificate, key):
            yield OtherFile(key, path, f"{why}, and {path}, beside it, is")
        elif path := case.certificate_beside(certificate, key):
            yield OtherFile(certificate, path, f"{why}, and {path} is its certificate")

    return cure


def certificate_of_ca(case: Situation) -> Iterator[Step]:
    """Name the certificate of the CA where its private key is named, or a file that has one."""
    name = f"{prefix(case.side)}trusted-ca-file"
    labels, file = case.labels_in(name), case.declaration.text(name)
    if not any(label.endswith("PRIVATE KEY") for label in labels):
        return
    if "CERTIFICATE" not in labels and (path := case.certificate_beside(name, name, of_ca=True)):
        yield OtherFile(name, path, f"{file} is a private key, and {path}, beside it, is its certificate")
    else:
        yield Issue(
            name,
            f"{file} contains a private key, so do not change it: write only the CA certificates into "
            f"another file, set --{name} to that file, and restart etcd",
        )


def issued_again(name: str, what: str) -> Cure:
    """Return the cure that replaces a certificate in the file of a setting."""

    def cure(_: Situation) -> Iterator[Step]:
        where = f"and replace it in the file of --{name}, which etcd reads at the next handshake"
        yield Issue(name, f"issue {what}, {where}; the file of the trusted CAs is right")

    return cure


def renewed(case: Situation) -> Iterator[Step]:
    """Renew the certificate by the program that has made it."""
    if case.tls.generated:
        name = f"{prefix(case.side)}auto-tls"
        data = case.declaration.text("data-dir") or f"{case.declaration.name}.etcd"
        made = f"{data}/fixtures/{case.side}"
        away = pasted("mv", file_word(made), file_word(f"{made}.old"))
        yield Issue(
            name,
            f"etcd generated it (--{name}) and keeps it in {made}: move it away, {away}, and restart etcd, "
            f"which generates another; clients verify only one of a CA, without --{name}",
        )
        yield Restart()
    for name, directory in _made_by_kubeadm(case):
        command = _kubeadm(directory, "certs", "renew", f"etcd-{name}")
        yield Issue(
            f"{prefix(case.side)}cert-file",
            f"kubeadm made it: {command}, which keeps its names; etcd serves it at the next handshake, "
            "without a restart",
        )


def reissued(case: Situation) -> Iterator[Step]:
    """Issue the certificate again by the program that has made it, since a renewal keeps what is in it."""
    for name, directory in _made_by_kubeadm(case):
        files = [file_word(f"{directory}/{name}.{end}") for end in ("crt", "key")]
        away = " && ".join(pasted("mv", file, f"{file}.old") for file in files)
        make = _kubeadm(directory, "init", "phase", "certs", f"etcd-{name}")
        names = f"etcd.local.{name}CertSANs"
        yield Issue(
            f"{prefix(case.side)}cert-file",
            f"kubeadm made it: {away} && {make} (with --config FILE for further names, which are {names} of "
            "the ClusterConfiguration); a renewal by kubeadm keeps what is in it",
            instead=False,
        )


def _made_by_kubeadm(case: Situation) -> Iterator[tuple[str, str]]:
    """Yield kubeadm's name of the certificate of the side, and its directory, if it has made it."""
    directory = kubeadm_directory(case.declaration)
    name = "peer" if case.side == "peer" else "server"
    if directory and case.declaration.text(f"{prefix(case.side)}cert-file") == f"{directory}/{name}.crt":
        yield name, directory


def _kubeadm(directory: str, *words: str) -> str:
    parent = str(Path(directory).parent)
    elsewhere = () if parent == "/etc/kubernetes/pki" else ("--cert-dir", parent)
    return pasted("kubeadm", *words, *elsewhere)


def restarted(_: Situation) -> Iterator[Step]:
    """Restart etcd with the declaration as it is: its bundle decides which clients are refused."""
    yield Restart()
