"""Processes of strangers beside an etcd: none stops its audit, and none leads a connection elsewhere."""

from __future__ import annotations

import dataclasses
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from pathlib import Path
from xml.etree import ElementTree

import pytest
from go_programs import built
from kubeadm.judging import Given
from plugin.runs import Ran, Runner, nobody_came, run
from servers import Server, etcd_context, pki

from process.containers import OF_ITS_OWN, Container, as_root, container, targets
from pytest_etcdtls.declared import running
from pytest_etcdtls.errors import NotVerifiedError, UsageError
from pytest_etcdtls.facts.certificates import ServerProof
from pytest_etcdtls.pki.bundle import ClusterPKI, encode_certificates, encode_key
from pytest_etcdtls.pki.profile import MemberNames, PKIPlan
from pytest_etcdtls.role import Role
from pytest_etcdtls.run.observer import Observer
from pytest_etcdtls.settings.etcd_pid import read_declared
from pytest_etcdtls.settings.read import read_judging
from pytest_etcdtls.target import Listener, Unreached
from pytest_etcdtls.tls.connection import DialError, dial
from pytest_etcdtls.tls.namespace import network_of
from pytest_etcdtls.untrusted.process_user import STARTED

__all__ = ["pki", "run"]

pytestmark = [*as_root, pytest.mark.program("nsenter", "unshare", "ip", "chown", "chroot")]

ADDRESS = "127.0.0.48"
HERE, ELSEWHERE = "10.123.0.1", "10.123.0.2"
"""Addresses of the network namespace of the stranger, and of the one beside it."""
STARTS = "config.starts"
URL = "https://127.0.0.1:9"

STRANGER = """
import os, socket, sys
listens, *words = sys.argv[1:]
os.setgroups([]), os.setgid(54321), os.setuid(54321)
if listens == "listens":
    server = socket.create_server(("127.0.0.1", 0))
    server.set_inheritable(True)
os.execve(PROGRAM, ["etcd", "-c", "echo; read line", *words], {})
"""
"""Become a process of another user whose program says that it is etcd."""


@pytest.fixture(scope="module")
def node(newest_etcd: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    """The machine's own etcd."""
    with container(tmp_path_factory.mktemp("node"), newest_etcd, ADDRESS) as made:
        made.start()
        yield made


@pytest.fixture(scope="module")
def etcd(node: Container) -> int:
    """Its process."""
    return node.process().pid


Start = Callable[..., int]


def as_etcd(code: str, program: str = "/bin/sh") -> str:
    """Return code of Python that executes a copy of a program, which says that it is etcd."""
    return code.replace("PROGRAM", repr(built(program)))


@pytest.fixture
def stranger(pids: list[int]) -> Iterator[Start]:
    """Start a process of another user with the name etcd and these words."""
    with ExitStack() as stack:

        def started(
            *words: str, listens: bool = True, prefix: Sequence[str] = (), keeps: Sequence[int] = ()
        ) -> int:
            program = (sys.executable, "-c", as_etcd(STRANGER), "listens" if listens else "", *words)
            process = stack.enter_context(
                subprocess.Popen(
                    [*prefix, *program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=keeps
                )
            )
            stack.callback(process.kill)
            assert process.stdout is not None
            assert process.stdout.readline() == b"\n"
            pids.append(process.pid)
            return process.pid

        yield started


def judge(run: Runner, *options: str) -> Ran:
    """Judge every etcd that is found."""
    return run("--pyargs", "pytest_etcdtls", "--etcd-pid=auto", *options)


def outcomes(results: Iterable[Mapping[str, str]]) -> dict[tuple[str, str], str]:
    """Return the outcome of each check on each listener."""
    return {(one["check"], one["listener"]): one["outcome"] for one in results}


def words_of(*urls: str) -> tuple[str, ...]:
    """Return flags of one client listener for each URL."""
    return f"--listen-client-urls={','.join(urls)}", f"--advertise-client-urls={urls[0]}"


CANNOT_BE_JUDGED = {
    "a configuration file that is not there": (
        ("--config-file=/nonexistent",),
        "started with the configuration file /nonexistent",
    ),
    "a configuration file that cannot be read": (
        ("--config-file=/tmp",),
        "is not a file that the user of the process may read",
    ),
    "a proxy of its own flags": (
        ("--config-file=/dev/zero",),
        "is not a file that the user of the process may read",
    ),
    "a host that is an option": (
        words_of("https://-oProxyCommand=x:9"),
        "neither a host name nor an IP address",
    ),
    "200 URLs": (
        words_of(*(f"https://127.0.0.1:{port}" for port in range(20000, 20200))),
        "and at most 100 are judged",
    ),
    "one URL for clients and peers": (
        (*words_of(URL), f"--listen-peer-urls={URL}", f"--initial-advertise-peer-urls={URL}"),
        "is given as client and as peer listener",
    ),
    "a metadata service": (
        (*words_of("https://169.254.169.254:443"), "--listen-peer-urls=unix:///x"),
        "169.254.169.254 is not an address of its network",
    ),
}


@pytest.mark.parametrize("case", CANNOT_BE_JUDGED)
def test_a_process_that_cannot_be_judged_stops_no_other(
    etcd: int, stranger: Start, pids: list[int], run: Runner, case: str
) -> None:
    words, why = CANNOT_BE_JUDGED[case]
    pids.append(etcd)
    alone = judge(run)
    assert (alone.exit_code, {one["label"] for one in alone.report["targets"]}) == (0, {"cp1"}), alone.out
    pid = stranger(*words)
    ran = judge(run, "--junitxml=r.xml", "--etcd-report=r.html", "--etcd-report=r.md", "--etcd-report=r.prom")
    assert ran.exit_code == 1
    assert ran.out.splitlines()[-1].startswith("etcd TLS: NO VERDICT: 1 target not judged (")
    assert " (cp1: https://127.0.0.1:" in ran.out.splitlines()[-1]
    [other] = [one for one in ran.report["targets"] if one["label"] != "cp1"]
    assert other["listeners"] == []
    [result] = [one for one in ran.report["results"] if one["target"] != "cp1"]
    assert (result["check"], result["outcome"]) == (STARTS, "not-verified")
    assert why in result["reason"]
    assert f"process {pid}" in result["reason"]
    assert why in " ".join(ran.out.split())
    own = [one for one in ran.report["results"] if one["target"] == "cp1"]
    assert outcomes(own) == outcomes(alone.report["results"])
    cases = ElementTree.parse(run.directory / "r.xml").iter("testcase")  # noqa: S314 - of pytest
    assert [one.find("skipped") is not None for one in cases if other["label"] in str(one.attrib)] == [True]
    for name in ("r.html", "r.md", "r.prom"):
        assert other["label"] in run.read(name), name
    accepted = judge(run, "--etcd-allow-unverified")
    assert accepted.exit_code == 0
    assert "etcd TLS: CLEAN BUT FOR 1 TARGET NOT JUDGED" in accepted.out.splitlines()[-1]


def test_a_process_of_which_no_port_is_open_is_not_judged(
    etcd: int, stranger: Start, pids: list[int], run: Runner
) -> None:
    pid = stranger(*words_of(URL), listens=False)
    pids.append(etcd)
    ran = judge(run, "--etcd-check=listener")
    assert ran.exit_code == 1
    assert f"process {pid} (etcd) listens on no TCP port" in " ".join(ran.out.split())
    assert not [one for one in ran.report["connections"] if one["url"] == URL]


@pytest.mark.parametrize("listens", [True, False])
def test_the_port_of_another_process(stranger: Start, pids: list[int], run: Runner, listens: bool) -> None:
    """It is named, and nothing is sent to it, also where it listens on every address."""
    with ExitStack() as stack:
        families = {"127.0.0.1": socket.AF_INET, "::": socket.AF_INET6}
        servers = [
            stack.enter_context(socket.create_server((host, 0), family=family, dualstack_ipv6=host == "::"))
            for host, family in families.items()
        ]
        ports = [server.getsockname()[1] for server in servers]
        for server in servers:
            server.setblocking(False)
        pid = stranger(*words_of(*(f"https://127.0.0.1:{port}" for port in ports)), listens=listens)
        pids.append(os.getpid())
        ran = run("--pyargs", "pytest_etcdtls", "--etcd-pid=auto", report=False)
        assert all(map(nobody_came, servers))
    said = " ".join((ran.out + ran.err).split())
    program = os.readlink("/proc/self/exe")
    if listens:
        for host, port in zip(("127.0.0.1", "[::]"), ports, strict=True):
            assert (
                f"process {pid} declares https://127.0.0.1:{port}, and does not listen there: process "
                f"{os.getpid()} ({program}) listens on {host}:{port}; correct the URL, or end the other"
            ) in said
    else:
        assert ran.exit_code == 4
        where = f"and process {os.getpid()} ({program}) listens on 127.0.0.1:{ports[0]}"
        assert f"process {pid} (etcd) listens on no TCP port, as a running etcd does, {where}: end it" in said


def test_a_port_of_ipv6_alone_is_no_port_of_ipv4(stranger: Start) -> None:
    with socket.create_server(("::", 0), family=socket.AF_INET6) as server:
        port = server.getsockname()[1]
        pid = stranger(*words_of(f"https://127.0.0.1:{port}"))
        [[member]] = read_declared(Given(etcd_pid=str(pid))).clusters
    assert [one.port for one in member.listeners if isinstance(one, Listener)] == [port, 2380]


def test_a_process_that_says_it_is_the_declared_member(
    node: Container, etcd: int, stranger: Start, pids: list[int], run: Runner
) -> None:
    stranger(*words_of(URL), f"--initial-advertise-peer-urls={node.settings['initial-advertise-peer-urls']}")
    pids.append(etcd)
    ran = judge(run, f"--etcd-config={node.node.manifest}", "--etcd-check=config.process-as-declared")
    assert sorted(one["outcome"] for one in ran.report["results"]) == ["conforms", "violates"]


def test_nothing_can_be_judged(stranger: Start, run: Runner) -> None:
    """Each reason is given. A process that the user names ends the run with its reason, as before."""
    pids = [
        stranger(*CANNOT_BE_JUDGED[name][0]) for name in ("a host that is an option", "a metadata service")
    ]
    ran = run("--pyargs", "pytest_etcdtls", "--etcd-pid=auto", report=False)
    assert ran.exit_code == 4
    for pid in pids:
        assert f"process {pid}" in ran.out + ran.err
        named = run("--pyargs", "pytest_etcdtls", f"--etcd-pid={pid}", report=False)
        assert named.exit_code == 4
    both = run("--pyargs", "pytest_etcdtls", f"--etcd-pid={pids[0]},{pids[1]}", report=False)
    assert both.exit_code == 4


def test_many_processes_of_a_stranger(etcd: int, stranger: Start, pids: list[int], run: Runner) -> None:
    strangers = [stranger(*words_of(f"https://127.0.0.1:{port}")) for port in range(20000, 20030)]
    pids.append(etcd)
    ran = judge(run, "--etcd-check=listener,mtls.no-certificate")
    judged = {one["label"] for one in ran.report["targets"]}
    assert "cp1" in judged or [label for label in judged if ADDRESS in label]
    assert len(judged) == 1 + 8 + 1
    assert f"22 more run etcd (process {strangers[8]}, " in " ".join(ran.out.split())


def test_a_client_certificate_is_for_a_process_that_proved_who_it_is(
    stranger: Start, run: Runner, pki: tuple[ClusterPKI, Path], tmp_path: Path
) -> None:
    """Of a process that was searched for; one whose ID the user passes is the user's choice."""
    generated, directory = pki
    ClusterPKI.generate(PKIPlan(), [MemberNames("m0")]).write(tmp_path / "of-the-stranger")
    context = etcd_context(tmp_path / "of-the-stranger", verify=ssl.CERT_OPTIONAL, protocols=())
    context.load_verify_locations(directory / "client-ca.crt")
    presented: list[bytes] = []

    def handle(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as tls:
            presented.append(tls.getpeercert(binary_form=True) or b"")
            if tls.recv(65536):
                tls.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
            tls.unwrap()

    given = [
        f"--etcd-{name}={directory / f'client.{suffix}'}"
        for name, suffix in (("cert", "crt"), ("key", "key"))
    ]
    leaf = encode_certificates(generated.client.chain[:1]).decode()
    with Server(handle) as server:
        words = words_of(f"https://127.0.0.1:{server.port}")
        pid = stranger(*words, keeps=[server.listening.fileno()])
        without = judge(run, *given)
        assert without.exit_code == 4
        assert "is not of that process: pass --etcd-cacert, or the ID of a process" in without.err
        with_ca = judge(run, *given, f"--etcd-cacert={directory / 'server-ca.crt'}")
        assert presented
        assert leaf not in map(ssl.DER_cert_to_PEM_cert, filter(None, presented))
        assert any("no path leads to" in one["reason"] for one in with_ca.report["results"])
        run("--pyargs", "pytest_etcdtls", f"--etcd-pid={pid}", "--etcd-timeout=1", *given)
        assert leaf in map(ssl.DER_cert_to_PEM_cert, filter(None, presented))


def test_users_take_turns(stranger: Start, pids: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """A user with many processes takes no place of another one, whatever it says of itself."""
    strangers = [stranger(*words_of(URL)) for _ in range(4)]
    monkeypatch.setattr("pytest_etcdtls.settings.etcd_pid._MOST", 3)
    words = ["etcd", "-c", "echo; read line"]
    with subprocess.Popen(words, executable=built(), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as ours:
        try:
            assert ours.stdout is not None
            assert ours.stdout.readline() == b"\n"  # before that its command line may not be there yet
            pids.append(ours.pid)
            from pytest_etcdtls.settings.etcd_pid import _of_each_user

            judged, beyond = _of_each_user(running.find_processes())
        finally:
            ours.kill()
    assert [process.pid for process in judged] == [*strangers[:2], ours.pid]
    assert [process.pid for process in beyond] == strangers[2:]


@pytest.mark.parametrize("name", ["_argv", "_working"])
def test_a_process_that_does_not_answer(
    etcd: int, stranger: Start, pids: list[int], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """What waits for the memory, or the directory, of another process is given up."""
    silent = stranger(*words_of(URL))
    pids.append(etcd)
    read, never = getattr(running, name), threading.Event()

    def blocking(of: object) -> object:
        if of == silent or getattr(of, "pid", None) == silent:
            never.wait()
        return read(of)

    monkeypatch.setattr(running, name, blocking)
    monkeypatch.setattr(running, "SECONDS", 0.5)
    # The name of the program is still that of a shell, which is no etcd.
    monkeypatch.setattr(running, "_link", lambda pid, of: "/etcd" if of == "exe" else link(pid, of))
    try:
        judged = read_judging(Given(etcd_pid="auto"), live=True).live
        with pytest.raises(UsageError, match=f"process {silent} .*answer"):
            read_judging(Given(etcd_pid=str(silent)), live=True)
    finally:
        never.set()
    assert [bool(live.listeners) for live in judged] == [True, False]
    assert "answer" in judged[1].unjudged


link = running._link


def test_what_takes_time_is_read_last_and_ended(
    stranger: Start, pids: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One user has thousands of subordinate ones, and each may name files whose reading does not end."""
    silent = stranger(*words_of(URL))
    read, order = running.read_running, list[int]()
    threads: list[threading.Thread] = []

    def reading(process: running.Process) -> running.RunningMember:
        order.append(process.pid)
        while process.pid == silent:
            threads[:] = [threading.current_thread()]
        return read(process)

    monkeypatch.setattr(running, "read_running", reading)
    monkeypatch.setattr(running, "SECONDS", 1.0)
    words = ["etcd", "-c", "echo; read line"]
    with subprocess.Popen(words, executable=built(), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as ours:
        try:
            assert ours.stdout is not None
            assert ours.stdout.readline() == b"\n"
            pids.append(ours.pid)
            unread = read_declared(Given(etcd_pid="auto")).unjudged
        finally:
            ours.kill()
    assert order == [ours.pid, silent]
    assert len(unread) == 2  # neither listens, or has been read
    threads[0].join(10)
    assert not threads[0].is_alive()


def test_addresses_of_its_own_network(stranger: Start) -> None:
    """Loopback aliases and IPv6 are; a name is reached at the address that was looked up for it."""
    pid = stranger(
        *words_of(
            *("https://127.9.9.9:1", "https://[::1]:2", "https://localhost:3", "https://0.0.0.0:4"),
            *(
                "https://203.0.113.7:5",
                "https://169.254.169.254:6",
                "https://224.0.0.1:7",
                "https://metadata:8",
            ),
            *("https://[fe80::1]:9", "https://[::ffff:169.254.169.254]:10", "https://127.1:11"),
        )
    )
    [[member]] = read_declared(Given(etcd_pid=str(pid))).clusters
    reached = {one.port: one.address for one in member.listeners if isinstance(one, Listener)}
    peer = reached.pop(2380)
    assert peer == ("127.0.0.1", 2380)
    assert reached == {
        1: ("127.9.9.9", 1),
        2: ("::1", 2),
        3: ("127.0.0.1", 3),
        4: ("127.9.9.9", 4),
    }
    unreached = [one for one in member.listeners if isinstance(one, Unreached)]
    assert len(unreached) == 7
    assert {one.reason.rpartition(": ")[2] for one in unreached} == {"correct that, or pass --etcd-endpoint"}


def test_no_name_is_looked_up_that_etcd_cannot_listen_on(
    stranger: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So nobody's resolver answers with an address of this machine now and with another one later."""
    looked_up: list[object] = []

    def look(name: object, *_: object, **__: object) -> list[object]:
        looked_up.append(name)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", look)
    pid = stranger(*words_of("https://rebind.example:1", "https://localhost:2", "https://127.0.0.1:3"))
    [[member]] = read_declared(Given(etcd_pid=str(pid))).clusters
    assert looked_up == ["localhost", "localhost"]
    reached = [one.host for one in member.listeners if isinstance(one, Listener)]
    assert reached == ["127.0.0.1"]


TURNS = r"""
import ctypes, os, subprocess, sys, threading
libc = ctypes.CDLL(None)
assert libc.unshare(0x10000000) == 0  # a user namespace, in which a network can be made
with open("/proc/self/uid_map", "w") as map: map.write("0 54321 1")
def turn():
    sys.stdin.readline()
    os.execve(PROGRAM, ["etcd", "-c", "echo; read line"], {})
threading.Thread(target=turn, daemon=True).start()
assert libc.unshare(0x40000000) == 0
subprocess.run("ip link set lo up; ip addr add 10.123.0.2/32 dev lo", shell=True, check=True)
print(flush=True)
threading.Event().wait()
"""
"""Be in a network of one's own, and then, by a thread that executes a program, in the one before."""
BECOMES = """
import os, sys
os.setgroups([]), os.setgid(54321), os.setuid(54321)
os.execve(PROGRAM, ["etcd", "-ISc", *sys.argv[1:]], {"PATH": os.defpath + ":/sbin:/usr/sbin"})
"""

HOLDS = ("unshare", "--net", "sh", "-c", "ip link set lo up; echo; read line")
"""Hold a network namespace."""


@pytest.fixture
def networks() -> Iterator[tuple[int, socket.socket]]:
    """A process with the network of a stranger, and a server in another one that is reached from there."""
    with ExitStack() as stack:
        near, far = (
            stack.enter_context(subprocess.Popen(HOLDS, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
            for _ in range(2)
        )
        for process in (near, far):
            stack.callback(process.kill)
            assert process.stdout is not None
            assert process.stdout.readline() == b"\n"
            STARTED.pop(process.pid, None)  # of a process of another test that had the same ID
        for pid, command in (
            (near.pid, f"ip link add near type veth peer name far netns {far.pid}"),
            (near.pid, f"ip addr add {HERE}/24 dev near"),
            (near.pid, "ip link set near up"),
            (far.pid, f"ip addr add {ELSEWHERE}/24 dev far"),
            (far.pid, "ip link set far up"),
        ):
            subprocess.run(["nsenter", "-t", str(pid), "-n", *command.split()], check=True)
        with network_of(far.pid):
            server = stack.enter_context(socket.create_server((ELSEWHERE, 2379)))
        server.setblocking(False)
        yield near.pid, server


@pytest.mark.parametrize(
    "words",
    [
        words_of(f"https://{ELSEWHERE}:2379"),
        ("--listen-client-urls=https://0.0.0.0:2379", f"--advertise-client-urls=https://{ELSEWHERE}:2379"),
        (*words_of(f"https://{HERE}:2379"), f"--listen-metrics-urls=https://{ELSEWHERE}:2379"),
    ],
    ids=["listens", "advertises", "has-another-listener"],
)
def test_nothing_is_sent_elsewhere(
    stranger: Start, networks: tuple[int, socket.socket], run: Runner, words: tuple[str, ...]
) -> None:
    near, server = networks
    pid = stranger(*words, prefix=("nsenter", "-t", str(near), "-n"))
    run("--pyargs", "pytest_etcdtls", f"--etcd-pid={pid}", "--etcd-timeout=1", report=False)
    assert nobody_came(server)


def test_a_process_that_changes_its_network(networks: tuple[int, socket.socket]) -> None:
    """It has the address of a server elsewhere when that is looked up, and not when it is connected to."""
    near, server = networks
    words = (
        "nsenter",
        "-t",
        str(near),
        "-n",
        sys.executable,
        "-c",
        as_etcd(BECOMES, "/usr/bin/python3"),
        as_etcd(TURNS),
    )
    with subprocess.Popen(
        [*words, *words_of(f"https://{ELSEWHERE}:2379")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stdout.readline() == b"\n"
            [[member]] = read_declared(Given(etcd_pid=str(process.pid))).clusters
            listener = member.listeners[0]
            assert isinstance(listener, Listener)
            assert listener.address == (ELSEWHERE, 2379)
            process.stdin.write(b"\n")
            process.stdin.flush()
            assert process.stdout.readline() == b"\n"
            assert member.running is not None
            assert member.running.process.runs
            with pytest.raises(DialError, match="has another network than before"):
                dial(listener, time.monotonic() + 5)
        finally:
            process.kill()
    assert nobody_came(server)


def test_a_conforming_etcd_of_another_user_in_a_network_of_its_own(
    newest_etcd: Path, tmp_path: Path, pids: list[int], run: Runner
) -> None:
    with container(tmp_path / "node", newest_etcd, "127.0.0.49", OF_ITS_OWN) as made:
        node = dataclasses.replace(made, user=54321)
        subprocess.run(["chown", "-R", "54321:54321", str(node.node.root)], check=True)
        try:
            pids += [node.start().pid]
            ran = judge(run)
        finally:
            node.stop()
    assert ran.exit_code == 0, ran.out
    assert "etcd TLS: CLEAN (cp1: " in ran.out.splitlines()[-1]


def test_a_client_of_the_user_is_for_this_machine_alone(etcd: int, tmp_path: Path) -> None:
    """A process names a CA of its own, and its member list any address."""
    [own] = targets(etcd_pid=str(etcd))
    given = own.client.identities[0]
    assert given.key is not None
    assert own.client.server_ca is not None
    (tmp_path / "client.crt").write_bytes(encode_certificates(given.chain))
    (tmp_path / "client.key").write_bytes(encode_key(given.key))
    (tmp_path / "ca.crt").write_bytes(encode_certificates(own.client.server_ca.certificates))
    files = {"etcd_cert": tmp_path / "client.crt", "etcd_key": tmp_path / "client.key"}
    for values, why in (
        ({}, ""),
        (files, f"only process {etcd} names its CA, and {files['etcd_cert']} is not of that process"),
        ({**files, "etcd_cacert": tmp_path / "ca.crt", "etcd_peer_cacert": tmp_path / "ca.crt"}, ""),
    ):
        [live] = targets(etcd_pid=str(etcd), **values)
        for role in (Role.CLIENT, Role.PEER):
            there = next(one for one in live.listeners if one.role is role)
            listed = dataclasses.replace(there, discovered=True, may_be_local=True)
            observer = Observer(dataclasses.replace(live, listeners=(listed,)))
            with pytest.raises(NotVerifiedError, match=why) if why else nullcontext():
                assert observer.get(ServerProof, None, listed).leaves
