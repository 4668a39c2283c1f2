"""Files that do not end, cannot be opened, or are expensive to parse: one message and exit code 4."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from fuzz.readers import CORPUS
from hostile.child_run import ChildRun, Ended
from plugin.live_etcd import Live

from pytest_etcdtls.etcd_log.parse import read_log
from pytest_etcdtls.pki.authority import CertificateAuthority
from pytest_etcdtls.pki.bundle import encode_certificates, encode_key
from pytest_etcdtls.pki.go_parser import INTEGER, SEQUENCE, encode, encode_integer
from pytest_etcdtls.pki.profile import CLIENT

SECONDS = 120.0
"""A run needs two at most on a quiet machine; what is tried here took minutes, or did not end."""
PROCESSOR = 20.0
"""Seconds of the processor. A run that refuses an option needs 0.6."""
MEBIBYTES = 143.0
"""150 MB. A run that refuses an option needs 66 MiB."""
YAML_MEBIBYTES = 103.0
"""108 MB. YAML took 2.3 GB before its values were counted."""
USAGE_ERROR = 4
MEBIBYTE = 1024 * 1024


@pytest.fixture
def valid(tmp_path: Path) -> Path:
    """A directory with valid files for an endpoint that nobody contacts."""
    authority = CertificateAuthority.create("etcd-ca")
    identity = authority.issue(CLIENT, name="client")
    assert identity.key is not None
    (tmp_path / "ca.crt").write_bytes(encode_certificates([authority.certificate]))
    (tmp_path / "client.crt").write_bytes(encode_certificates(identity.chain))
    (tmp_path / "client.key").write_bytes(encode_key(identity.key))
    return tmp_path


def _options(**replaced: str) -> list[str]:
    values = {
        "etcd_endpoint": "https://127.0.0.1:9",
        "etcd_cacert": "ca.crt",
        "etcd_cert": "client.crt",
        "etcd_key": "client.key",
        **replaced,
    }
    return [f"--{name.replace('_', '-')}={value}" for name, value in values.items() if value]


def _refused(directory: Path, arguments: list[str]) -> Ended:
    """Run with arguments that must be refused, within the bounds and with one message."""
    ended = ChildRun(directory, arguments).end()
    assert ended.exit_code == USAGE_ERROR, ended.output
    messages = [line for line in ended.output.splitlines() if line.startswith("ERROR: ")]
    assert len(messages) == 1, ended.output
    assert "Traceback" not in ended.output
    assert ended.seconds < SECONDS
    assert ended.processor < PROCESSOR
    assert ended.mebibytes < MEBIBYTES
    return ended


OPTIONS = {
    "etcd_cacert": {},
    "etcd_cert": {},
    "etcd_key": {},
    "etcd_trusted_ca": {},
    "etcd_password_file": {"etcd_user": "root"},
    "etcd_waivers": {},
    "etcd_baseline": {},
    "etcd_profile": {},
    "etcd_config": {},
    "etcd_log": {},
    "etcd_expect_cert": {},
    "etcd_secret": dict.fromkeys(("etcd_cacert", "etcd_cert", "etcd_key"), ""),
    "etcd_clusters": dict.fromkeys(("etcd_endpoint", "etcd_cacert", "etcd_cert", "etcd_key"), ""),
}
SOME = ("etcd_key", "etcd_config", "etcd_waivers")


def _made(make: Callable[[Path], object]) -> Callable[[Path], str]:
    def path(path: Path) -> str:
        make(path)
        return str(path)

    return path


NO_FILES: dict[str, Callable[[Path], str]] = {
    "a named pipe": _made(os.mkfifo),
    "/dev/zero": lambda _: "/dev/zero",
    "a link to /dev/zero": _made(lambda path: path.symlink_to("/dev/zero")),
    "/dev/tty": lambda _: "/dev/tty",
    "a directory": _made(Path.mkdir),
    "a name that is too long": lambda _: "a" * 5000,
    "a loop of links": _made(lambda path: path.symlink_to(path)),
    "a file without an end": _made(
        lambda path: os.truncate(os.open(path, os.O_CREAT | os.O_WRONLY), 1 << 40)
    ),
}


@pytest.mark.parametrize(
    ("option", "name"),
    [
        *((option, name) for option in OPTIONS for name in ("a named pipe", "/dev/zero")),
        *((option, name) for option in SOME for name in [*NO_FILES][2:]),
    ],
)
def test_paths_that_are_no_regular_file(valid: Path, option: str, name: str) -> None:
    value = NO_FILES[name](valid / "it")
    ended = _refused(valid, _options(**OPTIONS[option], **{option: value}))
    assert f"--{option.replace('_', '-')}" in ended.output
    assert "is no regular file" in ended.output or name not in ("a named pipe", "/dev/zero")


def test_a_process_substitution_that_never_ends(valid: Path) -> None:
    reading, writing = os.pipe()
    try:
        os.write(writing, b"some")
        options = _options(etcd_user="root", etcd_password_file="/dev/fd/0")
        ended = ChildRun(valid, options, stdin=reading).end()
    finally:
        os.close(writing)
        os.close(reading)
    assert (ended.exit_code, ended.seconds < SECONDS) == (USAGE_ERROR, True), ended.output


BEGIN = b"-----BEGIN CERTIFICATE-----\n"
POD = (
    "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  containers:\n  - name: etcd\n"
    "    command: [etcd, $(A39)]\n    env:\n    - {name: A0, value: xxxxxxxx}\n"
)
UNIT = "[Service]\nEnvironment=A=" + "b" * 500_000 + "\nExecStart=/usr/bin/etcd "


def _rsa_key() -> bytes:
    """Return a key of 1,000,000 bits, whose check would take days."""
    numbers = [
        1 << bits | 1 for bits in (1_000_000, 16, 999_999, 500_000, 500_000, 499_999, 499_999, 499_999)
    ]
    fields = b"".join(encode(INTEGER, encode_integer(number)) for number in (0, *numbers))
    body = base64.encodebytes(encode(SEQUENCE, fields))
    return b"-----BEGIN RSA PRIVATE KEY-----\n" + body + b"-----END RSA PRIVATE KEY-----\n"


RSA = "an RSA key of a million bits"
CONTENTS: dict[str, tuple[str, bytes]] = {
    RSA: ("etcd_key", _rsa_key()),
    "BEGIN lines": ("etcd_cacert", BEGIN * (MEBIBYTE // len(BEGIN))),
    "BEGIN and END of others": ("etcd_key", (BEGIN + b"-----END A-----\n") * (MEBIBYTE // 44)),
    "a flow list": ("etcd_config", b"name: [" + b"a," * (MEBIBYTE // 2 - 10) + b"a]"),
    **{
        f"{kind} values in YAML for {option}": (option, begin + each * (size // len(each)) + end)
        for option, size in (
            ("etcd_config", MEBIBYTE - 10),
            ("etcd_secret", 4 * MEBIBYTE - 10),
            ("etcd_clusters", 16 * MEBIBYTE - 10),
        )
        for kind, begin, each, end in (
            ("a mapping of", b"[{", b"a,", b"}]"),
            ("keys without", b"", b"? a\n", b""),
            ("documents of", b"", b"--- a\n", b""),
        )
    },
    **{
        f"almost too many values for {option}": (option, b"[" + b"{a: b}, " * 13_000 + b"]")
        for option in ("etcd_config", "etcd_secret")
    },
    "a Secret of many names": (
        "etcd_secret",
        b"kind: Secret\ndata: {" + b", ".join(b"a%d: YQ==" % n for n in range(19_900)) + b"}",
    ),
    "a list of clusters that is a mapping of YAML": (
        "etcd_clusters",
        b"[{" + b"a," * (2 * MEBIBYTE - 10) + b"}]",
    ),
    "many values in a list of clusters": (
        "etcd_clusters",
        b"a = [" + b"{}," * (4 * MEBIBYTE // 3 - 10) + b"{}]",
    ),
    "many values in TOML": ("etcd_waivers", b"a = [" + b"{}," * (MEBIBYTE // 3 - 10) + b"{}]"),
    "deep YAML": ("etcd_config", b"name: " + b"[" * (MEBIBYTE - 10)),
    "an anchor that contains itself": ("etcd_config", b"name: a\nlog: &x\n  y: *x\n"),
    "words": ("etcd_config", b"etcd\0" + b"a\0" * (MEBIBYTE // 2 - 10)),
    "commands": ("etcd_config", b"etcd --name a\n" * (MEBIBYTE // 14 - 10)),
    "keys of another configuration": ("etcd_config", b"machine:\n" * (MEBIBYTE // 9 - 10)),
    "variables that double": (
        "etcd_config",
        (
            POD + "".join(f"    - {{name: A{n}, value: $(A{n - 1})$(A{n - 1})}}\n" for n in range(1, 40))
        ).encode(),
    ),
    "a long variable, often": ("etcd_config", (UNIT + "${A}" * 100_000 + "\n").encode()),
    "words of a long variable": ("etcd_config", (UNIT + "$A " * 100_000 + "\n").encode()),
    "a file that names a long one": ("etcd_config", b"etcd\0--config-file=/" + b"a" * 300_000 + b"\0"),
    "deep TOML": ("etcd_waivers", b"a = " + b"[" * 500_000),
    "a huge number": ("etcd_waivers", b"a = " + b"1" * 500_000),
    "a key of many parts": ("etcd_waivers", b"a." * 50_000 + b"a = 1"),
    "no text": ("etcd_password_file", b"\xff\xfe\n"),
    "a password of a MiB": ("etcd_password_file", b"a" * MEBIBYTE),
    "binary": ("etcd_log", b"\x7fELF\0\0\0"),
}


@pytest.mark.parametrize("name", CONTENTS)
def test_content_that_is_expensive_to_parse(valid: Path, name: str) -> None:
    option, content = CONTENTS[name]
    (valid / "it").write_bytes(content)
    ended = _refused(valid, _options(**OPTIONS[option], **{option: "it"}))
    assert name != RSA or "it: holds an RSA key of 1,000,001 bits, more than 16,384;" in ended.output
    assert len(ended.output) < 4000
    if "YAML" in name or "too many values" in name or "Secret" in name:
        assert ended.mebibytes < YAML_MEBIBYTES


LINE = (
    '{"level":"warn","ts":"2026-01-01T00:00:00.000000Z","caller":"embed/config_logging.go:170",'
    '"msg":"rejected connection on client endpoint","remote-addr":"127.0.0.1:5","server-name":"",'
    '"error":"EOF"}\n'
)
BASE = LINE * 2
OTHER_LINES = (
    *(path.read_text(encoding="utf-8") for path in sorted((CORPUS / "log").iterdir())),
    LINE.replace("2026-01-01T00:00:00.000000Z", "0001-01-01T00:00:00+14:00"),
    LINE.replace("EOF", r"\u001b[2K\r\n\u009b\u202e"),
    LINE.replace("EOF", r"\ud800"),
    LINE.replace("EOF", "open a" * 200_000),
    '0001-01-01 00:00:00.000000 I | embed: rejected connection from "a" (error "b"\n',
    "x " + "etcd" * 50_000 + " rejected connection\n",
)


def test_a_log_that_etcd_did_not_write(live: Live, tmp_path: Path) -> None:
    path = tmp_path / "etcd.log"
    path.write_text("".join(BASE + line for line in OTHER_LINES) + BASE, encoding="utf-8")
    rejections = read_log(path).rejections
    usual = 2 * (len(OTHER_LINES) + 1)
    assert usual <= len(rejections) <= usual + len(OTHER_LINES)
    assert all(found.time is None or found.time.year == 2026 for found in rejections)
    texts = [text for found in rejections for text in (found.error, found.remote_address)]
    assert all(text.isprintable() and len(text) < 20_000 for text in texts)
    options = ("--etcd-log=etcd.log", "--etcd-check=mtls.no-certificate", "--etcd-report=report.json")
    ended = ChildRun(tmp_path, [*live.options, *options]).end()
    assert (ended.exit_code, "INTERNALERROR" in ended.output) == (0, False), ended.output
    observations = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["observations"]
    assert "etcd-logs" in {fact["kind"] for fact in observations}, {fact["kind"] for fact in observations}
    assert (ended.seconds < SECONDS, ended.mebibytes < MEBIBYTES) == (True, True)


def test_a_log_that_becomes_a_pipe(live: Live, tmp_path: Path) -> None:
    log = tmp_path / "etcd.log"
    log.write_text(BASE, encoding="utf-8")
    (tmp_path / "conftest.py").write_text(
        "import os\ndef pytest_collection_finish():\n    os.unlink('etcd.log')\n    os.mkfifo('etcd.log')\n",
        encoding="utf-8",
    )
    ended = ChildRun(tmp_path, [*live.options, "--etcd-log=etcd.log", "--etcd-check=mtls.*"]).end()
    assert "is no regular file but a named pipe" in " ".join(ended.output.split())
    assert ended.exit_code == 0, "the log decides no verdict"
    assert "INTERNALERROR" not in ended.output
