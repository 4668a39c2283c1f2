"""Declarations from a few words, for tests."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from pytest_etcdtls.declared.declaration import CRLFile, Declaration, DeclaredMember, DeclaredPaths
from pytest_etcdtls.declared.effective import Effective, effective_of
from pytest_etcdtls.declared.reading import from_command_line, read_declarations
from pytest_etcdtls.declared.traps import traps_of
from pytest_etcdtls.declared.traps.trap import FoundTrap

URLS = ("--listen-client-urls=https://10.0.0.11:2379", "--advertise-client-urls=https://10.0.0.11:2379")
PEER_URLS = (
    "--listen-peer-urls=https://10.0.0.11:2380",
    "--initial-advertise-peer-urls=https://10.0.0.11:2380",
)
PAIR = ("--cert-file=/pki/server.crt", "--key-file=/pki/server.key")
PEER_PAIR = ("--peer-cert-file=/pki/peer.crt", "--peer-key-file=/pki/peer.key")
CA, PEER_CA = "--trusted-ca-file=/pki/ca.crt", "--peer-trusted-ca-file=/pki/peer-ca.crt"
AUTH, PEER_AUTH = "--client-cert-auth", "--peer-client-cert-auth"
GOOD = (*URLS, *PEER_URLS, *PAIR, *PEER_PAIR, CA, PEER_CA, AUTH, PEER_AUTH)


def flags(*arguments: str, environment: Mapping[str, str] | None = None) -> Declaration:
    """Return the declaration of a command line."""
    return from_command_line(["etcd", *arguments], environment)


def without(*names: str) -> tuple[str, ...]:
    """Return the good flags without some."""
    return tuple(flag for flag in GOOD if flag.partition("=")[0].lstrip("-") not in names)


def read_declaration(path: Path, *, pki_dir: Path | None = None) -> Declaration:
    """Return the declaration in a file of one member."""
    [declaration] = read_declarations(path, pki_dir=pki_dir)
    return declaration


def written(directory: Path, text: str, name: str = "declaration") -> Declaration:
    """Return the declaration in a file with that text."""
    path = directory / name
    path.write_text(text, encoding="utf-8")
    return read_declaration(path)


def member(declaration: Declaration, crls: Mapping[str, CRLFile] | None = None) -> DeclaredMember:
    """Return the member of a declaration with the CRL files of declared paths."""
    return DeclaredMember(declaration=declaration, paths=DeclaredPaths(), crls=crls or {})


def effective(
    declaration: Declaration, version: str | None = None, crls: Mapping[str, CRLFile] | None = None
) -> Effective:
    """Return what etcd derives from a declaration."""
    return effective_of(member(declaration, crls), version)


def find_traps(
    declaration: Declaration, version: str | None = None, crls: Mapping[str, CRLFile] | None = None
) -> tuple[FoundTrap, ...]:
    """Return the traps of a declaration."""
    return traps_of(member(declaration, crls), version)


POD = """
apiVersion: v1
kind: Pod
metadata: {{name: etcd}}
spec:
  securityContext: {{runAsUser: {user}, runAsGroup: {user}}}
  containers: [{{name: etcd, command: {command}}}]
"""
UNIT = "[Service]\nUser={user}\nGroup={user}\nExecStart={command}\n"


def write_declaration(directory: Path, text: str, user: int, command: Sequence[str]) -> Path:
    """Write a unit or a pod of a user, and return the file."""
    file = directory / ("etcd.yaml" if text is POD else "etcd.service")
    shown = json.dumps(command) if text is POD else " ".join(command)
    file.write_text(text.format(user=user, command=shown), encoding="utf-8")
    return file
