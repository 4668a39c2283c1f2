"""A declaration at other ports and paths, with its files: what is started to replay it on this machine.

Every declared setting is kept, in its order and as a flag, a variable or a key, except for those of the
machine or of the other members. The files are the declared ones, or generated ones of the same shape.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, Final, Literal

import yaml
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID
from msgspec import Struct

from pytest_etcdtls.declared.declaration import (
    FILES,
    FLAGS,
    CRLFile,
    Declaration,
    DeclaredMember,
    DeclaredURL,
    Setting,
    advertised,
    bind_problem,
    declared_listeners,
    parse_urls,
)
from pytest_etcdtls.declared.effective import SIDES, allowed_names, prefix, tls_side
from pytest_etcdtls.declared.flags import SECTIONS, variable_of
from pytest_etcdtls.errors import UnreadableFileError, UsageError
from pytest_etcdtls.pki.authority import CertificateAuthority
from pytest_etcdtls.pki.bundle import encode_certificates, encode_key
from pytest_etcdtls.pki.certificate import (
    MAXIMUM_SIZE,
    extension,
    load_certificates,
    load_trusted_file,
    public_key,
    purposes,
    read_pool,
)
from pytest_etcdtls.pki.go_verify import find_path, is_self_signed
from pytest_etcdtls.pki.profile import CLIENT, SERVER, Identity, KeyType, Profile
from pytest_etcdtls.role import Role, Side
from pytest_etcdtls.target import PortCredentials, SigningKey, TrustBundle
from pytest_etcdtls.untrusted import read_regular

_LISTS: Final = frozenset(FLAGS.values())
_LOUD_ENOUGH: Final = ("debug", "info")
_SWITCHED_OFF: Final = {
    "enable-log-rotation": "logs are not rotated",
    "enable-distributed-tracing": "traces are not sent",
    "experimental-enable-distributed-tracing": "traces are not sent",
}
_DEFAULT_PEER_URL: Final = "http://localhost:2380"
_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
_PAIRS: Final = {"cert-file": "key-file", "client-cert-file": "client-key-file"}
CLIENTS: Final = PurePosixPath("clients")
"""The directory of the generated client certificates, which etcd does not read."""
_LONGEST_NAME: Final = 64
"""Characters of a common name and of an organization (RFC 5280, upper bounds)."""


class Place(Struct, frozen=True, kw_only=True):
    """Where a declaration is replayed.

    Attributes:
        listen: the address that etcd listens on.
        ports: the port for each declared address (``10.0.0.11:2379``) and for etcd's own defaults.
        pki: the directory of the files, in which each keeps its declared path.
        data: the data directory.
        config_file: the path of the configuration file.
    """

    listen: str
    ports: Mapping[str, int]
    pki: PurePosixPath
    data: PurePosixPath
    config_file: PurePosixPath

    def file(self, declared: str) -> PurePosixPath:
        """Return where the file of a declared path is."""
        return self.pki / below_root(declared)

    def url(self, declared: DeclaredURL) -> str:
        """Return the URL that etcd listens on instead."""
        scheme = "https" if declared.secure else "http"
        return f"{scheme}://{self.listen}:{self.ports[declared.address]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Relocated:
    """What etcd is started with.

    Attributes:
        arguments: the arguments, without the program.
        variables: the environment variables.
        configuration: the text of the configuration file; ``None`` if there is none.
    """

    arguments: tuple[str, ...]
    variables: Mapping[str, str] = field(repr=False)
    configuration: str | None = field(default=None, repr=False)


def below_root(declared: str) -> PurePosixPath:
    """Return a declared path without its root and without ``..``."""
    return PurePosixPath(*(part for part in PurePosixPath(declared).parts if part not in ("/", "..", ".")))


def moved_urls(declaration: Declaration) -> dict[str, list[DeclaredURL]]:
    """Return the declared URLs that are moved, by the flag that lists them, and etcd's defaults.

    A URL that etcd refuses is not moved, so that it is refused in the replay too.
    """
    moved = {
        flag: [
            url
            for url in parse_urls(declaration.text(flag) or "").urls
            if not url.is_socket and bind_problem(url) is None
        ]
        for flag in FLAGS.values()
    }
    for role, port in ((Role.CLIENT, 2379), (Role.PEER, 2380)):
        if declaration.text(FLAGS[role]) is None:
            moved[FLAGS[role]] = [DeclaredURL("http", "localhost", port)]
    return moved


def replacements(declaration: Declaration) -> Iterator[str]:
    """Yield the differences to the declaration, one sentence each, except for ports and directories."""
    for setting in (*declaration.settings.values(), *declaration.hidden):
        if replacement := _replaced(setting, declaration):
            yield f"{setting.spelled}: {replacement}"
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        if name in declaration.go_environment:
            yield f"{name}: the root certificates are this machine's"
    yield from (f"left out: {note}" for note in declaration.notes)


def _replaced(setting: Setting, declaration: Declaration) -> str:
    name, value = setting.name, setting.value
    if name in _LISTS and (sockets := [str(url) for url in parse_urls(value).urls if url.is_socket]):
        return f"{', '.join(sockets)} is not opened"
    if name == "initial-cluster" and value.count("=") > 1:
        return "this member alone"
    if name == "initial-cluster-state" and value != "new":
        return "new"
    if name.startswith("discovery") and value:
        return "not used"
    if name in ("log-output", "log-outputs") and value not in ("stderr", "default"):
        return "stderr"
    if name == "log-level" and value not in _LOUD_ENOUGH:
        return "info"
    if name == "log-format" and value != "json":
        return "json"
    if name == "auth-token" and value.startswith("jwt"):
        return "simple"
    if name in _SWITCHED_OFF and setting.on:
        return _SWITCHED_OFF[name]
    return ""


def relocate(declaration: Declaration, place: Place, *, additions: Mapping[str, str]) -> Relocated:
    """Return what etcd is started with at another place.

    The additions are settings of this etcd that are given where the declaration does not give them.
    """
    started, known = declaration.started_with, _Values(declaration, place)
    added = {**additions, "data-dir": str(place.data), **known.defaults()}
    added = {name: value for name, value in added.items() if name not in declaration.settings}
    arguments = [
        one if isinstance(one, str) else f"{one.spelled}={known.of(one.name, one.value)}"
        for one in started.arguments
    ]
    variables = {one.spelled: known.of(one.name, one.value) for one in started.variables}
    if "GODEBUG" in declaration.go_environment:
        variables["GODEBUG"] = declaration.go_environment["GODEBUG"]
    text = started.configuration
    if text is not None:
        variables.pop(variable_of("config-file"), None)
        if not any(isinstance(one, Setting) and one.name == "config-file" for one in started.arguments):
            arguments.insert(0, f"--config-file={place.config_file}")
        text = _configuration(text, known, added)
    else:
        arguments = [*(f"--{name}={value}" for name, value in added.items()), *arguments]
    return Relocated(arguments=tuple(arguments), variables=variables, configuration=text)


class _Values:
    """The values of settings at another place.

    Args:
        declaration: the declaration.
        place: where it is replayed.
    """

    def __init__(self, declaration: Declaration, place: Place) -> None:
        self._place = place
        self._name = declaration.text("name") or "default"
        self._peer_urls = declaration.text("initial-advertise-peer-urls") or _DEFAULT_PEER_URL
        self._moved = moved_urls(declaration)
        self._given = declaration.settings
        self._generates = tls_side(declaration, "client", None).generated
        self._left_out = declaration.started_with.left_out
        hidden = {one.name: one.value for one in declaration.hidden}
        settings = {**hidden, **{name: one.value for name, one in declaration.settings.items()}}
        self.files = {value: str(place.file(value)) for name in FILES if (value := settings.get(name))}
        self._by_name: dict[str, Callable[[str], str]] = {
            **dict.fromkeys(_LISTS, lambda value: self._listened(value) if value else value),
            **dict.fromkeys(FILES, lambda value: str(place.file(value)) if value else value),
            **dict.fromkeys(("log-output", "log-outputs"), lambda _: "stderr"),
            **dict.fromkeys(_SWITCHED_OFF, lambda _: "false"),
            "config-file": lambda _: str(place.config_file),
            "data-dir": lambda _: str(place.data),
            "wal-dir": lambda value: str(place.data / "wal") if value else value,
            "advertise-client-urls": self._advertised,
            "initial-cluster": lambda _: self._members(),
            "initial-cluster-state": lambda value: "new" if value == "existing" else value,
            "log-level": lambda value: "info" if value in ("warn", "error", "panic", "fatal") else value,
            "log-format": lambda _: "json",
            "auth-token": lambda value: "simple" if value.startswith("jwt") else value,
        }

    def of(self, name: str, value: str) -> str:
        """Return the value of a setting."""
        if name.startswith("discovery"):
            return "" if name in ("discovery", "discovery-srv", "discovery-endpoints") else value
        return self._by_name[name](value) if name in self._by_name else value

    def defaults(self) -> dict[str, str]:
        """Return the lists of URLs that etcd has by default, at their new ports."""
        lists = {
            flag: ",".join(map(self._place.url, urls))
            for flag, urls in self._moved.items()
            if flag not in self._given and urls
        }
        # etcd requires these with others. Those whose declared value is not known get one.
        if FLAGS[Role.CLIENT] in lists or "advertise-client-urls" in self._left_out:
            lists["advertise-client-urls"] = "http://localhost:2379"
        if self._left_out & {"name", "initial-cluster"}:
            lists["initial-cluster"] = self._members()
        return lists

    def _advertised(self, value: str) -> str:
        """Return the advertised URLs; with --auto-tls those of the address that the certificate is for."""
        urls = parse_urls(value)
        if not self._generates or urls.problems:
            return value
        return ",".join(dict.fromkeys(f"{url.scheme}://127.0.0.1:{url.port}" for url in urls.urls))

    def _members(self) -> str:
        return ",".join(f"{self._name}={url}" for url in self._peer_urls.split(","))

    def _listened(self, value: str) -> str:
        listed: dict[str, None] = {}
        for text in value.split(","):
            urls = parse_urls(text).urls
            if urls and urls[0].is_socket:
                continue
            # A URL that etcd refuses is kept, and one that another setting overrides.
            moves = bool(urls) and bind_problem(urls[0]) is None and urls[0].address in self._place.ports
            listed[self._place.url(urls[0]) if moves else text] = None
        # If all are sockets: etcd needs a list, and opens this one in its working directory.
        return ",".join(listed) or "unix://replay-of-a-socket:0"


def _configuration(text: str, known: _Values, added: Mapping[str, str]) -> str:
    """Return the configuration file with the values of another place; unchanged if etcd cannot read it."""
    try:
        document = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError):
        return text
    if document is None:
        document = {}
    if not isinstance(document, dict):
        return text
    lower = {str(key).lower() for key in document}
    changed = {key: _value(str(key).lower(), value, known) for key, value in document.items()}
    for name, setting in added.items():
        if name not in lower:
            scalar = int(setting) if setting.isdigit() else setting
            changed[name] = [setting] if name == "log-outputs" else scalar
    return yaml.safe_dump(changed, sort_keys=False)


def _value(key: str, value: Any, known: _Values) -> Any:  # noqa: ANN401 - of a YAML document
    if isinstance(value, str):
        return known.of(key, value)
    if isinstance(value, bool) and key in _SWITCHED_OFF:
        return False
    if isinstance(value, list) and key in ("log-outputs",):
        return ["stderr"]
    if isinstance(value, dict) and (key in SECTIONS or key.endswith("tlsinfo")):
        return {
            inner: known.files.get(found, found) if isinstance(found, str) else found
            for inner, found in value.items()
        }
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayFiles:
    """The files that a replayed etcd gets.

    Attributes:
        contents: by their path below the PKI directory; keys among them are never shown.
        client: the matching credentials for client ports.
        peer: the matching credentials for peer ports.
        generated: why they are generated; empty if they are the declared ones.
    """

    contents: Mapping[PurePosixPath, bytes] = field(repr=False)
    client: PortCredentials
    peer: PortCredentials
    generated: str = ""


def replay_files(
    declared: DeclaredMember,
    client: PortCredentials,
    peer: PortCredentials,
    *,
    key_type: KeyType | None = None,
) -> ReplayFiles:
    """Return the declared files if all of them are here, else generated ones of the same shape.

    Args:
        declared: the declared member.
        client: the credentials for client ports, as far as they are known.
        peer: those for peer ports.
        key_type: type of generated keys where no certificate shows it.

    Raises:
        UsageError: if a certificate of that shape cannot be issued.
    """
    contents: dict[PurePosixPath, bytes] = {}
    settings = [setting for name in FILES if (setting := _given(declared, name)) is not None]
    for setting in settings:
        read = _read(declared, setting)
        if isinstance(read, str):
            return _generate(declared, why=read, key_type=key_type)
        contents[below_root(setting.value)] = read
    if settings and not client.identities:
        why = "no client certificate that etcd accepts is here"
        return _generate(declared, why=why, key_type=key_type)
    return ReplayFiles(contents=contents, client=client, peer=peer)


def _given(declared: DeclaredMember, name: str) -> Setting | None:
    """Return the setting of a file; one that a configuration file hides counts too."""
    declaration = declared.declaration
    setting = declaration.settings.get(name) or next(
        (one for one in declaration.hidden if one.name == name), None
    )
    return setting if setting is not None and setting.value else None


def _read(declared: DeclaredMember, setting: Setting) -> bytes | str:
    """Return the content of a declared file, or why it cannot be read."""
    path = None if setting.name in declared.others else declared.paths.find(setting.value)
    if path is None:
        return f"the file of {setting} is not here"
    try:
        return read_regular(path, MAXIMUM_SIZE)
    except UnreadableFileError as error:
        return f"the file of {setting} {error.happened}"


def _unusable_bundle(declared: DeclaredMember, setting: Setting) -> bytes | None:
    """Return the content of a file of trusted CAs that keeps etcd from starting or has no CA for it."""
    content = _read(declared, setting)
    if isinstance(content, str):
        return None
    pool = read_pool(content)
    return content if pool.refused or pool.nothing else None


class _Leaf(Struct, frozen=True):
    """A certificate to issue.

    Attributes:
        path: its declared path.
        key: the declared path of its key; ``None`` if it is not declared.
        declared: the certificates of the declared file, leaf first; empty if they are not here.
        dials: whether etcd presents it as a client only.
    """

    side: Side
    path: str
    key: str | None
    declared: tuple[x509.Certificate, ...]
    dials: bool


class _DeclaredPKI:
    """What is known of the declared PKI.

    Args:
        declared: the declared member.
        key_type: type of keys where no certificate shows it.
    """

    def __init__(self, declared: DeclaredMember, key_type: KeyType | None) -> None:
        self._declared = declared
        self._key_type = key_type or KeyType.ECDSA_P256
        self._authorities: dict[object, CertificateAuthority] = {}
        self.bundles = {
            side: self.certificates(f"{prefix(side)}trusted-ca-file", trust=True) for side in SIDES
        }

    def certificates(self, name: str, *, trust: bool = False) -> tuple[x509.Certificate, ...]:
        """Return the certificates of a declared file; empty if it is not here, or contains none."""
        setting = _given(self._declared, name)
        path = None if setting is None else self._declared.paths.find(setting.value)
        if path is None or name in self._declared.others:
            return ()
        try:
            return load_trusted_file(path, option=name)[0] if trust else load_certificates(path)
        except UsageError:
            return ()

    def trusted(self, side: Side) -> CertificateAuthority:
        """Return the CA in the bundle of a side. Equal bundles, or equal paths, have the same."""
        setting = _given(self._declared, f"{prefix(side)}trusted-ca-file")
        known = frozenset(certificate.subject.public_bytes() for certificate in self.bundles[side])
        return self._authority(
            known or (setting.value if setting else side), f"{side}-ca", self.bundles[side]
        )

    def issuer(self, leaf: _Leaf) -> CertificateAuthority:
        """Return the CA that issues a certificate: that of the bundle that verifies it, or one of its own."""
        order: tuple[Side, ...] = (leaf.side, *(side for side in SIDES if side != leaf.side))
        if not leaf.declared or not any(self.bundles.values()):
            known = _given(self._declared, f"{prefix(leaf.side)}trusted-ca-file") is not None
            return self.trusted(leaf.side) if known else self._authority(leaf.path, "server-ca", ())
        first, *sent = leaf.declared
        for side in order:
            if self.bundles[side] and find_path(first, sent, self.bundles[side], first.not_valid_before_utc):
                authority = self.trusted(side)
                has_intermediate = any(not is_self_signed(certificate) for certificate in sent)
                return authority.intermediate("intermediate-ca") if has_intermediate else authority
        return self._authority(first.issuer.public_bytes(), "server-ca", ())

    def _authority(
        self, key: object, name: str, declared: tuple[x509.Certificate, ...]
    ) -> CertificateAuthority:
        """Return the CA with this key; a new one has name and key type of the declared certificate."""
        if key not in self._authorities:
            common_name = _attribute(declared[0].subject, NameOID.COMMON_NAME) if declared else None
            key_type = _key_type(declared[0]) if declared else None
            self._authorities[key] = CertificateAuthority.create(
                common_name or name, key_type or self._key_type
            )
        return self._authorities[key]

    def leaves(self) -> Iterator[_Leaf]:
        """Yield each certificate file once."""
        seen: set[str] = set()
        for side in SIDES:
            for name, key_name in _PAIRS.items():
                full = f"{prefix(side)}{name}"
                setting = _given(self._declared, full)
                key = _given(self._declared, f"{prefix(side)}{key_name}")
                if setting is not None and setting.value not in seen:
                    seen.add(setting.value)
                    yield _Leaf(
                        side,
                        setting.value,
                        key.value if key else None,
                        self.certificates(full),
                        dials=name != "cert-file",
                    )

    def profile(self, leaf: _Leaf) -> Profile:
        """Return the profile of a certificate: like the declared one, with this machine's loopback."""
        name = (self._declared.declaration.text("name") or "default")[:_LONGEST_NAME]
        if not leaf.declared:
            if leaf.dials:
                return replace(CLIENT, common_name=name)
            return replace(SERVER, common_name=name, subject_alt_names=(*self._hosts(), *_LOOPBACK))
        declared = leaf.declared[0]
        names = extension(declared, x509.SubjectAlternativeName)
        hosts = tuple(
            dict.fromkeys(
                str(one.value) for one in names or () if isinstance(one, (x509.DNSName, x509.IPAddress))
            )
        )
        loopback = () if leaf.dials or not hosts else tuple(one for one in _LOOPBACK if one not in hosts)
        return Profile(
            common_name=_attribute(declared.subject, NameOID.COMMON_NAME),
            organization=_attribute(declared.subject, NameOID.ORGANIZATION_NAME),
            subject_alt_names=(*hosts, *loopback),
            extended_key_usage=purposes(declared),
            key_type=_key_type(declared),
        )

    def _hosts(self) -> tuple[str, ...]:
        declaration = self._declared.declaration
        urls = [
            *(url for role in (Role.CLIENT, Role.PEER) for url in advertised(declaration, role)),
            *(listener.url for listener in declared_listeners(declaration)),
        ]
        return tuple(
            dict.fromkeys(
                url.host
                for url in urls
                if not (url.is_wildcard or url.is_socket or url.is_loopback) and url.host
            )
        )


def _attribute(name: x509.Name, oid: x509.ObjectIdentifier) -> str | None:
    attributes = name.get_attributes_for_oid(oid)
    return str(attributes[0].value)[:_LONGEST_NAME] or None if attributes else None


def _key_type(certificate: x509.Certificate) -> KeyType | None:
    key = public_key(certificate)
    if isinstance(key, rsa.RSAPublicKey):
        return KeyType.RSA_2048 if key.key_size < 3072 else KeyType.RSA_4096
    if isinstance(key, ec.EllipticCurvePublicKey):
        return KeyType.ECDSA_P256 if key.curve.key_size == 256 else KeyType.ECDSA_P384
    return KeyType.ED25519 if isinstance(key, ed25519.Ed25519PublicKey) else None


def _generate(declared: DeclaredMember, *, why: str, key_type: KeyType | None) -> ReplayFiles:
    try:
        return _Generation(declared, _DeclaredPKI(declared, key_type)).files(why)
    except ValueError as error:
        raise UsageError(
            f"{declared.declaration.source}: certificates of the declared shape cannot be issued: "
            f"{error}; name the directory with the declared files by --etcd-pki-dir"
        ) from error


class _Generation:
    """Issues files like those of the declared PKI."""

    def __init__(self, declared: DeclaredMember, pki: _DeclaredPKI) -> None:
        self._declared = declared
        self._pki = pki
        self._contents: dict[PurePosixPath, bytes] = {}
        self._served: dict[str, tuple[Identity, CertificateAuthority]] = {}

    def files(self, why: str) -> ReplayFiles:
        """Return the files with the matching credentials."""
        for leaf in self._pki.leaves():
            authority = self._pki.issuer(leaf)
            name = PurePosixPath(leaf.path).name
            identity = authority.issue(self._pki.profile(leaf), name=name)
            self._served[leaf.path] = (identity, authority)
            self._put(leaf.path, encode_certificates(identity.chain))
            if leaf.key is not None and identity.key is not None:
                self._put(leaf.key, encode_key(identity.key))
        client, peer = self._credentials("client"), self._credentials("peer")
        return ReplayFiles(contents=self._contents, client=client, peer=peer, generated=why)

    def _put(self, declared_path: str, content: bytes) -> None:
        path = below_root(declared_path)
        if path.name:  # a directory such as / has none; etcd refuses it unchanged
            self._contents[path] = content

    def _credentials(self, side: Side) -> PortCredentials:
        authority = self._pki.trusted(side)
        trusted = _given(self._declared, f"{prefix(side)}trusted-ca-file")
        if trusted is not None:
            content = _unusable_bundle(self._declared, trusted)
            if content is None:
                content = encode_certificates([authority.certificate])
            self._put(trusted.value, content)
        declaration = self._declared.declaration
        # As the newest etcd reads them. Before 3.5.15 a list is one name, which no client has.
        cn = allowed_names(declaration, f"{side}-cert-allowed-cn", None)
        hostname = allowed_names(declaration, f"{side}-cert-allowed-hostname", None)
        profile = replace(
            CLIENT,
            common_name=cn[0][:_LONGEST_NAME] if cn else "etcd-peer" if side == "peer" else "client",
            subject_alt_names=hostname[:1],
        )
        served = _given(self._declared, f"{prefix(side)}cert-file")
        pair = self._served.get(served.value) if served is not None else None
        return PortCredentials(
            server_ca=_bundle(pair[1].root) if pair else None,
            identities=(self._client(authority, profile, "peer-client" if side == "peer" else "client"),),
            client_trust=_bundle(authority) if trusted is not None else None,
            signing_key=SigningKey(authority.certificate, authority.key) if trusted is not None else None,
            revoked=self._revoked(side, authority, profile),
            served=(replace(pair[0], name=f"{prefix(side)}server"),) if pair else (),
            allowed_cn=cn,
            allowed_hostname=hostname,
        )

    def _client(self, authority: CertificateAuthority, profile: Profile, name: str) -> Identity:
        identity = authority.issue(profile, name=name)
        if identity.key is not None:
            self._contents[CLIENTS / f"{name}.crt"] = encode_certificates(identity.chain)
            self._contents[CLIENTS / f"{name}.key"] = encode_key(identity.key)
        return identity

    def _revoked(self, side: Side, authority: CertificateAuthority, profile: Profile) -> Identity | None:
        setting = _given(self._declared, f"{side}-crl-file")
        if setting is None:
            return None
        known = self._declared.crls.get(setting.value)
        if known is not None and known.found and known.known and not _is_usual(known):
            self._put(setting.value, read_regular(Path(known.found), MAXIMUM_SIZE))
            return None
        revoked = None
        if known is None or not known.found or known.serial_numbers:
            revoked = authority.issue(replace(profile, common_name="revoked"), name="revoked")
            authority.revoke(revoked.chain[0])
        encoding: Literal["der", "pem"] = "pem" if PurePosixPath(setting.value).suffix == ".pem" else "der"
        if known is not None and known.known:
            encoding = "pem" if known.pem else "der"
        self._put(setting.value, authority.crl(encoding))
        return revoked


def _is_usual(crl: CRLFile) -> bool:
    """Return whether every version reads a list of ours in that encoding as it reads the declared one."""
    return not crl.up_to_3_5.error and bool(crl.since_3_6.error) is crl.pem


def _bundle(authority: CertificateAuthority) -> TrustBundle:
    return TrustBundle((authority.certificate,), "generated for the replay")
