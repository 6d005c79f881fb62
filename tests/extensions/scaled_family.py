"""A toy family of targets, in one file: Llama whose embeddings are multiplied by the root of their width."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from dspark_export.checkpoints import TargetSpec, Weights
from dspark_export.families.llama import LlamaFamily

PLACE = "tests.extensions.scaled_family:ScaledLlamaFamily"


class ScaledLlamaFamily(LlamaFamily):
    """`ScaledLlamaForCausalLM`."""

    name = "scaled-llama"
    architectures = ("ScaledLlamaForCausalLM",)
    gguf = ""

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
