"""A toy family of targets, in one file: Llama whose embeddings are multiplied by the root of their width.

Its first layer sees few tokens: layers differ. The one below it bounds its scores as well.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx_ir as ir

from dspark_export.checkpoints import DecoderShape, TargetSpec, Weights
from dspark_export.checkpoints.config_file import DecoderConfig
from dspark_export.families.llama import LlamaFamily

WINDOW = 5
FAMILIES = {
    "scaled-llama": "tests.extensions.scaled_family:ScaledLlamaFamily",
    "capped-llama": "tests.extensions.scaled_family:CappedLlamaFamily",
}


class ScaledLlamaFamily(LlamaFamily):
    """`ScaledLlamaForCausalLM`."""

    name = "scaled-llama"
    architectures = ("ScaledLlamaForCausalLM",)
    gguf = None

    def read_shape(self, config: DecoderConfig, path: Path) -> DecoderShape:
        shape = super().read_shape(config, path)
        first, *others = shape.layers
        return replace(shape, layers=(replace(first, window=WINDOW), *others))

    def build_graph(self, spec: TargetSpec, weights: Weights, taps: tuple[int, ...], positions: int) -> ir.Model:
        model: ir.Model = super().build_graph(spec, weights, taps, positions)
        token_ids = next(value for value in model.graph.inputs if value.name == "token_ids")
        (gather,) = token_ids.consumers()
        scale = ir.Value(name="scale", const_value=ir.tensor([spec.shape.hidden_size**0.5], ir.DataType.FLOAT))
        scale.shape, scale.dtype = ir.Shape([1]), ir.DataType.FLOAT
        model.graph.register_initializer(scale)
        states = gather.outputs[0]
        scaled = ir.node("Mul", [states, scale])
        scaled.outputs[0].shape, scaled.outputs[0].dtype = states.shape, ir.DataType.FLOAT
        model.graph.insert_after(gather, scaled)
        for user, index in list(states.uses()):
            if user is not scaled:
                user.replace_input_with(index, scaled.outputs[0])
        return model

    def build_oracle(self, spec: TargetSpec, weights: Weights) -> Any:
        module = super().build_oracle(spec, weights)
        module.embed_tokens.register_forward_hook(lambda _, __, states: states * spec.shape.hidden_size**0.5)
        return module


class CappedLlamaFamily(ScaledLlamaFamily):
    """`CappedLlamaForCausalLM`."""

    name = "capped-llama"
    architectures = ("CappedLlamaForCausalLM",)

    def read_shape(self, config: DecoderConfig, path: Path) -> DecoderShape:
        shape = super().read_shape(config, path)
        return replace(shape, layers=tuple(replace(layer, softcap=4.0) for layer in shape.layers))
