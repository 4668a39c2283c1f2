"""A program: etcd as it is, but for a line with its process id in a file whenever it is started for good."""

import os
import sys

etcd, record, *arguments = sys.argv[1:]
if len(arguments) > 1:
    with open(record, "a", encoding="utf-8") as file:
        file.write(f"{os.getpid()}\n")
os.execv(etcd, [etcd, *arguments])  # noqa: S606
