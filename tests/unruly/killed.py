"""A program: etcd that is killed when its log has a given line. It has ended before its connections end."""

import ctypes
import os
import signal
import subprocess
import sys

PR_SET_PDEATHSIG = 1


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


etcd, line, *arguments = sys.argv[1:]
server = subprocess.Popen(
    [etcd, *arguments],
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    encoding="utf-8",
    preexec_fn=_die_with_parent,
)
for logged in server.stdout or ():
    sys.stdout.write(logged)
    sys.stdout.flush()
    if line in logged:
        os._exit(3)  # sys.exit closes the pipe first, and etcd ends of SIGPIPE while this program still runs
sys.exit(server.wait())
