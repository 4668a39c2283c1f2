"""Draws changes, rehearses a restart, really restarts etcd, and compares: ``python -m process.restarts``.

``tests`` must be on the path, and the user root. What a restart really changes is asked by the TLS of Python
itself: who is accepted, and what is served, on each port, before and after. A rehearsal must find that etcd
does not start, a change where there is one, and nothing where nothing changes. Suites, groups and announced
CAs are not asked: a finding about them alone is not counted. Exit code 1 if something differs.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import runpy
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

import yaml
from kubeadm.nodes import PKI, changed

from process.containers import Container, container, rehearsed, target, wrong
from pytest_etcdtls.checks.results import Outcome
from pytest_etcdtls.declared.running import Process
from pytest_etcdtls.errors import EtcdFailedError, EtcdTLSError, UsageError
from pytest_etcdtls.pki.authority import CertificateAuthority
from pytest_etcdtls.pki.bundle import encode_certificates
from pytest_etcdtls.versions import version_key

ROOT = Path(__file__).parents[2]
USER = 65533
_VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)
_OTHER_CA = encode_certificates([CertificateAuthority.create("other").certificate])
UNASKED = frozenset({"restart.announced-ca", "restart.protocol"})


def _write(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda pki: (pki / name).write_bytes(content)


def _add(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda pki: (pki / name).write_bytes((pki / name).read_bytes() + content)


def _copy(source: str, name: str) -> Callable[[Path], object]:
    def copy(pki: Path) -> None:
        for suffix in ("crt", "key"):
            (pki / f"{name}.{suffix}").write_bytes((pki / f"{source}.{suffix}").read_bytes())

    return copy


FILES: Mapping[str, Callable[[Path], object]] = {
    "another CA": _write("etcd/ca.crt", _OTHER_CA),
    "one more CA": _add("etcd/ca.crt", _OTHER_CA),
    "no CA": lambda pki: (pki / "etcd/ca.crt").unlink(),
    "an empty CA": _write("etcd/ca.crt", b""),
    "text in the CA": _write("etcd/ca.crt", b"text\n"),
    "text after the CA": _add("etcd/ca.crt", b"text\n"),
    "half a CA": lambda pki: (pki / "etcd/ca.crt").write_bytes((pki / "etcd/ca.crt").read_bytes()[:200]),
    "the CA is a directory": lambda pki: _directory(pki / "etcd/ca.crt"),
    "the peer's certificate": _copy("etcd/peer", "etcd/server"),
    "the server's certificate": _copy("etcd/server", "etcd/peer"),
    "another server key": lambda pki: shutil.copyfile(pki / "etcd/peer.key", pki / "etcd/server.key"),
    "another peer key": lambda pki: shutil.copyfile(pki / "etcd/server.key", pki / "etcd/peer.key"),
    "no server key": lambda pki: (pki / "etcd/server.key").unlink(),
    "no peer certificate": lambda pki: (pki / "etcd/peer.crt").unlink(),
    "an empty server certificate": _write("etcd/server.crt", b""),
    "a server key of root": lambda pki: _of_root(pki / "etcd/server.key"),
    "a CA of root": lambda pki: _of_root(pki / "etcd/ca.crt"),
    "a directory of root": lambda pki: _of_root(pki / "etcd"),
}


def _directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _of_root(path: Path) -> None:
    shutil.chown(path, 0, 0)
    path.chmod(0o700 if path.is_dir() else 0o600)


Settings = Mapping[str, str | None]
SETTINGS: Sequence[Settings] = (
    {"client-cert-auth": "false"},
    {"client-cert-auth": "false", "trusted-ca-file": None},
    {"trusted-ca-file": f"{PKI}/ca.crt"},
    {"trusted-ca-file": f"{PKI}/absent.crt"},
    {"peer-client-cert-auth": "false"},
    {"peer-client-cert-auth": "false", "peer-trusted-ca-file": None},
    {"peer-trusted-ca-file": f"{PKI}/ca.crt"},
    {"cert-file": f"{PKI}/etcd/peer.crt", "key-file": f"{PKI}/etcd/peer.key"},
    {"peer-cert-file": f"{PKI}/etcd/server.crt", "peer-key-file": f"{PKI}/etcd/server.key"},
    {"key-file": f"{PKI}/etcd/absent.key"},
    {"key-file": None},
    {"cert-file": None, "key-file": None},
    {"client-cert-file": f"{PKI}/etcd/peer.crt", "client-key-file": f"{PKI}/etcd/peer.key"},
    {"tls-min-version": "TLS1.3"},
    {"tls-max-version": "TLS1.2"},
    {"tls-min-version": "1.3"},
    {
        "cipher-suites": "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    },
    {"cipher-suites": "TLS_RSA_WITH_AES_128_CBC_SHA"},
    {"cipher-suites": "ECDHE-RSA-AES128-GCM-SHA256"},
    {"listen-metrics-urls": None},
    {"listen-metrics-urls": "http://127.0.0.1:{other}"},
    {"listen-client-urls": "http://{address}:{client}"},
    {"listen-client-urls": "https://{address}:{client}"},
    {"listen-client-urls": "https://0.0.0.0:{client}"},
    {"listen-client-urls": "https://127.0.0.1:{client},https://{address}:{client},https://{address}:{other}"},
    {"listen-peer-urls": "http://{address}:{peer}"},
    {"listen-peer-urls": "https://0.0.0.0:{peer}"},
    {"advertise-client-urls": None},
    {"client-cert-allowed-hostname": "localhost"},
    {"peer-cert-allowed-cn": "nobody"},
    {"peer-cert-allowed-cn": "cp1", "peer-cert-allowed-hostname": "cp1"},
    {"client-crl-file": f"{PKI}/etcd/ca.crt"},
    {"peer-crl-file": f"{PKI}/absent.crl"},
    {"auto-tls": "true"},
    {"peer-auto-tls": "true"},
    {"auto-tls": "true", "cert-file": None, "key-file": None},
    {"no-such-flag": "1"},
    {"enable-pprof": "true"},
    {"log-level": "debug"},
    {"log-outputs": "/var/log/etcd.log,stderr"},
    {"snapshot-count": "10001"},
    {"initial-cluster-state": "existing"},
    {"initial-cluster-token": "another"},
    {"heartbeat-interval": "5000"},
    {"data-dir": "/var/lib/another"},
    {"wal-dir": "/var/lib/wal"},
    {"experimental-initial-corrupt-check": "true"},
    {"feature-gates": "InitialCorruptCheck=true"},
    {"auth-token": "jwt"},
)


@dataclass(frozen=True)
class Draw:
    """What a node is changed by."""

    number: int
    user: int
    files: tuple[str, ...] = ()
    settings: Settings = field(default_factory=dict)
    declared: bool = False
    next_user: int | None = None
    update: bool = False


def draw(seed: int, number: int) -> Draw:
    """Return the draw of a number: one change in two draws of three, none in a tenth."""
    choose = random.Random(f"{seed}/{number}")  # noqa: S311 - a draw is repeatable
    made = Draw(number, choose.choice((0, 0, USER)), declared=choose.random() < 0.3)
    for _ in range(choose.choice((0, 1, 1, 1, 1, 1, 1, 2, 2, 3))):
        kind = choose.choices(("file", "setting", "user", "version"), (8, 9, 1, 1))[0]
        if kind == "file":
            made = replace(made, files=(*made.files, choose.choice(list(FILES))))
        elif kind == "setting":
            made = replace(made, settings={**made.settings, **choose.choice(SETTINGS)}, declared=True)
        elif kind == "user":
            made = replace(made, next_user=choose.choice((0, USER)), declared=True)
        else:
            made = replace(made, update=True)
    return made


Answers = Mapping[tuple[str, str, str], str]
"""What is answered, by URL, identity and TLS version."""


def _asked(urls: Sequence[str], pairs: Mapping[str, Path | None]) -> Answers:
    found = {}
    for url in urls:
        versions = _VERSIONS if url.startswith("https") else _VERSIONS[1:]
        for name, pair in pairs.items() if url.startswith("https") else [("none", None)]:
            for version in versions:
                found[url, name, version.name] = _ask(url, pair, version)
        if url.startswith("https"):
            found[url, GATEWAY, ""] = _ask(url, pairs["healthcheck-client"], version, GATEWAY)
    return found


ANNOUNCED = "announced CAs"
"""The place of the CAs that a listener announces, in answers that know them, as GATEWAY is of a status."""
_VERSION = "GET /version HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
GATEWAY = (
    "POST /v3/maintenance/status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    "Content-Length: 2\r\n\r\n{}"
)


def _ask(url: str, pair: Path | None, version: ssl.TLSVersion, request: str = _VERSION) -> str:
    parts = urlsplit(url)
    served = ""
    try:
        with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=10) as plain:
            connection: socket.socket = plain
            if parts.scheme == "https":
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
                context.minimum_version = context.maximum_version = version
                if pair is not None:
                    context.load_cert_chain(pair.with_suffix(".crt"), pair.with_suffix(".key"))
                encrypted = context.wrap_socket(plain, server_hostname="localhost")
                served = f" {hash(encrypted.getpeercert(binary_form=True))}"
                connection = encrypted
            connection.sendall(request.encode())
            answer = connection.recv(64)
            if request == GATEWAY:
                return answer[9:12].decode("ascii", "replace")
            return ("accepted" if answer.startswith(b"HTTP/") else "refused") + served
    except TimeoutError:
        return "silent"
    except ConnectionRefusedError:
        return "not open"
    except OSError:
        return "refused"


def kinds(before: Answers, after: Answers) -> set[str]:
    """Return the checks that should find what differs."""
    found: set[str] = set()
    for place, old in before.items():
        new = after[place]
        if place[1] == ANNOUNCED:
            found.update({"restart.announced-ca"} if old != new else ())
        elif place[1] == GATEWAY:
            found.update({"restart.gateway"} if (old, new) == ("200", "503") else ())
        elif "not open" in (old, new) and old != new:
            found.add("restart.listeners")
        elif old.partition(" ")[0] != new.partition(" ")[0]:
            found.add("restart.clients")
        elif old != new:
            found.add("restart.certificate")
    return found


@dataclass(frozen=True)
class Compared:
    """What a restart really does, and what its rehearsal said."""

    really: frozenset[str]
    said: frozenset[str]
    unverified: str = ""
    differs: bool = False


def compared(really: set[str], said: set[str]) -> Compared:
    """Return whether a rehearsal said what a restart did."""
    starts = "restart.starts"
    if starts in really or starts in said:
        differs = (starts in really) != (starts in said)
    elif really:  # each of these also finds what another port or version of TLS means for a client
        differs = not said
    else:
        differs = bool(said - UNASKED)
    return Compared(frozenset(really), frozenset(said), differs=differs)


def compare(one: Draw, binary: Path, update: Path | None, directory: Path, address: str) -> Compared:
    """Make a node, change it, rehearse its restart and restart it."""
    with container(directory, binary, address) as first:
        node, root, pki = first.node, first.node.root, first.node.pki
        _add_libraries(root, binary)
        (root / "var/log").mkdir(parents=True)
        pairs = dict(_pairs(pki, directory))
        if one.user:
            for path in (root, *root.rglob("*")):
                shutil.chown(path, one.user, one.user)
        for parent in (root, *root.parents[:-1]):
            parent.chmod(parent.stat().st_mode | 0o011)
        process = replace(first, user=one.user).start()
        words = {"address": address, "client": str(node.client), "peer": str(node.peer)}
        settings = {
            name: value and value.format(other=node.metrics + 1000, **words)
            for name, value in one.settings.items()
        }
        text = changed(node.text, settings)
        if one.next_user is not None:
            text = _with_user(text, one.next_user)
        then = replace(
            first,
            node=replace(node, text=text),
            user=one.user if one.next_user is None else one.next_user,
            processes=[],
        )
        urls = sorted({url for made in (first, then) for url in _urls(made, address)})
        _asked(urls, pairs)  # now it has read all its files
        for name in one.files:
            with suppress(FileNotFoundError, IsADirectoryError):  # another change has removed it
                FILES[name](pki)
        if one.update and update is not None:
            (root / "etcd").unlink()
            shutil.copy(update, root / "etcd")
            _add_libraries(root, update)
        before = _asked(urls, pairs)
        try:
            said, reason = _rehearsed(one, process, text, directory)
        except UsageError as error:
            return Compared(frozenset(), frozenset(), f"exit code 4: {error}")
        if reason:
            return Compared(frozenset(), frozenset(), reason)
        first.stop()
        try:
            then.start()
            after = _asked(urls, pairs)
            really = kinds(before, after) if then.processes[-1].running else {"restart.starts"}
        except EtcdFailedError:
            really = {"restart.starts"}
        finally:
            then.stop()
        return compared(really, said)


def _rehearsed(one: Draw, process: Process, text: str, directory: Path) -> tuple[set[str], str]:
    manifest = directory / "declared.yaml"
    manifest.write_text(text, encoding="utf-8")
    live = target(process, **({"etcd_config": manifest} if one.declared else {}))
    results = rehearsed(live)
    reasons = [made.reason for made in results.values() if made.outcome is Outcome.NOT_VERIFIED]
    return set(wrong(results)), "" if wrong(results) or not reasons else reasons[0]


def _with_user(text: str, user: int) -> str:
    document = yaml.safe_load(text)
    document["spec"]["containers"][0]["securityContext"] = {"runAsUser": user, "runAsGroup": user}
    return yaml.safe_dump(document)


def _urls(made: Container, address: str) -> Iterator[str]:
    for name in ("listen-client-urls", "listen-peer-urls", "listen-metrics-urls"):
        for url in filter(None, made.settings.get(name, "").split(",")):
            for host in (address, "127.255.255.254"):  # and one where no other etcd listens
                yield url.replace("0.0.0.0", host)  # noqa: S104 - of a URL


def _pairs(pki: Path, directory: Path) -> Iterator[tuple[str, Path | None]]:
    """Yield identities, as copies: the files change."""
    yield "none", None
    for name in ("server", "peer", "healthcheck-client"):
        for suffix in ("crt", "key"):
            shutil.copy(pki / f"etcd/{name}.{suffix}", directory / f"{name}.{suffix}")
        yield name, directory / name


def _add_libraries(root: Path, binary: Path) -> None:
    """Give a root directory the libraries of a program that is not static."""
    listed = subprocess.run(["ldd", str(binary)], capture_output=True, text=True, check=False).stdout
    for library in re.findall(r"(/\S+) \(0x", listed):
        there = root / library.lstrip("/")
        there.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(library, there)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as the arguments say and return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seed", type=int, default=1, help="of the draws (default 1)")
    parser.add_argument("--draws", type=int, default=150, help="on each etcd (default 150)")
    parser.add_argument("--number", type=int, action="append", help="one draw again; repeatable")
    parser.add_argument("--etcd", action="append", help="version of an etcd; repeatable (default: all)")
    options = parser.parse_args(arguments)
    binaries: dict[str, Path] = runpy.run_path(str(ROOT / "tests" / "conftest.py"))["find_binaries"]()
    versions = sorted(options.etcd or binaries, key=version_key)
    counts, different = Counter[str](), 0
    for version in versions:
        later = [binary for binary in binaries if version_key(binary)[:2] > version_key(version)[:2]]
        update = binaries[min(later, key=version_key)] if later else None
        for number in options.number or range(options.draws):
            one = draw(options.seed, number)
            with tempfile.TemporaryDirectory(prefix="etcdtls-restart-") as directory:
                address = f"127.{os.getpid() % 250 + 1}.{number % 250 + 1}.1"
                try:
                    made = compare(one, binaries[version], update, Path(directory), address)
                except (EtcdTLSError, AssertionError, OSError) as error:
                    made = Compared(frozenset(), frozenset(), f"{type(error).__name__}: {str(error)[:300]}")
            kind = "differs" if made.differs else "not verified" if made.unverified else "agrees"
            counts[f"{version} {kind}{'' if made.unverified or not made.really else ' on a change'}"] += 1
            different += made.differs
            if made.differs or made.unverified or options.number:
                really, said = (", ".join(sorted(names)) or "nothing" for names in (made.really, made.said))
                print(
                    f"{version} {kind}: {one}: {made.unverified or f'really {really}; said {said}'}",
                    flush=True,
                )
        print(f"{version}: {dict(counts)}", flush=True)
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
