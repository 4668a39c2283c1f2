"""A program: etcd with its arguments rewritten by a regular expression."""

import os
import re
import sys

etcd, pattern, replacement, *arguments = sys.argv[1:]
os.execv(etcd, [etcd, *(re.sub(pattern, replacement, argument) for argument in arguments)])  # noqa: S606
