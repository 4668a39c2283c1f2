"""Words of systemd units, shell scripts and environment files."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from pytest_etcdtls.declared.declaration import SourceLine
from pytest_etcdtls.declared.shell import Expansion, Variable, Word, find_in_script
from pytest_etcdtls.declared.systemd import expand_specifiers, read_variables, split_words, substitute
from pytest_etcdtls.errors import UsageError

HERE = SourceLine("f", 1)


def _systemd(text: str, **variables: str) -> list[str]:
    known = {name: Variable(name, value, HERE) for name, value in variables.items()}
    return [word.text for word in substitute(split_words(text, HERE), known, Expansion())]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("etcd --name=a  --b", ["etcd", "--name=a", "--b"]),
        ("etcd '--name=a b' \"c d\"", ["etcd", "--name=a b", "c d"]),
        ('etcd --name="a b"', ["etcd", "--name=a b"]),
        (r'etcd \"a\" "\\b"', ["etcd", '"a"', r"\b"]),
        ("etcd $ARGS end", ["etcd", "--one", "two three", "end"]),
        ("etcd ${ARGS}", ["etcd", '--one "two three"']),
        ("etcd x$ARGS $$ARGS $${ARGS}", ["etcd", "x$ARGS", "$ARGS", "${ARGS}"]),
        ("etcd $NONE x${NONE}y", ["etcd", "xy"]),
        ('etcd ""', ["etcd", ""]),
    ],
)
def test_systemd_words(text: str, words: list[str]) -> None:
    assert _systemd(text, ARGS='--one "two three"') == words


@pytest.mark.parametrize("escape", [r"\x20", r"\u00e9", r"\101", r"\n", r"\q", r"\'", "\\"])
def test_other_escapes_of_systemd_are_refused(escape: str) -> None:
    with pytest.raises(UsageError, match=r"f:1: the escape .* is not read: pass a copy with the character"):
        split_words(f"etcd --name=a{escape}", HERE)


def test_systemd_words_have_line_numbers() -> None:
    words = split_words("etcd\n--a\n\n'--b c' --d", SourceLine("f", 7))
    assert [(word.text, word.place.line) for word in words] == [
        ("etcd", 7),
        ("--a", 8),
        ("--b c", 10),
        ("--d", 10),
    ]


def _shell(script: str) -> list[str]:
    known = [Variable("NAME", "first", HERE), Variable("BLANKS", "a b", HERE), Variable("EMPTY", "", HERE)]
    return [word.text for word in find_in_script(Word(script, HERE), known, Expansion()).program[1:]]


SCRIPTS = [
    "etcd --name=a --data-dir /d",
    "exec etcd '--name=a b' \"c d\" e\\ f",
    'etcd --name="$NAME" --x=$NAME ${NAME} -${NAME}_$NAME',
    "etcd \\\n  --a \\\n  --b",
    'etcd --a=b,\\\nc --d="e,\\\nf" --g\\\n --h',
    'etcd "a\\"b\\c\\\\d" \'a\\b\'',
    "#!/bin/sh\n# a comment\nset -eu\n\netcd --a",
    "set -x\nNAME=other etcd --a",
    "etcd a''b\"\"c '' \"\"",
    "etcd --cors=* a#b it\\'s \"it's\" a:b@c%d[e]",
    'etcd "$@" --a=${NAME}\n',
    "etcd ';x' '2>&1'",
    # Of several commands, the one that starts etcd.
    "true && etcd --a=$NAME",
    "etcd --a | cat",
    "etcd '--a 2>&1' 2>&1",
    "export A=b\nexport C\nC=$NAME\netcd --a=$A --c=$C",
    "export A=b C='d' E=\"$NAME\"\nF=g H=i\netcd --a=$A --c=$C --e=$E --f=$F --h=$H",
    "if true; then\n etcd --a\nfi",
    "# it's a comment; etcd\n\ntrue || exit 1\nA='b c'; etcd --a \\\n  --b || true",
    "(echo ';' >&2 & )\n[ -n \"$(echo '(')\" ] && exec etcd --a=$NAME 2>/dev/null",
    "for A in 1; do true; done\netcd --b",
]


@pytest.mark.parametrize("script", SCRIPTS)
def test_shell_words_are_those_of_a_shell(script: str) -> None:
    assert _shell(script) == _of_a_real_shell(script)


def _of_a_real_shell(script: str) -> list[str]:
    """Run the script, with a function in the place of etcd that prints its arguments."""
    shell = shutil.which("sh")
    assert shell is not None
    printing = 'etcd() { for word in "$@"; do printf "%s\\0" "$word"; done; }\n'
    done = subprocess.run(
        [shell, "-c", printing + script.replace("exec ", "")],
        env={"NAME": "first", "BLANKS": "a b", "EMPTY": ""},
        capture_output=True,
        encoding="utf-8",
        check=True,
        timeout=30,
    )
    return done.stdout.split("\0")[:-1]


@pytest.mark.parametrize(
    ("script", "what"),
    [
        ("etcd --a; etcd --b", "';' in the command of a shell"),
        ("sleep 1\ngosu etcd etcd --a", "the launcher gosu"),
        (". /etc/defaults\netcd --a", r"a script with \."),
        ("eval A=b; etcd --a", "a script with eval"),
        ("cat <<E >f\na\nE\netcd --a", "a script with a here-document"),
        ("etcd --a\n--b", "a line with flags, after one without a backslash at its end,"),
        ("time etcd --a", "the launcher time"),
        ("etcd --a # b", "'#' in the command of a shell"),
        ("etcd --a='$NAME'", r"single quotation marks beside a \$"),
        ('etcd --a="\\$NAME"', r"an escaped \$"),
        ('etcd --a="b$"', r"a \$ that stands for itself"),
        ("etcd --a $BLANKS", "the variable BLANKS, which is empty or has blanks,"),
        ('etcd "--a=$EMPTY"', "the variable EMPTY, which is empty or has blanks,"),
        ("etcdctl get a", "another command than etcd itself"),
        ("sh -c 'etcd \"$@\"' sh --a", r"single quotation marks beside a \$"),
        ('sh -c "etcd --b" sh --a', "a script and its arguments"),
        ('etcd --quota="$((8*1024))"', "an expansion within another one, or arithmetic,"),
        ("etcd --client-cert-auth=${CCA:-${NAME}}", "an expansion within another one, or arithmetic,"),
        ("etcd --name=$@ --b", r"\$@ within a word"),
        ("docker run $OPTIONS image:1 etcd --a", "docker with options in OPTIONS"),
    ],
)
def test_other_scripts_are_refused(script: str, what: str) -> None:
    with pytest.raises(UsageError, match=rf"f:\d: {what} is not read: pass --etcd-pid"):
        _shell(script)


def test_variables_that_a_script_sets() -> None:
    """Only those that are exported are etcd's, and only plain assignments have a known value."""
    script = (
        "A=one\nexport B=$A\nexport NAME\nC=$(id)\nexport C\nif true; then D=x; fi\nread E\n"
        "exec nice -n -19 ionice -c2 -n0 etcd --a=$A --c=$C --d=$D --e=$E"
    )
    started = find_in_script(Word(script, HERE), [Variable("NAME", "first", HERE)], Expansion())
    assert [(word.text, word.unresolved) for word in started.program] == [
        ("etcd", ()),
        ("--a=one", ()),
        ("--c=", ("C",)),
        ("--d=", ("D",)),
        ("--e=", ("E",)),
    ]
    assert {one.name: one.value or one.unresolved for one in started.environment} == {
        "NAME": "first",
        "B": "one",
        "C": "set by the script",
    }
    assert {word.place.line for word in started.program} == {8}


def test_exported_variables_are_never_lost() -> None:
    """Of what is not read, the names are known."""
    script = "export A=$(cat $(which x)) B=/c\nif true; then export C=d; fi\ndeclare -x D=e\netcd"
    started = find_in_script(Word(script, HERE), [], Expansion())
    assert {one.name: one.unresolved for one in started.environment} == dict.fromkeys(
        "ABCD", "set by the script"
    )


def test_the_output_of_a_command_is_unresolved() -> None:
    words = "etcd --a=$(hostname -s) --b=`id` --c=$OTHER --d=${OTHER%x} --e=$1 --f=g"
    assert [word.unresolved for word in find_in_script(Word(words, HERE), (), Expansion()).program] == [
        (),
        ("$(hostname -s)",),
        ("`id`",),
        ("OTHER",),
        ("${OTHER%x}",),
        ("$1",),
        (),
    ]


def test_assignments_before_a_command() -> None:
    started = find_in_script(Word("env A=b C='d e' etcd F=g", HERE), (), Expansion())
    assert {variable.name: variable.value for variable in started.environment} == {"A": "b", "C": "d e"}


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
    with pytest.raises(UsageError, match=r"f:1: a quotation mark is not closed"):
        split_words(f"{quote}b", HERE)


def test_a_script_with_a_part_that_is_not_in_the_file_is_refused() -> None:
    script = Word("etcd --client-cert-auth=", HERE, ("AUTH",))
    with pytest.raises(UsageError, match="a script with AUTH, which is not in this file, is not read"):
        find_in_script(script, [], Expansion())


def test_many_quotation_marks_take_linear_time() -> None:
    with pytest.raises(UsageError, match="the command is longer than"):
        find_in_script(Word("etcd --a=" + "''" * 500_000, HERE), [], Expansion())


@pytest.mark.parametrize("text", ["A=" + "b" * 200_000 + '"', "A='" * 60_000])
def test_long_assignments_take_linear_time(text: str) -> None:
    started = find_in_script(Word(f"{text}\netcd --a=$A", HERE), [], Expansion())
    assert started.program[1].unresolved == ("A",)


def test_an_unclosed_quote_in_a_script_is_refused() -> None:
    with pytest.raises(UsageError, match=r"f:2: a quotation mark is not closed"):
        _shell("etcd \\\n 'a")


@pytest.mark.parametrize(
    ("unit", "text", "expanded"),
    [
        ("etcd.service", "%p %%x", "etcd %x"),
        ("etcd@one.service", "%p %i", "etcd one"),
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
        ("etcd@one.service", "I"),
    ],
)
def test_other_specifiers_are_unresolved(unit: str, letter: str) -> None:
    word = expand_specifiers(Word(f"a%{letter}", HERE), unit)
    assert word.unresolved == (f"%{letter}",)
