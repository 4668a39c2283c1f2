"""What a command reads in the shell where it is pasted."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from pytest_etcdtls.pki.profile import Identity
from pytest_etcdtls.role import Role
from pytest_etcdtls.target import ConnectTo, Listener, PortCredentials, Target
from pytest_etcdtls.tls.command import (
    ANY_SHELL,
    GOOD_CLIENT,
    HASHED_KEY,
    Command,
    Shell,
    compare,
    compare_leaf,
    curl,
    etcdctl,
    s_client,
    send_nothing,
    show_file,
    show_leaf,
)


def _listener(host: str, port: int, role: Role = Role.CLIENT, **more: Any) -> Listener:
    label = f"{role}-{port}"
    return Listener(role=role, scheme="https", host=host, port=port, member="m0", label=label, **more)


def _target(*listeners: Listener, **more: Any) -> Target:
    return dataclasses.replace(Target(label="live", origin="live", listeners=listeners), **more)


def _first_line(command: Command, shell: Shell = ANY_SHELL) -> str:
    return command.render(shell).partition("\n")[0]


TUNNEL = Shell(_target(_listener("etcd.example", 2379, connect_to=("127.0.0.1", 12379))))
TO_A_NAME = Shell(_target(_listener("10.0.0.11", 2379, connect_to=("bastion", 2379))))
TO_IPV6 = Shell(_target(_listener("10.0.0.11", 2379, connect_to=("fe80::1%eth0", 2379))))
BY_RULE = Shell(_target(connect_to=(ConnectTo(text="", host="etcd.example", to_port=12379),)))
NAME, ADDRESS, ZONE = "https://etcd.example:2379", "https://10.0.0.11:2379", "https://[fe80::1%eth0]:2379"
_TLS = "--insecure-transport=false --insecure-skip-tls-verify endpoint status"
_CURL = "curl -sS -i -k --http1.1"


@pytest.mark.parametrize(
    ("command", "shell", "line"),
    [
        (
            send_nothing(NAME, ""),
            TUNNEL,
            "time timeout 30 curl -sS --connect-to ::127.0.0.1:12379 telnet://etcd.example:2379",
        ),
        (curl(ADDRESS), BY_RULE, f"{_CURL} https://10.0.0.11:2379/version"),
        (
            curl(ADDRESS),
            TO_IPV6,
            f"{_CURL} --connect-to '::[fe80::1%eth0]:2379' https://10.0.0.11:2379/version",
        ),
        (curl(ZONE), ANY_SHELL, f"{_CURL} 'https://[fe80::1%eth0]:2379/version'"),
        (s_client(ADDRESS), TO_A_NAME, "openssl s_client -connect bastion:2379 -noservername </dev/null"),
        (s_client(NAME), BY_RULE, "openssl s_client -connect etcd.example:12379 </dev/null"),
        (
            s_client(NAME, connect_to=("::1", 2379)),
            TUNNEL,
            "openssl s_client -connect '[::1]:2379' -servername etcd.example </dev/null",
        ),
        (
            compare_leaf(NAME, "a b.crt"),
            TUNNEL,
            "openssl s_client -connect 127.0.0.1:12379 -servername etcd.example </dev/null 2>/dev/null | "
            "openssl x509 | "
            "diff - 'a b.crt' && echo same",
        ),
        (etcdctl(NAME), TUNNEL, f"etcdctl --endpoints=https://127.0.0.1:12379 {_TLS}"),
        (etcdctl(ZONE), ANY_SHELL, f"etcdctl '--endpoints=https://[fe80::1%25eth0]:2379' {_TLS}"),
    ],
)
def test_commands_lead_where_the_run_connects(command: Command, shell: Shell, line: str) -> None:
    assert _first_line(command, shell) == line
    if command == etcdctl(NAME):
        assert '# look for "https://127.0.0.1:12379," and more in a row' in command.render(shell)


def _identity(name: str) -> Identity:
    return Identity(name=name, certificate_file=f"{name}.crt", key_file=f"{name}.key")


def test_each_listener_gets_the_files_of_the_client_that_it_accepts() -> None:
    """2379 is the beginning of 23790."""
    accepted = {2379: _identity("first"), 23790: _identity("second")}
    target = _target(
        *(_listener("h", 2379), _listener("h", 23790), _listener("h", 2380, Role.PEER)),
        client=PortCredentials(identities=(_identity("client"),)),
        peer=PortCredentials(identities=(Identity(name="in-memory"), _identity("member"))),
    )
    shell = Shell(target, lambda listener, _: accepted.get(listener.port))
    files = {
        "https://h:2379": "first",
        "https://h:23790": "second",
        "https://h:2380": "member",
        "https://other:2379": "client",
    }
    for url, name in files.items():
        assert f"--cert {name}.crt --key {name}.key" in _first_line(curl(url, client=GOOD_CLIENT), shell)
        assert f"-cert {name}.crt -key {name}.key" in _first_line(s_client(url, client=GOOD_CLIENT), shell)
        assert f"--cert={name}.crt --key={name}.key" in _first_line(etcdctl(url, GOOD_CLIENT), shell)
    elsewhere = curl("https://other:2380", role=Role.PEER, client=GOOD_CLIENT)
    assert "--cert member.crt" in _first_line(elsewhere, shell)


def test_an_identity_without_files_is_made_first() -> None:
    recipe = ("openssl req -out expired.csr", "openssl x509 -req -in expired.csr -out expired.crt")
    expired = Identity(name="expired", recipe=recipe)
    shell = Shell(_target(_listener("h", 2379)), lambda _, name: {"expired": expired}.get(name))
    command = s_client("https://h:2379", client="expired")
    shown, again = command.render(shell), curl("https://h:2379", client="expired").render(shell)
    assert "-cert expired.crt -key expired.key" in shown
    first = "\n".join([*recipe, shown])
    assert shell.texts([command, "true", replace(command), curl("https://h:2379", client="expired")]) == (
        *(first, "true", shown, again),
    )


@pytest.mark.parametrize("path", [None, "/dev/fd/63", "/proc/self/fd/63"])
def test_a_comment_names_the_files_to_write_for_an_identity_without_files(path: str | None) -> None:
    client = Identity(name="client", certificate_file="client.pem", key_file=path)
    shell = Shell(_target(_listener("h", 2379)), lambda _, __: client)
    [text] = shell.texts([curl("https://h:2379", client="client")])
    first, line, _ = text.splitlines()
    assert first == "# write the certificate client and its key to client.pem and client.key first"
    assert "--cert client.pem --key client.key" in line


def test_commands_whose_outputs_are_compared_are_one_text() -> None:
    pair = compare(show_leaf(NAME, HASHED_KEY), show_leaf(ADDRESS, HASHED_KEY), look="the same hash")
    [text] = ANY_SHELL.texts(pair)
    first, second, look = text.splitlines()
    assert "etcd.example" in first
    assert "10.0.0.11" in second
    assert look == "# look for the same hash"


def test_a_command_that_reads_a_missing_file_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "server.crt").touch()
    shell = Shell(_target(), has_file=os.path.exists)
    there, gone = str(tmp_path / "server.crt"), str(tmp_path / "gone.crt")
    assert len(shell.texts([show_file(there), show_file(gone), compare_leaf(NAME, gone)])) == 1
    assert len(shell.texts(compare(show_file(gone), show_leaf(NAME), look="two dates"))) == 0


@pytest.mark.parametrize("command", [curl(NAME), etcdctl(NAME), s_client(NAME)])
def test_no_certificate_is_presented_unless_one_is_named(command: Command) -> None:
    listener = _listener("etcd.example", 2379)
    shell = Shell(_target(listener, client=PortCredentials(identities=(_identity("a"),))))
    assert "a.crt" not in command.render(shell)
    unknown = Shell(_target(listener))
    assert replace(command, client=GOOD_CLIENT).render(unknown) == command.render(unknown)


def test_exported_variables_do_not_change_what_a_command_does() -> None:
    """Neither those of etcdctl nor a proxy."""
    shell = Shell(_target(), exported=("ETCDCTL_KEY", "PATH", "ETCDCTL_API", "ETCDCTL_CERT", "ETCD_NAME"))
    assert _first_line(etcdctl(NAME), shell) == (
        f"env -u ETCDCTL_CERT -u ETCDCTL_KEY etcdctl --endpoints={NAME} {_TLS}"
    )
    assert _first_line(curl(NAME), shell) == _first_line(curl(NAME))
    shell = Shell(_target(), exported=("HTTPS_PROXY", "https_proxy", "no_proxy", "PATH"))
    assert _first_line(curl(NAME), shell) == f"{_CURL} --noproxy '*' https://etcd.example:2379/version"
    assert _first_line(etcdctl(NAME), shell).startswith("env -u HTTPS_PROXY -u https_proxy etcdctl ")
    assert _first_line(s_client(NAME), shell) == _first_line(s_client(NAME))


def test_a_comment_is_one_line_and_text_is_taken_as_it_is() -> None:
    command = s_client(NAME, look="CN=a\nrm -rf x")
    assert str(command).splitlines()[1:] == [r"# look for CN=a\nrm -rf x"]
    text = "curl --cert client.crt --key client.key https://etcd.example:2379  # $HOME"
    assert TUNNEL.texts([text]) == (text,)
