"""Keeps testcontainers' reaper (Ryuk) away from our own containers, and only from those.

Ryuk is a container that removes the others when the process that started them is gone. We clean up ourselves,
and need no further image for it. A neighbour's containers in the same process keep theirs.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

_SWITCH = threading.Lock()


@contextmanager
def reaper_off(image: str, *, keep: bool) -> Iterator[None]:
    """Switch the reaper off for what is started inside, and put back whatever was set.

    Args:
        image: the image that is started inside.
        keep: whether the container shall outlive this process. Then it also must not carry the label by which
            a neighbour's reaper would remove it; testcontainers leaves that out for the reaper's own image
            alone, so ours stands in for it.
    """
    from testcontainers.core.config import testcontainers_config as settings

    # Not through the property: reading it would fix what a neighbour may still set in the environment.
    ours: dict[str, object] = {"_ryuk_disabled": True}
    if keep:
        ours["ryuk_image"] = image
    with _SWITCH:
        before = {name: getattr(settings, name) for name in ours}
        for name, value in ours.items():
            setattr(settings, name, value)
        try:
            yield
        finally:
            for name, value in before.items():
                setattr(settings, name, value)
