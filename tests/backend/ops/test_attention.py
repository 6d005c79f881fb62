"""Packed attention: the function bodies and ONNX Runtime's lowering against the NumPy oracle.

Nobody clears the caches in production, so they start out poisoned here, and the oracle's with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dspark_engines.backends.onnxruntime.compile import compile_graph
from dspark_engines.backends.onnxruntime.program import OrtProgram, OrtSlot
from dspark_engines.bundle.caches import older_caches
from dspark_engines.errors import BackendError
from dspark_export.checkpoints import RopeSpec
from dspark_export.checks import compare
from dspark_export.graphs.rope import rope_tables
from dspark_plugins.attention import INPUTS, OUTPUTS, AttentionSpec
from dspark_plugins.attention.function import attention_function
from dspark_plugins.attention.reference import block_attention, cached_attention
from tests.support import one_node

CAPACITY = 64
CACHES = ("key_cache.0", "value_cache.0")
SPECS = older_caches(1)
SHAPES = [(4, 2, 16), (3, 1, 16), (2, 2, 32), (9, 3, 64)]  # query heads, key/value heads, width
# row lengths and cache used before them: one step each
CAUSAL = [([1], [0]), ([33], [0]), ([7], [13]), ([1, 1], [0, 63]), ([5, 1], [0, 20]), ([1, 9, 2, 16], [3, 0, 40, 1])]
# lengths of context features: none new, none at all, and a block that ends where the cache does
BLOCK = [
    ([1], [0]),
    ([30], [0]),
    ([0], [9]),
    ([0], [0]),
    ([3, 1], [0, 20]),
    ([0, 2], [5, 57]),
    ([1, 8, 2, 3], [9, 0, 4, 1]),
]


def op_model(spec: AttentionSpec) -> ir.Model:
    """One node, with the names that target and drafter graphs use."""
    query, kv, half = spec.num_heads * spec.head_dim, spec.num_kv_heads * spec.head_dim, spec.head_dim // 2
    cached = ["R", spec.num_kv_heads, "C", spec.head_dim]
    shapes: list[Any] = [["N", query], ["T", kv], ["T", kv], ["R"], ["R"], ["P", half], ["P", half], cached, cached]
    inputs = dict(zip([*INPUTS[:-2], *CACHES], shapes, strict=True))
    inputs |= {"sinks": [spec.num_heads]} if spec.sinks else {}
    outputs = {"output": ["N", query], "key_cache_out.0": cached, "value_cache_out.0": cached}
    assert tuple(name.removesuffix(".0") for name in outputs) == OUTPUTS
    return one_node.one_node_model(attention_function(spec), spec.attributes(), inputs, outputs)


@cache
def body_session(spec: AttentionSpec) -> Any:
    return one_node.session(op_model(spec))


class Oracle:
    """The NumPy reference with its caches [R, Hkv, C, D], as every form below is held."""

    def __init__(self, spec: AttentionSpec, rows: int, poison: float = np.nan) -> None:
        self.spec = spec
        self.caches = [np.full((rows, spec.num_kv_heads, CAPACITY, spec.head_dim), poison, np.float32)] * 2

    def step(self, feeds: dict[str, np.ndarray]) -> np.ndarray:
        function = block_attention if self.spec.block_size else cached_attention
        before = [value for name, value in feeds.items() if name != "sinks"]
        after = [feeds["sinks"]] if self.spec.sinks else []
        output, *self.caches = function(self.spec, *before, *self.caches, *after)
        return output


class Body(Oracle):
    """The function body: it masks cells rather than leaving them out, so garbage has to be finite."""

    def __init__(self, spec: AttentionSpec, rows: int) -> None:
        super().__init__(spec, rows, poison=1e4)

    def step(self, feeds: dict[str, np.ndarray]) -> np.ndarray:
        result = one_node.run(body_session(self.spec), feeds | dict(zip(CACHES, self.caches, strict=True)))
        output, *self.caches = result.values()
        return output


class Lowered:
    """What the backend compiles, with a slot a row, bound in place as the engines do it."""

    def __init__(self, program: OrtProgram, rows: int) -> None:
        self.program, self.slots = program, [OrtSlot(program.cache_shapes) for _ in range(rows)]
        for slot in self.slots:
            for buffer in slot.buffers.values():
                buffer.update_inplace(np.full(buffer.shape(), np.nan, np.float32))

    @property
    def caches(self) -> list[np.ndarray]:
        return [np.concatenate([slot.buffers[cache].numpy() for slot in self.slots]) for cache in SPECS]

    def step(self, feeds: dict[str, np.ndarray]) -> np.ndarray:
        (output,), _ = self.program.run(self.slots, feeds)
        return output


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """(spec, slots) -> the lowered program, compiled once."""
    folder = tmp_path_factory.mktemp("attention")

    @cache
    def program(spec: AttentionSpec, slots: int) -> OrtProgram:
        return OrtProgram(one_node.session(lower(spec, slots, folder)), ("output",), SPECS, CAPACITY)

    return program


def lower(spec: AttentionSpec, slots: int, folder: Path) -> Path:
    source, lowered = folder / "op.onnx", folder / "lowered.onnx"
    onnx.save(ir.to_proto(op_model(spec)), source)
    compile_graph(source, lowered, slots=slots)
    return lowered


def feeds_for(spec: AttentionSpec, lengths: Sequence[int], used: Sequence[int], seed: int = 0) -> dict[str, np.ndarray]:
    """The op's inputs up to the caches, in order."""
    random, block = np.random.default_rng(seed), spec.block_size * len(lengths)
    new, queries = sum(lengths) + block, block or sum(lengths)
    sizes = [(queries, spec.num_heads), (new, spec.num_kv_heads), (new, spec.num_kv_heads)]
    values: list[Any] = [random.standard_normal((n, heads * spec.head_dim), np.float32) for n, heads in sizes]
    values += [np.array(lengths), np.array(used), *rope_tables(RopeSpec(100.0), spec.head_dim, CAPACITY + 8)]
    sinks = {"sinks": random.standard_normal(spec.num_heads, np.float32)} if spec.sinks else {}
    return dict(zip(INPUTS, values, strict=False)) | sinks


def assert_step(spec: AttentionSpec, form: Any, oracle: Oracle, feeds: dict[str, np.ndarray]) -> None:
    """One step of both; the output, and of the caches what the contract defines."""
    actual, expected = form.step(feeds), oracle.step(feeds)
    assert np.isfinite(expected).all(), "the oracle read a cell that was never written"
    results = [compare(spec.op_type, actual, expected)]
    for row, end in enumerate(feeds["used"] + feeds["row_lengths"]):
        pairs = zip(form.caches, oracle.caches, strict=True)
        results += [compare(spec.op_type, a[row, :, :end], b[row, :, :end]) for a, b in pairs]
    assert all(result.passed for result in results), results


def fill(form: Any, oracle: Oracle, spec: AttentionSpec, used: Sequence[int]) -> None:
    """Bring every row to its `used`, one step for all; every engine takes at least one token a row."""
    if any(used):
        feeds = feeds_for(spec, [max(count, 1) for count in used], [0] * len(used), seed=1)
        form.step(feeds), oracle.step(feeds)


def specs(block: int) -> list[AttentionSpec]:
    return [AttentionSpec(*shape, block) for shape in SHAPES]


SCORED = [  # a window of one token, ones that end inside and outside what CAUSAL has; scale and softcap; all at once
    *(AttentionSpec(4, 2, 16, window=window) for window in (1, 4, 33, 200)),
    AttentionSpec(4, 2, 16, scale=0.5),
    AttentionSpec(4, 2, 16, softcap=1.5),
    AttentionSpec(4, 2, 32, window=5, scale=0.25, softcap=2.0),
    AttentionSpec(4, 2, 16, 5, scale=0.5, softcap=1.5),
    *(AttentionSpec(4, 2, 16, 5, window=window) for window in (1, 4, 200)),
    AttentionSpec(4, 2, 16, 5, causal=True),
    AttentionSpec(9, 3, 16, 5, window=3, causal=True, softcap=1.5),
    AttentionSpec(4, 2, 16, 1, window=3, causal=True),
    AttentionSpec(4, 2, 16, sinks=True),
    AttentionSpec(4, 2, 16, window=4, scale=0.5, sinks=True),
]


def label(spec: AttentionSpec) -> str:
    return "-".join(f"{value:g}" for value in spec.attributes().values())


@pytest.mark.parametrize("lowered", [False, True], ids=["body", "lowered"])
@pytest.mark.parametrize("spec", [*specs(0), *specs(1), *specs(5), *SCORED], ids=label)
def test_matches_oracle(spec: AttentionSpec, lowered: bool, compiled: Any) -> None:
    for lengths, used in BLOCK if spec.block_size else CAUSAL:
        rows = len(lengths)
        form, oracle = Lowered(compiled(spec, rows), rows) if lowered else Body(spec, rows), Oracle(spec, rows)
        fill(form, oracle, spec, used)
        assert_step(spec, form, oracle, feeds_for(spec, lengths, used))


STEPS = st.lists(st.tuples(*[st.tuples(st.integers(1, 6), st.integers(0, 6))] * 2), min_size=1, max_size=8)


@pytest.mark.parametrize("lowered", [False, True], ids=["body", "lowered"])
@pytest.mark.parametrize("block", [0, 3])
@settings(max_examples=20, deadline=None)
@given(steps=STEPS, seed=st.integers(0, 99))
def test_rollback_leaves_no_stale_slot(compiled: Any, steps: Any, seed: int, block: int, lowered: bool) -> None:
    """Append n, take back m, in two rows at once: what lies behind `used` never matters."""
    spec = AttentionSpec(4, 2, 16, block)
    form, oracle = Lowered(compiled(spec, 2), 2) if lowered else Body(spec, 2), Oracle(spec, 2)
    used = [0, 0]
    for number, rows in enumerate(steps):
        feeds = feeds_for(spec, [n for n, _ in rows], used, seed + number)
        assert_step(spec, form, oracle, feeds)
        used = [before + max(n - m, 0) for before, (n, m) in zip(used, rows, strict=True)]


def test_only_blocks_are_told_to_be_causal() -> None:
    with pytest.raises(ValueError, match="CachedAttention always is"):
        AttentionSpec(4, 2, 16, causal=True)


@pytest.mark.parametrize(("causal", "seen"), [(False, [5, 5, 5]), (True, [3, 4, 5])])
def test_a_window_begins_at_the_block_for_all_of_it(causal: bool, seen: list[int]) -> None:
    """Two cells of context and the block (or its part up to the token), whatever the token's place in it."""
    spec = AttentionSpec(4, 2, 16, 3, window=2, causal=causal)
    feeds, oracle = feeds_for(spec, [9], [0]), Oracle(spec, 1)
    feeds["query"][:] = 0  # every cell that is seen weighs the same
    feeds["value"] = np.tile(np.eye(12, 16, dtype=np.float32), (1, 2))
    output = oracle.step(feeds)
    assert [int((row[:16] > 0).sum()) for row in output] == seen
    assert not output[:, :7].any()


@pytest.mark.parametrize("slots", [1, 2])
def test_odd_head_width_is_refused(slots: int, tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="head_dim 24 is not a multiple of 16"):
        lower(AttentionSpec(4, 2, 24), slots, tmp_path)
    assert not (tmp_path / "lowered.onnx").exists()
    lower(AttentionSpec(4, 2, 24, 5), slots, tmp_path)  # the drafter's op needs no such kernel
