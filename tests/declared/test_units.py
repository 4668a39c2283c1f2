"""Units, their words, drop-ins and environment files, in systemd's directories or in one directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from declared.declaring import read_declaration
from pytest_etcdtls.declared.declaration import SourceLine
from pytest_etcdtls.declared.start import Word
from pytest_etcdtls.declared.systemd import expand_specifiers, read_variables
from pytest_etcdtls.errors import UsageError

START = "ExecStart=/usr/bin/etcd"
ARGUMENTS = """Environment='ARGS=--metrics=basic "--name=two three"'"""


def _unit(*lines: str) -> str:
    return "[Service]\n" + "\n".join(lines) + "\n"


def test_drop_ins_of_all_directories_are_read_by_name(tmp_path: Path) -> None:
    unit = tmp_path / "usr/lib/systemd/system/etcd.service"
    files = {
        "usr/lib/systemd/system/etcd.service": _unit(
            "ExecStart=/usr/bin/etcd --name=a", "Environment=ETCD_METRICS=a"
        ),
        "usr/lib/systemd/system/etcd.service.d/10.conf": _unit("Environment=ETCD_METRICS=b"),
        "run/systemd/system/etcd.service.d/10.conf": _unit("Environment=ETCD_METRICS=c ETCD_LOGGER=c"),
        "etc/systemd/system/etcd.service.d/05.conf": _unit("Environment=ETCD_LOGGER=d"),
        "etc/systemd/system/etcd.service.d/note.txt": "no drop-in",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    declaration = read_declaration(unit)
    assert {name: one.value for name, one in declaration.settings.items()} == {
        "name": "a",
        "metrics": "c",
        "logger": "c",
    }
    assert declaration.settings["metrics"].place.file == str(
        tmp_path / "run/systemd/system/etcd.service.d/10.conf"
    )


def test_environment_files_below_the_same_root(tmp_path: Path) -> None:
    unit = tmp_path / "etc/systemd/system/etcd@one.service"
    unit.parent.mkdir(parents=True)
    unit.write_text(
        _unit(
            "EnvironmentFile=/etc/etcd/%i.env",
            "EnvironmentFile=-/etc/etcd/gone.env",
            "Environment=ETCD_NAME=overridden ETCD_DATA_DIR=/d",
            "ExecStart=/usr/bin/etcd",
        ),
        encoding="utf-8",
    )
    (tmp_path / "etc/etcd").mkdir()
    (tmp_path / "etc/etcd/one.env").write_text("ETCD_NAME=one\n", encoding="utf-8")
    declaration = read_declaration(unit)
    assert (declaration.text("name"), declaration.text("data-dir")) == ("one", "/d")
    assert [setting.value for setting in declaration.overridden] == ["overridden"]


@pytest.mark.parametrize(
    ("lines", "name"),
    [
        (("ExecStart=/bin/false", "ExecStart=", "ExecStart=-/usr/bin/etcd --name=a"), "a"),
        (("ExecStart=+/usr/bin/etcd --name=$NAME", "Environment=NAME=b"), "$NAME"),
        (("ExecStart=+/usr/bin/etcd --name=${NAME}", "Environment=NAME=b"), "b"),
        (("ExecStart=/usr/bin/etcd \\", "# no", "; no", "  --name=a \\", "--metrics=basic"), "a"),
        (("Environment=ETCD_NAME=a", "Environment=", "ExecStart=/usr/bin/etcd --name=b"), "b"),
        ((f"{START} '--name=a b'",), "a b"),
        ((rf'{START} --name=\"a\" "--metrics=\\b"',), '"a"'),
        ((f"{START} $ARGS --logger=zap", ARGUMENTS), "two three"),
        ((f"{START} --name=${{ARGS}}", ARGUMENTS), '--metrics=basic "--name=two three"'),
        ((f"{START} --name=x$ARGS", ARGUMENTS), "x$ARGS"),
        ((f"{START} --name=$$ARGS$${{ARGS}}", ARGUMENTS), "$ARGS${ARGS}"),
        ((f"{START} $NONE --name=x${{NONE}}y",), "xy"),
        ((f'{START} --cert-file "" --name=a',), "a"),
    ],
)
def test_exec_start(lines: tuple[str, ...], name: str, tmp_path: Path) -> None:
    unit = tmp_path / "etcd.service"
    unit.write_text(_unit(*lines), encoding="utf-8")
    declaration = read_declaration(unit)
    assert declaration.text("name") == name
    assert not declaration.shadowed


def test_the_output_of_systemctl_cat_is_read(tmp_path: Path) -> None:
    path = tmp_path / "printed.txt"
    path.write_text(
        "# /lib/systemd/system/etcd.service\n[Unit]\nDescription=x\n\n[Service]\nExecStart=/usr/bin/etcd\n\n"
        "# /etc/systemd/system/etcd.service.d/override.conf\n[Service]\nExecStart=\n"
        "ExecStart=/usr/bin/etcd --name=%p\n",
        encoding="utf-8",
    )
    setting = read_declaration(path).settings["name"]
    assert (setting.value, str(setting.place)) == (
        "etcd",
        "/etc/systemd/system/etcd.service.d/override.conf:3",
    )


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ((START, "ExecStart="), r"etcd.service: no ExecStart= is in force"),
        (
            ("ExecStart=/usr/bin/sudo -u etcd /usr/bin/etcd --name=a",),
            "etcd.service:2: a unit that starts /usr/bin/sudo, not etcd itself, is not read",
        ),
        ((START, "EnvironmentFile=/etc/gone"), r"etcd.service:3: EnvironmentFile=/etc/gone"),
        ((START, "junk"), r"etcd.service:3: the line is neither"),
        (("ExecStart=/usr/bin/etcd 'a",), r"etcd.service:2: a quotation mark is not closed"),
        (
            ("ExecStart=/usr/bin/etcd --cert-file=%E/etcd.crt",),
            r"etcd.service:2: the value of --cert-file .*%E",
        ),
        ((START, "ExecStart=/usr/bin/etcd"), r"etcd.service:3: 2 ExecStart= are in force"),
        (
            ("ExecStart=@/usr/bin/etcd etcd --name=a",),
            r"etcd.service:2: the prefix @ of ExecStart= is not read",
        ),
        (("ExecStart=/usr/bin/etcd --name=a\\x20b",), r"etcd.service:2: the escape '.*x' is not read"),
        (("PassEnvironment=ETCD_NAME", START), "etcd.service:2: PassEnvironment= is not read"),
        (("UnsetEnvironment=A", START), "etcd.service:2: UnsetEnvironment= is not read"),
        (("ExecStart=/usr/bin/etcd --name=" + "''" * 500_000,), "etcd.service:2: the command is longer than"),
    ],
)
def test_units_that_are_refused(lines: tuple[str, ...], message: str, tmp_path: Path) -> None:
    unit = tmp_path / "etcd.service"
    unit.write_text(_unit(*lines), encoding="utf-8")
    with pytest.raises(UsageError, match=message):
        read_declaration(unit)


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
    word = expand_specifiers(Word(text, SourceLine("f", 1)), unit)
    assert (word.text, word.unresolved) == (expanded, unresolved)
