"""The IDs of a member and of its cluster, from the head of its write-ahead log.

Each file of the log begins with a record of its checksum and one of metadata, which has both IDs
(``wal.Create``, ``WAL.cut``, ``etcdserverpb.Metadata``). They stay when members are added or removed, and
with ``--force-new-cluster``. Clusters that were created with the same URLs and token have equal IDs
(``computeMemberID``, ``RaftCluster.genID``).
"""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import Final

from pytest_etcdtls.declared.declaration import DeclaredMember
from pytest_etcdtls.declared.running import MemberIDs
from pytest_etcdtls.errors import UnreadableFileError
from pytest_etcdtls.tls.http import fields
from pytest_etcdtls.untrusted.process_root import names_in
from pytest_etcdtls.untrusted.regular_files import open_regular

_HEAD: Final = 4096
"""Octets that are read of a file; both records take less than 100."""
_FRAME: Final = 8
"""Octets of a frame's header: the length of the record, and in the last one the octets of padding
(``encodeFrameSize``)."""
_METADATA: Final = 1
"""``wal.MetadataType``."""


def ids_of(declared: DeclaredMember) -> MemberIDs | None:
    """Return the IDs in the data directory of a member; ``None`` if they cannot be read."""
    declaration = declared.declaration
    data = declaration.text("data-dir") or f"{declaration.name}.etcd"
    directory = declared.paths.of_process(declaration.text("wal-dir") or f"{data}/member/wal")
    files = [name for name in names_in(directory) if re.fullmatch(r"[0-9a-f]{16}-[0-9a-f]{16}\.wal", name)]
    for name in files[-1:]:
        with (
            suppress(UnreadableFileError, OSError, ValueError, LookupError),
            open_regular(Path(directory, name)) as file,
        ):
            return _ids_in(file.read(_HEAD) or b"")
    return None


def _ids_in(head: bytes) -> MemberIDs | None:
    """Return the IDs in the first records of a file.

    Raises:
        ValueError, LookupError: if they are not such records.
    """
    while len(head) > _FRAME:
        size = int.from_bytes(head[: _FRAME - 1], "little")
        padding = head[_FRAME - 1] & 0x7 if head[_FRAME - 1] & 0x80 else 0
        record = fields(head[_FRAME : _FRAME + size])
        if record.get(1) == [_METADATA]:
            numbers = [fields(metadata) for metadata in record[3] if isinstance(metadata, bytes)]
            member, cluster = (int(numbers[0][field][0]) for field in (1, 2))
            return MemberIDs(member=f"{member:x}", cluster=f"{cluster:x}")
        head = head[_FRAME + size + padding :]
    return None
