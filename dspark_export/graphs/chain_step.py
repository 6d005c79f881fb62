"""One step of a chain: pairs of a state and the token behind it go through a stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import onnx_ir as ir

from dspark_export.checkpoints import DrafterSpec
from dspark_export.graphs.decoder import CachedDecoder, cache_names
from dspark_export.graphs.projection import project_self


@dataclass(frozen=True)
class Pairs:
    """state [n, H] (of the first step the features) and ids [n] of the tokens behind, packed: row r has lengths[r] of
    them, the first at position used[r]. `rows` is what n is called."""

    state: ir.Value
    ids: ir.Value
    lengths: ir.Value
    used: ir.Value
    rows: str


class Left(NamedTuple):
    """What a step leaves: states behind the final norm, which the head reads, and those that the next step reads."""

    normed: ir.Value
    state: ir.Value


@dataclass
class ChainDecoder(CachedDecoder):
    """Layers that every step runs anew, each finding the caches that the step before has left."""

    last: ir.Value | None = None
    """[R]: the rows of x that the last layer goes on with; None: all."""
    found: dict[int, Sequence[ir.Value]] = field(default_factory=dict)
    """Caches by layer."""

    def begin(self, step: int, pairs: Pairs, last: ir.Value | None) -> None:
        """Let layers run over these pairs."""
        self.lengths, self.used, self.rows, self.step = pairs.lengths, pairs.used, pairs.rows, f"step{step}."
        self.last = last

    def caches(self, i: int) -> list[ir.Value]:
        return list(self.found[i]) if i in self.found else super().caches(i)

    def keep(self, i: int, updated: Sequence[ir.Value]) -> None:
        for value in updated:
            value.shape, value.dtype = ir.Shape(("R", *self.cache_row(i))), ir.DataType.FLOAT
        self.found[i] = updated

    def finish_caches(self) -> None:
        """What the last step has left is what the graph puts out."""
        for i, updated in sorted(self.found.items()):
            for name, cache in zip(cache_names(i), updated, strict=True):
                self.writer.update(name, cache, self.cache_row(i))

    def end(self, i: int, x: ir.Value, attended: ir.Value, *, last: bool) -> ir.Value:
        """The rest of layer i; of the `last` only for the rows that are read on."""
        if last and self.last is not None:
            x, attended = (self.writer.op.Gather(rows, self.last) for rows in (x, attended))
        return self.finish(i, x, attended)


def run_stage(decoder: ChainDecoder, spec: DrafterSpec, stage: int, pairs: Pairs, *, first: bool) -> Left:
    """One step through a stage's layers; the `first` reads features."""
    chain, w, epsilon = spec.chain, decoder.writer, spec.shape.rms_norm_eps
    assert chain is not None, "only chains have stages"
    embedding = w.scaled(w.op.Gather(w.weight("embed_tokens.weight"), pairs.ids), spec.embedding_scale)
    if chain.kind == "mtp":
        x = _mtp_layer(decoder, spec, stage, embedding, pairs.state)
        norm = f"stages.{stage}.norm.weight"
    else:
        state = _project_taps(decoder, spec, pairs.state) if first else pairs.state
        x = _eagle3_layers(decoder, spec, embedding, state)
        norm = "norm.weight"
    normed = w.rms_norm(x, norm, epsilon)
    return Left(normed, normed if chain.state_normed else x)


def _mtp_layer(decoder: ChainDecoder, spec: DrafterSpec, stage: int, embedding: ir.Value, state: ir.Value) -> ir.Value:
    chain, w, epsilon = spec.chain, decoder.writer, spec.shape.rms_norm_eps
    assert chain is not None, "only chains have stages"
    parts = [
        w.rms_norm(embedding, f"stages.{stage}.embedding_norm.weight", epsilon),
        w.rms_norm(state, f"stages.{stage}.hidden_norm.weight", epsilon),
    ]
    both = w.op.Concat(*(parts if chain.embedding_first else reversed(parts)), axis=-1)
    x = w.linear(both, f"stages.{stage}.fc.weight")
    return _ordinary(decoder, stage, x, last=True)


def _project_taps(decoder: ChainDecoder, spec: DrafterSpec, features: ir.Value) -> ir.Value:
    """u [M, H] of the taps [M, L*H]."""
    chain, w, epsilon = spec.chain, decoder.writer, spec.shape.rms_norm_eps
    assert chain is not None, "only chains have stages"
    count = len(spec.target_layer_ids)
    if chain.tap_norm == "whole":
        features = w.rms_norm(features, "input_norm.weight", epsilon)
    if chain.tap_norm == "each":
        parts = decoder.split(features, *[spec.shape.hidden_size] * count) if count > 1 else [features]
        normed = [w.rms_norm(part, f"fc_norm.{i}.weight", epsilon) for i, part in enumerate(parts)]
        features = w.op.Concat(*normed, axis=-1)
    return w.linear(features, "fc.weight")


def _eagle3_layers(decoder: ChainDecoder, spec: DrafterSpec, embedding: ir.Value, state: ir.Value) -> ir.Value:
    chain, w, depth = spec.chain, decoder.writer, spec.shape.num_layers
    assert chain is not None, "only chains have stages"
    normed = w.rms_norm(state, "layers.0.hidden_norm.weight", spec.shape.rms_norm_eps)
    both = w.op.Concat(decoder.norm(0, "input", embedding), normed, axis=-1)
    attended = decoder.attend(0, *project_self(decoder, 0, both))
    x = decoder.end(0, normed if chain.residual_normed else state, attended, last=depth == 1)
    for i in range(1, depth):
        x = _ordinary(decoder, i, x, last=i == depth - 1)
    return x


def _ordinary(decoder: ChainDecoder, i: int, x: ir.Value, *, last: bool) -> ir.Value:
    attended = decoder.attend(i, *project_self(decoder, i, decoder.norm(i, "input", x)))
    return decoder.end(i, x, attended, last=last)
