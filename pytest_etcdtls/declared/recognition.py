"""Which kind of declaration a text is, told by what is in it.

Does not read it further than that; a text that is none of the kinds is named for what it looks like.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from pytest_etcdtls.declared.declaration import Form, Place
from pytest_etcdtls.declared.etcd_yaml import looks_like_configuration
from pytest_etcdtls.declared.manifest import is_manifest
from pytest_etcdtls.declared.shell_words import split_commands
from pytest_etcdtls.declared.words import split_off_etcd
from pytest_etcdtls.errors import UsageError

_SECTION = re.compile(r"^\s*\[(Unit|Service|Install)\]\s*$", re.MULTILINE)
_MENTION = re.compile(r"^\s*[#;].*\bETCD_[A-Z]", re.MULTILINE)
_OF_K3S = re.compile(
    r"^(etcd-arg|write-kubeconfig-mode|cluster-init|node-name|tls-san|kube-apiserver-arg)\s*:", re.M
)
_PEM = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----")

KINDS = (
    "a Kubernetes manifest (kubeadm: /etc/kubernetes/manifests/etcd.yaml), an etcd.conf.yml, an environment "
    "file with ETCD_ variables, a systemd unit, or a command line"
)


def recognise(text: str, file: str) -> Form:
    """Return what kind of declaration a text is.

    Raises:
        UsageError: if it is none, or not valid as what it looks like.
    """
    if _SECTION.search(text):
        return Form.UNIT
    if is_manifest(text):
        return Form.MANIFEST
    lines = list(_significant(text))
    if not lines:
        if _MENTION.search(text):
            return Form.ENVIRONMENT_FILE  # as Debian ships it: every line a comment
        raise UsageError(f"{file} holds comments only: pass {KINDS}")
    if _is_list(lines[0]) or _starts_etcd(text, file):
        return Form.COMMAND_LINE
    if re.match(r"(export\s+)?[A-Za-z_][A-Za-z0-9_]*\s*=", lines[0]):
        return Form.ENVIRONMENT_FILE
    if _OF_K3S.search(text):
        raise UsageError(
            f"{file} is k3s's or RKE2's own configuration: etcd's is the file that they write to "
            "server/db/etcd/config below their data directory, /var/lib/rancher/k3s or /var/lib/rancher/rke2"
        )
    if _PEM.search(text):
        raise UsageError(
            f"{file} holds a {_PEM.findall(text)[0]}, not what etcd was told to be: pass {KINDS}"
        )
    if looks_like_configuration(text, file):
        return Form.YAML
    raise UsageError(f"{file} is none of what etcd is declared with: pass {KINDS}")


def _significant(text: str) -> Iterator[str]:
    for line in text.splitlines():
        stripped = line.strip()
        if stripped and stripped[0] not in "#;" and stripped != "---":
            yield stripped


def _is_list(line: str) -> bool:
    """Return whether a text is a list of arguments, as copied from a manifest or ``docker inspect``."""
    return line.startswith(("- ", "[")) or line == "-"


def _starts_etcd(text: str, file: str) -> bool:
    """Return whether a text begins with a flag, or is a script in which some command starts etcd."""
    try:
        commands = list(split_commands(text, Place(file, 1), {}))
    except UsageError:
        return False
    return bool(commands) and (commands[0][0].is_flag or any(map(split_off_etcd, commands)))
