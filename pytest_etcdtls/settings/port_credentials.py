"""Credentials of a live cluster from the user's files and from kubeadm's directory (``--etcd-pki-dir``).

An option comes first, then etcdctl's environment variables, then the declaration and the directory. Client
and peer ports have separate credentials, and one stands in for the other only where that cannot decide a
verdict: the certificate for clients is tried on peer ports, since a refusal there is no finding. The CA that
verifies a server on the client port does not show which CA peers trust, and is their bundle only if an option
for peers is given.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

from cryptography import x509
from msgspec import Struct

from pytest_etcdtls.declared.declaration import exists
from pytest_etcdtls.declared.files import APISERVER, HEALTHCHECK
from pytest_etcdtls.errors import UnreadableFileError, UsageError
from pytest_etcdtls.pki.certificate import (
    AnyFile,
    HeldFile,
    Passphrases,
    load_certificates,
    load_identity,
    load_key,
    load_trust,
    load_trusted_file,
    public_key,
)
from pytest_etcdtls.pki.go_verify import find_path, issuer_faults, names_host
from pytest_etcdtls.pki.profile import Identity
from pytest_etcdtls.role import Role, Side
from pytest_etcdtls.settings import Source, option
from pytest_etcdtls.target import ExpectedLeaf, Listener, PortCredentials, SigningKey, Target, TrustBundle
from pytest_etcdtls.untrusted.printable import plural
from pytest_etcdtls.untrusted.regular_files import is_there, read_regular


class CredentialSource(Struct, frozen=True, kw_only=True):
    """The credentials of one source: a Secret, the declarations, or a directory.

    Attributes:
        origin: the file that names it, empty for the run's own settings; ``None`` if there is no such source.
        expected: the certificates that must be served.
        kubernetes_ca: the CA of the Kubernetes cluster.
        remarks: files that were found and cannot be used, one sentence each.
    """

    origin: str | None = None
    client: PortCredentials = PortCredentials()
    peer: PortCredentials = PortCredentials()
    expected: tuple[ExpectedLeaf, ...] = ()
    kubernetes_ca: TrustBundle | None = None
    remarks: tuple[str, ...] = ()


SECRET: Final = "etcd_secret"  # noqa: S105 - the name of an option
"""The option that names a Secret of Kubernetes."""

ENVIRONMENT = {
    "etcd_cacert": "ETCDCTL_CACERT",
    "etcd_cert": "ETCDCTL_CERT",
    "etcd_key": "ETCDCTL_KEY",
    "etcd_user": "ETCDCTL_USER",
}
"""etcdctl's environment variables that are used for credentials."""


def add_credentials(
    target: Target, source: Source, secret: CredentialSource, of_files: CredentialSource
) -> Target:
    """Return a target with the credentials that we hold for it.

    Those that options name come first, then those of a Secret, of etcdctl's variables, and those of files.

    Raises:
        UsageError: if a file is not valid for its option, a certificate or a key is given without the other,
            or a client certificate is given for processes that are searched for, without a CA of theirs.
    """
    passphrases = partial(key_passphrases, source)
    of_etcdctl = {} if secret.client.identities else source.environment
    client = _identity(source, "client", ("etcd_cert", "etcd_key"), of_etcdctl, passphrases)
    peer = _identity(source, "peer", ("etcd_peer_cert", "etcd_peer_key"), {}, passphrases)
    client = client or next(iter(secret.client.identities), None)
    peer = peer or next(iter(secret.peer.identities), None)
    of_etcdctl = {} if secret.client.server_ca else source.environment
    named_ca = read_bundle(source, "etcd_cacert", of_etcdctl)
    cacert = named_ca or secret.client.server_ca
    peer_cacert = read_bundle(source, "etcd_peer_cacert") or secret.peer.server_ca
    # The client port's CA does not show which CA peers trust. It is used as their bundle only if an option
    # for peers is given.
    of_peers = (peer_cacert or cacert) if peer_cacert or peer else None
    ca_origin = source.origin("etcd_cacert") if named_ca else secret.origin if cacert else of_files.origin
    of_clients = replace(
        of_files.client,
        named=client,
        server_ca=cacert or of_files.client.server_ca,
        identities=_good(client, of_files.client.identities),
        unproved=_why_unproved(target, "etcd_cacert", cacert, client),
    )
    of_members = replace(
        of_files.peer,
        named=peer,
        server_ca=peer_cacert or of_files.peer.server_ca or (cacert and replace(cacert, inferred=True)),
        identities=_good(peer, of_files.peer.identities, client),
        unproved=_why_unproved(
            target, "etcd_peer_cacert", peer_cacert or _with(cacert, of_files.peer.server_ca), peer or client
        ),
    )
    if target.searched and (why := (client and of_clients.unproved) or (peer and of_members.unproved)):
        raise UsageError(f"{option('etcd_pid')}=auto: {why}, or the ID of a process that is yours")
    return replace(
        target,
        client=_port(source, "", passphrases, secret.client, of_clients, cacert),
        peer=_port(source, "peer_", passphrases, secret.peer, of_members, of_peers),
        kubernetes_ca=read_bundle(source, "etcd_kubernetes_ca")
        or secret.kubernetes_ca
        or of_files.kubernetes_ca,
        password_withheld=_why_withheld(source, ca_origin),
        remarks=of_files.remarks,
    )


def _with(named: TrustBundle | None, of_files: TrustBundle | None) -> TrustBundle | None:
    """Return a bundle that the user named if it has every CA that files name."""
    others = {*of_files.certificates} if of_files else set()
    return named if named and others <= {*named.certificates} else None


def _why_unproved(target: Target, name: str, named_ca: TrustBundle | None, client: Identity | None) -> str:
    """Return why the CA of a process proves nobody; empty if it may.

    Anybody can start a process that names a CA of its own, and list members anywhere. A client certificate
    that the process does not name is then presented to no server that was discovered or searched for. Nor is
    what is in the files of one process presented to another one that may not read them.
    """
    processes = [*target.running.values()]
    if not processes or named_ca:
        return ""
    process = ", ".join(running.process.name for running in processes)
    if not all(each.shares_files_with(processes[0]) for each in processes):
        return f"{process} have files of their own: pass {option(name)}"
    if client is None:
        return ""
    return f"only {process} names its CA, and {client.origin} is not of that process: pass {option(name)}"


def _why_withheld(source: Source, ca_origin: str | None) -> str:
    """Return why the password is sent to no server; empty if it may be.

    A file that names a server and its CA must not get a password that it does not name itself: it may be from
    somebody else. Command line, ini file and environment are one source, each file is one.
    """
    password = source.origin("etcd_password_file")
    if ca_origin is None or password == ca_origin:
        return ""
    of_password, of_ca = (name or "the command line or the environment" for name in (password, ca_origin))
    return (
        f"that of the etcd user is from {of_password}, and the CA that verifies the server is from {of_ca}; "
        "give --etcd-cacert, --etcd-user and --etcd-password-file in the same place: for a cluster of a "
        "list, in the list"
    )


def _good(
    first: Identity | None, declared: tuple[Identity, ...], last: Identity | None = None
) -> tuple[Identity, ...]:
    """Return the good identities in the order in which they are tried, each certificate once."""
    # The last one keeps its name, which on a peer port identifies it as the client's.
    named = [identity.chain[0] for identity in (first, last) if identity]
    others = (identity for identity in declared if identity.chain[0] not in named)
    return tuple(identity for identity in (first, *others, last) if identity)


def read_user(source: Source) -> tuple[str, str] | None:
    """Return the user name and the password for a cluster with authentication enabled.

    Raises:
        UsageError: if one is given without the other, or the password is on the command line.
    """
    name = source.text("etcd_user")
    file = source.path("etcd_password_file")
    if name is None and file is None:
        return _user_of_environment(source.environment)
    if name is None or file is None:
        raise UsageError("--etcd-user and --etcd-password-file go together")
    if ":" in name:
        raise UsageError("--etcd-user takes the name alone: a password belongs in --etcd-password-file")
    return name, read_secrets(file, "--etcd-password-file")[0]


_SECRET_SIZE: Final = 64 * 1024


def read_secrets(path: Path, named_by: str) -> list[str]:
    """Return the lines of a file with passwords, without empty lines after the first.

    Raises:
        UsageError: if the file cannot be read, is not text, or its first line is empty. The message does not
            contain the secret.
    """
    try:
        text = read_regular(path, _SECRET_SIZE).decode()
    except UnreadableFileError as error:
        raise UsageError(f"{named_by} {path} {error}") from error
    except UnicodeDecodeError:
        raise UsageError(f"{named_by} {path} is not text: its first line must be only the secret") from None
    first, *others = (line.rstrip("\r") for line in text.split("\n"))
    if not first:
        raise UsageError(f"{named_by} {path}: its first line is empty")
    return [first, *(line for line in others if line)]


def _user_of_environment(environment: Mapping[str, str]) -> tuple[str, str] | None:
    value = environment.get(ENVIRONMENT["etcd_user"])
    if not value:
        return None
    name, colon, password = value.partition(":")
    if not colon:
        raise UsageError(
            "ETCDCTL_USER names a user without a password: write NAME:PASSWORD, or use --etcd-user and "
            "--etcd-password-file"
        )
    return name, password


def _path(source: Source, name: str, environment: Mapping[str, str]) -> tuple[Path | None, str]:
    """Return the path of a file, and the option or variable that names it."""
    path = source.path(name)
    if path is not None:
        _refuse_token(source.text(name) or "", option(name))
        return path, option(name)
    variable = ENVIRONMENT.get(name, "")
    value = environment.get(variable)
    _refuse_token(value or "", variable)
    return (Path(value).absolute(), variable) if value else (None, option(name))


def _refuse_token(value: str, named_by: str) -> None:
    """Refuse the URI of an object in a PKCS #11 token (RFC 7512). It may contain a PIN, and is not shown."""
    if value.lstrip().lower().startswith("pkcs11:"):
        raise UsageError(
            f"{named_by} names an object in a PKCS #11 token (pkcs11:...), and keys are read from files: "
            "pass a certificate and a key in PEM files, issued for this use"
        )


KEY_PASSWORD: Final = "ETCDTLS_KEY_PASSWORD"  # noqa: S105 - the name of the variable
"""The environment variable with the passphrase of encrypted private keys."""


def key_passphrases(source: Source, path: AnyFile, named_by: str) -> Sequence[bytes]:
    """Return the passphrases that may be those of an encrypted private key; empty if there are none.

    Raises:
        UsageError: if the file with passphrases cannot be used.
    """
    file = source.path("etcd_key_password_file")
    if file is not None:
        return [line.encode() for line in read_secrets(file, "--etcd-key-password-file")]
    if value := source.environment.get(KEY_PASSWORD):
        return [value.encode(errors="surrogateescape")]
    # A declaration may name the file.
    asked = source.ask(f"Passphrase of {named_by} {path}: ")
    return [asked.encode(errors="surrogateescape")] if asked else []


def _identity(
    source: Source,
    name: str,
    options: tuple[str, str],
    environment: Mapping[str, str],
    passphrases: Passphrases,
) -> Identity | None:
    named = any(source.path(name) is not None for name in options)
    # Certificate and key must come from one source.
    used = {} if named else environment
    (cert, cert_named_by), (key, key_named_by) = (_path(source, name, used) for name in options)
    if cert is None and key is None:
        return None
    if cert is None or key is None:
        given, missing = (cert_named_by, key_named_by) if key is None else (key_named_by, cert_named_by)
        variable = ENVIRONMENT.get(missing.removeprefix("--").replace("-", "_"), "")
        advice = (
            f"; {variable} is set, and is used only if neither option is given: pass {missing}=${variable}"
            if named and environment.get(variable)
            else ""
        )
        raise UsageError(f"{given} is given without {missing}: a client needs both{advice}")
    return load_identity(cert, key, name, options=(cert_named_by, key_named_by), passphrases=passphrases)


def read_bundle(
    source: Source, name: str, environment: Mapping[str, str] | None = None
) -> TrustBundle | None:
    """Return the certificates of a CA bundle; ``None`` if no bundle is named.

    Raises:
        UsageError: if the file contains no certificate.
    """
    path, named_by = _path(source, name, environment or {})
    return None if path is None else trust_in(path, named_by)


def trust_in(file: AnyFile, named_by: str) -> TrustBundle:
    """Return the certificates of a CA bundle, with a remark if Go takes none of them as an issuer.

    A certificate in a pool of roots verifies itself, whatever it is (``Certificate.Verify``).

    Raises:
        UsageError: if the file contains no certificate.
    """
    certificates = load_trust(file, option=named_by)
    remark = "" if _issuers(certificates) else "holds no CA certificate, and verifies what is in it alone"
    source = file.origin if isinstance(file, HeldFile) else str(file)
    return TrustBundle(certificates, source, remark=remark)


def _issuers(certificates: Sequence[x509.Certificate]) -> tuple[x509.Certificate, ...]:
    """Return those that Go takes as an issuer if they are roots."""
    return tuple(each for each in certificates if not any(issuer_faults(each, 0, is_anchor=True)))


def _read_trusted(source: Source, name: str) -> TrustBundle | None:
    """Return the bundle that an option names as etcd's own."""
    path, named_by = _path(source, name, {})
    if path is None:
        return None
    certificates, remark = load_trusted_file(path, option=named_by)
    return TrustBundle(certificates, str(path), remark=remark)


def _port(
    source: Source,
    prefix: str,
    passphrases: Passphrases,
    secret: PortCredentials,
    held: PortCredentials,
    candidate: TrustBundle | None,
) -> PortCredentials:
    """Return the credentials of a port with what etcd trusts there, which may be the candidate."""
    signing, good = secret.signing_key, held.identities
    trusted = _read_trusted(source, f"etcd_{prefix}trusted_ca") or held.client_trust
    if trusted is None and signing is not None:
        trusted = TrustBundle((signing.certificate,), signing.origin, inferred=True)
    if trusted is None and candidate and good and chains_to(good[0].chain, _issuers(candidate.certificates)):
        trusted = replace(candidate, inferred=True)
    return replace(
        held,
        client_trust=trusted,
        signing_key=_signing_key(source, prefix, trusted, signing, passphrases),
        served=(*held.served, *secret.served),
    )


def _signing_key(
    source: Source,
    prefix: str,
    trusted: TrustBundle | None,
    of_secret: SigningKey | None,
    passphrases: Passphrases,
) -> SigningKey | None:
    """Return the key of a CA that an option names, or else a Secret has.

    Raises:
        UsageError: if it is of no CA in the bundle that etcd trusts.
    """
    path, named_by = _path(source, f"etcd_{prefix}ca_key", {})
    if path is None:
        if of_secret is None or trusted is None:
            return None
        key, which = of_secret.key, f"{option(SECRET)}: {of_secret.origin}"
    elif trusted is None:
        bundle = option(f"etcd_{prefix}trusted_ca")
        raise UsageError(
            f"{named_by} needs the bundle that etcd trusts: give {bundle} with the certificate of that CA in "
            "it"
        )
    else:
        key, which = load_key(path, option=named_by, passphrases=passphrases), f"{named_by} {path}"
    for certificate in _issuers(trusted.certificates):
        if public_key(certificate) == key.public_key():
            named = SigningKey(certificate, key, certificate_file=trusted.source, key_file=str(path))
            return of_secret if path is None else named
    raise UsageError(
        f"{which} is the key of none of the CAs in {trusted.source}, which has "
        f"{plural(len(trusted.certificates), 'certificate')}"
    )


def chains_to(chain: tuple[x509.Certificate, ...], anchors: tuple[x509.Certificate, ...]) -> bool:
    """Return whether a chain, leaf first, leads to one of the anchors, by names and signatures only."""
    return find_path(chain[0], chain[1:], anchors, datetime.now(UTC)) is not None


_OPTIONS: Final[Mapping[str, Side]] = {"etcd_expect_cert": "client", "etcd_expect_peer_cert": "peer"}
"""The side that serves it: etcd's ``--cert-file`` is served on all but peer listeners."""


def read_expected(source: Source, listeners: Sequence[Listener]) -> tuple[ExpectedLeaf, ...]:
    """Return the certificates that https listeners must serve, as far as options name them.

    With ``--etcd-discover``, a host may also be that of a listener that is discovered later.

    Raises:
        UsageError: if a file contains no certificate, a host is not that of an endpoint, or two files are
            given for one listener.
    """
    expected: list[ExpectedLeaf] = []
    for name, side in _OPTIONS.items():
        served = [each for each in listeners if each.role.side == side and each.scheme == "https"]
        hosts = {listener.host for listener in served}
        for host, path, _ in read_by_host(source, name, hosts, may_grow=source.flag("etcd_discover")):
            certificate = load_certificates(path, option=option(name))[0]
            meant = [listener for listener in served if host in (None, listener.host)]
            expected += [ExpectedLeaf.on(listener, certificate, str(path)) for listener in meant]
            if not meant and host is not None:
                leaf = ExpectedLeaf(role=Role(side), certificate=certificate, source=str(path), host=host)
                expected.append(leaf)
    return tuple(expected)


def read_by_host(
    source: Source, name: str, hosts: Collection[str], *, may_grow: bool
) -> Iterator[tuple[str | None, Path, str]]:
    """Yield host, file and text of each value ``[HOST=]FILE``; the host is ``None`` for all hosts.

    Args:
        source: the source of the values.
        name: of the option.
        hosts: those of the listeners that it is about.
        may_grow: whether listeners of other hosts may be discovered later.

    Raises:
        UsageError: if a host is none of them, or two files are given for one.
    """
    claimed: dict[str | None, str] = {}
    for text in dict.fromkeys(source.texts(name)):
        host, path = _split_host(source, name, text)
        if not (host in hosts or may_grow if host else hosts):
            known = ", ".join(sorted(hosts)) or "none"
            raise UsageError(f"{option(name)} {text!r} matches no listener given: their hosts are {known}")
        for other, first in claimed.items():
            if None in (host, other) or host == other:
                raise UsageError(
                    f"{option(name)} {first!r} and {text!r} both claim {host or other or 'every member'}: "
                    "name the host of each, as HOST=FILE; of several members at one host, judge one at a "
                    "time, or pass --etcd-config of each"
                )
        claimed[host] = text
        yield host, path, text


def _split_host(source: Source, name: str, text: str) -> tuple[str | None, Path]:
    """Return the host (``None`` for all hosts) and the file of a value ``[HOST=]FILE``."""
    whole = source.resolve(name, text)
    host, equals, file = text.partition("=")
    if not equals or is_there(whole):
        return None, whole
    return host.strip("[]").lower(), source.resolve(name, file)


_OPTION = "--etcd-pki-dir"


def read_directory(directory: Path, origin: str, listeners: Sequence[Listener]) -> CredentialSource:
    """Return kubeadm's files for etcd in ``/etc/kubernetes/pki/etcd``, its parent, or a copy of one of them.

    One CA is that of servers, clients and peers. The health check client comes first: it has no
    subjectAltName, and peer ports accept it from any address. Members dial with what they serve to peers.

    Args:
        directory: the directory.
        origin: the file that names it; empty for the run's own settings.
        listeners: those that may serve its certificates.

    Raises:
        UsageError: if there is no ``ca.crt``, a certificate has no key, a file's content does not fit its
            name, or the directory is that of a Secret.
    """
    # The parent has a ca.crt as well, but that is the Kubernetes cluster's, not etcd's.
    etcd = directory / "etcd" if exists(directory / "etcd" / "ca.crt") else directory
    above = etcd.parent / "ca.crt"
    if not exists(etcd / "ca.crt"):
        raise UsageError(
            f"{_OPTION} {directory} holds no ca.crt: without a declaration (--etcd-config) kubeadm's "
            "names of files are looked for, as in /etc/kubernetes/pki/etcd; --etcd-secret reads a mounted "
            "Secret"
        )
    ca, server, peer = (
        trust_in(etcd / "ca.crt", _OPTION),
        _pair(etcd, "server"),
        _pair(etcd, "peer", "peer-pair"),
    )
    healthcheck = _pair(etcd, HEALTHCHECK)
    apiserver = _pair(etcd.parent, APISERVER) or _pair(etcd, APISERVER)
    if exists(etcd / "tls.crt"):
        raise UsageError(
            f"{_OPTION} {etcd} holds tls.crt, the files of a Secret: pass {option(SECRET)} {etcd}"
        )
    return CredentialSource(
        origin=origin,
        client=_side_of_node(ca, server, healthcheck, apiserver),
        peer=_side_of_node(ca, peer, healthcheck, peer),
        expected=tuple(_expected_of_node(listeners, server, peer)),
        kubernetes_ca=trust_in(above, _OPTION) if etcd.name == "etcd" and exists(above) else None,
    )


def _side_of_node(ca: TrustBundle, served: Identity | None, *good: Identity | None) -> PortCredentials:
    return PortCredentials(
        server_ca=ca,
        client_trust=ca,
        identities=tuple(identity for identity in good if identity is not None),
        served=(served,) if served else (),
    )


def _expected_of_node(
    listeners: Sequence[Listener], server: Identity | None, peer: Identity | None
) -> Iterator[ExpectedLeaf]:
    """Yield the certificates that https listeners must serve.

    The directory belongs to one node. With listeners on several hosts, only those that the certificate
    covers are included.
    """
    hosts = {listener.host for listener in listeners}
    for listener in listeners:
        pair = peer if listener.role is Role.PEER else server
        if listener.scheme == "http" or pair is None:
            continue
        leaf = pair.chain[0]
        if len(hosts) == 1 or names_host(leaf, listener.name):
            yield ExpectedLeaf.on(listener, leaf, pair.origin)


def _pair(directory: Path, file: str, name: str | None = None) -> Identity | None:
    certificate, key = directory / f"{file}.crt", directory / f"{file}.key"
    if not exists(certificate):
        return None
    if not exists(key):
        raise UsageError(f"{_OPTION}: {certificate} has no {key.name} beside it: copy both")
    return load_identity(certificate, key, name or file, options=(_OPTION, _OPTION))
