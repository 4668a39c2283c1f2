"""Units with drop-ins and environment files, in systemd's directories or in one directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from declared.declaring import read_declaration
from pytest_etcdtls.errors import UsageError

START = "ExecStart=/usr/bin/etcd"


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
    ],
)
def test_units_that_are_refused(lines: tuple[str, ...], message: str, tmp_path: Path) -> None:
    unit = tmp_path / "etcd.service"
    unit.write_text(_unit(*lines), encoding="utf-8")
    with pytest.raises(UsageError, match=message):
        read_declaration(unit)
