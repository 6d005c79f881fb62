"""Parse a lowered graph into a strongly typed network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dspark_engines.errors import BackendError

SHOWN = 3


def parse_network(trt: Any, builder: Any, logger: Any, model: Path) -> Any:
    """The network of `model`. Raises `BackendError` naming the nodes that the parser refuses."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(0 if flag is None else 1 << int(flag))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(model)):
        raise BackendError(
            f"TensorRT's parser refuses {_errors(parser, logger)}",
            hint="this model needs an operator that the backend lacks; --backend onnxruntime runs it",
        )
    _finish_attention(trt, network)
    return network


def check_plugins(trt: Any, network: Any, expected: int) -> None:
    """Raises `BackendError` unless the network has so many plugin layers: one for every plugin node of its graph."""
    kinds = [network.get_layer(index).type for index in range(network.num_layers)]
    found = kinds.count(trt.LayerType.PLUGIN_V3)
    if found != expected:
        raise BackendError(
            f"TensorRT's parser made {found} plugin layers of {expected} plugin nodes",
            hint="pass --no-plugins, and report this with the version of TensorRT",
        )


def _errors(parser: Any, logger: Any) -> str:
    """What is wrong, node by node."""
    found = [parser.get_error(index) for index in range(parser.num_errors)]
    lines = [f"node '{e.node_name()}' ({e.node_operator() or 'graph'}): {e.desc()}" for e in found[:SHOWN]]
    if len(found) > SHOWN:
        lines.append(f"and {len(found) - SHOWN} more")
    return "; ".join(lines) or (logger.errors or ["the file"])[0]


def _finish_attention(trt: Any, network: Any) -> None:
    """What ONNX says about attention and the parser drops.

    The number of visible cells goes to the native layer, which then need not read the whole cache (the mask alone
    decides what is seen). Without a dedicated kernel (float32, odd head widths) the layer may be taken apart.
    """
    inputs = {network.get_input(index).name: network.get_input(index) for index in range(network.num_inputs)}
    lengths = None
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        if layer.type != trt.LayerType.ATTENTION_INPUT:
            continue
        layer.__class__ = trt.IAttentionInputLayer  # the binding hands out the base class
        layer.attention.decomposable = True
        if lengths is None:
            lengths = network.add_cast(inputs["visible"], trt.DataType.INT32).get_output(0)
        layer.attention.key_value_lengths = lengths
