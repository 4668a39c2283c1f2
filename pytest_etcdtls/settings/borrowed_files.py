"""Files at one path that cannot be those of every member that declares the path: whose are they?

Copies of one node's files, set against the declarations of all nodes, are those of one of them. A served
certificate tells whose it is by the names in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pytest_etcdtls.declared.member import DeclaredMember
from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.pki.loading import load_certificates
from pytest_etcdtls.pki.names import names_host

PAIRS = (("cert-file", "key-file"), ("peer-cert-file", "peer-key-file"))
"""What a member has of its own, certificate first."""


def disown(
    told: DeclaredMember, hosts: Iterable[str], here: bool, everybody: Sequence[DeclaredMember]
) -> frozenset[str]:
    """Return the settings of which the file here is another member's.

    Under the very path that is declared lie the files of whoever's machine this is: the member's own, if it
    runs here. A copy is that of the member that declares it, unless several do. In all other cases a
    certificate is the own one of those members whose host it names.

    Args:
        told: the member.
        hosts: of it.
        here: it runs on this machine.
        everybody: all declared members.
    """
    others: set[str] = set()
    for pair in PAIRS:
        file = told.file(pair[0])
        if file is None:
            continue
        if told.where.is_original(told.declaration.settings[pair[0]].value, file):
            its_own = here
        else:
            its_own = sum(one.file(pair[0]) == file for one in everybody) == 1
        if its_own:
            continue
        try:
            leaf = load_certificates(file)[0]
        except UsageError:
            continue
        if not any(names_host(leaf, host) for host in hosts):
            others.update(pair)
    return frozenset(others)
