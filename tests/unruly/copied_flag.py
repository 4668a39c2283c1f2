"""A program: etcd with the value of one flag given to another."""

import os
import sys

etcd, source, target, *arguments = sys.argv[1:]
values = dict(argument.lstrip("-").split("=", 1) for argument in arguments if "=" in argument)
others = [argument for argument in arguments if not argument.startswith(f"--{target}=")]
os.execv(etcd, [etcd, *others, *([f"--{target}={values[source]}"] if source in values else [])])  # noqa: S606
