"""What an interrupted run leaves is gone on with; what was recorded under other conditions is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dspark_engines.errors import DsparkError
from dspark_export.evaluating.records import RECORDS, RecordStore
from tests.support.evaluations import conditions, plain_record, question

CONDITIONS = conditions("good")


def stored(folder: Path, count: int) -> RecordStore:
    store = RecordStore.open(folder, CONDITIONS)
    for number in range(count):
        store.add([plain_record(question(number))])
    return store


def test_a_rerun_finds_what_is_there(tmp_path: Path) -> None:
    written = stored(tmp_path / "out", 3)
    again = RecordStore.open(tmp_path / "out", CONDITIONS)
    for number in range(3):
        asked = question(number)
        assert again.find(asked.prompt.id, "plain", "greedy") == plain_record(asked)
    assert again.find("gsm8k/3", "plain", "greedy") is None
    assert again.find("gsm8k/1", "plain", "sampled") is None
    assert [path.name for path in (tmp_path / "out").iterdir()] == [RECORDS]
    assert written.path == again.path


def test_a_line_that_was_cut_is_dropped_and_written_again(tmp_path: Path) -> None:
    stored(tmp_path, 2)
    path = tmp_path / RECORDS
    path.write_bytes(path.read_bytes()[:-20])
    again = RecordStore.open(tmp_path, CONDITIONS)
    assert again.find("gsm8k/0", "plain", "greedy") is not None
    assert again.find("gsm8k/1", "plain", "greedy") is None
    again.add([plain_record(question(1))])
    assert RecordStore.open(tmp_path, CONDITIONS).find("gsm8k/1", "plain", "greedy") is not None
    assert path.read_bytes().count(b"\n") == 3


def test_the_latest_of_two_records_counts(tmp_path: Path) -> None:
    stored(tmp_path, 1).add([plain_record(question(0), tokens=5)])
    found = RecordStore.open(tmp_path, CONDITIONS).find("gsm8k/0", "plain", "greedy")
    assert found is not None
    assert len(found.rounds) == 5


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"max_new_tokens": 128}, "max_new_tokens (128; there 64)"),
        ({"temperature": 0.7}, "temperature (0.7; there 0.0)"),
        ({"prompts_sha256": "c" * 64}, f"prompts_sha256 ({'c' * 40}; there {'b' * 40})"),
        ({"cpu": "y", "threads": 1}, "cpu (y; there x); threads (1; there 2)"),
        ({"ways": conditions("other").ways}, "ways (plain of aaaaaaaa, plain again of aaaaaaaa, other of aaaaaaaa"),
    ],
)
def test_other_conditions_are_refused_by_name(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    stored(tmp_path, 1)
    before = (tmp_path / RECORDS).read_bytes()
    other = CONDITIONS.model_copy(update=change)
    with pytest.raises(DsparkError) as caught:
        RecordStore.open(tmp_path, other)
    assert words in str(caught.value)
    assert "--overwrite" in str(caught.value.hint)
    assert (tmp_path / RECORDS).read_bytes() == before
    assert RecordStore.open(tmp_path, other, overwrite=True).find("gsm8k/0", "plain", "greedy") is None


@pytest.mark.parametrize("content", ["", "hello", "hello\n", "{}\n"])
def test_a_file_of_somebody_else_is_not_touched(tmp_path: Path, content: str) -> None:
    path = tmp_path / RECORDS
    path.write_text(content)
    if not content:
        assert RecordStore.open(tmp_path, CONDITIONS)
        return
    with pytest.raises(DsparkError, match=r"records.jsonl:1: no record of an evaluation"):
        RecordStore.open(tmp_path, CONDITIONS)
    assert path.read_text() == content


def test_without_a_folder_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = RecordStore(CONDITIONS)
    store.add([plain_record(question(0))])
    assert store.find("gsm8k/0", "plain", "greedy") is not None
    assert list(tmp_path.iterdir()) == []
