"""Encrypted private keys: where a passphrase comes from, and that it is never shown."""

from __future__ import annotations

import base64
import os
import pty
import re
import sys
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from hostile.child_run import ChildRun
from plugin.live_etcd import Live

from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.pki.certificate import load_key
from pytest_etcdtls.pki.go_parser import INTEGER, OCTET_STRING, SEQUENCE, encode, encode_integer
from pytest_etcdtls.settings.port_credentials import KEY_PASSWORD

SECRET = "correct horse"
USAGE_ERROR = 4


@pytest.fixture(autouse=True)
def _no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY_PASSWORD, raising=False)


def _encrypted(live: Live, path: Path, form: PrivateFormat) -> Path:
    key = load_pem_private_key((live.files / "client.key").read_bytes(), None)
    path.write_bytes(key.private_bytes(Encoding.PEM, form, BestAvailableEncryption(SECRET.encode())))
    return path


def _options(live: Live, key: Path) -> list[str]:
    return [
        *live.options,
        f"--etcd-key={key}",
        "--etcd-check=mtls.trusted-client",
        "--etcd-report=report.json",
        "-rA",
        "-vv",
    ]


@pytest.mark.parametrize(
    ("form", "source"),
    [(PrivateFormat.PKCS8, "environment"), (PrivateFormat.TraditionalOpenSSL, "file")],
)
def test_a_passphrase_that_is_given(live: Live, tmp_path: Path, form: PrivateFormat, source: str) -> None:
    key = _encrypted(live, tmp_path / "my.key", form)
    (tmp_path / "test_own.py").write_text(
        "def test_it(etcd_client):\n    assert etcd_client.get('/version').status_code == 200\n",
        encoding="utf-8",
    )
    environment, options = {KEY_PASSWORD: SECRET}, [*_options(live, key), "test_own.py"]
    if source == "file":
        (tmp_path / "passphrases").write_text(f"another\n{SECRET}\r\n\nlast\n", encoding="utf-8")
        environment, options = {}, [*options, "--etcd-key-password-file=passphrases"]
    ended = ChildRun(tmp_path, options, environment=environment).end()
    assert ended.exit_code == 0, ended.output
    assert "test_own.py::test_it PASSED" in ended.output
    assert SECRET not in ended.output
    assert SECRET not in (tmp_path / "report.json").read_text(encoding="utf-8")
    for path in tmp_path.rglob("*"):
        assert path.suffix in ("", ".key", ".txt", ".json", ".py", ".pyc"), path
        if path.is_file() and path.suffix not in (".key", ".pyc", ""):
            assert b"PRIVATE KEY" not in path.read_bytes()


def _at_a_terminal(directory: Path, arguments: list[str], typed: str) -> tuple[int, str]:
    """Run with a terminal, and type what is given once the run asks. Return exit code and the screen."""
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(directory)
        os.execv(sys.executable, [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments])  # noqa: S606
    screen = b""
    try:
        while b"Passphrase of" not in screen and (more := _read(terminal)):
            screen += more
        os.write(terminal, f"{typed}\n".encode())
        while more := _read(terminal):
            screen += more
    finally:
        os.close(terminal)
        _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), screen.decode(errors="replace")


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # Linux: the other side is closed
        return b""


@pytest.mark.parametrize(
    ("typed", "exit_code", "said"),
    [(SECRET, 0, "Passphrase of --etcd-key "), ("wrong one", USAGE_ERROR, "the passphrase is wrong")],
)
def test_a_passphrase_that_is_typed(
    live: Live, tmp_path: Path, typed: str, exit_code: int, said: str
) -> None:
    key = _encrypted(live, tmp_path / "my.key", PrivateFormat.PKCS8)
    code, screen = _at_a_terminal(tmp_path, _options(live, key), typed)
    assert (code, said in screen) == (exit_code, True), screen
    assert typed not in screen


_PBES2 = bytes.fromhex("06092a864886f70d01050d")
_PBKDF2 = bytes.fromhex("06092a864886f70d01050c")
_SCRYPT = bytes.fromhex("06092b06010401da47040b")
_SHA1_AND_3DES = bytes.fromhex("060a2a864886f70d010c0103")
_AES_256_CBC = bytes.fromhex("060960864801650304012a")


def _sequence(*parts: bytes) -> bytes:
    return encode(SEQUENCE, b"".join(parts))


def _integer(value: int) -> bytes:
    return encode(INTEGER, encode_integer(value))


def _demanding(path: Path, kdf: bytes, *parameters: int) -> Path:
    """Write an encrypted key whose derivation has these parameters after the salt."""
    derivation = _sequence(kdf, _sequence(encode(OCTET_STRING, bytes(16)), *map(_integer, parameters)))
    cipher = _sequence(_AES_256_CBC, encode(OCTET_STRING, bytes(16)))
    whole = derivation if kdf == _SHA1_AND_3DES else _sequence(_PBES2, _sequence(derivation, cipher))
    body = base64.encodebytes(_sequence(whole, encode(OCTET_STRING, bytes(160)))).decode()
    path.write_text(
        f"-----BEGIN ENCRYPTED PRIVATE KEY-----\n{body}-----END ENCRYPTED PRIVATE KEY-----\n",
        encoding="utf-8",
    )
    return path


_COSTLY = "takes too much time or memory to decrypt"


@pytest.mark.parametrize(
    ("kdf", "parameters", "happened"),
    [
        (_PBKDF2, (2**31,), _COSTLY),
        (_PBKDF2, (2**31 - 1, 32), _COSTLY),
        (_PBKDF2, (2**40000,), _COSTLY),
        (_SHA1_AND_3DES, (2**31 - 1,), _COSTLY),
        (_SCRYPT, (2**30, 8, 1), _COSTLY),
        (_SCRYPT, (2**14, 2**20, 1), _COSTLY),
        (_SCRYPT, (2**14, 8, 2**29), _COSTLY),
        (_PBKDF2, (100_000,), "the passphrase is wrong"),
        (_SCRYPT, (2**14, 8, 1), "the passphrase is wrong"),
        (_PBKDF2, (-5,), "cannot be decoded"),
        (_SCRYPT, (0, 0, 0), "cannot be decoded"),
        (_SCRYPT, (2**14,), "cannot be decoded"),
    ],
)
def test_a_key_that_costs_too_much_to_decrypt(
    tmp_path: Path, kdf: bytes, parameters: tuple[int, ...], happened: str
) -> None:
    key = _demanding(tmp_path / "my.key", kdf, *parameters)
    began = time.process_time()
    with pytest.raises(UsageError, match=re.escape(happened)):
        load_key(key, option="--etcd-key", passphrases=lambda *_: [SECRET.encode()])
    assert time.process_time() - began < 5


@pytest.mark.parametrize("option", ["--etcd-cert", "--etcd-key", "--etcd-cacert", "--etcd-ca-key"])
def test_an_object_of_a_token(tmp_path: Path, option: str) -> None:
    uri = "pkcs11:token=etcd;object=client;type=private?pin-value=1234321"
    ended = ChildRun(tmp_path, ["--etcd-endpoint=https://127.0.0.1:1", f"{option}={uri}"]).end()
    assert ended.exit_code == USAGE_ERROR
    [message] = [line for line in ended.output.splitlines() if line.startswith("ERROR: ")]
    assert message.startswith(f"ERROR: {option} names an object in a PKCS #11 token")
    assert "1234321" not in ended.output
    assert "Traceback" not in ended.output
