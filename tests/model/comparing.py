"""Compares the model of a declaration with a real etcd that is started with it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from declared.etcd_itself import difference, endings, request

from model.drawing import PORTS, Draw
from pytest_etcdtls.children import child_environment
from pytest_etcdtls.declared.declaration import Declaration, DeclaredMember, Via
from pytest_etcdtls.declared.effective import (
    EffectiveListener,
    effective_of,
)
from pytest_etcdtls.declared.files import FileFact, MemberFiles, read_member_files
from pytest_etcdtls.declared.flags import ignored_settings
from pytest_etcdtls.declared.reading import NO_FLAGS, declared_member, from_command_line
from pytest_etcdtls.declared.traps import traps_of
from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.etcd.ports import claim_ports
from pytest_etcdtls.etcd.sources import binary_version
from pytest_etcdtls.pki import identities
from pytest_etcdtls.pki.bundle import ClusterPKI
from pytest_etcdtls.pki.profile import NO_CERTIFICATE, Identity, MemberNames, PKIPlan
from pytest_etcdtls.role import Role, TLSVersion
from pytest_etcdtls.target import Listener
from pytest_etcdtls.tls.attempt import Attempt, Ending, Request, StreamEnd
from pytest_etcdtls.tls.connection import make_attempt

DEADLINE = 60.0
_ENDED = "it does not start, and the model says that it does"
_OPENS = 5.0
"""Seconds that a port may be opened later than those of clients."""
_SERVES = re.compile(r"serving (?:insecure )?client (?:requests on|traffic)")
_UNRECOGNIZED = re.compile(r"unrecognized environment variable[^A-Z]*(ETCD_\w+)=")
_ENDS = re.compile(r'"level":"(?:fatal|panic)"|^panic: | [CF] \| ', re.MULTILINE)


@dataclass(frozen=True)
class Place:
    """The files, ports and identities of the etcds of draws, which run one after the other."""

    directory: Path
    pki: ClusterPKI
    identities: Mapping[str, Mapping[str, Identity]]
    values: Mapping[str, str]

    @classmethod
    @contextmanager
    def within(cls, directory: Path) -> Iterator[Place]:
        """Make the files in a directory and claim ports while it is used."""
        pki = ClusterPKI.generate(PKIPlan(), [MemberNames("m0", ("localhost", "127.0.0.1"))])
        files = directory / "pki"
        pki.write(files)
        for path in (files / "m0").glob("*"):
            (files / path.name).write_bytes(path.read_bytes())
        for name in ("server", "peer", "client-ca"):
            certificate = x509.load_pem_x509_certificate((files / f"{name}.crt").read_bytes())
            target = "ca.der" if name == "client-ca" else f"{name}.der"
            (files / target).write_bytes(certificate.public_bytes(Encoding.DER))
        (files / "junk").write_text(
            "this is no certificate, no key and no revocation list\n", encoding="utf-8"
        )
        other = identities.foreign_ca()
        (files / "other.crt").write_bytes(other.chain[0].public_bytes(Encoding.PEM))
        presented = {
            side: {
                "none": NO_CERTIFICATE,
                "good": pki.peer_client if side == "peer" else pki.client,
                "foreign": other,
                **identities.issue_identities(
                    pki.peer_ca if side == "peer" else pki.client_ca, ["wrong-san"]
                ),
                **({} if side == "peer" else {"revoked": pki.revoked}),
            }
            for side in ("client", "peer")
        }
        claim = claim_ports(len(PORTS), "127.0.0.1")
        try:
            ports = {name: f"127.0.0.1:{port}" for name, port in zip(PORTS, claim.ports, strict=True)}
            yield cls(directory, pki, presented, {**ports, "pki": str(files), "dir": str(directory)})
        finally:
            claim.release()


EXPLAINED: Mapping[str, str] = {
    r"invalid value .* for ETCD_VERSION: parse error": "3.4 takes ETCD_VERSION for its flag --version and "
    "stops unless it is a boolean; later versions drop the variable, and the model with them",
}
"""What etcd logs where it differs from the model on purpose, and why."""


@dataclass(frozen=True)
class Compared:
    """The result of one draw on one etcd.

    Attributes:
        started: whether etcd served clients.
        attempts: how many connections were compared.
        differences: the differences from the model, one sentence each.
        explained: why it differs on purpose; empty if it does not.
        draw: the draw with real values.
        log: the end of etcd's log.
    """

    started: bool
    attempts: int
    differences: tuple[str, ...]
    draw: Draw
    log: str
    explained: str = ""

    def describe(self) -> str:
        """Return what is needed to try it again by hand."""
        lines = [*self.differences, f"arguments: {' '.join(map(repr, self.draw.arguments))}"]
        if self.draw.variables:
            lines.append(f"environment: {dict(self.draw.variables)}")
        if self.draw.file is not None:
            lines.append(f"file:\n{self.draw.file}")
        return "\n".join([*lines, f"log: ...{self.log[-900:]}"])


def compare(drawn: Draw, binary: Path, place: Place, seed: int) -> Compared:
    """Start etcd with a draw and compare it with the model."""
    version = binary_version(binary)
    real = drawn.fill_in(place.values)
    shutil.rmtree(place.directory / "data", ignore_errors=True)
    if real.file is not None:
        (place.directory / "etcd.yaml").write_text(real.file, encoding="utf-8")
    try:
        member = declared_member(from_command_line(["etcd", *real.arguments], real.variables))
    except UsageError as error:
        with running(binary, real.arguments, real.variables, place.directory) as etcd:
            started = etcd.serves(must_end=True)
        differences = [f"it starts, and the reader says: {error}"] if started else []
        return Compared(started, 0, tuple(differences), real, etcd.text)
    stops = [trap.summary for trap in traps_of(member, version) if not trap.starts]
    stops += _stopped_by_files(member, version)
    found: list[str] = []
    attempts = 0
    with running(binary, real.arguments, real.variables, place.directory) as etcd:
        started = etcd.serves(must_end=bool(stops))
        # It closed the ports of clients, and now and then does not end then.
        if (
            started
            and stops
            and all(_is_closed(one, etcd) for one in effective_of(member, version).listeners)
        ):
            started = False
        if started and stops:
            found.append(f"it starts, and the model says: {'; '.join(stops)}")
        elif not started and not stops:
            found.append(_ENDED)
        elif started:
            rng = Random(f"{seed}/{drawn.number}/attempts")  # noqa: S311 - reproducible, not secret
            for difference in _wire(member, version, place, etcd, rng):
                attempts += 1
                found += [difference] if difference else []
    if started and not stops:
        found += _ignored(member.declaration, version, real.variables, etcd.text)
    explained = next((why for said, why in EXPLAINED.items() if re.search(said, etcd.text)), "")
    if explained and found == [_ENDED]:
        return Compared(started, attempts, (), real, etcd.text, explained)
    return Compared(started, attempts, tuple(found), real, etcd.text)


class Etcd:
    """An etcd that runs, and what it has logged so far."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process, self._lines = process, list[str]()
        self._reader: threading.Thread | None = None

    @property
    def text(self) -> str:
        return "".join(self._lines)

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    @property
    def failed(self) -> bool:
        """Whether it ended for a reason of its own, which may be after it has logged that it serves."""
        return self.ended and bool(_ENDS.search(self.text))

    def serves(self, *, must_end: bool, within: float = DEADLINE) -> bool:
        """Read until it serves clients or ends; with ``must_end``, until it ends."""
        assert self._process.stdout is not None
        watchdog = threading.Timer(within, self._process.kill)
        watchdog.start()
        try:
            serving = False
            for line in self._process.stdout:
                self._lines.append(line)
                serving = serving or bool(_SERVES.search(line))
                if serving and not must_end:
                    # An etcd whose log nobody reads stops when the pipe is full.
                    self._reader = threading.Thread(target=self._read, daemon=True)
                    self._reader.start()
                    return True
                if serving and self._quiet():
                    break
            return serving and not self.ended and not _ENDS.search(self.text)
        finally:
            watchdog.cancel()

    def _read(self) -> None:
        assert self._process.stdout is not None
        self._lines.extend(self._process.stdout)

    def _quiet(self) -> bool:
        """Return whether it neither ends nor fails within a second after it logs that it serves."""
        try:
            self._process.wait(1)
        except subprocess.TimeoutExpired:
            return True
        return False

    def stop(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        assert self._process.stdout is not None
        if self._reader is not None:
            self._reader.join()
        else:
            self._read()
        self._process.stdout.close()
        self._process.wait()


@contextmanager
def running(
    binary: Path, arguments: Sequence[str], variables: Mapping[str, str], directory: Path
) -> Iterator[Etcd]:
    """Run an etcd until the end of the block."""
    process = subprocess.Popen(
        [binary, *arguments],
        env={**child_environment(), **variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        cwd=directory,
        start_new_session=True,
    )
    etcd = Etcd(process)
    try:
        yield etcd
    finally:
        etcd.stop()


def _stopped_by_files(member: DeclaredMember, version: str) -> list[str]:
    """Return which declared files keep etcd from starting: pairs and bundles that it reads at its start."""
    done, files = effective_of(member, version), read_member_files("m0", member)
    found = []
    for side, tls in done.sides.items():
        serves = any(one.tls and one.side is tls for one in done.listeners)
        # Members dial with the peers' pair, which is read whatever the listeners are.
        if tls.generated or not (serves or side == "peer"):
            continue
        has_pair = tls.certificate is not None or tls.key is not None
        if has_pair:
            # Files are read without a version in mind: before 3.5 there is no pair to dial with.
            dials = tls.dials_with not in (None, tls.certificate)
            found += [
                f"{fact.said}: {fact.absent or fact.problem}" for fact in _bad(files, side, dials=dials)
            ]
        bundle = files.bundles.get(side)
        if bundle is not None and bundle.file.absent and (has_pair or side == "peer"):
            found.append(f"{bundle.file.said}: {bundle.file.absent}")
    return found


def _bad(files: MemberFiles, side: str, *, dials: bool) -> Iterator[FileFact]:
    for pair in files.pairs:
        if pair.side == side and (dials or not pair.dials):
            yield from (one for one in (pair.certificate, pair.key) if one.absent or one.problem)
            if pair.matches is False:
                yield FileFact(said=pair.key.said, problem="the key is not that of the certificate")


def _wire(
    member: DeclaredMember, version: str, place: Place, etcd: Etcd, rng: Random
) -> Iterator[str | None]:
    """Yield for each connection how it differs from what the model says; ``None`` if it does not."""
    done = effective_of(member, version)
    for declared in done.listeners:
        plain = _attempt(declared, "http", Request(purpose="plaintext", plaintext=True), etcd)
        # A port for gRPC alone may answer HTTP/1.1 by frames of HTTP/2, or not at all.
        ways = {Ending.SERVED} if declared.plaintext else {Ending.UNCLEAR}
        if "http" not in declared.protocols:
            ways = {Ending.SERVED, Ending.UNCLEAR}
        yield difference(declared, plain, "plaintext", ways)
        if not declared.tls:
            continue
        peer = declared.role is Role.PEER
        for name, identity in place.identities["peer" if peer else "client"].items():
            # One TLS version for each identity: all are had over many draws.
            tls = rng.choice(tuple(TLSVersion))
            served = (declared.minimum or tls) <= tls <= (declared.maximum or tls)
            attempt = _attempt(declared, "https", request(declared, name, identity, tls), etcd)
            ways = endings(declared, name) if served else {Ending.OTHER}
            yield difference(declared, attempt, f"{name} in {tls}", ways)
    yield from _services(member, version, place, etcd)


def _services(member: DeclaredMember, version: str, place: Place, etcd: Etcd) -> Iterator[str | None]:
    """Yield whether the gateway and profiles are served where the good client is."""
    done = effective_of(member, version)
    good = place.identities["client"]["good"]
    for declared in done.listeners:
        if declared.role not in (Role.CLIENT, Role.CLIENT_HTTP) or "http" not in declared.protocols:
            continue
        if not declared.tls or endings(declared, "good") != {Ending.SERVED}:
            continue
        tls = declared.maximum or TLSVersion.TLS1_3
        for what, path, said in (
            ("the gateway", "/v3/kv/range", done.gateway),
            ("profiles", "/debug/pprof/cmdline", done.pprof),
        ):
            body = b'{"key":"YQ=="}' if what == "the gateway" else None
            request = Request(purpose=what, identity=good, path=path, body=body, version=tls)
            attempt = _attempt(declared, "https", request, etcd)
            served = attempt.response is not None and attempt.response.status != 404
            yield None if served is said else f"{declared.url}: {what}: {attempt.describe()}, said: {said}"


def _attempt(declared: EffectiveListener, scheme: str, request: Request, etcd: Etcd) -> Attempt:
    listener = Listener(
        role=declared.role,
        scheme="https" if scheme == "https" else "http",
        host="127.0.0.1",
        port=declared.url.port,
        member="m0",
        label=str(declared.role),
    )
    deadline = time.monotonic() + _OPENS
    while True:
        attempt = make_attempt(listener, request, 5)
        # The metrics port is opened after etcd says that it serves clients.
        refused = attempt.stream_end is StreamEnd.CONNECTION_REFUSED
        if not refused or etcd.ended or time.monotonic() > deadline:
            return attempt


def _is_closed(declared: EffectiveListener, etcd: Etcd) -> bool:
    if declared.role is not Role.CLIENT:
        return True
    request = Request(purpose="plaintext", plaintext=True)
    return _attempt(declared, "http", request, etcd).stream_end is StreamEnd.CONNECTION_REFUSED


def _ignored(declaration: Declaration, version: str, variables: Mapping[str, str], log: str) -> list[str]:
    """Return whether the variables that etcd calls unknown are those that the model says are ignored."""
    if declaration.config_file is not None:
        return []
    said = {one.spelled for one in declaration.unknown if one.via is Via.VARIABLE}
    said |= {
        setting.spelled for setting in ignored_settings(declaration, version) if setting.via is Via.VARIABLE
    }
    said = {name for name in said if variables[name]}
    seen = set(_UNRECOGNIZED.findall(log))
    seen |= {
        str(entry.get("environment-variable", "")).partition("=")[0]
        for entry in _entries(log)
        if entry.get("msg") == "unrecognized environment variable"
    }
    # It calls empty ones so too, which are none.
    seen = {name for name in seen - NO_FLAGS if variables.get(name)}
    return [] if said == seen else [f"etcd ignores {sorted(seen)}, and the model says {sorted(said)}"]


def _entries(log: str) -> Iterator[dict[str, object]]:
    for line in log.splitlines():
        with suppress(ValueError):
            entry = json.loads(line)
            if isinstance(entry, dict):
                yield entry
