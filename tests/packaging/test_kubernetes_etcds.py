"""docker/kubernetes-etcds.sh, with a proxy that is a directory."""

from __future__ import annotations

import os
import subprocess
import zipfile
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "docker" / "kubernetes-etcds.sh"
GO = "#!/bin/sh\necho https://proxy.test,direct\n"
CURL = """#!/usr/bin/env bash
url=${!#}
case $url in
    */list) printf '%s\\n' v1.13.0 v1.36.1 v1.36.3 v1.36.3-rc.0 v1.37.0-alpha.1 ;;
    *) while [[ $1 != --output ]]; do shift; done; cp "$ARCHIVES/${url##*/}" "$2" ;;
esac
"""


@pytest.mark.program("awk", "bash", "sed", "unzip")
def test_the_etcd_of_the_newest_patch_of_each_minor_release(tmp_path: Path) -> None:
    tools, archives = tmp_path / "bin", tmp_path / "archives"
    for directory in (tools, archives):
        directory.mkdir()
    for name, script in (("go", GO), ("curl", CURL)):
        (tools / name).write_text(script, encoding="utf-8")
        (tools / name).chmod(0o755)
    for release, etcd in (("v1.28.15", "3.5.15-0"), ("v1.29.15", "3.5.16-0"), ("v1.36.3", "3.6.8-0")):
        with zipfile.ZipFile(archives / f"{release}.zip", "w") as archive:
            archive.writestr(
                f"k8s.io/kubernetes@{release}/cmd/kubeadm/app/constants/constants.go",
                f'const (\n\t// DefaultEtcdVersion is it\n\tDefaultEtcdVersion = "{etcd}"\n)\n',
            )
    told = subprocess.run(
        [SCRIPT],
        env={**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "ARCHIVES": str(archives)},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert told.stdout.splitlines() == ["1.28.15 3.5.15", "1.29.15 3.5.16", "1.36.3 3.6.8"], told.stderr
