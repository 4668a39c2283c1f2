"""Container images written from files, without an engine and a registry.

An image is a ``docker save`` archive of one layer: ``ctr images import`` and ``docker load`` read it.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def write_image(
    archive: Path,
    name: str,
    files: Mapping[str, Path],
    *,
    config: Mapping[str, Any] | None = None,
) -> None:
    """Write an image.

    Args:
        archive: the file to write.
        name: of the image, with its tag.
        files: programs, by their path in the image.
        config: what a Dockerfile's ENTRYPOINT, ENV, USER and WORKDIR say, with the names of the OCI image
            specification.
    """
    layer = archive.with_suffix(".layer")
    with tarfile.open(layer, "w") as tar:
        for directory in sorted({parent for path in files for parent in PurePosixPath(path).parents}):
            entry = tarfile.TarInfo(str(directory).lstrip("/") or ".")
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        entry = tarfile.TarInfo("tmp")
        entry.type, entry.mode = tarfile.DIRTYPE, 0o1777
        tar.addfile(entry)
        for path, source in files.items():
            entry = tarfile.TarInfo(path.lstrip("/"))
            entry.mode, entry.size = 0o755, source.stat().st_size
            with source.open("rb") as content:
                tar.addfile(entry, content)
    with layer.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    blob = json.dumps(
        {
            "architecture": _ARCHITECTURES.get(machine := platform.machine(), machine),
            "os": "linux",
            "config": {"Env": ["PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"], **(config or {})},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        }
    ).encode()
    named = f"{hashlib.sha256(blob).hexdigest()}.json"
    layers = [f"{digest}/layer.tar"]
    manifest = json.dumps([{"Config": named, "RepoTags": [name], "Layers": layers}]).encode()
    with tarfile.open(archive, "w") as tar:
        tar.add(layer, arcname=layers[0])
        for path, data in {named: blob, "manifest.json": manifest}.items():
            entry = tarfile.TarInfo(path)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    layer.unlink()


def write_python_image(archive: Path, name: str) -> None:
    """Write an image of the Python that runs this, with a shell: a base for ``runner.Dockerfile``."""
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    library = Path(sysconfig.get_path("stdlib", vars={"installed_base": sys.base_prefix}))
    binary = Path(sys.base_prefix) / "bin" / version
    unneeded = {"site-packages", "dist-packages", "test", "idlelib", "__pycache__"}
    modules = [
        path for path in library.rglob("*") if path.is_file() and not unneeded.intersection(path.parts)
    ]
    compiled = [path for path in (*modules, *Path(sys.prefix).rglob("*.so")) if ".so" in path.suffixes]
    files = {str(path): path for path in (binary, *modules, *_shared_libraries([binary, *compiled]))}
    busybox = Path(shutil.which("busybox") or "busybox")
    files |= {f"/bin/{applet}": busybox for applet in ("sh", "rm", "cat", "mkdir")}
    files["/usr/local/bin/python3"] = binary
    write_image(archive, name, files)


def _shared_libraries(programs: Sequence[Path]) -> list[Path]:
    """Return the libraries that programs are linked with, and their loader."""
    listed = subprocess.run(["ldd", *programs], stdout=subprocess.PIPE, encoding="utf-8", check=False).stdout
    found = set(re.findall(r"^\t(?:\S+ => )?(/\S+) \(", listed, re.MULTILINE))
    return [Path(path) for path in sorted(found) if not path.startswith(sys.prefix)]
