"""Which steps engines are built for, and where everything lies in them."""

from __future__ import annotations

import numpy as np
import pytest

from dspark_engines.backends.padded.launches import long_rows, narrow_rows
from dspark_engines.backends.padded.packing import StepRows, draft_indices, verify_indices
from dspark_engines.backends.padded.shapes import RoleShapes, StepShape, powers_up_to, role_shapes
from dspark_engines.backends.padded.slots import PaddedSlot
from dspark_engines.bundle import Limits
from dspark_engines.errors import BackendError

BLOCK = 7
LENGTHS = ([1], [8], [9], [64], [65], [200, 1], [9, 9, 9])  # of a step's rows


def shapes(role: str = "verify", slots: int = 8, chunk: int = 64, buckets: tuple[int, ...] = ()) -> RoleShapes:
    limits = Limits(context_length=100, prefill_chunk=chunk, slots=slots)
    return role_shapes(role, limits, BLOCK, buckets)  # type: ignore[arg-type]


@pytest.mark.parametrize(("limit", "sizes"), [(1, [1]), (2, [1, 2]), (5, [1, 2, 4, 5]), (8, [1, 2, 4, 8])])
def test_powers(limit: int, sizes: list[int]) -> None:
    assert powers_up_to(limit) == sizes


@pytest.mark.parametrize("slots", [1, 3, 8])
@pytest.mark.parametrize("buckets", [(), (4, 16, 64)])
def test_every_step_that_the_limits_allow_has_a_shape(slots: int, buckets: tuple[int, ...]) -> None:
    made = shapes(slots=slots, buckets=buckets)
    for rows in range(1, slots + 1):
        for tokens in range(rows, rows * (BLOCK + 1) + 1):
            shape = made.fit(rows, tokens)
            assert shape.rows >= rows
            assert shape.tokens >= tokens
            assert sum(shape in group for group in made.profiles) == 1
    with pytest.raises(BackendError, match="the engines were built for"):
        made.fit(slots + 1, slots + 1)


@pytest.mark.parametrize("chunk", [1, 8, 9, 64, 100])
@pytest.mark.parametrize("role", ["verify", "draft"])
def test_capacity_holds_whatever_is_written(role: str, chunk: int) -> None:
    made = shapes(role, chunk=chunk)
    widest = max(shape.width for shape in made.narrow + made.wide) + made.block
    assert made.capacity >= 100 + BLOCK + widest
    assert all(shape.wide and shape.rows == 1 and shape.tokens == shape.width for shape in made.wide)
    assert made.wide[0].tokens > BLOCK + 1
    assert made.fit_wide(made.wide[-1].tokens) == made.wide[-1]


def test_buckets_that_end_too_early() -> None:
    with pytest.raises(BackendError, match="end at 63, but a full step has 64 tokens"):
        shapes(buckets=(8, 63))


def test_verify_indices() -> None:
    """Two rows at places 2 and 0 of a shape for four, filled up from three tokens to four."""
    rows = StepRows([2, 0], np.array([1, 2]), np.array([5, 9]))
    indices = verify_indices(rows, StepShape(4, 4, 3), 32)
    assert {name: array.tolist() for name, array in indices.items()} == {
        "positions": [5, 9, 10, 0],
        "pad_rows": [[1, 2, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0]],
        "unpad": [6, 0, 1, 0],
        "used": [9, 29, 5, 29],  # rows that are not served write behind everything …
        "visible": [12, 1, 8, 1],  # … and see one cell
    }


def test_draft_indices() -> None:
    """Places 1 and 0 of two; three features, packed before two blocks of two."""
    rows = StepRows([1, 0], np.array([1, 2]), np.array([5, 9]))
    indices = draft_indices(rows, StepShape(2, 4, 3), 2, 32)
    assert {name: array.tolist() for name, array in indices.items()} == {
        "positions": [5, 9, 10, 0, 11, 12, 6, 7],
        "block_positions": [11, 12, 6, 7],
        "pad_rows": [[1, 2, 4, 5, 0], [0, 6, 7, 0, 0]],
        "used": [9, 5],
        "visible": [13, 8],
    }


@pytest.mark.parametrize(
    ("role", "lengths"),
    [
        *(("verify", lengths) for lengths in LENGTHS),
        *(("draft", lengths) for lengths in LENGTHS),
        ("draft", [0, 3]),  # a verify step has at least one token a row
        ("draft", [3, 0, 130]),
    ],
)
def test_launches_cover_every_token_once(role: str, lengths: list[int]) -> None:
    made, keep = shapes(role), BLOCK + 1 if role == "draft" else 0
    slots = [PaddedSlot(place) for place in (3, 0, 5)[: len(lengths)]]
    counts, used = np.array(lengths), np.array([10, 20, 30][: len(lengths)])
    launches = list(long_rows(made, slots, counts, used, keep))
    narrow = narrow_rows(made, slots, counts, used, keep)
    assert all(launch.shape.wide for launch in launches)
    if narrow is not None:
        assert not narrow.shape.wide
        assert not keep or sorted(narrow.rows.places) == sorted(slot.place for slot in slots)
        launches.append(narrow)
    taken = np.concatenate([launch.taken for launch in launches])
    assert sorted(taken.tolist()) == list(range(sum(lengths)))
    starts, positions = np.cumsum(counts) - counts, np.full(sum(lengths), -1)
    for launch in launches:
        assert len(launch.taken) <= launch.shape.tokens
        positions[launch.taken] = launch.rows.positions(len(launch.taken))
    expected = [np.arange(length) + before for length, before in zip(lengths, used, strict=True)]
    assert positions.tolist() == np.concatenate(expected).tolist()
    assert len(starts) == len(lengths)
