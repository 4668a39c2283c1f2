"""The last lines of a run."""

from __future__ import annotations

import dataclasses
import re

import pytest
from made import made_report, made_result
from msgspec.structs import replace

from pytest_etcdtls.checks.registry import select
from pytest_etcdtls.checks.results import Ancestor, CheckResult, Finding, Level, Outcome, Severity
from pytest_etcdtls.errors import Reason, needs, silent
from pytest_etcdtls.facts.recording import Recording
from pytest_etcdtls.pki.profile import NO_CERTIFICATE
from pytest_etcdtls.report import clusters, render
from pytest_etcdtls.report.clusters import ClusterTable, row_of, table_summary
from pytest_etcdtls.report.model import Report
from pytest_etcdtls.report.terminal import headline, verdict
from pytest_etcdtls.role import Role
from pytest_etcdtls.target import Listener, PortCredentials, StartFailure, Target

LISTENERS = tuple(
    Listener(role=role, host="127.0.0.1", port=port, scheme="https", member="m0", label=f"{role}-m0")
    for role, port in ((Role.CLIENT, 2379), (Role.PEER, 2380))
)


def result(outcome: Outcome, check: str = "mtls.no-certificate", **fields: object) -> CheckResult:
    usual = {"severity": Severity.CRITICAL, "url": "https://127.0.0.1:2379"}
    return made_result(outcome, check, **(usual | fields))


GIVEN = PortCredentials(identities=(NO_CERTIFICATE,))
"""Which certificate was given does not matter."""


def report(*results: CheckResult, partial: bool = False, client: PortCredentials = GIVEN) -> Report:
    target = Target(label="live", origin="live", listeners=LISTENERS, client=client, peer=client)
    return made_report(*results, partial=partial, seen=(Recording(target=target),))


def lines(made: Report, *, width: int = 80, verbosity: int = 0) -> list[str]:
    return [line.text for line in verdict(made, width=width, verbosity=verbosity)]


FOLLOWS = result(
    Outcome.VIOLATES, check="mtls.self-signed", cause=Ancestor("mtls.no-certificate", "client-m0")
)


@pytest.mark.parametrize(
    ("results", "problems", "partial", "said"),
    [
        ((result(Outcome.CONFORMS),), (), False, "CLEAN"),
        ((result(Outcome.WARNS),), (), False, "CLEAN"),
        ((result(Outcome.WAIVED),), (), False, "CLEAN BUT FOR 1 WAIVED FAULT (mtls.no-certificate) ("),
        ((result(Outcome.WAIVED, level=Level.SHOULD),), (), False, "CLEAN (https"),
        ((result(Outcome.VIOLATES),), (), False, "NOT CLEAN: 1 fault (1 check)"),
        ((FOLLOWS, result(Outcome.VIOLATES)), (), False, "NOT CLEAN: 1 fault (2 checks)"),
        ((FOLLOWS,), (), False, "NOT CLEAN: 1 fault (1 check)"),
        ((result(Outcome.CONFORMS), result(Outcome.INCONCLUSIVE)), (), False, "NO VERDICT: 1 inconclusive"),
        ((result(Outcome.CONFORMS), result(Outcome.BROKEN)), (), False, "NO VERDICT: 1 broken"),
        ((result(Outcome.CONFORMS),), ("1 stale waiver.",), False, "NO VERDICT: 1 stale waiver ("),
        ((result(Outcome.CONFORMS),), (), True, "NO VERDICT: stopped early"),
        ((result(Outcome.NOT_RUN),), (), True, "NO VERDICT: stopped early, 1 check not run"),
        (
            (result(Outcome.VIOLATES), result(Outcome.NOT_RUN, check="a.b")),
            (),
            True,
            "NOT CLEAN: 1 fault (1 check), stopped early, 1 check not run",
        ),
        ((result(Outcome.NOT_VERIFIED),), (), False, "NO VERDICT: nothing was judged"),
        ((), (), False, "NO VERDICT: nothing was judged"),
    ],
)
def test_the_verdict_in_one_line(
    results: tuple[CheckResult, ...], problems: tuple[str, ...], partial: bool, said: str
) -> None:
    assert headline(replace(report(*results, partial=partial), problems=problems)).text.startswith(
        f"etcd TLS: {said}"
    )


A, B, C, D, E, F = (result(Outcome.CONFORMS, check=f"a.{name}") for name in "abcdef")
X, Y = (result(Outcome.CONFORMS, check=f"x.{name}") for name in "xy")
EVERY = len(select())


@pytest.mark.parametrize(
    ("results", "deselected", "said"),
    [
        ((A,), ("a.b",), "1 OF {} CHECKS CLEAN (a.a)"),
        ((A, X), ("a.b", "x.y"), "2 OF {} CHECKS CLEAN (a.a, x.x)"),
        ((X, Y), ("a.a", "a.b"), "2 OF {} CHECKS CLEAN (x)"),
        ((A, B, C, D, X, Y), ("a.e",), "6 OF {} CHECKS CLEAN (without a.e)"),
        ((A, B, C, D), ("a.e", "a.f", "a.g", "a.h"), "4 OF {} CHECKS CLEAN (a.a, a.b, a.c and 1 more)"),
        ((A,), ("a.a", "a.b"), "1 OF {} CHECKS CLEAN (a.a; not on every listener)"),
        ((A, result(Outcome.NOT_VERIFIED, check="x.x")), ("a.b",), "1 OF {} CHECKS CLEAN (a.a)"),
        (
            (A, result(Outcome.WAIVED)),
            ("a.b",),
            "2 OF {} CHECKS CLEAN (a.a, mtls.no-certificate) BUT FOR 1 WAIVED FAULT (mtls.no-certificate)",
        ),
        ((A, result(Outcome.VIOLATES)), ("a.b",), "NOT CLEAN: 1 fault (1 check)"),
    ],
)
def test_checks_that_were_not_selected_are_not_clean(
    results: tuple[CheckResult, ...], deselected: tuple[str, ...], said: str
) -> None:
    every = EVERY + len(
        {one.check for one in results if one.check[1] == "." and one.outcome is Outcome.CONFORMS}
    )
    made = replace(report(*results), deselected=frozenset(deselected))
    assert headline(made).text == f"etcd TLS: {said.format(every)} (https://127.0.0.1:2379)"


@pytest.mark.parametrize(
    ("unverified", "said"),
    [
        (0, "no client certificate was given"),
        (1, "no client certificate was given, 1 result not verified"),
    ],
)
def test_without_a_client_certificate_it_is_not_clean(unverified: int, said: str) -> None:
    results = [result(Outcome.CONFORMS), *[result(Outcome.NOT_VERIFIED, check="mtls.expired")] * unverified]
    shown = headline(report(*results, client=PortCredentials())).text
    assert shown == f"etcd TLS: NO FAULT FOUND FROM OUTSIDE: {said} (https://127.0.0.1:2379)"


def test_it_is_the_last_line_and_says_that_the_run_was_interrupted() -> None:
    assert lines(report(result(Outcome.CONFORMS)))[-2:] == [
        "0 connections in 1.0 s; exit code 0: no fault in TLS or in who is let in",
        "etcd TLS: CLEAN (https://127.0.0.1:2379)",
    ]
    left = [result(Outcome.NOT_RUN, check=f"a.b{number}") for number in range(3)]
    found = replace(report(result(Outcome.VIOLATES), *left, partial=True), status=2)
    assert headline(found).text.startswith(
        "etcd TLS: NOT CLEAN: 1 fault (1 check), interrupted, 3 checks not run ("
    )
    nothing = replace(report(result(Outcome.CONFORMS), *left, partial=True), status=2)
    assert headline(nothing).text.startswith("etcd TLS: NO VERDICT: interrupted, 3 checks not run (")


def test_the_last_line_says_of_what_it_is() -> None:
    def of(*targets: Recording) -> str:
        return headline(replace(report(result(Outcome.VIOLATES)), seen=targets)).text.partition(") ")[2]

    assert of(members("live", 3)) == "(3 members of https://127.0.0.1:2379)"
    assert of(members("prod-1", 1)) == "(prod-1: https://127.0.0.1:2379)"
    assert of(members("a", 1), members("b", 1)) == "(a, b)"
    started = Target(label="etcd-3.6.16", origin="process", listeners=LISTENERS, etcd_version="3.6.16")
    assert of(Recording(target=started)) == "(etcd 3.6.16 that this run started)"
    # Its URL on loopback is the same on every node.
    outside = dataclasses.replace(LISTENERS[0], host="10.0.0.11", label="client-10.0.0.11-2379")
    node = Target(label="live", origin="live", listeners=(*LISTENERS, outside))
    assert of(Recording(target=node)) == "(https://10.0.0.11:2379)"


CLOSED = silent(
    "https://127.0.0.1:2379", "does not answer", ": no TCP connection: Connection refused; start etcd there"
)


def test_no_verdict_says_why_once() -> None:
    gate = result(Outcome.INCONCLUSIVE, check="listener.answers", reason=CLOSED)
    late = replace(CLOSED, options=("--etcd-timeout",))
    after = [
        result(
            Outcome.NOT_VERIFIED,
            check=f"a.b{number}",
            reason=Reason.gated("listener.answers", "inconclusive", late),
        )
        for number in range(95)
    ]
    text = lines(report(gate, *after))
    assert text[-1] == "etcd TLS: NO VERDICT: https://127.0.0.1:2379 does not answer"
    at = text.index("? listener.answers on client-m0: https://127.0.0.1:2379 does not answer: no TCP")
    assert text[at + 1] == "  connection: Connection refused; start etcd there"
    assert "95 results not verified: 95 need an etcd that answers on client-m0; -v says why" in text
    assert "--etcd-timeout" not in "\n".join(text)


def test_results_about_another_port_need_the_right_one() -> None:
    gate = result(Outcome.VIOLATES, check="listener.is-etcd")
    after = result(
        Outcome.NOT_VERIFIED,
        check="a.b",
        reason=Reason.gated("listener.is-etcd", "violates", Reason("it is none")),
    )
    needed = "1 need client-m0 to be the port of etcd that it is named as"
    assert f"1 result not verified: {needed}; -v says why" in " ".join(
        map(str.strip, lines(report(gate, after)))
    )


def test_a_member_that_does_not_answer_is_named_once() -> None:
    gates = [
        result(
            Outcome.INCONCLUSIVE,
            check="listener.answers",
            listener=f"{role}-m0",
            url=f"https://127.0.0.1:{port}",
            reason=silent(
                f"https://127.0.0.1:{port}", "does not answer", f": no TCP connection to port {port}"
            ),
        )
        for role, port in (("client", 2379), ("peer", 2380))
    ]
    reason = silent("https://127.0.0.1:2379", "does not answer", ": unclear in connect")
    follows = result(Outcome.INCONCLUSIVE, check="api.version-agrees", listener="peer-m1", reason=reason)
    text = lines(report(*gates, follows))
    assert text[-1] == "etcd TLS: NO VERDICT: https://127.0.0.1:2379 does not answer, nor 1 other port there"
    assert [line for line in text if line.startswith("?")] == [
        "? listener.answers, api.version-agrees on client-m0, peer-m0, peer-m1:"
    ]
    another = result(Outcome.INCONCLUSIVE, check="a.b", reason="why not")
    assert ", 1 inconclusive (" in f"{lines(report(*gates, another))[-1]} ("


def test_neither_the_fault_nor_its_remedy_is_cut() -> None:
    """The listeners are named by their roles and members; reasons behind a colon are cut."""
    wrong = "--client-cert-auth=true of /etc/kubernetes/manifests/etcd.yaml is not in force here:"
    addresses = ["10.0.0.11", "10.0.0.12"]
    listeners = tuple(
        dataclasses.replace(LISTENERS[0], host=host, member=f"m{number}", label=f"client-{host}-2379")
        for number, host in enumerate(addresses)
    )
    results = [
        result(
            Outcome.VIOLATES,
            check="config.client-auth-in-force",
            listener=listener.label,
            findings=(Finding(message=f"{wrong} {'reasons ' * 100}", expected="", observed=""),),
            remedies=(f"{'remedy ' * 99}ends",),
        )
        for listener in listeners
    ]
    made = report(*results)
    target = dataclasses.replace(made.seen[0].target, listeners=listeners)
    text = lines(replace(made, seen=(Recording(target=target),)))
    at = text.index("1. config.client-auth-in-force (critical) on 2 client ports of m0 and m1:")
    assert " ".join(line.strip() for line in text[at + 1 : at + 3]).startswith(wrong)
    end = next(number for number in range(at, len(text)) if text[number].endswith("reasons ..."))
    remedy = " ".join(line.strip() for line in text[end + 1 :])
    assert remedy.startswith(f"remedy: {'remedy ' * 99}ends")
    alone = lines(report(replace(results[0], listener=LISTENERS[0].label)))
    assert any(line.startswith(f"1. {results[0].check} (critical) on client-m0: ") for line in alone)


def test_the_worst_fault_comes_first_with_its_remedy_and_the_number_of_its_consequences() -> None:
    low = result(Outcome.VIOLATES, check="cert.lifetime", severity=Severity.LOW)
    text = lines(report(low, FOLLOWS, result(Outcome.VIOLATES)))
    at = text.index("1. mtls.no-certificate (critical) on client-m0: it is wrong; 1 more check")
    assert text[at + 1 : at + 3] == ["   follows from it", "   remedy: mend it"]
    assert text[at + 3].startswith("2. cert.lifetime")


def test_options_named_in_reasons_are_counted() -> None:
    missing = [
        result(Outcome.NOT_VERIFIED, check=f"a.b{number}", reason=needs("the key", "--etcd-ca-key"))
        for number in range(3)
    ]
    assert "3 results not verified: pass --etcd-ca-key (3); -v says why" in lines(report(*missing))
    reason = needs("a second member", "--etcd-endpoint", "--etcd-metrics-endpoint")
    text = " ".join(map(str.strip, lines(report(result(Outcome.NOT_VERIFIED, reason=reason)))))
    assert "pass another --etcd-endpoint (1), --etcd-metrics-endpoint (1);" in text, "a client port is named"


@pytest.mark.parametrize(
    "needed", ["an accepted client", "the certificate of the issuer CN=ca-of-the-cluster,O=example"]
)
def test_the_commonest_reason_without_an_option_is_named(needed: str) -> None:
    lacking = [
        result(Outcome.NOT_VERIFIED, check=f"a.b{number}", reason=reason)
        for number, reason in enumerate(
            (
                needs(needed, ending=", and no good identity is accepted here"),
                needs(needed, ending=", and none is accepted").after("no listener returned the list: "),
                needs("the key", "--etcd-ca-key"),
            )
        )
    ]
    text = f"3 results not verified: 2 need {needed}; pass --etcd-ca-key (1); -v says why"
    assert text in " ".join(map(str.strip, lines(report(*lacking))))
    plain = "https://127.0.0.1:2379 answers plain HTTP and no TLS"
    said = lines(report(result(Outcome.NOT_VERIFIED, reason=plain)))
    assert f"{plain} (1)" in " ".join(map(str.strip, said))


def test_quiet_omits_the_listeners_and_no_fault() -> None:
    made = report(result(Outcome.VIOLATES))
    text = lines(made)
    at = text.index("  client-m0 https://127.0.0.1:2379")
    assert text[at + 1] == "  peer-m0 https://127.0.0.1:2380"
    quiet = lines(made, verbosity=-2)
    assert not any("https://127.0.0.1:2380" in line for line in quiet)
    assert any(line.startswith("1. mtls.no-certificate") for line in quiet)


@pytest.mark.parametrize("width", [40, 80, 140])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    wordy = "word " * 200
    every = [
        result(outcome, check=f"a.b{number}", reason=wordy, remedies=(wordy,))
        for number, outcome in enumerate(Outcome)
    ]
    text = lines(replace(report(*every), problems=("a problem " * 20,)), width=width)
    assert max(map(len, text[:-1])) <= width
    assert text[-1].startswith("etcd TLS: ")


def test_at_most_24_lines_for_one_member_with_two_faults() -> None:
    wordy = "word " * 200
    many = [
        result(
            Outcome.VIOLATES,
            check=f"mtls.check{number}",
            remedies=("word " * 26,),
            findings=(Finding(message=wordy, expected="right", observed="wrong", reproduce=("curl",)),),
        )
        for number in range(2)
    ]
    assert len(lines(report(*many, result(Outcome.NOT_VERIFIED, reason=wordy)))) <= 24


def test_a_fault_has_one_command_and_the_settings_to_write() -> None:
    recipe = "openssl req -new\ncurl --cert=made.crt\n# look for an answer"
    curl = "curl -k https://127.0.0.1:2379/version\n# look for an answer"
    finding = Finding("it is wrong", "right", "wrong", reproduce=(recipe, curl))
    setting = "+ --client-cert-auth=true  # etcd.yaml:17"
    text = lines(report(result(Outcome.VIOLATES, findings=(finding,), settings=(setting,))))
    at = text.index("   remedy: mend it")
    assert text[at + 1 : at + 3] == [
        f"     {setting}",
        "   reproduce: curl -k https://127.0.0.1:2379/version",
    ]


def test_the_commands_say_that_their_etcd_was_stopped() -> None:
    finding = Finding("it is wrong", "right", "wrong", reproduce=("curl -k https://127.0.0.1:2379/version",))
    live = report(result(Outcome.VIOLATES, findings=(finding,)))
    owned = replace(live, seen=(Recording(target=Target(label="live", origin="process", listeners=())),))
    failure = StartFailure(member="m0", reason="it exits", log=())
    target = dataclasses.replace(owned.seen[0].target, failure=failure)
    failed = replace(owned, seen=(Recording(target=target),))
    kept = replace(owned, keeps=True)
    for made, is_said in ((live, False), (owned, True), (kept, False), (failed, False)):
        for text in (" ".join(lines(made)), render(made, ".md"), render(made, ".html")):
            assert ("--etcd-keep" in text) is is_said


def test_a_remedy_without_its_settings_says_where_they_are() -> None:
    many = [
        result(Outcome.VIOLATES, check=f"a.b{number}", settings=(f"+ --flag{number}=true",))
        for number in range(4)
    ]
    text = lines(report(*many))
    at = text.index("     + --flag2=true")
    assert text[at + 1].startswith("4. a.b3")
    assert text[at + 2 :][:2] == [
        "   remedy: mend it",
        "   1 setting to write: see the report (--etcd-report)",
    ]


def members(label: str, number: int) -> Recording:
    """Return a target with so many members, without observations."""
    listeners = tuple(
        dataclasses.replace(listener, member=f"m{index}", label=f"{listener.role}-m{index}")
        for index in range(number)
        for listener in LISTENERS
    )
    return Recording(target=Target(label=label, origin="live", listeners=listeners))


def test_with_many_listeners_only_those_with_faults_are_shown() -> None:
    found = [
        result(Outcome.VIOLATES, listener="client-m7", target="first"),
        result(Outcome.INCONCLUSIVE, listener="peer-m1", target="second"),
    ]
    sizes = {"third": 1, "second": 3, "fourth": 1, "first": 100}
    made = replace(report(*found), seen=tuple(members(label, number) for label, number in sizes.items()))
    for suffix, label in ((".md", r"^- `(\w+)` \(live"), (".html", r"<li><b>(\w+)</b>: live")):
        shown = re.findall(label, render(made, suffix), re.MULTILINE)
        assert shown == ["first", "second", "third", "fourth"], "the worst first"
    assert lines(made)[-1].endswith("(first, second, third, fourth)")
    assert lines(made)[:5] == [
        "first (live): 200 listeners, 1 fault",
        "  client-m7 https://127.0.0.1:2379",
        "second (live): 6 listeners, 1 check without evidence",
        "third (live): 2 listeners, no fault",
        "fourth (live): 2 listeners, no fault",
    ]


def test_listeners_of_one_kind_share_a_row_and_the_fault_names_its_listener() -> None:
    found = result(Outcome.VIOLATES, listener="client-m1", target="first")
    assert lines(replace(report(found), seen=(members("first", 4),)))[:4] == [
        "first (live)",
        "  4 client ports (client-m0, client-m1, client-m2, client-m3)",
        "  4 peer ports (peer-m0, peer-m1, peer-m2, peer-m3)",
        "1. mtls.no-certificate (critical) on client-m1: it is wrong",
    ]


def test_since_when_is_what_the_check_found_out() -> None:
    changed = "it was started at 08:00 UTC, and etcd.yaml was changed at 09:00 UTC"
    finding = Finding("it is wrong", "right", "wrong", evidence={"since": changed})
    assert f"   since: {changed}" in lines(report(result(Outcome.VIOLATES, findings=(finding,))))


def test_verbose_leaves_warnings_to_the_summary() -> None:
    warned = report(result(Outcome.WARNS, check="tls.cbc-suites"))
    assert any(line.startswith("! tls.cbc-suites") for line in lines(warned))
    assert not any(line.startswith("!") for line in lines(warned, verbosity=1))


@pytest.mark.parametrize(("number", "whole"), [(3, True), (4, False), (6, False)])
def test_few_warnings_are_whole_and_many_say_where_they_are(number: int, *, whole: bool) -> None:
    finding = Finding(message=f"{'word ' * 50}ends", expected="right", observed="wrong")
    warned = [result(Outcome.WARNS, check=f"a.b{index}", findings=(finding,)) for index in range(number)]
    text = lines(report(*warned))
    assert len([line for line in text if line.endswith("word ends")]) == (number if whole else 0)
    last = [line for line in text if line.startswith("!")][-1]
    more = {3: "! a.b2", 4: "! -v shows warnings in full", 6: "! and 2 more warnings: a.b4, a.b5; -v shows"}
    assert last.startswith(more[number])


def test_the_row_of_a_cluster_names_the_check_without_evidence_and_its_reason() -> None:
    made = report(result(Outcome.CONFORMS), result(Outcome.INCONCLUSIVE, check="a.b", reason="why not"))
    row = row_of("prod", made, metrics=False, problems=())
    assert row.line == "NO VERDICT: 1 inconclusive: a.b: why not"
    table = ClusterTable(
        rows=[row, replace(row, label="other")],
        listed=2,
        ended="interrupted",
        shard="",
        started_at=made.started_at,
        seconds=1.0,
        problems=(),
        metadata={},
    )
    said = [line.text for line in table_summary(table, width=80, written=(), status=1)]
    assert said[:2] == ["without evidence", "  a.b on 2 clusters: other, prod: why not"]
    assert said[-1] == "etcd TLS: NOT COMPLETE: 2 clusters: 2 without a verdict, interrupted"
    assert "| `a.b` | why not | 2: `other`, `prod` |" in "".join(clusters.render(table, ".md"))
    assert '<th scope="row">a.b</th><td>why not</td>' in "".join(clusters.render(table, ".html"))


def test_members_that_are_targets_share_their_fault() -> None:
    """As with ``--etcd-pid=auto`` on a machine with three members."""
    found = [result(Outcome.VIOLATES, target=target) for target in ("m0", "m1", "m2")]
    other = result(Outcome.VIOLATES, check="cert.lifetime", listener="cluster", target="m1")
    seen = tuple(members(target, 1) for target in ("m0", "m1", "m2"))
    text = lines(replace(report(*found, other), seen=seen))
    at = text.index("1-3. mtls.no-certificate (critical) on 3 client ports of m0, m1 and m2: it is")
    assert text[at + 1 : at + 4] == [
        "     wrong",
        "     remedy: mend it",
        "4. cert.lifetime (critical) on cluster: it is wrong",
    ]
    assert "remedy: mend it" not in " ".join(text[:at])
    assert "4 faults" in text[-1]
    of_three = replace(report(*found), seen=seen)
    markdown, page = render(of_three, ".md"), render(of_three, ".html")
    assert markdown.count("**Remedy:** mend it") == 1
    assert "### 1-3. `mtls.no-certificate`" in markdown
    assert "On 3 client ports of `m0`, `m1` and `m2`: it is wrong" in markdown
    assert page.count('<article class="fault') == 1
    assert 'id="fault-1-3"' in page
    assert "3 client ports of m0, m1 and m2" in page


def test_with_many_targets_the_others_are_counted() -> None:
    text = lines(replace(report(), seen=tuple(members(f"t{number}", 1) for number in range(20))))
    assert "and 12 more targets" in text
    assert len([line for line in text if "2 listeners, no fault" in line]) == 8
