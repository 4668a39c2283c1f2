"""Writes the PKI of the compose cluster: three members, a CA per port, files 0600.

``python docker/write_pki.py DIRECTORY``; a directory that is there already is left as it is.
"""

from __future__ import annotations

import sys
from pathlib import Path

from pytest_etcdtls.pki.bundle import ClusterPKI
from pytest_etcdtls.pki.profile import MemberNames, PKIPlan

MEMBERS = ("etcd-0", "etcd-1", "etcd-2")


def main(arguments: list[str]) -> int:
    """Write the PKI; the exit code is 2 for a wrong command line."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python docker/write_pki.py DIRECTORY\n")
        return 2
    directory = Path(arguments[0])
    if directory.exists():
        sys.stdout.write(f"{directory} is there already; remove it for a new PKI\n")
        return 0
    members = [MemberNames(name, ("localhost", "127.0.0.1", "::1", name)) for name in MEMBERS]
    ClusterPKI.generate(PKIPlan(), members).write(directory)
    sys.stdout.write(f"{directory}: a new PKI for {', '.join(MEMBERS)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
