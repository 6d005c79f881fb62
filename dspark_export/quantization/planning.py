"""What each layer needs so that 8 bits are enough for its inputs: measured on the float32 graph itself.

Outliers come in two kinds. Channels that are large in every row: they are divided out of a norm's weight and
multiplied into the layer behind it, once and for all (the idea of SmoothQuant, Xiao et al. 2023, equation 4 with
α = 1/2). Rows with a few large entries, typical of the input of `down_proj`: there no fixed factor helps, but a
rotation spreads them, and where that is not enough the row's remainder is quantised as a second term. Random tokens
show both kinds, since they are properties of the weights: no text is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from dspark_engines.arrays import Floats
from dspark_engines.backends.exported import NEXT_IDS
from dspark_export.graphs import save_graph
from dspark_export.quantization.layers import LinearLayer, linear_layers
from dspark_export.quantization.rotation import block_size, rotated
from dspark_export.reference_graph import ReferenceGraph
from dspark_plugins.int8_linear import ZERO_POINT
from dspark_plugins.int8_linear.reference import quantize_rows

LARGEST_ERROR = 1.5e-4
"""Share of an input's energy that quantising may lose, mean over rows. Beyond: rotated first, or two terms."""

ROWS, TOKENS = 8, 16
SMALL, TINY = 1e-5, 1e-30
NORM = "RMSNormalization"
Arrays = dict[str, npt.NDArray[Any]]
Progress = Callable[[int, int], None]


class LayerPlan(NamedTuple):
    """How the input of a layer is quantised.

    `smoothing` [K]: factors that the input is divided by, or None; `folded` if that happens in the norm before it.
    `rotation`: size of the blocks that the smoothed input is then rotated by, or 0. `error`: share of its energy that
    one term loses, mean over rows. `terms`: how many it gets.
    """

    smoothing: Floats | None = None
    folded: bool = False
    rotation: int = 0
    error: float = 0.0
    terms: int = 1


Plans = dict[str, LayerPlan]
"""By the name of the layer's weight."""


def plan_target(model: ir.Model, vocab_size: int, progress: Progress | None = None) -> tuple[Plans, Floats]:
    """Plans of a target graph, and the features [n, L*H] of the random tokens that it was measured on."""
    plans, outputs = _measure(model, target_feeds(vocab_size), TOKENS, progress)
    return plans, outputs["features"]


def plan_drafter(
    model: ir.Model,
    vocab_size: int,
    block_size: int,
    features: Floats,
    shared: Plans,
    progress: Progress | None = None,
) -> Plans:
    """Plans of a drafter graph, measured on the features that `plan_target` returned.

    `shared`: plans of weights that are written already, because the target's graph has them too.
    """
    feeds = drafter_feeds(vocab_size, block_size, features, text=_reads_text(model))
    return _measure(model, feeds, TOKENS + block_size, progress, shared)[0]


def target_feeds(vocab_size: int) -> Arrays:
    """Inputs of a target graph for `ROWS` rows of `TOKENS` random tokens each."""
    tokens = np.random.default_rng(0).integers(0, vocab_size, ROWS * TOKENS)
    return {
        "token_ids": tokens,
        "row_lengths": np.full(ROWS, TOKENS),
        "used": np.zeros(ROWS, np.int64),
        "logit_rows": np.arange(len(tokens)),
    }


def drafter_feeds(vocab_size: int, block_size: int, features: Floats, *, text: bool = False) -> Arrays:
    """Inputs of a drafter graph behind the `features` of `target_feeds`; `text`: it reads the tokens behind, too."""
    tokens = target_feeds(vocab_size)["token_ids"]
    return ({NEXT_IDS: np.roll(tokens, -1)} if text else {}) | {
        "features": features,
        "feature_lengths": np.full(ROWS, TOKENS),
        "used": np.zeros(ROWS, np.int64),
        "anchor_ids": np.random.default_rng(1).integers(0, vocab_size, ROWS),
        "temperature": np.zeros(ROWS, np.float32),
        "uniforms": np.zeros((ROWS, block_size), np.float32),
    }


def reads_text(path: Path) -> bool:
    """Whether the drafter graph at `path` reads the tokens behind its features too."""
    return _reads_text(ir.load(path))


def _reads_text(model: ir.Model) -> bool:
    return any(value.name == NEXT_IDS for value in model.graph.inputs)


def _measure(
    model: ir.Model,
    feeds: Arrays,
    capacity: int,
    progress: Progress | None,
    shared: Plans | None = None,
) -> tuple[Plans, Arrays]:
    """Run `model` on `feeds`: plans by layer name, and the graph's own outputs.

    Needs the disk space of the float32 graph for a while. Its weights must not have been written before.
    """
    groups = _groups(linear_layers(model.graph))
    readers = {layer.x: layer for group in groups for layer in group}
    inputs = [x for x in readers if not x.is_graph_output()]
    for x in inputs:
        x.shape, x.dtype = ir.Shape([None, readers[x].shape[0]]), ir.DataType.FLOAT
        model.graph.outputs.append(x)
    with TemporaryDirectory() as folder:
        save_graph(model, Path(folder) / "trace.onnx", progress)
        for layer in {layer.name: layer for group in groups for layer in group}.values():
            layer.load()  # checked: a damaged weight is to be named, not what follows from it
        results = ReferenceGraph(Path(folder) / "trace.onnx", ROWS, capacity).step(**feeds)
        plans = {
            layer.name: plan
            for group in groups
            for plan in [_plan(group, np.concatenate([results[x.name or ""] for x in _inputs(group)]), shared or {})]
            for layer in group
        }
    for x in inputs:
        del results[x.name or ""]
    return plans, results


def _groups(layers: Iterable[LinearLayer]) -> list[list[LinearLayer]]:
    """Those with the same inputs together. A chain runs a layer at every step: it has the inputs of all."""
    by_name: dict[str, list[LinearLayer]] = {}
    for layer in layers:
        by_name.setdefault(layer.name, []).append(layer)
    groups: dict[tuple[ir.Value, ...], list[LinearLayer]] = {}
    for steps in by_name.values():
        groups.setdefault(tuple(_inputs(steps)), []).extend(steps)
    return list(groups.values())


def _inputs(layers: Sequence[LinearLayer]) -> list[ir.Value]:
    return list(dict.fromkeys(layer.x for layer in layers))


def _plan(layers: list[LinearLayer], inputs: Floats, shared: Plans) -> LayerPlan:
    given = next((shared[layer.name] for layer in layers if layer.name in shared), None)
    factors = _smoothing(layers, inputs) if given is None else given.smoothing
    smooth = inputs if factors is None else inputs / factors
    rotations = (0, block_size(inputs.shape[1])) if given is None else (given.rotation,)
    errors = [_error(rotated(smooth, rotation)) for rotation in rotations]
    chosen = next((index for index, error in enumerate(errors) if error <= LARGEST_ERROR), 0)
    terms = 1 if errors[chosen] <= LARGEST_ERROR else 2
    return LayerPlan(factors, factors is not None and given is None, rotations[chosen], errors[chosen], terms)


def _error(x: Floats) -> float:
    """Share of the energy of x [n, K] that one term loses, mean over rows."""
    quantized, scale = quantize_rows(x)
    lost = x - (quantized.astype(np.float32) - ZERO_POINT) * scale
    return float(np.mean((lost**2).sum(axis=1) / np.maximum((x**2).sum(axis=1), TINY)))


def _smoothing(layers: list[LinearLayer], inputs: Floats) -> Floats | None:
    """Factors [K], where the inputs are outputs of one norm that nobody else reads."""
    xs = _inputs(layers)
    norms = [x.producer() for x in xs]
    if len({norm.inputs[1] for norm in norms if norm is not None and norm.op_type == NORM}) != 1:
        return None
    if any(norm is None or norm.op_type != NORM for norm in norms) or sum(len(x.uses()) for x in xs) > len(layers):
        return None
    loaded = {layer.name: layer for layer in layers}.values()
    weights = np.max([np.abs(layer.load()).max(axis=1) for layer in loaded], axis=0)
    factors = np.sqrt(np.maximum(np.abs(inputs).max(axis=0), SMALL) / np.maximum(weights, SMALL))
    return np.asarray(factors / factors.mean(), np.float32)
