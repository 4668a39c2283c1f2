"""Encrypted private keys: where a passphrase comes from, and that it is never shown."""

from __future__ import annotations

import base64
import os
import pty
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from hostile.child_run import ChildRun, Ended
from plugin.live_etcd import Live, start_live

from pytest_etcdtls.pki.go_parser import INTEGER, OCTET_STRING, SEQUENCE, encode, encode_integer
from pytest_etcdtls.settings.port_credentials import KEY_PASSWORD

SECRET = "correct horse"
USAGE_ERROR = 4
FORMS = {"PKCS #8": PrivateFormat.PKCS8, "traditional": PrivateFormat.TraditionalOpenSSL}


@pytest.fixture(scope="module")
def live(newest_etcd: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with start_live(tmp_path_factory.mktemp("encrypted"), newest_etcd) as live:
        yield live


@pytest.fixture(autouse=True)
def _no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY_PASSWORD, raising=False)


def _encrypted(
    live: Live, path: Path, form: PrivateFormat, secret: str = SECRET, name: str = "client"
) -> Path:
    key = load_pem_private_key((live.files / f"{name}.key").read_bytes(), None)
    path.write_bytes(key.private_bytes(Encoding.PEM, form, BestAvailableEncryption(secret.encode())))
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


def _judged(ended: Ended, directory: Path) -> None:
    assert ended.exit_code == 0, ended.output
    assert SECRET not in ended.output
    assert SECRET not in (directory / "report.json").read_text(encoding="utf-8")
    for path in directory.rglob("*"):
        assert path.suffix in ("", ".key", ".txt", ".json", ".py", ".pyc"), path
        if path.is_file() and path.suffix not in (".key", ".pyc", ""):
            assert b"PRIVATE KEY" not in path.read_bytes()


@pytest.mark.parametrize("form", FORMS)
def test_a_passphrase_from_a_file(live: Live, tmp_path: Path, form: str) -> None:
    key = _encrypted(live, tmp_path / "my.key", FORMS[form])
    (tmp_path / "passphrases").write_text(f"another\n{SECRET}\r\n\nlast\n", encoding="utf-8")
    run = ChildRun(tmp_path, [*_options(live, key), "--etcd-key-password-file=passphrases"])
    _judged(run.end(), tmp_path)


@pytest.mark.parametrize("form", FORMS)
def test_a_passphrase_from_the_environment(live: Live, tmp_path: Path, form: str) -> None:
    key = _encrypted(live, tmp_path / "my.key", FORMS[form])
    run = ChildRun(tmp_path, _options(live, key), environment={KEY_PASSWORD: SECRET})
    _judged(run.end(), tmp_path)


def test_the_client_of_the_fixtures(live: Live, tmp_path: Path) -> None:
    key = _encrypted(live, tmp_path / "my.key", PrivateFormat.PKCS8)
    (tmp_path / "test_own.py").write_text(
        "def test_it(etcd_client):\n    assert etcd_client.get('/version').status_code == 200\n",
        encoding="utf-8",
    )
    options = [*live.options, f"--etcd-key={key}", "--no-etcd-conformance", "test_own.py"]
    ended = ChildRun(tmp_path, options, environment={KEY_PASSWORD: SECRET}).end()
    assert (ended.exit_code, "1 passed" in ended.output) == (0, True), ended.output


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


def test_a_passphrase_that_is_typed(live: Live, tmp_path: Path) -> None:
    key = _encrypted(live, tmp_path / "my.key", PrivateFormat.PKCS8)
    code, screen = _at_a_terminal(tmp_path, _options(live, key), SECRET)
    assert (code, f"Passphrase of --etcd-key {key}: " in screen) == (0, True), screen
    assert SECRET not in screen


def test_a_wrong_passphrase_that_is_typed(live: Live, tmp_path: Path) -> None:
    key = _encrypted(live, tmp_path / "my.key", PrivateFormat.PKCS8)
    code, screen = _at_a_terminal(tmp_path, _options(live, key), "wrong one")
    assert (code, "the passphrase is wrong" in screen) == (USAGE_ERROR, True), screen
    assert "wrong one" not in screen


def _refused(directory: Path, arguments: list[str], environment: dict[str, str] | None = None) -> str:
    ended = ChildRun(directory, arguments, environment=environment).end()
    errors = [line for line in ended.output.splitlines() if line.startswith("ERROR: ")]
    assert (ended.exit_code, len(errors)) == (USAGE_ERROR, 1), ended.output
    assert "Traceback" not in ended.output
    return errors[0]


@pytest.mark.parametrize("form", FORMS)
def test_a_wrong_passphrase(live: Live, tmp_path: Path, form: str) -> None:
    key = _encrypted(live, tmp_path / "my.key", FORMS[form])
    message = _refused(tmp_path, _options(live, key), {KEY_PASSWORD: "mistyped"})
    assert message.startswith(
        f"ERROR: --etcd-key {key}: holds an encrypted key, and the passphrase is wrong;"
    )
    assert "mistyped" not in message
    (tmp_path / "passphrases").write_text("mistyped\nforgotten\n", encoding="utf-8")
    message = _refused(tmp_path, [*_options(live, key), "--etcd-key-password-file=passphrases"])
    assert "none of 2 passphrases is right" in message


@pytest.mark.parametrize("form", FORMS)
def test_no_passphrase(live: Live, tmp_path: Path, form: str) -> None:
    key = _encrypted(live, tmp_path / "my.key", FORMS[form])
    message = _refused(tmp_path, _options(live, key))
    assert "holds an encrypted key, and no passphrase of it is given" in message
    assert f"pass --etcd-key-password-file, or set {KEY_PASSWORD}" in message


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


@pytest.mark.parametrize(
    ("kdf", "parameters", "demand"),
    [
        (_PBKDF2, (2**31,), "2,147,483,648 iterations, more than 5,000,000"),
        (_PBKDF2, (2**31 - 1, 32), "2,147,483,647 iterations"),
        (_PBKDF2, (2**40000,), "2^40000 or more iterations"),
        (_SHA1_AND_3DES, (2**31 - 1,), "2,147,483,647 iterations"),
        (_SCRYPT, (2**30, 8, 1), "1,048,576 MiB of memory, more than 256"),
        (_SCRYPT, (2**14, 2**20, 1), "2,097,152 MiB of memory"),
        (_SCRYPT, (2**14, 8, 2**29), "536,870,912 rounds of scrypt of 16 MiB"),
    ],
    ids=["PBKDF2", "length", "digits", "PKCS #12", "scrypt N", "scrypt r", "scrypt p"],
)
def test_a_key_that_costs_too_much_to_decrypt(
    live: Live, tmp_path: Path, kdf: bytes, parameters: tuple[int, ...], demand: str
) -> None:
    key = _demanding(tmp_path / "my.key", kdf, *parameters)
    ended = ChildRun(tmp_path, _options(live, key), environment={KEY_PASSWORD: SECRET}).end()
    assert (ended.exit_code, "Traceback" in ended.output) == (USAGE_ERROR, False), ended.output
    assert (
        f"ERROR: --etcd-key {key}: holds an encrypted key, and to decrypt it takes {demand}" in ended.output
    )
    assert ended.mebibytes < 400


@pytest.mark.parametrize(
    ("kdf", "parameters", "happened"),
    [
        (_PBKDF2, (100_000,), "the passphrase is wrong"),
        (_SCRYPT, (2**14, 8, 1), "the passphrase is wrong"),
        (_PBKDF2, (-5,), "cannot be decoded"),
        (_SCRYPT, (0, 0, 0), "cannot be decoded"),
        (_SCRYPT, (2**14 + 1, 8, 1), "cannot be decoded"),
        (_SCRYPT, (2**14,), "cannot be decoded"),
    ],
    ids=["PBKDF2", "scrypt", "negative", "zeros", "no power of two", "missing"],
)
def test_parameters_within_the_bounds(
    live: Live, tmp_path: Path, kdf: bytes, parameters: tuple[int, ...], happened: str
) -> None:
    key = _demanding(tmp_path / "my.key", kdf, *parameters)
    assert happened in _refused(tmp_path, _options(live, key), {KEY_PASSWORD: SECRET})


@pytest.mark.parametrize(
    "option", ["--etcd-cert", "--etcd-key", "--etcd-cacert", "--etcd-peer-key", "--etcd-ca-key"]
)
def test_an_object_of_a_token(live: Live, tmp_path: Path, option: str) -> None:
    uri = "pkcs11:token=etcd;object=client;type=private?pin-value=1234321"
    message = _refused(tmp_path, [*live.options, f"{option}={uri}"])
    assert message.startswith(f"ERROR: {option} names an object in a PKCS #11 token")
    assert "1234321" not in message
