"""A drafter as the command line and recipes name it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
"""What a drafter can be called."""


class NamedPath(NamedTuple):
    """A drafter and what it shall be called; empty: as its method."""

    name: str
    path: Path
