"""Signals: a run ends early, writes its report and leaves nothing behind."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from hostile.child_run import ChildRun
from hostile.delaying_proxy import DelayingProxy
from plugin.live_etcd import Live
from plugin.runs import Ran, ran_in_a_child

BOTH = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
SECONDS = 60.0
"""From a signal to the end of the run, while other tests keep the machine busy. Else it is below one."""
SILENCE = 600
"""The time-out of an attempt, which nobody waits for."""


@pytest.fixture
def silent() -> Iterator[str]:
    """The URL of a server whose system accepts connections, and that never says anything."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        yield f"https://127.0.0.1:{server.getsockname()[1]}"


def _interrupted(run: ChildRun, number: signal.Signals, times: int = 1) -> Ran:
    """Interrupt a run and judge its end."""
    sent = run.send(number)
    for _ in range(times - 1):
        run.wait_until(lambda: time.monotonic() > sent + 0.01)
        run.send(number)
    ran = ran_in_a_child(run)
    seconds = time.monotonic() - sent
    assert (ran.exit_code, seconds < SECONDS) == (2, True), ran.out
    assert ran.report["partial"] is True
    assert "INTERNALERROR" not in ran.out
    assert "Traceback" not in ran.out
    assert "KeyboardInterrupt" not in ran.out
    assert "etcd TLS conformance" in ran.out
    return ran


@BOTH
@pytest.mark.parametrize("endpoint", ["silent", "full"])
def test_an_endpoint_that_does_not_answer_is_not_waited_for(
    request: pytest.FixtureRequest, tmp_path: Path, number: signal.Signals, endpoint: str
) -> None:
    url = request.getfixturevalue(endpoint)
    run = ChildRun(
        tmp_path, ["-v", f"--etcd-endpoint={url}", "--etcd-report=report.json", f"--etcd-timeout={SILENCE}"]
    )
    label = f"::client-{url.removeprefix('https://').replace(':', '-')}::"
    run.wait_until(lambda: label in run.output)
    _interrupted(run, number)


@BOTH
@pytest.mark.parametrize("times", [1, 10])
def test_a_run_on_an_etcd_is_partial(live: Live, tmp_path: Path, number: signal.Signals, times: int) -> None:
    run = ChildRun(tmp_path, ["-v", *live.options, "--etcd-report=report.json", "--etcd-gentle"])
    run.wait_until(lambda: run.output.count("PASSED") > 3)
    ran = _interrupted(run, number, times)
    assert ran.counts["conforms"] > 3
    assert ran.counts["not-run"]


def _results(ran: Ran, urls: Iterable[str]) -> dict[tuple[str, str], tuple[object, ...]]:
    return {
        (row["url"], row["check"]): (row["outcome"], [finding["message"] for finding in row["findings"]])
        for row in ran.report["results"]
        if row["url"] in urls and row["role"] != "cluster" and row["outcome"] != "not-run"
    }


_COUNTING = """
import threading
from pathlib import Path
from pytest_etcdtls.run import collector

class Counting(collector.Pool):
    def __init__(self, name, tasks, most):
        self.lock, self.left = threading.Lock(), len(tasks)
        super().__init__(name, [self.counted(task) for task in tasks], most)

    def counted(self, task):
        def run():
            following = task()
            with self.lock:
                self.left += len(following) - 1
                if self.left == 2:
                    Path("two.left").touch()
            return [self.counted(one) for one in following]
        return run

collector.Pool = Counting
"""
"""Says when all that is observed ahead is recorded but for two tasks, which wait for the silent server: its
gates, and a session of the client port at the peer port that was named first."""


@BOTH
def test_what_is_recorded_is_judged(live: Live, tmp_path: Path, number: signal.Signals) -> None:
    whole, interrupted = (tmp_path / name for name in ("whole", "interrupted"))
    for directory in (whole, interrupted):
        directory.mkdir()
    urls = {live.client, live.peer}
    ports = [int(url.rpartition(":")[2]) for url in urls]
    with ExitStack() as stack:
        proxies = [stack.enter_context(closing(DelayingProxy(port))) for port in ports]
        through = [
            f"--etcd-connect-to=127.0.0.1:{port}:127.0.0.1:{proxy.port}"
            for port, proxy in zip(ports, proxies, strict=True)
        ]

        def accepted() -> int:
            return sum(proxy.accepted for proxy in proxies)

        all_ = ran_in_a_child(ChildRun(whole, [*live.options, *through, "--etcd-report=report.json"]))
        assert all_.exit_code == 0
        silent = stack.enter_context(socket.create_server(("127.0.0.2", 0), backlog=64))
        endpoint = f"--etcd-peer-endpoint=https://127.0.0.2:{silent.getsockname()[1]}"
        waits = ("-v", "--etcd-report=report.json", f"--etcd-timeout={SILENCE}")
        (interrupted / "conftest.py").write_text(_COUNTING, encoding="utf-8")
        run = ChildRun(interrupted, [endpoint, *live.options, *through, *waits])
        run.wait_until((interrupted / "two.left").exists)
        ahead = accepted()
        assert run.output.count("PASSED") < 20
        ran = _interrupted(run, number)
        assert accepted() == ahead
    expected, judged = _results(all_, urls), _results(ran, urls)
    assert judged.items() <= expected.items()
    assert len(judged) > len(expected) * 0.8, expected.keys() - judged.keys()
    assert "exit code 2: interrupted" in ran.out


@BOTH
def test_nothing_of_an_owned_cluster_is_left(
    newest_etcd: Path, tmp_path: Path, number: signal.Signals
) -> None:
    (tmp_path / "tmp").mkdir()
    run = ChildRun(
        tmp_path,
        ["-v", "--etcd-conformance", f"--etcd-binary={newest_etcd}", "--etcd-report=report.json"],
        environment={"TMPDIR": str(tmp_path / "tmp")},
        limit=False,
    )
    run.wait_until(lambda: run.output.count("PASSED") > 3)
    _interrupted(run, number)
    left = [path for path in (tmp_path / "tmp").iterdir() if not path.name.startswith("pytest-etcdtls-ports")]
    assert left == []  # the locks of ports are shared by the runs of a user
    assert str(tmp_path) not in _command_lines()


def _command_lines() -> str:
    found = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(process.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue  # it has ended
    return "\n".join(found)
