"""Texts of servers are data in every format: no markup, link, mention, control sequence or broken file."""

from __future__ import annotations

import re

import pytest
from made import made_report, made_result
from report import valid

from pytest_etcdtls.checks.results import Finding, Outcome
from pytest_etcdtls.facts.behaviour import Behaviour
from pytest_etcdtls.facts.recording import Recording
from pytest_etcdtls.report import FORMATS, render
from pytest_etcdtls.report.baseline import CheckOutcome, Snapshot
from pytest_etcdtls.report.differences import compare
from pytest_etcdtls.report.markdown import LIMIT, block, code, prose
from pytest_etcdtls.report.model import Report
from pytest_etcdtls.role import Role
from pytest_etcdtls.target import Listener, Target
from pytest_etcdtls.untrusted.printable import printable

ATTACKS = (
    "<script>window.owned = 1</script>",
    '"><img src=x onerror="window.owned = 2">',
    "</details></table></main></body></html><svg onload=window.owned=3>",
    "]]><!-- --!> <![CDATA[ &lt;b&gt; &#60;b&#62; {{ 7 * 7 }} {% raw %}",
    "\x1b[2J\x1b]0;title\x07 \u202e\u2066reversed\u2069 \u200b\u2028 \x9b31m \ud800",
    "a | b || c \\| d \\",
    "`code` ``two`` ```three``` ~~~ ```\n```\n# heading\n| a | b |\n|---|---|\n<b>",
    "@octocat @org/team #1 GH-1 octo/repo#2 deadbeefdeadbeefdeadbeefdeadbeefdeadbeef a@b.example",
    "[link](javascript:window.owned=4) ![x](http://evil.example/x.png) <javascript:alert(1)> [ref]: http://e",
    "https://evil.example/ www.evil.example javascript:window.owned=5",
    "\n\n---\n===\n> quote\n- item\n1. one\n\tcode",
    "*a* _b_ __c__ ~~d~~ \\* &amp; :smile: $x$ $$y$$ [^1] - [ ] task",
    "{0} {{ }} ${{ secrets.X }} ::error::x %0A",
    "x" * 100_000,
)
"""Texts that a server may send."""


def finding(text: str) -> Finding:
    return Finding(text, text, text, {text[:200]: text}, (text, f"{text}\n# look for {text[:50]}"))


def hostile_report(results: int = len(ATTACKS)) -> Report:
    """Return a report with every attack in every text that a server can send."""
    listener = Listener(
        role=Role.CLIENT, scheme="https", host="10.0.0.11", port=2379, member="m0", label="client-m0"
    )
    target = Target(label="live", origin="live", listeners=(listener,), etcd_version=ATTACKS[0])
    outcomes = {
        "cert.trusted": Outcome.VIOLATES,
        "tls.cbc-suites": Outcome.WARNS,
        "listener.answers": Outcome.INCONCLUSIVE,
        "mtls.expired": Outcome.NOT_VERIFIED,
        "cert.expires": Outcome.WAIVED,
    }
    found = [
        made_result(
            outcome,
            check,
            listener=f"client-m{number}",
            url=f"https://10.0.0.11:{number % 60000 + 1}",
            reason=ATTACKS[number % len(ATTACKS)],
            findings=(finding(ATTACKS[number % len(ATTACKS)]),)
            if outcome in (Outcome.VIOLATES, Outcome.WARNS)
            else (),
            remedies=(f"{ATTACKS[(number + 1) % len(ATTACKS)][:300]} {number}",),
            references=("RFC 5280", ATTACKS[1]),
        )
        for number in range(results)
        for check, outcome in outcomes.items()
    ]
    texts = [printable(attack)[:200] for attack in ATTACKS]
    before, after = (
        Snapshot(
            label="live",
            listeners=(("client-m0", "client"),),
            outcomes={("client-m0", text): CheckOutcome(outcome, message=text) for text in texts},
            behaviour=tuple(Behaviour("client-m0", text, text, text, f"{outcome} {text}") for text in texts),
        )
        for outcome in (Outcome.CONFORMS, Outcome.VIOLATES)
    )
    return made_report(
        *found,
        comparisons=(compare(before, after),),
        seen=(Recording(target=target),),
        problems=ATTACKS[:4],
        status=1,
        metadata={f"{number} {attack[:50]}": attack for number, attack in enumerate(ATTACKS)},
    )


@pytest.mark.parametrize("suffix", [suffix for suffix in FORMATS if suffix != ".json"])
def test_hostile_texts_are_data(suffix: str) -> None:
    lost: list[str] = []
    text = render(hostile_report(), suffix, lost)
    assert lost == []
    valid.VALID[suffix](text)
    text.encode()  # no lone surrogate


def test_a_page_has_no_element_that_a_server_named() -> None:
    said = valid.html(render(hostile_report(), ".html"))
    assert "<script>window.owned = 1</script>" in said
    assert "\\x1b[2J" in said


@pytest.mark.parametrize("attack", ATTACKS, ids=range(len(ATTACKS)))
def test_markdown_of_a_text_is_code_or_plain_text(attack: str) -> None:
    table = f"| a | b |\n|---|---|\n| {code('client-m0')} | x |\n"
    for made in (f"text {prose(attack)} text", f"- {code(attack)}", block(attack), table):
        valid.markdown(f"# heading\n\n{made}\n\nend\n")
    assert len(prose(attack)) < 10_000


@pytest.mark.parametrize("word", ["plain", "it's", "well-known", "so:", "42", "1."])
def test_ordinary_words_stay_as_they_are(word: str) -> None:
    assert prose(f"a {word} b") == f"a {word} b"


@pytest.mark.parametrize(
    "word", ["@a", "#1", "a_b", "--flag", "https://x", "1.2.3", "deadbeef", "GH-1", "<b>"]
)
def test_other_words_are_code(word: str) -> None:
    assert prose(f"a ({word}), b") == f"a (`{word}`), b"


def test_markdown_keeps_its_bound_and_counts_the_omitted_parts() -> None:
    text = render(hostile_report(results=600), ".md")
    assert LIMIT - 20_000 < len(text.encode()) < LIMIT + 1000
    valid.markdown(text)
    assert re.search(r"\*\*\d+ more parts did not fit here", text)
    assert text.index("## Faults") < 20_000


def test_a_page_grows_linearly_with_its_results() -> None:
    sizes = [len(render(hostile_report(results=number), ".html")) for number in (100, 400)]
    assert sizes[1] < 4.2 * sizes[0]
