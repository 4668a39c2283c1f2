"""Credentials in Secrets of Kubernetes: ``--etcd-secret``.

A Secret is read as ``kubectl get secret`` writes it with ``-o yaml`` or ``-o json``: one, a List, or several
documents. Its values stay in memory. They are in no message, no report and no file. A directory is a Secret
that is mounted: its values are the files there, and its type is not known.

What a value is for is known by its name: :data:`_PAIRS` and :data:`_CAS` have those in use. A pair counts as
the options of the same purpose do: a client as ``--etcd-cert`` with ``--etcd-key``, a CA as
``--etcd-cacert``. Where two Secrets of a List have a client, or two CAs differ, a run would have to guess,
and refuses.

A certificate that is a CA is no client. With its key the run issues one in memory, as with ``--etcd-ca-key``.
So the Secret of Cluster API with the CA of etcd (``NAME-etcd``) is enough.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Final

from msgspec.structs import replace as replace_fields
from yaml.nodes import MappingNode, Node

from pytest_etcdtls.declared.files import is_directory
from pytest_etcdtls.declared.pod import objects_in
from pytest_etcdtls.declared.yaml_files import documents, entries, lines_of, node_at, text_at, text_of
from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.pki.certificate import (
    AnyFile,
    HeldFile,
    Passphrases,
    load_certificates,
    load_identity,
)
from pytest_etcdtls.pki.go_parser import details
from pytest_etcdtls.pki.go_verify import CLIENT_AUTH, allows
from pytest_etcdtls.pki.profile import Identity
from pytest_etcdtls.settings import MAXIMUM_SIZE, STDIN, Source, option, read_input
from pytest_etcdtls.settings.port_credentials import SECRET, CredentialSource, key_passphrases, trust_in
from pytest_etcdtls.target import PortCredentials, SigningKey, TrustBundle
from pytest_etcdtls.untrusted.printable import LINE_LIMIT, listed, printable, shell_word

_PAIRS: Final = (
    # kubeadm
    ("client", "healthcheck-client.crt", "healthcheck-client.key"),
    ("client", "apiserver-etcd-client.crt", "apiserver-etcd-client.key"),
    ("peer", "peer.crt", "peer.key"),
    ("server", "server.crt", "server.key"),
    # Calico; Cilium and etcd-operator; Prometheus; Bitnami
    ("client", "etcd-cert", "etcd-key"),
    ("client", "etcd-client.crt", "etcd-client.key"),
    ("client", "etcd-client", "etcd-client-key"),
    ("client", "client.crt", "client.key"),
    ("client", "cert.pem", "key.pem"),
    # The type kubernetes.io/tls, as cert-manager writes it
    ("client", "tls.crt", "tls.key"),
)
"""What a pair is for, and the names of certificate and key."""

_CAS: Final = {
    "ca.crt": "client",
    "etcd-ca": "client",
    "etcd-ca.crt": "client",
    "etcd-client-ca.crt": "client",
    "server-ca.crt": "client",
    "ca.pem": "client",
    "bundle.crt": "client",
    "peer-ca.crt": "peer",
}
"""The ports whose servers a CA verifies, by its name."""

_CA_PAIRS: Final = (("ca.crt", "ca.key"), ("tls.crt", "tls.key"))

_CLUSTER_API: Final = "cluster.x-k8s.io/secret"
"""The type of the Secrets of Cluster API, whose names end in what they are for (``secret.Purpose``)."""
_OF_ETCD: Final = ("-etcd", "-apiserver-etcd-client")
_OF_KUBERNETES: Final = "-ca"


@dataclass(frozen=True, slots=True)
class Secret:
    """A Secret.

    Attributes:
        name: of the Secret, with its namespace; empty if it has none.
        kind: its type.
        holder: what the values are a part of, for reports.
        where: for messages: the option and the Secret.
        named_by: what comes before the name of a file in a message.
        values: by name.
        getting: the words of ``kubectl`` that get it; empty if it has no name.
    """

    name: str
    kind: str
    holder: str
    where: str
    named_by: str
    values: Mapping[str, AnyFile] = field(repr=False)
    getting: tuple[str, ...] = ()

    @property
    def is_of_another_ca(self) -> bool:
        """Whether it is a Secret of Cluster API that has nothing of etcd."""
        return self.kind == _CLUSTER_API and not self.name.endswith(_OF_ETCD)


def read_secret_credentials(source: Source) -> CredentialSource:
    """Return the credentials of ``--etcd-secret``.

    Raises:
        UsageError: if it is no Secret, or what it has is no credential or not only one.
    """
    text = source.text(SECRET) or ""
    where = f"{option(SECRET)} {text}"
    if text != STDIN and is_directory(path := source.resolve(SECRET, text)):
        secrets = [_mounted(path, where)]
    else:
        secrets = secrets_in(_content(source, text, where), where)
    return replace_fields(
        credentials_of(where, secrets, partial(key_passphrases, source)), origin=source.origin(SECRET)
    )


def _mounted(directory: Path, where: str) -> Secret:
    """Return the Secret of a directory, as kubelet mounts it: the names with two dots are kubelet's own."""
    try:
        files = {
            path.name: path
            for path in sorted(directory.iterdir())
            if path.is_file() and not path.name.startswith("..")
        }
    except OSError as error:
        raise UsageError(f"{where} cannot be read: {error.strerror}") from error
    return Secret(name="", kind="", holder=str(directory), where=where, named_by=option(SECRET), values=files)


def _content(source: Source, text: str, where: str) -> str:
    content = read_input(source, SECRET, text, smaller=_ONE, form=_FORM)
    if text == STDIN and not content.strip():
        raise UsageError(f"{where}: standard input is empty: see the error of the command before the pipe")
    return content


_ONE: Final = "pass the one Secret that has the credentials"
_FORM: Final = "pass a Secret as kubectl get secret NAME -o yaml writes it"


def secrets_in(text: str, where: str) -> list[Secret]:
    """Return the Secrets of a YAML or JSON text.

    Raises:
        UsageError: if there is none, or a value cannot be decoded. The message has no value.
    """
    if text.lstrip().startswith("-----BEGIN"):
        raise UsageError(
            f"{where} is PEM, not a Secret: name it with --etcd-cacert, --etcd-cert or --etcd-key, or {_FORM}"
        )
    try:
        roots = documents(text, where, MAXIMUM_SIZE)
    except UsageError as error:
        # What the parser says may quote the text.
        lines = " or ".join(map(str, lines_of(error.__cause__)))
        line = f", line {lines}," if lines else ""
        raise UsageError(f"{where}{line} is neither YAML nor JSON: {_FORM}") from None
    secrets = [_secret(node, where) for root in roots for node in objects_in(root)]
    if not secrets:
        raise UsageError(f"{where} contains no Secret: {_FORM}")
    return secrets


def _secret(node: Node, where: str) -> Secret:
    kind = text_at(node, "kind")
    if not isinstance(node, MappingNode) or kind != "Secret":
        problem = f"has a {kind}" if kind else "has something without a kind"
        raise UsageError(f"{where} {problem}, not a Secret: {_FORM}")
    name, namespace = (text_at(node, "metadata", field) for field in ("name", "namespace"))
    whole = printable("/".join(filter(None, [namespace, name])), LINE_LIMIT)
    at = f"{where}, Secret {whole}" if whole else where
    encoded = {entry.key: text_of(entry.value) for entry in entries(node_at(node, "data"), where)}
    plain = {entry.key: text_of(entry.value) for entry in entries(node_at(node, "stringData"), where)}
    if not encoded and not plain:
        raise UsageError(f"{at} has no data: it may be without its values, as in a list of names; {_FORM}")
    values = {key: _decoded(value or "", key, at) for key, value in encoded.items()}
    # The API server writes stringData over data.
    values |= {key: (value or "").encode() for key, value in plain.items()}
    of_namespace = ("-n", namespace) if namespace else ()
    holder = f"Secret {whole}".strip()
    return Secret(
        name=whole,
        kind=text_at(node, "type"),
        holder=holder,
        where=at,
        named_by=at,
        values={key: HeldFile(key, holder, data) for key, data in values.items()},
        getting=("kubectl", "get", *of_namespace, f"secret/{name}") if name else (),
    )


def _decoded(value: str, key: str, at: str) -> bytes:
    try:
        return base64.b64decode("".join(value.split()), validate=True)
    except (binascii.Error, ValueError):
        raise UsageError(
            f"{at}: the value of {key} in data is not base64: text as it is belongs in stringData"
        ) from None


def credentials_of(where: str, secrets: Sequence[Secret], passphrases: Passphrases) -> CredentialSource:
    """Return the credentials that Secrets have.

    Raises:
        UsageError: if they have none, one that cannot be used, or more than one.
    """
    pairs: dict[str, tuple[Identity, ...]] = {}
    bundles: dict[str, TrustBundle] = {}
    signing: SigningKey | None = None
    signs_peers = False
    for secret in secrets:
        for side, bundle in _bundles_of(secret):
            other = bundles.setdefault(side, bundle)
            if set(other.certificates) != set(bundle.certificates):
                raise UsageError(f"{where}: {other.source} and {bundle.source} are two {side} CAs: {_ONE}")
        if secret.is_of_another_ca:
            continue
        if (key := _signing_key(secret, passphrases)) is not None:
            if signing is not None and key.certificate != signing.certificate:
                raise UsageError(f"{where}: {signing.origin} and {key.origin} are keys of two CAs: {_ONE}")
            # It is the CA of peers too, as kubeadm and Cluster API have it.
            signing, signs_peers = (
                key,
                signs_peers or "ca.key" in secret.values or secret.kind == _CLUSTER_API,
            )
        for side, identity in _pairs_of(secret, passphrases):
            [pair] = pairs.setdefault(side, (identity,))
            if pair.chain[0] != identity.chain[0]:
                raise UsageError(f"{where}: {pair.origin} and {identity.origin} are two {side}s: {_ONE}")
    if not pairs and not bundles:
        raise UsageError(_nothing(where, secrets))
    return CredentialSource(
        client=PortCredentials(
            server_ca=bundles.get("client"),
            identities=pairs.get("client", ()),
            served=pairs.get("server", ()),
            signing_key=signing,
        ),
        peer=PortCredentials(
            server_ca=bundles.get("peer"),
            identities=pairs.get("peer", ()),
            signing_key=signing if signs_peers else None,
        ),
        kubernetes_ca=bundles.get("kubernetes"),
    )


def _nothing(where: str, secrets: Sequence[Secret]) -> str:
    names = sorted({name for secret in secrets for name in secret.values})
    known = dict.fromkeys([*_CAS, *(name for _, *pair in _PAIRS for name in pair)])
    return (
        f"{where} has no certificate under a known name: it has "
        f"{listed(names, ', ') or 'no value'}; known names are "
        f"{', '.join(known)}. Name files with --etcd-cacert, --etcd-cert and --etcd-key"
    )


def _bundles_of(secret: Secret) -> Iterator[tuple[str, TrustBundle]]:
    """Yield the CAs of a Secret, each with the ports whose servers it verifies, or ``kubernetes``."""
    if secret.is_of_another_ca:
        if secret.name.endswith(_OF_KUBERNETES) and "tls.crt" in secret.values:
            yield "kubernetes", trust_in(secret.values["tls.crt"], secret.named_by)
        return
    for name, side in _CAS.items():
        file = secret.values.get(name)
        # cert-manager leaves it empty if the issuer gives none.
        if file is not None and (file.data if isinstance(file, HeldFile) else file.stat().st_size):
            yield side, trust_in(file, secret.named_by)
    if _is_ca(secret, "tls.crt"):
        yield "client", trust_in(secret.values["tls.crt"], secret.named_by)


def _signing_key(secret: Secret, passphrases: Passphrases) -> SigningKey | None:
    """Return the key of a CA that a Secret has."""
    for certificate, key in _CA_PAIRS:
        pair = None
        if key in secret.values and _is_ca(secret, certificate):
            pair = _pair(secret, "CA", certificate, key, passphrases)
        if pair and pair.key is not None:
            return SigningKey(
                pair.chain[0], pair.key, pair.certificate_file, pair.key_file, origin=secret.holder
            )
    return None


def _is_ca(secret: Secret, name: str) -> bool:
    if name not in secret.values:
        return False
    leaf, *_ = load_certificates(secret.values[name], option=secret.named_by)
    return bool(details(leaf).is_ca)


def _pairs_of(secret: Secret, passphrases: Passphrases) -> Iterator[tuple[str, Identity]]:
    """Yield what each pair is for, the first of several clients alone."""
    sides: set[str] = set()
    for side, certificate, key in _PAIRS:
        if side in sides or certificate not in secret.values:
            if certificate not in secret.values and key in secret.values:
                raise UsageError(f"{secret.where} has {key} and no {certificate}: {_ONE}")
            continue
        if (certificate, key) in _CA_PAIRS and _is_ca(secret, certificate):
            continue
        if key not in secret.values:
            raise UsageError(f"{secret.where} has {certificate} and no {key}: a client needs both")
        identity = _pair(secret, side, certificate, key, passphrases)
        if side == "client" and not allows(identity.chain[0], CLIENT_AUTH):
            raise UsageError(
                f"{secret.where}: {certificate} is not a certificate for clients (extendedKeyUsage): pass "
                "the Secret of a client"
            )
        sides.add(side)
        yield side, identity


def _pair(secret: Secret, name: str, certificate: str, key: str, passphrases: Passphrases) -> Identity:
    identity = load_identity(
        *(secret.values[certificate], secret.values[key], name),
        options=(secret.named_by, secret.named_by),
        passphrases=passphrases,
    )
    if not secret.getting:
        return identity
    words = (_getting(secret, certificate), _getting(secret, key))
    recipe = (f"{words[0]} > {name}.crt", f"(umask 077 && {words[1]} > {name}.key)")
    return replace(identity, recipe=recipe)


def _getting(secret: Secret, name: str) -> str:
    path = f"jsonpath={{.data.{name.replace('.', chr(92) + '.')}}}"
    return f"{' '.join(map(shell_word, (*secret.getting, '-o', path)))} | base64 -d"
