"""A calibrated copy of the tiny bundle, and the commands that make one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

BINS = 2
"""Two bins need twenty rounds a half: a tiny pair gives those in a second."""
COUNT = 10


def write_prompts(path: Path, count: int = COUNT, first: int = 0) -> Path:
    """A prompt set of two sources."""
    lines = [
        {"id": f"{'ab'[i % 2]}/{i}", "source": "ab"[i % 2], "prompt": f"question {i}?"}
        for i in range(first, first + count)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def arguments(bundle: Path, prompts: Path, *options: str) -> list[str]:
    """`calibrate` with settings for the tiny pair."""
    settings = [f"--bins={BINS}", "--resamples=20", "--max-new-tokens=12", "--threads=1"]
    return ["calibrate", str(bundle), f"--prompts={prompts}", *settings, *options]


def copy(bundle: Path, folder: Path) -> Path:
    """A bundle that a test may write to."""
    return Path(shutil.copytree(bundle, folder))
