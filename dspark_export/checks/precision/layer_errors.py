"""What 8 bits cost every single layer: its own input in float32, through the weights that the bundle holds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from dspark_engines.arrays import Floats
from dspark_export.checks.precision.layer_trace import Traced, trace
from dspark_export.quantization.int8_layers import Int8Layer, read_int8_layers
from dspark_export.quantization.planning import ROWS, TINY, TOKENS, drafter_feeds, reads_text, target_feeds
from dspark_export.quantization.rotation import rotated
from dspark_plugins.int8_linear import ZERO_POINT
from dspark_plugins.int8_linear.reference import quantize_rows

GraphName = Literal["target", "drafter"]


class LayerError(NamedTuple):
    """One linear layer on random tokens, its input being exact.

    `layer` is the name that `--keep-fp32` takes. `input_lost`: share of the (smoothed, rotated) input's energy that its
    quantisation loses, mean over rows. `output_error`: relative error of the output, root of mean squares over all
    entries. `damage`: energy of that error relative to what the output becomes: its sum with the residual stream
    where it is added to that, else the output itself. `terms` is 0 for a layer in float32.
    """

    layer: str
    terms: int
    smoothed: bool
    input_lost: float
    output_error: float
    damage: float


def layer_errors(
    reference: Path, quantized: Path, vocab_size: int, block_size: int
) -> dict[GraphName, list[LayerError]]:
    """Errors of both graphs' layers, in the order of the graphs.

    `reference` and `quantized` are onnx/ folders of bundles that differ in nothing but precision. The first one must
    be the caller's own: graphs with more outputs are written into it.
    """
    feeds = target_feeds(vocab_size)
    layers, outputs = trace(reference / "target.onnx", feeds, ROWS, TOKENS)
    errors: dict[GraphName, list[LayerError]] = {"target": list(_errors("target", layers, quantized))}
    feeds = drafter_feeds(vocab_size, block_size, outputs["features"], text=reads_text(reference / "drafter.onnx"))
    layers, _ = trace(reference / "drafter.onnx", feeds, ROWS, TOKENS + block_size)
    errors["drafter"] = list(_errors("drafter", layers, quantized))
    return errors


def _errors(graph: GraphName, layers: list[Traced], quantized: Path) -> Iterator[LayerError]:
    stored = read_int8_layers(quantized / f"{graph}.onnx")
    for layer in layers:
        name = f"{graph}.{layer.name.removesuffix('.weight')}"
        int8 = stored.get(layer.name)
        yield LayerError(name, 0, False, 0.0, 0.0, 0.0) if int8 is None else _error(name, layer, int8)


def _error(name: str, layer: Traced, int8: Int8Layer) -> LayerError:
    factors = int8.factors
    if int8.smoothed_norm is not None:
        factors = _divided_out(layer.norms[int8.norm], int8.smoothed_norm)
    x = rotated(layer.x if factors is None else np.asarray(layer.x / factors, np.float32), int8.rotation)
    restored = _restored(x, int8.terms)
    exact = layer.x @ layer.weight()
    wrong = restored @ (int8.weight.astype(np.float32) * int8.scale) - exact
    lost = _energy(x - restored, axis=1) / np.maximum(_energy(x, axis=1), TINY)
    return LayerError(
        layer=name,
        terms=int8.terms,
        smoothed=factors is not None,
        input_lost=float(lost.mean()),
        output_error=float(np.sqrt(_energy(wrong) / max(_energy(exact), TINY))),
        damage=float(_energy(wrong) / max(_energy(exact if layer.sum is None else layer.sum), TINY)),
    )


def _restored(x: Floats, terms: int) -> Floats:
    """`x` as its quantised rows stand for it."""
    quantized, scale = quantize_rows(x, terms)
    parts = np.split((quantized.astype(np.float32) - ZERO_POINT) * scale, terms)
    return np.asarray(sum(parts[1:], parts[0]), np.float32)


def _divided_out(norm: Floats, smoothed: Floats) -> Floats:
    """What the norm's weight was divided by; 1 for a channel whose weight is 0, since nothing comes through it."""
    return np.asarray(np.divide(norm, smoothed, out=np.ones_like(norm), where=smoothed != 0))


def _energy(x: Floats, axis: int | None = None) -> npt.NDArray[Any]:
    return np.asarray((x.astype(np.float64) ** 2).sum(axis=axis))
