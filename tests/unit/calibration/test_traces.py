"""Traces on disk: resumable, refused when damaged or of something else, and shards equal one run to the byte."""

from __future__ import annotations

import errno
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dspark_calibration import CalibrationError, PromptRef, TraceStore
from dspark_calibration.traces import load_rounds, merge_traces, split_prompts
from tests.support.rounds import contents, header, trace, write_traces


def test_what_was_written_is_read(tmp_path: Path) -> None:
    store = write_traces(tmp_path, header(), range(4))
    for index in range(4):
        expected, found = trace(index, 3, index), TraceStore.open(tmp_path).read(index)
        for name, array in expected.arrays.items():
            np.testing.assert_array_equal(getattr(found, name), array)
            assert getattr(found, name).dtype == array.dtype
    assert store.missing() == []
    assert sorted(contents(tmp_path)) == ["000000.npz", "000001.npz", "000002.npz", "000003.npz", "header.json"]


def test_only_rounds_that_verified_the_whole_block_are_loaded(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    rounds = load_rounds(write_traces(tmp_path, header(), range(4)), lambda done, total: told.append((done, total)))
    assert len(rounds) == 0 + 1 + 1 + 2
    assert rounds.cut == 2
    assert rounds.prompt.tolist() == [1, 2, 3, 3]
    assert told[-1] == (4, 4)
    np.testing.assert_array_equal(rounds.logits[2:], trace(3, 3, 3).confidence_logits[:2])
    np.testing.assert_array_equal(rounds.survived.sum(axis=1), rounds.accepted)
    np.testing.assert_array_equal(rounds.reached[:, 1:], rounds.survived[:, :-1])
    assert rounds.of([3]).prompt.tolist() == [3, 3]


def test_an_interrupted_run_goes_on(tmp_path: Path) -> None:
    write_traces(tmp_path / "a", header(), [0, 2])
    (tmp_path / "a" / "000001.partial").write_bytes(b"half")  # the machine went down
    again = TraceStore.create(tmp_path / "a", header())
    assert again.missing() == [1, 3]
    with pytest.raises(CalibrationError, match=r"2 of 4 prompts have no trace, the first is p/1"):
        load_rounds(again)
    for index in again.missing():
        again.write(index, trace(index, 3, index))
    write_traces(tmp_path / "b", header(), range(4))
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_a_full_disk_leaves_what_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = write_traces(tmp_path, header(), [0, 1])
    before = contents(tmp_path)

    def full(file: Any, **arrays: Any) -> None:
        file.write(b"PK half of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="No space left"):
        store.write(2, trace(2))
    assert contents(tmp_path) == before
    assert TraceStore.create(tmp_path, header()).missing() == [2, 3]


@pytest.mark.parametrize("change", [{"bundle": "c" * 64}, {"block_size": 2}, {"seed": 1}, {"max_new_tokens": 9}])
def test_traces_of_something_else_are_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    write_traces(tmp_path, header(), [0])
    with pytest.raises(CalibrationError, match=rf"another run \({next(iter(change))} differ\)"):
        TraceStore.create(tmp_path, header(**change))


def spoil(**changes: Any) -> Any:
    return replace(trace(3), **changes)


BAD = {
    "NaN": (spoil(confidence_logits=np.full((3, 3), np.nan, np.float32)), "confidences that are NaN"),
    "another block": (trace(3, 2), "blocks of 2 positions, not 3"),
    "lengths differ": (spoil(context=np.zeros(2, np.int32)), "arrays of different lengths"),
    "too much accepted": (spoil(accepted=np.array([4, 0, 0], np.int16)), "accepts more than it proposed"),
    "negative": (spoil(accepted=np.array([-1, 0, 0], np.int16)), "accepts more than it proposed"),
    "too much proposed": (spoil(proposed=np.array([4, 3, 3], np.int16)), "proposes more than a block"),
}


@pytest.mark.parametrize("case", BAD)
def test_unsound_rounds_are_neither_written_nor_read(tmp_path: Path, case: str) -> None:
    bad, message = BAD[case]
    store = write_traces(tmp_path, header(), [0])
    with pytest.raises(CalibrationError, match=message):
        store.write(1, bad)
    assert store.missing() == [1, 2, 3]
    np.savez(store.file(1), **bad.arrays)
    with pytest.raises(CalibrationError, match=message):
        store.read(1)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"text"])
def test_damaged_files_are_named(tmp_path: Path, content: bytes) -> None:
    store = write_traces(tmp_path, header(), range(4))
    store.file(2).write_bytes(content)
    with pytest.raises(CalibrationError, match=r"000002\.npz: not readable as a trace"):
        load_rounds(store)
    (tmp_path / "header.json").write_bytes(content)
    with pytest.raises(CalibrationError, match=r"header\.json"):
        TraceStore.open(tmp_path)


def test_shards_laid_together_are_one_run(tmp_path: Path) -> None:
    head = header(7)
    write_traces(tmp_path / "one", head, range(7))
    shards = [tmp_path / f"shard{i}" for i in range(3)]
    for number, folder in enumerate(shards):
        write_traces(folder, head, range(number, 7, 3))
    merge_traces(shards[::-1], tmp_path / "merged")
    assert contents(tmp_path / "merged") == contents(tmp_path / "one")
    merge_traces(shards, shards[0])  # into one of them
    assert contents(shards[0]) == contents(tmp_path / "one")


def test_shards_that_do_not_fit(tmp_path: Path) -> None:
    write_traces(tmp_path / "a", header(), [0, 2])
    write_traces(tmp_path / "b", header(seed=1), [1, 3])
    write_traces(tmp_path / "c", header(), [1])
    other = write_traces(tmp_path / "d", header(), [3])
    other.write(2, trace(5))
    out = tmp_path / "out"
    for folders, message in (
        ("ab", r"not a shard of the run in .*\(seed differ\)"),
        ("ac", "1 of 4 prompts are in no shard, the first is p/3: a shard is missing"),
        ("acd", "differs from"),
        ("ax", "no traces here"),
        ("", "no folder to merge"),
    ):
        with pytest.raises(CalibrationError, match=message):
            merge_traces([tmp_path / name for name in folders], out)
    assert not out.exists()


@pytest.mark.parametrize("count", [2, 3, 17, 40])
def test_halves_are_disjoint_balanced_and_independent_of_order(count: int) -> None:
    refs = [PromptRef(id=f"x/{i}", source="abc"[i % 3]) for i in range(count)]
    split = split_prompts(refs)
    assert sorted(split.fit + split.validation) == list(range(count))
    for source in "abc":
        sizes = [sum(refs[i].source == source for i in half) for half in split]
        assert abs(sizes[0] - sizes[1]) <= 1
    turned = split_prompts(refs[::-1])
    assert {refs[::-1][i].id for i in turned.fit} == {refs[i].id for i in split.fit}


def test_prompts_that_cannot_be_split() -> None:
    refs = [PromptRef(id="x", source="a"), PromptRef(id="y", source="a"), PromptRef(id="x", source="b")]
    with pytest.raises(CalibrationError, match="prompt id x occurs 2 times: it could end up in both halves"):
        split_prompts(refs)
    with pytest.raises(CalibrationError, match="1 prompt cannot be split"):
        split_prompts(refs[:1])
