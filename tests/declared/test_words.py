"""Words of systemd units, shell scripts and environment files."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from pytest_etcdtls.declared.declaration import SourceLine
from pytest_etcdtls.declared.shell import Allowance, Variable, Word, assignments, split_commands
from pytest_etcdtls.declared.systemd import expand_specifiers, read_variables, split_words, substitute
from pytest_etcdtls.errors import UsageError

HERE = SourceLine("f", 1)


def _systemd(text: str, **variables: str) -> list[str]:
    known = {name: Variable(name, value, HERE) for name, value in variables.items()}
    return [word.text for word in substitute(split_words(text, HERE), known, Allowance())]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("etcd --name=a  --b", ["etcd", "--name=a", "--b"]),
        ("etcd '--name=a b' \"c d\"", ["etcd", "--name=a b", "c d"]),
        ('etcd --name="a b"', ["etcd", "--name=a b"]),
        (r"etcd \"a\' '\\b'", ["etcd", "\"a'", r"\b"]),
        ("etcd $ARGS end", ["etcd", "--one", "two three", "end"]),
        ("etcd ${ARGS}", ["etcd", '--one "two three"']),
        ("etcd x$ARGS $$ARGS $${ARGS}", ["etcd", "x$ARGS", "$ARGS", "${ARGS}"]),
        ("etcd $NONE x${NONE}y", ["etcd", "xy"]),
        ('etcd ""', ["etcd", ""]),
    ],
)
def test_systemd_words(text: str, words: list[str]) -> None:
    assert _systemd(text, ARGS='--one "two three"') == words


@pytest.mark.parametrize("escape", [r"\x20", r"\u00e9", r"\101", r"\n", r"\q", "\\"])
def test_other_escapes_of_systemd_are_refused(escape: str) -> None:
    with pytest.raises(UsageError, match=r"f:1: the escape '.*' is not read: pass a copy with the character"):
        split_words(f"etcd --name=a{escape}", HERE)


def test_systemd_words_have_line_numbers() -> None:
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
    "etcd --name=a 1>>/dev/null 2>/dev/null; etcd --name=b 2>&1",
]


@pytest.mark.parametrize("script", SCRIPTS)
def test_shell_words_are_those_of_a_shell(script: str) -> None:
    """A real shell runs the script, with a function in the place of etcd."""
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
    commands = [
        command for command in split_commands(script, HERE, known, Allowance()) if command[0].text == "etcd"
    ]
    assert [word.text for word in commands[-1][1:]] == done.stdout.split("\0")[:-1]


def test_the_output_of_a_command_is_unresolved() -> None:
    (command,) = split_commands("etcd --name=$(hostname -s) `id` $OTHER ${OTHER%x} $1", HERE, {}, Allowance())
    assert [word.unresolved for word in command] == [
        (),
        ("$(hostname -s)",),
        ("`id`",),
        ("OTHER",),
        ("${OTHER%x}",),
        ("$1",),
    ]


def test_assignments_before_a_command() -> None:
    (command,) = split_commands("env A=b C='d e' etcd F=g", HERE, {}, Allowance())
    assert {name: one.value for name, one in assignments(command).items()} == {"A": "b", "C": "d e"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("A=b", "b"),
        ("  A = b c  ", "b c"),
        ('A="b c" ', "b c"),
        ("A='b\"c'", 'b"c'),
        ("A=b\\\n c", "b c"),
        ('A="b \\\n c"', "b  c"),
        ("A=", ""),
        ('A=""', ""),
        ("A=b # no comment", "b # no comment"),
        ("# A=c\n; A=d\n\nA=b", "b"),
        ("export A=b", "b"),
    ],
)
def test_environment_files(text: str, value: str) -> None:
    (variable,) = read_variables(text, "f")
    assert (variable.name, variable.value) == ("A", value)


def test_variables_of_environment_files_have_line_numbers() -> None:
    found = read_variables("# x\nA=b\\\nc\nG=h", "f")
    assert [(one.name, one.value, one.place.line) for one in found] == [("A", "bc", 2), ("G", "h", 4)]


@pytest.mark.parametrize(
    "value", ['b"c"', "'b'\"c\"", '"b\\"c"', "b\\ c", "'b\nc'", '"b\nc"', '"b', "'b", "'b\\'"]
)
def test_other_quoting_of_environment_files_is_refused(value: str) -> None:
    with pytest.raises(
        UsageError, match="f:2: the value of A has a backslash, or quotation marks that do not"
    ):
        list(read_variables(f"# x\nA={value}\nB=c", "f"))


def test_systemd_ignores_lines_that_are_not_assignments() -> None:
    text = "junk\nexport A=b\nC=d"
    assert [one.name for one in read_variables(text, "f", of_unit=True)] == ["C"]
    with pytest.raises(UsageError, match=r"f:1: the line is not NAME=VALUE"):
        list(read_variables(text, "f"))


@pytest.mark.parametrize("quote", ['"', "'"])
def test_an_unclosed_quote_in_a_unit_is_refused(quote: str) -> None:
    with pytest.raises(UsageError, match=r"f:1: a quotation mark . is not closed"):
        split_words(f"{quote}b", HERE)


def test_an_unclosed_quote_in_a_script_is_refused() -> None:
    with pytest.raises(UsageError, match=r"f:2: a quotation mark . is not closed"):
        list(split_commands("true\netcd 'a", HERE, {}, Allowance()))


@pytest.mark.parametrize(
    ("unit", "text", "expanded"),
    [
        ("etcd.service", "%n %N %p %%x", "etcd.service etcd etcd %x"),
        ("etcd@one.service", "%p %i %I %n", "etcd one one etcd@one.service"),
        ("etcd@a-b.service", "%i %I", "a-b a/b"),
    ],
)
def test_specifiers(unit: str, text: str, expanded: str) -> None:
    word = expand_specifiers(Word(text, HERE), unit)
    assert (word.text, word.unresolved) == (expanded, ())


@pytest.mark.parametrize(
    ("unit", "letter"),
    [
        ("etcd.service", "H"),
        ("etcd.service", "S"),
        ("etcd@.service", "i"),
        ("", "p"),
        ("etcd@a\\x2db.service", "I"),
    ],
)
def test_other_specifiers_are_unresolved(unit: str, letter: str) -> None:
    word = expand_specifiers(Word(f"a%{letter}", HERE), unit)
    assert word.unresolved == (f"%{letter}",)
