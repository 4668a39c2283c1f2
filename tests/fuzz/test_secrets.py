"""A secret in a file that a reader of users' files is given is in no message and in no result that is shown.

Another file than the one meant may be named: by a mistake, or by a list of clusters from somebody else.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fuzz.readers import READERS, Read
from given import Given

from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.settings.cluster_list import ClusterList, Shard
from pytest_etcdtls.settings.port_credentials import read_secrets

SECRET = "hunter2SECRET"
TEXTS = {
    "token": f"s.{SECRET}\n",
    "lines": f"{SECRET}\n{SECRET}\n\n{SECRET}",
    "user": f"root:{SECRET}\n",
    "variable": f"PASSWORD={SECRET}\nETCD_NAME=m0\n",
    "variables": f"ETCD_NAME=m0\nexport PASSWORD {SECRET}\nPASSWORD: {SECRET}\nETCDCTL_USER=root:{SECRET}\n",
    "quoted": f'ETCD_NAME=m0\nPASSWORD="{SECRET}\nTOKEN={SECRET}" {SECRET}\n',
    "yaml": f"name: m0\nclient-transport-security:\n  password: {SECRET}\ntoken: [{SECRET}\n",
    "yaml list": f"- {SECRET}\n- password: *{SECRET}\n",
    "toml": f"[[waiver]]\npassword = \"{SECRET}\"\ntoken = {SECRET}\n[[section]]\nsecret = '{SECRET}'\n",
    "json": f'{{"password": "{SECRET}", "schema_version": "{SECRET}", }}',
    "command": f"etcd --name m0 --password {SECRET} --api-token={SECRET}\n",
    "docker": f"docker run -e PASSWORD={SECRET} -e TOKEN {SECRET} etcd etcd --name=m0\n",
    "unit": f'[Service]\nEnvironment=PASSWORD={SECRET} "TOKEN={SECRET}\n'
    f"ExecStart=/usr/bin/etcd --password={SECRET}\n",
    "pod": "apiVersion: v1\nkind: Pod\nspec:\n  containers:\n  - command: [etcd, --name=m0]\n    env:\n"
    f"    - {{name: ETCD_ROOT_PASSWORD, value: {SECRET}}}\n    - {{name: TOKEN, value: [{SECRET}]}}\n",
    "key": f"-----BEGIN PRIVATE KEY-----\n{SECRET}\n-----END PRIVATE KEY-----\n",
    "encrypted key": f"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n{SECRET}: x\n\n{SECRET}\n",
    "clusters": f'[[cluster]]\nlabel = "a"\nendpoints = "https://root:{SECRET}@10.0.0.1:2379"\n',
    "clusters yaml": f"- label: a\n  endpoints: root:{SECRET}@10.0.0.1:2379\n  password: {SECRET}\n",
}


def _clusters(data: bytes) -> object:
    found = ClusterList("c", data.decode("utf-8", "replace"), Given(Path("/nowhere")), Shard())
    return [found.settings(cluster) for cluster in found.clusters]


def _passwords(data: bytes) -> None:
    path = Path("secret")
    path.write_bytes(data)
    read_secrets(path, "--etcd-password-file")


_OF_FILES = (
    *("certificates-file", "key-file", "log-file", "profile", "waivers", "baseline", "configuration"),
    *("declaration", "unit"),
)
FILE_READERS: dict[str, Read] = {
    **{name: READERS[name].read for name in _OF_FILES},
    "clusters": _clusters,
    "passwords": _passwords,
}


def _mutated(text: str, number: int, source: random.Random) -> Iterator[str]:
    """Yield texts with other punctuation, and with lines left out or repeated. Words stay as they are."""
    yield text
    # Without the punctuation of a command line, the name of an option does not say that it has a secret.
    for _ in range(0 if text.startswith(("etcd", "docker", "[Service]", "apiVersion", "- ")) else number):
        lines = text.split("\n")
        for _ in range(source.randint(0, 2)):
            at = source.randrange(len(lines))
            lines[at : at + 1] = source.choice(([], [lines[at]] * 2))
            lines = lines or [text]
        changed = "\n".join(lines)
        for _ in range(source.randint(1, 3)):
            places = [match.span() for match in re.finditer(r"[^A-Za-z0-9]|\Z", changed)]
            begin, end = source.choice(places)
            part = source.choice(("", "\n", " ", "'", '"', "=", ":", "[", "{", "\\", "\0", "- "))
            changed = changed[:begin] + part + changed[source.choice((begin, end)) :]
        yield changed


def _shown(read: Read, text: str) -> str:
    try:
        found: Any = read(text.encode())
    except UsageError as error:
        return str(error)
    except ValueError as error:
        return str(error)
    return repr(found)


@pytest.mark.parametrize("name", FILE_READERS)
def test_a_secret_in_a_file_is_not_shown(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shown: dict[str, str] = {}
    for kind, text in TEXTS.items():
        for one in _mutated(text, 60, random.Random(f"{name} {kind}")):  # noqa: S311 - chooses inputs
            found = _shown(FILE_READERS[name], one)
            if SECRET in found:
                shown.setdefault(kind, f"{one!r}: {found[:300]}")
    assert shown == {}
