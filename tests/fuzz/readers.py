"""Every reader of foreign bytes: its inputs, and the errors that its documentation names.

A seed of the corpus is a file in ``corpus/NAME``. What once failed is kept there.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding
from go_programs import small

from pytest_etcdtls.declared.go_program import read_go_program
from pytest_etcdtls.declared.reading import declared_member, read_declarations
from pytest_etcdtls.declared.yaml_files import looks_like_configuration
from pytest_etcdtls.errors import UnreadableFileError, UsageError
from pytest_etcdtls.etcd_log.parse import parse_log, read_log
from pytest_etcdtls.facts import member_list
from pytest_etcdtls.pki import certificate, go_parser
from pytest_etcdtls.pki.authority import CertificateAuthority
from pytest_etcdtls.pki.certificate import load_certificates, load_key, pem_blocks, read_pool
from pytest_etcdtls.pki.profile import SERVER
from pytest_etcdtls.profiles.profiles import read_profiles
from pytest_etcdtls.profiles.waivers import read_waivers
from pytest_etcdtls.report.baseline import read_baseline
from pytest_etcdtls.report.text import certificate_facts
from pytest_etcdtls.role import Protocol, Role
from pytest_etcdtls.settings.secrets import credentials_of, secrets_in
from pytest_etcdtls.target import Listener
from pytest_etcdtls.tls import http
from pytest_etcdtls.tls.attempt import Request
from pytest_etcdtls.tls.hello import read_answer

CORPUS = Path(__file__).parent / "corpus"
SHAPES = Path(__file__).parents[1] / "declared" / "shapes"
LOGS = Path(__file__).parents[1] / "etcd_log" / "shapes"

Read = Callable[[bytes], object]

_LISTENER = Listener(
    role=Role.CLIENT, scheme="http", host="127.0.0.1", port=2379, member="m0", label="client-m0"
)


@dataclass(frozen=True)
class ForeignReader:
    """One reader.

    Attributes:
        name: of it, and of its directory in the corpus.
        read: gives it these bytes.
        documented: the errors that it may raise.
        seeds: beginnings for an input, valid ones.
        words: what its inputs are made of, for text.
    """

    name: str
    read: Read
    documented: tuple[type[Exception], ...] = ()
    seeds: Sequence[bytes] = ()
    words: Sequence[bytes] = ()

    def corpus(self) -> list[bytes]:
        """Return the seeds and the files of the corpus."""
        directory = CORPUS / self.name
        kept = [path.read_bytes() for path in sorted(directory.iterdir())] if directory.is_dir() else []
        return [*self.seeds, *kept]


class _Script:
    """A stream that returns these bytes and then ends."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def read(self, max_bytes: int) -> bytes:
        piece, self._data = self._data[:max_bytes], self._data[max_bytes:]
        return piece

    def write(self, buffer: bytes) -> None:
        """Take it."""


def _sent(protocol: Protocol) -> Read:
    request = Request(purpose="fuzz", protocol=protocol, path="/version")
    return lambda data: http.make_request(_Script(data), _LISTENER, request)


def _certificate(data: bytes) -> None:
    go_parser.parse_error.cache_clear()
    error = go_parser.parse_error(data)
    go_parser.key_error(data)
    try:
        loaded = certificate.load(data)
    except ValueError:
        return
    if not error:
        list(certificate.unparsable(loaded))
        certificate.shown(loaded)
        go_parser.key_error(go_parser.details(loaded).key)
        certificate_facts(loaded)


def _secret(path: Path) -> object:
    text = path.read_text(encoding="utf-8", errors="replace")
    return credentials_of("--etcd-secret -", secrets_in(text, "--etcd-secret -"), lambda _, __: ())


def _members(path: Path) -> object:
    return [declared_member(declaration) for declaration in read_declarations(path)]


def _in_file(read: Callable[[Path], object], name: str = "input") -> Read:
    def call(data: bytes) -> object:
        with tempfile.TemporaryDirectory(prefix="fuzz-") as directory:
            path = Path(directory) / name
            path.write_bytes(data)
            return read(path)

    return call


def _text(read: Callable[[str], object]) -> Read:
    return lambda data: read(data.decode("utf-8", "replace"))


def _files(directory: Path, *patterns: str) -> list[bytes]:
    return [path.read_bytes()[:8000] for pattern in patterns for path in sorted(directory.glob(pattern))]


_HTTP1 = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: application/json\r\n\r\n{}"
_CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
_HTTP2 = bytes.fromhex("000000040000000000000001010400000001880000020001000000017879")
_HELLO = bytes.fromhex("160303002a020000260303") + bytes(32) + bytes.fromhex("00c02b00") + b"\0\0"
_KEYS = _HELLO + bytes.fromhex("16030300080c00000403001d00")
_ALERT = bytes.fromhex("15030300020228")
_MEMBER = http.encode({1: 7, 2: b"m0", 3: b"https://127.0.0.1:2380", 4: b"https://127.0.0.1:2379"})
_GRPC = http.encode({1: http.encode({1: 9, 2: 7}), 2: _MEMBER})
_MESSAGE = b"\0" + len(_GRPC).to_bytes(4, "big") + _GRPC
_GATEWAY = (
    b'{"header":{"cluster_id":"9"},"members":[{"ID":"7","name":"m0","peerURLs":["https://127.0.0.1:2380"],'
    b'"clientURLs":["https://127.0.0.1:2379"]}]}'
)
_PEERS = (
    b'[{"id":7,"name":"m0","peerURLs":["https://127.0.0.1:2380"],"clientURLs":["https://127.0.0.1:2379"]}]'
)
_PROFILE = (
    b'title = "a"\n[[section]]\nsection = "1"\ntitle = "b"\nlevel = "MUST"\nchecks = ["cert.*"]\n'
    b"thresholds = { rsa_bits = 3072 }\n"
)
_WAIVER = b'[[waivers]]\ncheck = "cert.*"\nreason = "known"\nuntil = 2027-01-01\n'
_REPORT = (
    b'{"schema_version":1,"tool":{"name":"pytest-etcdtls"},"partial":false,"targets":[{"label":"live",'
    b'"etcd_version":null,"listeners":[{"label":"a","role":"client"}],"behaviour":[{"listener":"a","topic":"b",'
    b'"subject":"c","detail":"","value":"d"}]}],"results":[{"check":"a.b","target":"live","listener":"a",'
    b'"outcome":"conforms","cause":null}]}'
)
_SECRET = (
    b"kind: Secret\ntype: kubernetes.io/tls\nmetadata: {name: a}\ndata: {tls.crt: LS0t, tls.key: LS0t}\n"
)
_CHAIN = CertificateAuthority.create("CA").issue(SERVER, name="server", hosts=("localhost", "::1")).chain
_PEM = b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
_FLAGS = (
    *(b"--cert-file", b"--trusted-ca-file=", b"--client-cert-auth", b"etcd", b" ", b"\n", b"="),
    *(b"'", b'"', b"$("),
)
_YAML = (
    *(b"- ", b": ", b"\n", b"  ", b"command", b"containers", b"spec", b"&a ", b"*a", b"{", b"["),
    *(b"|\n", b"!!python/"),
)
_JSON = (b"{", b"[", b'"', b":", b",", b"1e999", b"9" * 400, b"null", b"\\ud800", b"]", b"}", b"NaN")

_FLAT = (b"[", b"=", b"\n")
_DASHES = (b"-----BEGIN ", b"-----END ", b"-----", b"\n", b": ")


def _of_bytes(name: str, read: Read, *seeds: bytes, words: Sequence[bytes] = ()) -> ForeignReader:
    return ForeignReader(name, read, (ValueError,), seeds, words)


def _of_http(name: str, protocol: Protocol, *seeds: bytes) -> ForeignReader:
    return ForeignReader(
        name, _sent(protocol), (http.AnswerError,), seeds, (b"\r\n", b": ", b"Content-Length")
    )


def _of_file(
    name: str, read: Callable[[Path], object], *seeds: bytes, words: Sequence[bytes] = (), file: str = "input"
) -> ForeignReader:
    return ForeignReader(name, _in_file(read, file), (UsageError,), seeds, words)


def _of_any(name: str, read: Read, *seeds: bytes, words: Sequence[bytes] = ()) -> ForeignReader:
    return ForeignReader(name, read, (), seeds, words)


_ALL = (
    _of_bytes("hello", read_answer, _HELLO, _ALERT, words=(b"\x16\x03\x03", b"\x02", b"\0\0")),
    _of_bytes("hello-key-exchange", lambda data: read_answer(data, to_key_exchange=True), _KEYS),
    _of_http("http1", Protocol.HTTP1, _HTTP1, _CHUNKED),
    _of_http("http2", Protocol.HTTP2, _HTTP2),
    _of_http("grpc", Protocol.GRPC, _HTTP2),
    _of_bytes("protobuf", http.fields, _GRPC),
    _of_bytes("members-grpc", member_list.from_grpc, _MESSAGE),
    _of_bytes("members-gateway", member_list.from_gateway, _GATEWAY, words=_JSON),
    _of_bytes("members-peer", member_list.from_peer, _PEERS, words=_JSON),
    _of_bytes(
        "member-url", _text(member_list.parse), b"https://127.0.0.1:2379", words=(b"[", b"::", b"0x7f")
    ),
    _of_any("certificate", _certificate, *(one.public_bytes(Encoding.DER) for one in _CHAIN)),
    _of_any("pem", pem_blocks, _PEM, words=_DASHES),
    _of_any("trusted-ca", read_pool, _PEM, words=_DASHES),
    _of_any("log", _text(lambda text: parse_log(text)), *_files(LOGS, "*.log"), words=_JSON),
    _of_file("certificates-file", load_certificates, _PEM),
    ForeignReader(
        "program",
        _in_file(read_go_program),
        (UnreadableFileError,),
        [small(bits=bits, pointers=pointers) for bits in (32, 64) for pointers in (False, True)],
    ),
    _of_file("key-file", load_key, _PEM.replace(b"CERTIFICATE", b"PRIVATE KEY")),
    _of_file("log-file", read_log, *_files(LOGS, "journal-short-*"), words=_JSON),
    _of_file(
        "profile", lambda path: read_profiles([str(path)], Path), _PROFILE, words=_FLAT, file="profile.toml"
    ),
    _of_file("waivers", read_waivers, _WAIVER, words=_FLAT, file="waivers.toml"),
    _of_file("baseline", read_baseline, _REPORT, words=_JSON),
    _of_file(
        "configuration",
        lambda path: looks_like_configuration(path.read_text(encoding="utf-8", errors="replace"), "etcd.yml"),
        *_files(SHAPES, "yaml/*"),
        words=_YAML,
    ),
    _of_file("secret", _secret, _SECRET, words=(*_YAML, b"data", b"LS0t")),
    _of_file(
        "declaration",
        _members,
        b"etcd\0--cert-file=/a\0--client-cert-auth\0",
        *_files(SHAPES, "kubeadm/*", "rke2/*.yaml", "yaml/*", "k3s/*", "kubespray/*.env"),
        words=(*_YAML, *_FLAGS),
    ),
    _of_file(
        "unit", _members, *_files(SHAPES, "systemd/*.service", "debian/*"), words=_FLAGS, file="etcd.service"
    ),
)
READERS: Mapping[str, ForeignReader] = {reader.name: reader for reader in _ALL}
