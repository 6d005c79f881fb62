"""Writing a bundle: a directory appears whole or not at all, and nothing that matters is replaced."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from dspark_engines.bundle import (
    MANIFEST,
    atomic_directory,
    check_destination,
    check_file_place,
    remove_leftovers,
    write_file,
)
from dspark_engines.bundle.interruptions import interruptions_held
from dspark_engines.errors import BundleError, DsparkError, OutputError

FAILURES: dict[str, tuple[BaseException, type[BaseException], str]] = {
    "bug": (ZeroDivisionError("bug"), ZeroDivisionError, "bug"),
    "user's error": (BundleError("bad", hint="mend it"), BundleError, "bad"),
    "Ctrl-C": (KeyboardInterrupt(), KeyboardInterrupt, ""),
    "full disk": (OSError(errno.ENOSPC, "No space left on device"), OutputError, "out: the disk is full"),
    "quota": (OSError(errno.EDQUOT, "Quota exceeded"), OutputError, "out: the disk is full"),
    "read-only": (OSError(errno.EROFS, "Read-only file system"), OutputError, "cannot be written: Read-only file"),
}


def write_and_fail(output: Path, error: BaseException) -> None:
    before = sorted(output.parent.glob("*/*"))
    with atomic_directory(output) as partial:
        (partial / "new").write_text("new")
        assert sorted(output.parent.glob("[!.]*/*")) == before
        raise error


@pytest.mark.parametrize("case", FAILURES)
@pytest.mark.parametrize("exists", [True, False], ids=["replacing", "new"])
def test_failure_leaves_nothing_behind(tmp_path: Path, case: str, exists: bool) -> None:
    error, raised, fragment = FAILURES[case]
    output = tmp_path / "deep" / "down" / "out"
    if exists:
        output.mkdir(parents=True)
        (output / "old").write_text("old")
    with pytest.raises(raised) as caught:
        write_and_fail(output, error)
    assert fragment in str(caught.value)
    assert not isinstance(caught.value, DsparkError) or caught.value.hint
    remaining = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*"))
    assert remaining == (["deep", "deep/down", "deep/down/out", "deep/down/out/old"] if exists else [])


@pytest.mark.parametrize("failing", [1, 2, 3])
def test_failure_while_swapping_restores_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    """Two renames make a replacement: whichever fails, a whole directory is there."""
    output, calls, rename = tmp_path / "out", [], Path.rename
    output.mkdir()
    (output / "old").write_text("old")

    def fail(self: Path, target: Path) -> Path:
        calls.append(target)
        if len(calls) == failing:
            raise KeyboardInterrupt
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", fail)
        try:
            with atomic_directory(output) as partial:
                (partial / "new").write_text("new")
        except KeyboardInterrupt:
            assert failing < 3
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert [path.name for path in output.iterdir()] == ["old" if failing < 3 else "new"]


def test_an_output_that_was_taken_away_is_put_back(tmp_path: Path) -> None:
    """A replacement that was killed between its two renames; one killed behind them has an output already."""
    output = tmp_path / "out"
    kept = tmp_path / ".out.abcd_123.old" / "out"
    for there in (False, True):
        kept.mkdir(parents=True)
        (kept / "old").write_text("old")
        if there:
            shutil.rmtree(output)
            output.mkdir()
        remove_leftovers(output)
        assert [path.name for path in tmp_path.iterdir()] == ["out"]
        assert [path.name for path in output.iterdir()] == ([] if there else ["old"])


def test_what_is_held_is_no_leftover(tmp_path: Path) -> None:
    output = tmp_path / "out"
    with atomic_directory(output) as partial:
        remove_leftovers(output)
        remove_leftovers(tmp_path / "other")
        assert partial.is_dir()
    (tmp_path / ".out.abcd_123.partial").write_text("a file is nothing of ours")
    remove_leftovers(output)
    remove_leftovers(tmp_path / "not" / "there")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".out.abcd_123.partial", "out"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interruptions_take_effect_behind_what_holds_them(number: signal.Signals) -> None:
    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before, done = signal.signal(number, interrupt), list[str | None]()
    try:
        with pytest.raises(KeyboardInterrupt), interruptions_held():
            done += [signal.raise_signal(number), signal.raise_signal(number), "to the end"]
        assert done == [None, None, "to the end"]
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
    finally:
        signal.signal(number, before)


def test_success_appears_whole(tmp_path: Path) -> None:
    output = tmp_path / "deep" / "out"
    for text in ("first", "second"):
        with atomic_directory(output) as partial:
            (partial / text).write_text(text)
        assert [path.name for path in output.iterdir()] == [text]
        assert list(output.parent.iterdir()) == [output]
    assert output.stat().st_mode & 0o777 == 0o755


def test_destination_cases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle, other, empty, file = (tmp_path / name for name in ("bundle", "other", "empty", "file"))
    for folder in (bundle, other, empty):
        folder.mkdir()
    (bundle / MANIFEST).write_text("{}")
    (other / "thesis.txt").write_text("years of work")
    file.write_text("x")
    check_destination(tmp_path / "new", overwrite=False)
    check_destination(tmp_path / "a" / "b" / "new", overwrite=False, needed_bytes=1)
    check_destination(bundle, overwrite=True)
    check_destination(empty, overwrite=False)

    def refuses(path: Path, fragment: str, *, overwrite: bool = False, needed_bytes: int = 0) -> None:
        with pytest.raises(OutputError) as caught:
            check_destination(path, overwrite=overwrite, needed_bytes=needed_bytes)
        assert fragment in str(caught.value)
        assert caught.value.hint

    for path in (bundle, other, file):
        refuses(path, f"{path}: already exists")
    refuses(other, "other: exists and is not a bundle", overwrite=True)
    refuses(file, "file: exists and is not a bundle", overwrite=True)
    refuses(file / "new", "file: is not a directory")
    refuses(tmp_path / ("x" * 300), "File name too long")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10**9 - 1))
    check_destination(tmp_path / "new", overwrite=False, needed_bytes=10**9 - 1)
    refuses(tmp_path / "new", "1.00 GB needed, 1.00 GB free", needed_bytes=10**9)

    def denied(**options: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(tempfile, "TemporaryFile", denied)
    refuses(tmp_path / "new", "new: cannot be written: Permission denied")


def test_an_empty_directory_and_a_link_are_outputs(tmp_path: Path) -> None:
    """What a link names is written or replaced; the link stays."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere" / "bundle")
    for output in (tmp_path / "empty", tmp_path / "link"):
        for text in ("first", "second"):
            with atomic_directory(output) as partial:
                (partial / text).write_text(text)
            assert [path.name for path in output.iterdir()] == [text]
    assert (tmp_path / "link").is_symlink()
    assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == ["bundle"]


def test_names_as_long_as_they_can_be(tmp_path: Path) -> None:
    output = tmp_path / ("é" * 127)
    with atomic_directory(output) as partial:
        write_file(partial / ("x" * 255), "text")
    assert [path.name for path in output.iterdir()] == ["x" * 255]


def full(*arguments: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, link = tmp_path / "deep" / "file", tmp_path / "link"
    link.symlink_to(file)
    for text in ("first", "second"):
        assert write_file(link, text) == link
        assert (file.read_text(), link.is_symlink()) == (text, True)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match=r"link: the disk is full"):
        write_file(link, "third")
    assert file.read_text() == "second"
    assert [path.name for path in file.parent.iterdir()] == ["file"]


def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    check_file_place(pipe)
    write_file(pipe, "text")
    assert os.read(reader, 99) == b"text"
    os.close(reader)
    assert pipe.is_fifo()
