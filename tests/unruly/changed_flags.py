"""A program: etcd without some of the flags that it is given, and with others."""

import os
import subprocess
import sys

etcd, left_out, added, *arguments = sys.argv[1:]
if len(arguments) > 1:
    arguments = [flag for flag in arguments if flag.lstrip("-").partition("=")[0] not in left_out.split(",")]
    known = subprocess.run([etcd, "--help"], capture_output=True, encoding="utf-8", check=False).stdout
    for flag in filter(None, added.split(",")):
        # Up to 3.6 some are known under another name, too.
        old = "" if f"--{flag.partition('=')[0]} " in known else "experimental-"
        arguments.append(f"--{old}{flag}")
os.execv(etcd, [etcd, *arguments])  # noqa: S606
