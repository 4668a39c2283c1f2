"""Words as systemd, a shell and environment files have them."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from pytest_etcdtls.declared.declaration import SourceLine
from pytest_etcdtls.declared.shell import Variable, Word, assignments, split_commands
from pytest_etcdtls.declared.systemd import Specifiers, read_variables, split_words, substitute
from pytest_etcdtls.errors import UsageError

HERE = SourceLine("f", 1)


def _systemd(text: str, **variables: str) -> list[str]:
    known = {name: Variable(name, value, HERE) for name, value in variables.items()}
    return [word.text for word in substitute(split_words(text, HERE), known)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("etcd --name=a  --b", ["etcd", "--name=a", "--b"]),
        ("etcd '--name=a b' \"c d\"", ["etcd", "--name=a b", "c d"]),
        ('etcd --name="a b"', ["etcd", "--name=a b"]),
        (r"etcd a\x20b \u00e9 \101", ["etcd", "a b", "é", "A"]),
        (r"etcd \q", ["etcd", r"\q"]),
        ("etcd $ARGS end", ["etcd", "--one", "two three", "end"]),
        ("etcd ${ARGS}", ["etcd", '--one "two three"']),
        ("etcd x$ARGS $$ARGS $${ARGS}", ["etcd", "x$ARGS", "$ARGS", "${ARGS}"]),
        ("etcd $NONE x${NONE}y", ["etcd", "xy"]),
        ('etcd ""', ["etcd", ""]),
    ],
)
def test_systemd_words(text: str, words: list[str]) -> None:
    assert _systemd(text, ARGS='--one "two three"') == words


def test_systemd_words_tell_their_lines() -> None:
    words = split_words("etcd\n--a\n\n'--b\nc' --d", SourceLine("f", 7))
    assert [(word.text, word.place.line) for word in words] == [
        ("etcd", 7),
        ("--a", 8),
        ("--b c", 10),
        ("--d", 11),
    ]


SCRIPTS = [
    "etcd --name=a --data-dir /d",
    "etcd '--name=a b' \"c d\" e\\ f",
    'etcd --name="$NAME" --x=$NAME ${NAME}',
    'etcd "${NONE:-default}" ${NONE-other}',
    "etcd \\\n  --a \\\n  --b",
    'etcd "a\\"b\\$c\\d" \'a\\b\'',
    "etcd --a # a comment",
    "NAME=other; etcd $NAME",
    "export NAME=other\netcd $NAME",
    "etcd a''b\"\"c",
]


@pytest.mark.parametrize("script", SCRIPTS)
def test_shell_words_are_those_of_a_shell(script: str) -> None:
    """A real shell is asked, with a function in the place of etcd."""
    shell = shutil.which("sh")
    assert shell is not None
    printing = 'etcd() { for word in "$@"; do printf "%s\\0" "$word"; done; }\n'
    done = subprocess.run(
        [shell, "-c", printing + script],
        env={"NAME": "first"},
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    known = {"NAME": Variable("NAME", "first", HERE)}
    commands = [command for command in split_commands(script, HERE, known) if command[0].text == "etcd"]
    assert [word.text for word in commands[-1][1:]] == done.stdout.split("\0")[:-1]


def test_what_a_command_would_print_is_not_known() -> None:
    (command,) = split_commands("etcd --name=$(hostname -s) `id` $OTHER ${OTHER%x} $1", HERE, {})
    assert [word.unresolved for word in command] == [
        (),
        ("$(hostname -s)",),
        ("`id`",),
        ("OTHER",),
        ("${OTHER%x}",),
        ("$1",),
    ]


def test_assignments_in_front() -> None:
    (command,) = split_commands("env A=b C='d e' etcd F=g", HERE, {})
    assert {name: one.value for name, one in assignments(command).items()} == {"A": "b", "C": "d e"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("A=b", "b"),
        ("  A = b c  ", "b c"),
        ('A="b c" ', "b c"),
        ("A='b\"c'", 'b"c'),
        ('A=b"c"', 'b"c"'),
        ('A="b\\"c\\d"', 'b"c\\d'),
        ("A=b\\\nc", "bc"),
        ("A=b\\ c\\ ", "b c "),
        ("A=", ""),
        ("A='b'\"c\"", "bc"),
        ("A=b # no comment", "b # no comment"),
        ("# A=c\n; A=d\n\nA=b", "b"),
        ("export A=b", "b"),
    ],
)
def test_environment_files(text: str, value: str) -> None:
    (variable,) = read_variables(text, "f")
    assert (variable.name, variable.value) == ("A", value)


def test_environment_files_tell_their_lines() -> None:
    found = read_variables("# x\nA=b\\\nc\nD='e\nf'\nG=h", "f")
    assert [(one.name, one.value, one.place.line) for one in found] == [
        ("A", "bc", 2),
        ("D", "e\nf", 4),
        ("G", "h", 6),
    ]


def test_systemd_passes_over_what_is_no_assignment() -> None:
    text = "junk\nexport A=b\nC=d"
    assert [one.name for one in read_variables(text, "f", of_unit=True)] == ["C"]
    with pytest.raises(UsageError, match=r"f:1: 'junk' is not NAME=VALUE"):
        list(read_variables(text, "f"))


@pytest.mark.parametrize(
    "read", [lambda text: list(read_variables(f"A={text}", "f")), lambda text: split_words(text, HERE)]
)
@pytest.mark.parametrize("quote", ['"', "'"])
def test_a_quote_that_is_not_closed(read: object, quote: str) -> None:
    assert callable(read)
    with pytest.raises(UsageError, match=r"f:1: a quotation mark . is not closed"):
        read(f"{quote}b")


def test_a_shell_quote_that_is_not_closed() -> None:
    with pytest.raises(UsageError, match=r"f:2: a quotation mark . is not closed"):
        list(split_commands("true\netcd 'a", HERE, {}))


@pytest.mark.parametrize(
    ("unit", "text", "expanded"),
    [
        ("etcd.service", "%n %N %p %%x", "etcd.service etcd etcd %x"),
        ("etcd@one.service", "%p %i %I %n", "etcd one one etcd@one.service"),
        ("etcd@a-b\\x2dc.service", "%i %I", "a-b\\x2dc a/b-c"),
    ],
)
def test_specifiers(unit: str, text: str, expanded: str) -> None:
    word = Specifiers(unit).expand(Word(text, HERE))
    assert (word.text, word.unresolved) == (expanded, ())


@pytest.mark.parametrize(
    ("unit", "letter"), [("etcd.service", "H"), ("etcd.service", "S"), ("etcd@.service", "i"), ("", "p")]
)
def test_specifiers_that_are_not_expanded(unit: str, letter: str) -> None:
    word = Specifiers(unit).expand(Word(f"a%{letter}", HERE))
    assert word.unresolved == (f"%{letter}",)
