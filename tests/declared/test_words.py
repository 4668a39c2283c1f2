"""Words of systemd units, and environment files."""

from __future__ import annotations

import pytest

from pytest_etcdtls.declared.declaration import SourceLine
from pytest_etcdtls.declared.start import Expansion, Variable, Word
from pytest_etcdtls.declared.systemd import expand_specifiers, read_variables, split_words, substitute
from pytest_etcdtls.errors import UsageError

HERE = SourceLine("f", 1)


def _systemd(text: str, **variables: str) -> list[str]:
    known = {name: Variable(name, value, HERE) for name, value in variables.items()}
    return [word.text for word in substitute(split_words(text, HERE), known, Expansion())]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("etcd '--name=a b' \"c d\"", ["etcd", "--name=a b", "c d"]),
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


@pytest.mark.parametrize("escape", [r"\x20", r"\'", "\\"])
def test_other_escapes_of_systemd_are_refused(escape: str) -> None:
    with pytest.raises(UsageError, match=r"f:1: the escape .* is not read: pass a copy with the character"):
        split_words(f"etcd --name=a{escape}", HERE)


def test_systemd_words_have_line_numbers() -> None:
    words = split_words("etcd\n--a\n\n'--b c' --d", SourceLine("f", 7))
    assert [word.place.line for word in words] == [7, 8, 10, 10]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("A=b", "b"),
        ("  A = b c  ", "b c"),
        ("A='b\"c'", 'b"c'),
        ("A=b\\\n c", "b c"),
        ('A="b \\\n c"', "b  c"),
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


@pytest.mark.parametrize("value", ['b"c"', "'b'\"c\"", '"b\\"c"', "b\\ c", "'b\nc'", "'b"])
def test_other_quoting_of_environment_files_is_refused(value: str) -> None:
    with pytest.raises(
        UsageError, match="f:2: the value of A has a backslash, or quotation marks that do not"
    ):
        list(read_variables(f"# x\nA={value}\nB=c", "f"))


def test_systemd_ignores_lines_that_are_not_assignments() -> None:
    text = "junk\nexport A=b\nC=d"
    assert [variable.name for variable in read_variables(text, "f", of_unit=True)] == ["C"]
    with pytest.raises(UsageError, match=r"f:1: the line is not NAME=VALUE"):
        list(read_variables(text, "f"))


def test_many_quotation_marks_take_linear_time() -> None:
    with pytest.raises(UsageError, match="the command is longer than"):
        split_words("etcd --a=" + "''" * 500_000, HERE)


@pytest.mark.parametrize(
    ("unit", "text", "expanded", "unresolved"),
    [
        ("etcd@one.service", "%p %i %%x", "etcd one %x", ()),
        ("etcd.service", "a%H", "a%H", ("%H",)),
        ("etcd@.service", "a%i", "a%i", ("%i",)),
        ("", "a%p", "a%p", ("%p",)),
    ],
)
def test_specifiers(unit: str, text: str, expanded: str, unresolved: tuple[str, ...]) -> None:
    word = expand_specifiers(Word(text, HERE), unit)
    assert (word.text, word.unresolved) == (expanded, unresolved)
