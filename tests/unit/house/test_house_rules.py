"""Rules of the house that a reader would otherwise have to watch: no machine's paths, no overgrown rooms."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
MAX_FILE_LINES = 300
MAX_FUNCTION_LINES = 60
FUNCTION = ast.FunctionDef | ast.AsyncFunctionDef
# Put together here, so that this file does not say them itself.
MACHINE_PATH = re.compile("/(" + "|".join(("work", "home", "root", "Users")) + ")/")
CODE_FOLDERS = (
    "dspark_export",
    "plugins/dspark_plugins",
    "engines/dspark_engines",
    "calibration/dspark_calibration",
    "benchmarks",
    "examples",
)
CODE = [ROOT / "cli.py", *(path for folder in CODE_FOLDERS for path in sorted((ROOT / folder).rglob("*.py")))]
NOT_THE_PRODUCT = {".git", ".venv", "build", "dist", "__pycache__", "node_modules"}


def product_files() -> list[Path]:
    """Return the files that git tracks or would; without git (a source release), all but what tools make."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if (ROOT / ".git").exists() and listing.returncode == 0:
        files = [ROOT / name for name in listing.stdout.split("\0") if name]
    else:
        files = [path for path in ROOT.rglob("*") if not NOT_THE_PRODUCT & set(path.relative_to(ROOT).parts)]
    return [path for path in files if path.is_file()]


def machine_paths(path: Path) -> list[str]:
    """Return `file:line` for every line of a text file that names a folder of somebody's machine."""
    content = path.read_bytes()
    if b"\0" in content[:8192]:  # binary
        return []
    lines = content.decode("utf-8", errors="replace").splitlines()
    return [f"{path.relative_to(ROOT)}:{n}" for n, line in enumerate(lines, 1) if MACHINE_PATH.search(line)]


def test_no_file_names_a_folder_of_somebodys_machine() -> None:
    files = product_files()
    assert ROOT / "pyproject.toml" in files
    assert [line for path in files for line in machine_paths(path)] == []


@pytest.mark.parametrize("path", CODE, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_rooms_stay_small(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert len(source.splitlines()) <= MAX_FILE_LINES
    functions = [node for node in ast.walk(ast.parse(source)) if isinstance(node, FUNCTION)]
    assert [f"{node.name}:{node.lineno}" for node in functions if lines_of(node) > MAX_FUNCTION_LINES] == []


def lines_of(node: FUNCTION) -> int:
    assert node.end_lineno is not None
    return node.end_lineno - node.lineno + 1
