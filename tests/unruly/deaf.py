"""A program: etcd without some of the flags that it is given, and with others."""

import os
import subprocess
import sys

etcd, left_out, added, *arguments = sys.argv[1:]
if len(arguments) > 1:
    arguments = [flag for flag in arguments if flag.lstrip("-").partition("=")[0] not in left_out.split(",")]
    known = subprocess.run([etcd, "--help"], capture_output=True, text=True, check=False).stdout
    arguments += [
        f"--{flag}" for flag in added.split(",") if flag and f"--{flag.partition('=')[0]} " in known
    ]
os.execv(etcd, [etcd, *arguments])  # noqa: S606
