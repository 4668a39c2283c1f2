"""A member list that leads to unverified servers: none of them is presented a credential."""

from __future__ import annotations

import itertools
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from discovery.discovering import found, live, named, observer_of
from discovery.test_unusual_answers import by_grpc, member
from impostors.impostor import Answer, answers, impostor
from impostors.staging import FakeCluster
from OpenSSL import SSL, crypto
from servers import Server, etcd_context
from starting import start_process

from pytest_etcdtls.checks.registry import catalogue, select
from pytest_etcdtls.checks.results import CheckResult, Outcome
from pytest_etcdtls.etcd.cluster import Cluster
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.facts import discovery
from pytest_etcdtls.facts.discovery import Reachability
from pytest_etcdtls.pki import identities
from pytest_etcdtls.pki.authority import CertificateAuthority
from pytest_etcdtls.pki.bundle import ClusterPKI
from pytest_etcdtls.pki.profile import SERVER, Identity, MemberNames, PKIPlan
from pytest_etcdtls.role import CLUSTER, Role
from pytest_etcdtls.run.judge import run_checks
from pytest_etcdtls.run.observer import Observer
from pytest_etcdtls.target import Bounds, Listener, Target, TrustBundle

SECRET = "correct horse battery staple"
_ANSWER = b'HTTP/1.1 200 OK\r\nContent-Length: 23\r\nConnection: close\r\n\r\n{"etcdserver":"3.6.16"}'
_TLS_RECORD = 0x16


class RecordingServer(Server):
    """Serves TLS with a certificate that depends on the number of the connection, and records what it gets.

    Args:
        identity: the certificate and key to serve on a connection, counted from 1; ``None`` to answer
            nothing but plain HTTP.
        host: an address of loopback.
        ceiling: the highest TLS version, of ``SSL.TLS1_2_VERSION`` and ``SSL.TLS1_3_VERSION``.

    Attributes:
        certificates: that clients presented in a handshake.
        plain: first bytes of connections without TLS.
        received: application data inside TLS.
    """

    def __init__(
        self,
        identity: Callable[[int], Identity | None],
        host: str = "127.0.0.1",
        ceiling: int = SSL.TLS1_3_VERSION,
    ) -> None:
        self.certificates: list[x509.Certificate] = []
        self.plain: list[bytes] = []
        self.received: list[bytes] = []
        self._identity = identity
        self._ceiling = ceiling
        self._numbers = itertools.count(1)
        super().__init__(self._record, host, seconds=10)
        self.host = host

    @property
    def authority(self) -> str:
        """Host and port."""
        return f"{self.host}:{self.port}"

    def _record(self, connection: socket.socket) -> None:
        identity = self._identity(next(self._numbers))
        first = connection.recv(1, socket.MSG_PEEK)
        if not first:
            return
        if first[0] != _TLS_RECORD:
            self.plain.append(connection.recv(65536))
            if identity is None:
                connection.sendall(_ANSWER)
        elif identity is not None:
            self._serve_tls(connection, identity)

    def _serve_tls(self, connection: socket.socket, identity: Identity) -> None:
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        context.set_max_proto_version(self._ceiling)
        context.set_verify(SSL.VERIFY_PEER, self._note)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        context.set_options(SSL.OP_NO_TICKET)
        context.use_certificate(identity.chain[0])
        for issuer in identity.chain[1:]:
            context.add_extra_chain_cert(issuer)
        assert identity.key is not None
        context.use_privatekey(identity.key)
        tls = SSL.Connection(context, connection)
        connection.setblocking(True)
        tls.set_accept_state()
        tls.do_handshake()
        self.received.append(tls.recv(65536))
        tls.sendall(_ANSWER)
        tls.shutdown()

    def _note(
        self, _tls: SSL.Connection, certificate: crypto.X509, _error: int, depth: int, _ok: int
    ) -> bool:
        if depth == 0:
            self.certificates.append(certificate.to_cryptography())
        return True


Recording = Callable[..., RecordingServer]


@pytest.fixture
def recording() -> Iterator[Recording]:
    """Start recording servers; they are closed at the end."""
    started: list[RecordingServer] = []

    def start(
        identity: Identity | Callable[[int], Identity | None] | None, **options: object
    ) -> RecordingServer:
        serves = identity if callable(identity) else lambda _number: identity
        started.append(RecordingServer(serves, **options))  # type: ignore[arg-type]
        return started[-1]

    yield start
    for server in started:
        server.close()


@pytest.fixture(autouse=True)
def usual_ports(monkeypatch: pytest.MonkeyPatch) -> dict[int, Role]:
    """The ports at which listeners are looked for that nobody named: none, unless a test adds some."""
    ports: dict[int, Role] = {}
    monkeypatch.setattr(discovery, "USUAL_PORTS", ports)
    return ports


def _authority(cluster: Cluster) -> CertificateAuthority:
    signing = cluster.target().client.signing_key
    assert signing is not None
    return CertificateAuthority.from_key(signing.certificate, signing.key)


def _list_of(etcd: Path, *servers: str, **fields: Any) -> Cluster:
    """Start an etcd whose member list names these servers."""
    flags = (f"--advertise-client-urls={','.join(servers)}",)
    return start_process(ClusterConfig(extra_flags=flags, **fields), etcd)


def _with_keys(cluster: Cluster) -> Target:
    """Return the named listener with all that can be presented: the keys of the CAs, and a user."""
    target = live(cluster, named(cluster.members[0].client_url))
    return replace(target, user=("root", SECRET))


def _at(results: list[CheckResult], listener: Listener) -> list[CheckResult]:
    return [result for result in results if result.listener == listener.label]


@pytest.mark.parametrize("authentication", [False, True])
def test_unverified_servers_of_every_kind_get_no_credential(
    recording: Recording, newest_etcd: Path, authentication: bool
) -> None:
    foreign = CertificateAuthority.create("foreign").issue(SERVER, name="foreign", hosts=("127.0.0.2",))
    strangers = {
        "another CA": recording(foreign, host="127.0.0.2"),
        "another CA, TLS 1.2": recording(foreign, host="127.0.0.3", ceiling=SSL.TLS1_2_VERSION),
        "signed by itself": recording(identities.self_signed(), host="127.0.0.4"),
    }
    plain = recording(None, host="127.0.0.5")
    urls = [f"https://{one.authority}" for one in strangers.values()] + [f"http://{plain.authority}"]
    with _list_of(newest_etcd, *urls, authentication=authentication) as cluster:
        observer = observer_of(_with_keys(cluster))
        results = run_checks(observer)
        here = [
            one
            for one in observer.target.listeners
            if one.discovered and one.host.startswith("127.0.0.") and one.host != "127.0.0.1"
        ]
    assert {one.url for one in here} == set(urls)
    for kind, server in strangers.items():
        assert server.accepted > 0, kind
        assert server.certificates == [], kind
        assert len(server.plain) <= 2, kind  # in HTTP/1.1, and in HTTP/2
        assert all(SECRET.encode() not in data for data in server.received), kind
    assert len(plain.plain) == 1
    assert [result.check for result in results if result.outcome is Outcome.BROKEN] == []
    for listener in here:
        judged = _at(results, listener)
        families = {result.check.partition(".")[0] for result in judged}
        assert {"listener", "mtls", "cert", "tls", "api"} <= families
        assert [result.check for result in judged if result.outcome is Outcome.CONFORMS] == []
        outcomes = {result.check: result for result in judged}
        if listener.scheme == "https":
            assert outcomes["cert.trusted"].outcome is Outcome.VIOLATES
            assert outcomes["mtls.trusted-client"].outcome is Outcome.NOT_VERIFIED
            assert "unverified server" in outcomes["mtls.trusted-client"].reason
        else:
            assert outcomes["mtls.plaintext-refused"].outcome is Outcome.VIOLATES


def test_a_client_certificate_of_the_cluster_does_not_prove_a_member(
    recording: Recording, newest_etcd: Path
) -> None:
    borrowed: list[Identity] = []
    switched: list[Identity] = []
    foreign = CertificateAuthority.create("foreign").issue(SERVER, name="foreign")
    # The identities are known when the cluster is up, the ports must be known before.
    client = recording(lambda _: borrowed[0], host="127.0.0.2")
    below = recording(lambda _: borrowed[1], host="127.0.0.3")
    switching = [
        recording(lambda number: switched[0] if number <= 2 else foreign, host=host, ceiling=ceiling)
        for host, ceiling in (("127.0.0.4", SSL.TLS1_2_VERSION), ("127.0.0.5", SSL.TLS1_3_VERSION))
    ]
    member = recording(lambda _: switched[0], host="127.0.0.6")
    servers = [client, below, *switching, member]
    with _list_of(newest_etcd, *(f"https://{one.authority}" for one in servers)) as cluster:
        authority = _authority(cluster)
        only_client = authority.issue(
            replace(SERVER, common_name="client", extended_key_usage=("clientAuth",)), name="client"
        )
        holder = authority.issue(replace(SERVER, common_name="any"), name="any")
        assert holder.key is not None
        signed = CertificateAuthority.from_key(holder.chain[0], holder.key).issue(SERVER, name="below")
        borrowed += [only_client, replace(signed, chain=(signed.chain[0], holder.chain[0]))]
        switched.append(authority.issue(SERVER, name="server", hosts=("127.0.0.4", "127.0.0.5", "127.0.0.6")))
        run_checks(observer_of(_with_keys(cluster)))
    for server in (client, below):
        assert server.accepted > 0
        assert server.certificates == []
        assert all(SECRET.encode() not in data for data in server.received)
    for server in switching:
        assert server.accepted > 3
        assert server.certificates == []
    assert member.certificates, "a server that has proved who it is is judged like a named one"


def test_a_server_with_a_certificate_of_another_role_gets_no_credential(
    fake: FakeCluster, recording: Recording
) -> None:
    authority = CertificateAuthority.from_key(fake.pki.client_ca.certificate, fake.pki.client_ca.key)
    wrong_role = recording(authority.issue(SERVER, name="server", hosts=("127.0.0.2",)), host="127.0.0.2")
    very_same = recording(fake.pki.leaves["m0"].server, host="127.0.0.3")
    peers = tuple(f"https://{one.authority}" for one in (wrong_role, very_same))
    fake.put_up(overrides=by_grpc(member(1, "https://127.0.0.1:1031", peers=peers)))
    observer = observer_of(replace(fake.target(), discover=True), Bounds(timeout=5, concurrency=1))
    run_checks(observer)
    assert wrong_role.accepted > 0
    assert wrong_role.certificates == []
    assert very_same.certificates, "the very certificate of the named member is served"


@pytest.mark.parametrize("trust", ["another CA", "no CA", "plain HTTP"])
def test_a_list_is_followed_only_from_a_trusted_member(
    recording: Recording, newest_etcd: Path, trust: str
) -> None:
    stranger = recording(CertificateAuthority.create("foreign").issue(SERVER, name="s"), host="127.0.0.2")
    fields = {"plaintext_on_client_port": trust == "plain HTTP"}
    with _list_of(newest_etcd, f"https://{stranger.authority}", **fields) as cluster:
        url = cluster.members[0].client_url
        url = url.replace("https", "http") if trust == "plain HTTP" else url
        target = live(cluster, named(url))
        other = CertificateAuthority.create("another").certificate
        bundle = None if trust == "no CA" else TrustBundle((other,), "another-ca.crt")
        if trust != "plain HTTP":
            target = replace(target, client=replace(target.client, server_ca=bundle))
        observer = observer_of(target)
        results = run_checks(observer)
    assert [one.url for one in observer.target.listeners] == [url]
    assert stranger.accepted == 0
    (result,) = [one for one in results if one.check == "cluster.discovered"]
    assert result.listener == CLUSTER
    assert result.outcome is Outcome.INCONCLUSIVE
    assert {"another CA": "is not followed", "no CA": "--etcd-cacert", "plain HTTP": "is not followed"}[
        trust
    ] in result.reason


_PORTS = ("localhost:22", "127.0.0.1:443", "[::1]:1023")
_HOSTS = """
0x7f.1 2130706433 127.1 0177.0.0.1 0x7f000001 1.2.3.4.5 localhost. x.localhost [::127.0.0.1]
[::ffff:127.0.0.1] [64:ff9b::7f00:1] [64:ff9b::a9fe:a9fe] [2002:7f00:1::] 169.254.169.254
[::ffff:169.254.169.254] [fd00:ec2::254] [fe80::1] 100.100.100.200 192.0.0.192 [fd20:ce::254]
[::ffff:0:169.254.169.254] [fd00::5efe:169.254.169.254] [fd00::200:5efe:127.0.0.1]
[2001:0:102:304::5601:5601] 0.0.0.1 240.0.0.1 255.255.255.255 0.0.0.0 [::] [::0.0.0.0]
"""
LOCAL_AND_METADATA = [f"https://{place}" for place in (*_PORTS, *(f"{host}:2379" for host in _HOSTS.split()))]


def test_addresses_that_some_resolvers_read_as_loopback_or_metadata_are_never_contacted(
    fake: FakeCluster,
) -> None:
    fake.put_up(overrides=by_grpc(member(1, *LOCAL_AND_METADATA, peers=("https://127.0.0.1:1031",))))
    observer = observer_of(replace(fake.target(), discover=True), Bounds(timeout=5, concurrency=1))
    (listed,) = found(observer).members
    assert {url.url for url in listed.of_role("client")} == set(LOCAL_AND_METADATA)
    assert {url.reachability for url in listed.of_role("client")} <= {
        Reachability.NOWHERE,
        Reachability.LOCAL,
    }
    run_checks(observer)
    assert {connection.url for connection in observer.connections} == {
        fake.listeners[0].url,
        "https://127.0.0.1:1031",
    }


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("127.0.0.1", "leads to this machine"),
        ("169.254.169.254", "metadata"),
        ("0.0.0.0", "every address"),  # noqa: S104 - nothing is bound to it
    ],
)
def test_names_that_resolve_to_such_addresses_are_not_contacted(
    address: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "pytest_etcdtls.tls.connection.addresses_of",
        lambda _host, _seconds: frozenset({"192.0.2.1", address}),
    )
    listener = replace(named("https://evil.example:2379"), discovered=True)
    observer = Observer(Target(label="t", origin="live", listeners=(listener,)), Bounds(timeout=2))
    results = run_checks(observer, [catalogue()["listener.answers"]])
    assert [result.outcome for result in results] == [Outcome.INCONCLUSIVE]
    assert says in results[0].reason
    assert all(not connection.local_address for connection in observer.connections)


def test_plain_http_is_not_sent_to_the_usual_ports_of_an_unverified_server(
    recording: Recording, newest_etcd: Path, usual_ports: dict[int, Role]
) -> None:
    foreign = CertificateAuthority.create("foreign").issue(SERVER, name="foreign")
    stranger, beside = recording(foreign, host="127.0.0.2"), recording(None, host="127.0.0.2")
    usual_ports[beside.port] = Role.METRICS
    with _list_of(newest_etcd, f"https://{stranger.authority}") as cluster:
        results = run_checks(observer_of(_with_keys(cluster)))
    assert beside.accepted == 0
    (result,) = [one for one in results if one.check == "listener.undeclared"]
    assert "unverified server" in result.reason


# A name whose address changes during the run.


@pytest.mark.parametrize("turns", [1, 5, 1000])
def test_a_password_does_not_follow_a_name(fake: FakeCluster, tmp_path: Path, turns: int) -> None:
    """So many connections reach one server, the following as many the other one, and so on."""
    ClusterPKI.generate(PKIPlan(), [MemberNames("m0")]).write(tmp_path)
    another = etcd_context(tmp_path, verify=ssl.CERT_NONE)
    contexts = [etcd_context(fake.directory), another]
    number, here, receivers = itertools.count(), threading.local(), set()

    def reached(_: socket.socket) -> ssl.SSLContext:
        context = here.context = contexts[next(number) // turns % 2]
        return context

    class Responses(dict[str, Answer]):
        def get(self, path: str, default: Answer | None = None) -> Answer | None:  # type: ignore[override]
            if path == "/etcdserverpb.Auth/Authenticate":
                receivers.add(here.context)
            return super().get(path, default)

    responses = Responses(answers("3.6.16"))
    responses["/etcdserverpb.KV/Range"] = Answer(grpc_status=16)  # without a token
    fake.listeners.append(fake.serve(impostor(responses, reached)).listener())
    target = replace(fake.target(), user=("root", "s3cret-password"))
    run_checks(
        Observer(target, Bounds(timeout=2, concurrency=1)), select(["api.grpc-range", "api.gateway-works"])
    )
    assert another not in receivers
    assert receivers or turns < 1000
