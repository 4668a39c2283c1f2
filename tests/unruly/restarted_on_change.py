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
    """Return when each certificate and key was changed."""
    files = [path for path in Path(directory, "pki").rglob("*") if path.suffix in (".crt", ".key")]
    return {str(path): path.stat().st_ctime_ns for path in files if path.exists()}


changes = 0
while True:
    before = state()
    child = subprocess.Popen([etcd, *arguments])
    while state() == before:
        # Started again between a new certificate and its key, etcd ends, and is started with the pair.
        if child.poll() is not None and not changes:
            sys.exit(child.returncode)
        time.sleep(0.002)
    changes += 1
    child.terminate()
    child.wait()
