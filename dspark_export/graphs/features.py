"""A drafter's own taps out of features that the target gives for several drafters."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

FEATURES = "features"


def take_features(model: ir.Model, taps: Sequence[int], given: Sequence[int], hidden_size: int) -> ir.Model:
    """`model`, whose input `features` [M, len(taps)*H] becomes [M, len(given)*H], of which it takes its own."""
    if tuple(taps) == tuple(given):
        return model
    graph = model.graph
    wide = next(value for value in graph.inputs if value.name == FEATURES)
    readers = list(wide.uses())
    assert wide.shape is not None, "exported graphs declare their interface"
    wide.shape = ir.Shape([wide.shape[0], len(given) * hidden_size])
    before = next(iter(graph))
    nodes, own = _own_columns(wide, [tuple(given).index(tap) for tap in taps], hidden_size)
    graph.insert_before(before, nodes)
    for node, index in readers:
        node.replace_input_with(index, own)
    return model


def _own_columns(wide: ir.Value, places: Sequence[int], hidden_size: int) -> tuple[list[ir.Node], ir.Value]:
    """The nodes that cut these blocks of columns out, and what they give."""
    nodes, parts = [], []
    for place in places:
        start, stop = place * hidden_size, (place + 1) * hidden_size
        constants = [
            _constant(f"features.{name}.{place}", n) for name, n in (("from", start), ("to", stop), ("axis", 1))
        ]
        part = ir.Node("", "Slice", [wide, *(node.outputs[0] for node in constants)], name=f"features.{place}")
        part.outputs[0].name = f"features.{place}"
        nodes += [*constants, part]
        parts.append(part.outputs[0])
    joined = ir.Node("", "Concat", parts, [ir.AttrInt64("axis", 1)], name="features.own")
    joined.outputs[0].name = "features.own"
    return [*nodes, joined], joined.outputs[0]


def _constant(name: str, value: int) -> ir.Node:
    node = ir.Node("", "Constant", [], [ir.AttrInt64s("value_ints", [value])], name=name)
    node.outputs[0].name = name
    return node
