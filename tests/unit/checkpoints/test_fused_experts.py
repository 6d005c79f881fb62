"""Stacks of experts with gate and up in one tensor: what is whose, read once, and little memory."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from dspark_engines.errors import CheckpointError
from dspark_export.checkpoints.fused_experts import FusedExperts, FusedSource
from dspark_export.checkpoints.tensors import Entry, TensorSource, Weights

GEMMA4, GPT_OSS = FusedExperts(), FusedExperts(turned=True, interleaved=True, biased=True)
STEM = "layers.0.mlp.experts"


class Counting(TensorSource):
    """Arrays, of which every read is a copy and counted."""

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self._arrays = arrays
        self.reads: Counter[str] = Counter()

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        return {name: array.shape for name, array in self._arrays.items()}

    @property
    def quantization(self) -> str:
        return "MXFP4"

    def stored(self, name: str) -> str:
        return "BF16" if name in self._arrays else "F32"

    def load(self, name: str) -> np.ndarray:
        self.reads[name] += 1
        return self._arrays[name].copy()


def split(layout: FusedExperts, source: TensorSource) -> Weights:
    """Everything in `source`, whose names are canonical with "model." in front."""
    entries = {name.removeprefix("model."): Entry(name) for name in source.shapes}
    named, whole = layout.split(entries, source)
    return Weights(Path("model"), whole, named)


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape)).standard_normal(shape).astype(np.float32)


def gemma4(layers: int = 1) -> tuple[Counting, dict[str, np.ndarray]]:
    """Stacks as they lie, and what each projection is: 3 experts, 8 wide on 6 states."""
    both, down = random(3, 16, 6), random(3, 6, 8)
    lying, expected = {}, {}
    for i in range(layers):
        stem = f"layers.{i}.experts"
        lying |= {f"model.{stem}.gate_up_proj": both, f"model.{stem}.down_proj": down}
        expected |= {
            f"{stem}.gate_proj.weight": both[:, :8],
            f"{stem}.up_proj.weight": both[:, 8:],
            f"{stem}.down_proj.weight": down,
        }
    return Counting(lying), expected


def gpt_oss(layers: int = 1) -> tuple[Counting, dict[str, np.ndarray]]:
    """The same as gpt-oss has them, with biases."""
    both, down, both_bias, down_bias = random(3, 6, 16), random(3, 8, 6), random(3, 16), random(3, 6)
    lying, expected = {}, {}
    for i in range(layers):
        stem = f"layers.{i}.mlp.experts"
        lying |= {f"model.{stem}.gate_up_proj": both, f"model.{stem}.gate_up_proj_bias": both_bias}
        lying |= {f"model.{stem}.down_proj": down, f"model.{stem}.down_proj_bias": down_bias}
        expected |= {
            f"{stem}.gate_proj.weight": both[:, :, 0::2].swapaxes(1, 2),
            f"{stem}.up_proj.weight": both[:, :, 1::2].swapaxes(1, 2),
            f"{stem}.down_proj.weight": down.swapaxes(1, 2),
            f"{stem}.gate_proj.bias": both_bias[:, 0::2],
            f"{stem}.up_proj.bias": both_bias[:, 1::2],
            f"{stem}.down_proj.bias": down_bias,
        }
    return Counting(lying), expected


LAYOUTS = {"gemma 4": (GEMMA4, gemma4), "gpt-oss": (GPT_OSS, gpt_oss)}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_projection_is_a_tensor_and_each_stack_is_read_once(layout: str) -> None:
    how, make = LAYOUTS[layout]
    source, expected = make(layers=2)
    weights = split(how, source)
    assert weights.shapes == {name: array.shape for name, array in expected.items()}
    for name, array in expected.items():
        found = weights[name]
        np.testing.assert_array_equal(found, array, err_msg=name)
        assert found.flags.c_contiguous
    assert source.reads == dict.fromkeys(source.shapes, 1)


@pytest.mark.parametrize("order", [("gate", "up"), ("up", "gate")])
def test_either_part_may_be_first_and_both_are_there_again(order: tuple[str, str]) -> None:
    source, expected = gpt_oss()
    weights = split(GPT_OSS, source)
    for reads in (1, 2):
        for one in order:
            name = f"{STEM}.{one}_proj.weight"
            found = weights[name]
            np.testing.assert_array_equal(found, expected[name])
            found[...] = 0  # its own memory
        assert source.reads["model." + STEM + ".gate_up_proj"] == reads


def test_a_part_that_nobody_asks_for_is_not_kept_for_ever() -> None:
    source, expected = gemma4(layers=2)
    weights = split(GEMMA4, source)
    for name in ("layers.0.experts.gate_proj.weight", "layers.1.experts.gate_proj.weight"):
        assert weights[name].size
    assert isinstance(weights.source, FusedSource)
    assert len(weights.source._kept) == 1
    name = "layers.0.experts.up_proj.weight"
    np.testing.assert_array_equal(weights[name], expected[name])


def test_what_is_stored_is_passed_on() -> None:
    source, _ = gpt_oss()
    weights = split(GPT_OSS, source)
    assert weights.source.quantization == "MXFP4"
    assert {weights.source.stored(entry.source_name) for entry in weights.entries.values()} == {"BF16"}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_memory_is_twice_the_stack(layout: str) -> None:
    """The stack, and its parts, which are what is asked for."""
    how, _ = LAYOUTS[layout]
    size = 1 << 20
    source = Counting({f"{STEM}.gate_up_proj": np.ones((4, 256, 256), np.float32)})
    named, whole = how.split({name: Entry(name) for name in source.shapes}, source)
    weights = Weights(Path("model"), whole, named)
    tracemalloc.start()
    both = [weights[f"{STEM}.{one}_proj.weight"] for one in ("gate", "up")]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sum(part.nbytes for part in both) == size
    assert size < peak < 2.1 * size


@pytest.mark.parametrize(
    ("layout", "shape", "name"),
    [
        (GEMMA4, (2, 7, 4), "gate_up_proj"),
        (GEMMA4, (14, 4), "gate_up_proj"),
        (GEMMA4, (2, 8), "gate_up_proj_bias"),
        (GEMMA4, (14, 4), "down_proj"),
        (GPT_OSS, (2, 4, 7), "gate_up_proj"),
        (GPT_OSS, (8,), "gate_up_proj_bias"),
        (GPT_OSS, (2, 7), "gate_up_proj_bias"),
        (GPT_OSS, (2, 8, 4), "gate_proj"),
    ],
)
def test_what_is_no_stack_is_left_alone(layout: FusedExperts, shape: tuple[int, ...], name: str) -> None:
    """The list of tensors refuses it by its own name."""
    source = Counting({f"{STEM}.{name}": random(*shape)})
    entries = {name: Entry(name) for name in source.shapes}
    assert layout.split(entries, source)[0] == entries


def test_numbers_that_are_not_finite_are_refused_with_the_name_of_the_stack() -> None:
    both = random(3, 6, 16)
    both[1, 4, 5] = np.nan
    weights = split(GPT_OSS, Counting({f"model.{STEM}.gate_up_proj": both}))
    assert weights[f"{STEM}.gate_proj.weight"].size
    with pytest.raises(CheckpointError, match=r"gate_up_proj \(up\) holds nan at \[1, 2, 4\]"):
        weights[f"{STEM}.up_proj.weight"]
