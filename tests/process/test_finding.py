"""Which processes are members of etcd, and what they were started with."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from go_programs import ETCD, built, with_section
from kubeadm.judging import Given, judged
from plugin.runs import Runner, run
from starting import running_etcd, start_process

from process.containers import Container, as_root, container, process_of, target, targets
from pytest_etcdtls.checks.results import Outcome
from pytest_etcdtls.declared.declaration import Change
from pytest_etcdtls.declared.running import find_process, find_processes, read_running
from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.run.remedies import changed, lines
from pytest_etcdtls.settings.etcd_pid import read_declared

__all__ = ["run"]

pytestmark = as_root

CHECK = "config.process-as-declared"


@pytest.fixture(scope="module")
def two(newest_etcd: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Container, Container]]:
    """Two nodes of one name; the second is started with variables, as by a unit with an EnvironmentFile."""
    directory = tmp_path_factory.mktemp("two")
    with (
        container(directory / "a", newest_etcd, "127.0.0.43") as first,
        container(directory / "b", newest_etcd, "127.0.0.44") as second,
    ):
        first.start()
        second.start(by_variables=True)
        yield first, second


@contextmanager
def waiting(
    *argv: str, code: str = "", program: str | Path = "/bin/sh", keeps: Sequence[int] = ()
) -> Iterator[int]:
    """Run a shell under another name until the end of the context."""
    with subprocess.Popen(
        [argv[0], "-c", f"{code}\necho\nread line", *argv[1:]],
        executable=program,
        pass_fds=keeps,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            yield process.pid
        finally:
            process.kill()


def test_every_member_is_found_and_no_proxy(two: tuple[Container, Container], newest_etcd: Path) -> None:
    pids = [one.process().pid for one in two]
    with ExitStack() as stack:
        proxies: dict[int, str] = {}
        for words in (("gateway", "start"), ("grpc-proxy", "start", "--endpoints=127.0.0.45:1")):
            proxy = stack.enter_context(
                subprocess.Popen([newest_etcd, *words, "--listen-addr=127.0.0.45:0"], stderr=subprocess.PIPE)
            )
            stack.callback(proxy.kill)
            assert proxy.stderr is not None
            proxy.stderr.readline()
            why = f"process {proxy.pid} ({newest_etcd} {words[0]}) is no member of etcd: it is a proxy, whose"
            proxies[proxy.pid] = f"{why} ports --etcd-endpoint names"
        left_out: list[str] = []
        found = [process.pid for process in find_processes(left_out.append)]
        for pid, why in proxies.items():
            assert why in left_out
            with pytest.raises(UsageError, match=re.escape(f"{why}; --etcd-pid=auto finds every etcd")):
                find_process(pid)
    assert [pid for pid in found if pid in pids] == pids
    assert not proxies.keys() & {*found}


OPEN = replace(ClusterConfig(), client_cert_auth=False, trusted_ca_file=None)


@pytest.mark.parametrize("is_deleted", [False, True])
def test_an_etcd_of_another_name(etcd_binary: Path, tmp_path: Path, run: Runner, is_deleted: bool) -> None:
    """It lets everybody in, and its program may have been replaced since."""
    program = tmp_path / "kv-store"
    shutil.copy(etcd_binary, program)
    with start_process(OPEN, program) as cluster:
        if is_deleted:
            program.unlink()
        pid = process_of(cluster.members[0].server).pid
        assert pid in [process.pid for process in find_processes()]
        ran = run("--pyargs", "pytest_etcdtls", f"--etcd-pid={pid}", "--etcd-check=mtls.no-certificate")
    assert ran.exit_code == 1
    assert "mtls.no-certificate" in ran.out


def test_what_it_is_called_acts_nowhere(two: tuple[Container, Container], run: Runner) -> None:
    name = "/x\x1b[2J\n::error::x/etcd"
    with waiting(name):
        ran = run("--pyargs", "pytest_etcdtls", "--etcd-pid=auto", "--etcd-check=listener.answers")
    assert two
    assert "\x1b" not in ran.out
    assert "\n::" not in ran.out
    assert r"(/x\x1b[2J\n::error::x/etcd -c) is no member of etcd" in "".join(ran.out.split("\n    "))


def test_an_etcd_behind_a_shell(newest_etcd: Path, tmp_path: Path) -> None:
    """The shell is refused by its number, with that of the etcd that it has started."""
    urls = ("--listen-client-urls=http://127.0.0.1:0", "--advertise-client-urls=http://127.0.0.1:1")
    peer = ("--listen-peer-urls=http://127.0.0.1:0", f"--data-dir={tmp_path / 'data'}")
    words = ("sh", "-c", '"$@"; true', "sh", newest_etcd, *urls, *peer)
    with running_etcd(words, tmp_path / "log") as shell:
        assert shell.serves()
        [etcd] = [one.pid for one in find_processes() if str(tmp_path / "data") in " ".join(one.argv)]
        with pytest.raises(UsageError) as refused:
            find_process(shell.process.pid)
    assert f"process {shell.process.pid} (sh -c) is no member of etcd: its program " in str(refused.value)
    assert str(refused.value).endswith(f"; pass what it started: --etcd-pid={etcd}")


def test_an_etcd_within_another_program(tmp_path: Path, run: Runner) -> None:
    """Its settings are known to that program alone. One that only has a database open, as a tool, is none."""
    directory = tmp_path / "data"
    (directory / "member/snap").mkdir(parents=True)
    (directory / "member/snap/db").touch()
    embeds = built("/bin/sh", "example.com/configuration-store", (ETCD,))
    code = f"exec 3<{directory / 'member/snap/db'}"
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.set_inheritable(True)
        with waiting("store", code=code, program=embeds, keeps=[server.fileno()]) as pid:
            assert pid in [process.pid for process in find_processes()]
            ran = run("--pyargs", "pytest_etcdtls", f"--etcd-pid={pid}", report=False)
        with waiting("store", code=code, program=embeds) as tool, pytest.raises(UsageError) as refused:
            find_process(tool)
        unrelated = built("/bin/sh", "example.com/proxy", ("example.com/proxy",))
        with (
            waiting("proxy", code=code, program=unrelated, keeps=[server.fileno()]) as other,
            pytest.raises(UsageError, match=r"the main package of its program .* is example\.com/proxy; "),
        ):
            find_process(other)
    assert ran.exit_code == 4
    assert (
        f"--etcd-pid: process {pid} (store) runs an etcd within its own process, with the data directory "
        f"{directory}, and only its program knows the settings: name its listeners with --etcd-endpoint"
    ) in ran.out + ran.err
    assert "is example.com/configuration-store; --etcd-pid=auto finds every etcd" in str(refused.value)


@pytest.mark.parametrize("section", [".gopclntab", ".go.none"])
def test_a_program_that_does_not_say_what_it_is(tmp_path: Path, section: str) -> None:
    """That of an older Go has the name that it is given; another one is none of Go's."""
    program = tmp_path / "etcd"
    program.write_bytes(with_section(Path(os.path.realpath("/bin/sh")).read_bytes(), section, b""))
    program.chmod(0o755)
    with waiting("kv-store", program=program) as pid:
        found = [process.pid for process in find_processes()]
    assert (pid in found) is (section == ".gopclntab")


def test_a_name_says_nothing(two: tuple[Container, Container], run: Runner, tmp_path: Path) -> None:
    """What is not etcd is left out with a line, and refused by its number."""
    program = tmp_path / "etcd"
    shutil.copy(os.path.realpath("/bin/sh"), program)
    pids = [one.process().pid for one in two]
    with waiting("etcd", "300") as called, waiting(str(program), program=program) as copied:
        whys = [
            f"process {called} (etcd -c) is no member of etcd: its program {os.path.realpath('/bin/sh')} was",
            f"process {copied} ({program} -c) is no member of etcd: its program {program} was",
        ]
        left_out: list[str] = []
        found = [process.pid for process in find_processes(left_out.append)]
        ran = run("--pyargs", "pytest_etcdtls", "--etcd-pid=auto", "--etcd-check=listener.answers")
        named = run("--pyargs", "pytest_etcdtls", f"--etcd-pid={copied}", report=False)
    assert {*pids} <= {*found}
    assert not {called, copied} & {*found}
    for why in whys:
        assert f"{why} not built by Go" in left_out
        assert f"  left out: {why} not built by Go" in ran.out.replace("\n    ", " ")
    assert named.exit_code == 4
    assert f"--etcd-pid: {whys[1]} not built by Go; --etcd-pid=auto finds every etcd" in named.out + named.err


def test_each_is_a_target_with_a_label_of_its_own(two: tuple[Container, Container], run: Runner) -> None:
    pids = ",".join(str(one.process().pid) for one in two)
    for live, node in zip(targets(etcd_pid=pids), two, strict=True):
        assert [log.name for log in live.logs.values()] == [f"/proc/{node.process().pid}/fd/2"]
    ran = run("--pyargs", "pytest_etcdtls", f"--etcd-pid={pids}", "--etcd-check=mtls.no-certificate,listener")
    assert ran.exit_code == 0, ran.out
    assert [one["label"] for one in ran.report["targets"]] == ["cp1-127.0.0.43", "cp1-127.0.0.44"]


def test_an_option_about_one_etcd(two: tuple[Container, Container]) -> None:
    pids = ",".join(str(one.process().pid) for one in two)
    for name in ("etcd_endpoint", "etcd_label", "etcd_connect_to"):
        with pytest.raises(UsageError, match="is about one cluster, and --etcd-pid names 2"):
            read_declared(Given(etcd_pid=pids, **{name: "https://127.0.0.43:2379"}))
    with pytest.raises(UsageError, match="--etcd-pki-dir is for an etcd elsewhere"):
        read_declared(Given(etcd_pid=pids, etcd_pki_dir="/etc/kubernetes/pki"))
    read = read_declared(Given(etcd_pid=pids, etcd_config=two[1].node.manifest)).clusters
    members = [member.running for cluster in read for member in cluster]
    assert [one and one.written is not None for one in members] == [False, True], "its member's"


def test_an_environment_file_is_compared(two: tuple[Container, Container], tmp_path: Path) -> None:
    node = two[1]
    file = tmp_path / "etcd.env"
    lines = [f"{name}={value}" for name, value in node.variables.items()]
    file.write_text("\n".join(lines))
    [result] = judged(target(node.process(), etcd_config=file), CHECK)
    assert result.outcome is Outcome.CONFORMS, result
    number = next(n for n, line in enumerate(lines, 1) if line.startswith("ETCD_CLIENT_CERT_AUTH="))
    file.write_text("\n".join(lines).replace("ETCD_CLIENT_CERT_AUTH=true", "ETCD_CLIENT_CERT_AUTH=false"))
    [result] = judged(target(node.process(), etcd_config=file), CHECK)
    [finding] = result.findings
    assert finding.message.startswith(
        f"ETCD_CLIENT_CERT_AUTH=false ({file}:{number}) is declared, and process "
    )
    assert finding.commands == (f"tr '\\0' '\\n' < /proc/{node.process().pid}/environ",)


def test_another_user_is_told_which_user_to_be(two: tuple[Container, Container]) -> None:
    process = two[0].process()
    os.seteuid(65534)
    try:
        with pytest.raises(UsageError, match="by this user: run as its user, or as root with CAP_SYS_PTRACE"):
            read_running(process)
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("text", ["4194305", "x", "", "-1"])
def test_no_process(text: str) -> None:
    with pytest.raises(UsageError, match="--etcd-pid"):
        read_declared(Given(etcd_pid=text))


def test_k3s_runs_etcd_within_its_own_process(tmp_path: Path) -> None:
    """Its command line is overwritten; the file that it writes lies beside the database that it has open."""
    directory = tmp_path / "server/db/etcd"
    (directory / "member/snap").mkdir(parents=True)
    (directory / "member/snap/db").touch()
    (directory / "config").write_text(
        "name: cp1\nlisten-client-urls: https://127.0.0.1:2379\nadvertise-client-urls: https://127.0.0.1:2379\n"
        "client-transport-security:\n  client-cert-auth: true\n  cert-file: /server.crt\n"
    )
    k3s = built("/bin/sh", "github.com/k3s-io/k3s/cmd/server")
    opens = f"exec 3<{directory / 'member/snap/db'}"
    with waiting("/usr/local/bin/k3s", code=opens, program=k3s) as pid:
        process = find_process(pid)
        declaration = read_running(process).declared.declaration
    assert process.embedded
    assert declaration.text("name") == "cp1"
    assert declaration.on("client-cert-auth")
    setting = declaration.settings["cert-file"]
    assert setting.place.file == f"/proc/{pid}/root{directory}/config"
    assert str(setting) == f"client-transport-security.cert-file: /server.crt ({directory}/config:6)"
    assert [*lines(declaration, changed(declaration, [Change("cert-file", "/new.crt")]))] == [
        f"- cert-file: /server.crt  # client-transport-security, {directory}/config:6",
        f"+ cert-file: /new.crt  # client-transport-security, {directory}/config:6",
    ]
    with (
        waiting("/usr/local/bin/k3s", program=k3s) as pid,
        pytest.raises(UsageError, match="is no member of etcd"),
    ):
        find_process(pid)


def test_relative_paths_are_those_of_the_process(tmp_path: Path) -> None:
    (tmp_path / "server.crt").write_text("")
    with waiting("etcd", "--cert-file=server.crt", code=f"cd {tmp_path}", program=built()) as pid:
        process = find_process(pid)
        # The shell's own words are no flags of etcd's; what counts here is where a path leads.
        declared = read_running(process).declared
        assert declared.paths.find("server.crt") == Path(f"/proc/{pid}/root{tmp_path}/server.crt")
        assert declared.paths.find("../server.crt") is None


def test_a_configuration_file_that_was_changed_after_the_start(newest_etcd: Path, tmp_path: Path) -> None:
    """What etcd has read in it is not known any more."""
    with container(tmp_path / "node", newest_etcd, "127.0.0.46") as node:
        process, config = node.start(by_file=True), node.node.root / "etcd.yml"
        [result] = judged(target(process, etcd_config=config), CHECK)
        assert result.outcome is Outcome.CONFORMS, result
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            config.touch()
            [result] = judged(target(process, etcd_config=config), CHECK)
            if result.outcome is not Outcome.CONFORMS:
                break
    assert result.outcome is Outcome.NOT_VERIFIED
    assert f"what process {process.pid} read in its configuration file is not known" in result.reason
