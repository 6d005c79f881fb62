"""Directories that cannot be renamed over, such as mount points: filled, and a bundle only when they are whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dspark_engines.bundle import MANIFEST, atomic_directory, check_destination, place, remove_leftovers
from dspark_engines.errors import OutputError

Files = dict[str, str]
OLD: Files = {MANIFEST: "old", "onnx/a": "old", "old/b": "old"}
NEW: Files = {MANIFEST: "new", "onnx/a": "new", "engines/c": "new"}


@pytest.fixture
def output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory that counts as a mount point."""
    folder = tmp_path / "out"
    folder.mkdir()
    monkeypatch.setattr(place, "is_mount_point", folder.samefile)
    return folder


def write(folder: Path, files: Files) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def read(folder: Path) -> Files:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_text() for path in files}


def fill(output: Path, files: Files) -> None:
    with atomic_directory(output) as partial:
        assert partial.parent == output, "on the disk that it is for"
        write(partial, files)


def test_it_is_filled_and_then_replaced(output: Path) -> None:
    """What a new file system has in it stays and does not count."""
    (output / "lost+found").mkdir()
    inode = output.stat().st_ino
    check_destination(output, overwrite=False)
    fill(output, OLD)
    assert read(output) == OLD
    with pytest.raises(OutputError, match="already exists"):
        check_destination(output, overwrite=False)
    check_destination(output, overwrite=True)
    fill(output, NEW)
    assert read(output) == NEW
    assert (output / "lost+found").is_dir()
    assert output.stat().st_ino == inode


def renames() -> tuple[list[Path], Callable[[Path, Path], Path]]:
    """The targets of all renames so far, and `Path.rename` that records them."""
    seen, rename = list[Path](), Path.rename

    def recorded(self: Path, target: Path) -> Path:
        seen.append(target)
        return rename(self, target)

    return seen, recorded


def test_the_manifest_goes_first_and_comes_last(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(output, OLD)
    seen, recorded = renames()
    monkeypatch.setattr(Path, "rename", recorded)
    fill(output, NEW)
    assert [path.name for path in seen] == [MANIFEST, "onnx", "old", "engines", "onnx", MANIFEST]


@pytest.mark.parametrize("failing", range(1, 7))
def test_a_failure_between_brings_the_old_one_back(output: Path, monkeypatch: pytest.MonkeyPatch, failing: int) -> None:
    fill(output, OLD)
    calls, rename = list[Path](), Path.rename

    def fail(self: Path, target: Path) -> Path:
        calls.append(target)
        if len(calls) == failing:
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(OutputError, match="Input/output error"):
        fill(output, NEW)
    assert read(output) == OLD
    assert sorted(path.name for path in output.iterdir()) == [MANIFEST, "old", "onnx"]


LEFT: dict[str, tuple[Files, dict[str, Files], Files]] = {
    "killed while it built": ({}, {".partial": {"onnx/a": "half"}}, {}),
    "killed before it moved": ({}, {".partial": NEW}, {}),
    "killed while it filled": (
        {"onnx/a": "new"},
        {".partial": {"engines/c": "new", MANIFEST: "new"}},
        NEW,
    ),
    "killed while it took the old one away": (
        {"old/b": "old"},
        {".old": {MANIFEST: "old", "onnx/a": "old"}, ".partial": NEW},
        OLD,
    ),
    "killed while it brought the new one": (
        {"engines/c": "new", "onnx/a": "new"},
        {".old": OLD, ".partial": {MANIFEST: "new"}},
        OLD | {"engines/c": "new"},  # which the manifest does not list
    ),
    "killed while it cleaned up": (NEW, {".old": {"old/b": "old"}, ".partial": {}}, NEW),
}


@pytest.mark.parametrize("case", LEFT)
def test_what_a_killed_process_left_is_whole_again_or_gone(output: Path, case: str) -> None:
    there, leftovers, then = LEFT[case]
    write(output, there)
    for suffix, files in leftovers.items():
        write(output / f".out.abcd_123{suffix}", files)
    remove_leftovers(output)
    assert read(output) == then
    assert not list(output.glob(".out.*"))


def test_the_current_directory_keeps_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever stands in it would otherwise stand in a directory that is gone."""
    monkeypatch.chdir(tmp_path)
    check_destination(Path("."), overwrite=False)
    with atomic_directory(Path(".")) as partial:
        write(partial, NEW)
    assert read(tmp_path) == NEW
    assert read(Path(".")) == NEW


def test_mount_points_are_read_from_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my out").mkdir()
    line = "36 35 98:0 /mnt {} rw,noatime master:1 - ext4 /dev/root rw\n"
    (tmp_path / "mounts").write_text(line.format("/") + line.format(str(tmp_path / "my out").replace(" ", r"\040")))
    monkeypatch.setattr(place, "MOUNTS", tmp_path / "mounts")
    assert place.is_mount_point(tmp_path / "my out")
    assert not place.is_mount_point(tmp_path)
    monkeypatch.setattr(place, "MOUNTS", tmp_path / "none")
    assert place.is_mount_point(Path("/"))
    assert not place.is_mount_point(tmp_path)
