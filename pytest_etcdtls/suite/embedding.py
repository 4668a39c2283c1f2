"""The objects that the fixtures provide to the user's tests."""

from __future__ import annotations

import dataclasses
import re
import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import httpx
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from pytest_etcdtls.cluster.cluster import Cluster
from pytest_etcdtls.cluster.config import ClusterConfig
from pytest_etcdtls.errors import EtcdTLSError, UsageError
from pytest_etcdtls.pki.profile import Identity
from pytest_etcdtls.registry import Check
from pytest_etcdtls.report.terminal import full_result
from pytest_etcdtls.results import CheckResult, Outcome
from pytest_etcdtls.role import Role
from pytest_etcdtls.runner import Run, TargetRun
from pytest_etcdtls.suite.state import run_of
from pytest_etcdtls.target import Listener, Target

_READS = re.compile(
    r"/v3(alpha|beta)?/("
    r"kv/range|maintenance/status|maintenance/hash|cluster/member/list|lease/leases|(kv/)?lease/timetolive|"
    r"auth/(status|authenticate|user/get|user/list|role/get|role/list))"
)
"""Paths of etcd's JSON gateway whose POST changes no data."""


class WriteRefusedError(EtcdTLSError):
    """A request that may change data on a live cluster was not sent."""


def connect(target: TargetRun) -> httpx.Client:
    """Return a client of the target's first client listener. The caller closes it.

    Raises:
        pytest.fail.Exception: if there is no such listener, or no client certificate.
    """
    actual = target.observer.target
    listener = _listener(actual)
    allow_writes = not target.live or target.settings.allow_writes
    transport = _ReadOnlyTransport(listener, _context(target, actual, listener), allow_writes)
    try:
        return httpx.Client(
            base_url=listener.url, transport=transport, timeout=target.settings.bounds.timeout
        )
    except httpx.InvalidURL as error:
        pytest.fail(
            f"etcd_client cannot be made for {listener.url}: httpx does not take that host ({error}); name "
            "the member by its address, with --etcd-connect-to if the certificate needs the name",
            pytrace=False,
        )


class _ReadOnlyTransport(httpx.HTTPTransport):
    """A transport that connects to a fixed address and refuses requests that are not reads."""

    def __init__(self, listener: Listener, context: ssl.SSLContext, allow_writes: bool) -> None:
        super().__init__(verify=context)
        self._listener = listener
        self._allow_writes = allow_writes

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send the request.

        Raises:
            WriteRefusedError: if the request may change data on a live cluster.
        """
        reads = request.method in ("GET", "HEAD", "OPTIONS") or (
            request.method == "POST" and _READS.fullmatch(request.url.path)
        )
        if not reads and not self._allow_writes:
            raise WriteRefusedError(
                f"{request.method} {request.url}: etcd_client only reads from a live cluster; "
                "--etcd-allow-writes lets it write"
            )
        there = self._listener.connect_to
        if request.url.netloc == httpx.URL(self._listener.url).netloc:
            # A trailing dot is used for the lookup only (RFC 6066 section 3).
            request.extensions = {**request.extensions, "sni_hostname": self._listener.host.rstrip(".")}
        else:
            there = None
        if there:
            request.url = request.url.copy_with(host=there[0], port=there[1])
        return super().handle_request(request)


def _listener(target: Target) -> Listener:
    for role in (Role.CLIENT_HTTP, Role.CLIENT):  # the former leaves gRPC only to the latter
        for listener in target.listeners:
            # Without a CA file any public CA would do, and a member list may lead anywhere.
            known = not listener.discovered or target.credentials(role).server_ca is not None
            if listener.role is role and known:
                return listener
    pytest.fail("etcd_client needs a client listener: pass --etcd-endpoint", pytrace=False)


def _context(target: TargetRun, actual: Target, listener: Listener) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    held = actual.credentials(listener.role)
    if held.server_ca is None:
        context.load_default_certs()
    else:
        pem = b"".join(found.public_bytes(Encoding.PEM) for found in held.server_ca.certificates)
        context.load_verify_locations(cadata=pem.decode("ascii"))
    if listener.scheme == "https":
        certificate, key, passphrase = _files(target, held.identities)
        context.load_cert_chain(certificate, key, password=passphrase or b"")  # never asks
    return context


def _files(target: TargetRun, identities: tuple[Identity, ...]) -> tuple[str, str, bytes | None]:
    for identity in identities:
        if identity.certificate_file and identity.key_file:
            return identity.certificate_file, identity.key_file, identity.passphrase
    if not target.live:
        directory = target.cluster.pki_directory
        return str(directory / "client.crt"), str(directory / "client.key"), None
    pytest.fail("etcd_client needs a client certificate: pass --etcd-cert and --etcd-key", pytrace=False)


class ClusterFactory:
    """Starts owned clusters.

    Args:
        run: starts the clusters, and stops at the end those that are still running.
        owned: the target whose etcd and configuration are the default.
    """

    def __init__(self, run: Run, owned: TargetRun) -> None:
        self._run = run
        self._owned = owned
        self._started = ExitStack()

    def __call__(self, config: ClusterConfig | None = None, **changes: Any) -> Cluster:  # noqa: ANN401
        """Start a cluster and return it.

        Args:
            config: the configuration (default: that of ``--etcd-size`` and ``--etcd-key-type``).
            changes: changes to fields of the configuration.

        Raises:
            UsageError: for an unknown field, or a field that this version of etcd does not support.
            ClusterStartError: if the cluster does not start.
        """
        base = self._owned.settings.owned.config if config is None else config
        unknown = sorted(changes.keys() - {field.name for field in dataclasses.fields(base)})
        if unknown:
            raise UsageError(f"ClusterConfig has no field {unknown[0]!r}")
        if self._owned.source is None:
            raise TypeError("only an owned target knows what to start a cluster from")
        cluster = self._run.start(dataclasses.replace(base, **changes), self._owned.source)
        self._started.callback(cluster.stop)
        return cluster

    def __enter__(self) -> Self:
        """Return the factory."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop every cluster that is still running, the last one first."""
        self._started.close()


class BoundCheck:
    """One check on one listener of a target, or on the whole target.

    Args:
        run: the run of the session.
        target: the target of the listener.
        check: the check.
        listener: label of the listener; ``cluster`` for the whole target.
    """

    def __init__(self, run: Run, target: TargetRun, check: Check, listener: str) -> None:
        self._run = run
        self._target = target
        self.check = check
        self.listener = listener

    @property
    def id(self) -> str:
        """The check's permanent id."""
        return self.check.id

    def run(self) -> CheckResult:
        """Return the result of the check, with waivers applied. The check runs once per session."""
        return self._run.result(self._target, self.check, self.listener)

    def require(self) -> CheckResult:
        """Run the check and apply its outcome to the test. Return the result if there is no violation.

        The test fails with the finding's text on a violation and if there is no verdict. It is skipped if the
        check does not apply or cannot be verified, and marked as an expected failure if it is waived.
        """
        result = self.run()
        match result.outcome:
            case Outcome.VIOLATES | Outcome.INCONCLUSIVE | Outcome.BROKEN:
                words = "\n".join(line.text for line in full_result(result))
                pytest.fail(f"{result.check} on {result.url} {result.outcome}\n{words}", pytrace=False)
            case Outcome.NOT_APPLICABLE | Outcome.NOT_VERIFIED:
                pytest.skip(f"{result.outcome}: {result.reason}")
            case Outcome.WAIVED:
                pytest.xfail(result.reason)
        return result

    def __repr__(self) -> str:
        return f"<{self.check.id} on {self.listener} of {self._target.outline.label}>"


_ENDPOINT, _CHECK = "etcd_endpoint", "etcd_check"


@dataclass(frozen=True, slots=True)
class CheckSubject:
    """A test parameter: a listener of a target by label, and optionally a check."""

    target: str
    listener: str
    check: Check | None = None

    @property
    def id(self) -> str:
        """The parameter's id for pytest."""
        words = [self.target, self.listener] + ([self.check.id] if self.check else [])
        return "-".join(words)


def parametrize(metafunc: pytest.Metafunc) -> None:
    """Parametrize a test that uses one of our two fixtures, unless the test or its conftest overrides it."""
    endpoint, check = (_is_ours(metafunc, name) for name in (_ENDPOINT, _CHECK))
    if not endpoint and not check:
        return
    run = _run(metafunc.config)
    places = list(_checks(run) if check else _listeners(run))
    ids = [place.id for place in places]
    if endpoint and check:
        pairs = [(place, place) for place in places]
        metafunc.parametrize((_ENDPOINT, _CHECK), pairs, indirect=True, ids=ids)
    else:
        metafunc.parametrize(_CHECK if check else _ENDPOINT, places, indirect=True, ids=ids)


def targets(config: pytest.Config) -> tuple[TargetRun, ...]:
    """Return the targets, or fail the test with a message that says why there are none."""
    return _run(config).targets


def owned(config: pytest.Config) -> tuple[TargetRun, ...]:
    """Return the owned targets, or fail the test with a message that says why there are none."""
    try:
        return run_of(config).owned
    except (UsageError, pytest.UsageError) as error:
        pytest.fail(str(error), pytrace=False)


def _run(config: pytest.Config) -> Run:
    try:
        run = run_of(config)
        _ = run.targets, run.checks  # evaluated here, where the error can be reported
        run.discover()
    except (UsageError, pytest.UsageError) as error:
        pytest.fail(str(error), pytrace=False)
    return run


def _is_ours(metafunc: pytest.Metafunc, name: str) -> bool:
    """Return whether the test uses the plugin's fixture, not its own fixture or parameter of that name."""
    if name not in metafunc.fixturenames:
        return False
    for marker in metafunc.definition.iter_markers("parametrize"):
        names = marker.args[0] if marker.args else marker.kwargs.get("argnames", ())
        if name in ([word.strip() for word in names.split(",")] if isinstance(names, str) else names):
            return False
    # Not public: pytest has no other way to learn which of several fixtures of a name a test gets.
    definitions = metafunc._arg2fixturedefs.get(name, ())
    return bool(definitions) and definitions[-1].func.__module__ == "pytest_etcdtls.fixtures"


def _listeners(run: Run) -> Iterator[CheckSubject]:
    for target in run.targets:
        for listener in target.outline.listeners:
            yield CheckSubject(target.outline.label, listener.label)


def _checks(run: Run) -> Iterator[CheckSubject]:
    for target in run.targets:
        for label, checks in target.subjects(run.checks):
            yield from (CheckSubject(target.outline.label, label, check) for check in checks)
