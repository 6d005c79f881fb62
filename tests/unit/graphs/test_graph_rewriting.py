"""The one frame that rewrites graphs: what is put back, what stands for what, names that do not collide."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from dspark_plugins.graph_rewriting import Rewriter

FLOAT = ir.TensorType(ir.DataType.FLOAT)


def chain(*op_types: str) -> ir.Graph:
    """x -> op -> op … -> y, [n]."""
    x = value = ir.Value(name="x", shape=ir.Shape(["n"]), type=FLOAT)
    nodes = []
    for number, op_type in enumerate(op_types):
        nodes.append(ir.node(op_type, [value], name=f"node{number}"))
        value = nodes[-1].outputs[0]
        value.name, value.shape, value.type = f"value{number}", ir.Shape(["n"]), FLOAT
    return ir.Graph([x], [value], nodes=nodes, opset_imports={"": 24}, name="chain")


def test_what_is_written_stands_in_the_nodes_place() -> None:
    graph = chain("Abs", "Neg", "Exp")
    rewriter = Rewriter(graph, "test")

    def double(node: ir.Node) -> bool:
        if node.op_type != "Neg":
            return False
        rewriter.replace(node, rewriter.op.Add(node.inputs[0], node.inputs[0]))
        return True

    assert rewriter.run(double) == 1
    assert [node.op_type for node in graph] == ["Abs", "Add", "Exp"]
    assert graph.node(1).outputs[0].name == "value1"
    assert graph.node(2).inputs[0] is graph.node(1).outputs[0]


def test_a_graphs_output_keeps_name_shape_and_type() -> None:
    graph = chain("Abs", "Exp")
    rewriter = Rewriter(graph, "test")
    last = graph.node(1)
    rewriter.replace(last, rewriter.op.Log(last.inputs[0]))
    (output,) = graph.outputs
    assert (output.name, output.shape, output.type) == ("value1", ir.Shape(["n"]), FLOAT)
    assert last.inputs == (None,)


def test_an_output_that_is_gone_leaves_the_graph_unless_somebody_reads_it() -> None:
    graph = chain("Abs", "Exp")
    rewriter = Rewriter(graph, "test")
    with pytest.raises(ValueError, match="value0 does not exist any more"):
        rewriter.replace(graph.node(0), None)
    rewriter.replace(graph.node(1), None)
    assert not graph.outputs


def test_literals_do_not_take_names_that_are_there() -> None:
    graph = chain("Abs", "Exp")
    graph.node(0).outputs[0].name = "const_1d_0"
    graph.register_initializer(ir.Value(name="const_0_i64", const_value=ir.tensor([7], name="const_0_i64")))
    rewriter = Rewriter(graph, "test")
    rewriter.op.Add([1, 2], 3)
    names = [value.name for node in graph for value in node.outputs] + list(graph.initializers)
    assert len(names) == len(set(names))
    assert graph.initializers["before.test.const_0_i64"].const_value is not None


def test_what_everybody_needs_is_made_once() -> None:
    graph = chain("Abs")
    rewriter = Rewriter(graph, "test")
    first = rewriter.once("sum", lambda: rewriter.op.Add(graph.inputs[0], graph.inputs[0]))
    assert rewriter.once("sum", lambda: pytest.fail("made twice")) is first
