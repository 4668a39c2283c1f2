"""A program: etcd, stopped and started again whenever a file of its PKI directory changes."""

import subprocess
import sys
import time
from pathlib import Path

etcd, *arguments = sys.argv[1:]
if len(arguments) < 2:
    sys.exit(subprocess.run([etcd, *arguments], check=False).returncode)
directory = next(flag.partition("=")[2].partition("/pki/")[0] for flag in arguments if "/pki/" in flag)


def state() -> dict[str, int]:
    """Return when each file was changed."""
    return {str(path): path.stat().st_ctime_ns for path in Path(directory, "pki").rglob("*.crt")}


while True:
    before = state()
    child = subprocess.Popen([etcd, *arguments])
    while state() == before:
        if child.poll() is not None:
            sys.exit(child.returncode)
        time.sleep(0.002)
    child.terminate()
    child.wait()
