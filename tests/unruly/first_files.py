"""A program: etcd on a copy of its PKI directory that is made at its first start and never again."""

import os
import shutil
import sys
from pathlib import Path

etcd, *arguments = sys.argv[1:]
if len(arguments) > 1:
    name = next(flag.partition("=")[2] for flag in arguments if flag.startswith("--name="))
    for index, flag in enumerate(arguments):
        before, found, after = flag.partition("/pki/")
        if found:
            directory = before.partition("=")[2]
            copy = Path(directory, f"copy-for-{name}")
            if not copy.exists():
                shutil.copytree(f"{directory}/pki", copy)
            arguments[index] = f"{before.partition('=')[0]}={copy}/{after}"
os.execv(etcd, [etcd, *arguments])  # noqa: S606
