"""Whether the process was started with what is declared."""

from collections.abc import Iterator

from pytest_etcdtls.checks.judgement import changed
from pytest_etcdtls.checks.registry import check
from pytest_etcdtls.checks.results import Finding, Note, Statement, not_verified
from pytest_etcdtls.declared.declaration import Setting, SourceLine, Via
from pytest_etcdtls.declared.running import Difference
from pytest_etcdtls.facts.process_comparison import ProcessComparison, ProcessComparisons

_DECLARED = Setting(
    name="client-cert-auth",
    value="true",
    spelled="--client-cert-auth",
    via=Via.FLAG,
    place=SourceLine("etcd.yaml", 21),
)
_declared_alone = changed(
    "compared.members.0", differences=(Difference("client-cert-auth", _DECLARED, None),)
)


@check("config.process-as-declared", on=set(), counterexample=_declared_alone)
def the_process_has_the_declared_settings(compared: ProcessComparisons) -> Iterator[Statement]:
    """The process was started with the settings that --etcd-config declares.

    etcd reads its flags, its variables and its configuration file when it starts. What is written afterwards
    is in force after a restart, and so is what is written where nothing starts etcd with it: a kubelet that
    does not run, a unit that was not loaded again. The file is compared with the command line and the
    environment of the process, setting by setting. Compared are the settings that decide about TLS and about
    who is let in by it.

    Spec: etcd --config-file
    Follows: restart.starts, restart.listeners, restart.clients, restart.certificate
    Severity: high
    Level: MUST
    Remediation: restart etcd with what is declared, or declare what it was started with. A kubelet restarts
        the pod of a changed manifest by itself: see why it does not (`systemctl status kubelet`). Of a unit,
        `systemctl daemon-reload` comes before `systemctl restart etcd`.
    """
    for comparison in compared.members:
        if comparison.unknown:
            yield not_verified(
                f"{comparison.unknown}: what is in force is seen by the checks of connections, such as "
                "config.client-auth-in-force"
            )
            continue
        for difference in comparison.differences:
            yield _finding(comparison, difference)
        if comparison.not_compared:
            names = ", ".join(f"--{name}" for name in comparison.not_compared)
            yield Note(f"not compared, since {comparison.source} does not have the value: {names}")


def _finding(comparison: ProcessComparison, difference: Difference) -> Finding:
    process, declared, running = f"process {comparison.pid}", difference.declared, difference.running
    if declared is None:
        message = f"{process} was started with {_written(running)}, which is not in {comparison.source}"
    elif running is None:
        message = f"{declared} is declared, and not in {process}"
    else:
        message = f"{declared} is declared, and {process} was started with {running.written}"
    return Finding(
        message=message + ("; the file was changed after the process was started" * bool(comparison.changed)),
        expected=_written(declared),
        observed=_written(running),
        place=declared.place if declared else None,
        evidence={"since": comparison.changed} if comparison.changed else {},
        reproduce=(_command(comparison.pid, running),),
    )


def _written(setting: Setting | None) -> str:
    return setting.written if setting is not None else "not given"


def _command(pid: int, running: Setting | None) -> str:
    """Return the command that shows what a process was started with."""
    kind = "environ" if running is not None and running.via is Via.VARIABLE else "cmdline"
    return f"tr '\\0' '\\n' < /proc/{pid}/{kind}"
