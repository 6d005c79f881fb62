"""Names in /proc/self/mountinfo (proc(5))."""

from __future__ import annotations

import re


def unescape_mount(name: bytes) -> bytes:
    """A field of the file as a path: spaces and the like are written there as octal numbers."""
    return re.sub(rb"\\(\d{3})", lambda match: bytes([int(match[1], 8)]), name)
